"""The writer's lookups, remembered from commit to commit.

A bulk change asks some 40 questions a file, most of them about the same directories, and the rest about objects that
the last commit has just written. A statement costs 5 to 10 µs where the answer is in SQLite's cache; and each lets go
of the interpreter's lock, for which the folder's thread then stands in line with those that serve and fetch. So the
answers are kept, negative ones too, and each commit brings those up to date whose rows it wrote: what is kept is at
every moment what the file would answer. One writer: nobody else changes what is kept.

Only lookups by a key are kept, and so many of each kind (KEPT_MAX); what may be long (the children of a directory, what
is pending) is not. `look_ahead` fills in for many keys with one statement what would be asked one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

import msgspec

from replicad.catalog.changes import OWN_META_PREFIX, SIBLINGS_META, AddOut, Change, RemoveOut, SetMeta
from replicad.catalog.ledger import Ledger
from replicad.catalog.lookups import Lookups
from replicad.catalog.rows import NodeRow, ObjectRow, Pair
from replicad.core.draft import Draft
from replicad.core.ids import REPLICA_MAX, ROOT, Uid
from replicad.core.records import DIRECTORY
from replicad.core.view import ROOT_NODE, Node, NodeId, ObjectState

KEPT_MAX = 4_096
"""Answers of each kind: 6 MB a folder at most; a batch is planned on 2,048 objects."""
KEPT_LEFT = KEPT_MAX * 3 // 4
"""So many are left when the oldest make room."""
AHEAD_MIN = 16
"""Keys that are worth a statement for many: that one takes as long as some 15 others."""

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class Answers:
    """What is kept, by the lookup that it answers."""

    def __init__(self) -> None:
        self.objects: dict[Uid, ObjectState | None] = {}
        self.present_named: dict[tuple[Uid, bytes], tuple[Uid, ...]] = {}
        self.group_members: dict[Uid, tuple[Uid, ...]] = {}
        self.uids_at: dict[NodeId, tuple[Uid, ...]] = {}
        self.hidden_at: dict[NodeId, tuple[Uid, ...]] = {}
        self.nodes: dict[NodeId, Node | None] = {}
        self.node_at: dict[tuple[NodeId, bytes], Node | None] = {}
        self.by_inode: dict[int, tuple[Node, ...]] = {}
        self.cuts: Sequence[Uid] | None = None
        self.metas: dict[str, bytes | None] = {}
        self.first_out_ms: tuple[int | None] | None = None
        """None: not known. So are these:"""
        self.longest_pending_ms: tuple[int | None] | None = None
        self.first_tombstone_ms: tuple[int | None] | None = None

    def follow(
        self, draft: Draft, pairs: Iterable[Pair], old_nodes: Mapping[NodeId, NodeRow], first_new: NodeId
    ) -> None:
        """Bring what is kept in step with a commit; node ids from `first_new` on were not used before it."""
        for node_id, node in draft.nodes.items():
            if node_id >= first_new:
                self.uids_at.setdefault(node_id, ())
                self.hidden_at.setdefault(node_id, ())
            self.nodes[node_id] = node
            old = old_nodes.get(node_id)
            if old is not None:
                self.node_at[old.parent, old.name] = None
            self._follow_inode(node_id, old, node)
        for node in draft.nodes.values():  # when all have left: two may have changed places
            if node is not None:
                self.node_at[node.parent, node.name] = node
        for pair in pairs:
            self._follow_object(pair, draft)
        kept: tuple[dict[Any, Any], ...] = (self.objects, self.uids_at, self.hidden_at, self.nodes, self.node_at)
        for one in kept:
            _make_room(one)

    def follow_changes(self, changes: Iterable[Change]) -> None:
        """As `follow`, for what is committed beside a draft."""
        for change in changes:
            match change:
                case SetMeta(key, value):
                    self.metas[key] = value
                case AddOut() | RemoveOut():
                    self.first_out_ms = None

    def _follow_inode(self, node_id: NodeId, old: NodeRow | None, new: Node | None) -> None:
        before = old.inode & REPLICA_MAX if old is not None else None
        after = new.inode if new is not None else None
        for inode in (before, after) if before != after else (before,):
            if inode is not None and inode in self.by_inode:
                left = [node for node in self.by_inode[inode] if node.id != node_id]
                left += [new] if new is not None and inode == after else []
                self.by_inode[inode] = tuple(sorted(left, key=lambda node: node.id))

    def _follow_object(self, pair: Pair, draft: Draft) -> None:
        old, new = pair.old, pair.new
        if new is not None:
            uid, state = new.uid, draft.states[new.uid]
            self.objects[uid] = msgspec.structs.replace(state, position=new.position)
        else:
            assert old is not None, "an object that was not there is dropped"
            uid = old.uid
            self.objects[uid] = None
        _shift(self.present_named, uid, _present_key(old), _present_key(new))
        _shift(self.uids_at, uid, old and old.node, new and new.node)
        _shift(self.hidden_at, uid, old and old.beneath, new and new.beneath)
        _shift(self.group_members, uid, old and old.group_uid, new and new.group_uid)
        rows = [row for row in (old, new) if row is not None]
        if any(row.cut_parent is not None for row in rows):
            self.cuts = None
        if any(row.pending_commit is not None for row in rows):
            self.longest_pending_ms = None
        if not all(row.live for row in rows):
            self.first_tombstone_ms = None


def _present_key(row: ObjectRow | None) -> tuple[Uid, bytes] | None:
    return (row.parent, row.name) if row is not None and row.present else None  # type: ignore[return-value]


def _shift(kept: dict[_Key, tuple[Uid, ...]], uid: Uid, before: _Key | None, after: _Key | None) -> None:
    """An object has left one key of an index for another."""
    if before == after:
        return
    if before is not None and before in kept:
        kept[before] = tuple(other for other in kept[before] if other != uid)
    if after is not None and after in kept:
        kept[after] = tuple(sorted((*kept[after], uid)))


def _make_room(kept: dict[_Key, _Value]) -> None:
    if len(kept) > KEPT_MAX:
        for key in list(islice(kept, len(kept) - KEPT_LEFT)):
            del kept[key]


class Remembering(Ledger):
    """Implements View; to be mixed in before the lookups of a catalog. `_answers` is brought in step at each commit."""

    _answers: Answers

    def object(self, uid: Uid) -> ObjectState | None:
        return self._kept(self._answers.objects, uid, super().object)

    def objects(self, uids: Iterable[Uid]) -> Sequence[ObjectState]:
        kept = self._answers.objects
        wanted = sorted(set(uids))
        found = {uid: kept[uid] for uid in wanted if uid in kept}
        if len(found) < len(wanted):
            missing = [uid for uid in wanted if uid not in found]
            asked: dict[Uid, ObjectState | None] = dict.fromkeys(missing)
            asked.update((state.record.uid, state) for state in super().objects(missing))
            found.update(asked)
            if len(missing) <= KEPT_LEFT:
                kept.update(asked)
                _make_room(kept)
        return [state for uid in wanted if (state := found[uid]) is not None]

    def present_named(self, parent: Uid, name: bytes) -> Sequence[Uid]:
        kept = self._answers.present_named
        return self._kept(kept, (parent, name), lambda key: tuple(Lookups.present_named(self, *key)))

    def cuts(self) -> Sequence[Uid]:
        if self._answers.cuts is None:
            self._answers.cuts = tuple(super().cuts())
        return self._answers.cuts

    def cut_into(self, parent: Uid) -> Sequence[Uid]:
        return super().cut_into(parent) if self.cuts() else ()  # there are hardly ever any

    def cut_named(self, parent: Uid, name: bytes) -> Sequence[Uid]:
        return super().cut_named(parent, name) if self.cuts() else ()

    def group_members(self, group: Uid) -> Sequence[Uid]:
        return self._kept(self._answers.group_members, group, lambda key: tuple(Lookups.group_members(self, key)))

    def uids_at(self, node: NodeId) -> Sequence[Uid]:
        if node == ROOT_NODE:
            return (ROOT,)
        if node >= self.next_node:
            return ()
        return self._kept(self._answers.uids_at, node, lambda key: tuple(Lookups.uids_at(self, key)))

    def hidden_at(self, node: NodeId) -> Sequence[Uid]:
        if node >= self.next_node:
            return ()
        return self._kept(self._answers.hidden_at, node, lambda key: tuple(Lookups.hidden_at(self, key)))

    def node(self, node: NodeId) -> Node | None:
        return self._kept(self._answers.nodes, node, super().node) if node < self.next_node else None

    def node_at(self, parent: NodeId, name: bytes) -> Node | None:
        return self._kept(self._answers.node_at, (parent, name), lambda key: Lookups.node_at(self, *key))

    def nodes_in(self, parent: NodeId, limit: int | None = None) -> Sequence[Node]:
        node = self._answers.nodes.get(parent)
        return () if node is not None and node.kind != DIRECTORY else super().nodes_in(parent, limit)

    def node_by_inode(self, inode: int) -> Sequence[Node]:
        return self._kept(self._answers.by_inode, inode, lambda key: tuple(Lookups.node_by_inode(self, key)))

    def meta(self, key: str) -> bytes | None:
        own = key.startswith(OWN_META_PREFIX)
        return super().meta(key) if own else self._kept(self._answers.metas, key, super().meta)

    @property
    def siblings(self) -> bool:
        return self.meta(SIBLINGS_META) is not None

    def first_out_ms(self) -> int | None:
        if self._answers.first_out_ms is None:
            self._answers.first_out_ms = (super().first_out_ms(),)
        return self._answers.first_out_ms[0]

    def longest_pending_ms(self) -> int | None:
        if self._answers.longest_pending_ms is None:
            self._answers.longest_pending_ms = (super().longest_pending_ms(),)
        return self._answers.longest_pending_ms[0]

    def first_tombstone_ms(self) -> int | None:
        if self._answers.first_tombstone_ms is None:
            self._answers.first_tombstone_ms = (super().first_tombstone_ms(),)
        return self._answers.first_tombstone_ms[0]

    def _kept(self, kept: dict[_Key, _Value], key: _Key, ask: Callable[[_Key], _Value]) -> _Value:
        try:
            return kept[key]
        except KeyError:
            found = kept[key] = ask(key)
            _make_room(kept)
            return found

    def look_ahead(
        self,
        *,
        names: Iterable[tuple[Uid, bytes]] = (),
        entries: Iterable[tuple[NodeId, bytes]] = (),
        nodes: Iterable[NodeId] = (),
        inodes: Iterable[int] = (),
    ) -> None:
        answers = self._answers
        if lacking := _unknown(answers.present_named, names):
            _fill_in(answers.present_named, lacking, sorted(self._many_present_named(lacking)))
        if free := _unknown(answers.node_at, entries):
            answers.node_at.update(dict.fromkeys(free))
            for node in self._many_nodes_at(free):
                answers.node_at[node.parent, node.name] = answers.nodes[node.id] = node
            _make_room(answers.node_at)
            _make_room(answers.nodes)
        if unseen := _unknown(answers.by_inode, inodes):
            entries_found = sorted(self._many_by_inode(unseen), key=lambda node: node.id)
            _fill_in(answers.by_inode, unseen, ((node.inode, node) for node in entries_found))
        ids = [node_id for node_id in nodes if node_id < self.next_node]
        if empty := _unknown(answers.uids_at, ids):
            tenants = sorted(self._many_at_node(empty))
            _fill_in(answers.uids_at, empty, tenants)
            self.objects(uid for _, uid in tenants)
        if clear := _unknown(answers.hidden_at, ids):
            _fill_in(answers.hidden_at, clear, sorted(self._many_beneath(clear)))


def _unknown(kept: Mapping[_Key, object], keys: Iterable[_Key]) -> list[_Key]:
    """As many as find room, each once; none where they are so few that they are asked more cheaply one by one."""
    lacking = list(islice(dict.fromkeys(key for key in keys if key not in kept), KEPT_LEFT))
    return lacking if len(lacking) >= AHEAD_MIN else []


def _fill_in(kept: dict[_Key, tuple[_Value, ...]], asked: Iterable[_Key], found: Iterable[tuple[_Key, _Value]]) -> None:
    kept.update(dict.fromkeys(asked, ()))
    for key, value in found:
        kept[key] = (*kept[key], value)
    _make_room(kept)
