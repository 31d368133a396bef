"""What a folder costs that has nothing to do (I9): how often it is woken, and how often it touches its disk."""

from __future__ import annotations

from tests.sim.group import Group
from tests.sim.member import SimMember
from tests.sim.script import a_group, cut_off, delete, put

HOUR_MS = 3_600_000
LIFETIME_MS = HOUR_MS // 6
"""Of tombstones here: a walk each ten seconds."""


def handled(group: Group, ms: int) -> int:
    """Events, the time's own among them, in so much time."""
    before = group.counts["events handled"]
    group.run(ms)
    return group.counts["events handled"] - before


def touches(group: Group, member: SimMember, ms: int) -> int:
    """Calls to its disk in so much time."""
    count = 0

    def touched() -> None:
        nonlocal count
        count += 1

    member.racing = touched
    group.run(ms)
    member.racing = None
    return count


def test_i9_a_folder_that_has_forgotten_its_deletions_is_not_woken_for_them() -> None:
    group = a_group("ab", {"d/f": 1, "g": 2}, tombstone_lifetime_ms=LIFETIME_MS)
    quiet = handled(group, HOUR_MS)
    delete(group["a"], "g")
    group.run(HOUR_MS)
    assert not group["a"].catalog.tombstones(2**62, (-1, b""), 1)
    assert handled(group, HOUR_MS) <= quiet, "as before there was any"


def test_i9_deletions_that_wait_for_a_member_that_is_away_are_looked_at_once_in_their_lifetime() -> None:
    group = a_group("ab", {"d/f": 1, "g": 2}, tombstone_lifetime_ms=LIFETIME_MS)
    cut_off(group, "b")
    quiet = handled(group, HOUR_MS)
    delete(group["a"], "g")
    group.run(HOUR_MS)
    assert handled(group, HOUR_MS) <= quiet + HOUR_MS // LIFETIME_MS, "walks in vain take ever longer"
    group.heal()
    group.run(3 * LIFETIME_MS)
    assert not group["a"].catalog.tombstones(2**62, (-1, b""), 1), "they are forgotten once it is back"


def test_i9_what_peers_say_does_not_touch_the_disk() -> None:
    group = a_group("ab", {"d/f": 1, "g": 2})
    group.run(HOUR_MS)
    statuses = group.network.messages["status"]
    assert touches(group, group["a"], HOUR_MS) <= 60, "a full scan of four entries"
    assert group.network.messages["status"] - statuses > 60
    put(group["b"], "g", 3)
    assert touches(group, group["a"], 1_000)
