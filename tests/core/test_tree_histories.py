"""The most important test of the tree: random histories, in any batches and any order, against the oracle."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st

from replicad.core.draft import Draft
from replicad.core.full_tree import full_tree
from replicad.core.ids import Uid
from replicad.core.memory_view import MemoryView
from replicad.core.records import DIRECTORY, Record, merge
from replicad.core.tree import Outcome, Slot, change_policy, outcome, slot_of, tree_of, wanted_path
from replicad.core.tree_places import rep
from tests.core.histories import features, history
from tests.core.make import FOLDER, REPLICA, Choose, by_hypothesis, by_seed, store

Decisions = dict[Uid, tuple[tuple[Uid, bytes] | None, bool, Uid | None]]


def take_in(view: MemoryView, batch: Iterable[Record], dropped: Iterable[Uid] = ()) -> list[Slot]:
    merged: dict[Uid, Record] = {}
    for one in batch:
        held = view.object(one.uid)
        before = merged.get(one.uid) or (held.record if held is not None else None)
        merged[one.uid] = merge(before, one).record
    return store(view, merged.values(), dropped)


def decisions(view: MemoryView) -> Decisions:
    return {uid: (state.cut, state.kept, state.group) for uid, state in view.states.items()}


def from_scratch(view: MemoryView) -> MemoryView:
    fresh = a_view_of(view.siblings)
    store(fresh, (state.record for state in view.states.values()))
    return fresh


def a_view_of(siblings: bool) -> MemoryView:
    view = MemoryView(FOLDER, REPLICA)
    view.siblings = siblings
    return view


def outcomes(view: MemoryView) -> dict[Slot, Outcome | None]:
    slots = {slot for uid in view.states if (slot := slot_of(view, uid)) is not None}
    return {slot: outcome(view, slot) for slot in slots}


def check_against_the_oracle(view: MemoryView) -> None:
    tree = tree_of(view)
    assert tree == full_tree((state.record for state in view.states.values()), siblings=view.siblings)
    assert decisions(view) == decisions(from_scratch(view))
    paths = {uid: path for path, found in tree.items() for uid in found.winners}
    assert {uid: wanted_path(view, uid) for uid in view.states} == {uid: paths.get(uid) for uid in view.states}


def check_slots(before: dict[Slot, Outcome | None], view: MemoryView, touched: list[Slot]) -> None:
    after = outcomes(view)
    differ = {slot for slot in before.keys() | after.keys() if before.get(slot) != after.get(slot)}
    assert differ <= set(touched)
    assert touched == sorted(set(touched))


def play(choose: Choose, view: MemoryView, reached: Counter[str] | None = None) -> None:
    """Every state on the way: the tree is the oracle's, the decisions those made from scratch, the slots complete."""
    for batch in history(choose):
        before, cuts = outcomes(view), cut_places_of(view)
        touched = take_in(view, batch)
        check_against_the_oracle(view)
        check_slots(before, view, touched)
        if reached is not None:
            reached.update(features(view))
            reached["a cut goes elsewhere when something comes"] += any(
                cut_places_of(view).get(uid, cut) != cut for uid, cut in cuts.items()
            )


def cut_places_of(view: MemoryView) -> dict[Uid, tuple[Uid, bytes] | None]:
    return {uid: view.states[uid].cut for uid in view.cuts()}


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_i1_the_incremental_tree_is_the_full_one_after_every_batch(data: st.DataObject) -> None:
    play(by_hypothesis(data), a_view_of(data.draw(st.booleans())))


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_i1_the_tree_is_the_same_for_every_order_of_arrival(data: st.DataObject) -> None:
    choose, siblings = by_hypothesis(data), data.draw(st.booleans())
    batches = history(choose)
    ordered = a_view_of(siblings)
    for batch in batches:
        take_in(ordered, batch)
    records = data.draw(st.permutations([one for batch in batches for one in batch]))
    shuffled = a_view_of(siblings)
    while records:
        size = 1 + choose(4)
        take_in(shuffled, records[:size])
        records = records[size:]
    assert tree_of(shuffled) == tree_of(ordered)
    assert decisions(shuffled) == decisions(ordered)
    assert shuffled.digest == ordered.digest


