"""The catalog of one folder or of the hierarchy: opened, read, committed to. docs/catalog.md has the rules.

Invariants between two calls, on the owner's thread:
1. Nothing is uncommitted; at most a read transaction is open, which the next commit ends (`Lookups._rows`).
2. `_summary`, `_replicas`, `_missing` and `_answers` are what the file holds. Where that is not certain, `_in_doubt` is
   set, and nothing is written any more: a counter read from here might be one that was given before (I5).
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import msgspec

from replicad.catalog import database, migrating
from replicad.catalog.changes import Change
from replicad.catalog.database import MEND, MemoryDatabase, converted
from replicad.catalog.draft_writer import Written, write_draft
from replicad.catalog.ledger import apply
from replicad.catalog.lookups import Replicas
from replicad.catalog.missing import Missing
from replicad.catalog.ranges import Ranges
from replicad.catalog.recount import Recount, faults, recount
from replicad.catalog.remembered import Answers, Remembering
from replicad.catalog.summary import Summary, load_summary, store_summary
from replicad.catalog.sums import ChangedRowError
from replicad.core.cnset import CNSet
from replicad.core.draft import Draft
from replicad.core.ids import Cn, FolderId, ReplicaId
from replicad.errors import CatalogError


class Reader(Ranges):
    """A catalog as it was at one instant, for any one thread; close it soon, it keeps the log from being cut back."""

    def __init__(self, db: sqlite3.Connection, where: Path | str, *, own: bool) -> None:
        """`own`: the connection is this reader's, to be closed with it. Raises CatalogError."""
        self._db = db
        self._where = where
        self._own = own
        with converted(where):
            summary = load_summary(db, where)
            if summary is None:
                raise CatalogError(f"the catalog {where} was never used")
            self._summary = summary
            self._replicas = Replicas(db, where)

    def recount(self) -> Recount:
        """Count everything anew: reads every row."""
        with converted(self._where):
            return recount(self._db, self._where)

    def faults(self) -> list[str]:
        """In what the catalog contradicts itself; empty where all is well. Reads every row and index."""
        unsound = self._unsound()
        if unsound:
            return [unsound]
        try:
            found = self.recount()
        except ChangedRowError as error:
            return [error.fault]
        except CatalogError as error:
            if isinstance(error.__cause__, sqlite3.Error | OSError):
                raise  # the file or the disk, perhaps for now only
            return [f"a row cannot be read: {error}"]
        except Exception as error:  # noqa: BLE001  (what an overwritten value brings about is of no one kind)
            return [f"a row cannot be read: {error!r}"]
        return faults(found, self._summary)

    def _unsound(self) -> str:
        """What SQLite finds wrong with pages and indexes, the first of it."""
        with converted(self._where):
            return database.unsoundness(self._db, "integrity_check")

    def unsound_entries(self) -> str:
        """What SQLite finds wrong with the disk's entries and their indexes, the first of it; 0.1 s for 100,000."""
        with converted(self._where):
            return database.unsoundness(self._db, "integrity_check", "node")

    def close(self) -> None:
        if self._own:
            self._db.close()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def fault_of(path: Path) -> CatalogError | None:
    """What is wrong with the file, its values included; reads all of it. For a failure of whatever kind that a broken
    file may have brought about."""
    try:
        with closing(database.open_reader(path)) as db:
            faults = Reader(db, path, own=False).faults()
    except CatalogError as error:
        return error
    return contradiction(path, faults[0]) if faults else None


def contradiction(where: object, fault: str) -> CatalogError:
    """`fault`: one of `Reader.faults`."""
    return CatalogError(f"the catalog {where} cannot be used: it contradicts itself ({fault}); {MEND}")


