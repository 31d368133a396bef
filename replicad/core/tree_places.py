"""Where objects are: effective places, slots, and the revision in which the tree is brought up to date.

An object's *effective place* is its cut where a cycle was cut at it (core.tree_cuts), else its record's (parent, name).
A *slot* is a name in a directory of the tree; several directories of one name are one directory (core.tree_groups),
which stands in slots under its smallest UID. A slot depends neither on whether what is above it is known nor on
whether it is shown: what hangs below an unknown parent is never reached from the root (rule 10).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Generic, NamedTuple, TypeVar

from replicad.core.draft import Draft
from replicad.core.ids import ROOT, Uid
from replicad.core.records import DIRECTORY
from replicad.core.view import ObjectState, View

Item = TypeVar("Item", bound=Hashable)


class Slot(NamedTuple):
    """A name in a directory of the tree; `directory` is the smallest of its UIDs, b"" for the root."""

    directory: Uid
    name: bytes


def place_of(state: ObjectState) -> tuple[Uid, bytes] | None:
    """The effective (parent, name); None while no place is known."""
    if state.cut is not None:
        return state.cut
    place = state.record.place
    return (place.parent, place.name) if place is not None else None


def rep_of(state: ObjectState) -> Uid:
    """The UID under which a directory stands in slots."""
    return state.group if state.group is not None else state.record.uid


def rep(view: View, directory: Uid) -> Uid:
    """The UID under which `directory` stands in slots; itself where it is not held."""
    state = view.object(directory) if directory != ROOT else None
    return rep_of(state) if state is not None else directory


def members(view: View, directory: Uid) -> Sequence[Uid]:
    """All UIDs of the directory to which `directory` belongs, ascending."""
    state = view.object(directory) if directory != ROOT else None
    return (directory,) if state is None or state.group is None else view.group_members(state.group)


def slot_of(view: View, uid: Uid) -> Slot | None:
    """The slot that the object contests; None where it contests none: not held, gone and not kept, or not usable."""
    state = view.object(uid)
    place = place_of(state) if state is not None and state.present else None
    return Slot(rep(view, place[0]), place[1]) if place is not None else None


def present_at(view: View, parent: Uid, name: bytes) -> list[ObjectState]:
    """The present objects whose effective place is (parent, name)."""
    found = [state for state in view.objects(view.present_named(parent, name)) if state.cut is None]
    uids = view.cut_named(parent, name)
    found.extend(state for state in (view.objects(uids) if uids else ()) if state.present)
    return found


def present_below(view: View, parent: Uid) -> list[ObjectState]:
    """The present objects whose effective parent is `parent`: costs as much as there are."""
    found = [state for state in view.objects(view.present_children(parent)) if state.cut is None]
    found.extend(_cut_into(view, parent))
    return found


def _cut_into(view: View, parent: Uid) -> list[ObjectState]:
    uids = view.cut_into(parent)
    return [state for state in view.objects(uids) if state.present] if uids else []


class Worklist(Generic[Item]):
    """First in, first out; what is waiting already is not taken twice."""

    def __init__(self) -> None:
        self._queue: deque[Item] = deque()
        self._waiting: set[Item] = set()

    def push(self, item: Item) -> None:
        if item not in self._waiting:
            self._waiting.add(item)
            self._queue.append(item)

    def upcoming(self, limit: int) -> list[Item]:
        """The first `limit` of those that wait."""
        return list(islice(self._queue, limit))

    def __iter__(self) -> Iterator[Item]:
        """Takes each item out, those too that are pushed meanwhile."""
        while self._queue:
            item = self._queue.popleft()
            self._waiting.remove(item)
            yield item


class Revision:
    """One bringing up to date of the tree: the draft, and every touched object as it was before."""

    def __init__(self, draft: Draft, changed: Iterable[tuple[Uid, ObjectState | None]]) -> None:
        self.draft = draft
        self.before: dict[Uid, ObjectState | None] = {}
        """Of an object named twice the first state counts."""
        for uid, state in changed:
            self.before.setdefault(uid, state)

    def update(self, uid: Uid, **changes: Any) -> None:
        """Store a decision about an object that is held."""
        self.before.setdefault(uid, self.draft.object(uid))
        self.draft.update(uid, **changes)

    def old(self, uid: Uid) -> ObjectState | None:
        return self.before[uid] if uid in self.before else self.draft.object(uid)

    def old_rep(self, directory: Uid) -> Uid:
        state = self.old(directory) if directory != ROOT else None
        return rep_of(state) if state is not None else directory

    def old_slot(self, uid: Uid) -> Slot | None:
        """`slot_of` as it was before."""
        state = self.old(uid)
        place = place_of(state) if state is not None and state.present else None
        return Slot(self.old_rep(place[0]), place[1]) if place is not None else None

    def slots(self) -> set[Slot]:
        """Every slot whose outcome may differ from before."""
        found: set[Slot | None] = set()
        for uid in self.before:
            found.update((self.old_slot(uid), slot_of(self.draft, uid)))
            if self.old_rep(uid) != rep(self.draft, uid):
                for child in present_below(self.draft, uid):
                    found.update((self.old_slot(child.record.uid), slot_of(self.draft, child.record.uid)))
        return {slot for slot in found if slot is not None}


def is_directory(state: ObjectState | None) -> bool:
    return state is not None and state.record.kind == DIRECTORY
