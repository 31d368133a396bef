"""A failing history is made small, and what is left fails as the whole did."""

from __future__ import annotations

from collections.abc import Callable

from tests.sim.shrinking import Failure, Step, record, replay, shrink, tell
from tests.sim.story import Story

SEED = 7
ACTS = 20
"""A tenth of what a history has otherwise."""


def short_story() -> Story:
    story = Story(SEED)
    story.acts_min = ACTS
    return story


def broken_by(*kinds: str) -> Callable[[], Story]:
    """Makes a story that fails where mishaps of all these kinds have happened."""

    def make() -> Story:
        story = short_story()

        def check() -> None:
            missing = [kind for kind in kinds if not story.counts[kind]]
            assert missing, "I0: all of it happened"

        story.group.check = check  # type: ignore[method-assign]
        return story

    return make


def names(steps: list[Step]) -> list[str]:
    return [step.name for step in steps]


def test_all_the_steps_together_are_the_same_history() -> None:
    """A replay sets every source of randomness to what it was, so nothing goes another way."""
    told = short_story()
    steps, failure = record(told)
    assert failure is None
    again = short_story()
    assert replay(again, steps) is None
    assert again.group.clock.trace() == told.group.clock.trace()
    assert again.counts == told.counts


def test_of_a_history_that_fails_the_steps_are_left_that_it_takes() -> None:
    make = broken_by("clock jump", "connection reset")
    whole, failure = record(make())
    assert failure is not None
    assert len(whole) > 3 * ACTS
    found = shrink(make, 60)
    assert found is not None
    steps, left = found
    assert sorted(names(steps)) == ["_jump", "_reset"]
    assert left.is_like(failure)
    assert tell(make, steps)[-1].startswith("AssertionError: I0: all of it happened")


def test_a_failure_at_another_place_is_another_one() -> None:
    one, other = Failure("AssertionError", "group.py:1", "I1"), Failure("AssertionError", "group.py:2", "I1")
    assert one.is_like(Failure("AssertionError", "group.py:1", "I1: b"))
    assert not one.is_like(other)
    assert not one.is_like(None)
