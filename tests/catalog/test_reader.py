"""Snapshots for other threads."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from replicad.catalog.changes import SetMeta
from replicad.catalog.database import open_reader
from replicad.catalog.store import Catalog
from replicad.core.draft import Draft
from replicad.core.view import ObjectState
from replicad.errors import CatalogError
from tests.catalog.making import FOLDER, OWN, created


def add(catalog: Catalog, name: bytes) -> None:
    draft = Draft(catalog)
    draft.put(ObjectState(created(draft.allocate(), name=name, size=10)))
    catalog.commit(draft, [SetMeta("last", name)], now_ms=1)


@pytest.mark.parametrize("in_memory", [True, False])
def test_another_thread_reads_what_is_committed(tmp_path: Path, in_memory: bool) -> None:
    catalog = Catalog.open(None if in_memory else tmp_path / "a.db", FOLDER, lambda: OWN)
    add(catalog, b"a")
    found: list[object] = []

    def read() -> None:
        with catalog.reader() as reader:
            found.extend((reader.counts(), reader.known, reader.head, reader.meta("last"), reader.faults()))
            found.append(len(reader.page(0, catalog.known.minus(catalog.known), 10, 1_000).records))

    thread = threading.Thread(target=read)
    thread.start()
    thread.join()
    assert found == [(1, 10), catalog.known, 1, b"a", [], 1]
    catalog.close()


def test_a_reader_stays_at_its_instant_while_the_writer_goes_on(tmp_path: Path) -> None:
    catalog = Catalog.open(tmp_path / "a.db", FOLDER, lambda: OWN)
    add(catalog, b"a")
    with catalog.reader() as reader:
        add(catalog, b"b")
        assert (reader.counts(), reader.head, reader.meta("last")) == ((1, 10), 1, b"a")
        assert [len(view.children(b"")) for view in (reader, catalog)] == [1, 2]
        assert reader.faults() == catalog.faults() == []
    with catalog.reader() as reader:
        assert reader.head == 2
    catalog.close()


def test_a_reader_cannot_write(tmp_path: Path) -> None:
    Catalog.open(tmp_path / "a.db", FOLDER, lambda: OWN).close()
    connection = open_reader(tmp_path / "a.db")
    with pytest.raises(Exception, match="readonly"):
        connection.execute("DELETE FROM meta")
    connection.close()


def test_reading_what_is_not_there_is_an_error_of_the_catalog(tmp_path: Path) -> None:
    with pytest.raises(CatalogError):
        open_reader(tmp_path / "a.db")
