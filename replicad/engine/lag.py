"""Replication lag: from the commit at the origin to the installation here, clock offsets taken out (INTERFACE `lag_s`).

A change's own stamp tells when it was made, by its author's clock; how far that clock is from ours is taken from the
newest status that came straight from that member. What was found by a scan after a stop is stamped by the file's times
and would count as days: only changes no older than RECENT_MS count.
"""

from __future__ import annotations

from collections import deque
from statistics import median

WINDOW_MS = 60_000
"""INTERFACE: the median over the last minute's changes."""
RECENT_MS = 600_000
SAMPLES_MAX = 4_096
"""Of a minute; of more, the newest count."""


class Lag:
    def __init__(self) -> None:
        self._samples: deque[tuple[int, int]] = deque(maxlen=SAMPLES_MAX)

    def installed(self, made_ms: int, offset_ms: int, now_ms: int) -> None:
        """A change stamped `made_ms` is on the disk; `offset_ms` is our clock less its author's."""
        lag_ms = max(0, now_ms - made_ms - offset_ms)
        if lag_ms <= RECENT_MS:
            self._samples.append((now_ms, lag_ms))

    def median_s(self, now_ms: int) -> float | None:
        """None without changes in the last minute."""
        recent = [lag_ms for at_ms, lag_ms in self._samples if now_ms - at_ms <= WINDOW_MS]
        return median(recent) / 1000 if recent else None
