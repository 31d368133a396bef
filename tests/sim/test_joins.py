"""Members that join late, leave, are removed and come back, by the real hierarchy; and random histories of it. Members
are a, b, c. A number is a file's content.
"""

from __future__ import annotations

import msgspec
import pytest

from replicad.core.collection import Circle
from replicad.engine.phases import INITIAL_SYNC, NORMAL, FolderState, Phase
from tests.sim.group import Group
from tests.sim.joins import JoinStory
from tests.sim.member import LARGE_BYTES, SimMember
from tests.sim.membership import Membership, RoutedNetwork
from tests.sim.script import Tree, assert_nothing_kept, assert_tree, cut_off, delete, join, kept, put, tree
from tests.sim.test_safety import LIFETIME_MS, MINUTE_MS, collected
from tests.sim.user import User

SEEDS = (20, 21)


@pytest.mark.parametrize("seed", SEEDS)
def test_i1_i2_i3_i7_i9_hold_where_members_come_and_go(seed: int) -> None:
    counts = JoinStory(seed).run().counts
    assert counts["joins"] > 1
    assert counts["leaves"] or counts["removed"]


def a_membership(names: str, first: Tree) -> tuple[Group, Membership]:
    group = Group(names, network=RoutedNetwork, tombstone_lifetime_ms=LIFETIME_MS)
    membership = Membership(group)
    group.start_all()
    group.run(2_000)
    for path, number in first.items():
        assert number is not None
        put(group[names[0]], path, number)
    group.heal()
    return group, membership


def joined(membership: Membership, inviter: SimMember, name: str, disk: Tree) -> SimMember:
    member = membership.join_group(inviter, name)
    for path, number in disk.items():
        assert number is not None
        put(member, path, number)
    membership.join_folder(member)
    return member


def test_s21_who_joins_with_old_files_replaces_nothing_and_brings_nothing_back() -> None:
    group, membership = a_membership("ab", {"f": 1, "h": 2, "same": 3})
    delete(group["a"], "h")
    group.heal()
    collected(group)
    late = joined(membership, group["b"], "c", {"f": 7, "h": 2, "same": 3})
    group.heal()
    assert_tree(group, {"f": 1, "same": 3})
    assert kept(late) == [2, 7]
    assert_nothing_kept(group, [group["a"], group["b"]])


def test_s25_what_a_removed_member_told_one_that_had_not_heard_reaches_all_and_nothing_after() -> None:
    group, membership = a_membership("abc", {"f": 1})
    r = group["c"]
    cut_off(group, "a")
    group.run(MINUTE_MS)
    membership.remove(group["a"], r)
    put(r, "f", 2)
    group.run(MINUTE_MS)
    assert tree(group["b"]) == {"f": 2}
    join(group, "a", "b")
    group.run(MINUTE_MS)
    put(r, "f", 3)
    group.heal()
    assert_tree(group, {"f": 2})
    assert tree(r) == {"f": 3}
    assert not r.sessions


def test_who_left_and_joins_again_finds_its_old_disk_held_against_what_the_group_has() -> None:
    group, membership = a_membership("ab", {"f": 1, "g": 2, "h": 3})
    b = group["b"]
    membership.leave_folder(b)
    group.run(MINUTE_MS)
    assert not b.up
    put(group["a"], "f", 11)
    delete(group["a"], "g")
    put(b, "h", 33)
    group.heal()
    collected(group)
    membership.join_folder(b)
    group.heal()
    assert_tree(group, {"f": 11, "h": 3})
    assert kept(b) == [1, 2, 33]


def test_i7_nobody_waits_for_who_left_and_its_leaving_reaches_who_was_out_of_contact() -> None:
    group, membership = a_membership("abc", {"f": 1, "g": 2})
    cut_off(group, "a")
    group.run(MINUTE_MS)
    membership.leave_folder(group["c"])
    delete(group["b"], "g")
    group.run(MINUTE_MS)
    assert group["b"].catalog.tombstones(2**62, (-1, b""), 10), "a has not heard of it"
    group.heal()
    collected(group)
    assert_tree(group, {"f": 1})


