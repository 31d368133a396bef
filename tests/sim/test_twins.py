"""Members of which there are two (I5): a machine doubled while it runs; and volumes that only moved. Members are a, b
and c. A number is a file's content.
"""

from __future__ import annotations

import pytest

from replicad.engine.height import Height
from tests.sim.group import FAULT, Group
from tests.sim.member import SimMember
from tests.sim.script import Tree, assert_nothing_kept, assert_tree, kept, put, tree
from tests.sim.test_safety import MINUTE_MS
from tests.sim.twins import TwinNetwork, TwinStory, go_on, part, twin_of

SEEDS = (4, 7)
ANEW = ("put back", "older than the mark")


@pytest.mark.parametrize("seed", SEEDS)
def test_i1_i2_i3_i5_i7_hold_where_machines_are_doubled(seed: int) -> None:
    counts = TwinStory(seed).run().counts
    assert counts["doubled"] + counts["doubled, unseen"] + counts["volume moved"]


def a_group(names: str, first: Tree) -> Group:
    group = Group(names, network=TwinNetwork)
    group.start_all()
    group.run(2_000)
    for path, number in first.items():
        assert number is not None
        put(group[names[0]], path, number)
    group.heal()
    return group


def told(group: Group, text: str) -> int:
    return sum(text in report.text for member in group.members.values() for report in member.reports)


def doubled(group: Group, *, moved: bool, apart: str) -> SimMember:
    """a, while it runs. `apart`: pairs that are out of contact, in which 2 is the twin."""
    group.run(2_000)  # the mark is noted
    twin = twin_of(group["a"], "2", moved=moved)
    for one, other in apart.split():
        group.network.cut(one, other)
        group.network.cut(other, one)
    group.run(MINUTE_MS)
    return twin


def test_i5_a_copied_home_that_sees_it_makes_no_change_under_the_other_ones_replica_id() -> None:
    group = a_group("abc", {"f": 1})
    a = group["a"]
    twin = doubled(group, moved=True, apart="ab ac")
    twin.start()
    put(a, "x", 2)
    put(twin, "y", 3)
    group.run(MINUTE_MS)
    assert twin.catalog.replica != a.catalog.replica
    assert tree(group["b"]) == tree(group["c"]) == {"f": 1, "y": 3}
    part(a, a)
    group.heal()
    group.check()
    assert not told(group, FAULT)
    assert tree(a)["y"] == 3
    assert tree(a).get("x") == 2 or kept(a) == [2]


@pytest.mark.parametrize("stays", ["a", "2"])
def test_what_two_machines_made_under_one_cn_is_mended_by_the_digest(stays: str) -> None:
    """Neither can tell; b has heard of the one, c of the other."""
    group = a_group("abc", {"f": 1})
    a = group["a"]
    group.ledger.doubled = group.faulty = True
    twin = doubled(group, moved=False, apart="ac 2b bc")
    go_on(twin)
    put(a, "f", 2)
    put(twin, "f", 3)
    put(a, "x", 4)
    put(twin, "y", 5)
    group.run(MINUTE_MS)
    assert (tree(group["b"]), tree(group["c"])) == ({"f": 2, "x": 4}, {"f": 3, "y": 5})
    assert group.ledger.ambiguous
    part(a, {"a": a, "2": twin}[stays])
    group.heal()
    group.check()
    assert told(group, FAULT)
    trees = [tree(member) for member in group.members.values()]
    found = {number for one in trees for number in one.values()}
    found |= {number for member in (*group.members.values(), *group.departed.values()) for number in kept(member)}
    assert found >= {2, 3, 4, 5}


def test_a_volume_that_moved_is_no_clone() -> None:
    """A new replica id, and nothing else: it does not rejoin, nothing is fetched, nothing is preserved."""
    group = a_group("abc", {"f": 1, "g": 2})
    a = group["a"]
    before, served = a.catalog.replica, len(group.served)
    a.stop()
    put(a, "f", 3)
    assert a.height is not None
    a.height = Height(a.height.commits, moved=True)
    a.start()
    group.heal()
    assert a.catalog.replica != before
    assert not any(told(group, text) for text in ANEW)
    assert len(group.served) == served + 2, "the edit, to the two others"
    assert_tree(group, {"f": 3, "g": 2})
    assert_nothing_kept(group)


def test_a_file_and_a_directory_under_one_cn_become_a_directory_and_what_is_in_it_stays() -> None:
    """Seed 31: as a file it could not be made, nor what was in the directory."""
    group = a_group("abc", {"f": 1})
    a = group["a"]
    group.ledger.doubled = group.faulty = True
    twin = doubled(group, moved=False, apart="ac 2b bc")
    go_on(twin)
    put(a, "x", 4)
    put(twin, "y/z", 5)
    group.run(MINUTE_MS)
    assert (tree(group["b"]), tree(group["c"])) == ({"f": 1, "x": 4}, {"f": 1, "y": None, "y/z": 5})
    part(a, a)
    group.heal()
    group.check()
    assert tree(a) == {"f": 1, "x": None, "x/z": 5}
    assert any(kept(member) == [4] for member in group.members.values())
