"""When two states are one: a state as a flat row of numbers and bytes, in which what is irrelevant is taken out.

- Counters of each replica id, positions and node ids of each catalog, inode numbers of each disk: only their order
  counts, so they are replaced by their rank among those that occur anywhere in the state. Of a CNSet the ends of its
  intervals occur. A UID is a replica id and a counter.
- Replica ids are the same two in every state, and times are the number of operations so far: both are normal already.
- Numbers and names of intents and preserved files are left out; of a preserved file its content counts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import msgspec

from replicad.core.cnset import CNSet
from replicad.core.ids import ReplicaId, Uid
from replicad.core.messages import Page
from replicad.core.records import Content, Place, open_content, open_place
from replicad.core.series import Row
from replicad.core.view import FIRST_FREE_NODE, Node, ObjectState
from replicad.files.changes import Dirty, Moved
from tests.explore import disk as disks
from tests.explore.disk import Entry
from tests.explore.member import Made, Member, Own

_encode = msgspec.msgpack.Encoder().encode


class _Ranked(tuple[str, int, int]):
    """(what, of whom, number): replaced by its rank."""

    __slots__ = ()


class Line:
    """The row that is being written."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self._put = self.items.append

    def put(self, *items: object) -> None:
        self.items.extend(items)

    def counter(self, replica: ReplicaId, counter: int) -> None:
        self._put(_Ranked(("counter", replica, counter)))

    def position(self, replica: ReplicaId, position: int) -> None:
        self._put(_Ranked(("position", replica, position)))

    def node(self, owner: ReplicaId, node: int | None) -> None:
        self._put(node if node is None or node < FIRST_FREE_NODE else _Ranked(("node", owner, node)))

    def inode(self, owner: ReplicaId, inode: int) -> None:
        self._put(_Ranked(("inode", owner, inode)) if inode else 0)

    def uid(self, uid: Uid | None) -> None:
        if not uid:
            self._put(uid)
            return
        replica = int.from_bytes(uid[:8], "big")
        self._put(replica)
        self.counter(replica, int.from_bytes(uid[8:], "big"))

    def cns(self, cns: CNSet | None) -> None:
        if cns is None:
            self._put(None)
            return
        for replica, parts in cns.items():
            self.put(replica, len(parts))
            for first, last in parts:
                self.counter(replica, first)
                self.counter(replica, last)
        self._put(0)

    def place(self, place: Place | None) -> None:
        if place is None:
            self._put(None)
            return
        self._envelope(place)
        self.uid(place.parent)
        self.uid(place.prior_parent)
        self.put(place.name, place.prior_name)

    def content(self, content: Content | None) -> None:
        if content is None:
            self._put(None)
            return
        self._envelope(content)
        gone = content.gone
        self.put(*(gone.time_ms, gone.replica) if gone is not None else (None,))
        self.put(content.mode, content.mtime_ns, content.size, content.digest)

    def _envelope(self, register: Place | Content) -> None:
        self.put(register.replica, register.time_ms, len(register.vector))
        self.counter(register.replica, register.counter)
        for replica, counter in register.vector:
            self._put(replica)
            self.counter(replica, counter)

    def digest(self) -> bytes:
        ranks: dict[_Ranked, int] = {}
        before: tuple[str, int] = ("", 0)
        rank = 0
        for one in sorted({item for item in self.items if type(item) is _Ranked}):
            rank = rank + 1 if one[:2] == before else 1
            before = one[:2]
            ranks[one] = rank
        row = [ranks[item] if type(item) is _Ranked else item for item in self.items]
        return hashlib.blake2b(_encode(row), digest_size=16).digest()


