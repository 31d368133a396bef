"""Opening: the schema and its history, files that are refused, unclean starts."""

from __future__ import annotations

import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine
from sqlalchemy.pool import StaticPool

from replicad.catalog import database, ledger, lookups, migrating, pages
from replicad.catalog.database import MemoryDatabase
from replicad.catalog.schema import METADATA
from replicad.catalog.store import Catalog, fault_of
from replicad.core.draft import Draft
from replicad.core.view import ObjectState
from replicad.errors import CatalogError
from tests.catalog.making import FOLDER, OWN, created, node


def open_at(path: Path, folder: bytes = FOLDER) -> Catalog:
    return Catalog.open(path, folder, lambda: OWN)


def fill(catalog: Catalog, count: int) -> None:
    draft = Draft(catalog)
    for _ in range(count):
        draft.put(ObjectState(created(draft.allocate(), name=b"x" * 100)))
    catalog.commit(draft, now_ms=1)


def schema_of(db: sqlite3.Connection) -> dict[str, list[str]]:
    """By table or index: its statement, as columns and key, and then its constraints in any order."""
    rows = db.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name != 'alembic_version'")
    return {name: sorted(" ".join(sql.split()).removesuffix(" )").split(", CONSTRAINT ")) for name, sql in rows}


def test_the_migrated_schema_is_that_of_the_metadata() -> None:
    migrated = MemoryDatabase()
    migrating.bring_up(migrated.connection, "in memory")
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        METADATA.create_all(connection)
        made = schema_of(connection.connection.driver_connection)  # type: ignore[arg-type]
    engine.dispose()
    assert schema_of(migrated.connection) == made
    assert len(made) > 20


def test_alembic_sees_no_difference_either() -> None:
    migrated = MemoryDatabase()
    migrating.bring_up(migrated.connection, "in memory")
    engine = create_engine("sqlite://", creator=lambda: migrated.connection)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []


def test_the_newest_revision_is_the_one_that_is_written_beside_the_migrations() -> None:
    config = Config()
    config.set_main_option("script_location", str(migrating.migrations_directory()))
    assert ScriptDirectory.from_config(config).get_heads() == [migrating.newest_revision()]


def prepared_statements() -> list[tuple[str, str]]:
    found = [
        (f"{module.__name__}.{name}", value)
        for module in (lookups, ledger, pages)
        for name, value in vars(module).items()
        if isinstance(value, str) and value.startswith("SELECT")
    ]
    assert len(found) > 30
    return sorted(dict.fromkeys(found))


READ_WHOLE = ("._ALL_", "._REPLICAS", "ALL_META", "._CONTESTED")
"""Small tables, read whole on purpose; and the objects, when the folder's policy changes."""
MAY_SORT = ("._GROUP", "._AT_NODE", "._BENEATH", "._NAMED", "._CUTS", "._CUT_INTO", "._CHILDREN", "._PRESENT_NAMED")
"""Few rows, or all of one directory: sorted by UID after the index has found them."""


@pytest.mark.parametrize(("name", "sql"), prepared_statements())
def test_every_lookup_is_served_by_an_index(name: str, sql: str) -> None:
    catalog = Catalog.open(MemoryDatabase(), FOLDER, lambda: OWN)
    plan = [row[3] for row in catalog._db.execute(f"EXPLAIN QUERY PLAN {sql}", [1] * sql.count("?"))]
    if any(word in name for word in READ_WHOLE):
        return
    walks = [step for step in plan if step.startswith("SCAN") and " USING " not in step]
    sorts = [step for step in plan if "TEMP B-TREE" in step and not any(word in name for word in MAY_SORT)]
    assert not walks, plan
    assert not sorts, plan


