"""Answers about sets of CNs: pages of a series, records having certain CNs, backlogs.

An object answers to the CNs of its two registers. Sets come in intervals per replica id. Where a replica id has few,
each is a range in an index; where it has many, one range over all of them is read, and each row is looked up in the
set: so the cost is bounded by the rows in the range, whatever a peer's set looks like.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Select, bindparam, func, literal_column, or_, select

from replicad.catalog.database import converted
from replicad.catalog.ledger import Ledger
from replicad.catalog.lookups import Replicas
from replicad.catalog.prepared import at_most, prepared
from replicad.catalog.rows import STORED_COLUMNS, object_state, stored_object
from replicad.catalog.schema import OBJECT
from replicad.core.cnset import CNSet, Interval
from replicad.core.ids import COUNTER_MAX, Cn, ReplicaId
from replicad.core.messages import WireRecord
from replicad.core.records import Record

PAGE_SCAN_ROWS_MAX = 8_192
"""Rows that one page looks at: some 30 ms, in which the folder's thread does nothing else."""
RANGES_MAX = 64
"""Intervals of one replica id that are asked for one by one; more are one range."""


class PageRows(msgspec.Struct, frozen=True):
    """Records by rising position in `(begin, end]`, and what was true of the catalog in the same transaction.

    `cns` are the CNs of the registers given. `known` is the whole CNSet where `end` is `head`, else None.
    """

    replica: ReplicaId
    begin: int
    end: int
    head: int
    records: tuple[WireRecord, ...]
    cns: CNSet
    known: CNSet | None


class Tally(msgspec.Struct, frozen=True):
    """Objects with a register whose CN is in a set: a backlog.

    `files` counts them all, tombstones and directories included; `bytes` is the live content whose own CN is in the
    set (a rename has none); `live` counts the live ones of these; `oldest_ms` is when the first of `files` was stored
    here, None where there is none.
    """

    files: int
    bytes: int
    live: int
    oldest_ms: int | None


def _in_range(replica: str, counter: str) -> ColumnElement[bool]:
    return (OBJECT.c[replica] == bindparam("replica_")) & OBJECT.c[counter].between(
        bindparam("first_"), bindparam("last_")
    )


_STORED: Select[Any] = select(*(OBJECT.c[name] for name in STORED_COLUMNS))
_RANGE = ("replica_", "first_", "last_")
_BY_PLACE, _BY_CONTENT = _in_range("place_replica", "place_counter"), _in_range("content_replica", "content_counter")
_SCAN = prepared(
    at_most(_STORED.where(OBJECT.c.position > bindparam("after_")).order_by(OBJECT.c.position)), "after_", "limit_"
)
_CONTENT_SUMS = prepared(
    select(
        func.count(),
        # A sum of sizes may overflow, and SQLite raises then: high and low halves cannot (rows.SIZE_MAX).
        func.coalesce(func.sum(OBJECT.c.size.op(">>")(literal_column("32"))), literal_column("0")),
        func.coalesce(func.sum(OBJECT.c.size.op("&")(literal_column("4294967295"))), literal_column("0")),
        func.coalesce(func.sum(OBJECT.c.live), literal_column("0")),
        func.min(OBJECT.c.stored_ms),
    ).where(_BY_CONTENT),
    *_RANGE,
)
_CONTENT_ROWS = prepared(
    select(OBJECT.c.content_counter, OBJECT.c.size, OBJECT.c.live, OBJECT.c.stored_ms).where(_BY_CONTENT), *_RANGE
)
_PLACE_ROWS = prepared(
    select(OBJECT.c.place_counter, OBJECT.c.content_replica, OBJECT.c.content_counter, OBJECT.c.stored_ms).where(
        _BY_PLACE,
        # Both registers of one change (a creation) are counted by the content.
        or_(
            OBJECT.c.content_counter.is_(None),
            OBJECT.c.content_counter != OBJECT.c.place_counter,
            OBJECT.c.content_replica != OBJECT.c.place_replica,
        ),
    ),
    *_RANGE,
)
_RECORDS_BY_PLACE = prepared(
    select(OBJECT.c.place_counter, *(OBJECT.c[name] for name in STORED_COLUMNS)).where(_BY_PLACE), *_RANGE
)
_RECORDS_BY_CONTENT = prepared(
    select(OBJECT.c.content_counter, *(OBJECT.c[name] for name in STORED_COLUMNS)).where(_BY_CONTENT), *_RANGE
)
_PENDING_ROWS = prepared(_STORED.where(OBJECT.c.pending_commit.is_not(None)))


class _Numbered:
    """A CNSet asked by (replica number, counter), without making a Cn of each row. An absent register is in it."""

    __slots__ = ("_parts",)

    def __init__(self, cns: CNSet, replicas: Replicas) -> None:
        self._parts: dict[int, tuple[Interval, ...]] = {}
        for replica, parts in cns.items():
            number = replicas.number_if_seen(replica)
            if number is not None:
                self._parts[number] = parts

    def has(self, number: int | None, counter: int | None) -> bool:
        if number is None or counter is None:
            return True
        parts = self._parts.get(number)
        if parts is None:
            return False
        index = bisect_right(parts, (counter, COUNTER_MAX)) - 1
        return index >= 0 and parts[index][1] >= counter

    def ranges(self) -> Iterator[tuple[int, int, int, bool]]:
        """(replica number, first, last, whether every counter in the range is in the set)."""
        for number, parts in self._parts.items():
            if len(parts) > RANGES_MAX:
                yield number, parts[0][0], parts[-1][1], False
            else:
                yield from ((number, first, last, True) for first, last in parts)


