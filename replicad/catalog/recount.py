"""The proof of what commits keep up by differences: everything counted anew from the rows. For tests and `doctor`."""

from __future__ import annotations

import sqlite3

import msgspec
from sqlalchemy import select

from replicad.catalog.prepared import prepared
from replicad.catalog.rows import STORED_COLUMNS, object_state, stored_node, stored_object
from replicad.catalog.schema import METADATA, NODE, OBJECT, REPLICA
from replicad.catalog.summary import Summary
from replicad.catalog.sums import checked
from replicad.core.cnset import CNSet
from replicad.core.digest import register_sum
from replicad.core.draft import DIGEST_MODULUS
from replicad.core.ids import Cn
from replicad.core.view import ROOT_NODE

_OBJECTS = prepared(select(*(OBJECT.c[name] for name in STORED_COLUMNS)))
_NODES = prepared(select(NODE))
_OTHERS = {
    table.name: prepared(select(*(column for column in table.c if column.name != "no" or table is REPLICA)))
    for table in METADATA.sorted_tables
    if table not in (OBJECT, NODE)
}
"""Of these only the sums are looked at."""


class Recount(msgspec.Struct, frozen=True):
    digest: int
    objects: int
    bytes: int
    pending_objects: int
    pending_bytes: int
    held: CNSet
    position_max: int
    node_max: int
    dangling: int
    """Objects at a node, or hidden beneath one, that is not there."""


def recount(db: sqlite3.Connection, where: object) -> Recount:
    """Reads every row. Raises CatalogError where one is not the one that was written."""
    digest = objects = size = pending = pending_bytes = position_max = dangling = 0
    held: list[Cn] = []
    for table, sql in _OTHERS.items():
        for stored in db.execute(sql):
            checked(stored, table, where)
    nodes = {ROOT_NODE, *(stored_node(stored, where).id for stored in db.execute(_NODES))}
    for stored in db.execute(_OBJECTS):
        row = stored_object(stored, where)
        state = object_state(row)
        digest += register_sum(state.record)
        objects += state.record.live
        size += row.size
        pending += row.pending_commit is not None
        pending_bytes += row.pending_bytes
        position_max = max(position_max, row.position)
        held.extend(state.record.cns())
        dangling += any(node is not None and node not in nodes for node in (row.node, row.beneath))
    return Recount(
        digest % DIGEST_MODULUS,
        objects,
        size,
        pending,
        pending_bytes,
        CNSet.of(held),
        position_max,
        max(nodes),
        dangling,
    )


def faults(found: Recount, summary: Summary) -> list[str]:
    """In what the sums, counters and sets kept differ from the rows; one line each, empty where all is well."""
    lines = [
        f"{name} is kept as {getattr(summary, name)}, the rows give {getattr(found, name)}"
        for name in ("digest", "objects", "bytes", "pending_objects", "pending_bytes")
        if getattr(summary, name) != getattr(found, name)
    ]
    if not summary.known.contains_all(found.held):
        lines.append(f"CNs are held that are not known: {found.held.minus(summary.known).show()}")
    if found.held.last(summary.replica) > summary.counter or summary.known.last(summary.replica) > summary.counter:
        lines.append(f"the counter is {summary.counter}, but a higher one of this replica id is known")
    if found.position_max > summary.head:
        lines.append(f"the head is {summary.head}, but position {found.position_max} is there")
    if found.node_max >= summary.next_node:
        lines.append(f"the next node is {summary.next_node}, but {found.node_max} is there")
    if found.dangling:
        lines.append(f"{found.dangling} objects name an entry of the disk that is not there")
    return lines
