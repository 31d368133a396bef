"""Connections to SQLite: how a catalog's file is opened, checked, and how errors come out.

A database is opened only in `open_file` and `MemoryDatabase`, so every connection has the same settings. The driver's
own transaction handling is off (`isolation_level=None`): `store.Catalog` says BEGIN, COMMIT and ROLLBACK itself, and
without them nothing is ever begun behind its back.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from replicad.errors import CatalogDiskError, CatalogError

CACHE_KIB = 16 * 1024
"""SQLite's page cache per connection: the inner pages of a million objects' indexes; 50 folders stay under 1 GiB."""
CHECKPOINT_PAGES = 4_096
"""16 MiB of log before it is written into the file: a commit of thousands of objects does not pay for it each time."""
WAL_KEPT_BYTES = 64 * 1024 * 1024
"""The log is cut back to this after a checkpoint; one large commit may make it longer for a while."""
BUSY_MS = 5_000
"""Nothing but an operator's own sqlite3 can hold the lock; longer than that is an error worth telling."""
STATEMENTS_KEPT = 256
"""Compiled statements kept per connection: more than this package has, updates by changed columns included."""
FILE_MODE = 0o600
"""A catalog holds invitations."""


MEND = "put the home back from a backup, or move the file away (with its -wal and -shm) to learn anew from the others"
_DISK_ERRNOS = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM))
_DISK_CODES = frozenset(
    (sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM)
)
"""Primary codes of SQLite; the extended ones have more in their upper bytes."""


def catalog_error(where: object, error: BaseException) -> CatalogError:
    """What the disk does to the catalog is told apart from what is wrong with it."""
    why = " ".join(str(error).split())
    if isinstance(error, OSError):
        why = error.strerror or why
    elif isinstance(error, UnicodeDecodeError):
        why = "what it says is no text"
    if not _is_of_the_disk(error):
        return CatalogError(f"the catalog {where} cannot be used: {why}; {MEND}")
    return CatalogDiskError(
        f"the catalog {where} cannot be written: {why}; see to the disk of the home, and it goes on by itself"
    )


def _is_of_the_disk(error: BaseException) -> bool:
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorcode", 0) & 0xFF in _DISK_CODES
    return isinstance(error, OSError) and error.errno in _DISK_ERRNOS


@contextmanager
def converted(where: object) -> Iterator[None]:
    """SQLite's errors come out as CatalogError; a broken constraint or a misuse is our own bug and stays as it is."""
    try:
        yield
    except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
        raise
    except (sqlite3.Error, OSError, UnicodeDecodeError) as error:  # the last: what SQLite quotes of a broken file
        raise catalog_error(where, error) from error


class MemoryDatabase:
    """A database in memory that outlives the catalogs opened on it, as a file outlives a process.

    A crash is to drop the catalog and open another on the same database: what was not committed is rolled back.
    Reading from other threads is not separated from the writer's transaction here.
    """

    def __init__(self) -> None:
        self.connection = _connect(":memory:")
        self.connection.execute("PRAGMA foreign_keys = OFF")

    def copy(self) -> MemoryDatabase:
        """What a backup at this instant holds: the last commit."""
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")  # of reading, or of a catalog that was dropped in the middle
        other = MemoryDatabase()
        self.connection.backup(other.connection)
        return other

    def fill_from(self, other: MemoryDatabase) -> None:
        """Become a copy of `other`."""
        other.connection.backup(self.connection)

    def close(self) -> None:
        self.connection.close()

    def __del__(self) -> None:
        self.close()


def open_file(path: Path) -> sqlite3.Connection:
    """The writer's connection to the file at `path`, made if it is not there; checked if it was not closed cleanly.

    Nothing in the file is changed yet. Raises CatalogError.
    """
    with converted(path):
        unclean = any(path.with_name(path.name + suffix).exists() for suffix in ("-wal", "-journal"))
        _make(path)
        connection = _connect(str(path), own_thread=True)
    try:
        with converted(path):
            connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = OFF")
            connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            if unclean and (line := unsoundness(connection, "quick_check")):
                raise CatalogError(f"the catalog {path} is corrupt ({line}): {MEND}")
    except BaseException:
        connection.close()
        raise
    return connection


def log_ahead(path: Path, connection: sqlite3.Connection) -> None:
    """Commit to a write-ahead log from here on; only for a file that is known to be a catalog. Raises CatalogError."""
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise CatalogError(f"the catalog {path} cannot have a write-ahead log here: put the home on a local disk")
    connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    connection.execute(f"PRAGMA journal_size_limit = {WAL_KEPT_BYTES}")


def open_reader(path: Path) -> sqlite3.Connection:
    """A connection of the calling thread that cannot write, inside a transaction: one snapshot. Raises CatalogError."""
    with converted(path):
        # Used by one thread at a time, but not always the same one: SQLite itself is built to serialise that.
        connection = _connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
        connection.execute("BEGIN")
    return connection


def _connect(database: str, *, uri: bool = False, own_thread: bool = False) -> sqlite3.Connection:
    return sqlite3.connect(
        database, isolation_level=None, check_same_thread=own_thread, cached_statements=STATEMENTS_KEPT, uri=uri
    )


def _make(path: Path) -> None:
    """Create the file for its owner alone; its entry in the directory is durable before anything is built on it."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, FILE_MODE))
    except FileExistsError:
        return
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def unsoundness(connection: sqlite3.Connection, how: str, table: str = "1") -> str:
    """The first thing that SQLite finds wrong, in one line; "" where all is well. `how`: the name of its check; with a
    `table` it looks at that one and its indexes alone."""
    with closing(connection.execute(f"PRAGMA {how}({table})")) as cursor:
        verdict = str(cursor.fetchone()[0])
    return "" if verdict == "ok" else " ".join(verdict.split())
