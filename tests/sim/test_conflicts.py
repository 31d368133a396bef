"""Every kind of conflict among three members, under both policies: one tree, and each loser where it must be.

Members are a, b, c. A number is a file's content. What is done is done together: before either has heard of the other.
The later one in the text is the later one by the clock. Losers of a *name* are preserved or stand beside the winner;
losers of a *content* (two edits of one object) are preserved under either policy.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from replicad.catalog.changes import CONFLICT_AND_DELETED, Preserved
from replicad.core.effects import Effect
from replicad.engine.abandoning import abandon_path
from replicad.engine.folder import FolderReplica
from replicad.engine.settings import FolderSettings
from tests.sim.group import Group
from tests.sim.member import SimMember
from tests.sim.script import (
    a_group,
    apart,
    assert_nothing_kept,
    assert_tree,
    delete,
    kept,
    move,
    put,
    remove_tree,
    started_apart,
    tree,
)
from tests.sim.user import User

PRESERVE, SIBLING = False, True
BOTH = pytest.mark.parametrize("siblings", [PRESERVE, SIBLING], ids=["preserve", "sibling"])


def together(group: Group, *acts: Callable[[], object]) -> None:
    """Each a second after the one before it; nobody hears of anybody until all are done."""
    apart(group)
    for act in acts:
        group.run(1_000)
        act()
    group.run(1_000)
    group.heal()


def rows(member: SimMember) -> list[Preserved]:
    return list(member.catalog.preserved(100))


def written_by(member: SimMember, replica: int | None) -> bool:
    return replica == member.catalog.replica


def siblings_in(group: Group, stem: str) -> dict[str, int | None]:
    """The siblings of a name, and what is in them; the same on every member."""
    found = {path: data for path, data in tree(group["a"]).items() if path.startswith(f"{stem}.conflict-")}
    group.check()
    return found


@BOTH
def test_edit_and_edit_the_later_one_wins_and_the_loser_is_kept_where_it_was(siblings: bool) -> None:
    group = a_group("abc", {"f": 101}, siblings=siblings)
    a, b, c = (group[name] for name in "abc")
    together(group, lambda: put(a, "f", 102), lambda: put(b, "f", 103))
    assert_tree(group, {"f": 103})
    assert (kept(a), kept(b)) == ([102], [])
    assert kept(c) in ([], [102]), "only if it had it installed for a moment"
    (row,) = rows(a)
    assert (row.path, row.store, row.why) == (b"f", CONFLICT_AND_DELETED, "edited elsewhere meanwhile")
    assert written_by(a, row.replica)
    assert written_by(b, row.winner)


@BOTH
def test_of_three_edits_two_are_kept_each_by_its_author(siblings: bool) -> None:
    group = a_group("abc", {"f": 101}, siblings=siblings)
    a, b, c = (group[name] for name in "abc")
    together(group, lambda: put(a, "f", 102), lambda: put(b, "f", 103), lambda: put(c, "f", 104))
    assert_tree(group, {"f": 104})
    assert (102 in kept(a), 103 in kept(b), kept(c)) == (True, True, [])
    first = rows(a)[0]
    assert written_by(c, first.winner) or written_by(b, first.winner), "whichever it heard of first"


@BOTH
@pytest.mark.parametrize("edited_last", [True, False])
def test_an_edit_beats_a_deletion_that_had_not_seen_it(siblings: bool, edited_last: bool) -> None:
    group = a_group("abc", {"f": 101}, siblings=siblings)
    acts = [lambda: delete(group["a"], "f"), lambda: put(group["b"], "f", 102)]
    together(group, *(acts if edited_last else acts[::-1]))
    assert_tree(group, {"f": 102})
    assert_nothing_kept(group)


@BOTH
def test_a_rename_and_an_edit_merge(siblings: bool) -> None:
    group = a_group("abc", {"f": 101, "d": None}, siblings=siblings)
    together(group, lambda: move(group["a"], "f", "d/g"), lambda: put(group["b"], "f", 102))
    assert_tree(group, {"d/g": 102})
    assert_nothing_kept(group)


@BOTH
def test_of_two_renames_of_one_file_the_later_one_stands(siblings: bool) -> None:
    group = a_group("abc", {"f": 101}, siblings=siblings)
    together(group, lambda: move(group["a"], "f", "g"), lambda: move(group["b"], "f", "h"))
    assert_tree(group, {"h": 101})
    assert_nothing_kept(group)


@BOTH
def test_two_files_renamed_to_one_name_contest_it(siblings: bool) -> None:
    group = a_group("abc", {"f": 101, "g": 102}, siblings=siblings)
    together(group, lambda: move(group["a"], "f", "n"), lambda: move(group["b"], "g", "n"))
    if siblings:
        found = siblings_in(group, "n")
        assert list(found.values()) == [101]
        assert_tree(group, {"n": 102, **found})
        assert_nothing_kept(group)
    else:
        assert_tree(group, {"n": 102})
        assert [kept(group[name]) for name in "abc"] == [[101], [101], [101]], "each had it installed"
        assert {row.why for row in rows(group["c"])} == {"another object has its name"}


@BOTH
def test_moves_that_make_a_cycle_lose_nothing_and_the_newest_falls_back(siblings: bool) -> None:
    group = a_group("abc", {"p/x": 101, "q/y": 102, "r/z": 103}, siblings=siblings)
    a, b, c = (group[name] for name in "abc")
    together(group, lambda: move(a, "p", "q/p"), lambda: move(b, "q", "r/q"), lambda: move(c, "r", "p/r"))
    assert_tree(group, {"r/q/p/x": 101, "r/q/y": 102, "r/z": 103})
    assert_nothing_kept(group)


@BOTH
def test_equal_files_are_no_conflict_whatever_their_modes_and_times(siblings: bool) -> None:
    group = a_group("abc", siblings=siblings)
    a, b = group["a"], group["b"]
    together(group, lambda: put(a, "n", 7), lambda: User(a).chmod(b"n", 0o600), lambda: put(b, "n", 7))
    assert_tree(group, {"n": 7})
    assert_nothing_kept(group)


@BOTH
def test_different_files_of_one_name_contest_it(siblings: bool) -> None:
    group = a_group("abc", siblings=siblings)
    a, b, c = (group[name] for name in "abc")
    together(group, lambda: put(a, "n", 101), lambda: put(b, "n", 102))
    if siblings:
        found = siblings_in(group, "n")
        assert list(found.values()) == [101]
        assert_tree(group, {"n": 102, **found})
        assert_nothing_kept(group)
    else:
        assert_tree(group, {"n": 102})
        assert [kept(one) for one in (a, b)] == [[101], []]
        (row,) = rows(a)
        assert (row.path, row.why) == (b"n", "another object has its name")
        assert written_by(a, row.replica)
        assert written_by(b, row.winner)
        assert set(kept(c)) <= {101}, "only if it had it installed"


@BOTH
def test_of_three_files_of_one_name_two_lose_it(siblings: bool) -> None:
    group = a_group("abc", siblings=siblings)
    a, b, c = (group[name] for name in "abc")
    together(group, lambda: put(a, "n", 101), lambda: put(b, "n", 102), lambda: put(c, "n", 103))
    if siblings:
        found = siblings_in(group, "n")
        assert sorted(found.values(), key=str) == [101, 102]
        assert_tree(group, {"n": 103, **found})
        assert_nothing_kept(group)
    else:
        assert_tree(group, {"n": 103})
        assert (101 in kept(a), 102 in kept(b), kept(c)) == (True, True, [])


def test_losers_of_equal_content_are_one_file_beside_the_winner() -> None:
    group = a_group("abc", siblings=SIBLING)
    a, b, c = (group[name] for name in "abc")
    together(group, lambda: put(a, "n", 101), lambda: put(b, "n", 101), lambda: put(c, "n", 102))
    found = siblings_in(group, "n")
    assert list(found.values()) == [101]
    assert_tree(group, {"n": 102, **found})
    assert_nothing_kept(group)


@BOTH
@pytest.mark.parametrize("file_last", [True, False])
def test_a_directory_has_the_name_and_the_file_loses_it(siblings: bool, file_last: bool) -> None:
    group = a_group("abc", siblings=siblings)
    acts = [lambda: put(group["a"], "n/x", 102), lambda: put(group["b"], "n", 101)]
    together(group, *(acts if file_last else acts[::-1]))
    if siblings:
        found = siblings_in(group, "n")
        assert list(found.values()) == [101]
        assert_tree(group, {"n/x": 102, **found})
        assert_nothing_kept(group)
    else:
        assert_tree(group, {"n/x": 102})
        assert kept(group["b"]) == [101]


@BOTH
def test_two_directories_of_one_name_are_one_with_the_entries_of_both(siblings: bool) -> None:
    group = a_group("abc", siblings=siblings)
    together(group, lambda: put(group["a"], "d/x", 101), lambda: put(group["b"], "d/y", 102))
    assert_tree(group, {"d/x": 101, "d/y": 102})
    assert_nothing_kept(group)


def test_directories_that_become_one_have_directories_that_become_one() -> None:
    """Two at a name, on the disk at two places, and in each of them one that is called the same."""
    group = a_group("abc", {"e/d/f": 1, "t/d/g": 2})
    a, b = group["a"], group["b"]
    apart(group)
    move(b, "e", "z")
    group.run(1_000)
    move(b, "t", "e")
    group.run(1_000)
    move(a, "e", "y")
    group.run(1_000)
    move(a, "y", "e")
    group.run(1_000)
    group.heal()
    assert_tree(group, {"e/d/f": 1, "e/d/g": 2})
    assert_nothing_kept(group)


def test_files_of_one_name_in_directories_that_become_one_stand_beside_each_other() -> None:
    group = a_group("abc", siblings=SIBLING)
    together(group, lambda: put(group["a"], "d/n.txt", 101), lambda: put(group["b"], "d/n.txt", 102))
    found = siblings_in(group, "d/n")
    assert list(found.values()) == [101]
    assert all(path.endswith(".txt") for path in found)
    assert_tree(group, {"d/n.txt": 102, **found})
    assert_nothing_kept(group)


@BOTH
def test_a_deleted_directory_stays_with_what_another_member_added(siblings: bool) -> None:
    group = a_group("abc", {"d/x": 101, "d/e/y": 102}, siblings=siblings)
    together(group, lambda: remove_tree(group["a"], "d"), lambda: put(group["b"], "d/n", 103))
    assert_tree(group, {"d/n": 103})
    assert_nothing_kept(group)


# -- what users do with siblings


def two_files(policy_of_group: bool = SIBLING) -> tuple[Group, str]:
    """`n` is 102, and 101 stands beside it; the sibling's name."""
    group = a_group("abc", siblings=policy_of_group)
    together(group, lambda: put(group["a"], "n", 101), lambda: put(group["b"], "n", 102))
    (name,) = siblings_in(group, "n")
    return group, name


