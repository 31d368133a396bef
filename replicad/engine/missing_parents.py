"""Directories that are not known, and that something waits for (rule 10): asked for by UID when nothing is on its way
that might bring them."""

from __future__ import annotations

from collections.abc import Set

from replicad.core.effects import Effect
from replicad.core.ids import Uid
from replicad.engine.exchange import Exchange

PARENTS_ASKED_MS = 1_000
"""How often objects that are still missing although knowledge is complete are asked for."""
UNSURE_MAX_MS = 30_000
"""For which the digest proves nothing because of them: who can bring them has brought them by then."""


class MissingParents:
    """Of one folder."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._uids: Set[Uid] = frozenset()
        self._asked_ms = 0
        self._since_ms: int | None = None
        """Since when some are missing, without a break."""

    def found(self, uids: Set[Uid], now_ms: int) -> None:
        """All that what waits has met, instead of the ones before; a few hundred at most."""
        self._uids = uids
        self._since_ms = (now_ms if self._since_ms is None else self._since_ms) if uids else None

    def unsure(self, now_ms: int) -> bool:
        """Whether what is held is about to become more, though no more is known: others have kept a directory that was
        forgotten here, for what was moved into it (docs/safety.md, section 5)."""
        return self._since_ms is not None and now_ms < self._since_ms + UNSURE_MAX_MS

    def next_due_ms(self) -> int | None:
        if not self._uids or self._exchange.any_unsettled:
            return None
        return self._asked_ms + PARENTS_ASKED_MS

    def work(self, now_ms: int) -> list[Effect]:
        """Ask, if it is time; what is still missing then is found again."""
        due_ms = self.next_due_ms()
        if due_ms is None or now_ms < due_ms:
            return []
        self._asked_ms = now_ms
        missing, self._uids = self._uids, frozenset()
        return self._exchange.ask_for(sorted(missing), now_ms)

    def clock_set_back(self) -> None:
        """It would wait for as long as the clock was ahead."""
        self._asked_ms, self._since_ms = 0, None