class Catalog(Remembering, Reader):
    """The writer. Made by `open`, used and closed by the thread that opened it."""

    def __init__(self, db: sqlite3.Connection, source: Path | MemoryDatabase) -> None:
        super().__init__(db, source if isinstance(source, Path) else "in memory", own=isinstance(source, Path))
        self._source = source
        self._owner = threading.get_ident()
        self._missing = Missing()
        self._answers = Answers()
        self._next_id = self._summary.next_id
        self._in_doubt = False

    @classmethod
    def open(
        cls, source: Path | MemoryDatabase | None, folder: FolderId, replica_factory: Callable[[], ReplicaId]
    ) -> Catalog:
        """The catalog in the file (made if it is not there), or in a database in memory (None: one of its own).

        A new catalog originates under the replica id that `replica_factory` gives. Raises CatalogError where the file
        is corrupt, newer than this program, no catalog, or of another folder; it is as it was then.
        """
        source = source if source is not None else MemoryDatabase()
        if isinstance(source, MemoryDatabase):
            db, where = source.connection, "in memory"
            if db.in_transaction:
                db.execute("ROLLBACK")  # what a catalog left that was dropped in the middle: a crash
            migrating.bring_up_memory(source)
        else:
            db, where = database.open_file(source), str(source)
        try:
            with converted(where):
                migrating.bring_up(db, where)
                if isinstance(source, Path):
                    database.log_ahead(source, db)
                stored = load_summary(db, where)
                if stored is None:
                    _begin(db, Summary(folder, replica_factory()))
                elif stored.folder != folder:
                    raise CatalogError(
                        f"the catalog {where} is of another folder ({stored.folder.hex() or 'hierarchy'})"
                    )
            return cls(db, source)
        except BaseException:
            if isinstance(source, Path):
                db.close()
            raise

    # -- writing

    def commit(self, draft: Draft | None, changes: Sequence[Change] = (), *, now_ms: int) -> int:
        """Store `draft` (over this catalog, in its newest state), then `changes` in their order: one transaction.

        Returns the new head. Each changed record has a position of its own in the order of `draft.stored`. Raises
        CatalogError where it cannot be stored; then nothing of it is, and the draft is to be thrown away. Where there
        is nothing to store, nothing is written.
        """
        self._assert_usable()
        assert draft is None or draft.view is self, "a draft over another view"
        if not changes and (draft is None or self._is_empty(draft)):
            return self.head
        self._in_doubt = True
        try:
            with converted(self._where):
                if self._db.in_transaction:
                    self._db.execute("COMMIT")
                self._db.execute("BEGIN IMMEDIATE")
                written = self._write(draft, changes, now_ms)
                store_summary(self._db, self._summary, written.summary)
                self._db.execute("COMMIT")
        except BaseException:
            self._go_back()
            raise
        first_new_node = self._summary.next_node
        self._summary = written.summary
        if draft is not None:
            self._answers.follow(draft, written.pairs, written.old_nodes, first_new_node)
        self._answers.follow_changes(changes)
        self._missing.note(self._cns(written.installed), self._cns(written.missing))
        self._in_doubt = False
        return self.head

    def _is_empty(self, draft: Draft) -> bool:
        changes = draft.states or draft.dropped or draft.nodes
        return not changes and draft.counter == self.counter and draft.known == self.known

    def _write(self, draft: Draft | None, changes: Sequence[Change], now_ms: int) -> Written:
        summary = msgspec.structs.replace(self._summary, next_id=self._next_id, commits=self._summary.commits + 1)
        written = Written(summary, [], [], [], {})
        if draft is not None:
            written = write_draft(self._db, draft, summary, self._replicas, now_ms)
        summary = written.summary
        for change in changes:
            summary = apply(self._db, change, summary, self._replicas, now_ms)
        return written._replace(summary=summary)

    def _go_back(self) -> None:
        """To what the file holds. That is asked of the file: an exception may come after the COMMIT took effect."""
        with converted(self._where):
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            summary = load_summary(self._db, self._where)
            assert summary is not None, "a catalog that was opened has its own entries"
            self._summary = summary
            self._replicas = Replicas(self._db, self._where)
            self._next_id = max(self._next_id, summary.next_id)
            self._missing.forget()
            self._answers = Answers()
            self._in_doubt = False

    def _assert_usable(self) -> None:
        assert threading.get_ident() == self._owner, "a catalog is written by the thread that opened it"
        if self._in_doubt:
            raise CatalogError(f"the catalog {self._where} failed to go back to its last commit: restart the daemon")

    def new_id(self) -> int:
        """For an intent, a preserved file, or something lifted out; never given twice once it is committed."""
        self._next_id += 1
        return self._next_id - 1

    # -- reading

    def not_installed(self) -> CNSet:
        return self._missing.value(super().not_installed)

    def reader(self) -> Reader:
        """A snapshot for the calling thread; in memory not apart from the writer (the simulator has one thread)."""
        if isinstance(self._source, MemoryDatabase):
            return Reader(self._source.connection, self._where, own=False)
        db = database.open_reader(self._source)
        try:
            return Reader(db, self._where, own=True)
        except BaseException:
            db.close()
            raise

    def close(self) -> None:
        """The log goes into the file; the next start is a clean one."""
        assert threading.get_ident() == self._owner, "a catalog is closed by the thread that opened it"
        super().close()

    def _cns(self, numbered: Sequence[tuple[int, int]]) -> list[Cn]:
        return [Cn(self._replicas.replica(number), counter) for number, counter in numbered]


def _begin(db: sqlite3.Connection, summary: Summary) -> None:
    """The first entries of a catalog; its own replica id is the first one seen."""
    db.execute("BEGIN IMMEDIATE")
    try:
        Replicas(db, "").number(summary.replica)
        store_summary(db, None, summary)
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise
