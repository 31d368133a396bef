"""Cycles of directories, and where they are cut.

Two members that move directories into each other at once make a cycle. Each directory has a *level*: at level 0 it is
where its record says; at 1 at the place before that; at 2 in the root, under its record's name. All begin at 0. While
there is a cycle, the *newest move* in it (the greatest `place_key`, of two equal ones the greater UID) goes one level
up, or from 0 to 2 where its prior place is of no use: the prior parent is not held or no directory (the root always
will do), or the prior name is none that a disk can hold (b"" for what was created here). An object above level 0 has
its place in `cut`. Only directories that are held take part: a chain of parents ends at anything else.

*A pure function of the records.* Each directory has one parent, so cycles are disjoint, and a cycle goes on until an
object in it changes its level, which only its newest move may: raising one object neither prevents another raise nor
changes what it will be. Two raises possible at once may therefore come in either order and give the same; each object
is raised at most twice, so it ends; so every order ends in the same state (Newman's lemma). What `usable_prior` sees of
the prior parent is whether a directory with that UID is held, which is a matter of the records too: when it arrives
later, or is dropped, the objects that name it are put back to level 0 and looked at again, and end where they would
have, had it been there from the start.

*Kept up by differences.* A raise is undone only if it may have happened because of something that has changed: cut
objects that a changed directory reaches upward, over all the places that it and those in between had while they were
raised (`_unsure`). For the raises of all others the cycles are as they were, so these raises can be made again in the
new state, and by the above the order does not matter. Then every cycle has a directory that has changed or was put
back, and is found by walking up from those.
"""

from __future__ import annotations

from collections.abc import Iterable

from replicad.core.draft import Draft
from replicad.core.ids import ROOT, Uid
from replicad.core.records import Record, place_key, usable_name
from replicad.core.tree_places import Revision, is_directory
from replicad.core.view import ObjectState, View

Cut = tuple[Uid, bytes] | None


def recut(revision: Revision) -> None:
    """Bring `cut` in step with the records of the draft; costs the depth of the tree for each changed directory."""
    draft = revision.draft
    seeds = {uid for uid, before in revision.before.items() if _edge(before) != _edge(draft.object(uid))}
    if not seeds:
        return
    cut = set(draft.cuts())
    seeds |= _cut_near(revision, seeds, cut)
    was_cut = cut | {uid for uid, before in revision.before.items() if before is not None and before.cut is not None}
    unsure = _unsure(revision, seeds, was_cut) if was_cut else set()
    levels = _Levels(draft, unsure)
    levels.settle(seeds | unsure)
    for uid, place in sorted(levels.cuts.items()):
        state = draft.object(uid)
        if state is not None and state.cut != place:
            revision.update(uid, cut=place)


def usable_prior(view: View, record: Record) -> bool:
    """Whether a move that is cut can go back to where it came from."""
    place = record.place
    if place is None or not usable_name(place.prior_name):
        return False
    return place.prior_parent == ROOT or is_directory(view.object(place.prior_parent))


def _edge(state: ObjectState | None) -> bytes | None:
    """What the graph has of an object: the place register of a directory."""
    return state.record.place_raw if state is not None and is_directory(state) else None


def _cut_near(revision: Revision, seeds: Iterable[Uid], cut: Iterable[Uid]) -> set[Uid]:
    """Cut objects whose prior parent has come or gone as a directory."""
    draft = revision.draft
    appeared = {uid for uid in seeds if is_directory(revision.before.get(uid)) != is_directory(draft.object(uid))}
    if not appeared:
        return set()
    return {
        state.record.uid
        for state in draft.objects(cut)
        if is_directory(state) and state.record.place is not None and state.record.place.prior_parent in appeared
    }


def _unsure(revision: Revision, seeds: Iterable[Uid], was_cut: set[Uid]) -> set[Uid]:
    """The cut objects whose raise may have come from what has changed, those among it included."""
    seen: set[Uid] = set()
    waiting = list(seeds)
    while waiting:
        uid = waiting.pop()
        if uid in seen or uid == ROOT:
            continue
        seen.add(uid)
        state = revision.old(uid)
        if state is None or state.record.place is None or not is_directory(state):
            continue
        waiting.append(state.record.place.parent)
        if uid in was_cut:
            waiting.append(state.record.place.prior_parent)
    return seen & was_cut


class _Levels:
    """Directories and their places while cycles are cut; `cuts` has those that were put back or raised."""

    def __init__(self, draft: Draft, put_back: Iterable[Uid]) -> None:
        self.draft = draft
        self.cuts: dict[Uid, Cut] = dict.fromkeys(put_back)
        self._safe: set[Uid] = {ROOT}
        """From these the way up ends. Stays true: what is raised is in a cycle, and on no way that ends."""

    def settle(self, seeds: Iterable[Uid]) -> None:
        """Cut all cycles; every cycle has at least one of `seeds` in it."""
        waiting = sorted(seeds)
        while waiting:
            cycle = self._cycle_above(waiting.pop())
            if cycle:
                # The invariant holds: a new cycle goes through what was raised.
                waiting.append(self._raise_newest(cycle))

    def _parent(self, uid: Uid) -> Uid | None:
        """None: not a directory that is held, with a place."""
        state = self.draft.object(uid)
        if state is None or state.record.place is None or not is_directory(state):
            return None
        cut = self.cuts.get(uid, state.cut)
        return cut[0] if cut is not None else state.record.place.parent

    def _cycle_above(self, uid: Uid) -> list[Uid]:
        """The cycle into which the way up from `uid` leads; empty where it ends."""
        way: dict[Uid, None] = {}
        at: Uid | None = uid
        while at is not None and at not in self._safe:
            if at in way:
                whole = list(way)
                return whole[whole.index(at) :]
            way[at] = None
            at = self._parent(at)
        self._safe.update(way)
        return []

    def _raise_newest(self, cycle: list[Uid]) -> Uid:
        states = [state for uid in cycle if (state := self.draft.object(uid)) is not None]
        newest = max(states, key=lambda state: (place_key(state.record), state.record.uid))
        uid, place = newest.record.uid, newest.record.place
        assert place is not None
        at_record = self.cuts.get(uid, newest.cut) is None
        if at_record and usable_prior(self.draft, newest.record):
            self.cuts[uid] = (place.prior_parent, place.prior_name)
        else:
            self.cuts[uid] = (ROOT, place.name)
        return uid