def put_member(row: Line, member: Member, peer: ReplicaId) -> None:
    stored = member.stored
    own = stored.replica
    row.counter(own, stored.counter)
    row.position(own, 0)
    row.position(own, stored.head)
    row.cns(stored.known)
    row.put(len(stored.states))
    for state in stored.states:
        _put_state(row, state, own)
    row.put(len(stored.nodes))
    for node in stored.nodes:
        _put_node(row, node, own)
    row.put(*(one.blob for one in stored.intents), len(stored.outs))
    for part in (stored.row, member.row):
        _put_row(row, part, peer)
    row.put(len(member.parts), len(member.checkpoints), member.unwatched, len(member.hints))
    for one in member.parts:
        row.put(one.clean, one.closed)
        row.position(peer, one.head)
        row.cns(one.cns)
        for uid in sorted(one.uids or ()):
            row.uid(uid)
        row.put(0 if one.uids is not None else None)
    for checkpoint in member.checkpoints:
        row.position(peer, checkpoint.head)
        row.cns(checkpoint.shown)
        row.cns(checkpoint.lacking)
    row.cns(member.told)
    row.cns(member.offers)
    for hint in member.hints:
        _put_hint(row, hint, own)
    _put_disk(row, member, own)


def _put_row(row: Line, of: Row, peer: ReplicaId) -> None:
    row.position(peer, of.position)
    row.position(peer, of.head)


def _put_state(row: Line, state: ObjectState, own: ReplicaId) -> None:
    held = state.record
    row.uid(held.uid)
    row.put(held.kind, state.pending, state.kept)
    row.place(held.place)
    row.content(held.content)
    row.node(own, state.node)
    row.place(open_place(state.base_place_raw) if state.base_place_raw else None)
    row.content(open_content(state.base_content_raw) if state.base_content_raw else None)
    row.node(own, state.beneath)
    seen = state.beneath_seen
    row.put(*(seen.time_ms, seen.replica) if seen is not None else (None,))
    row.uid(state.group)
    if state.cut is not None:
        row.uid(state.cut[0])
        row.put(state.cut[1])
    row.put(state.cut is not None)
    row.position(own, state.position)


def _put_node(row: Line, node: Node, own: ReplicaId) -> None:
    row.node(own, node.id)
    row.node(own, node.parent)
    row.inode(own, node.inode)
    row.put(node.name, node.kind, node.size, node.mtime_ns, node.ctime_ns, node.birth_ns, node.mode)
    if node.shows is not None:
        row.put(node.shows.replica)
        row.counter(node.shows.replica, node.shows.counter)
    else:
        row.put(None)


def _put_hint(row: Line, hint: object, own: ReplicaId) -> None:
    match hint:
        case Dirty(directory, name, inode, renamed, closed):
            row.put(directory, name, renamed, closed)
            row.inode(own, inode)
        case Moved(old, new):
            row.put(old, new)
        case Own(path):
            row.put(path)


def _put_disk(row: Line, member: Member, own: ReplicaId) -> None:
    """Of what is private only what is preserved, and what lies in staging."""
    disk = member.disk
    for path, entry in disks.tree(disk):
        row.put(path)
        _put_entry(row, entry, own)
    row.put(disk.root.watched, disk.root.walked)
    for name, entry in disks.private(disk, b"staging"):
        if name != b"witness":
            row.put(name)
            _put_entry(row, entry, own)
    row.put(0, *disks.stored(disk))
    for free in disk.free:
        row.inode(own, free)
    row.inode(own, disk.last)


def _put_entry(row: Line, entry: Entry, own: ReplicaId) -> None:
    row.inode(own, entry.inode)
    row.put(entry.kind, entry.mode, entry.mtime_ns, entry.ctime_ns, entry.birth_ns, entry.data)
    row.put(entry.watched, entry.walked)


def put_page(row: Line, page: Page) -> None:
    row.put(type(page).__name__, len(page.records), page.settled)
    for number in (page.begin, page.end, page.head):
        row.position(page.replica, number)
    row.cns(CNSet.decode(page.known) if page.known is not None else None)
    for wire in page.records:
        row.uid(wire.uid)
        row.place(open_place(wire.place) if wire.place else None)
        row.content(open_content(wire.content) if wire.content else None)


def put_made(row: Line, made: Iterable[Made]) -> None:
    """What somebody does not know yet; the key is that of a register which is held, or was."""
    for one in made:
        row.put(one.cn.replica, one.content, *one.key[:-1])
        row.counter(one.cn.replica, one.cn.counter)
        row.uid(one.uid)
