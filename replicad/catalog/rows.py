"""Rows of `object` and `node`, to and from the core's values.

An object's row is a function of its state, its position, and since when it is pending; so a commit finds what an update
must write by comparing the row that is there with the row that is to be.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import msgspec

from replicad.catalog.sums import checked
from replicad.core.ids import REPLICA_MAX, ROOT, Cn, ReplicaId
from replicad.core.records import DIRECTORY, Record, Stamp, open_record
from replicad.core.view import Node, ObjectState
from replicad.errors import CatalogError, ProtocolError

SIZE_MAX = 2**62
"""A larger size counts as this: `SUM(size >> 32)` and `SUM(size & 0xFFFFFFFF)` then hold for 2^31 objects."""

_stamp_decoder = msgspec.msgpack.Decoder(Stamp)
_encode = msgspec.msgpack.Encoder().encode


Pending = tuple[int, int]
"""Since when: (commit, time in milliseconds)."""


class Interning(Protocol):
    """The short numbers of replica ids."""

    def number(self, replica: ReplicaId) -> int:
        """Makes one for an id that is new."""

    def replica(self, number: int) -> ReplicaId: ...


class ObjectRow(NamedTuple):
    """The columns of `object` but `no` and the sum, in their order."""

    uid: bytes
    kind: int
    parent: bytes | None
    name: bytes | None
    place_replica: int | None
    place_counter: int | None
    place_raw: bytes | None
    content_replica: int | None
    content_counter: int | None
    content_raw: bytes | None
    live: int
    size: int
    present: int
    position: int
    stored_ms: int
    pending_commit: int | None
    pending_since_ms: int | None
    kept: int
    node: int | None
    base_place_raw: bytes | None
    base_content_raw: bytes | None
    beneath: int | None
    beneath_seen: bytes | None
    cut_parent: bytes | None
    cut_name: bytes | None
    group_uid: bytes | None
    prior: bytes | None

    @property
    def pending_bytes(self) -> int:
        """Live content that is not installed yet."""
        waits = self.pending_commit is not None and (self.node is None or self.base_content_raw is not None)
        return self.size if waits else 0

    def cns(self, *, place: bool = True, content: bool = True) -> tuple[tuple[int, int], ...]:
        """(replica number, counter) of those of these registers that are known."""
        found = []
        if place and self.place_counter is not None:
            found.append((self.place_replica, self.place_counter))
        if content and self.content_counter is not None:
            found.append((self.content_replica, self.content_counter))
        return tuple(found)  # type: ignore[arg-type]  # a CHECK says that both halves of a CN are there

    def missing(self) -> tuple[tuple[int, int], ...]:
        """Of the registers that are known and not installed: docs/catalog.md."""
        if self.pending_commit is None:
            return ()
        return self.cns(
            place=self.node is None or self.base_place_raw is not None,
            content=self.node is None or self.base_content_raw is not None,
        )


class Pair(NamedTuple):
    """One object before and after a commit; None: not in the catalog. `no`: its row number, None for a new one."""

    no: int | None
    old: ObjectRow | None
    new: ObjectRow | None


PLAIN_COLUMNS = ObjectRow._fields.index("base_place_raw")
"""So many columns, the first ones, suffice for most new objects: binding a NULL costs as much as binding a value."""


class NodeRow(NamedTuple):
    """The columns of `node` but the sum, in their order."""

    id: int
    parent: int
    name: bytes
    kind: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    birth_ns: int
    mode: int
    shows_replica: int | None
    shows_counter: int | None


def object_row(
    state: ObjectState, interning: Interning, position: int, stored_ms: int, pending: Pending | None
) -> ObjectRow:
    held = state.record
    place, content = held.place, held.content
    live = content is not None and content.gone is None
    pending_commit, pending_since_ms = pending or (None, None)
    cut_parent, cut_name = state.cut or (None, None)
    row = (
        held.uid,
        held.kind,
        place.parent if place is not None else None,
        place.name if place is not None else None,
        interning.number(place.replica) if place is not None else None,
        place.counter if place is not None else None,
        held.place_raw or None,
        interning.number(content.replica) if content is not None else None,
        content.counter if content is not None else None,
        held.content_raw or None,
        1 if live else 0,
        min(max(content.size, 0), SIZE_MAX) if content is not None and live else 0,
        1 if state.present else 0,
        position,
        stored_ms,
        pending_commit,
        pending_since_ms,
        1 if state.kept else 0,
        state.node,
        state.base_place_raw or None,
        state.base_content_raw or None,
        state.beneath,
        _encode(state.beneath_seen) if state.beneath_seen is not None else None,
        cut_parent,
        cut_name,
        state.group,
        _prior(held),
    )
    return ObjectRow._make(row)


def _prior(held: Record) -> bytes | None:
    """The directory to which a move of this one would fall back, where that is neither its parent nor the root."""
    place = held.place
    if held.kind != DIRECTORY or place is None or not place.prior_name:
        return None
    return place.prior_parent if place.prior_parent not in (ROOT, place.parent) else None


STORED_COLUMNS = (*ObjectRow._fields, "sum")
"""What is read of an object: with the sum over all of it."""


def stored_object(row: tuple[Any, ...], where: object) -> ObjectRow:
    """Of the STORED_COLUMNS. Raises CatalogError where the row is not the one that was written."""
    return ObjectRow._make(checked(row, "object", where))


def object_state(row: ObjectRow) -> ObjectState:
    """A register that cannot be read was not written by us: CatalogError."""
    try:
        held = open_record(row.uid, row.kind, row.place_raw or b"", row.content_raw or b"")
    except ProtocolError as error:
        raise CatalogError(f"the catalog holds a record that cannot be read, {row.uid.hex()}: {error}") from error
    return ObjectState(
        record=held,
        node=row.node,
        base_place_raw=row.base_place_raw or b"",
        base_content_raw=row.base_content_raw or b"",
        beneath=row.beneath,
        beneath_seen=None if row.beneath_seen is None else _stamp_decoder.decode(row.beneath_seen),
        pending=row.pending_commit is not None,
        cut=None if row.cut_parent is None or row.cut_name is None else (row.cut_parent, row.cut_name),
        kept=bool(row.kept),
        group=row.group_uid,
        position=row.position,
    )


def signed(inode: int) -> int:
    """SQLite has no unsigned numbers; some filesystems number beyond 2^63."""
    return inode if inode < 2**63 else inode - 2**64


def node_row(node: Node, interning: Interning) -> NodeRow:
    shows = node.shows
    return NodeRow(
        node.id,
        node.parent,
        node.name,
        node.kind,
        signed(node.inode),
        node.size,
        node.mtime_ns,
        node.ctime_ns,
        node.birth_ns,
        node.mode,
        None if shows is None else interning.number(shows.replica),
        None if shows is None else shows.counter,
    )


def stored_node(row: tuple[Any, ...], where: object) -> NodeRow:
    """Of the columns of `node`. Raises CatalogError where the row is not the one that was written."""
    return NodeRow._make(checked(row, "node", where))


def node_value(row: NodeRow, interning: Interning) -> Node:
    shows = (
        None
        if row.shows_replica is None or row.shows_counter is None
        else Cn(interning.replica(row.shows_replica), row.shows_counter)
    )
    return Node(row[0], row[1], row[2], row[3], row[4] & REPLICA_MAX, row[5], row[6], row[7], row[8], row[9], shows)
