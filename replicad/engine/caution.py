"""Caution after a start: nothing is originated before those who remember this member have judged its catalog (I5).

A catalog that was put back would give out CNs that it has given out before. Whoever has met it can tell (core.runs).
Where not all of them are reached within seconds, it goes on under a new replica id, of which no CN was ever given out.
"""

from __future__ import annotations

from collections.abc import Callable

from replicad.catalog.store import Catalog
from replicad.core.collection import Circle
from replicad.core.ids import MemberId

CAUTION_MS = 3_000
"""How long it waits for them. A link takes tenths of a second; users wait for what is not originated."""


class Caution:
    """Of one start of a folder."""

    def __init__(
        self, catalog: Catalog, approved: Callable[[], set[MemberId]], circle: Callable[[], Circle | None], now_ms: int
    ) -> None:
        self._met = {peer.member for peer in catalog.peers()}
        self._approved = approved
        self._circle = circle
        self._until_ms: int | None = now_ms + CAUTION_MS

    @property
    def waits(self) -> bool:
        """Whether all living members that this catalog has met are still waited for."""
        if self._until_ms is not None:
            circle = self._circle()
            living = self._met & circle.others if circle is not None else self._met
            if living <= self._approved():
                self._until_ms = None
        return self._until_ms is not None

    def next_due_ms(self) -> int | None:
        return self._until_ms

    def over(self, now_ms: int) -> bool:
        """True once, when they have been waited for in vain: a new replica id is to be taken."""
        if not self.waits or self._until_ms is None or now_ms < self._until_ms:
            return False
        self._until_ms = None
        return True

    def clock_set_back(self, now_ms: int) -> None:
        if self._until_ms is not None:
            self._until_ms = min(self._until_ms, now_ms + CAUTION_MS)
