"""What follows top down and bottom up: directories that are kept, and directories of one name that are one.

*Kept*: a directory whose content is gone is there all the same while something present is below it, at any depth.
*Group*: two or more present directories in one slot are one directory; the smallest UID stands for all of them. The
children of all of them share slots, so what holds for two directories holds for their children of one name in turn.

Both are computed after the cuts, on a graph without cycles: what is kept depends on what is below, a group on what is
above, so each has exactly one solution, and a worklist that looks again at whatever may have changed ends in it. Of
directories in one slot the ways up have equal lengths, so a group never contains one of its own ancestors.
"""

from __future__ import annotations

from collections.abc import Iterable

from replicad.core.ids import ROOT, Uid
from replicad.core.records import usable
from replicad.core.tree_places import Revision, Worklist, is_directory, members, place_of, present_at, present_below
from replicad.core.view import ObjectState, View

PRESENT_ASKED = 16
"""Children asked for to see whether one is present; more only where cuts have taken all of these away."""


def rekeep(revision: Revision) -> None:
    """Bring `kept` in step; costs the number of kept directories above each changed object, and one more."""
    draft = revision.draft
    waiting: Worklist[Uid] = Worklist()
    for uid, before in revision.before.items():
        after = draft.object(uid)
        if after is not None and (after.kept or is_directory(after)):
            waiting.push(uid)
        for parent in _parents(before, after):
            waiting.push(parent)
    for uid in waiting:
        state = draft.object(uid)
        if state is None:
            continue
        kept = _is_kept(draft, state)
        if kept != state.kept:
            revision.update(uid, kept=kept)
            for parent in _parents(state):
                waiting.push(parent)


def regroup(revision: Revision) -> None:
    """Bring `group` in step; costs the children of each directory that stands for another UID than before."""
    groups = _Groups(revision)
    for uid in list(revision.before):
        groups.touch(uid)
    groups.settle()


def _parents(*states: ObjectState | None) -> Iterable[Uid]:
    for state in states:
        place = place_of(state) if state is not None else None
        if place is not None and place[0] != ROOT:
            yield place[0]


def _is_kept(view: View, state: ObjectState) -> bool:
    content = state.record.content
    if not is_directory(state) or content is None or content.gone is None or not usable(state.record):
        return False
    uid = state.record.uid
    return _has_present_child(view, uid) or any(other.present for other in view.objects(view.cut_into(uid)))


def _has_present_child(view: View, parent: Uid) -> bool:
    asked = PRESENT_ASKED
    while True:
        found = view.present_children(parent, asked)
        if any(state.cut is None for state in view.objects(found)):
            return True
        if len(found) < asked:
            return False
        asked *= 4


class _Groups:
    """A worklist of names in directories; a name is looked up in the directory's group as it is when its turn comes.

    Invariant: where the groups of a slot's directories are not yet right, the slot is waiting under one of its UIDs.
    """

    def __init__(self, revision: Revision) -> None:
        self.revision = revision
        self.draft = revision.draft
        self._waiting: Worklist[tuple[Uid, bytes]] = Worklist()

    def touch(self, uid: Uid) -> None:
        """Of a changed object: the slots that it has left and come to, or what it leaves behind when it is gone."""
        before, after = self.revision.before[uid], self.draft.object(uid)
        if before is not None and before.present and is_directory(before):
            place = place_of(before)
            assert place is not None
            # Under the UID that stood for its parent: should the parent leave that group, the slot stays there.
            self._waiting.push((self.revision.old_rep(place[0]), place[1]))
        if after is None:
            if before is not None and before.group is not None:
                self._push_children(uid, before.group, uid)
        elif not after.present or not is_directory(after):
            self._assign(after, None)
        else:
            place = place_of(after)
            assert place is not None
            self._waiting.push(place)

    def settle(self) -> None:
        for parent, name in self._waiting:  # first in, first out: groups above settle first
            found = [
                state
                for member in members(self.draft, parent)
                for state in present_at(self.draft, member, name)
                if is_directory(state)
            ]
            group = min(state.record.uid for state in found) if len(found) > 1 else None
            for state in found:
                self._assign(state, group)

    def _assign(self, state: ObjectState, group: Uid | None) -> None:
        if state.group == group:
            return
        uid = state.record.uid
        self.revision.update(uid, group=group)
        self._push_children(uid, state.group or uid, group or uid)

    def _push_children(self, uid: Uid, old: Uid, new: Uid) -> None:
        """The children of a directory that stands for another UID now contest other slots than before."""
        if old == new:
            return
        for child in present_below(self.draft, uid):
            place = place_of(child)
            if place is not None and is_directory(child):
                self._waiting.push((uid, place[1]))
                self._waiting.push((old, place[1]))
