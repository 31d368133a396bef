"""Catalogs that are counted anew."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from replicad.catalog.changes import SetMeta
from replicad.catalog.store import Catalog
from replicad.core.draft import Draft
from replicad.core.ids import ROOT, uid_of
from replicad.core.records import FILE, Content, Place, record
from replicad.core.view import ROOT_NODE, Node, ObjectState
from replicad.daemon import counting
from replicad.daemon.counting import DOUBT_META, check_before_use, check_undoubted, first_fault
from replicad.engine.readers import Readers
from replicad.errors import CatalogError

FOLDER = b"f" * 16


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Of a catalog with one file."""
    path = tmp_path / "catalog.db"
    with closing(Catalog.open(path, FOLDER, lambda: 99)) as catalog:
        draft = Draft(catalog)
        cn = draft.allocate()
        place = Place(cn.replica, cn.counter, 5, (), ROOT, b"f", ROOT, b"")
        content = Content(cn.replica, cn.counter, 5, (), None, 0o644, 7, 3, b"d" * 32, b"")
        draft.put(ObjectState(record(uid_of(cn), FILE, place, content)))
        catalog.commit(draft, now_ms=1)
    return path


@pytest.fixture
def catalog(path: Path) -> Iterator[Catalog]:
    with closing(Catalog.open(path, FOLDER, lambda: 99)) as catalog:
        yield catalog


def counted(catalog: Catalog) -> str:
    readers = Readers(catalog.reader, lambda seconds: None)
    try:
        return first_fault(readers)
    finally:
        readers.close()


def test_a_catalog_that_is_as_it_was_written_adds_up(catalog: Catalog, path: Path) -> None:
    assert counted(catalog) == ""
    check_undoubted(catalog, path)


def test_a_value_that_was_changed_in_a_row_does_not_add_up(catalog: Catalog, path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        ((raw,),) = db.execute("SELECT content_raw FROM object").fetchall()
        db.execute("UPDATE object SET content_raw = ?", (raw.replace(b"d" * 32, b"d" * 31 + b"e"),))
        db.commit()
    assert counted(catalog) == "a value in its table object is not the one that was written"


def test_a_value_that_can_no_longer_be_read_does_not_add_up(catalog: Catalog, path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE object SET content_raw = x'c1'")
        db.commit()
    assert counted(catalog) == "a value in its table object is not the one that was written"


def spoil_an_index(path: Path, index: str = "object_child", change: str = "object SET present = 1 - present") -> None:
    """A row is changed behind the back of its index, which is taken away meanwhile."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA writable_schema = ON")
        row = db.execute("SELECT * FROM sqlite_schema WHERE name = ?", (index,)).fetchone()
        db.execute("DELETE FROM sqlite_schema WHERE name = ?", (index,))
        db.commit()
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"UPDATE {change}")
        db.execute("PRAGMA writable_schema = ON")
        db.execute("INSERT INTO sqlite_schema VALUES (?, ?, ?, ?, ?)", row)
        db.commit()


def test_an_index_that_does_not_fit_its_rows_is_found(path: Path) -> None:
    spoil_an_index(path)
    with closing(Catalog.open(path, FOLDER, lambda: 99)) as catalog:
        assert "object_child" in counted(catalog)


def test_a_small_catalog_is_counted_before_it_is_used(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an index hides is believed otherwise until all is counted."""
    spoil_an_index(path)
    with closing(Catalog.open(path, FOLDER, lambda: 99)) as catalog:
        with pytest.raises(CatalogError, match=r"contradicts itself \(.*object_child.*put the home back from a backup"):
            check_before_use(catalog, path)
        monkeypatch.setattr(counting, "AT_ONCE_BYTES", path.stat().st_size - 1)
        check_before_use(catalog, path)  # a large one begins at once


def test_what_hides_an_entry_of_the_disk_is_found_before_a_large_catalog_is_used(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file whose entry nobody finds is a new one, and told to everybody."""
    monkeypatch.setattr(counting, "AT_ONCE_BYTES", 0)
    with closing(Catalog.open(path, FOLDER, lambda: 99)) as catalog:
        draft = Draft(catalog)
        draft.put_node(Node(draft.new_node_id(), ROOT_NODE, b"f", FILE, 1, 3, 0, 0, 0, 0o644))
        catalog.commit(draft, now_ms=2)
        check_before_use(catalog, path)
    spoil_an_index(path, "node_name", "node SET parent = parent + 64")
    with (
        closing(Catalog.open(path, FOLDER, lambda: 99)) as catalog,
        pytest.raises(CatalogError, match=r"contradicts itself \(.*node_name.*put the home back from a backup"),
    ):
        check_before_use(catalog, path)


def test_a_catalog_that_was_found_to_contradict_itself_is_not_used_again(catalog: Catalog, path: Path) -> None:
    catalog.commit(None, [SetMeta(DOUBT_META, b"digest is kept as 1, the rows give 2")], now_ms=2)
    with pytest.raises(
        CatalogError, match=r"contradicts itself \(digest is kept as 1.*put the home back from a backup"
    ):
        check_undoubted(catalog, path)
