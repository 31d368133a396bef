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
from replicad.core.effects import Effect, LinkDown, LinkUp, Received, Send, Tick
from replicad.core.ids import Cn, MemberId, Uid
from replicad.core.messages import (
    BackfillRequest,
    ContentBackfill,
    ContentChange,
    HierarchyBackfill,
    HierarchyChange,
    Message,
    Page,
    Status,
    StatusRequest,
    set_of,
    unseal,
)
from replicad.core.messages_meeting import Judged, Meet
from replicad.core.messages_repair import OfRepair
from replicad.core.outbox import TOLD_INTERVALS_MAX, Mark, Push
from replicad.core.records import Record
from replicad.core.runs import Run
from replicad.core.settling import Settling
from replicad.core.status_board import Known, StatusBoard, open_status
from replicad.engine.doubts import Doubts
from replicad.engine.exchange_asking import Asking
from replicad.engine.exchange_intake import Absorb, Intake
from replicad.engine.exchange_link import CHANNELS, Correlations, Link, OwnState
from replicad.engine.exchange_memory import Memory
from replicad.engine.exchange_pages import Pager
from replicad.engine.exchange_status import Speaker, Statuses
from replicad.engine.meeting import GREET_AGAIN_MS, Meetings, draw_mark
from replicad.engine.repairing import Repairing
from replicad.errors import ProtocolError

CLOCK_BACK_MS = 1_000
"""By how much the clock must have gone back between two events for timers to be set anew: more than it is slewed by."""


