"""The tree's rules one by one: what DESIGN section 3 says, told as records and the paths they must show."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from itertools import permutations
from typing import Any

import msgspec
import pytest

from replicad.core.draft import Draft
from replicad.core.full_tree import full_tree
from replicad.core.ids import ROOT, Uid
from replicad.core.memory_view import MemoryView
from replicad.core.records import DIRECTORY, ENTRY, FILE, SYMLINK, Record, record
from replicad.core.tree import (
    Outcome,
    Slot,
    contestants,
    entries,
    outcome,
    retree,
    slot_of,
    slot_path,
    tree_of,
    wanted_path,
)
from replicad.core.view import ObjectState
from tests.core.make import (
    FOLDER,
    REPLICA,
    a_view,
    content,
    directory,
    file,
    gone,
    place,
    store,
    uid,
    with_record,
)


def shown(records: Iterable[Record]) -> dict[bytes, tuple[int, ...]]:
    """Path → the numbers of its winners; the oracle and the incremental tree must agree in everything."""
    held = list(records)
    tree = tree_of(a_view(held))
    assert tree == full_tree(held)
    return {path: tuple(int.from_bytes(one, "big") for one in found.winners) for path, found in tree.items()}


def at_top(*records: Record) -> Outcome:
    """What the name `n` in the root shows."""
    view = a_view(records)
    found = outcome(view, Slot(ROOT, b"n"))
    assert found is not None
    assert full_tree(records)[b"n"] == found
    return found


def deleted(one: Record, time_ms: int = 90) -> Record:
    assert one.content is not None
    return record(one.uid, one.kind, one.place, gone(time_ms, one.content.time_ms))


# -- cuts


def test_a_cycle_is_cut_at_the_newest_move_which_goes_back() -> None:
    """S10: the move of `top/z` into `top/x/z` is the newer one, so it falls back to `top/z`."""
    top, y = directory(1, ROOT, b"top", 10), directory(3, uid(2), b"y", 10)
    z = directory(2, uid(4), b"z", 21, prior=(uid(1), b"z"))
    x = directory(4, uid(3), b"x", 20, prior=(uid(1), b"x"))
    assert shown([top, z, y, x]).keys() == {b"top", b"top/z", b"top/z/y", b"top/z/y/x"}
    x_newer = directory(4, uid(3), b"x", 22, prior=(uid(1), b"x"))
    assert shown([top, z, y, x_newer]).keys() == {b"top", b"top/x", b"top/x/z", b"top/x/z/y"}


def test_a_later_move_that_resolves_a_cycle_ends_the_cut() -> None:
    """S11 without its pin: `y` leaves, so the move of `z` that was cut stands."""
    top, y = directory(1, ROOT, b"top", 10), directory(3, uid(2), b"y", 10)
    z = directory(2, uid(4), b"z", 21, prior=(uid(1), b"z"))
    x = directory(4, uid(3), b"x", 20, prior=(uid(1), b"x"))
    view = a_view([top, z, y, x])
    assert view.cuts() == [uid(2)]
    slots = store(view, [directory(3, ROOT, b"y", 30, prior=(uid(2), b"y"))])
    assert view.cuts() == []
    assert tree_of(view).keys() == {b"top", b"y", b"y/x", b"y/x/z"}
    assert slots == [Slot(ROOT, b"y"), Slot(uid(1), b"z"), Slot(uid(2), b"y"), Slot(uid(4), b"z")]


def test_a_cut_whose_prior_place_is_not_there_goes_to_the_root_under_its_own_name() -> None:
    one, other = directory(1, uid(2), b"one", 10), directory(2, uid(1), b"other", 20, prior=(uid(9), b"was"))
    assert shown([one, other]).keys() == {b"other", b"other/one"}
    created = directory(2, uid(1), b"other", 20)
    assert shown([one, created]).keys() == {b"other", b"other/one"}
    assert shown([one, other, file(9, ROOT, b"no directory", 5)]).keys() == {b"no directory", b"other", b"other/one"}


def test_a_cut_goes_to_its_prior_place_once_that_is_known_and_back_to_the_root_when_it_is_dropped() -> None:
    one, other = directory(1, uid(2), b"one", 10), directory(2, uid(1), b"other", 20, prior=(uid(9), b"was"))
    view = a_view([one, other])
    store(view, [directory(9, ROOT, b"home", 5)])
    assert tree_of(view).keys() == {b"home", b"home/was", b"home/was/one"}
    store(view, [], dropped=[uid(9)])
    assert tree_of(view).keys() == {b"other", b"other/one"}


def test_a_cut_that_closes_a_cycle_on_its_prior_place_goes_to_the_root() -> None:
    """The newest move of the first cycle is again the newest in the one that its prior place closes."""
    one, other = directory(1, uid(2), b"one", 10), directory(2, uid(1), b"other", 20, prior=(uid(3), b"was"))
    third = directory(3, uid(2), b"third", 15)
    assert shown([one, other, third]).keys() == {b"other", b"other/one", b"other/third"}


def test_a_cut_may_close_a_cycle_in_which_another_move_is_newer() -> None:
    """1 and 2 cut at 2, whose prior place is below 3, which 4 then cuts."""
    one = directory(1, uid(2), b"one", 10)
    other = directory(2, uid(1), b"other", 20, prior=(uid(3), b"was"))
    third = directory(3, uid(2), b"third", 30, prior=(ROOT, b"home"))
    assert shown([one, other, third]).keys() == {b"home", b"home/was", b"home/was/one"}


def test_a_cut_that_came_from_another_cut_ends_when_that_one_is_dropped() -> None:
    one = directory(1, uid(2), b"one", 10)
    other = directory(2, uid(1), b"other", 20, prior=(uid(3), b"was"))
    third = directory(3, uid(2), b"third", 30, prior=(ROOT, b"home"))
    view = a_view([one, other, third])
    assert view.cuts() == [uid(2), uid(3)]
    store(view, [], dropped=[uid(2)])
    assert view.cuts() == []
    assert tree_of(view) == full_tree([one, third]) == {}


def test_a_directory_moved_into_itself_is_a_cycle_of_one() -> None:
    assert shown([directory(1, uid(1), b"n", 10, prior=(ROOT, b"was"))]) == {b"was": (1,)}


def test_a_cycle_of_files_is_none_and_is_never_reached() -> None:
    """A malformed record of a peer's: only directories have anything below them."""
    assert shown([file(1, uid(2), b"n", 10), file(2, uid(1), b"n", 11)]) == {}


