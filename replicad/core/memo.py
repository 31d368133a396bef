"""A view that remembers its answers: for a round of decisions on one state of a catalog.

Planning 512 files of one directory asks some 40 questions a file, nearly all of them about the same few objects and
entries; each is a statement of SQL. A `Memo` asks once. It holds as long as the view beneath does not change: whoever
makes it throws it away at the next commit. What may be long (the children of a directory) is not kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import TypeVar

from replicad.core.cnset import CNSet
from replicad.core.draft import Draft
from replicad.core.ids import ROOT, FolderId, ReplicaId, Uid
from replicad.core.view import ROOT_NODE, Node, NodeId, ObjectState, View

Key = TypeVar("Key")
Value = TypeVar("Value")


class Memo:
    """Implements View over `view`."""

    def __init__(self, view: View) -> None:
        self.view = view
        self._objects: dict[Uid, ObjectState | None] = {}
        self._present_named: dict[tuple[Uid, bytes], Sequence[Uid]] = {}
        self._group_members: dict[Uid, Sequence[Uid]] = {}
        self._nodes: dict[NodeId, Node | None] = {}
        self._node_at: dict[tuple[NodeId, bytes], Node | None] = {}
        self._uids_at: dict[NodeId, Sequence[Uid]] = {}

    def draft(self) -> Draft:
        """A draft over the same state; to be given to `close_draft` before it is committed."""
        return Draft(self)

    def close_draft(self, draft: Draft) -> Draft:
        """The draft as one over the view itself, which holds the same: a catalog commits only its own."""
        assert draft.view is self, "a draft over another view"
        draft.view = self.view
        return draft

    @property
    def folder(self) -> FolderId:
        return self.view.folder

    @property
    def replica(self) -> ReplicaId:
        return self.view.replica

    @property
    def counter(self) -> int:
        return self.view.counter

    @property
    def known(self) -> CNSet:
        return self.view.known

    @property
    def digest(self) -> int:
        return self.view.digest

    @property
    def head(self) -> int:
        return self.view.head

    @property
    def siblings(self) -> bool:
        return self.view.siblings

    @cached_property
    def next_node(self) -> NodeId:
        return self.view.next_node

    def object(self, uid: Uid) -> ObjectState | None:
        return _remembered(self._objects, uid, self.view.object)

    def objects(self, uids: Iterable[Uid]) -> Sequence[ObjectState]:
        wanted = sorted(set(uids))
        missing = [uid for uid in wanted if uid not in self._objects]
        if missing:
            self._objects.update(dict.fromkeys(missing))
            self._objects.update((state.record.uid, state) for state in self.view.objects(missing))
        return [state for uid in wanted if (state := self._objects[uid]) is not None]

    def named(self, parent: Uid, name: bytes) -> Sequence[Uid]:
        return self.view.named(parent, name)

    def children(self, parent: Uid) -> Sequence[Uid]:
        return self.view.children(parent)

    def present_named(self, parent: Uid, name: bytes) -> Sequence[Uid]:
        return _remembered(self._present_named, (parent, name), lambda key: self.view.present_named(*key))

    def present_children(self, parent: Uid, limit: int | None = None) -> Sequence[Uid]:
        return self.view.present_children(parent, limit)

    @cached_property
    def _all_cuts(self) -> Sequence[Uid]:
        return self.view.cuts()

    def cuts(self) -> Sequence[Uid]:
        return self._all_cuts

    def cut_into(self, parent: Uid) -> Sequence[Uid]:
        return self.view.cut_into(parent) if self._all_cuts else ()  # there are hardly ever any

    def cut_named(self, parent: Uid, name: bytes) -> Sequence[Uid]:
        return self.view.cut_named(parent, name) if self._all_cuts else ()

    def group_members(self, group: Uid) -> Sequence[Uid]:
        return _remembered(self._group_members, group, self.view.group_members)

    def pending(self, limit: int) -> Sequence[Uid]:
        return self.view.pending(limit)

    def node(self, node: NodeId) -> Node | None:
        return _remembered(self._nodes, node, self.view.node) if node < self.next_node else None

    def node_at(self, parent: NodeId, name: bytes) -> Node | None:
        return _remembered(self._node_at, (parent, name), lambda key: self.view.node_at(*key))

    def nodes_in(self, parent: NodeId, limit: int | None = None) -> Sequence[Node]:
        return self.view.nodes_in(parent, limit)

    def node_by_inode(self, inode: int) -> Sequence[Node]:
        return self.view.node_by_inode(inode)

    def uids_at(self, node: NodeId) -> Sequence[Uid]:
        if node == ROOT_NODE:
            return (ROOT,)
        return _remembered(self._uids_at, node, self.view.uids_at) if node < self.next_node else ()

    def hidden_at(self, node: NodeId) -> Sequence[Uid]:
        return self.view.hidden_at(node) if node < self.next_node else ()

    def look_ahead(
        self,
        *,
        names: Iterable[tuple[Uid, bytes]] = (),
        entries: Iterable[tuple[NodeId, bytes]] = (),
        nodes: Iterable[NodeId] = (),
        inodes: Iterable[int] = (),
    ) -> None:
        self.view.look_ahead(names=names, entries=entries, nodes=nodes, inodes=inodes)


def _remembered(held: dict[Key, Value], key: Key, ask: Callable[[Key], Value]) -> Value:
    try:
        return held[key]
    except KeyError:
        found = held[key] = ask(key)
        return found
