"""This member's own status, and the sending of it (docs/PROTOCOL.md, sections 3 to 5)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import msgspec

from replicad.catalog.store import Catalog
from replicad.core.cnset import EMPTY, CNSet
from replicad.core.effects import Effect, Send
from replicad.core.ids import MemberId
from replicad.core.messages import MemberStatus, Status, StatusRequest
from replicad.core.status_board import StatusBoard, shortened, widened
from replicad.engine.exchange_link import Correlations, Link, OwnState


def shown_set(known: CNSet, serves: bool) -> CNSet:
    """What a status or status request shows of `known`: it may understate."""
    return shortened(known) if serves else EMPTY


def said(own: MemberStatus) -> MemberStatus:
    """A status without what differs from one to the next though nothing has happened."""
    return msgspec.structs.replace(own, serial=0, time_ms=0, oldest_ms=None, head=0)


class Speaker:
    """Of one exchange and session."""

    def __init__(self, catalog: Catalog, own: MemberId, own_state: Callable[[], OwnState], session: int) -> None:
        self._catalog = catalog
        self._own = own
        self._own_state = own_state
        self._session = session
        self._serial = 0

    def status(self, connected: Iterable[MemberId], now_ms: int) -> MemberStatus:
        """As it is now; the next serial."""
        catalog, state = self._catalog, self._own_state()
        known = shown_set(catalog.known, state.serves)
        whole = state.serves and known == catalog.known and not state.owes
        self._serial += 1
        return MemberStatus(
            member=bytes.fromhex(self._own),
            session=self._session,
            serial=self._serial,
            replica=catalog.replica,
            head=catalog.head if whole else 0,
            known=known.encode(),
            missing=widened(state.missing).encode(),
            not_wanted=widened(state.not_wanted).encode(),
            purged=state.purged.encode(),
            digest=catalog.digest.to_bytes(16, "big") if whole else b"",
            state=state.state,
            complete=state.complete,
            scanned=state.scanned,
            pending_files=state.pending_files,
            pending_bytes=state.pending_bytes,
            oldest_ms=state.oldest_ms,
            time_ms=now_ms,
            connected=[bytes.fromhex(peer) for peer in sorted(connected)],
        )


class Statuses:
    """Sends them, of one exchange. `links`: the exchange's own, by peer. `serves`: as in OwnState."""

    def __init__(
        self,
        catalog: Catalog,
        speaker: Speaker,
        board: StatusBoard,
        links: Mapping[MemberId, Link],
        correlations: Correlations,
        *,
        may_receive: Callable[[MemberId], bool],
        serves: Callable[[], bool],
    ) -> None:
        self._catalog = catalog
        self._speaker = speaker
        self._board = board
        self._links = links
        self._correlations = correlations
        self._may_receive = may_receive
        self._serves = serves

    def send_due(self, now_ms: int, out: list[Effect]) -> None:
        due = self._board.due(now_ms)
        if not due:
            return
        own = self._speaker.status(self._links, now_ms)
        for peer, period_over in due:
            if period_over or self._links[peer].said != said(own) or self._board.has_to_relay(peer, now_ms):
                self._send(peer, self._correlations.next(), own, now_ms, out)
            else:
                self._board.nothing_new(peer)

    def synchronize(self, now_ms: int, out: list[Effect]) -> None:
        """Ask everyone for its status, tell everyone ours."""
        own = self._speaker.status(self._links, now_ms)
        for peer in self._links:
            self.request(peer, out)
            self._send(peer, self._correlations.next(), own, now_ms, out)

    def answer(self, peer: MemberId, correlation: int, now_ms: int, out: list[Effect]) -> None:
        self._send(peer, correlation, self._speaker.status(self._links, now_ms), now_ms, out)

    def request(self, peer: MemberId, out: list[Effect]) -> None:
        if self._may_receive(peer):
            known = shown_set(self._catalog.known, self._serves()).encode()
            request = StatusRequest(correlation=self._correlations.next(), replica=self._catalog.replica, known=known)
            out.append(Send(peer, request))

    def _send(self, peer: MemberId, correlation: int, own: MemberStatus, now_ms: int, out: list[Effect]) -> None:
        if self._may_receive(peer):
            out.append(Send(peer, Status(correlation=correlation, own=own, heard=self._board.relay(peer, now_ms))))
            self._links[peer].said = said(own)
        self._board.sent(peer, now_ms)
