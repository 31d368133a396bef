"""The digest's repair: who compares with whom, and when; what differs is asked for (docs/safety.md, section 7).

Equal sets and unequal digests, twice in a row, prove a fault: an event. The member with the lesser id then compares,
one peer at a time; others it asks again how they stand when that is over, since one comparison mostly mends all.
What differs each of the two asks of the other by UID, and merges: by stamps, as always. So both hold the same in the
end. Others hear nothing of it, for their sets know the CNs: that their digests differ is what tells them.

Bounded: a comparison under way, and an answer for each link; a piece of reading at most each PACE_MS; one comparison a
minute with a peer, and ever fewer as long as they mend nothing (a peer that may not send holds something else).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from replicad.catalog.changes import SetDigest
from replicad.catalog.store import Catalog
from replicad.core.cnset import CNSet
from replicad.core.effects import Effect, Report, Send
from replicad.core.ids import MemberId
from replicad.core.messages import Page
from replicad.core.messages_repair import Differ, OfRepair, RangeReply, RangeRequest, Taken
from replicad.core.status_board import Known
from replicad.engine.comparing import Answering, Comparison, Reading, Taking
from replicad.engine.exchange_asking import Asking
from replicad.engine.exchange_link import Correlations, Link
from replicad.errors import ProtocolError

COMPARED_EACH_MS = 60_000
COMPARED_EACH_MAX_MS = 24 * 3_600_000
"""The time between two comparisons with a peer; it doubles with each one in a row that mended nothing."""
WAIT_MAX_MS = 120_000
"""For an answer: a peer reads a million objects in some 15 s, and has others to answer."""
PACE_MS = 10
"""Between two steps of reading: what else the folder's thread has to do has half of its time at least."""


@dataclass(slots=True)
class _Quarrel:
    """With a peer whose digest differs; kept a while after it no longer does."""

    seen: int = 0
    """Statuses in a row with another digest."""
    told: bool = False
    """There was an event."""
    ask_ms: int | None = None
    """When it is to be asked how it stands."""
    free_ms: int = 0
    """Before that there is no comparison."""
    in_vain: int = 0
    """Comparisons in a row that mended nothing."""