def test_s13_a_sibling_keeps_its_name_when_the_winner_is_deleted() -> None:
    """(3, 5) Else it takes the freed name."""
    group, name = two_files()
    delete(group["c"], "n")
    group.heal()
    assert_tree(group, {name: 101})
    assert_nothing_kept(group)


def test_a_sibling_keeps_its_name_when_the_winner_is_moved_and_when_it_is_edited_itself() -> None:
    group, name = two_files()
    put(group["c"], name, 103)
    group.heal()
    assert_tree(group, {"n": 102, name: 103})
    move(group["a"], "n", "m")
    group.heal()
    assert_tree(group, {"m": 102, name: 103})
    assert_nothing_kept(group)


def test_a_sibling_that_takes_the_winners_place_is_the_winner() -> None:
    group, name = two_files()
    move(group["a"], name, "n")
    group.heal()
    assert_tree(group, {"n": 101})
    assert_nothing_kept(group)


def test_a_sibling_that_is_deleted_stays_deleted() -> None:
    group, name = two_files()
    delete(group["c"], name)
    group.heal()
    assert_tree(group, {"n": 102})
    delete(group["a"], "n")
    group.heal()
    assert_tree(group, {})
    assert_nothing_kept(group)


def test_who_loses_a_siblings_name_too_is_preserved() -> None:
    group, name = two_files()
    put(group["c"], name, 103)  # its own name from now on, with another content than the mark says
    group.heal()
    together(group, lambda: put(group["a"], "n", 104), lambda: move(group["b"], "n", "m"))
    group.heal()
    found = tree(group["a"])
    assert found[name] == 103
    assert sorted(data for data in found.values() if data is not None) == [103, 104]
    group.check()