def test_i1_cuts_are_the_same_whatever_order_the_moves_come_in() -> None:
    records = [
        directory(1, uid(2), b"1", 10, prior=(ROOT, b"1")),
        directory(2, uid(3), b"2", 20, prior=(uid(4), b"was 2")),
        directory(3, uid(1), b"3", 15, prior=(ROOT, b"3")),
        directory(4, uid(5), b"4", 25, prior=(uid(3), b"was 4")),
        directory(5, uid(4), b"5", 5),
    ]
    expected = full_tree(records)
    for order in permutations(records):
        view = MemoryView(FOLDER, REPLICA)
        for one in order:
            store(view, [one])
        assert tree_of(view) == expected


# -- kept


def test_a_deleted_directory_is_there_while_something_below_it_lives() -> None:
    outer, inner = deleted(directory(1, ROOT, b"outer", 10)), deleted(directory(2, uid(1), b"inner", 10))
    alive = file(3, uid(2), b"f", 20)
    assert shown([outer, inner]) == {}
    view = a_view([outer, inner])
    slots = store(view, [alive])
    assert tree_of(view).keys() == {b"outer", b"outer/inner", b"outer/inner/f"}
    assert slots == [Slot(ROOT, b"outer"), Slot(uid(1), b"inner"), Slot(uid(2), b"f")]
    store(view, [deleted(alive)])
    assert tree_of(view) == {}
    assert not any(state.kept for state in view.states.values())


def test_what_lies_below_a_directory_that_cannot_be_shown_keeps_nothing() -> None:
    outer = deleted(directory(1, ROOT, b"outer", 10))
    unnamed = directory(2, uid(1), b"a/b", 10)
    assert shown([outer, unnamed, file(3, uid(2), b"f", 20)]) == {}
    view = a_view([outer, deleted(unnamed), file(3, uid(2), b"f", 20)])
    assert tree_of(view) == {}
    assert not any(state.kept for state in view.states.values())


