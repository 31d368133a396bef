"""Virtual time: what is to happen, in the order of time and, at one time, of being asked for."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable

START_MS = 1_700_000_000_000
"""Some day in 2023; file times must look like file times."""


class Clockwork:
    """One for a run. `trace` gathers what happened, so that two runs can be compared."""

    def __init__(self) -> None:
        self.now_ms = START_MS
        self._serial = 0
        self._waiting: list[tuple[int, int, Callable[[], None]]] = []
        self._trace = hashlib.blake2b(digest_size=16)
        self.happened = 0

    def after(self, delay_ms: int, act: Callable[[], None]) -> None:
        self.at(self.now_ms + max(0, delay_ms), act)

    def at(self, at_ms: int, act: Callable[[], None]) -> None:
        self._serial += 1
        heapq.heappush(self._waiting, (max(at_ms, self.now_ms), self._serial, act))

    def run_until(self, end_ms: int) -> None:
        """Everything up to and including `end_ms`."""
        while self._waiting and self._waiting[0][0] <= end_ms:
            at_ms, _, act = heapq.heappop(self._waiting)
            self.now_ms = at_ms
            self.happened += 1
            act()
        self.now_ms = max(self.now_ms, end_ms)

    def note(self, *words: object) -> None:
        """Into the trace."""
        self._trace.update(repr((self.now_ms, *words)).encode())

    def trace(self) -> str:
        return self._trace.hexdigest()