def test_the_policy_changed_brings_siblings_up_and_takes_them_away_again() -> None:
    group = a_group("abc")
    together(group, lambda: put(group["a"], "n", 101), lambda: put(group["b"], "n", 102))
    assert_tree(group, {"n": 102})
    assert kept(group["a"]) == [101]
    group.set_siblings(SIBLING)
    group.heal()
    found = siblings_in(group, "n")
    assert list(found.values()) == [101], "fetched from who preserved it"
    assert_tree(group, {"n": 102, **found})
    before = {name: one.catalog.counter for name, one in group.members.items()}
    group.set_siblings(PRESERVE)
    group.heal()
    assert_tree(group, {"n": 102})
    assert [101 in kept(one) for one in group.members.values()] == [True, True, True]
    assert {name: one.catalog.counter for name, one in group.members.items()} == before, "nobody writes a record for it"


def test_s2_founders_files_of_one_name_stand_beside_each_other() -> None:
    group = started_apart({"a": {"d/diff": 101, "d/same": 1}, "b": {"d/diff": 102, "d/same": 1}}, siblings=SIBLING)
    group.heal()
    found = {path: data for path, data in tree(group["a"]).items() if data is not None}
    assert sorted(data for data in found.values() if data is not None) == [1, 101, 102]
    assert_tree(group, found)
    assert_nothing_kept(group)