class Exchange:
    """Of one catalog. `kind` is HIERARCHY or CONTENT.

    `may_send(peer)`: whether its records are taken; `may_receive(peer)`: whether it is served. `draw` gives numbers in
    [0, 1). `serves`: as in OwnState, for the questions that every commit asks (None: `own_state` is asked, and should
    be cheap then). `founds(peer)`: whether it may bring originals (rule 6). The constructor makes one commit (the
    session's number).
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
        founds: Callable[[MemberId], bool] = lambda peer: True,
    ) -> None:
        self._catalog = catalog
        self._channel = CHANNELS[kind]
        self._own_state = own_state
        self._serves = serves or (lambda: own_state().serves)
        self._may_send = may_send
        self._may_receive = may_receive
        self._founds = founds
        self._links: dict[MemberId, Link] = {}
        self._backfill = Backfill(profile or Profile(), draw)
        self._settling = Settling()
        self._board = StatusBoard(own, draw)
        self._pager = Pager(catalog, self._settling, self._purged_told)
        self._mark = Mark(catalog.head, catalog.known)
        self._memory = Memory(catalog, self._board, now_ms)
        self._correlations = Correlations(int(draw() * 2**31) << 31)
        self._late: list[Effect] = []
        self._asking = Asking(catalog, self._backfill, self._memory, self._links, self._correlations)
        self._intake = Intake(catalog, absorb, self._memory, self._settling)
        self._doubts = Doubts(catalog)
        self.meetings = Meetings(
            catalog,
            Run(self._memory.begin_session(now_ms), draw_mark(draw)),
            own_state,
            self._links,
            may_receive,
            opened=lambda peer, out: self._statuses.request(peer, out),
            closed=self._closed,
        )
        self._statuses = Statuses(
            catalog,
            Speaker(catalog, own, own_state, self.meetings.run.number),
            self._board,
            self._links,
            self._correlations,
            may_receive=may_receive,
            serves=self._serves,
        )
        self._repairing = Repairing(
            catalog,
            own,
            self._links,
            self._asking,
            self._correlations,
            purged=lambda: own_state().purged,
            may_send=may_send,
            may_serve=lambda peer: may_receive(peer) and self._serves() and not own_state().owes,
            ask_status=self._statuses.request,
            changed=self._board.mark,
        )
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
        return self._asking.ask_for(uids, self._sources(), now_ms)

    def synchronize(self, now_ms: int) -> list[Effect]:
        """REQUIREMENTS P16: ask everyone for its status, tell everyone ours, make every backfill entry due."""
        self._backfill.expire(now_ms)
        out: list[Effect] = []
        self._statuses.synchronize(now_ms, out)
        self._advance(now_ms, out)
        return out

    def next_due_ms(self) -> int | None:
        """When `handle(Tick())` is to be called at the latest; None: not before the next event."""
        if self._late:
            return 0
        due = [self._backfill.next_due_ms(), self._settling.next_due_ms()]
        due += (self._board.next_due_ms(), self._memory.next_due_ms(), self._repairing.next_due_ms())
        for link in self._links.values():
            due.append(link.outbox.next_due_ms())
            if not link.judged:
                due.append(link.greeted_ms + GREET_AGAIN_MS)
            if link.asked:
                due.extend(link.asked_until_ms())
        return min([one for one in due if one is not None], default=None)

    def clock_set_back(self, back_ms: int) -> None:
        """The clock was set back by so much; every time kept here moves with it, so that nothing waits longer."""
        for part in (self._backfill, self._settling, self._board, self._memory, self._repairing):
            part.clock_set_back(back_ms)
        for link in self._links.values():
            link.clock_set_back(back_ms)

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
        return self._doubts.put_back

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

    def any_complete(self) -> bool:
        """Whether a connected peer has said that its catalog is complete."""
        told = (self._board.member(peer) for peer in self._links)
        return any(known is not None and known.direct and known.status.complete for known in told)

    def backfill_entries(self) -> list[EntryRow]:
        return self._backfill.rows()

    def cycle_with(self, peer: MemberId) -> Cycle | None:
        return self._backfill.cycle(peer)

    def begin_anew(self, now_ms: int) -> None:
        """What is known is less than it was, and every series begins at 0."""
        for peer, link in self._links.items():
            link.close()
            self._backfill.ended(peer, "this member was put back", now_ms)
            self._intake.part(peer)
            self._intake.meet(peer)
            self._memory.meet(peer, now_ms)
        self._mark = Mark(self._catalog.head, self._catalog.known)

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
        self.meetings.greet(peer, now_ms, out)

    def _link_down(self, peer: MemberId, now_ms: int) -> None:
        if self._links.pop(peer, None) is None:
            return
        self.meetings.parted(peer)
        self._backfill.ended(peer, "the link was lost", now_ms)
        self._board.link_down(peer)
        self._board.mark(now_ms)
        self._intake.part(peer)
        self._memory.part(peer, now_ms)
        self._repairing.part(peer, now_ms)

    # -- meeting

    def _meet(self, peer: MemberId, meet: Meet, now_ms: int, out: list[Effect]) -> None:
        run = Run(meet.session, meet.mark)
        if self._links[peer].run not in (None, run):
            self._link_up(peer, now_ms, out)  # its folder was begun again, while the link stayed up
        if meet.founds and not self._founds(peer):
            out.append(Send(peer, self.meetings.too_late(meet)))  # it meets again when it has begun anew
            return
        link = self._links[peer]
        link.run = run
        link.speaks_for(meet.replica)
        known, purged = set_of(meet.known), set_of(meet.purged)
        if self.meetings.begins_anew(peer, meet):
            self._forget_told(peer, link)
        link.known, link.begun, link.complete = known, meet.begun, meet.complete
        if not meet.complete:
            self.meetings.parted(peer)
        self.meetings.meet(peer, meet, self._memory.of_this_life(peer), now_ms, out)
        if self._may_send(peer):
            self._doubts.beyond(peer, link.known, out)
        self.meetings.purged(peer, purged, now_ms, out)

    def _forget_told(self, peer: MemberId, link: Link) -> None:
        """It has begun anew, and may know less than it has told: that is not held against it in this life."""
        before = self._board.member(peer)
        self._memory.begins_anew(peer)
        told = link.offers.union(link.known).union(before.known if before is not None else EMPTY)
        link.close()
        self._unsay(peer, told)

    def _unsay(self, member: MemberId, told: CNSet) -> None:
        """It does not know this any more: what nobody else shows is not waited for."""
        for other, status in self._board.members().items():
            told = told.minus(status.known) if other != member else told
        for link in self._links.values():
            told = told.minus(link.offers)
        self._backfill.clear(told)

    def _judged(self, peer: MemberId, judged: Judged, now_ms: int, out: list[Effect]) -> None:
        if judged.late:
            self.meetings.told_late = True  # and it is met again every few seconds, until the hierarchy says so here
        elif not self.meetings.judged(peer, judged, now_ms, out):
            self._doubts.find(f"{peer} remembers more of this member than its catalog does: it was put back", out)

    def _closed(self, peer: MemberId, now_ms: int) -> None:
        self._backfill.ended(peer, "it has forgotten what is not known here", now_ms)
        self._repairing.part(peer, now_ms)

    def reopen(self, now_ms: int, *, anew: bool = False) -> list[Effect]:
        """To be called when this member's own state, or what it has purged, is another. `anew`: it begins anew."""
        out: list[Effect] = []
        if anew:
            self.meetings.greet_anew(now_ms, out)
        self.meetings.reopen(now_ms, out)
        self._board.mark(now_ms)
        return out

    def _sources(self) -> dict[MemberId, CNSet]:
        """Connected peers that may be asked, with what they would serve."""
        learns = self.meetings.learns_from
        return {p: link.offers for p, link in self._links.items() if link.open and self._may_send(p) and learns(p)}

    # -- messages

    def _received(self, peer: MemberId, message: Message, now_ms: int, out: list[Effect]) -> None:
        match message:
            case Meet():
                self._meet(peer, message, now_ms, out)
            case Judged():
                self._judged(peer, message, now_ms, out)
            case _ if not self._links[peer].open:
                pass  # it is told again when records may cross the link
            case HierarchyChange() | ContentChange() | HierarchyBackfill() | ContentBackfill():
                self._page(peer, message, now_ms, out)
            case BackfillRequest():
                self._answer(peer, message, now_ms, out)
            case StatusRequest():
                known = set_of(message.known)
                self._links[peer].speaks_for(message.replica)
                self._shown(peer, known, now_ms, out)
                self._statuses.answer(peer, message.correlation, now_ms, out)
            case Status():
                self._status(peer, message, now_ms, out)
            case _ if isinstance(message, OfRepair):
                self._repairing.received(peer, message, now_ms, out)
            case _:
                # The hierarchy, say, has nothing preserved: whoever asks for it there is at fault, not we.
                raise ProtocolError(f"not a message of the exchange: {type(message).__name__}")

    def _answer(self, peer: MemberId, request: BackfillRequest, now_ms: int, out: list[Effect]) -> None:
        base, wanted = set_of(request.base), set_of(request.wanted)
        if request.after < 0:
            raise ProtocolError("a backfill request begins before the first position")
        if not self._may_receive(peer):
            return
        if not request.uids:
            self._links[peer].outbox.hear(base, now_ms)
        page = self._pager.answer(self._channel.answer, request, base, wanted, serves=self._serves())
        out.append(Send(peer, page))

    def _status(self, peer: MemberId, message: Status, now_ms: int, out: list[Effect]) -> None:
        own = open_status(message.own, direct=True, received_ms=now_ms)
        if own.member != peer:
            raise ProtocolError("a member tells another's status as its own")
        heard = [open_status(status, direct=False, received_ms=now_ms) for status in message.heard]
        link = self._links[peer]
        link.speaks_for(own.status.replica)
        trusted = heard if self._may_send(peer) else []
        before, unsaid = self._board.members(), []
        for newer in self._board.take(peer, [own, *trusted], now_ms):
            last = before.get(newer.member)
            if newer is not own or last is None or last.tells() != own.tells():
                self._memory.said_something_new(newer.member)
            if last is not None and newer.whole and not newer.known.contains_all(last.known):
                unsaid.append((newer.member, last.known.minus(newer.known)))
        link.known = link.known.union(own.known)
        self.meetings.purged(peer, own.purged, now_ms, out)
        if link.open and own.whole and self._board.member(peer) is own:
            link.offers = own.known  # what it has told before, and knows no more, is not asked of it (it was put back)
        for member, told in unsaid:
            self._unsay(member, told)
        if not link.open:
            return
        self._shown(peer, own.known, now_ms, out)
        if not own.whole:
            return
        self._intake.cover(peer, own.status.replica, own.status.head, own.known)
        self._repairing.heard(peer, own, now_ms, out)

    def _shown(self, peer: MemberId, known: CNSet, now_ms: int, out: list[Effect]) -> None:
        """A peer has shown what it knows, and would serve (P8: what we lack of it becomes an entry)."""
        link = self._links[peer]
        link.outbox.hear(known, now_ms)
        link.offers = link.offers.union(known)
        if link.offers.interval_count() > TOLD_INTERVALS_MAX:
            link.offers = known
        if self._may_send(peer):
            self._doubts.beyond(peer, known, out)
            self._backfill.lack(known, self._catalog.known, now_ms)

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
        if shown is not None:
            link.known = link.known.union(shown)
            self.meetings.purged(peer, set_of(page.purged), now_ms, out)
            if not link.open:
                return
        if not self.meetings.learns_from(peer):
            self._backfill.ended(peer, "another one is learned from first", now_ms)
            return
        cns = CNSet.of(cn for record in records for cn in record.cns())
        if self._doubts.beyond(peer, cns.union(shown or EMPTY), out):
            self._backfill.ended(peer, "this member was put back", now_ms)
            return
        asked = page.correlation in link.asked
        digest = self._catalog.digest
        progressed = self._intake.take(peer, page, records, shown, link.offers, now_ms, asked=asked)
        link.outbox.hear(cns, now_ms)
        if shown is not None:
            self._shown(peer, shown, now_ms, out)
            self.meetings.mixed = self.meetings.mixed or bool(self.meetings.compared)
        self._asking.progress(peer, page, progressed, now_ms, out)
        self._repairing.came(peer, page, digest != self._catalog.digest, now_ms, out)
        unsettled = frozenset(record.uid for record in records if not self._settling.settled(record.uid))
        self._notice(now_ms, out, source=peer, unsettled=unsettled)

    def _opened(self, wire: msgspec.Struct) -> Record:
        record = unseal(wire)  # type: ignore[arg-type]
        self._channel.check_kind(record.kind)
        return record

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

    def _purged_told(self) -> CNSet | None:
        """With S, which may say of deletions that were forgotten elsewhere that they are known."""
        state = self._own_state()
        return None if state.owes and self.meetings.mixed else state.purged

    def _push(self, peer: MemberId, push: Push | None, out: list[Effect]) -> None:
        if push is not None:
            pages = self._pager.pushed(self._channel.push, self._correlations.next(), push)
            out.extend(Send(peer, page) for page in pages)

    def _advance(self, now_ms: int, out: list[Effect]) -> None:
        for peer in self._backfill.silent(now_ms):
            self._backfill.ended(peer, "no page came", now_ms)
        if len(self._backfill):
            for cycle in self._backfill.begin(self._sources(), self._catalog.known, now_ms):
                self._asking.ask(cycle, out)
        for peer, link in self._links.items():
            self._push(peer, link.outbox.due(self._catalog.head, now_ms, self._settling.settled), out)
            link.drop_unanswered(now_ms)
            if not link.judged and now_ms >= link.greeted_ms + GREET_AGAIN_MS:
                self.meetings.greet(peer, now_ms, out)
        self._settling.expire(now_ms)
        self._repairing.work(now_ms, out)
        self._statuses.send_due(now_ms, out)
        self._memory.keep_if_due(now_ms)
