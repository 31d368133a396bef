"""A draft: the changes of one step, laid over a view.

The core reads and writes drafts only; the catalog stores a draft in one transaction (`Catalog.commit`), in which the
CNs it allocated become durable (I5) and each changed record gets its position. A draft that is dropped leaves nothing
behind but, at worst, unused node ids.

Lookups see the draft's own changes: every index of `View` is answered for view and draft together. A draft may hold
tens of thousands of changes, so it has indexes of its own: a lookup costs what the view and the draft find for it.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, TypeVar

import msgspec

from replicad.core.cnset import CNSet
from replicad.core.digest import register_sum
from replicad.core.ids import ROOT, Cn, FolderId, ReplicaId, Uid
from replicad.core.indexes import NodeIndexes, ObjectIndexes
from replicad.core.view import ROOT_NODE, Node, NodeId, ObjectState, View

DIGEST_MODULUS = 2**128
Found = TypeVar("Found")
FIRST_ASKED = 64
"""Where a view is asked for the first few of many and the draft may have taken some of them: the first try. Each next
one asks for four times as many, so all together cost what one that knew would."""


def _same_record(one: ObjectState, other: ObjectState) -> bool:
    a, b = one.record, other.record
    return a is b or (a.place_raw == b.place_raw and a.content_raw == b.content_raw and a.kind == b.kind)


class Draft:
    """Implements View over `view` and the changes made here. Not thread-safe; short-lived."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.known: CNSet = view.known
        self.digest: int = view.digest
        self.replica: ReplicaId = view.replica
        self.counter: int = view.counter
        self.next_node: NodeId = view.next_node
        self.siblings: bool = view.siblings
        self.states: dict[Uid, ObjectState] = {}
        """Objects changed here, whole."""
        self.dropped: dict[Uid, None] = {}
        """Objects taken out of the catalog (collection, rule 11); none of them is in `states`."""
        self.stored: dict[Uid, None] = {}
        """UIDs whose record changed, in the order in which they get their positions."""
        self.nodes: dict[NodeId, Node | None] = {}
        """Disk entries changed here; None: no longer there."""
        self._indexes = ObjectIndexes()
        """Of `states`."""
        self._node_indexes = NodeIndexes()
        """Of `nodes`."""

    # -- objects

    @property
    def folder(self) -> FolderId:
        return self.view.folder

    @property
    def head(self) -> int:
        return self.view.head

    def object(self, uid: Uid) -> ObjectState | None:
        if uid in self.states:
            return self.states[uid]
        return None if uid in self.dropped else self.view.object(uid)

    def objects(self, uids: Iterable[Uid]) -> Sequence[ObjectState]:
        wanted = sorted(set(uids))
        elsewhere = [uid for uid in wanted if uid not in self.states and uid not in self.dropped]
        there = {state.record.uid: state for state in self.view.objects(elsewhere)} if elsewhere else {}
        found = (self.states.get(uid) or there.get(uid) for uid in wanted)
        return [state for state in found if state is not None]

    def put(self, state: ObjectState) -> None:
        """Take `state` as this object's. A changed record is entered into the sum and queued for a new position."""
        uid = state.record.uid
        before = self.object(uid)
        if before is None or not _same_record(before, state):
            self._account(before, state)
            self.stored.pop(uid, None)
            self.stored[uid] = None
        self.dropped.pop(uid, None)
        self._indexes.move(uid, self.states.get(uid), state)
        self.states[uid] = state

    def update(self, uid: Uid, **changes: Any) -> ObjectState:
        """`put` of a copy with `changes`; the object must be there."""
        state = self.object(uid)
        assert state is not None, "an object is updated that is not held"
        changed = msgspec.structs.replace(state, **changes)
        self.put(changed)
        return changed

    def drop(self, uid: Uid) -> None:
        """Take an object out of the catalog altogether."""
        before = self.object(uid)
        if before is None:
            return
        self._account(before, None)
        self._indexes.move(uid, self.states.pop(uid, None), None)
        self.stored.pop(uid, None)
        self.dropped[uid] = None

    def allocate(self) -> Cn:
        """The next CN of this replica; known from here on. Durable when the draft is committed, and not before."""
        self.counter += 1
        cn = Cn(self.replica, self.counter)
        self.known = self.known.add((cn,))
        return cn

    def learn(self, cns: CNSet) -> None:
        self.known = self.known.union(cns)

    def _account(self, before: ObjectState | None, after: ObjectState | None) -> None:
        old = register_sum(before.record) if before else 0
        new = register_sum(after.record) if after else 0
        self.digest = (self.digest - old + new) % DIGEST_MODULUS

    def named(self, parent: Uid, name: bytes) -> Sequence[Uid]:
        return self._where(self.view.named(parent, name), self._indexes.named.at((parent, name)))

    def children(self, parent: Uid) -> Sequence[Uid]:
        return self._where(self.view.children(parent), self._indexes.children.at(parent))

    def present_named(self, parent: Uid, name: bytes) -> Sequence[Uid]:
        return self._where(self.view.present_named(parent, name), self._indexes.present_named.at((parent, name)))

    def present_children(self, parent: Uid, limit: int | None = None) -> Sequence[Uid]:
        ours = self._indexes.present.at(parent)
        if limit is None:
            return self._where(self.view.present_children(parent), ours)
        left = self._first(lambda asked: self.view.present_children(parent, asked), limit, self._untouched)
        return list(heapq.merge(left, heapq.nsmallest(limit, ours)))[:limit]

    def cuts(self) -> Sequence[Uid]:
        return self._where(self._cuts_before, self._indexes.cuts.at(True))

    def cut_into(self, parent: Uid) -> Sequence[Uid]:
        found = self.view.cut_into(parent) if self._cuts_before else ()  # there are hardly ever any
        return self._where(found, self._indexes.cut_into.at(parent))

    def cut_named(self, parent: Uid, name: bytes) -> Sequence[Uid]:
        found = self.view.cut_named(parent, name) if self._cuts_before else ()
        return self._where(found, self._indexes.cut_named.at((parent, name)))

    @cached_property
    def _cuts_before(self) -> Sequence[Uid]:
        """A view does not change while a draft is laid over it."""
        return self.view.cuts()

    def group_members(self, group: Uid) -> Sequence[Uid]:
        return self._where(self.view.group_members(group), self._indexes.groups.at(group))

    def pending(self, limit: int) -> Sequence[Uid]:
        left = self._first(self.view.pending, limit, self._still_pending)
        if len(left) < limit:  # then these are all that the view has
            waiting = set(left)
            left += heapq.nsmallest(limit - len(left), (u for u in self._indexes.pending.at(True) if u not in waiting))
        return left

    def uids_at(self, node: NodeId) -> Sequence[Uid]:
        if node == ROOT_NODE:
            return (ROOT,)
        return self._where(self.view.uids_at(node), self._indexes.nodes.at(node))

    def hidden_at(self, node: NodeId) -> Sequence[Uid]:
        return self._where(self.view.hidden_at(node), self._indexes.beneath.at(node))

    def _where(self, found: Sequence[Uid], ours: Iterable[Uid]) -> Sequence[Uid]:
        """`found` of the view, without what the draft changed, and what the draft has instead."""
        if not self.states and not self.dropped:
            return found
        return sorted([*(uid for uid in found if self._untouched(uid)), *ours])

    def _untouched(self, uid: Uid) -> bool:
        return uid not in self.states and uid not in self.dropped

    def _still_pending(self, uid: Uid) -> bool:
        state = self.states.get(uid)
        return state.pending if state is not None else uid not in self.dropped

    def _first(self, ask: Callable[[int], Sequence[Found]], limit: int, holds: Callable[[Found], bool]) -> list[Found]:
        """The first `limit` of the view's that hold; `ask(n)` gives its first n."""
        asked = max(limit, FIRST_ASKED)
        while True:
            found = ask(asked)
            left = [one for one in found if holds(one)]
            if len(left) >= limit or len(found) < asked:
                return left[:limit]
            asked *= 4

    # -- disk entries

    def node(self, node: NodeId) -> Node | None:
        return self.nodes[node] if node in self.nodes else self.view.node(node)

    def node_at(self, parent: NodeId, name: bytes) -> Node | None:
        for node in self._ours(self._node_indexes.names.at((parent, name))):
            return node
        found = self.view.node_at(parent, name)
        return None if found is None or found.id in self.nodes else found

    def nodes_in(self, parent: NodeId, limit: int | None = None) -> Sequence[Node]:
        if limit is None:
            found = [node for node in self.view.nodes_in(parent) if node.id not in self.nodes]
        else:
            found = self._first(
                lambda asked: self.view.nodes_in(parent, asked), limit, lambda node: node.id not in self.nodes
            )
        found.extend(self._ours(self._node_indexes.parents.at(parent)))
        return sorted(found, key=lambda node: node.name)[:limit]

    def node_by_inode(self, inode: int) -> Sequence[Node]:
        found = [node for node in self.view.node_by_inode(inode) if node.id not in self.nodes]
        found.extend(self._ours(self._node_indexes.inodes.at(inode)))
        return sorted(found, key=lambda node: node.id)

    def look_ahead(
        self,
        *,
        names: Iterable[tuple[Uid, bytes]] = (),
        entries: Iterable[tuple[NodeId, bytes]] = (),
        nodes: Iterable[NodeId] = (),
        inodes: Iterable[int] = (),
    ) -> None:
        self.view.look_ahead(names=names, entries=entries, nodes=nodes, inodes=inodes)

    def _ours(self, ids: Iterable[NodeId]) -> Iterator[Node]:
        return (node for node in map(self.nodes.__getitem__, ids) if node is not None)

    def put_node(self, node: Node) -> None:
        self._node_indexes.move(self.nodes.get(node.id), node)
        self.nodes[node.id] = node

    def new_node_id(self) -> NodeId:
        self.next_node += 1
        return self.next_node - 1

    def drop_node(self, node: NodeId) -> None:
        self._node_indexes.move(self.nodes.get(node), None)
        self.nodes[node] = None