def test_a_cut_keeps_the_directory_it_goes_back_to() -> None:
    home = deleted(directory(9, ROOT, b"home", 5))
    one, other = directory(1, uid(2), b"one", 10), directory(2, uid(1), b"other", 20, prior=(uid(9), b"was"))
    assert shown([home, one, other]).keys() == {b"home", b"home/was", b"home/was/one"}


# -- groups


def test_directories_of_one_name_are_one_and_so_are_their_children_of_one_name() -> None:
    records = [
        directory(1, ROOT, b"d", 10),
        directory(2, ROOT, b"d", 11),
        directory(3, uid(1), b"e", 10),
        directory(4, uid(2), b"e", 10),
        file(5, uid(3), b"x", 10, 1),
        file(6, uid(4), b"y", 10, 2),
    ]
    assert shown(records) == {b"d": (1, 2), b"d/e": (3, 4), b"d/e/x": (5,), b"d/e/y": (6,)}
    view = a_view(records)
    assert [view.states[uid(n)].group for n in range(1, 7)] == [uid(1), uid(1), uid(3), uid(3), None, None]


def test_a_group_falls_apart_when_a_directory_leaves_it_and_its_children_with_it() -> None:
    view = a_view(
        [
            directory(1, ROOT, b"d", 10),
            directory(2, ROOT, b"d", 11),
            directory(3, uid(1), b"e", 10),
            directory(4, uid(2), b"e", 10),
            file(5, uid(4), b"x", 10),
        ]
    )
    slots = store(view, [directory(1, ROOT, b"moved", 20, prior=(ROOT, b"d"))])
    assert {path: found.winners for path, found in tree_of(view).items()} == {
        b"d": (uid(2),),
        b"d/e": (uid(4),),
        b"d/e/x": (uid(5),),
        b"moved": (uid(1),),
        b"moved/e": (uid(3),),
    }
    assert set(slots) == {
        *(Slot(ROOT, b"d"), Slot(ROOT, b"moved")),
        *(Slot(uid(1), b"e"), Slot(uid(2), b"e")),
        *(Slot(uid(3), b"x"), Slot(uid(4), b"x")),
    }


@pytest.mark.parametrize("first", [2, 4])
def test_a_child_and_its_merged_parent_may_leave_a_slot_in_one_revision(first: int) -> None:
    """Who stays behind is alone then, though neither of those who left leads there any more."""
    view = a_view(
        [
            directory(1, ROOT, b"d", 10),
            directory(2, ROOT, b"d", 10),
            directory(3, uid(1), b"e", 10),
            directory(4, uid(2), b"e", 10),
        ]
    )
    moved = {4: directory(4, ROOT, b"e", 20), 2: directory(2, ROOT, b"moved", 20)}
    store(view, [moved.pop(first), *moved.values()])
    assert view.states[uid(3)].group is None
    assert tree_of(view) == full_tree(state.record for state in view.states.values())


def test_the_children_of_a_merged_directory_that_is_dropped_leave_the_shared_slots() -> None:
    view = a_view(
        [
            directory(1, ROOT, b"d", 10),
            directory(2, ROOT, b"d", 10),
            directory(3, uid(1), b"e", 10),
            directory(4, uid(2), b"e", 10),
        ]
    )
    slots = store(view, [], dropped=[uid(2)])
    assert [view.states[uid(n)].group for n in (1, 3, 4)] == [None, None, None]
    assert slots == [Slot(ROOT, b"d"), Slot(uid(1), b"e"), Slot(uid(2), b"e")]


def test_the_lead_of_merged_directories_is_the_live_one_with_the_newest_content() -> None:
    def made(number: int, time_ms: int) -> Record:
        return record(uid(number), DIRECTORY, place(ROOT, b"n", 10), content(time_ms, number, kind=DIRECTORY))

    assert at_top(made(1, 10), made(2, 30), made(3, 20)).lead == uid(2)
    below = [file(8, uid(1), b"f", 50), file(9, uid(2), b"f", 50)]
    assert at_top(deleted(made(1, 10)), deleted(made(2, 40), 60), made(3, 20), *below).lead == uid(3)
    assert at_top(deleted(made(1, 10)), deleted(made(2, 40), 60), *below).lead == uid(1)


