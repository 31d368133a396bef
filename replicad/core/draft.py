"""A draft: the changes of one step, laid over a view.

The core reads and writes drafts only; the catalog stores a draft in one transaction (`Catalog.commit`), in which the
CNs it allocated become durable (I5) and each changed record gets its position. A draft that is dropped leaves nothing
behind but, at worst, unused node ids.

Lookups see the draft's own changes: every index of `View` is answered for view and draft together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from replicad.core.cnset import CNSet
from replicad.core.digest import register_sum
from replicad.core.ids import ROOT, Cn, FolderId, ReplicaId, Uid
from replicad.core.view import ROOT_NODE, Node, NodeId, ObjectState, View

DIGEST_MODULUS = 2**128


def _same_record(one: ObjectState, other: ObjectState) -> bool:
    a, b = one.record, other.record
    return a is b or (a.place_raw == b.place_raw and a.content_raw == b.content_raw and a.kind == b.kind)


_Condition = Callable[[ObjectState], bool]


class Draft:
    """Implements View over `view` and the changes made here. Not thread-safe; short-lived."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.known: CNSet = view.known
        self.digest: int = view.digest
        self.replica: ReplicaId = view.replica
        self.counter: int = view.counter
        self.next_node: NodeId = view.next_node
        self.states: dict[Uid, ObjectState] = {}
        """Objects changed here, whole."""
        self.dropped: dict[Uid, None] = {}
        """Objects taken out of the catalog (collection, rule 11); none of them is in `states`."""
        self.stored: dict[Uid, None] = {}
        """UIDs whose record changed, in the order in which they get their positions."""
        self.nodes: dict[NodeId, Node | None] = {}
        """Disk entries changed here; None: no longer there."""

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
        there = {state.record.uid: state for state in self.view.objects(u for u in wanted if u not in self.states)}
        found = [self.states.get(uid) or (None if uid in self.dropped else there.get(uid)) for uid in wanted]
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
        self.states.pop(uid, None)
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
        return self._where(
            self.view.named(parent, name),
            lambda s: s.record.place is not None and s.record.place.parent == parent and s.record.place.name == name,
        )

    def children(self, parent: Uid) -> Sequence[Uid]:
        return self._where(
            self.view.children(parent), lambda s: s.record.place is not None and s.record.place.parent == parent
        )

    def cuts(self) -> Sequence[Uid]:
        return self._where(self.view.cuts(), lambda s: s.cut is not None)

    def group_members(self, group: Uid) -> Sequence[Uid]:
        return self._where(self.view.group_members(group), lambda s: s.group == group)

    def pending(self, limit: int) -> Sequence[Uid]:
        found = self.view.pending(limit + len(self.states) + len(self.dropped))
        left = [
            uid for uid in found if uid not in self.dropped and (uid not in self.states or self.states[uid].pending)
        ]
        seen = set(left)
        return [*left, *(uid for uid, state in self.states.items() if state.pending and uid not in seen)][:limit]

    def uids_at(self, node: NodeId) -> Sequence[Uid]:
        if node == ROOT_NODE:
            return (ROOT,)
        return self._where(self.view.uids_at(node), lambda s: s.node == node)

    def hidden_at(self, node: NodeId) -> Sequence[Uid]:
        return self._where(self.view.hidden_at(node), lambda s: s.beneath == node)

    def _where(self, found: Sequence[Uid], holds: _Condition) -> Sequence[Uid]:
        """`found` of the view, corrected by what the draft changed."""
        if not self.states and not self.dropped:
            return found
        left = {uid for uid in found if uid not in self.states and uid not in self.dropped}
        left.update(uid for uid, state in self.states.items() if holds(state))
        return sorted(left)

    # -- disk entries

    def node(self, node: NodeId) -> Node | None:
        return self.nodes[node] if node in self.nodes else self.view.node(node)

    def node_at(self, parent: NodeId, name: bytes) -> Node | None:
        for node in self.nodes.values():
            if node is not None and node.parent == parent and node.name == name:
                return node
        found = self.view.node_at(parent, name)
        return None if found is None or found.id in self.nodes else found

    def nodes_in(self, parent: NodeId) -> Sequence[Node]:
        found = [node for node in self.view.nodes_in(parent) if node.id not in self.nodes]
        found.extend(node for node in self.nodes.values() if node is not None and node.parent == parent)
        return sorted(found, key=lambda node: node.name)

    def node_by_inode(self, inode: int) -> Sequence[Node]:
        found = [node for node in self.view.node_by_inode(inode) if node.id not in self.nodes]
        found.extend(node for node in self.nodes.values() if node is not None and node.inode == inode)
        return sorted(found, key=lambda node: node.id)

    def put_node(self, node: Node) -> None:
        self.nodes[node.id] = node

    def new_node_id(self) -> NodeId:
        self.next_node += 1
        return self.next_node - 1

    def drop_node(self, node: NodeId) -> None:
        self.nodes[node] = None
