"""Files that are written to all the time, in a group: few versions are told, the last one comes, a `wait` ends."""

from __future__ import annotations

import pytest

from tests.sim.group import Group
from tests.sim.script import a_group, assert_tree, put
from tests.sim.waits import Waits

EVERY_MS = 7
FETCHED_MS = 150
"""In a simulation a version that lasts for so long is fetched from where it was made."""


def storm(group: Group, name: str, first: int, for_ms: int, every_ms: int = EVERY_MS) -> int:
    """`f` of this member is written to; the number that it holds then."""
    number = first
    for number in range(first, first + for_ms // every_ms):
        put(group[name], "f", number)
        group.run(every_ms)
    return number


def versions(group: Group) -> int:
    return len(group.ledger.made)


def test_a_file_that_is_written_to_for_a_minute_has_some_seventy_versions_and_the_last_one_arrives() -> None:
    group = a_group("ab", {"f": 1})
    before = versions(group)
    last = storm(group, "a", 2, 60_000)
    assert 60 <= versions(group) - before <= 80
    group.run(1_500)
    assert_tree(group, {"f": last})


def test_a_single_edit_is_told_at_once_and_so_is_one_after_a_storm_and_a_rest() -> None:
    group = a_group("ab", {"f": 1})
    a, b = group["a"], group["b"]
    told: list[int] = []
    for number in (2, 10_000):
        before = versions(group)
        put(a, "f", number)
        while versions(group) == before:
            group.run(1)
            told.append(number)
        group.run(2_000)
        assert int(b.fs.read_tree()[b"f"][1]) == number
        storm(group, "a", 100, 5_000)
        group.run(4_000)
    assert len(told) <= 2 * (a.watch_delay_ms[1] + 10)


@pytest.mark.parametrize("waiter", ["a", "b"])
def test_a_wait_in_a_storm_reads_what_is_held_back_and_ends_soon(waiter: str) -> None:
    """What the waiter's own member, or another, had on its disk is on all (Waits looks at it), in less than the second
    for which it would be held back."""
    group = a_group("ab", {"f": 1, "g": 1})
    waits = Waits(group)
    last = storm(group, "a", 2, 10_000, FETCHED_MS)
    took = []
    for _ in range(10):
        last = storm(group, "a", last + 1, 3_000, FETCHED_MS)
        began_ms, done = group.clock.now_ms, waits.done
        waits.begin(group[waiter])
        while waits.done == done:
            last = storm(group, "a", last + 1, FETCHED_MS, FETCHED_MS)
        took.append(group.clock.now_ms - began_ms)
    assert max(took) < 500, took
    group.run(2_000)
    assert_tree(group, {"f": last, "g": 1})


def test_what_both_write_to_all_the_time_is_the_same_in_the_end() -> None:
    group = a_group("ab", {"f": 1})
    for number in range(2_000):
        put(group["a" if number % 2 else "b"], "f", number)
        group.run(EVERY_MS)
    group.heal()
    group.check()
