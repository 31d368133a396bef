"""Reads by ranges of UIDs: what the registers there add up to (core.digest), for a comparison with a peer."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import bindparam, select

from replicad.catalog.pages import Pages
from replicad.catalog.prepared import at_most, prepared
from replicad.catalog.rows import STORED_COLUMNS, stored_object
from replicad.catalog.schema import OBJECT
from replicad.core.digest import register_sum
from replicad.core.draft import DIGEST_MODULUS
from replicad.core.ids import Uid
from replicad.core.records import Record

_SUMS = prepared(
    at_most(
        select(*(OBJECT.c[name] for name in STORED_COLUMNS))
        .where(OBJECT.c.uid > bindparam("after_"), OBJECT.c.uid <= bindparam("upto_"))
        .order_by(OBJECT.c.uid)
    ),
    "after_",
    "upto_",
    "limit_",
)


class RangeRows(NamedTuple):
    """`sums`: by UID, of what is not gone. Read up to `reached`; `rows` were looked at."""

    sums: list[tuple[Uid, int]]
    reached: Uid
    rows: int


class Ranges(Pages):
    def range_sums(self, after: Uid, upto: Uid, limit: int) -> RangeRows:
        """Of the objects in `(after, upto]`, the first `limit` of them. All of them add up to the digest."""
        rows = self._rows(_SUMS, after, upto, limit)
        sums = []
        for stored in rows:
            row = stored_object(stored, self._where)
            if row.live or row.content_raw is None:
                held = Record(row.uid, row.kind, None, None, row.place_raw or b"", row.content_raw or b"")
                sums.append((row.uid, register_sum(held) % DIGEST_MODULUS))
        return RangeRows(sums, rows[-1][0] if len(rows) == limit else upto, len(rows))
