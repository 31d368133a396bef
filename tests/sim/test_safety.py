"""The histories of SCENARIOS in which a catalog is not what others remember, or deletions were forgotten:
docs/safety.md. Members are a, b, c, d. A number is a file's content.
"""

from __future__ import annotations

import msgspec
import pytest

from replicad.core.cnset import CNSet
from replicad.core.effects import Received
from replicad.core.messages import Status
from replicad.engine.height import Height
from replicad.engine.phases import Phase
from tests.sim.group import Group
from tests.sim.member import SimMember
from tests.sim.script import (
    a_group,
    apart,
    assert_nothing_kept,
    assert_tree,
    cut_off,
    delete,
    files,
    join,
    kept,
    move,
    put,
    remove_tree,
)
from tests.sim.story import Story

MINUTE_MS = 60_000
LIFETIME_MS = 10 * MINUTE_MS
"""Of tombstones here."""


def collected(group: Group, *names: str) -> None:
    """Wait until what was deleted is forgotten."""
    group.run(LIFETIME_MS + 5 * MINUTE_MS)
    for name in names or group.members:
        catalog = group[name].catalog
        assert not catalog.tombstones(2**62, (-1, b""), 10), f"{name} still has tombstones"


def restarted(member: SimMember) -> None:
    member.stop()
    member.start()


def test_a_deletion_is_forgotten_when_everyone_has_carried_it_out() -> None:
    group = a_group("abc", {"d/f": 1, "g": 2}, tombstone_lifetime_ms=LIFETIME_MS)
    remove_tree(group["a"], "d")
    group.heal()
    group.run(LIFETIME_MS - 3 * MINUTE_MS)
    assert len(group["b"].catalog.tombstones(2**62, (-1, b""), 10)) == 2, "they are remembered for their time"
    collected(group)
    purged = [member.running.tombstones.purged for member in group.members.values()]
    assert purged[0]
    assert purged[1:] == purged[:-1]
    assert_tree(group, {"g": 2})


def test_i7_a_deletion_is_remembered_while_a_member_is_away() -> None:
    group = a_group("abc", {"f": 1}, tombstone_lifetime_ms=LIFETIME_MS)
    group["c"].stop()
    delete(group["a"], "f")
    group.run(LIFETIME_MS * 3)
    assert group["b"].catalog.tombstones(2**62, (-1, b""), 10)
    group.heal()
    assert_tree(group, {})
    collected(group)


def test_a_deleted_directory_is_remembered_while_a_cut_would_send_another_back_into_it() -> None:
    """Else members that have forgotten it and members that have not would cut a cycle in two ways (I1)."""
    group = a_group("ab", {"d/sub/f": 1}, tombstone_lifetime_ms=LIFETIME_MS)
    a = group["a"]
    move(a, "d/sub", "sub")
    group.heal()
    remove_tree(a, "d")
    group.heal()
    group.run(LIFETIME_MS * 2)
    for member in group.members.values():
        assert len(member.catalog.tombstones(2**62, (-1, b""), 10)) == 1
    move(a, "sub", "other")
    group.heal()
    collected(group)
    assert_tree(group, {"other/f": 1})


def test_s16_a_member_that_was_restored_to_a_backup_brings_nothing_back() -> None:
    """(put back) Else 102 comes back as a's new edit."""
    group = a_group("abc", {"f": 101})
    a, b = group["a"], group["b"]
    backup = a.database.copy()
    put(b, "f", 102)
    group.heal()
    cut_off(group, "a")
    put(b, "f", 103)
    group.run(2_000)
    a.stop()
    a.put_catalog_back(backup)
    a.start()
    group.run(10_000)
    group.heal()
    assert_tree(group, {"f": 103})
    assert [data for path, data in files(a, private=True).items() if b"PreExisting" in path] == [b"102"]


def test_s19_a_member_that_was_away_for_longer_than_deletions_are_remembered_brings_nothing_back() -> None:
    """(stale) Else `f` is back everywhere."""
    group = a_group("abc", {"f": 1, "g": 2}, tombstone_lifetime_ms=LIFETIME_MS)
    c = group["c"]
    c.stop()
    group["a"].lapsed = group["b"].lapsed = {"c"}
    delete(group["a"], "f")
    collected(group, "a", "b")
    group["a"].lapsed = group["b"].lapsed = set()
    c.start()
    group.run(MINUTE_MS)
    group.heal()
    assert_tree(group, {"g": 2})
    assert kept(c) == [1]
    assert_nothing_kept(group, [group["a"], group["b"]])


def test_what_a_stale_member_made_while_it_was_away_is_kept() -> None:
    group = a_group("abc", {"f": 1, "g": 2}, tombstone_lifetime_ms=LIFETIME_MS)
    c = group["c"]
    cut_off(group, "c")
    group["a"].lapsed = group["b"].lapsed = {"c"}
    delete(group["a"], "f")
    put(c, "g", 3)
    put(c, "new", 4)
    collected(group, "a", "b")
    group["a"].lapsed = group["b"].lapsed = set()
    group.heal()
    assert_tree(group, {"g": 3, "new": 4})
    assert kept(c) == [1]


def test_s22_two_halves_that_have_forgotten_apart_bring_nothing_back() -> None:
    """(stale, lapsed) Else x and y come back by way of b and d, or n's parent is asked for for ever."""
    group = a_group("abcd", {"x": 1, "y": 2, "d/m": 3, "z": 4}, tombstone_lifetime_ms=LIFETIME_MS)
    a, b, c, d = (group[name] for name in "abcd")
    for one in "ab":
        for other in "cd":
            group.network.cut(one, other)
            group.network.cut(other, one)
    a.lapsed, b.lapsed, c.lapsed, d.lapsed = {"c", "d"}, {"c", "d"}, {"a", "b"}, {"a", "b"}
    delete(c, "x")
    delete(a, "y")
    remove_tree(a, "d")
    group.run(MINUTE_MS)
    collected(group, "a", "b")
    put(c, "d/n", 5)
    group.run(MINUTE_MS)
    collected(group, "c", "d")
    join(group, "a", "c")
    group.run(5 * MINUTE_MS)
    for member in group.members.values():
        member.lapsed = set()
    group.heal()
    assert_tree(group, {"z": 4})
    assert 5 in kept(c) + kept(d)
    assert 1 in kept(a) + kept(b)
    assert 2 in kept(c) + kept(d)
    collected(group)
    assert all(member.running.phase is Phase.TAKING_PART for member in group.members.values())
    group.check()


def test_s27_changes_that_a_restored_member_makes_before_it_meets_anyone_stand_for_themselves() -> None:
    """(put back: new replica id) Else one CN stands for two changes."""
    group = a_group("abc", {"f": 101, "g": 201})
    a = group["a"]
    backup = a.database.copy()
    put(a, "f", 102)
    group.heal()
    a.stop()
    apart(group)
    a.put_catalog_back(backup)
    a.start()
    group.run(10_000)
    put(a, "f", 103)
    put(a, "h", 301)
    group.run(10_000)
    group.heal()
    group.ledger.affirms(b"102")  # it is back: the edit that took it off does not count (rule 11)
    assert_tree(group, {"f": 102, "g": 201})
    assert kept(a) == [103, 301]


def test_s37_who_lives_alone_forgets_too_and_a_late_copy_brings_nothing_back() -> None:
    """(6, its end)"""
    group = Group("a", tombstone_lifetime_ms=LIFETIME_MS)
    a = group["a"]
    put(a, "h", 1)
    put(a, "f", 2)
    group.start_all()
    group.run(5_000)
    delete(a, "h")
    collected(group)
    assert group.founded, "the founding ends before anything is forgotten"


def test_s40_a_restart_while_nobody_is_reached_takes_a_new_replica_id_and_goes_on() -> None:
    group = a_group("ab", {"f": 1})
    a = group["a"]
    before = a.catalog.replica
    apart(group)
    restarted(a)
    put(a, "f", 2)
    group.run(10_000)
    assert a.catalog.replica != before
    group.heal()
    assert_tree(group, {"f": 2})
    assert_nothing_kept(group)


def test_a_restart_among_peers_keeps_the_replica_id() -> None:
    group = a_group("abc", {"f": 1})
    before = group["a"].catalog.replica
    for _ in range(3):
        restarted(group["a"])
        put(group["a"], "f", 2)
        group.heal()
    assert group["a"].catalog.replica == before


def test_a_lost_catalog_is_learned_anew_and_the_disk_is_adopted() -> None:
    group = a_group("abc", {"f": 1, "d/g": 2})
    a = group["a"]
    served = len(group.served)
    a.stop()
    a.put_catalog_back(None)
    put(a, "only", 3)
    a.start()
    group.heal()
    assert_tree(group, {"f": 1, "d/g": 2})
    assert kept(a) == [3]
    assert len(group.served) == served, "nothing is transferred"
    assert not [report.text for report in a.reports if "no member" in report.text], "it need not wait"


def test_s39_members_that_all_lost_their_catalogs_found_the_folder_again() -> None:
    """(11, its end) Else both move everything to PreExisting, or wait for each other."""
    group = a_group("ab", {"f": 1, "d/g": 2})
    for member in group.members.values():
        member.stop()
        member.put_catalog_back(None)
    put(group["a"], "of a", 3)
    put(group["b"], "of b", 4)
    group.heal()
    assert_tree(group, {"f": 1, "d/g": 2, "of a": 3, "of b": 4})
    assert_nothing_kept(group)


def test_who_lost_its_catalog_founds_nothing_anew_while_another_cannot_use_its_disk() -> None:
    """All of the folder is in that one's catalog."""
    group = a_group("ab", {"f": 1})
    a, b = group["a"], group["b"]
    a.running.root.fault = "its disk is not there"
    a.running.root.check = lambda now_ms: False  # type: ignore[method-assign]
    a.running.root.next_due_ms = lambda: None  # type: ignore[method-assign]
    b.stop()
    b.put_catalog_back(None)
    b.start()
    group.run(5 * MINUTE_MS)
    assert b.sessions, "it is in contact"
    assert b.running.phase is Phase.LEARNING
    a.crash()
    group.heal()
    assert_tree(group, {"f": 1})
    assert_nothing_kept(group)


def test_members_that_were_all_restored_to_backups_found_the_folder_again() -> None:
    group = a_group("ab", {"f": 1})
    a, b = group["a"], group["b"]
    backups = [member.database.copy() for member in (a, b)]
    put(a, "f", 2)
    put(b, "g", 3)
    group.heal()
    for member, backup in zip((a, b), backups, strict=True):
        member.stop()
        member.put_catalog_back(backup, home=False)
    group.heal()
    assert_tree(group, {"f": 2, "g": 3})
    assert_nothing_kept(group)


def test_of_two_copies_of_one_catalog_the_second_one_is_found() -> None:
    """Both follow from the same last run; the peer has taken note of the first."""
    group = a_group("ab", {"f": 1})
    a = group["a"]
    a.stop()
    copy = a.database.copy()
    a.start()
    group.heal()
    a.stop()
    a.put_catalog_back(copy)  # the copy, on the same disk
    a.start()
    group.heal()
    assert any("put back" in report.text for report in a.reports)
    assert_tree(group, {"f": 1})


def test_a_home_that_moved_goes_on_under_a_new_replica_id_and_claims_nothing() -> None:
    """A volume on another machine is no clone; nobody can tell it from one, and needs to."""
    group = a_group("ab", {"f": 1, "d/g": 2})
    a = group["a"]
    before = a.catalog.replica
    a.stop()
    assert a.height is not None
    a.height = Height(a.height.commits, moved=True)
    put(a, "f", 3)
    a.start()
    group.heal()
    assert a.catalog.replica != before
    assert not any("put back" in report.text for report in a.reports)
    assert_tree(group, {"f": 3, "d/g": 2})
    assert_nothing_kept(group)


def test_a_peer_that_claims_changes_of_ours_that_were_never_made_is_named_and_nothing_is_lost() -> None:
    group = a_group("abc", {"f": 1, "d/g": 2})
    a, b = group["a"], group["b"]
    put(a, "new", 3)
    group.heal()
    claimed = CNSet.span(a.catalog.replica, 1, a.catalog.counter + 5)
    status = a.running.exchange.statuses()[b.id].status
    own = msgspec.structs.replace(status, known=claimed.union(b.catalog.known).encode(), serial=status.serial + 1_000)
    a.post(Received(b.id, Status(correlation=1, own=own, heard=[])))
    group.heal()
    assert any(b.id in report.text and "put back" in report.text for report in a.reports)
    assert_tree(group, {"f": 1, "d/g": 2, "new": 3})
    assert_nothing_kept(group)
    put(a, "f", 4)
    group.heal()
    assert_tree(group, {"f": 4, "d/g": 2, "new": 3})


@pytest.mark.parametrize(
    ("seed", "why"),
    [
        (29, "what one dropped came back by way of one that had not heard, or both knew the same and held another"),
        (74, "who was stale towards one that was not complete began anew again and again"),
        (86, "of what was dropped when it compared, and was still known, the tombstone came without a place"),
        (143, "compared with one member, it took the knowledge of another who had forgotten more"),
        (267, "the same among four"),
    ],
    ids=["29", "74", "86", "143", "267"],
)
def test_i2_histories_in_which_catalogs_are_put_back_and_lost(seed: int, why: str) -> None:
    told = Story(seed, restores=True).run()
    assert told.counts["catalog put back"] + told.counts["catalog lost"], why
