"""A member that has lapsed comes back (docs/safety.md, section 6): when it may be written living again.

It may once this folder is stale towards nobody in contact: what they have forgotten is known here, or was dropped. A
member that rejoins waits with taking part until it is written; one that has nothing to catch up with goes on meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable

from replicad.core.collection import Circle
from replicad.core.effects import Effect, Returned
from replicad.engine.exchange import Exchange
from replicad.engine.tombstones import Tombstones

AGAIN_MS = 1_000
"""Until it is asked again: another folder may have to catch up first."""
HEARD_MS = 30_000
"""For which one that rejoins waits for the hierarchy, read over the same links: it may say that it has lapsed."""


class Returning:
    """Of one folder. `compares`: it finds out what others have forgotten (engine.rejoining)."""

    def __init__(
        self,
        exchange: Exchange,
        tombstones: Tombstones,
        circle: Callable[[], Circle | None],
        compares: Callable[[], bool],
    ) -> None:
        self._exchange = exchange
        self._tombstones = tombstones
        self._circle = circle
        self._compares = compares
        self._looked_ms: int | None = None
        self.lapsed = False
        """As of the last look."""
        self._unheard_ms: int | None = None
        """Since when the hierarchy lags behind, though there are members in contact."""

    def next_due_ms(self) -> int | None:
        waits = self.lapsed or self._unheard_ms is not None
        return self._looked_ms + AGAIN_MS if waits and self._looked_ms is not None else None

    def clock_set_back(self) -> None:
        self._looked_ms = self._unheard_ms = None

    def holds_up(self, now_ms: int) -> bool:
        """Whether one that rejoins must not take part yet, as of the last look."""
        return self.lapsed or (self._unheard_ms is not None and now_ms < self._unheard_ms + HEARD_MS)

    def look(self, now_ms: int) -> list[Effect]:
        """Whether it has lapsed; where it has and may be back, that is said."""
        if self._looked_ms is not None and now_ms < self._looked_ms + AGAIN_MS:
            return []
        self._looked_ms = now_ms
        circle = self._circle()
        self.lapsed = circle is not None and not circle.member
        lags = circle is not None and not circle.heard and bool(self._exchange.meetings.met())
        self._unheard_ms = (now_ms if self._unheard_ms is None else self._unheard_ms) if lags else None
        return [Returned()] if self.lapsed and self.caught_up else []

    @property
    def caught_up(self) -> bool | None:
        """None where nobody is in contact who could tell. Who lacks as well what this member knows to be forgotten is
        for later: the two compare when this one takes part."""
        if self._compares():
            return False
        met, lagging = self._exchange.meetings.met(), self._exchange.meetings.lagging()
        told = [link.purged for peer, link in met.items() if link.purged and peer not in lagging]
        return all(self._tombstones.covers(purged) for purged in told) if met else None
