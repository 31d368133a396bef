"""Storing a draft: inside the transaction of a commit, from the rows that are there to the rows that are to be.

Only columns that differ are written: an index whose columns stay is not touched. Sums and counts follow from each pair
of rows, so they are right whatever the draft did.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from functools import lru_cache
from operator import itemgetter
from typing import NamedTuple

import msgspec
from sqlalchemy import ColumnElement, Table, bindparam, delete, insert, select, update

from replicad.catalog.lookups import Replicas
from replicad.catalog.prepared import among, padded, prepared, prepared_many
from replicad.catalog.rows import (
    PLAIN_COLUMNS,
    STORED_COLUMNS,
    NodeRow,
    ObjectRow,
    Pair,
    Pending,
    node_row,
    object_row,
    stored_node,
    stored_object,
)
from replicad.catalog.schema import NODE, OBJECT
from replicad.catalog.summary import Summary
from replicad.catalog.sums import row_sum, summed
from replicad.core.cnset import CNSet
from replicad.core.digest import register_sum
from replicad.core.draft import DIGEST_MODULUS, Draft
from replicad.core.ids import Uid
from replicad.core.records import Record
from replicad.core.view import Node, NodeId

_OBJECT_COLUMNS = ObjectRow._fields
_NODE_COLUMNS = NodeRow._fields

_OLD_OBJECTS = prepared_many(
    select(OBJECT.c.no, *(OBJECT.c[name] for name in STORED_COLUMNS)).where(among(OBJECT.c.uid))
)
_OLD_NODES = prepared_many(select(NODE).where(among(NODE.c.id)))


def _insert(table: Table, columns: tuple[str, ...]) -> str:
    return prepared(insert(table).values({name: bindparam(name) for name in columns}), *columns)


_INSERT_OBJECT = _insert(OBJECT, STORED_COLUMNS)
_INSERT_PLAIN = _insert(OBJECT, (*_OBJECT_COLUMNS[:PLAIN_COLUMNS], "sum"))
_PLAIN_REST = (None,) * (len(_OBJECT_COLUMNS) - PLAIN_COLUMNS)
_INSERT_NODE = _insert(NODE, (*_NODE_COLUMNS, "sum"))
_DELETE_OBJECT = prepared(delete(OBJECT).where(OBJECT.c.no == bindparam("no_")), "no_")
_DELETE_NODE = prepared(delete(NODE).where(NODE.c.id == bindparam("id_")), "id_")

Columns = tuple[int, ...]
"""Indexes into a row."""


class Written(NamedTuple):
    """`installed`, `missing`: (replica number, counter) that left and that entered what is not installed; one in both
    has stayed. `pairs`: every object of the draft; `old_nodes`: those of its entries that were there before."""

    summary: Summary
    installed: list[tuple[int, int]]
    missing: list[tuple[int, int]]
    pairs: list[Pair]
    old_nodes: dict[NodeId, NodeRow]


def write_draft(db: sqlite3.Connection, draft: Draft, summary: Summary, replicas: Replicas, now_ms: int) -> Written:
    """Store the objects and entries of `draft`; returns the summary that is to be stored. `summary.commits` is that of
    this commit already.
    """
    assert draft.replica == summary.replica, "a draft allocated under another replica id"
    assert draft.counter >= summary.counter, "a draft over an older state"
    allocated = CNSet.span(draft.replica, summary.counter + 1, draft.counter)
    assert draft.known.contains_all(allocated), "a CN was allocated that is not known"
    pairs, head = _pairs(db, draft, summary.head, replicas, (summary.commits, now_ms))
    assert draft.digest == _digest(summary.digest, pairs), "a draft over an older state, or one that lost count"
    _write_objects(db, pairs)
    old_nodes = _write_nodes(db, draft.nodes, replicas)
    after = msgspec.structs.replace(
        summary,
        counter=draft.counter,
        head=head,
        digest=draft.digest,
        known=draft.known,
        next_node=draft.next_node,
    )
    return Written(*_counted(after, pairs), pairs, old_nodes)


def _digest(before: int, pairs: list[Pair]) -> int:
    """The sum as the rows have it. One that is wrong would be told to every member as a fault of the group."""
    total = before
    for _, old, new in pairs:
        if old is None or new is None or old.position != new.position:
            total += _row_sum(new) - _row_sum(old)
    return total % DIGEST_MODULUS


def _row_sum(row: ObjectRow | None) -> int:
    if row is None or (row.content_raw is not None and not row.live):
        return 0
    return register_sum(Record(row.uid, row.kind, None, None, row.place_raw or b"", row.content_raw or b""))


def _counted(summary: Summary, pairs: list[Pair]) -> tuple[Summary, list[tuple[int, int]], list[tuple[int, int]]]:
    """`summary` with its counts, and what entered and left the set of what is not installed."""
    objects, size = summary.objects, summary.bytes
    pending, pending_bytes = summary.pending_objects, summary.pending_bytes
    installed: list[tuple[int, int]] = []
    missing: list[tuple[int, int]] = []
    for _, old, new in pairs:
        if old is not None:
            objects -= old.live
            size -= old.size
            if old.pending_commit is not None:
                pending -= 1
                pending_bytes -= old.pending_bytes
                installed.extend(old.missing())
        if new is not None:
            objects += new.live
            size += new.size
            if new.pending_commit is not None:
                pending += 1
                pending_bytes += new.pending_bytes
                missing.extend(new.missing())
    counted = msgspec.structs.replace(
        summary, objects=objects, bytes=size, pending_objects=pending, pending_bytes=pending_bytes
    )
    return counted, installed, missing


def _since(old: ObjectRow | None, now: Pending) -> Pending:
    """Since when it waits: as before, if it did."""
    if old is None or old.pending_commit is None or old.pending_since_ms is None:
        return now
    return old.pending_commit, old.pending_since_ms


def _pairs(db: sqlite3.Connection, draft: Draft, head: int, replicas: Replicas, now: Pending) -> tuple[list[Pair], int]:
    """Every object of the draft before and after, and the new head. Positions follow the draft's order."""
    positions = {uid: head + index for index, uid in enumerate(draft.stored, 1)}
    there = _old_objects(db, [*draft.states, *draft.dropped], replicas.where)
    pairs = []
    for uid, state in draft.states.items():
        no, old = there.get(uid, (None, None))
        position = positions.get(uid)
        assert position is not None or old is not None, "a new object is not among those to be stored"
        since = _since(old, now) if state.pending else None
        if position is not None:
            new = object_row(state, replicas, position, now[1], since)
        else:
            assert old is not None
            new = object_row(state, replicas, old.position, old.stored_ms, since)
            assert new.place_raw == old.place_raw, "a place changed unnoticed"
            assert new.content_raw == old.content_raw, "a content changed unnoticed"
        pairs.append(Pair(no, old, new))
    pairs.extend(Pair(*there[uid], None) for uid in draft.dropped if uid in there)
    return pairs, head + len(positions)