def test_a_second_opening_does_not_load_alembic(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from replicad.catalog.store import Catalog\n"
        "Catalog.open(Path(sys.argv[1]), b'f' * 16, lambda: 5).close(); print('alembic' in sys.modules)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "a.db")]
    assert [subprocess.check_output(command, text=True).strip() for _ in range(2)] == ["True", "False"]


def test_a_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    catalog = open_at(tmp_path / "a.db")
    fill(catalog, 1)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert set(modes) == {"a.db", "a.db-wal", "a.db-shm"}
    assert set(modes.values()) == {0o600}
    catalog.close()
    assert [path.name for path in tmp_path.iterdir()] == ["a.db"]


def test_commits_are_synced_and_logged(tmp_path: Path) -> None:
    catalog = open_at(tmp_path / "a.db")
    pragma = {name: catalog._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")}
    assert pragma == {"journal_mode": "wal", "synchronous": 2}
    catalog.close()


def test_what_was_stored_is_there_after_a_reopening(tmp_path: Path) -> None:
    catalog = open_at(tmp_path / "a.db")
    fill(catalog, 3)
    before = (catalog.known, catalog.head, catalog.digest, catalog.counts(), catalog.children(b""), catalog.counter)
    catalog.close()
    again = Catalog.open(tmp_path / "a.db", FOLDER, lambda: 99)
    assert again.replica == OWN
    assert before == (again.known, again.head, again.digest, again.counts(), again.children(b""), again.counter)
    again.close()


@pytest.fixture
def clean_caches() -> Iterator[None]:
    yield
    for cached in (migrating.migrations_directory, migrating.newest_revision, migrating._empty_catalog):
        cached.cache_clear()


def other_migrations(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, upgrade: str) -> None:
    """A program with one more revision than this one."""
    directory = tmp_path / "migrations"
    shutil.copytree(migrating.migrations_directory(), directory)
    newest = migrating.newest_revision()
    (directory / "versions" / "next.py").write_text(
        f"from alembic import op\nrevision = 'next'\ndown_revision = {newest!r}\n\ndef upgrade():\n{upgrade}\n"
    )
    (directory / "NEWEST").write_text("next\n")
    migrating.newest_revision.cache_clear()
    monkeypatch.setattr(migrating, "migrations_directory", lambda: directory)


def test_an_older_file_is_migrated_and_keeps_its_content(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, clean_caches: None
) -> None:
    path = tmp_path / "a.db"
    catalog = open_at(path)
    fill(catalog, 2)
    catalog.close()
    with monkeypatch.context() as patched:
        other_migrations(patched, tmp_path, "    op.execute('CREATE TABLE later (x INTEGER)')")
        newer = open_at(path)
        assert newer._db.execute("SELECT version_num FROM alembic_version").fetchall() == [("next",)]
        assert newer.counts()[0] == 2
        newer.close()
    migrating.newest_revision.cache_clear()
    before = path.read_bytes()
    with pytest.raises(CatalogError, match=r"a\.db was written by a newer replicad"):
        open_at(path)
    assert path.read_bytes() == before


def test_a_migration_that_fails_leaves_the_file_as_it_was(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, clean_caches: None
) -> None:
    path = tmp_path / "a.db"
    catalog = open_at(path)
    fill(catalog, 2)
    catalog.close()
    with monkeypatch.context() as patched:
        broken = "    op.execute('CREATE TABLE later (x INTEGER)')\n    op.execute('DROP TABLE object')\n    1 / 0"
        other_migrations(patched, tmp_path, broken)
        with pytest.raises(ZeroDivisionError):
            open_at(path)
    migrating.newest_revision.cache_clear()
    again = open_at(path)
    assert again.counts()[0] == 2
    assert not again._db.execute("SELECT name FROM sqlite_master WHERE name = 'later'").fetchall()
    again.close()


def test_a_file_that_is_no_database_is_refused_with_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    path.write_bytes(b"not a database at all\n" * 1_000)
    with pytest.raises(CatalogError) as caught:
        open_at(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == b"not a database at all\n" * 1_000


def test_a_database_of_another_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE theirs (x)")
    other.commit()
    other.close()
    before = path.read_bytes()
    with pytest.raises(CatalogError, match="no catalog of replicad"):
        open_at(path)
    assert path.read_bytes() == before


def test_a_catalog_of_another_folder_is_refused(tmp_path: Path) -> None:
    open_at(tmp_path / "a.db").close()
    with pytest.raises(CatalogError, match="of another folder"):
        open_at(tmp_path / "a.db", b"another folder..")


def damage(path: Path) -> None:
    """Overwrite the pages in the middle; the header stays."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"\xa5" * 16_384)


def test_damage_is_found_at_an_unclean_start_before_anything_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    catalog = open_at(path)
    fill(catalog, 500)
    catalog.close()
    damage(path)
    (tmp_path / "a.db-wal").touch()
    with pytest.raises(
        CatalogError, match=r"is corrupt .*: put the home back from a backup, or move the file away"
    ) as caught:
        open_at(path)
    assert "\n" not in str(caught.value)


def test_damage_met_later_is_an_error_of_the_catalog(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    catalog = open_at(path)
    fill(catalog, 500)
    catalog.close()
    damage(path)
    catalog = open_at(path)  # a clean start is not checked: it would read the whole file
    with pytest.raises(CatalogError, match="cannot be used"):
        catalog.recount()
    catalog.close()


def test_what_sqlite_quotes_of_a_broken_file_may_be_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    open_at(path).close()
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b"NOT NULL", b"NULL\xcd\xe7\xcc\x8b"))
    with pytest.raises(CatalogError, match="cannot be used: what it says is no text; put the home back"):
        open_at(path)


def test_a_row_that_names_a_replica_that_is_not_there_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    catalog = open_at(path)
    with pytest.raises(CatalogError, match="is corrupt: it names a replica that it does not hold"):
        catalog._replicas.replica(23)
    catalog.close()


def test_a_file_that_failed_is_read_whole_and_said_to_be_broken_or_not(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    catalog = open_at(path)
    fill(catalog, 500)
    assert fault_of(path) is None, "also while it is in use"
    catalog.close()
    assert fault_of(path) is None
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b"x" * 100, b"y" * 100, 1))  # a row or its index: nothing is malformed
    assert "contradicts itself (row " in str(fault_of(path))
    damage(path)
    assert "cannot be used: " in str(fault_of(path))


def test_entries_of_the_catalog_that_are_missing_are_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    catalog = open_at(path)
    catalog._db.execute("DELETE FROM meta WHERE key = 'catalog.known'")
    catalog.close()
    with pytest.raises(CatalogError, match="corrupt"):
        open_at(path)


def test_a_home_that_cannot_be_written_is_an_error_of_the_catalog(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="cannot be used"):
        open_at(tmp_path / "no such directory" / "a.db")


def test_folders_may_be_opened_for_the_first_time_by_several_threads_at_once(tmp_path: Path) -> None:
    together = threading.Barrier(4)
    opened: list[str] = []

    def open_one(index: int) -> None:
        together.wait()
        with open_at(tmp_path / f"{index}.db") as catalog:
            opened.append(f"{index}: {catalog.head}")

    threads = [threading.Thread(target=open_one, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(opened) == [f"{index}: 0" for index in range(4)]


def test_a_disk_that_is_full_while_migrating_is_an_error_of_the_catalog(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    opened = database.open_file

    def with_little_room(path: Path) -> sqlite3.Connection:
        connection = opened(path)
        connection.execute("PRAGMA max_page_count = 3")
        return connection

    monkeypatch.setattr(database, "open_file", with_little_room)
    with pytest.raises(CatalogError, match="full"):
        open_at(tmp_path / "a.db")
    monkeypatch.undo()
    open_at(tmp_path / "a.db").close()


def test_an_empty_catalog_in_memory_is_a_copy_and_not_shared() -> None:
    one, other = Catalog.open(None, FOLDER, lambda: OWN), Catalog.open(None, FOLDER, lambda: 6)
    draft = Draft(one)
    draft.put_node(node(draft.new_node_id()))
    one.commit(draft, now_ms=1)
    assert (one.replica, other.replica) == (OWN, 6)
    assert other.node(16) is None


def test_what_the_first_schema_had_preserved_is_listed_without_a_winner(tmp_path: Path) -> None:
    path = tmp_path / "catalog.db"
    with sqlite3.connect(path, isolation_level=None) as db:
        engine = create_engine("sqlite://", creator=lambda: db, poolclass=StaticPool)
        config = Config()
        config.set_main_option("script_location", str(migrating.migrations_directory()))
        with engine.connect() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "0001")
        assert migrating.stored_revision(db, path) == "0001"
        row = (7, "PreExisting", b"d/f", 1, 5, b"", None, None, 1_000, "why", b"7-3e8-f")
        db.execute(f"INSERT INTO preserved VALUES ({', '.join('?' * len(row))})", row)
    db.close()
    catalog = open_at(path)
    (found,) = catalog.preserved(10)
    assert (found.path, found.why, found.replica, found.winner) == (b"d/f", "why", None, None)
    assert catalog.undigested() == found
    catalog.close()