# -- files of one name


def symlink(number: int, time_ms: int, value: int = 0) -> Record:
    return record(uid(number), SYMLINK, place(ROOT, b"n", time_ms), content(time_ms, value, kind=SYMLINK))


def original(number: int, value: int, mtime_ns: int, kind: int = FILE) -> Record:
    return record(uid(number), kind, place(ROOT, b"n", 0), content(0, value, kind=kind, mtime_ns=mtime_ns))


def test_a_directory_beats_a_file_and_merges_with_every_other() -> None:
    found = at_top(file(1, ROOT, b"n", 90), directory(2, ROOT, b"n", 10), symlink(3, 80), directory(4, ROOT, b"n", 11))
    assert (found.kind, found.winners, found.hidden) == (DIRECTORY, (uid(2), uid(4)), (uid(1), uid(3)))


def test_the_higher_of_its_two_stamps_gives_a_file_the_name() -> None:
    moved = record(uid(1), FILE, place(ROOT, b"n", 30), content(5, 1))
    edited = record(uid(2), FILE, place(ROOT, b"n", 5), content(31, 2))
    found = at_top(moved, edited)
    assert (found.winners, found.lead, found.hidden) == ((uid(2),), uid(2), (uid(1),))
    assert at_top(record(uid(1), FILE, place(ROOT, b"n", 32), content(5, 1)), edited).winners == (uid(1),)


def test_of_two_equal_stamps_the_greater_uid_has_the_name() -> None:
    assert at_top(file(1, ROOT, b"n", 10, 1), file(2, ROOT, b"n", 10, 2)).winners == (uid(2),)


def test_equal_content_is_one_file_whoever_was_first() -> None:
    found = at_top(file(1, ROOT, b"n", 10, 7), file(2, ROOT, b"n", 30, 7), file(3, ROOT, b"n", 20, 8))
    assert (found.winners, found.lead, found.hidden) == ((uid(1), uid(2)), uid(2), (uid(3),))
    assert at_top(symlink(1, 10, 7), symlink(2, 9, 7)).winners == (uid(1), uid(2))


def test_a_symlink_never_equals_a_file() -> None:
    one = file(1, ROOT, b"n", 10, 7)
    assert one.content is not None
    target = msgspec.structs.replace(content(9, kind=SYMLINK), value=one.content.digest)
    assert at_top(one, record(uid(2), SYMLINK, place(ROOT, b"n", 9), target)).hidden == (uid(2),)


def test_an_original_loses_its_name_to_any_other_and_the_later_mtime_wins_among_originals() -> None:
    assert at_top(original(9, 1, 10**18), file(1, ROOT, b"n", 1, 2)).winners == (uid(1),)
    renamed = record(uid(8), FILE, place(ROOT, b"n", 5), content(0, 3))
    assert at_top(original(9, 1, 10**18), renamed).winners == (uid(8),)
    assert at_top(original(9, 1, 10), original(8, 2, 11)).winners == (uid(8),)
    assert at_top(original(9, 1, 10), original(8, 2, 10)).winners == (uid(8),)
    assert at_top(original(9, 2, 10), original(8, 1, 10)).winners == (uid(9),)
    assert at_top(original(9, 1, 0, SYMLINK), original(8, 2, 0, SYMLINK)).winners == (uid(8),)


# -- rule 10 and what cannot be shown


def test_what_hangs_below_an_unknown_parent_is_not_shown_until_that_is_known() -> None:
    view = a_view([directory(2, uid(1), b"d", 10), directory(3, uid(1), b"d", 10), file(4, uid(3), b"f", 10)])
    assert tree_of(view) == {}
    assert [wanted_path(view, uid(n)) for n in (1, 2, 3, 4)] == [None] * 4
    assert slot_of(view, uid(4)) == Slot(uid(2), b"f")
    store(view, [directory(1, ROOT, b"top", 10)])
    assert [wanted_path(view, uid(n)) for n in (1, 2, 3, 4)] == [b"top", b"top/d", b"top/d", b"top/d/f"]


