"""A part of the exploration, to its end; the whole is `make soak`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.explore.__main__ import BEGINNINGS, tell
from tests.explore.search import search, shrink
from tests.explore.space import FAULTS, Space, one_step_at_a_time

pytestmark = pytest.mark.timeout(600)
"""Up to 15 s of CPU each, which may take long on a busy machine."""


@pytest.fixture(autouse=True)
def _small_batches() -> Iterator[None]:
    with one_step_at_a_time():
        yield


def explore(
    beginning: str,
    operations: int,
    faults: int,
    turns: int | None,
    kinds: tuple[str, ...] = FAULTS,
    *,
    equal: bool = False,
) -> None:
    space = Space(operations, faults, turns, kinds=kinds, equal=equal, mirrored=kinds == FAULTS)
    start = space.start(*BEGINNINGS[beginning])
    found = search(space, start)
    print(tell(beginning, found))
    assert not found.why, (found.why, shrink(space, start, found.history, found.why))
    assert found.whole
    assert found.leaves > 20, "an empty search proves nothing"


# The kinds of faults are less than all where the space would be too large; then the first operation is the first
# member's, too: the other half is the same but for who has the lower replica id.


@pytest.mark.parametrize("beginning", BEGINNINGS)
def test_two_operations_with_one_thing_out_of_turn_break_no_promise(beginning: str) -> None:
    explore(beginning, 2, 0, 1, equal=True)


def test_three_operations_one_after_the_other_break_no_promise() -> None:
    explore("nothing", 3, 0, 0)


def test_two_operations_in_every_interleaving_break_no_promise() -> None:
    explore("nothing", 2, 0, None)


def test_one_operation_and_one_fault_in_every_interleaving_break_no_promise() -> None:
    explore("nothing", 1, 1, None)


@pytest.mark.parametrize("beginning", BEGINNINGS)
def test_one_operation_and_a_fault_at_every_instant_break_no_promise(beginning: str) -> None:
    explore(beginning, 1, 1, 1)


def test_i2_two_operations_and_a_lost_link_with_two_things_out_of_turn_break_no_promise() -> None:
    explore("nothing", 2, 1, 2, ("lose",))
