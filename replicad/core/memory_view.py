"""A `View` in memory: what a catalog answers, from dictionaries. For tests and the simulator's oracles.

`apply` does with a draft what `Catalog.commit` does: positions follow the head in the order of `draft.stored`.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from itertools import islice

import msgspec

from replicad.core.cnset import EMPTY, CNSet
from replicad.core.draft import Draft
from replicad.core.ids import ROOT, FolderId, ReplicaId, Uid
from replicad.core.indexes import NodeIndexes, ObjectIndexes
from replicad.core.view import FIRST_FREE_NODE, ROOT_NODE, Node, NodeId, ObjectState


class MemoryView:
    """Implements View; changed by `apply` alone."""

    def __init__(self, folder: FolderId, replica: ReplicaId) -> None:
        self.folder = folder
        self.replica = replica
        self.counter = 0
        self.known: CNSet = EMPTY
        self.digest = 0
        self.head = 0
        self.next_node: NodeId = FIRST_FREE_NODE
        self.siblings = False
        self.states: dict[Uid, ObjectState] = {}
        self.nodes: dict[NodeId, Node] = {}
        self._indexes = ObjectIndexes()
        self._node_indexes = NodeIndexes()

    def apply(self, draft: Draft) -> None:
        """Take in what `draft`, which was laid over this view as it is now, has changed."""
        assert draft.view is self, "a draft is applied to the view it was laid over"
        for uid in draft.dropped:
            self._set(uid, None)
        positions = {uid: self.head + 1 + index for index, uid in enumerate(draft.stored)}
        for uid in sorted(draft.states):  # the order of `pending`
            state = draft.states[uid]
            self._set(uid, msgspec.structs.replace(state, position=positions.get(uid, state.position)))
        for node_id, node in draft.nodes.items():
            self._set_node(node_id, node)
        self.head += len(positions)
        self.known, self.digest = draft.known, draft.digest
        self.replica, self.counter, self.next_node = draft.replica, draft.counter, draft.next_node
        self.siblings = draft.siblings

    def _set(self, uid: Uid, state: ObjectState | None) -> None:
        self._indexes.move(uid, self.states.pop(uid, None), state)
        if state is not None:
            self.states[uid] = state

    def _set_node(self, node_id: NodeId, node: Node | None) -> None:
        self._node_indexes.move(self.nodes.pop(node_id, None), node)
        if node is not None:
            self.nodes[node_id] = node

    def object(self, uid: Uid) -> ObjectState | None:
        return self.states.get(uid)

    def objects(self, uids: Iterable[Uid]) -> Sequence[ObjectState]:
        return [self.states[uid] for uid in sorted(set(uids)) if uid in self.states]

    def named(self, parent: Uid, name: bytes) -> Sequence[Uid]:
        return sorted(self._indexes.named.at((parent, name)))

    def children(self, parent: Uid) -> Sequence[Uid]:
        return sorted(self._indexes.children.at(parent))

    def present_named(self, parent: Uid, name: bytes) -> Sequence[Uid]:
        return sorted(self._indexes.present_named.at((parent, name)))

    def present_children(self, parent: Uid, limit: int | None = None) -> Sequence[Uid]:
        found = self._indexes.present.at(parent)
        return sorted(found) if limit is None else heapq.nsmallest(limit, found)

    def cuts(self) -> Sequence[Uid]:
        return sorted(self._indexes.cuts.at(True))

    def cut_into(self, parent: Uid) -> Sequence[Uid]:
        return sorted(self._indexes.cut_into.at(parent))

    def cut_named(self, parent: Uid, name: bytes) -> Sequence[Uid]:
        return sorted(self._indexes.cut_named.at((parent, name)))

    def group_members(self, group: Uid) -> Sequence[Uid]:
        return sorted(self._indexes.groups.at(group))

    def pending(self, limit: int) -> Sequence[Uid]:
        return list(islice(self._indexes.pending.at(True), limit))

    def uids_at(self, node: NodeId) -> Sequence[Uid]:
        return (ROOT,) if node == ROOT_NODE else sorted(self._indexes.nodes.at(node))

    def hidden_at(self, node: NodeId) -> Sequence[Uid]:
        return sorted(self._indexes.beneath.at(node))

    def node(self, node: NodeId) -> Node | None:
        return self.nodes.get(node)

    def node_at(self, parent: NodeId, name: bytes) -> Node | None:
        return next((self.nodes[found] for found in self._node_indexes.names.at((parent, name))), None)

    def nodes_in(self, parent: NodeId, limit: int | None = None) -> Sequence[Node]:
        found = (self.nodes[child] for child in self._node_indexes.parents.at(parent))
        return sorted(found, key=lambda node: node.name)[:limit]

    def node_by_inode(self, inode: int) -> Sequence[Node]:
        return [self.nodes[found] for found in sorted(self._node_indexes.inodes.at(inode))]

    def look_ahead(
        self,
        *,
        names: Iterable[tuple[Uid, bytes]] = (),
        entries: Iterable[tuple[NodeId, bytes]] = (),
        nodes: Iterable[NodeId] = (),
        inodes: Iterable[int] = (),
    ) -> None:
        """Everything is in memory."""