def test_an_object_is_not_shown_while_one_of_its_registers_is_not_known() -> None:
    whole = file(1, ROOT, b"n", 10)
    assert shown([record(whole.uid, FILE, whole.place, None)]) == {}
    assert shown([record(whole.uid, FILE, None, whole.content)]) == {}
    assert shown([whole]) == {b"n": (1,)}


@pytest.mark.parametrize("name", [b"", b".", b"..", b"a/b", b"a\0", b"x" * 256])
def test_a_name_that_no_disk_can_hold_is_not_shown(name: bytes) -> None:
    assert shown([file(1, ROOT, name, 10)]) == {}


def test_kinds_of_other_trees_and_of_newer_versions_are_not_shown() -> None:
    for kind in (ENTRY, 5, 200):
        assert shown([record(uid(1), kind, place(ROOT, b"n", 10), content(10))]) == {}


# -- looking up


def test_a_hidden_object_has_no_wanted_path_but_its_slot_has() -> None:
    view = a_view([directory(1, ROOT, b"d", 10), file(2, uid(1), b"n", 20, 1), file(3, uid(1), b"n", 10, 2)])
    assert (wanted_path(view, ROOT), wanted_path(view, uid(2)), wanted_path(view, uid(3))) == (b"", b"d/n", None)
    assert slot_path(view, Slot(uid(1), b"n")) == b"d/n"
    assert [state.record.uid for state in contestants(view, Slot(uid(1), b"n"))] == [uid(2), uid(3)]


def test_the_entries_of_a_directory_are_those_of_all_its_uids() -> None:
    view = a_view(
        [
            directory(1, ROOT, b"d", 10),
            directory(2, ROOT, b"d", 10),
            file(3, uid(1), b"x", 10),
            file(4, uid(2), b"y", 10),
            deleted(file(5, uid(2), b"z", 10)),
        ]
    )
    assert entries(view, ROOT) == [b"d"]
    assert entries(view, uid(1)) == entries(view, uid(2)) == [b"x", b"y"]


def test_a_slot_under_a_uid_that_no_longer_stands_for_its_directory_has_no_outcome() -> None:
    view = a_view([directory(1, ROOT, b"d", 10), directory(2, ROOT, b"d", 10), file(3, uid(2), b"x", 10)])
    assert outcome(view, Slot(uid(2), b"x")) is None
    found = outcome(view, Slot(uid(1), b"x"))
    assert found is not None
    assert found.winners == (uid(3),)


# -- cost


