"""Every row has a sum: a value that is not the one that was written is met where it is read, or when all is counted."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Table

from replicad.catalog import migrating
from replicad.catalog.changes import (
    PRE_EXISTING,
    AddIntents,
    AddOut,
    AddPreserved,
    Change,
    Intent,
    Invitation,
    Manifest,
    Out,
    Peer,
    Preserved,
    PutInvitation,
    PutManifest,
    Series,
    SetMeta,
    SetPeer,
    SetPreservedDigest,
    SetReplicaOwner,
    SetSeries,
    TakeInvitation,
)
from replicad.catalog.database import MemoryDatabase
from replicad.catalog.schema import METADATA
from replicad.catalog.store import Catalog, Reader, fault_of
from replicad.catalog.sums import ChangedRowError
from replicad.core.cnset import EMPTY, CNSet
from replicad.core.draft import Draft
from replicad.core.ids import Uid, uid_of
from replicad.core.records import FILE
from replicad.core.view import ROOT_NODE, ObjectState
from replicad.errors import CatalogError
from tests.catalog.making import FOLDER, OWN, created, node

M = "aa" * 32
TABLES = tuple(METADATA.sorted_tables)
COUNTED = [
    (table, column.name)
    for table in TABLES
    for column in table.c
    if (table.name, column.name)
    not in {
        # Row numbers that no value names: an index that does not fit them is found by SQLite.
        ("object", "no"),
        ("manifest", "no"),
        ("invitation", "no"),
    }
]
KEPT: tuple[Change, ...] = (
    SetSeries(Series(M, 7, 5, 9)),
    SetPeer(Peer(M, b"status", 3, b"mark", 4, b"next", 77)),
    AddIntents((Intent(3, b"intent"),)),
    AddPreserved(Preserved(4, PRE_EXISTING, b"d/f", FILE, 5, b"", b"u" * 16, 7, 1_000, "why", b"4-f", 8)),
    SetPreservedDigest(4, b"d" * 32),
    AddOut(Out(5, b"out-5", b"note", 2_000)),
    PutManifest(Manifest(b"e" * 32, b"pages", 200_000)),
    PutInvitation(Invitation(b"t" * 16, b"token", 3, 9_000)),
    TakeInvitation(b"t" * 16),
    SetMeta("engine.phase", b"\xff: the greatest value"),
    SetReplicaOwner(7, M),
    SetReplicaOwner(OWN, M),
)


def test_the_document_says_of_every_column_what_a_changed_value_does() -> None:
    page = (Path(__file__).parents[2] / "docs/catalog.md").read_text()
    section = page.partition("## What a changed value does")[2].partition("\n## ")[0]
    lines = [line.split("|")[1:4] for line in section.splitlines() if line.startswith("| `")]
    told = [(table.strip(" `"), column.strip(" `")) for table, columns, _ in lines for column in columns.split(",")]
    assert sorted(told) == sorted((table.name, c.name) for table in TABLES for c in table.c if c.name != "sum")


def filled(source: Path | MemoryDatabase) -> Uid:
    """Rows in every table; the object's UID."""
    with closing(Catalog.open(source, FOLDER, lambda: OWN)) as catalog:
        draft = Draft(catalog)
        cn = draft.allocate()
        number = draft.new_node_id()
        draft.put_node(node(number, name=b"f", shows=cn))
        draft.put(ObjectState(created(cn, name=b"f"), node=number, pending=True, base_content_raw=b"before"))
        catalog.commit(draft, KEPT, now_ms=1)
        draft = Draft(catalog)
        draft.put_node(node(number, name=b"f", inode=6, shows=cn))  # a row that is updated has another sum
        draft.put(ObjectState(created(cn, name=b"f"), node=number, pending=True))
        catalog.commit(draft, now_ms=2)
        assert catalog.faults() == []
    return uid_of(cn)


@pytest.fixture(scope="module")
def sound() -> MemoryDatabase:
    database = MemoryDatabase()
    filled(database)
    return database


