"""Statements are written with SQLAlchemy Core, compiled once at import, and executed by the driver.

So a statement cannot name a column that the schema has not, and a lookup costs microseconds: executing the same
statement through a SQLAlchemy connection takes about ten times as long as SQLite needs to answer it. The driver keeps
the compiled programs (`database.STATEMENTS_KEPT`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import (
    CTE,
    BindParameter,
    Column,
    ColumnElement,
    Executable,
    Integer,
    Select,
    bindparam,
    column,
    literal_column,
    values,
)
from sqlalchemy.dialects.sqlite import dialect
from sqlalchemy.sql.compiler import SQLCompiler

_DIALECT = dialect(paramstyle="qmark")

MANY_KEYS = 128
"""Keys in one statement that asks for many: more save little, and SQLite's parser and ours stay cheap."""
FEW_KEYS = 4
"""Keys of the same statement where no more are asked for, as in most commits: binding 128 takes longer than asking."""

_Key = TypeVar("_Key", int, bytes, str)


def prepared(statement: Executable, *order: str) -> str:
    """The statement's SQL. `order` names its parameters as they are to be bound; asserted, for a mix-up is silent."""
    compiled = statement.compile(dialect=_DIALECT)  # type: ignore[attr-defined]
    assert isinstance(compiled, SQLCompiler)
    found = tuple(compiled.positiontup or ())
    assert found == order, f"the parameters are {found}, not {order}"
    assert all(bind.required for bind in compiled.binds.values()), "a value is bound in the statement itself"
    return str(compiled)


class Many(NamedTuple):
    """A statement about keys, of which it takes MANY_KEYS or FEW_KEYS; `padded` gives each with its keys."""

    many: str
    few: str


def prepared_many(statement: Executable) -> Many:
    """A statement with one `among` and no other parameter."""
    many = prepared(statement, *(f"key_{index}" for index in range(MANY_KEYS)))
    marks = f"({', '.join('?' * MANY_KEYS)})"
    assert many.count(marks) == 1, "the keys are not together"
    return Many(many, many.replace(marks, f"({', '.join('?' * FEW_KEYS)})"))


def at_most(statement: Select[*tuple[Any, ...]]) -> Select[*tuple[Any, ...]]:
    """With a limit, bound as `limit_`. (SQLAlchemy would bind an offset of 0 too.)"""
    return statement.limit(bindparam("limit_", type_=Integer)).offset(literal_column("0"))


def among(column: Column[object]) -> ColumnElement[bool]:
    binds: list[BindParameter[object]] = [bindparam(f"key_{index}") for index in range(MANY_KEYS)]
    return column.in_(binds)


def padded(statement: Many, keys: Sequence[_Key]) -> Iterator[tuple[str, list[_Key]]]:
    """The SQL and its row of keys, until all are asked for; the last row is filled up with its last key."""
    for start in range(0, len(keys), MANY_KEYS):
        part = list(keys[start : start + MANY_KEYS])
        sql, size = (statement.few, FEW_KEYS) if len(part) <= FEW_KEYS else (statement.many, MANY_KEYS)
        yield sql, part + part[-1:] * (size - len(part))


def wanted_pairs() -> CTE:
    """MANY_KEYS pairs, `first` and `second`, to be joined to a table; for statements made by `prepared_pairs`."""
    rows: list[tuple[BindParameter[object], BindParameter[object]]] = [
        (bindparam(f"first_{index}"), bindparam(f"second_{index}")) for index in range(MANY_KEYS)
    ]
    return values(column("first"), column("second"), name="wanted").data(rows).cte("wanted")


def prepared_pairs(statement: Executable) -> str:
    """A statement over one `wanted_pairs` and no parameter; to be bound to a row that `padded_pairs` gives."""
    return prepared(statement, *(name for index in range(MANY_KEYS) for name in (f"first_{index}", f"second_{index}")))


def padded_pairs(keys: Sequence[tuple[Any, Any]]) -> Iterator[list[Any]]:
    """`keys` in rows of MANY_KEYS, flat; in the last row the rest are NULL, which equals nothing."""
    for start in range(0, len(keys), MANY_KEYS):
        part = [one for key in keys[start : start + MANY_KEYS] for one in key]
        yield part + [None] * (2 * MANY_KEYS - len(part))