class CountingView:
    """Counts what is looked up in a view, and how much it answers."""

    def __init__(self, view: MemoryView) -> None:
        self._view = view
        self.calls = 0
        self.answers = 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._view, name)
        return self._counted(found) if callable(found) else found

    def _counted(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            answer = method(*args, **named)
            self.calls += 1
            self.answers += len(answer) if isinstance(answer, (list, tuple)) else 1
            return answer

        return call


def revise(view: MemoryView, changed: Record) -> tuple[CountingView, list[Slot]]:
    counting = CountingView(view)
    draft = Draft(counting)
    before = draft.object(changed.uid)
    draft.put(with_record(before, changed) if before is not None else ObjectState(changed))
    return counting, retree(draft, [(changed.uid, before)])


def test_a_renamed_directory_touches_two_slots_whatever_is_in_it() -> None:
    view = a_view([directory(1, ROOT, b"d", 10), *(file(n, uid(1), b"%d" % n, 10) for n in range(100, 5100))])
    counting, slots = revise(view, directory(1, ROOT, b"e", 20, prior=(ROOT, b"d")))
    assert slots == [Slot(ROOT, b"d"), Slot(ROOT, b"e")]
    assert counting.answers <= 20


def test_the_last_child_to_go_costs_no_look_at_those_gone_before() -> None:
    tombstones = [deleted(file(n, uid(1), b"%d" % n, 10)) for n in range(100, 5100)]
    alive = file(5200, uid(1), b"f", 10)
    view = a_view([deleted(directory(1, ROOT, b"d", 10)), alive, *tombstones])
    assert tree_of(view).keys() == {b"d", b"d/f"}
    counting, slots = revise(view, deleted(alive))
    assert slots == [Slot(ROOT, b"d"), Slot(uid(1), b"f")]
    assert counting.answers <= 20


def test_a_name_that_came_and_went_often_costs_no_more_than_a_new_one() -> None:
    view = a_view([deleted(file(n, ROOT, b"lock", 10)) for n in range(100, 5100)])
    counting, slots = revise(view, file(1, ROOT, b"lock", 20))
    assert slots == [Slot(ROOT, b"lock")]
    assert counting.answers <= 20
    assert len(contestants(view, Slot(ROOT, b"lock"))) == 0


def deep(levels: int) -> list[Record]:
    return [directory(n, uid(n - 1) if n > 1 else ROOT, b"d", n) for n in range(1, levels + 1)]


def test_an_ordinary_change_costs_the_depth_at_most() -> None:
    view = a_view(deep(200))
    counting, slots = revise(view, file(9999, uid(200), b"f", 10))
    assert slots == [Slot(uid(200), b"f")]
    assert counting.answers <= 10, "a file can be in no cycle"
    counting, slots = revise(view, directory(9999, uid(200), b"e", 10))
    assert slots == [Slot(uid(200), b"e")]
    assert counting.answers <= 220


def test_a_batch_of_new_directories_walks_the_way_up_once() -> None:
    view = a_view(deep(200))
    counting = CountingView(view)
    draft = Draft(counting)
    for number in range(1000, 1512):
        draft.put(ObjectState(directory(number, uid(200), b"%d" % number, 10)))
    retree(draft, [(uid(number), None) for number in range(1000, 1512)])
    assert counting.answers <= 512 * 8 + 250


def test_depth_is_walked_without_recursion() -> None:
    levels = 5_000
    shuffled = [*deep(levels), file(levels + 1, uid(levels), b"f", 10)]
    random.Random(1).shuffle(shuffled)
    view = a_view(shuffled)
    path = wanted_path(view, uid(levels + 1))
    assert path == b"/".join([b"d"] * levels + [b"f"])
    store(view, [deleted(directory(n, uid(n - 1) if n > 1 else ROOT, b"d", n), 10**6) for n in range(1, levels + 1)])
    assert len(tree_of(view)) == levels + 1
    store(view, [deleted(file(levels + 1, uid(levels), b"f", 10))])
    assert tree_of(view) == {}
    store(view, [directory(1, uid(levels), b"d", 10**6, prior=(ROOT, b"was"))])
    assert view.states[uid(1)].cut == (ROOT, b"was")


def test_of_a_change_told_twice_the_state_before_the_first_counts() -> None:
    view = a_view([file(1, ROOT, b"old", 10)])
    draft = Draft(view)
    first = draft.object(uid(1))
    draft.put(ObjectState(file(1, ROOT, b"between", 20)))
    between = draft.object(uid(1))
    draft.put(ObjectState(file(1, ROOT, b"new", 30)))
    changed: list[tuple[Uid, ObjectState | None]] = [(uid(1), first), (uid(1), between)]
    assert retree(draft, changed) == [Slot(ROOT, b"new"), Slot(ROOT, b"old")]


def test_a_kind_that_changes_by_a_fault_takes_the_decisions_on_a_directory_with_it() -> None:
    """Of two kinds of one object the smaller stands (core.records.merge): a directory may become a file."""
    kept, inside = deleted(directory(1, ROOT, b"kept", 10)), file(2, uid(1), b"f", 20)
    one, other = directory(3, uid(4), b"3", 10), directory(4, uid(3), b"4", 20)
    twin, second = directory(5, ROOT, b"d", 10), directory(6, ROOT, b"d", 10)
    view = a_view([kept, inside, one, other, twin, second])
    assert [state.record.uid for state in view.states.values() if state.kept or state.cut or state.group] == [
        *(uid(1), uid(4), uid(5), uid(6))
    ]
    store(view, [msgspec.structs.replace(held, kind=FILE) for held in (kept, other, twin)])
    assert not any(state.kept or state.cut or state.group for state in view.states.values())
    assert tree_of(view) == full_tree(state.record for state in view.states.values())
