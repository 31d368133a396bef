"""The indexes of `View` as dictionaries: what a draft lays over a view, and what a view in memory is made of.

Each is a bucket of ids per key; a lookup costs what it finds. One change of an object costs a constant number of
dictionary operations, whatever the number of objects.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

from replicad.core.ids import Uid
from replicad.core.view import Node, NodeId, ObjectState

Key = TypeVar("Key", bound=Hashable)
Id = TypeVar("Id", bytes, int)


class Buckets(Generic[Key, Id]):
    """Ids by key. An id is in one bucket at most; None as a key is no bucket."""

    __slots__ = ("_ids",)

    def __init__(self) -> None:
        self._ids: dict[Key, dict[Id, None]] = {}

    def at(self, key: Key) -> Iterable[Id]:
        """The ids at `key`, in the order in which they came there."""
        return self._ids.get(key, ())

    def move(self, found: Id, before: Key | None, after: Key | None) -> None:
        if before == after:
            return
        if before is not None:
            bucket = self._ids[before]
            del bucket[found]
            if not bucket:
                del self._ids[before]
        if after is not None:
            self._ids.setdefault(after, {})[found] = None


class ObjectIndexes:
    """Of objects; called with each one's state before and after (None: not there)."""

    __slots__ = (
        "beneath",
        "children",
        "cut_into",
        "cut_named",
        "cuts",
        "groups",
        "named",
        "nodes",
        "pending",
        "present",
        "present_named",
    )

    def __init__(self) -> None:
        self.named: Buckets[tuple[Uid, bytes], Uid] = Buckets()
        self.children: Buckets[Uid, Uid] = Buckets()
        self.present_named: Buckets[tuple[Uid, bytes], Uid] = Buckets()
        self.present: Buckets[Uid, Uid] = Buckets()
        """Those children that are present."""
        self.cuts: Buckets[bool, Uid] = Buckets()
        self.cut_into: Buckets[Uid, Uid] = Buckets()
        self.cut_named: Buckets[tuple[Uid, bytes], Uid] = Buckets()
        self.groups: Buckets[Uid, Uid] = Buckets()
        self.nodes: Buckets[NodeId, Uid] = Buckets()
        self.beneath: Buckets[NodeId, Uid] = Buckets()
        self.pending: Buckets[bool, Uid] = Buckets()

    def move(self, uid: Uid, before: ObjectState | None, after: ObjectState | None) -> None:
        old, new = _Keys(before), _Keys(after)
        self.named.move(uid, old.named, new.named)
        self.children.move(uid, old.parent, new.parent)
        self.present.move(uid, old.present, new.present)
        self.present_named.move(uid, old.present_named, new.present_named)
        self.cuts.move(uid, old.cut, new.cut)
        self.cut_into.move(uid, old.cut_into, new.cut_into)
        self.cut_named.move(uid, old.cut_named, new.cut_named)
        self.groups.move(uid, old.group, new.group)
        self.nodes.move(uid, old.node, new.node)
        self.beneath.move(uid, old.beneath, new.beneath)
        self.pending.move(uid, old.pending, new.pending)


class _Keys:
    """The keys under which a state is found; none for what is not there."""

    __slots__ = (
        "beneath",
        "cut",
        "cut_into",
        "cut_named",
        "group",
        "named",
        "node",
        "parent",
        "pending",
        "present",
        "present_named",
    )

    def __init__(self, state: ObjectState | None) -> None:
        place = state.record.place if state is not None else None
        cut = state.cut if state is not None else None
        self.named = (place.parent, place.name) if place is not None else None
        self.parent = place.parent if place is not None else None
        present = state is not None and state.present
        self.present_named = self.named if present else None
        self.present = self.parent if present else None
        self.cut = True if cut is not None else None
        self.cut_into = cut[0] if cut is not None else None
        self.cut_named = cut
        self.group = state.group if state is not None else None
        self.node = state.node if state is not None else None
        self.beneath = state.beneath if state is not None else None
        self.pending = True if state is not None and state.pending else None


class NodeIndexes:
    """Of disk entries."""

    __slots__ = ("inodes", "names", "parents")

    def __init__(self) -> None:
        self.names: Buckets[tuple[NodeId, bytes], NodeId] = Buckets()
        self.parents: Buckets[NodeId, NodeId] = Buckets()
        self.inodes: Buckets[int, NodeId] = Buckets()

    def move(self, before: Node | None, after: Node | None) -> None:
        there = after or before
        if there is None:
            return
        self.names.move(there.id, _name(before), _name(after))
        self.parents.move(there.id, before.parent if before else None, after.parent if after else None)
        self.inodes.move(there.id, before.inode if before else None, after.inode if after else None)


def _name(node: Node | None) -> tuple[NodeId, bytes] | None:
    return (node.parent, node.name) if node is not None else None
