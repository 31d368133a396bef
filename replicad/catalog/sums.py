"""The sum that every row carries: whether a row is the one that was written.

SQLite notices a page that is no page, and an index that does not fit its rows, but not a value that became another one:
by a disk, by memory, by hand. A folder that believes such a value may use a CN twice, claim what it does not hold, or
take an edit for one that it has seen. So each row has the sum of all its values in its last column, written with it,
and is held against that whenever it is read whole; `Reader.faults` reads every row. What is asked of an index alone
(which rows there are) is not: rows are read before anything is done with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from xxhash import xxh3_64_intdigest

from replicad.catalog.database import MEND
from replicad.errors import CatalogError

_encode = msgspec.msgpack.Encoder().encode


class ChangedRowError(CatalogError):
    """A row is not the one that was written. `fault`: in few words."""

    def __init__(self, where: object, table: str) -> None:
        self.fault = f"a value in its table {table} is not the one that was written"
        super().__init__(f"the catalog {where} cannot be used: {self.fault}; {MEND}")


def row_sum(values: Sequence[object]) -> int:
    """64 bits, signed; of the columns in their order, without row numbers that no value names (`no`) and the sum.

    It has to tell a row from one that chance made: nobody who can write into the file is kept out by it. The migration
    to 0004 has a copy.
    """
    found = xxh3_64_intdigest(_encode(values))
    return found if found < 2**63 else found - 2**64


def summed(values: Sequence[object]) -> tuple[Any, ...]:
    """The row as it is stored."""
    return (*values, row_sum(values))


def checked(row: tuple[Any, ...], table: str, where: object) -> tuple[Any, ...]:
    """The values of a row of `table` as it was read, its sum last. Raises ChangedRowError."""
    values = row[:-1]
    if row_sum(values) != row[-1]:
        raise ChangedRowError(where, table)
    return values
