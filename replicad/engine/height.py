"""The mark in the home: how high a catalog has been, kept outside of it (I5; docs/safety.md, section 4).

A catalog that lies below its mark was put back: a backup of the database alone was restored, or the disk lost what it
had taken for durable. The mark is written after the commit, so after a crash it may lie below, and says nothing then.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from replicad.catalog.store import Catalog

NOTED_MS = 1_000
"""The mark is written at most so often, and at a clean end."""


class Height(msgspec.Struct, frozen=True):
    """What the mark says. `moved`: the home is another directory, or on another machine, than when it was written: a
    volume that moved, or a copy of which the other may be running."""

    commits: int
    moved: bool = False


class HeightMark:
    """Of one folder. `begun`: the catalog had been used before it was opened now."""

    def __init__(
        self, catalog: Catalog, read: Callable[[], Height | None], write: Callable[[int], None], now_ms: int
    ) -> None:
        self._catalog = catalog
        self._write = write
        stored = read()
        begun = catalog.commits > 0
        self.below = begun and stored is not None and catalog.commits < stored.commits
        self.moved = begun and stored is not None and stored.moved and not self.below
        self._noted = stored.commits if stored is not None else 0
        self._due_ms = now_ms

    def next_due_ms(self) -> int | None:
        return self._due_ms if self._catalog.commits != self._noted else None

    def note(self, now_ms: int, *, at_once: bool = False) -> None:
        """Write it, if it is time. What the home's disk refuses is written later."""
        if self._catalog.commits != self._noted and (at_once or now_ms >= self._due_ms):
            self._due_ms = now_ms + NOTED_MS
            self._write(self._catalog.commits)
            self._noted = self._catalog.commits

    def clock_set_back(self, now_ms: int) -> None:
        self._due_ms = min(self._due_ms, now_ms + NOTED_MS)