def test_a_policy_that_one_member_has_not_heard_of_yet_loses_nothing() -> None:
    group = a_group("abc")
    together(group, lambda: put(group["a"], "n", 101), lambda: put(group["b"], "n", 102))
    late = iter((0, 0, 60_000))
    group.set_siblings(SIBLING, lambda: next(late))
    group.run(10_000)
    (name,) = (path for path in tree(group["a"]) if path != "n")
    put(group["a"], name, 103)
    group.run(20_000)
    group.heal()
    assert_tree(group, {"n": 102, name: 103})
    assert kept(group["a"]) == [101], "preserved when it lost its name the first time"


# -- the disk's last free space


def test_a_change_waits_where_what_it_replaces_would_take_the_last_free_space_and_heals_by_itself() -> None:
    group = a_group("abc", {"f": 101, "other": 1})
    a = group["a"]
    apart(group)
    put(a, "f", 102)
    group.run(1_000)
    put(group["b"], "f", 103)
    put(group["b"], "other", 2)
    group.run(1_000)
    a.fs.tree.capacity_bytes = a.fs.tree.used_bytes + 2  # the reserve is one byte in a hundred
    group.network.mend_all()
    group.run(30_000)
    assert (tree(a)["f"], tree(a)["other"]) == (102, 2), "everything else goes on"
    ((path, why),) = a.running.blocked()
    assert (path, "last free space" in why) == (b"f", True)
    a.fs.tree.capacity_bytes = None
    group.run(15_000)
    assert tree(a)["f"] == 103
    assert a.running.blocked() == []
    group.heal()
    assert_tree(group, {"f": 103, "other": 2})
    assert kept(a) == [102]


def test_the_quota_is_kept_in_the_running_folder() -> None:
    group = a_group("abc", {"f": 101})
    group.settings = FolderSettings(preserved_quota_bytes=1, preserved_min_age_ms=3_600_000)
    a = group["a"]
    a.take_settings()
    together(group, lambda: put(a, "f", 102), lambda: put(group["b"], "f", 103))
    assert kept(a) == [102], "younger than an hour"
    group.ledger.destroyed[rows(a)[0].digest] = "by the quota: the settings say so"
    group.run(2 * 3_600_000 + 120_000)
    assert kept(a) == []
    assert rows(a) == []
    assert_tree(group, {"f": 103})


# -- what is brought back


def test_what_is_brought_back_is_a_new_file_on_every_member_and_nothing_is_overwritten() -> None:
    group = a_group("abc", {"d/f.txt": 101})
    a = group["a"]
    together(group, lambda: put(a, "d/f.txt", 102), lambda: put(group["b"], "d/f.txt", 103))
    (row,) = rows(a)
    assert a.running.preserved.restore(row.preserved_id, b"", a.now_ms) == b"d/f (restored).txt"
    group.heal()
    assert_tree(group, {"d/f.txt": 103, "d/f (restored).txt": 102})
    assert_nothing_kept(group, [a])
    assert rows(a) == []


def test_a_loser_of_a_name_comes_up_though_it_was_brought_back_and_deleted() -> None:
    """Its content may be nowhere else."""
    group = a_group("abc")
    a, b = group["a"], group["b"]
    together(group, lambda: put(a, "n", 101), lambda: put(b, "n", 102))
    group.ledger.affirms(b"101")  # what is brought back is a copy
    for member in group.members.values():
        for row in rows(member):
            member.running.preserved.restore(row.preserved_id, b"back of " + member.name.encode(), member.now_ms)
    group.heal()
    for path in [path for path in tree(a) if path.startswith("back")]:
        delete(a, path)
    group.heal()
    group.set_siblings(SIBLING)
    group.heal()
    found = siblings_in(group, "n")
    assert list(found.values()) == [101]
    assert_tree(group, {"n": 102, **found})


def test_a_loser_of_a_name_whose_last_copy_was_deleted_is_blocked_when_it_comes_up_and_is_settled_by_abandon() -> None:
    group = a_group("abc")
    a, b = group["a"], group["b"]
    together(group, lambda: put(a, "n", 101), lambda: put(b, "n", 102))
    group.ledger.took_off(a, b"101")  # by its operator
    for member in group.members.values():
        member.running.preserved.delete([row.preserved_id for row in rows(member)], member.now_ms)
    group.set_siblings(SIBLING)
    group.run(120_000)
    assert tree(a) == {"n": 102}
    for member in group.members.values():
        ((path, why),) = member.running.blocked()
        assert (path.startswith(b"n.conflict-"), "no connected member" in why) == (True, True), (path, why)
    names = {member.id: member.name for member in (b, group["c"])}
    owners = {member.catalog.replica: member.id for member in group.members.values()}

    def give_up(replica: FolderReplica, now_ms: int) -> list[Effect]:
        found, effects = abandon_path(replica, path, names, owners, force=False, now_ms=now_ms)
        assert (found.kept, found.gone) == (0, 1)
        return effects

    a.act(give_up)
    group.heal()
    assert_tree(group, {"n": 102})
    assert [member.running.blocked() for member in group.members.values()] == [[], [], []]