class Pages(Ledger):
    """Reads by sets of CNs."""

    def page(self, after: int, base: CNSet, records_max: int, bytes_max: int) -> PageRows:
        """The next page of a series for an asker who has read to `after` and holds `base`.

        At most `records_max` records and `bytes_max` bytes of registers, but always one record where there is one. An
        `after` beyond the head (the asker has read a state of this catalog that was lost) reads as the head.
        """
        begin = end = min(after, self.head)
        held = _Numbered(base, self._replicas)
        records: list[WireRecord] = []
        cns: list[tuple[int, int]] = []
        left = bytes_max
        scanned = 0
        with converted(self._where), closing(self._db.execute(_SCAN, (begin, PAGE_SCAN_ROWS_MAX))) as cursor:
            for stored in cursor:
                row = stored_object(stored, self._where)
                place_held = held.has(row.place_replica, row.place_counter)
                content_held = held.has(row.content_replica, row.content_counter)
                if not (place_held and content_held):
                    place = b"" if place_held else row.place_raw
                    content = b"" if content_held else row.content_raw
                    wire = WireRecord(row.uid, row.kind, place or b"", content or b"")
                    left -= len(wire.place) + len(wire.content)
                    if len(records) == records_max or (left < 0 and records):
                        break
                    records.append(wire)
                    cns += row.cns(place=not place_held, content=not content_held)
                end = row.position
                scanned += 1
            else:
                # Nothing lies beyond the last row but what was superseded or dropped.
                end = self.head if scanned < PAGE_SCAN_ROWS_MAX else end
        known = self.known if end == self.head else None
        return PageRows(self.replica, begin, end, self.head, tuple(records), self._set(cns), known)

    def with_cns(self, cns: CNSet, limit: int) -> Sequence[Record]:
        """At most `limit` records that have a register whose CN is in `cns`, in the order of their positions."""
        wanted = _Numbered(cns.intersect(self.known), self._replicas)
        found: dict[bytes, tuple[Any, ...]] = {}
        for number, first, last, whole in wanted.ranges():
            for sql in (_RECORDS_BY_PLACE, _RECORDS_BY_CONTENT):
                with converted(self._where), closing(self._db.execute(sql, (number, first, last))) as cursor:
                    for row in cursor:
                        if len(found) == limit:
                            break
                        if whole or wanted.has(number, row[0]):
                            found[row[1]] = row[1:]
        states = [object_state(stored_object(row, self._where)) for row in found.values()]
        return [state.record for state in sorted(states, key=lambda state: state.position)]

    def tally(self, cns: CNSet) -> Tally:
        """Files, bytes and age of a backlog: see Tally."""
        wanted = _Numbered(cns.intersect(self.known), self._replicas)
        files = size = live = 0
        oldest: list[int] = []
        for number, first, last, whole in wanted.ranges():
            if whole:
                ((count, high, low, alive, stored_ms),) = self._rows(_CONTENT_SUMS, number, first, last)
                files, size, live = files + count, size + (high << 32) + low, live + alive
                oldest.extend([stored_ms] if count else [])
            else:
                for counter, bytes_, alive, stored_ms in self._rows(_CONTENT_ROWS, number, first, last):
                    if wanted.has(number, counter):
                        files, size, live = files + 1, size + bytes_, live + alive
                        oldest.append(stored_ms)
            for counter, content_no, content_counter, stored_ms in self._rows(_PLACE_ROWS, number, first, last):
                counted = content_counter is not None and wanted.has(content_no, content_counter)
                if not counted and (whole or wanted.has(number, counter)):
                    files += 1
                    oldest.append(stored_ms)
        return Tally(files, size, live, min(oldest, default=None))

    def counts(self) -> tuple[int, int]:
        """(live objects, bytes of live files)."""
        return self._summary.objects, self._summary.bytes

    @property
    def pending_objects(self) -> int:
        return self._summary.pending_objects

    def pending_tally(self) -> tuple[int, int, int | None]:
        """(pending objects, bytes of live content not yet installed, since when the longest waits)."""
        return self._summary.pending_objects, self._summary.pending_bytes, self.longest_pending_ms()

    def not_installed(self) -> CNSet:
        """The CNs of those registers of pending objects that are not the object's base."""
        rows = (stored_object(row, self._where) for row in self._rows(_PENDING_ROWS))
        return self._set([cn for row in rows for cn in row.missing()])

    def _set(self, cns: Sequence[tuple[int, int]]) -> CNSet:
        """Of (replica number, counter)."""
        return CNSet.of(Cn(self._replicas.replica(number), counter) for number, counter in cns)
