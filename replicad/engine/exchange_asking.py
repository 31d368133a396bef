"""Backfill requests of one exchange: the cycles of the backfill array, and objects asked for by UID (rule 10)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from replicad.catalog.store import Catalog
from replicad.core.backfill import Backfill, Cycle
from replicad.core.cnset import CNSet
from replicad.core.effects import Effect, Send
from replicad.core.ids import MemberId, Uid
from replicad.core.messages import ASKED_UIDS_MAX, PAGE_RECORDS_MAX, BackfillRequest, Page
from replicad.core.status_board import shortened
from replicad.engine.exchange_link import Correlations, Link, UidsAsked
from replicad.engine.exchange_memory import Memory

UID_TURNS_MAX = 10_000
"""Objects of which it is remembered who was asked; some 2 MB."""


class UidTurns:
    """Each object is asked of one peer after another."""

    def __init__(self) -> None:
        self._turns: dict[Uid, int] = {}

    def share(self, uids: Iterable[Uid], free: Sequence[MemberId]) -> dict[MemberId, list[Uid]]:
        """Which of the `free` peers is asked for which of them; what finds no room is in none."""
        by_peer: dict[MemberId, list[Uid]] = {}
        for uid in uids if free else ():
            turn = self._turns.pop(uid, 0)
            batch = by_peer.setdefault(free[turn % len(free)], [])
            if len(batch) < ASKED_UIDS_MAX:
                batch.append(uid)
                self._turns[uid] = turn + 1
                if len(self._turns) > UID_TURNS_MAX:
                    del self._turns[next(iter(self._turns))]
        return by_peer


class Asking:
    """Of one exchange. `links`: the exchange's own, by peer."""

    def __init__(
        self,
        catalog: Catalog,
        backfill: Backfill,
        memory: Memory,
        links: Mapping[MemberId, Link],
        correlations: Correlations,
    ) -> None:
        self._catalog = catalog
        self._backfill = backfill
        self._memory = memory
        self._links = links
        self._correlations = correlations
        self._turns = UidTurns()

    def ask_for(self, uids: Iterable[Uid], sources: Iterable[MemberId], now_ms: int) -> list[Effect]:
        """Of those of the sources of whom nothing is asked so at this moment."""
        free = sorted(peer for peer in sources if not self._links[peer].asked)
        out: list[Effect] = []
        for peer, batch in self._turns.share(uids, free).items():
            out.append(Send(peer, self.ask_peer(peer, batch, now_ms)))
        return out

    def ask_peer(self, peer: MemberId, uids: Sequence[Uid], now_ms: int) -> BackfillRequest:
        """The request for these objects, of which there are at most ASKED_UIDS_MAX; it is to be sent."""
        correlation = self._correlations.next()
        self._links[peer].asked[correlation] = UidsAsked(tuple(uids), now_ms)
        return self._request(peer, correlation, wanted=None, uids=uids)

    def progress(self, peer: MemberId, page: Page, progressed: bool, now_ms: int, out: list[Effect]) -> None:
        """Clear what came; go on with the cycle to which the page belongs."""
        self._backfill.clear(self._catalog.known)
        link = self._links[peer]
        link.asked.pop(page.correlation, None)
        cycle = self._backfill.cycle(peer)
        if cycle is None or page.correlation != link.correlation:
            return
        if cycle.wanted is not None:
            cycle.wanted = cycle.wanted.minus(self._catalog.known)
            more = bool(cycle.wanted) and progressed
        else:
            more = page.end < page.head and progressed
        if more:
            self._backfill.progressed(peer, now_ms)
            self.ask(cycle, out)
        else:
            self._backfill.ended(
                peer, "" if progressed or page.end == page.head else "its page brought nothing", now_ms
            )

    def ask(self, cycle: Cycle, out: list[Effect]) -> None:
        """The next request of a cycle."""
        link = self._links[cycle.peer]
        link.correlation = self._correlations.next()
        out.append(Send(cycle.peer, self._request(cycle.peer, link.correlation, wanted=cycle.wanted, uids=())))

    def _request(
        self, peer: MemberId, correlation: int, *, wanted: CNSet | None, uids: Sequence[Uid]
    ) -> BackfillRequest:
        replica = self._links[peer].replica
        assert replica is not None, "a peer is asked that has not said who it is"
        return BackfillRequest(
            correlation=correlation,
            replica=replica,
            after=self._memory.row(peer, replica).position,
            base=shortened(self._catalog.known).encode() if not uids else [],
            records_max=PAGE_RECORDS_MAX,
            wanted=shortened(wanted).encode() if wanted is not None else None,
            uids=list(uids),
        )