def change(db: sqlite3.Connection, table: Table, column: str) -> None:
    """Of the row with the greatest value there, in the row and its indexes."""
    ((old,),) = db.execute(f"SELECT {column} FROM {table.name} ORDER BY 1 DESC LIMIT 1").fetchall()
    new: object = b"u" * 16
    if isinstance(old, int):
        new = old ^ 5
    elif isinstance(old, str):
        new = old[:-1] + "b"
    elif old:
        new = old[:-1] + bytes([old[-1] ^ 1])
    db.execute("PRAGMA ignore_check_constraints = ON")
    db.execute(f"UPDATE {table.name} SET {column} = ? WHERE {column} IS ?", (new, old))
    db.execute("PRAGMA ignore_check_constraints = OFF")


def test_a_catalog_that_is_as_it_was_written_has_no_faults(sound: MemoryDatabase) -> None:
    for table in TABLES:
        assert sound.connection.execute(f"SELECT 1 FROM {table.name}").fetchone(), f"{table.name} is empty"
    with Catalog.open(sound, FOLDER, lambda: OWN).reader() as reader:
        assert reader.faults() == []


@pytest.mark.parametrize(("table", "column"), COUNTED, ids=lambda value: getattr(value, "name", value))
def test_any_value_of_any_table_that_was_changed_is_found_when_all_is_counted(
    sound: MemoryDatabase, table: Table, column: str
) -> None:
    rotten = sound.copy()
    change(rotten.connection, table, column)
    try:
        faults = Reader(rotten.connection, "here", own=False).faults()
    except ChangedRowError as error:
        assert table.name in ("meta", "replica"), "read whole at the opening"
        faults = [error.fault]
    # SQLite looks at its constraints first.
    assert faults == [f"a value in its table {table.name} is not the one that was written"] or (
        len(faults) == 1 and " constraint failed in " in faults[0]
    )


def reads(uid: Uid) -> dict[str, list[Callable[[Catalog], object]]]:
    """By table, what reads its rows."""
    cns = CNSet.span(OWN, 1, 1)

    def edit(catalog: Catalog) -> None:
        draft = Draft(catalog)
        draft.put(ObjectState(created(draft.allocate())))
        catalog.commit(draft, now_ms=3)

    def drop(catalog: Catalog) -> None:
        catalog.commit(None, [], now_ms=3)
        draft = Draft(catalog)
        draft.drop(uid)
        catalog.commit(draft, now_ms=3)

    def write_node(catalog: Catalog) -> None:
        draft = Draft(catalog)
        draft.put_node(node(16, name=b"other"))
        catalog.commit(draft, now_ms=3)

    def commit(*changes: Change) -> Callable[[Catalog], object]:
        return lambda catalog: catalog.commit(None, changes, now_ms=3)

    return {
        "object": [
            lambda catalog: catalog.object(uid),
            lambda catalog: catalog.objects([uid, b"x" * 16]),
            lambda catalog: catalog.page(0, EMPTY, 10, 10_000),
            lambda catalog: catalog.page(0, catalog.known, 10, 10_000),  # also what the asker has
            lambda catalog: catalog.with_cns(cns, 10),
            lambda catalog: catalog.range_sums(b"", b"\xff" * 20, 10),
            lambda catalog: catalog.not_installed(),
            drop,
        ],
        "node": [
            lambda catalog: catalog.node(16),
            lambda catalog: catalog.node_at(ROOT_NODE, b"f"),
            lambda catalog: catalog.nodes_in(ROOT_NODE),
            lambda catalog: catalog.nodes_after(0, 10),
            lambda catalog: catalog.node_by_inode(6),
            lambda catalog: catalog.look_ahead(
                entries=[(ROOT_NODE, name) for name in (b"f", *map(str.encode, "abcdeghijklmnopq"))]
            ),
            lambda catalog: catalog.look_ahead(inodes=range(1, 30)),
            write_node,
        ],
        "series": [lambda catalog: catalog.series(M)],
        "peer": [lambda catalog: catalog.peers(), lambda catalog: catalog.peer(M)],
        "intent": [lambda catalog: catalog.intents()],
        "preserved": [
            lambda catalog: catalog.preserved(10),
            lambda catalog: catalog.preserved_in(PRE_EXISTING, 10),
            lambda catalog: catalog.preserved_file(4),
            lambda catalog: catalog.kept(b"d" * 32),
            commit(SetPreservedDigest(4, b"f" * 32)),
        ],
        "out": [lambda catalog: catalog.outs(2**62), lambda catalog: catalog.first_out_ms()],
        "manifest": [lambda catalog: catalog.manifest(b"e" * 32)],
        "invitation": [
            lambda catalog: catalog.invitation(b"t" * 16),
            lambda catalog: catalog.invitations(),
            commit(TakeInvitation(b"t" * 16)),
        ],
        "meta": [lambda catalog: catalog.meta("engine.phase"), lambda catalog: catalog.reader()],
        "replica": [lambda catalog: catalog.reader()],
    }


