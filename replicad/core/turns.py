"""Whose turn it is, where events arrive and work is due: a folder's own work, its disk above all, must not wait until
nothing arrives, since that may be never. The daemon's driver and the simulator's both ask here."""

from __future__ import annotations

EVENTS_A_TICK_MAX = 32
"""Handled in a row while work is due: small ones take well under a millisecond, so work waits some 20 ms."""


class Turns:
    """Of one replica. Events go first, but so many in a row only."""

    def __init__(self) -> None:
        self._events = 0

    @property
    def work_first(self) -> bool:
        """Where work is due, a Tick is handled next though events wait."""
        return self._events >= EVENTS_A_TICK_MAX

    def took(self, *, tick: bool) -> None:
        """It was handled."""
        self._events = 0 if tick else self._events + 1
