"""What pings tell: how long a round trip takes, and how far the peer's clock is from ours. Pure: times come in.

The round trip is smoothed as TCP does (an eighth of each new sample). The clock's offset is taken, as NTP does, from
the quickest of the last samples: the longer a ping was under way, the less is known about when it was answered.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

SAMPLES_MAX = 8
PINGS_OPEN_MAX = 8
"""Pings without an answer that are remembered: at one in 10 s, older ones belong to a dead link."""


@dataclass(slots=True)
class RoundTrips:
    """`rtt_ms` and `clock_offset_ms` (the peer's clock minus ours) are None until the first answer."""

    rtt_ms: float | None = None
    clock_offset_ms: float | None = None
    _next: int = 1
    _open: dict[int, tuple[float, int]] = field(default_factory=dict)
    _samples: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=SAMPLES_MAX))

    def ping(self, monotonic_ms: float, wall_ms: int) -> int:
        """The number of a ping that leaves now."""
        number, self._next = self._next, self._next + 1
        self._open[number] = (monotonic_ms, wall_ms)
        if len(self._open) > PINGS_OPEN_MAX:
            del self._open[min(self._open)]
        return number

    def pong(self, number: int, peer_wall_ms: int, monotonic_ms: float) -> bool:
        """Take in the answer to ping `number`; False where none such is open (it changes nothing)."""
        sent = self._open.pop(number, None)
        if sent is None:
            return False
        took_ms = max(0.0, monotonic_ms - sent[0])
        self.rtt_ms = took_ms if self.rtt_ms is None else self.rtt_ms + (took_ms - self.rtt_ms) / 8
        self._samples.append((took_ms, peer_wall_ms - (sent[1] + took_ms / 2)))
        self.clock_offset_ms = min(self._samples)[1]
        return True
