"""Snapshots of a catalog for threads that only look something up: opened when needed, kept for a moment, closed soon.

Opening one costs more than a look-up, and requests for content come by the hundred; but one that is kept open keeps
the catalog's log from being cut back. So an idle one is used again while it is young, and closed when it is not, by
`sweep`, which somebody calls after `sweep_later`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from replicad.catalog.store import Reader
from replicad.errors import CatalogError

YOUNG_S = 0.25
"""What a snapshot shows may be so old: who relies on it looks at the disk as well."""
IDLE_MAX = 16
"""Each holds two descriptors: more threads than this seldom look something up at a time, and those who want to see this
very moment leave one behind each time."""


class Readers:
    """Of one catalog. `open_reader` is `Catalog.reader`; `sweep_later(seconds)` sees to it that `sweep` is called."""

    def __init__(self, open_reader: Callable[[], Reader], sweep_later: Callable[[float], None]) -> None:
        self._open_reader = open_reader
        self._sweep_later = sweep_later
        self._lock = threading.Lock()
        self._idle: list[tuple[float, Reader]] = []
        self._closed = False

    @contextmanager
    def reader(self, *, fresh: bool = False) -> Iterator[Reader]:
        """For the calling thread until it is given back; `fresh`: of this very moment. Raises CatalogError."""
        born, reader = self._take(fresh)
        try:
            yield reader
        except BaseException:
            reader.close()
            raise
        self._give_back(born, reader)

    def sweep(self) -> None:
        """Close what is no longer young."""
        with self._lock:
            old = [reader for born, reader in self._idle if not _is_young(born)]
            self._idle = [(born, reader) for born, reader in self._idle if _is_young(born)]
            left = bool(self._idle)
        for reader in old:
            reader.close()
        if left:
            self._sweep_later(YOUNG_S)

    def close(self) -> None:
        """Before the catalog is closed; `reader` raises CatalogError from now on."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for _, reader in idle:
            reader.close()

    def _take(self, fresh: bool) -> tuple[float, Reader]:
        with self._lock:
            if self._closed:
                raise CatalogError("the folder is being closed")
            while self._idle and not fresh:
                born, reader = self._idle.pop()
                if _is_young(born):
                    return born, reader
                reader.close()
        return time.monotonic(), self._open_reader()

    def _give_back(self, born: float, reader: Reader) -> None:
        with self._lock:
            keep = not self._closed and _is_young(born)
            first = keep and not self._idle
            surplus = [] if keep else [reader]
            if keep:
                self._idle.append((born, reader))
                surplus += [self._idle.pop(0)[1]] if len(self._idle) > IDLE_MAX else []
        for one in surplus:
            one.close()
        if first:
            self._sweep_later(YOUNG_S)


def _is_young(born: float) -> bool:
    return time.monotonic() - born < YOUNG_S
