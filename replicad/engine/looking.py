"""Looking at one's own disk for a fence: which changes were there, and whether all of them have been taken up.

The fence makes a marker file. When the watch reports it, everything that changed before has been reported too: the
hints taken by then (`Disk.dirty_generation`) are those that count, and the member is through when all of them were
looked at and what they showed is committed (`Disk.scanned_through`). Where nothing is watched, where the marker cannot
be made, where it does not come, or where events were lost, a look at everything takes its place.

RACE: a change that the system reports only after the marker (a write through mmap, until the file is closed) is not
seen by this fence, as the documents say; the next one or the next full scan finds it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from replicad.catalog.store import Catalog
from replicad.core.ids import MemberId
from replicad.core.messages import BLOCKED_SHOWN_MAX, Fenced
from replicad.engine.awaiting import BlockedObject
from replicad.files.fs import FileSystem

FENCE_PATH = b".replicad/fence"
MARKER_MAX_MS = 5_000
"""A marker that has not come by then is not waited for: everything is looked at instead."""


class Disk(Protocol):
    """What a fence must know of the folder's disk; the hierarchy, which has none, uses `NoDisk`."""

    @property
    def watched(self) -> bool:
        """Whether every change is reported as it happens, and markers too."""

    @property
    def hindrance(self) -> str:
        """Why changes on the disk are not taken up now (first scan, marker missing, put back…); "" where they are.

        While there is one nobody is through, whatever was scanned.
        """

    def dirty_generation(self) -> int:
        """Grows with each hint taken: a path, or everything."""

    def scanned_through(self) -> int:
        """All hints up to this number were looked at, down to the bottom of new directories and to the end of large
        files, and what they showed is committed or listed in `unread`."""

    def look_everywhere(self) -> None:
        """Take a hint that everything may have changed: one more generation."""

    def unread(self) -> Sequence[tuple[bytes, str]]:
        """Entries that are looked at again since they could not be read or were not stable, with the reason. What is
        never replicated (a fifo, another mount) is not among them."""

    def blocked(self) -> Sequence[BlockedObject]:
        """Objects that the tree wants otherwise than the disk is, and that wait for more than their turn."""


class NoDisk:
    """The hierarchy's: there is nothing to look at."""

    watched = True
    hindrance = ""

    def dirty_generation(self) -> int:
        return 0

    def scanned_through(self) -> int:
        return 0

    def look_everywhere(self) -> None:
        """Nothing to look at."""

    def unread(self) -> Sequence[tuple[bytes, str]]:
        return ()

    def blocked(self) -> Sequence[BlockedObject]:
        return ()


class Look(msgspec.Struct):
    """This member's looking for one wait. Once it is through it stays so, whatever round asks."""

    marker: bytes = b""
    marker_due_ms: int = 0
    generation: int | None = None
    """Hints up to this one count; None: not known before the marker comes."""
    through: bool = False
    replica: int = 0
    counter: int = 0

    def next_due_ms(self) -> int | None:
        return self.marker_due_ms if self.generation is None else None


class Looking:
    """Begins looks and tells when they are through. `fs` is None for the hierarchy; `new_id` gives random bytes."""

    def __init__(
        self, own: MemberId, catalog: Catalog, disk: Disk, fs: FileSystem | None, new_id: Callable[[], bytes]
    ) -> None:
        self._own = own
        self._catalog = catalog
        self._disk = disk
        self._fs = fs
        self._new_id = new_id
        self._remove_old()

    def begin(self, now_ms: int) -> Look:
        look = Look()
        if self._fs is not None and self._disk.watched and self._make_marker(self._fs, look):
            look.marker_due_ms = now_ms + MARKER_MAX_MS
        else:
            self._look_everywhere(look)
        return look

    def marker_seen(self, look: Look) -> None:
        """The hints taken so far are those that count."""
        look.generation = self._disk.dirty_generation()
        self.end(look)

    def overdue(self, look: Look, now_ms: int) -> None:
        if look.generation is None and now_ms >= look.marker_due_ms:
            self._look_everywhere(look)

    def result(self, look: Look) -> Fenced | None:
        """None while it is not through; with entries that could not be read it is through for this round only."""
        if look.through:
            return self._fenced(look, ())
        if look.generation is None or self._disk.hindrance or self._disk.scanned_through() < look.generation:
            return None
        unread = self._disk.unread()
        look.through = not unread
        look.replica, look.counter = self._catalog.replica, self._catalog.counter
        return self._fenced(look, unread)

    def end(self, look: Look) -> None:
        """Nobody waits for its marker any more."""
        if look.marker and self._fs is not None:
            try:
                self._fs.unlink(FENCE_PATH + b"/" + look.marker)
            except OSError:
                pass  # the next start removes what is left there
        look.marker = b""

    def _look_everywhere(self, look: Look) -> None:
        self._disk.look_everywhere()
        self.marker_seen(look)

    def _make_marker(self, fs: FileSystem, look: Look) -> bool:
        """False where it cannot be made (no space, the directory removed): then everything is looked at."""
        name = self._new_id().hex().encode()
        try:
            fs.create(FENCE_PATH + b"/" + name).close()
        except OSError:
            return False
        look.marker = name
        return True

    def _remove_old(self) -> None:
        """Markers of an earlier run: nobody waits for them."""
        if self._fs is None:
            return
        try:
            for name, _ in self._fs.list_dir(FENCE_PATH):
                self._fs.unlink(FENCE_PATH + b"/" + name)
        except OSError:
            pass  # the directory is made anew with the folder's private ones; a marker left behind harms nobody

    def _fenced(self, look: Look, unread: Sequence[tuple[bytes, str]]) -> Fenced:
        return Fenced(
            member=bytes.fromhex(self._own),
            replica=look.replica,
            counter=look.counter,
            unread_count=len(unread),
            unread=list(unread[:BLOCKED_SHOWN_MAX]),
        )
