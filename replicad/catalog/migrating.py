"""Bringing a catalog to the newest schema.

`migrations/NEWEST` holds the newest revision that this program has. Where the database is at it, which is every start
but the first after an upgrade, Alembic is not loaded: that takes longer than everything else in opening a catalog.
In the wheel the migrations are `replicad/migrations`; in a checkout they lie at the top.
"""

from __future__ import annotations

import sqlite3
from functools import cache
from pathlib import Path
from threading import Lock

import replicad
from replicad.catalog.database import MemoryDatabase, catalog_error
from replicad.errors import CatalogError


@cache
def migrations_directory() -> Path:
    package = Path(replicad.__file__).parent
    for directory in (package / "migrations", package.parent / "migrations"):
        if (directory / "NEWEST").is_file():
            return directory
    raise CatalogError(f"this installation is not complete: there is no migrations/ beside or in {package}")


@cache
def newest_revision() -> str:
    return (migrations_directory() / "NEWEST").read_text("ascii").strip()


def stored_revision(connection: sqlite3.Connection, where: object) -> str | None:
    """None for an empty database; raises CatalogError for one that is not a catalog."""
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not tables:
        return None
    rows = (
        connection.execute("SELECT version_num FROM alembic_version").fetchall() if "alembic_version" in tables else []
    )
    if len(rows) != 1 or not isinstance(rows[0][0], str):
        raise CatalogError(f"{where} is a database, but no catalog of replicad")
    return rows[0][0]


def bring_up(connection: sqlite3.Connection, where: object) -> None:
    """Migrate to the newest revision; raises CatalogError, with the database as it was."""
    stored = stored_revision(connection, where)
    if stored != newest_revision():
        with _ALEMBIC:
            _migrate(connection, stored, where)


def bring_up_memory(database: MemoryDatabase) -> None:
    """The same for a database in memory: an empty one becomes a copy of one that was migrated before."""
    if stored_revision(database.connection, "in memory") is None:
        database.fill_from(_empty_catalog())
    bring_up(database.connection, "in memory")


@cache
def _empty_catalog() -> MemoryDatabase:
    database = MemoryDatabase()
    bring_up(database.connection, "in memory")
    return database


_ALEMBIC = Lock()
"""Alembic reaches its migrations through module globals, and folders are opened by threads of their own."""


def _migrate(connection: sqlite3.Connection, stored: str | None, where: object) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory
    from sqlalchemy import create_engine, event
    from sqlalchemy.exc import OperationalError
    from sqlalchemy.pool import StaticPool

    config = Config()
    config.set_main_option("script_location", str(migrations_directory()).replace("%", "%%"))
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if stored is not None and stored not in known:
        raise CatalogError(
            f"the catalog {where} was written by a newer replicad (its schema is {stored}, this program's is "
            f"{newest_revision()}): install that version again"
        )
    engine = create_engine("sqlite://", creator=lambda: connection, poolclass=StaticPool)
    # The driver begins nothing by itself (database.py), and without a BEGIN every DDL statement would stand alone.
    event.listen(engine, "begin", lambda begun: begun.exec_driver_sql("BEGIN IMMEDIATE"))
    try:
        with engine.connect() as migrating:
            config.attributes["connection"] = migrating
            command.upgrade(config, "head")
    except OperationalError as error:
        raise catalog_error(where, error.orig or error) from error
