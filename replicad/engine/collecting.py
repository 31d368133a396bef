"""ConflictAndDeleted is kept within bounds: its quota, and the disk's last free space (docs/preserved.md).

Above 90 % of the quota the oldest go, down to 60 %; nothing younger than the minimum age goes, whatever the quota says.
So the store may grow beyond it. What it must not take is the disk's last free space: where less than the reserve is
free, old files go although the quota is not reached; and a change that would fetch new content while the old must be
preserved waits (`no_room_to_keep`). PreExisting is the operator's: nothing here looks at it.
"""

from __future__ import annotations

from replicad.catalog.changes import CONFLICT_AND_DELETED, Preserved, RemovePreserved
from replicad.catalog.store import Catalog
from replicad.core.effects import Changed, Effect, Report
from replicad.engine.disposal import store_path
from replicad.engine.renames import trouble
from replicad.engine.settings import FolderSettings
from replicad.files.fs import DIRECTORY, FileSystem

HIGH_PERCENT, LOW_PERCENT = 90, 60
"""Of the quota: where collection begins and where it ends, as DFSR does it."""
RESERVE_BYTES, RESERVE_PERCENT = 64 * 1_048_576, 1
"""What no preserved file may take of the disk, whichever is less: it is left for a catalog's log, staging's small
files, the operator's own work. A disk of some MiB must not be full from the beginning."""
COLLECTED_A_STEP = 64
"""Files looked at in one go: each costs an unlink, 20 µs for a small file, some ms for one of gigabytes."""
CHECK_MS = 60_000
"""Between two looks at how much is kept, where there is other work to do anyway."""
IDLE_CHECK_MS = 3_600_000
"""Where there is none: files grow old slowly."""


def reserve_bytes(fs: FileSystem) -> int:
    return min(RESERVE_BYTES, fs.total_bytes() * RESERVE_PERCENT // 100)


def no_room_to_keep(fs: FileSystem, size: int) -> str:
    """Why content of `size` bytes must not be fetched for a change whose loser would be preserved; empty: it may."""
    try:
        free, reserve = fs.free_bytes(), reserve_bytes(fs)
    except OSError:
        return ""  # whatever is wrong with the disk, the act itself will tell
    if free - size >= reserve:
        return ""
    return (
        "what it replaces must be preserved, and that would take the disk's last free space:"
        f" {free} bytes are free, {size} are needed, {reserve} stay free"
    )


class Collecting:
    """Of one folder; on the thread that owns its catalog."""

    def __init__(self, catalog: Catalog, fs: FileSystem) -> None:
        self._catalog = catalog
        self._fs = fs
        self._checked_ms: int | None = None
        self._idle = True
        """Nothing is kept, as far as was seen."""
        self._goal = 0
        """Bytes still to be deleted; 0: none."""
        self._after = 0
        self._deleted = self._deleted_bytes = 0
        self._reason = ""
        """Why something could not be deleted, as it was told last."""

    def recheck(self) -> None:
        """The settings have changed."""
        self._checked_ms, self._idle = None, False

    def next_due_ms(self, now_ms: int) -> int | None:
        if self._goal:
            return now_ms
        if self._idle:
            return None
        return now_ms if self._checked_ms is None else self._checked_ms + IDLE_CHECK_MS

    def work(self, settings: FolderSettings, now_ms: int) -> list[Effect]:
        """A bounded piece, committed. What the disk does not let go of stays, and is told once. Raises CatalogError."""
        try:
            if not self._goal and not self._begin(settings, now_ms):
                return []
        except OSError as error:
            return self._told(trouble(b"", error).reason)
        told: list[Effect] = []
        rows = self._catalog.preserved_in(CONFLICT_AND_DELETED, COLLECTED_A_STEP, self._after)
        gone: list[int] = []
        for row in rows:
            self._after = row.preserved_id
            if self._goal and row.when_ms <= now_ms - settings.preserved_min_age_ms:
                try:
                    remove_stored(self._fs, row)
                except OSError as error:
                    told += self._told(trouble(row.path, error).reason)
                    continue
                gone.append(row.preserved_id)
                self._deleted_bytes += row.size
                self._goal = max(0, self._goal - row.size)
        self._deleted += len(gone)
        if gone:
            self._catalog.commit(None, [RemovePreserved(tuple(gone))], now_ms=now_ms)
        return told if self._goal and rows else [*told, *self._end()]

    def _told(self, reason: str) -> list[Effect]:
        """Until it is another reason, or the next start."""
        if reason == self._reason:
            return []
        self._reason = reason
        return [Report(0, f"{CONFLICT_AND_DELETED} cannot be kept within its quota: {reason}")]

    def _begin(self, settings: FolderSettings, now_ms: int) -> bool:
        if self._checked_ms is not None and self._checked_ms <= now_ms < self._checked_ms + CHECK_MS:
            return False
        self._checked_ms = now_ms
        files, used = self._catalog.preserved_tally(CONFLICT_AND_DELETED)
        self._idle = not files
        if not files:
            return False
        quota = settings.preserved_quota_bytes
        over = used - quota * LOW_PERCENT // 100 if used > quota * HIGH_PERCENT // 100 else 0
        self._goal = max(over, reserve_bytes(self._fs) - self._fs.free_bytes(), 0)
        self._after = self._deleted = self._deleted_bytes = 0
        return self._goal > 0

    def _end(self) -> list[Effect]:
        self._goal = 0
        if not self._deleted:
            return []
        text = f"{self._deleted} files, {self._deleted_bytes} bytes, were deleted from {CONFLICT_AND_DELETED}: too full"
        return [Report(0, text), Changed()]


def remove_stored(fs: FileSystem, row: Preserved) -> None:
    """What a row names, with all that is in it, where it is still there. Raises OSError.

    Before the commit that takes it from the list: what a crash leaves listed and gone, the next start takes off.
    """
    remove_whole(fs, store_path(row.store, row.stored_name))


def remove_whole(fs: FileSystem, top: bytes) -> None:
    """A file, or a directory with all that is in it."""
    waiting = [(top, False)]
    while waiting:
        path, emptied = waiting.pop()
        stat = fs.stat(path)
        if stat is None:
            continue
        if stat.kind != DIRECTORY:
            fs.unlink(path)
        elif emptied:
            fs.remove_dir(path)
        else:
            waiting.append((path, True))
            waiting += [(path + b"/" + name, False) for name, _ in fs.list_dir(path)]