def _old_objects(db: sqlite3.Connection, uids: list[Uid], where: object) -> dict[Uid, tuple[int, ObjectRow]]:
    return {
        row[1]: (row[0], stored_object(row[1:], where))
        for sql, keys in padded(_OLD_OBJECTS, uids)
        for row in db.execute(sql, keys).fetchall()
    }


def _write_objects(db: sqlite3.Connection, pairs: list[Pair]) -> None:
    # A position is unique and never given twice, so no order of these statements can collide.
    if not pairs:
        return
    if gone := [(pair.no,) for pair in pairs if pair.new is None]:
        db.executemany(_DELETE_OBJECT, gone)
    if new := [pair.new for pair in pairs if pair.old is None and pair.new is not None]:
        db.executemany(_INSERT_PLAIN, _plain_rows(row for row in new if row[PLAIN_COLUMNS:] == _PLAIN_REST))
        db.executemany(_INSERT_OBJECT, [summed(row) for row in new if row[PLAIN_COLUMNS:] != _PLAIN_REST])
    updates = ((pair.no, pair.old, pair.new) for pair in pairs if pair.old is not None and pair.new is not None)
    _update(db, "object", updates)


def _plain_rows(rows: Iterable[ObjectRow]) -> list[tuple[object, ...]]:
    return [(*row[:PLAIN_COLUMNS], row_sum(row)) for row in rows]


def _write_nodes(
    db: sqlite3.Connection, nodes: Mapping[NodeId, Node | None], replicas: Replicas
) -> dict[NodeId, NodeRow]:
    """Returns the rows that were there.

    Entries that change their name go out before they come in: two that swap names would meet in the unique index.
    """
    if not nodes:
        return {}
    there = {
        row[0]: stored_node(row, replicas.where)
        for sql, keys in padded(_OLD_NODES, list(nodes))
        for row in db.execute(sql, keys).fetchall()
    }
    leaving: list[tuple[int]] = []
    coming: list[NodeRow] = []
    staying: list[tuple[int, NodeRow, NodeRow]] = []
    for node_id, node in nodes.items():
        old = there.get(node_id)
        new = node_row(node, replicas) if node is not None else None
        if old is not None and new is not None and (old.parent, old.name) == (new.parent, new.name):
            staying.append((node_id, old, new))
            continue
        if old is not None:
            leaving.append((node_id,))
        if new is not None:
            coming.append(new)
    if leaving:
        db.executemany(_DELETE_NODE, leaving)
    if coming:
        db.executemany(_INSERT_NODE, map(summed, coming))
    _update(db, "node", staying)
    return there


def _update(
    db: sqlite3.Connection, table: str, rows: Iterable[tuple[int | None, tuple[object, ...], tuple[object, ...]]]
) -> None:
    """Of (key, old row, new row): write what differs, and the sum, one statement for all rows in which the same
    columns do."""
    same_columns: dict[Columns, list[tuple[object, ...]]] = {}
    for key, old, new in rows:
        columns = tuple([index for index, (was, is_) in enumerate(zip(old, new, strict=True)) if was != is_])
        if columns:
            values = itemgetter(*columns)(new) if len(columns) > 1 else (new[columns[0]],)
            same_columns.setdefault(columns, []).append((*values, row_sum(new), key))
    for columns, parameters in same_columns.items():
        db.executemany(_update_sql(table, columns), parameters)


_UPDATES_KEPT = 128
"""Sets of columns that change together: a few dozen occur."""


@lru_cache(_UPDATES_KEPT)
def _update_sql(table: str, columns: Columns) -> str:
    target: Table = {"object": OBJECT, "node": NODE}[table]
    names = [(_OBJECT_COLUMNS if table == "object" else _NODE_COLUMNS)[index] for index in columns] + ["sum"]
    key: ColumnElement[int] = OBJECT.c.no if table == "object" else NODE.c.id
    # SQLAlchemy orders SET by the table's columns, which is the order of `columns`.
    statement = update(target).values({name: bindparam(f"{name}_") for name in names})
    return prepared(statement.where(key == bindparam("key_")), *(f"{name}_" for name in names), "key_")
