"""Preserved files whose content is not known are read, so that they can be told apart and found when they are wanted.

So are what a joining member held beside the folder, what was found after a crash, and what was written to after it was
replaced. Small ones are read at once, a few at a time; large ones by others, one at a time (`HashFile`), like any file.
"""

from __future__ import annotations

from replicad.catalog.changes import (
    CONFLICT_AND_DELETED,
    PRE_EXISTING,
    Change,
    Manifest,
    PutManifest,
    SetPreservedDigest,
)
from replicad.catalog.changes import Preserved as Row
from replicad.catalog.store import Catalog
from replicad.core.effects import Effect, HashFile
from replicad.core.manifest import encode_whole
from replicad.engine.disposal import store_path
from replicad.engine.scan_read import HashOutcome
from replicad.errors import FileTrouble
from replicad.files.fs import FILE, FileSystem
from replicad.files.hashing import Hashed, hash_file
from replicad.files.paths import split

READ_A_STEP = 16
"""Small ones: some 10 ms each at the most."""
STORES = tuple(store_path(store, b"").rstrip(b"/") for store in (CONFLICT_AND_DELETED, PRE_EXISTING))


class Digesting:
    """Of one folder; on the thread that owns its catalog."""

    def __init__(self, catalog: Catalog, fs: FileSystem, large_bytes: int) -> None:
        """A file of more is read outside the thread."""
        self._large_bytes = large_bytes
        self._catalog = catalog
        self._fs = fs
        self._after = 0
        """What cannot be read is passed over until the next start."""
        self._hashing: Row | None = None
        self._commits = -1
        """At which nothing was left to read."""

    @property
    def due(self) -> bool:
        return self._hashing is None and self._commits != self._catalog.commits

    def work(self, now_ms: int) -> list[Effect]:
        """A bounded piece, committed."""
        if not self.due:
            return []
        changes: list[Change] = []
        for _ in range(READ_A_STEP):
            row = self._catalog.undigested(self._after)
            if row is None:
                break
            self._after = row.preserved_id
            path = store_path(row.store, row.stored_name)
            if row.size > self._large_bytes:
                self._hashing = row
                break
            changes += self._read(row, path)
        if changes:
            self._catalog.commit(None, changes, now_ms=now_ms)
        if self._hashing is not None:
            return [HashFile(*split(store_path(self._hashing.store, self._hashing.stored_name)))]
        self._commits = self._catalog.commits if row is None else -1
        return []

    def hashed(self, outcome: HashOutcome, now_ms: int) -> None:
        """The answer to the `HashFile`."""
        row, self._hashing = self._hashing, None
        if row is not None and isinstance(outcome, Hashed):
            self._catalog.commit(None, _found(row, outcome), now_ms=now_ms)

    def _read(self, row: Row, path: bytes) -> list[Change]:
        try:
            stat = self._fs.stat(path)
            found = hash_file(self._fs, path, stat) if stat is not None and stat.kind == FILE else None
        except (OSError, FileTrouble):
            return []
        return _found(row, found) if isinstance(found, Hashed) else []


def _found(row: Row, hashed: Hashed) -> list[Change]:
    changes: list[Change] = [SetPreservedDigest(row.preserved_id, hashed.digest)]
    if hashed.manifest is not None:
        changes.append(PutManifest(Manifest(hashed.digest, encode_whole(hashed.manifest), row.size)))
    return changes