def test_a_removed_member_comes_back_under_another_key_with_its_disk() -> None:
    group, membership = a_membership("abc", {"f": 1, "g": 2})
    old = group["c"]
    membership.remove(group["a"], old)
    group.heal()
    put(old, "f", 4)
    put(old, "new", 5)
    delete(group["a"], "g")
    group.heal()
    collected(group)
    old.crash()
    member = membership.join_group(group["a"], "d", fs=old.fs)
    membership.departed.pop("c")
    membership.join_folder(member)
    group.heal()
    assert_tree(group, {"f": 1})
    assert kept(member) == [2, 4, 5]


def test_a_folder_made_anew_under_the_name_of_one_that_was_removed_begins_with_its_maker_alone() -> None:
    """c has not heard of the one or the other, and goes on in the old one until it does."""
    group, membership = a_membership("abc", {"f": 1, "g": 2, "h": 3})
    a, b, c = (group[name] for name in "abc")
    cut_off(group, "c")
    group.run(MINUTE_MS)
    put(c, "of-the-old-one", 4)
    membership.remove_folder(b)
    group.run(MINUTE_MS)
    assert (a.up, b.up, c.up) == (False, False, True)
    delete(a, "g")
    put(a, "f", 5)
    membership.create_folder(a)
    group.run(MINUTE_MS)
    membership.join_folder(b)
    group.heal()
    assert_tree(group, {"f": 5, "h": 3})
    assert kept(b) == [1, 2]
    assert not c.up, "it is not in the folder's replica list: leave it, and join it again"
    membership.join_folder(c)
    group.heal()
    assert_tree(group, {"f": 5, "h": 3})
    assert kept(c) == [1, 2, 4]


def a_founder_apart(
    disk: Tree, *, starts: bool = True, lonely_ms: int = 0, offset_ms: int = 0
) -> tuple[Group, Membership]:
    """a and b have founded the folder, deleted h and forgotten it before c, with this on its disk, meets anybody. c was
    up alone for `lonely_ms`."""
    group = Group("abc", network=RoutedNetwork, offsets_ms={"c": offset_ms}, tombstone_lifetime_ms=LIFETIME_MS)
    membership = Membership(group)
    for member in group.members.values():
        for path, number in (disk if member.name == "c" else {"f": 1, "h": 2, "same": 3}).items():
            assert number is not None
            put(member, path, number)
    cut_off(group, "c")
    if starts:
        group["c"].start()
    group.run(lonely_ms)
    for name in "ab":
        group[name].start()
    group.run(MINUTE_MS)
    delete(group["a"], "h")
    group.run(LIFETIME_MS + 5 * MINUTE_MS)
    for name in "ab":
        assert not group[name].catalog.tombstones(2**62, (-1, b""), 10)
        assert not membership.lists(group[name], group["c"].id)
    return group, membership


LATE = "founded before this member was in the group"


def reported(member: SimMember, text: str) -> int:
    return sum(text in report.text for report in member.reports)


@pytest.mark.parametrize("hours", [0, 25], ids=["apart", "alone_for_a_day"])
def test_s37_i7_a_founder_that_comes_after_the_end_of_the_founding_brings_nothing_back(hours: int) -> None:
    """(6, its end) c holds h under a CN that nobody has heard of; after a day it has ended the founding for itself."""
    group, _ = a_founder_apart({"f": 7, "h": 2, "same": 3, "only": 4}, lonely_ms=hours * 60 * MINUTE_MS)
    served = len(group.served)
    group.heal()
    assert_tree(group, {"f": 1, "same": 3})
    assert kept(group["c"]) == [2, 4, 7]
    assert_nothing_kept(group, [group["a"], group["b"]])
    assert len(group.served) == served + 1, "what is equal is adopted"
    assert reported(group["c"], LATE) == 1


def test_who_knows_of_the_end_takes_nothing_from_a_founder_that_has_not_heard_of_it_yet() -> None:
    """The hierarchy reaches c a minute after the folder's links are up."""
    group, membership = a_founder_apart({"f": 7, "h": 2, "only": 4})
    c = group["c"]
    circle = membership.circle
    late_ms = group.clock.now_ms + MINUTE_MS

    def not_yet(member: SimMember) -> Circle | None:
        found = circle(member)
        waits = member is c and group.clock.now_ms < late_ms
        return msgspec.structs.replace(found, founders=None) if found is not None and waits else found

    membership.circle = not_yet  # type: ignore[method-assign]
    group.network.mend_all()
    group.run(MINUTE_MS - 1_000)
    assert c.sessions, "it is in contact"
    assert tree(group["a"]) == {"f": 1, "same": 3}
    group.heal()
    assert_tree(group, {"f": 1, "same": 3})
    assert kept(c) == [2, 4, 7]