UNASKED = {
    "object": "stored_ms",
    "node": "ctime_ns",
    "series": "position",
    "peer": "told_session",
    "intent": "blob",
    "preserved": "when_ms",
    "out": "blob",
    "manifest": "blob",
    "invitation": "blob",
    "meta": "value",
    "replica": "member",
}
"""A column by which nothing is looked up."""


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_a_row_is_held_against_its_sum_whenever_it_is_read(table: Table) -> None:
    source = MemoryDatabase()
    uid = filled(source)
    for read in reads(uid)[table.name]:
        rotten = source.copy()
        catalog = Catalog.open(rotten, FOLDER, lambda: OWN)
        read(Catalog.open(source.copy(), FOLDER, lambda: OWN))  # all is well with that
        change(rotten.connection, table, UNASKED[table.name])
        with pytest.raises(ChangedRowError, match=f"a value in its table {table.name} is not the one that was written"):
            read(catalog)


@pytest.mark.parametrize("table", ["meta", "replica"])
def test_a_catalog_whose_own_entries_were_changed_is_not_opened(sound: MemoryDatabase, table: str) -> None:
    """What is known, the counter, the replica id, the phase: before anything is done on their word (I2, I5)."""
    for (key,) in sound.connection.execute(f"SELECT {'key' if table == 'meta' else 'no'} FROM {table}").fetchall():
        rotten = sound.copy()
        column, name = ("value", "key") if table == "meta" else ("member", "no")
        rotten.connection.execute(f"UPDATE {table} SET {column} = 'other' WHERE {name} = ?", (key,))
        with pytest.raises(CatalogError, match=f"cannot be used: a value in its table {table} is not the one"):
            Catalog.open(rotten, FOLDER, lambda: 99)


def test_a_failure_of_whatever_kind_is_put_down_to_values_that_were_changed(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    filled(path)
    assert fault_of(path) is None
    with closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE node SET mode = 7")
        db.commit()
    assert "contradicts itself (a value in its table node is not the one that was written); put the" in str(
        fault_of(path)
    )


@pytest.fixture
def before_sums(tmp_path: Path) -> Path:
    """A file of the schema before this one, with rows in every table."""
    full, old = tmp_path / "full.db", tmp_path / "old.db"
    filled(full)
    with closing(sqlite3.connect(full)) as db:
        for table in TABLES:
            db.execute(f"ALTER TABLE {table.name} DROP COLUMN sum")
        db.execute("UPDATE alembic_version SET version_num = '0003'")
        db.commit()
        db.execute("VACUUM INTO ?", (str(old),))
    return old


def test_a_catalog_of_the_schema_before_gets_its_sums(before_sums: Path) -> None:
    with closing(Catalog.open(before_sums, FOLDER, lambda: 99)) as catalog:
        assert catalog.faults() == []
        assert catalog.preserved_file(4) is not None
    with closing(sqlite3.connect(before_sums)) as db:
        assert migrating.stored_revision(db, before_sums) == migrating.newest_revision()


def test_a_catalog_that_names_an_older_schema_than_it_has_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    filled(path)
    with closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE alembic_version SET version_num = '0003'")
        db.commit()
    with pytest.raises(CatalogError, match="cannot be used: duplicate column name: sum") as refused:
        Catalog.open(path, FOLDER, lambda: 99)
    assert "\n" not in str(refused.value)
