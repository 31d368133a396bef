"""The exchange of knowledge about one folder, or about the hierarchy, with every connected peer. docs/PROTOCOL.md.

Synchronous, called by the one thread that owns the catalog; no clock, no threads, no IO but the catalog's. What is
decided here is small: the rules are in core.series, core.outbox, core.backfill, core.settling, core.status_board.

Invariants between two calls:
1. `_mark` is the catalog as of the last commit that was told to the outboxes.
2. Every due backfill entry is being asked for, or waits for something that comes as an event.

A `PeerError` out of `handle` is the peer's fault: its link is to be closed; nothing of the message was taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec

from replicad.catalog.store import Catalog
from replicad.core.backfill import Backfill, Cycle, EntryRow, Profile
from replicad.core.cnset import EMPTY, CNSet
from replicad.core.effects import Effect, LinkDown, LinkUp, Received, Report, Send, Tick
from replicad.core.ids import Cn, MemberId, ReplicaId, Uid
from replicad.core.messages import (
    ASKED_UIDS_MAX,
    PAGE_RECORDS_MAX,
    BackfillRequest,
    ContentBackfill,
    ContentChange,
    HierarchyBackfill,
    HierarchyChange,
    MemberStatus,
    Message,
    Page,
    Status,
    StatusRequest,
    set_of,
    unseal,
)
from replicad.core.outbox import TOLD_INTERVALS_MAX, Mark, Push
from replicad.core.records import Record
from replicad.core.settling import Settling
from replicad.core.status_board import Known, StatusBoard, open_status, shortened
from replicad.engine.exchange_intake import Absorb, Intake
from replicad.engine.exchange_link import CHANNELS, Link, OwnState, UidsAsked
from replicad.engine.exchange_memory import Memory
from replicad.engine.exchange_pages import Pager
from replicad.engine.exchange_status import Speaker, said, shown_set
from replicad.errors import ProtocolError

CLOCK_BACK_MS = 1_000
"""By how much the clock must have gone back between two events for timers to be set anew: more than it is slewed by."""
UID_ANSWER_MAX_MS = 30_000
"""After so long a request by UID counts as unanswered."""
UID_TURNS_MAX = 10_000
"""Objects asked for by UID of which it is remembered who was asked; some 2 MB."""


class Exchange:
    """Of one catalog. `kind` is HIERARCHY or CONTENT.

    `may_send(peer)`: whether its records are taken; `may_receive(peer)`: whether it is served. `draw` gives numbers in
    [0, 1). `serves`: as in OwnState, for the questions that every commit asks (None: `own_state` is asked, and should
    be cheap then). The constructor makes one commit (the session's number).
    """

    def __init__(
        self,
        catalog: Catalog,
        own: MemberId,
        kind: int,
        *,
        absorb: Absorb,
        own_state: Callable[[], OwnState],
        may_send: Callable[[MemberId], bool],
        may_receive: Callable[[MemberId], bool],
        draw: Callable[[], float],
        now_ms: int,
        profile: Profile | None = None,
        serves: Callable[[], bool] | None = None,
    ) -> None:
        self._catalog = catalog
        self._channel = CHANNELS[kind]
        self._own_state = own_state
        self._serves = serves or (lambda: own_state().serves)
        self._may_send = may_send
        self._may_receive = may_receive
        self._links: dict[MemberId, Link] = {}
        self._backfill = Backfill(profile or Profile(), draw)
        self._settling = Settling()
        self._board = StatusBoard(own, draw)
        self._pager = Pager(catalog, self._settling)
        self._mark = Mark(catalog.head, catalog.known)
        self._memory = Memory(catalog, self._board, now_ms)
        self._correlation = int(draw() * 2**31) << 31
        self._uid_turns: dict[Uid, int] = {}
        self._late: list[Effect] = []
        self._intake = Intake(catalog, absorb, self._memory, self._settling)
        self._put_back: ReplicaId | None = None
        self._speaker = Speaker(catalog, own, own_state, self._memory.begin_session(now_ms))
        self._memory.recall(self._settling, now_ms)

    # -- what the replica calls

    def handle(self, event: LinkUp | LinkDown | Received | Tick, now_ms: int) -> list[Effect]:
        """Raises PeerError (see above); effects that were under way then come with the next call."""
        out, self._late = self._late, []
        self._notice(now_ms, out)
        try:
            match event:
                case LinkUp(peer):
                    self._link_up(peer, now_ms, out)
                case LinkDown(peer):
                    self._link_down(peer, now_ms)
                case Received(peer, message) if peer in self._links:
                    self._received(peer, message, now_ms, out)
        except BaseException:
            self._late = out
            raise
        self._advance(now_ms, out)
        return out

    def after_commit(self, now_ms: int) -> list[Effect]:
        """To be called after every commit of the replica's own: pushes what it stored, and tells of what it installed.

        The exchange's own commits, made in `handle`, need no call.
        """
        out, self._late = self._late, []
        self._notice(now_ms, out)
        self._board.mark(now_ms)
        self._advance(now_ms, out)
        return out

    def ask_for(self, uids: Iterable[Uid], now_ms: int) -> list[Effect]:
        """Ask for objects whatever the CNs say (rule 10): each call asks the next peer. Call again, later, for what did
        not come; what finds no peer that is free now is not asked for."""
        out: list[Effect] = []
        free = sorted(peer for peer in self._sources() if not self._links[peer].asked)
        by_peer: dict[MemberId, list[Uid]] = {}
        for uid in uids if free else ():
            turn = self._uid_turns.pop(uid, 0)
            batch = by_peer.setdefault(free[turn % len(free)], [])
            if len(batch) < ASKED_UIDS_MAX:
                batch.append(uid)
                self._uid_turns[uid] = turn + 1
                if len(self._uid_turns) > UID_TURNS_MAX:
                    del self._uid_turns[next(iter(self._uid_turns))]
        for peer, batch in by_peer.items():
            correlation = self._next_correlation()
            self._links[peer].asked[correlation] = UidsAsked(tuple(batch), now_ms)
            out.append(Send(peer, self._request(peer, correlation, wanted=None, uids=batch)))
        return out

    def synchronize(self, now_ms: int) -> list[Effect]:
        """REQUIREMENTS P16: ask everyone for its status, tell everyone ours, make every backfill entry due."""
        self._backfill.expire(now_ms)
        out: list[Effect] = []
        own = self._speaker.status(self._links, now_ms)
        for peer in self._links:
            self._request_status(peer, out)
            self._send_status(peer, self._next_correlation(), own, now_ms, out)
        self._advance(now_ms, out)
        return out

    def next_due_ms(self) -> int | None:
        """When `handle(Tick())` is to be called at the latest; None: not before the next event."""
        if self._late:
            return 0
        due = [self._backfill.next_due_ms(), self._settling.next_due_ms()]
        due += (self._board.next_due_ms(), self._memory.next_due_ms())
        for link in self._links.values():
            due.append(link.outbox.next_due_ms())
            if link.asked:
                due.extend([asked.asked_ms + UID_ANSWER_MAX_MS for asked in link.asked.values()])
        return min([one for one in due if one is not None], default=None)

    def clock_set_back(self, back_ms: int) -> None:
        """The clock was set back by so much; every time kept here moves with it, so that nothing waits longer."""
        for part in (self._backfill, self._settling, self._board, self._memory):
            part.clock_set_back(back_ms)
        for link in self._links.values():
            link.outbox.clock_set_back(back_ms)
            for asked in link.asked.values():
                asked.asked_ms -= back_ms

    def close(self, now_ms: int) -> None:
        """Before the catalog is closed: store what peers said."""
        self._memory.keep(now_ms)

    # -- what the replica asks

    def settled(self, uid: Uid) -> bool:
        """Rule 7: whether it may be replaced, moved or deleted."""
        return self._settling.settled(uid)

    @property
    def settlings(self) -> int:
        """Grows whenever objects may have become settled."""
        return self._settling.endings

    @property
    def any_unsettled(self) -> bool:
        return self._settling.any_unsettled

    @property
    def put_back(self) -> bool:
        """A peer knows changes under this catalog's replica id that it has not made: nothing may be originated under
        it (I5), and pages that hold such changes are not taken, until it is renewed."""
        return self._put_back == self._catalog.replica

    def connected(self) -> Sequence[MemberId]:
        return sorted(self._links)

    def peers_with(self, cn: Cn) -> list[MemberId]:
        """Connected peers that may have its content: first those that have installed it by their last status, then
        those that have since shown that they know it, such as the one that has just pushed it."""
        installed, shown = [], []
        for peer in self.connected():
            known = self._board.member(peer)
            if known is not None and cn in known.missing:
                continue
            if known is not None and cn in known.known:
                installed.append(peer)
            elif cn in self._links[peer].offers:
                shown.append(peer)
        return installed + shown

    def statuses(self) -> dict[MemberId, Known]:
        """The newest of every other member, connected or not."""
        return self._board.members()

    def backfill_entries(self) -> list[EntryRow]:
        return self._backfill.rows()

    def cycle_with(self, peer: MemberId) -> Cycle | None:
        return self._backfill.cycle(peer)

    def forget(self, member: MemberId) -> None:
        """It was removed from the group."""
        self._board.forget(member)

    # -- links

    def _link_up(self, peer: MemberId, now_ms: int, out: list[Effect]) -> None:
        if peer in self._links:
            self._link_down(peer, now_ms)
        self._links[peer] = Link()
        self._memory.meet(peer, now_ms)
        self._intake.meet(peer)
        self._backfill.met(peer)
        self._board.link_up(peer, now_ms)
        self._board.mark(now_ms)
        self._request_status(peer, out)

    def _link_down(self, peer: MemberId, now_ms: int) -> None:
        if self._links.pop(peer, None) is None:
            return
        self._backfill.ended(peer, "the link was lost", now_ms)
        self._board.link_down(peer)
        self._board.mark(now_ms)
        self._intake.part(peer)
        self._memory.part(peer, now_ms)

    def _sources(self) -> dict[MemberId, CNSet]:
        """Connected peers that may be asked, with what they would serve."""
        return {
            peer: link.offers for peer, link in self._links.items() if link.replica is not None and self._may_send(peer)
        }

    # -- messages

    def _received(self, peer: MemberId, message: Message, now_ms: int, out: list[Effect]) -> None:
        match message:
            case HierarchyChange() | ContentChange() | HierarchyBackfill() | ContentBackfill():
                self._page(peer, message, now_ms, out)
            case BackfillRequest():
                self._answer(peer, message, now_ms, out)
            case StatusRequest():
                known = set_of(message.known)
                self._links[peer].speaks_for(message.replica)
                self._shown(peer, known, now_ms, out)
                self._send_status(peer, message.correlation, self._speaker.status(self._links, now_ms), now_ms, out)
            case Status():
                self._status(peer, message, now_ms, out)
            case _:
                # The hierarchy, say, has nothing preserved: whoever asks for it there is at fault, not we.
                raise ProtocolError(f"not a message of the exchange: {type(message).__name__}")

    def _answer(self, peer: MemberId, request: BackfillRequest, now_ms: int, out: list[Effect]) -> None:
        base, wanted = set_of(request.base), set_of(request.wanted)
        if request.after < 0:
            raise ProtocolError("a backfill request begins before the first position")
        if not self._may_receive(peer):
            return
        self._links[peer].outbox.hear(base, now_ms)
        make = self._channel.answer
        if not self._serves():
            page = self._pager.loose(make, request.correlation, ())
        elif request.uids:
            held = self._catalog.objects(request.uids)
            page = self._pager.loose(make, request.correlation, [state.record for state in held])
        elif request.wanted is not None:
            page = self._pager.loose(make, request.correlation, self._catalog.with_cns(wanted, request.records_max))
        else:
            after = request.after if request.replica == self._catalog.replica else 0
            page = self._pager.series(make, request.correlation, after, base, request.records_max)
        out.append(Send(peer, page))

    def _status(self, peer: MemberId, message: Status, now_ms: int, out: list[Effect]) -> None:
        own = open_status(message.own, direct=True, received_ms=now_ms)
        if own.member != peer:
            raise ProtocolError("a member tells another's status as its own")
        heard = [open_status(status, direct=False, received_ms=now_ms) for status in message.heard]
        link = self._links[peer]
        link.speaks_for(own.status.replica)
        trusted = heard if self._may_send(peer) else []
        before = self._board.member(peer)
        for newer in self._board.take(peer, [own, *trusted], now_ms):
            if newer is not own or before is None or before.tells() != own.tells():
                self._memory.said_something_new(newer.member)
        self._shown(peer, own.known, now_ms, out)
        if not own.whole:
            return
        self._intake.cover(peer, own.status.replica, own.status.head, own.known)
        self._compare_digests(peer, own, out)

    def _shown(self, peer: MemberId, known: CNSet, now_ms: int, out: list[Effect]) -> None:
        """A peer has shown what it knows, and would serve (P8: what we lack of it becomes an entry)."""
        link = self._links[peer]
        link.outbox.hear(known, now_ms)
        link.offers = link.offers.union(known)
        if link.offers.interval_count() > TOLD_INTERVALS_MAX:
            link.offers = known
        if self._may_send(peer):
            self._check_put_back(peer, known, out)
            self._backfill.lack(known, self._catalog.known, now_ms)

    def _compare_digests(self, peer: MemberId, own: Known, out: list[Effect]) -> None:
        """Section 7: equal sets and unequal digests prove a fault."""
        ours = self._catalog.digest.to_bytes(16, "big")
        if own.status.digest == ours or own.known != self._catalog.known:
            return
        if own.purged == self._own_state().purged and self._links[peer].report_once(ours, own.status.digest):
            out.append(Report(0, f"this member and {peer} know the same changes and hold different records"))

    def _check_put_back(self, peer: MemberId, known: CNSet, out: list[Effect]) -> bool:
        """Whether `known` holds changes of this catalog's that it never made."""
        ahead = known.last(self._catalog.replica) > self._catalog.counter
        if ahead and not self.put_back:
            self._put_back = self._catalog.replica
            out.append(
                Report(0, f"{peer} knows changes of this member that its catalog does not have: it was put back")
            )
        return ahead

    # -- pages

    def _page(self, peer: MemberId, page: Page, now_ms: int, out: list[Effect]) -> None:
        """R1 to R3, in one transaction."""
        if not isinstance(page, (self._channel.push, self._channel.answer)):
            raise ProtocolError("a page came on the wrong channel")
        records = [self._opened(wire) for wire in page.records]
        shown = set_of(page.known) if page.known is not None else None
        if not self._may_send(peer):
            return
        link = self._links[peer]
        link.speaks_for(page.replica)
        cns = CNSet.of(cn for record in records for cn in record.cns())
        if self._check_put_back(peer, cns.union(shown or EMPTY), out):
            self._backfill.ended(peer, "this member was put back", now_ms)
            return
        progressed = self._intake.take(peer, page, records, shown, link.offers, now_ms)
        link.outbox.hear(cns, now_ms)
        if shown is not None:
            self._shown(peer, shown, now_ms, out)
        self._progress(peer, page, progressed, now_ms, out)
        unsettled = frozenset(record.uid for record in records if not self._settling.settled(record.uid))
        self._notice(now_ms, out, source=peer, unsettled=unsettled)

    def _opened(self, wire: msgspec.Struct) -> Record:
        record = unseal(wire)  # type: ignore[arg-type]
        self._channel.check_kind(record.kind)
        return record

    # -- backfill

    def _progress(self, peer: MemberId, page: Page, progressed: bool, now_ms: int, out: list[Effect]) -> None:
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
            self._ask(cycle, out)
        else:
            self._backfill.ended(
                peer, "" if progressed or page.end == page.head else "its page brought nothing", now_ms
            )

    def _ask(self, cycle: Cycle, out: list[Effect]) -> None:
        link = self._links[cycle.peer]
        link.correlation = self._next_correlation()
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
            base=shortened(self._catalog.known).encode(),
            records_max=PAGE_RECORDS_MAX,
            wanted=shortened(wanted).encode() if wanted is not None else None,
            uids=list(uids),
        )

    # -- what follows by itself

    def _notice(
        self,
        now_ms: int,
        out: list[Effect],
        source: MemberId | None = None,
        unsettled: frozenset[Uid] = frozenset(),
    ) -> None:
        """Push what was stored since `_mark`: by the replica itself, or by a page of `source`'s."""
        before, after = self._mark, Mark(self._catalog.head, self._catalog.known)
        if before.head == after.head and before.known == after.known:
            return
        self._mark = after
        self._board.mark(now_ms)
        if not self._serves():
            return
        added = after.known.minus(before.known)
        for peer, link in self._links.items():
            elsewhere = source is not None and self._board.connected(peer, source)
            if peer != source and self._may_receive(peer):
                outbox = link.outbox
                push = outbox.committed(before, after.head, added, now_ms, elsewhere=elsewhere, unsettled=unsettled)
                self._push(peer, push, out)

    def _push(self, peer: MemberId, push: Push | None, out: list[Effect]) -> None:
        if push is not None:
            pages = self._pager.pushed(self._channel.push, self._next_correlation(), push)
            out.extend(Send(peer, page) for page in pages)

    def _advance(self, now_ms: int, out: list[Effect]) -> None:
        for peer in self._backfill.silent(now_ms):
            self._backfill.ended(peer, "no page came", now_ms)
        if len(self._backfill):
            for cycle in self._backfill.begin(self._sources(), self._catalog.known, now_ms):
                self._ask(cycle, out)
        for peer, link in self._links.items():
            self._push(peer, link.outbox.due(self._catalog.head, now_ms, self._settling.settled), out)
            if link.asked:
                for late in [key for key, one in link.asked.items() if now_ms - one.asked_ms >= UID_ANSWER_MAX_MS]:
                    del link.asked[late]
        self._settling.expire(now_ms)
        self._send_due_statuses(now_ms, out)
        self._memory.keep_if_due(now_ms)

    # -- statuses

    def _send_due_statuses(self, now_ms: int, out: list[Effect]) -> None:
        due = self._board.due(now_ms)
        if not due:
            return
        own = self._speaker.status(self._links, now_ms)
        for peer, period_over in due:
            if period_over or self._links[peer].said != said(own) or self._board.has_to_relay(peer):
                self._send_status(peer, self._next_correlation(), own, now_ms, out)
            else:
                self._board.nothing_new(peer)

    def _send_status(self, peer: MemberId, correlation: int, own: MemberStatus, now_ms: int, out: list[Effect]) -> None:
        if self._may_receive(peer):
            out.append(Send(peer, Status(correlation=correlation, own=own, heard=self._board.relay(peer))))
            self._links[peer].said = said(own)
        self._board.sent(peer, now_ms)

    def _request_status(self, peer: MemberId, out: list[Effect]) -> None:
        if self._may_receive(peer):
            known = shown_set(self._catalog.known, self._serves()).encode()
            request = StatusRequest(correlation=self._next_correlation(), replica=self._catalog.replica, known=known)
            out.append(Send(peer, request))

    def _next_correlation(self) -> int:
        self._correlation += 1
        return self._correlation
