"""Deletions that nobody saw, on simulated members: more than an operator would overlook are held (I6)."""

from __future__ import annotations

import pytest

from replicad.core.draft import Draft
from replicad.core.view import ROOT_NODE
from replicad.engine.deletions import Missing
from replicad.engine.holds import DELETIONS
from replicad.engine.phases import IN_ERROR, NORMAL
from replicad.engine.settings import FolderSettings
from replicad.errors import OperatorError
from tests.sim.group import Group
from tests.sim.script import a_group, assert_tree, delete, put, remove_tree, tree
from tests.sim.test_world import assert_settled, decided, told

FORTY = {f"d{n % 3}/f{n}": n for n in range(40)}
"""43 objects."""
DIRECTORIES = {f"d{n}": None for n in range(3)}
MINUTE_MS = 60_000


def a_strict_group() -> Group:
    """In which over 5 deletions that a scan finds are held, where they are a quarter of the folder."""
    group = a_group("ab", FORTY)
    group.settings = FolderSettings(scan_deletions_max=5)
    for member in group.members.values():
        member.take_settings()
    group.run(1_000)
    return group


def deleted_while_stopped(group: Group, *paths: str) -> None:
    a = group["a"]
    a.stop()
    for path in paths:
        if path.startswith("d") and "/" not in path:
            remove_tree(a, path)
        else:
            delete(a, path)
    a.start()
    group.run(10_000)


@pytest.fixture
def held() -> Group:
    group = a_strict_group()
    deleted_while_stopped(group, "d0")
    return group


def test_i6_a_quarter_of_the_folder_that_is_missing_at_the_start_waits_for_an_operator(held: Group) -> None:
    a, b = held["a"], held["b"]
    put(a, "new", 100)
    put(b, "theirs", 101)
    held.run(2 * 60 * MINUTE_MS)
    assert a.running.state.state == IN_ERROR
    hold = a.running.hold
    assert hold is not None
    assert (hold.kind, hold.there, hold.looked_for, hold.missing) == (DELETIONS, 28, 43, [b"d0"])
    assert hold.reason == a.running.state.reason
    assert "15 of 43 objects are missing, and nobody saw them being deleted" in hold.reason
    assert told(a, "nobody saw them being deleted") == 1
    assert tree(b) == {**DIRECTORIES, **FORTY, "theirs": 101}
    assert "theirs" not in tree(a)


def test_i6_what_is_held_is_held_after_a_restart(held: Group) -> None:
    a = held["a"]
    for restart in (a.stop, a.crash):
        restart()
        a.start()
        assert a.running.held, "from the first moment on"
        held.run(10_000)
        assert a.running.held
    assert tree(held["b"]) == {**DIRECTORIES, **FORTY}


def test_i6_what_an_operator_approves_is_deleted_and_the_next_is_held_again(held: Group) -> None:
    a, b = held["a"], held["b"]
    decided(a, approve=True)
    held.heal()
    left = {path: number for path, number in FORTY.items() if not path.startswith("d0")}
    assert_tree(held, left)
    with pytest.raises(OperatorError, match="nothing waits for a decision"):
        decided(a, approve=True)
    deleted_while_stopped(held, "d1")
    assert a.running.held
    assert tree(b) == {**left, "d1": None, "d2": None}


def test_i6_what_an_operator_rejects_comes_back(held: Group) -> None:
    decided(held["a"], approve=False)
    held.heal()
    assert_settled(held, {**DIRECTORIES, **FORTY})


def test_what_is_missing_and_turns_up_again_is_not_held_any_more() -> None:
    group = a_strict_group()
    a = group["a"]
    a.stop()
    a.fs.user_rename(b"d0", b".replicad/away")
    a.start()
    group.run(10_000)
    assert a.running.held
    a.fs.user_rename(b".replicad/away", b"d0")
    group.run(2 * MINUTE_MS)
    assert a.running.state.state == NORMAL
    assert told(a, "some of what was missing is there again") == 1
    group.heal()
    assert_tree(group, FORTY)


def test_what_was_seen_being_deleted_goes_however_much_it_is() -> None:
    group = a_strict_group()
    for number in range(3):
        remove_tree(group["a"], f"d{number}")
    group.heal()
    assert_tree(group, {})


@pytest.mark.parametrize("paths", [[f"d{n % 3}/f{n}" for n in range(5)], [f"d0/f{n}" for n in range(0, 30, 3)]])
def test_few_deletions_or_a_small_part_of_the_folder_are_not_held(paths: list[str]) -> None:
    group = a_strict_group()
    deleted_while_stopped(group, *paths)
    assert not group["a"].running.held
    group.heal()
    assert_tree(group, {path: number for path, number in FORTY.items() if path not in paths})


def test_all_of_a_small_folder_is_held_but_not_of_the_smallest() -> None:
    for count, is_held in ((9, False), (10, True)):  # and their directory
        group = a_group("ab", {f"d/f{n}": n for n in range(count)})
        deleted_while_stopped(group, "d")
        assert group["a"].running.held == is_held
        assert ("d/f0" in tree(group["b"])) == is_held


def test_what_one_scan_finds_in_several_steps_is_counted_together() -> None:
    a = a_strict_group()["a"]
    deletions, draft = a.running.root.deletions, Draft(a.catalog)
    node = a.catalog.node_at(ROOT_NODE, b"d0")
    assert node is not None
    inner = a.catalog.nodes_in(node.id)[0]
    assert deletions.too_many(draft, [(node, b"d0")], 0) == Missing(15, 43, [b"d0"])
    assert deletions.too_many(draft, [(inner, b"d0/f0")], 9) == 1
    assert deletions.too_many(draft, [(inner, b"d0/f0")], 10) == Missing(11, 43, [b"d0/f0"])
