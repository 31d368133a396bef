"""The catalog's own entries of `meta`: one value that each commit replaces, and that a snapshot reads whole."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

import msgspec
from sqlalchemy import bindparam, delete, select
from sqlalchemy.dialects.sqlite import insert

from replicad.catalog.changes import OWN_META_PREFIX
from replicad.catalog.prepared import prepared
from replicad.catalog.schema import META
from replicad.catalog.sums import checked, summed
from replicad.core.cnset import EMPTY, CNSet
from replicad.core.ids import FolderId, ReplicaId
from replicad.core.view import FIRST_FREE_NODE, NodeId
from replicad.errors import CatalogError

_insert = insert(META).values({column.name: bindparam(column.name) for column in META.c})
PUT_META = prepared(
    _insert.on_conflict_do_update(
        index_elements=["key"], set_={"value": _insert.excluded.value, "sum": _insert.excluded.sum}
    ),
    *META.c.keys(),
)
"""Of a `summed` row."""
REMOVE_META = prepared(delete(META).where(META.c.key == bindparam("key_")), "key_")
ONE_META = prepared(select(META).where(META.c.key == bindparam("key_")), "key_")
ALL_META = prepared(select(META))

_sets = msgspec.msgpack.Decoder(list[list[int]])


class Summary(msgspec.Struct, frozen=True):
    """Sums and counters, kept up by differences in the transaction of each change; `Reader.recount` is their proof."""

    folder: FolderId
    replica: ReplicaId
    counter: int = 0
    head: int = 0
    digest: int = 0
    known: CNSet = EMPTY
    objects: int = 0
    bytes: int = 0
    pending_objects: int = 0
    pending_bytes: int = 0
    next_node: NodeId = FIRST_FREE_NODE
    next_id: int = 1
    commits: int = 0


def _number(value: int) -> bytes:
    return str(value).encode("ascii")


def _stored_set(rows: list[list[int]]) -> CNSet:
    """Not `CNSet.decode`: its limit on intervals is for peers, and what was stored must be readable again."""
    return CNSet({row[0]: tuple(zip(row[1::2], row[2::2], strict=True)) for row in rows})


_ENCODE: dict[str, Callable[[Any], bytes]] = {
    "folder": bytes,
    "replica": lambda replica: replica.to_bytes(8, "big"),
    "digest": lambda digest: digest.to_bytes(16, "big"),
    "known": lambda known: msgspec.msgpack.encode(known.encode()),
}
_DECODE: dict[str, Callable[[bytes], Any]] = {
    "folder": bytes,
    "replica": lambda raw: int.from_bytes(raw, "big"),
    "digest": lambda raw: int.from_bytes(raw, "big"),
    "known": lambda raw: _stored_set(_sets.decode(raw)),
}


def load_summary(db: sqlite3.Connection, where: object) -> Summary | None:
    """None in a catalog that was never used; raises CatalogError where an entry of `meta` was
    changed, is missing or cannot be read."""
    stored: dict[str, bytes] = dict(checked(row, "meta", where) for row in db.execute(ALL_META).fetchall())
    own = {key: value for key, value in stored.items() if key.startswith(OWN_META_PREFIX)}
    if not own:
        return None
    try:
        return Summary(
            **{name: _DECODE.get(name, int)(own[OWN_META_PREFIX + name]) for name in Summary.__struct_fields__}
        )
    except (KeyError, ValueError, msgspec.MsgspecError) as error:
        raise CatalogError(f"the catalog {where} is corrupt: its own entries cannot be read ({error})") from error


def store_summary(db: sqlite3.Connection, before: Summary | None, after: Summary) -> None:
    """Write the entries that differ."""
    changed = [
        summed((OWN_META_PREFIX + name, _ENCODE.get(name, _number)(getattr(after, name))))
        for name in Summary.__struct_fields__
        if before is None or getattr(before, name) != getattr(after, name)
    ]
    db.executemany(PUT_META, changed)