def test_a_founder_in_its_first_scan_goes_by_rule_11_when_it_hears_of_the_end() -> None:
    group, _ = a_founder_apart({"h": 2}, starts=False)
    c = group["c"]
    User(c).write(b"large", bytes(2 * LARGE_BYTES))
    read = c._end_hash
    c._end_hash = lambda life, wanted: group.clock.after(5_000, lambda: read(life, wanted))  # type: ignore[method-assign]
    group.run(MINUTE_MS)  # else it might still be being written
    group.network.mend_all()
    before: set[Phase] = set()

    def look(one: SimMember) -> None:
        if one is c and not reported(c, LATE):
            before.add(c.running.phase)

    group.on_handled = look
    group.heal()
    assert before == {Phase.FOUNDING}
    assert_tree(group, {"f": 1, "same": 3})
    assert b"large" in str(c.catalog.preserved(10)).encode()


def test_an_older_end_of_one_whose_clock_was_wrong_has_nobody_begin_anew() -> None:
    """c was alone for a day, ten years ago by its clock."""
    group, _ = a_founder_apart({"only": 4}, lonely_ms=25 * 60 * MINUTE_MS, offset_ms=-87_600 * 60 * MINUTE_MS)
    group.heal()
    assert_tree(group, {"f": 1, "same": 3})
    assert kept(group["c"]) == [4]
    assert_nothing_kept(group, [group["a"], group["b"]])


WAITS = "no member that has all of the folder is in contact"


def waiting_joiners(names: str) -> tuple[Group, Membership]:
    """They have joined a's folder, and have never reached a."""
    group, membership = a_membership("a", {"f": 1, "g": 2})
    for name in names:
        member = membership.join_group(group["a"], name)
        group.network.cut("a", name)
        group.network.cut(name, "a")
        for path in (name, "same"):
            put(member, path, ord(name) if path == name else 3)
        membership.join_folder(member)
    group.run(MINUTE_MS)
    return group, membership


@pytest.mark.parametrize("names", ["b", "bc"])
def test_who_joins_says_what_it_waits_for_and_founds_anew_where_nobody_complete_is_left(names: str) -> None:
    """(11, its end) The only one that had all of the folder is removed before anybody has learned from it."""
    group, membership = waiting_joiners(names)
    joiners = [group[name] for name in names]
    for member in joiners:
        assert member.running.state.state == INITIAL_SYNC
        assert WAITS in member.running.state.reason
        assert f"1 of its {len(names)} members are not in contact" in member.running.state.reason
        assert "replicad member remove" in member.running.state.reason
        assert reported(member, WAITS) == 1
    membership.remove(joiners[0], group["a"])
    group.run(MINUTE_MS)
    assert joiners[0].running.state == FolderState(NORMAL)
    group.heal()
    found = tree(joiners[0])
    assert found["same"] == 3
    assert set(found) <= {*names, "same"}
    for member in joiners:
        assert found.get(member.name) == ord(member.name) or kept(member) == [ord(member.name)]


def test_who_joins_founds_nothing_anew_while_one_that_will_have_it_is_in_its_first_scan() -> None:
    group = Group("a", network=RoutedNetwork)
    membership = Membership(group)
    a = group["a"]
    User(a).write(b"large", bytes(2 * LARGE_BYTES))
    group.run(MINUTE_MS)
    a._end_hash = lambda life, wanted: None  # type: ignore[method-assign]
    a.start()
    group.run(MINUTE_MS)
    assert a.running.phase is Phase.FOUNDING
    b = joined(membership, a, "b", {"x": 1})
    group.run(MINUTE_MS)
    assert b.sessions, "it is in contact"
    assert b.running.phase is Phase.LEARNING
    assert "who rejoin, or are in their first scans, are waited for" in b.running.state.reason
