"""Members that join late, leave, are removed and come back, by the real hierarchy; and random histories of it. Members
are a, b, c. A number is a file's content.
"""

from __future__ import annotations

import pytest

from tests.sim.group import Group
from tests.sim.joins import JoinStory
from tests.sim.member import SimMember
from tests.sim.membership import Membership, RoutedNetwork
from tests.sim.script import Tree, assert_nothing_kept, assert_tree, cut_off, delete, join, kept, put, tree
from tests.sim.test_safety import LIFETIME_MS, MINUTE_MS, collected

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