HARD_CASES = {
    "a cut goes elsewhere when something comes": 15,
    "a directory hides a file": 1000,
    "a file hides a file": 100,
    "an original loses to another": 50,
    "cut again on its prior place": 150,
    "cut to its prior place": 100,
    "cut to its prior place in the root": 100,
    "cut, prior parent unknown": 200,
    "cycle of 1": 100,
    "cycle of 2": 350,
    "cycle of 3": 70,
    "cycle of 4": 5,
    "equal files are one": 30,
    "equal symlinks are one": 20,
    "group in a group": 80,
    "group of an original and another": 350,
    "group of three": 100,
    "kept": 1050,
    "kept above a kept one": 95,
    "kept because of a cut alone": 10,
    "kept below a group": 30,
    "kept in a group": 100,
    "not reached from the root": 9750,
    "originals contend": 6,
}
"""How often the seeds below must at least reach each, counted after every batch."""


SEEDS = 1500


def test_i1_seeded_histories_agree_with_the_oracle_and_reach_every_hard_case() -> None:
    reached: Counter[str] = Counter()
    for seed in range(SEEDS):
        play(by_seed(seed), MemoryView(FOLDER, REPLICA), reached)
    for name, count in sorted(reached.items()):
        print(f"{count:6d} {name}")
    short = {name: reached[name] for name, least in HARD_CASES.items() if reached[name] < least}
    assert not short


def test_i1_seeded_histories_agree_with_the_oracle_where_losers_stand_beside() -> None:
    beside = hidden = 0
    for seed in range(600):
        view = a_view_of(True)
        play(by_seed(seed), view)
        beside += sum(state.cut is not None and state.record.kind != DIRECTORY for state in view.states.values())
        hidden += sum(len(found.hidden) for found in tree_of(view).values())
    assert beside > 200
    assert not hidden, "these histories have no names of siblings"


def test_i1_the_policy_changed_at_any_time_leaves_the_tree_that_it_asks_for() -> None:
    """And the slots that differ are told, as with any other change."""
    beside = 0
    for seed in range(300):
        view = a_view_of(False)
        for batch in history(by_seed(seed)):
            take_in(view, batch)
            before, draft = outcomes(view), Draft(view)
            touched = change_policy(draft, not view.siblings, contested(view))
            view.apply(draft)
            check_against_the_oracle(view)
            check_slots(before, view, touched)
            beside += any(state.cut is not None and state.record.kind != DIRECTORY for state in view.states.values())
    assert beside > 200


def contested(view: MemoryView) -> list[Uid]:
    """What `Catalog.contested` gives: of every name that several want the files and symlinks."""
    wanting: dict[Slot, list[Uid]] = {}
    for uid, state in view.states.items():
        if state.present and state.record.place is not None:
            slot = slot_of(view, uid) if state.record.kind == DIRECTORY else None
            place = state.record.place
            wanting.setdefault(slot or Slot(rep(view, place.parent), place.name), []).append(uid)
    return [uid for uids in wanting.values() if len(uids) > 1 for uid in uids]


def test_records_that_are_dropped_leave_the_tree_of_those_that_stay() -> None:
    """Collection, and what the rejoining give up: any object may go, and come again."""
    for seed in range(200):
        rng = random.Random(seed)
        view = a_view_of(seed % 2 == 1)
        for batch in history(by_seed(seed)):
            held = sorted(view.states.keys() - {one.uid for one in batch})
            dropped = [uid for uid in held if rng.random() < 0.15]
            before = outcomes(view)
            touched = take_in(view, batch, dropped)
            check_against_the_oracle(view)
            check_slots(before, view, touched)
