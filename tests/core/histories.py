"""Random histories of records for the tests of the tree, and what they reach."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from replicad.core.full_tree import cut_places, kept_directories
from replicad.core.ids import ROOT, Uid
from replicad.core.memory_view import MemoryView
from replicad.core.records import DIRECTORY, FILE, SYMLINK, Content, Place, Record, Stamp, record
from replicad.core.tree import Outcome, place_of, tree_of
from replicad.core.view import ObjectState
from tests.core.make import Choose, content, place, uid

KINDS = (DIRECTORY, DIRECTORY, DIRECTORY, FILE, FILE, SYMLINK, SYMLINK)
NAMES = (b"a", b"b")
OBJECTS_MAX = 10
EVENTS_MAX = 40
BATCH_MAX = 5


def history(choose: Choose) -> list[list[Record]]:
    """Batches of records as they may come from anyone: some with one register only, most of objects known before.

    First most objects are made, in each other; then they are moved below any other and back, deleted, brought back and
    edited. Names, contents and times are few, so that they meet. Some objects that others name as their parent never
    come, or come late.
    """
    objects = 3 + choose(OBJECTS_MAX - 2)
    kinds = [DIRECTORY, DIRECTORY] + [KINDS[choose(len(KINDS))] for _ in range(objects - 2)]
    last: list[tuple[Uid, bytes]] = [(ROOT, b"")] * objects
    batches: list[list[Record]] = [[]]

    def add(event: Record) -> None:
        batches[-1].append(event)
        if choose(BATCH_MAX) == 0:
            batches.append([])

    def create(who: int) -> None:
        parent = uid(choose(who)) if who and choose(2) else ROOT
        made = _place(choose, who + 1, last, who, parent)
        add(record(uid(who), kinds[who], made, _content(choose, who + 1, kinds[who], deletable=False)))

    late = [who for who in range(objects) if choose(4) == 0]
    for who in range(objects):
        if who not in late:
            create(who)
    for number in range(objects + 1, objects + 1 + choose(EVENTS_MAX)):
        who = choose(objects)
        what = choose(10)
        moved = _place(choose, number, last, who, _parent_for(choose, objects, who)) if what < 8 else None
        changed = _content(choose, number, kinds[who], deletable=True) if what >= 7 else None
        add(record(uid(who), kinds[who], moved, changed))
    for who in late[: choose(3)]:
        create(who)
    return batches


def _parent_for(choose: Choose, objects: int, who: int) -> Uid:
    if choose(8) == 0:
        return ROOT
    parent = choose(objects + 1)  # the last is never held
    return uid(parent) if parent != who or choose(8) == 0 else uid((who + 1) % objects)


def _place(choose: Choose, number: int, last: list[tuple[Uid, bytes]], who: int, parent: Uid) -> Place:
    """Most remember the place before, some a place that never was."""
    name = NAMES[choose(len(NAMES))]
    prior = last[who] if choose(3) else (uid(choose(len(last) + 1)), NAMES[choose(len(NAMES))])
    last[who] = (parent, name)
    time_ms = 0 if number <= len(last) and choose(2) else number + choose(12)
    return place(parent, name, time_ms, prior=prior, counter=number, replica=1 + choose(3))


def _content(choose: Choose, number: int, kind: int, *, deletable: bool) -> Content:
    time_ms = 0 if not deletable and choose(4) else 10 + choose(20)
    deleted = Stamp(10 + choose(20), 1) if deletable and choose(2) else None
    mtime_ns = choose(2)
    return content(
        time_ms, choose(2), kind=kind, gone=deleted, counter=number, replica=1 + choose(3), mtime_ns=mtime_ns
    )


def features(view: MemoryView) -> Counter[str]:
    """Which of the tree's hard cases the records of this view make up."""
    found = _cycle_features({state.record.uid: state.record for state in view.states.values()})
    reached: set[Uid] = set()
    for outcome in tree_of(view).values():
        reached.update(outcome.winners, outcome.hidden)
        found.update(_contest_features(view, outcome))
    for state in view.states.values():
        found.update(_directory_features(view, state))
        found["not reached from the root"] += state.present and state.record.uid not in reached
    return +found


def _directory_features(view: MemoryView, state: ObjectState) -> Counter[str]:
    at = place_of(state)
    above = view.object(at[0]) if at is not None else None
    in_group = above is not None and above.group is not None
    return Counter(
        {
            "kept": state.kept,
            "kept above a kept one": state.kept and above is not None and above.kept,
            "kept in a group": state.kept and state.group is not None,
            "kept below a group": state.kept and in_group,
            "group in a group": state.group is not None and in_group,
        }
    )


def _contest_features(view: MemoryView, outcome: Outcome) -> Counter[str]:
    winners = [view.states[uid].record for uid in outcome.winners]
    hidden = [view.states[uid].record for uid in outcome.hidden]
    files = outcome.kind != DIRECTORY
    return Counter(
        {
            "group of three": not files and len(winners) > 2,
            "group of an original and another": not files and len({one.original for one in winners}) == 2,
            "equal files are one": outcome.kind == FILE and len(winners) > 1,
            "equal symlinks are one": outcome.kind == SYMLINK and len(winners) > 1,
            "a directory hides a file": not files and bool(hidden),
            "a file hides a file": files and bool(hidden),
            "originals contend": files and bool(hidden) and all(one.original for one in winners + hidden),
            "an original loses to another": files
            and any(one.original for one in hidden)
            and not any(one.original for one in winners),
        }
    )


def _cycle_features(held: dict[Uid, Record]) -> Counter[str]:
    edges = {one.uid: one.place.parent for one in held.values() if one.place and one.kind == DIRECTORY}
    found = Counter(f"cycle of {length}" for length in _cycle_lengths(edges))
    places = cut_places(held)
    for one in held.values():
        if one.place is None or places[one.uid] == (one.place.parent, one.place.name):
            continue
        prior_parent = one.place.prior_parent
        there = prior_parent == ROOT or prior_parent in held and held[prior_parent].kind == DIRECTORY
        back = places[one.uid] == (prior_parent, one.place.prior_name)
        found["cut to its prior place"] += back and prior_parent != ROOT
        found["cut to its prior place in the root"] += back and prior_parent == ROOT
        found["cut again on its prior place"] += there and not back and bool(one.place.prior_name)
        found["cut, prior parent unknown"] += not there
    with_cuts = kept_directories(held, places)
    as_recorded = {one.place.parent for one in held.values() if one.place and one.place.parent in with_cuts}
    found["kept because of a cut alone"] += len(with_cuts - as_recorded)
    return found


def _cycle_lengths(parents: Mapping[Uid, Uid]) -> Sequence[int]:
    lengths: list[int] = []
    done: set[Uid] = set()
    for start in parents:
        way: list[Uid] = []
        at = start
        while at in parents and at not in done:
            done.add(at)
            way.append(at)
            at = parents[at]
        if at in way:
            lengths.append(len(way) - way.index(at))
    return lengths