class Repairing:
    """Of one exchange. `links`: the exchange's own, by peer; `purged`: this member's own. `changed` is told when the
    status says something else."""

    def __init__(
        self,
        catalog: Catalog,
        own: MemberId,
        links: Mapping[MemberId, Link],
        asking: Asking,
        correlations: Correlations,
        *,
        purged: Callable[[], CNSet],
        may_send: Callable[[MemberId], bool],
        may_serve: Callable[[MemberId], bool],
        ask_status: Callable[[MemberId, list[Effect]], None],
        changed: Callable[[int], None],
    ) -> None:
        self._catalog = catalog
        self._own = own
        self._links = links
        self._asking = asking
        self._correlations = correlations
        self._purged = purged
        self._may_send = may_send
        self._may_serve = may_serve
        self._ask_status = ask_status
        self._changed = changed
        self._quarrels: dict[MemberId, _Quarrel] = {}
        self._comparison: Comparison | None = None
        self._until_ms = 0
        """When the comparison has waited enough."""
        self._answers: dict[MemberId, Answering] = {}
        """By peer, the one whose turn it is first."""
        self._told_to_ask: dict[MemberId, tuple[int, Taking]] = {}
        """By peer: its number, and what is asked of it."""
        self._read_ms = 0

    # -- what the exchange tells

    def heard(self, peer: MemberId, own: Known, now_ms: int, out: list[Effect]) -> None:
        """A peer's status."""
        if own.known != self._catalog.known or own.purged != self._purged() or not self._may_serve(peer):
            return
        if own.status.digest == self._catalog.digest.to_bytes(16, "big"):
            self._made_up(peer, now_ms)
            return
        quarrel = self._quarrels.setdefault(peer, _Quarrel())
        quarrel.seen += 1
        if quarrel.seen > 1:
            self._report_once(peer, quarrel, out)
        asks = self._own < peer
        if asks and quarrel.seen > 1 and self._comparison is None and now_ms >= quarrel.free_ms:
            quarrel.ask_ms = None
            self._comparison = Comparison(self._catalog, peer)
            self._go_on(now_ms, out)
        elif asks or quarrel.seen == 1:
            quarrel.ask_ms = max(now_ms, quarrel.free_ms)

    def received(self, peer: MemberId, message: OfRepair, now_ms: int, out: list[Effect]) -> None:
        """Raises ProtocolError."""
        if not self._may_serve(peer):
            return
        compared = self._comparison is not None and self._comparison.peer == peer
        match message:
            case RangeRequest():
                self._report_once(peer, self._quarrels.setdefault(peer, _Quarrel()), out)
                self._answers[peer] = Answering(self._catalog, message)  # an earlier one has been waited for enough
            case Differ(correlation=number, uids=uids):
                self._told_to_ask.pop(peer, None)
                if uids and self._may_send(peer):
                    taking = Taking(uids)
                    self._told_to_ask[peer] = number, taking
                    self._ask(peer, taking, now_ms, out)
                else:
                    out.append(Send(peer, Taken(correlation=number, changed=False)))
            case RangeReply() if compared and self._comparison is not None:
                try:
                    self._comparison.told(message)
                except ProtocolError:
                    self._end(now_ms, in_vain=1)
                    raise
            case Taken(correlation=number, changed=changed) if compared and self._comparison is not None:
                if number == self._comparison.differ:
                    self._comparison.differ = None
                    self._comparison.changed |= changed
        self._go_on(now_ms, out)

    def came(self, peer: MemberId, page: Page, changed: bool, now_ms: int, out: list[Effect]) -> None:
        """A page was stored; whether it changed what is held."""
        uids = [wire.uid for wire in page.records]
        told = self._told_to_ask.get(peer)
        if told is not None and page.correlation == told[1].correlation:
            number, taking = told
            if taking.came(uids, changed):
                self._ask(peer, taking, now_ms, out)
            else:
                del self._told_to_ask[peer]
                out.append(Send(peer, Taken(correlation=number, changed=taking.changed)))
        comparison = self._comparison
        if comparison is None or comparison.peer != peer or comparison.taking is None:
            return
        if page.correlation == comparison.taking.correlation:
            if comparison.taking.came(uids, changed):
                self._ask(peer, comparison.taking, now_ms, out)
            else:
                comparison.changed |= comparison.taking.changed
                comparison.taking = None
                self._go_on(now_ms, out)

    def part(self, peer: MemberId, now_ms: int) -> None:
        """No record crosses the link any more."""
        self._answers.pop(peer, None)
        self._told_to_ask.pop(peer, None)
        quarrel = self._quarrels.get(peer)
        if quarrel is not None:
            quarrel.seen, quarrel.ask_ms = 0, None
        if self._comparison is not None and self._comparison.peer == peer:
            self._end(now_ms, in_vain=0)

    # -- what follows by itself

    def work(self, now_ms: int, out: list[Effect]) -> None:
        """A piece of what is due."""
        if self._comparison is not None and self._comparison.waits and now_ms >= self._until_ms:
            self._end(now_ms, in_vain=1)
        if now_ms >= self._read_ms and self._reads():
            self._read_ms = now_ms + PACE_MS
            self._read(now_ms, out)
        if self._comparison is None:
            for peer, quarrel in self._quarrels.items():
                if quarrel.ask_ms is not None and now_ms >= quarrel.ask_ms and peer in self._links:
                    quarrel.seen, quarrel.ask_ms = 1, None
                    self._ask_status(peer, out)

    def next_due_ms(self) -> int | None:
        due = [self._read_ms] if self._reads() else []
        if self._comparison is None:
            due += [quarrel.ask_ms for quarrel in self._quarrels.values() if quarrel.ask_ms is not None]
        elif self._comparison.waits:
            due.append(self._until_ms)
        return min(due, default=None)

    def clock_set_back(self, back_ms: int) -> None:
        self._until_ms -= back_ms
        self._read_ms -= back_ms
        for quarrel in self._quarrels.values():
            quarrel.free_ms -= back_ms
            quarrel.ask_ms = quarrel.ask_ms - back_ms if quarrel.ask_ms is not None else None

    # -- its parts

    def _report_once(self, peer: MemberId, quarrel: _Quarrel, out: list[Effect]) -> None:
        if not quarrel.told:
            quarrel.told = True
            out.append(Report(0, f"this member and {peer} know the same changes and hold different records"))

    def _made_up(self, peer: MemberId, now_ms: int) -> None:
        """The digests are equal."""
        quarrel = self._quarrels.get(peer)
        if quarrel is None:
            return
        if self._comparison is not None and self._comparison.peer == peer:
            self._end(now_ms, in_vain=0)
        self._quarrels[peer] = _Quarrel(free_ms=quarrel.free_ms)
        if now_ms >= quarrel.free_ms:
            del self._quarrels[peer]

    def _reads(self) -> bool:
        return bool(self._answers) or (self._comparison is not None and self._comparison.reads)

    def _read(self, now_ms: int, out: list[Effect]) -> None:
        """One step, for the next one whose turn it is."""
        if self._comparison is not None and self._comparison.reads:
            self._hold_against(self._comparison.step(), now_ms, out)
            self._go_on(now_ms, out)
        for peer in list(self._answers)[:1]:
            answering = self._answers.pop(peer)
            reply = answering.step()
            self._hold_against(answering.reading, now_ms, out)
            if reply is None:
                self._answers[peer] = answering  # behind the others
            else:
                out.append(Send(peer, reply))

    def _hold_against(self, reading: Reading, now_ms: int, out: list[Effect]) -> None:
        """The digest that is kept against the rows, where all were read: it may be what is wrong."""
        if reading.counted not in (None, self._catalog.digest):
            assert reading.counted is not None
            self._catalog.commit(None, [SetDigest(reading.counted)], now_ms=now_ms)
            out.append(Report(0, "the records of this member's catalog were counted anew: their sum was another one"))
            self._changed(now_ms)

    def _go_on(self, now_ms: int, out: list[Effect]) -> None:
        """Whatever the comparison has to ask for now, or its end."""
        comparison = self._comparison
        if comparison is None or comparison.waits or comparison.reads:
            return
        peer = comparison.peer
        self._until_ms = now_ms + WAIT_MAX_MS
        if batch := comparison.batch():
            comparison.differ = self._correlations.next()
            if self._may_send(peer):
                comparison.taking = Taking(batch)
                self._ask(peer, comparison.taking, now_ms, out)
            out.append(Send(peer, Differ(correlation=comparison.differ, uids=batch)))
        elif question := comparison.question(self._correlations.next()):
            out.append(Send(peer, question))
        else:
            self._end(now_ms, in_vain=not comparison.changed)

    def _ask(self, peer: MemberId, taking: Taking, now_ms: int, out: list[Effect]) -> None:
        asked = self._asking.ask_peer(peer, taking.uids, now_ms)
        taking.correlation = asked.correlation
        out.append(Send(peer, asked))

    def _end(self, now_ms: int, in_vain: int) -> None:
        comparison, self._comparison = self._comparison, None
        assert comparison is not None
        quarrel = self._quarrels.setdefault(comparison.peer, _Quarrel())
        quarrel.in_vain = 0 if comparison.changed else quarrel.in_vain + in_vain
        delay_ms = COMPARED_EACH_MS * 2 ** min(max(quarrel.in_vain - 1, 0), 16)
        quarrel.free_ms = now_ms + min(delay_ms, COMPARED_EACH_MAX_MS)
        quarrel.seen, quarrel.ask_ms = 0, None
