"""Fences at work: what one member does for its own waits and for those of others. The rules are in core.fence.

For each wait that this member takes part in it holds the newest round (whom it asked, what came back), its own look at
its disk (engine.looking) and how far it is with the target (engine.awaiting). The look and the latter outlast a round.

Every call returns the effects to be carried out. Called by the thread that owns the catalog, between two commits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec

from replicad.catalog.store import Catalog
from replicad.core.cnset import EMPTY, CNSet
from replicad.core.effects import Effect, LinkDown, LinkUp, Received, Send, Tick
from replicad.core.fence import WAIT_BYTES, Flood, Wait, WaitResult, fence_name, split_fence
from replicad.core.ids import MemberId
from replicad.core.messages import (
    MEMBERS_MAX,
    Await,
    AwaitReply,
    Fence,
    FenceReply,
    Installed,
    Message,
    set_of,
)
from replicad.engine.awaiting import Awaiting
from replicad.engine.looking import Disk, Look, Looking
from replicad.files.fs import FileSystem

OPEN_MAX = 64
"""Waits of all members that this one takes part in at a time; each holds up to Awaiting's limit."""
BUDGET_MAX_MS = 3_600_000
"""Of one round: a wait that lasts longer begins another."""
HOP_MS = 100
"""What a member keeps of the budget for the way back."""
TELL_INTERVAL_MS = 500
"""Between two tellings of how far it is; that it is done is told at once."""
CHECK_DELAY_MS = 1
"""Until the next of many objects are looked up."""
TOO_MANY = "it takes part in too many waits"


class _Open(msgspec.Struct):
    """One wait, ours or another's."""

    round: int
    flood: Flood
    due_ms: int
    look: Look
    awaiting: Awaiting | None = None
    asked: bool = False
    """The Await of this round has come. What is told before would be about the target of an earlier one."""
    told: Installed | None = None
    told_ms: int = 0
    ticket: int = 0
    """Of our own; 0: another's."""


class Fences:
    """Of one catalog. The hierarchy has NoDisk, and None for `fs`. `new_id` gives WAIT_BYTES random bytes."""

    def __init__(
        self,
        own: MemberId,
        catalog: Catalog,
        disk: Disk,
        fs: FileSystem | None,
        *,
        new_id: Callable[[], bytes],
    ) -> None:
        self._own = own
        self._catalog = catalog
        self._disk = disk
        self._new_id = new_id
        self._looking = Looking(own, catalog, disk, fs, new_id)
        self._links: dict[MemberId, None] = {}
        self._open: dict[bytes, _Open] = {}
        self._waits: dict[int, tuple[bytes, Wait]] = {}
        self._last_ticket = 0
        self._installed = EMPTY
        """What was known when nothing was pending the last time."""

    # -- the operator's side

    def start(
        self, expected: frozenset[MemberId], timeout_ms: int, now_ms: int, *, count: int | None = None
    ) -> tuple[int, list[Effect]]:
        """Begin a wait for `expected`, or for any `count` members, this one included. Returns its ticket."""
        self._last_ticket += 1
        name = self._new_id()
        assert len(name) == WAIT_BYTES
        wait = Wait(self._own, name, expected, count, now_ms, timeout_ms)
        self._waits[self._last_ticket] = name, wait
        out: list[Effect] = []
        self._begin_round(self._last_ticket, now_ms, out)
        self._advance(now_ms, out)
        return self._last_ticket, out

    def result(self, ticket: int) -> WaitResult | None:
        """None while it goes on. Once it is there, `cancel` forgets the ticket."""
        return self._waits[ticket][1].result

    def cancel(self, ticket: int) -> None:
        """It is over, or nobody waits for it any more."""
        name, _ = self._waits.pop(ticket)
        self._close(name)

    # -- the replica's side

    def handle(self, event: Received | LinkUp | LinkDown | Tick, now_ms: int) -> list[Effect]:
        """Raises ProtocolError where a message cannot be read."""
        out: list[Effect] = []
        match event:
            case LinkUp(peer):
                self._link_up(peer, now_ms, out)
            case LinkDown(peer):
                self._link_down(peer, now_ms, out)
            case Received(peer, message) if peer in self._links:
                self._received(peer, message, now_ms, out)
        self._advance(now_ms, out)
        return out

    def marker_seen(self, name: bytes, now_ms: int) -> list[Effect]:
        """To be called when the hints that came before the marker have been taken."""
        for one in self._open.values():
            if one.look.marker == name:
                self._looking.marker_seen(one.look)
        return self.progress(now_ms)

    def overflowed(self, now_ms: int) -> list[Effect]:
        """Events were lost, a marker perhaps among them. To be called when the hint for everything has been taken."""
        for one in self._open.values():
            if one.look.generation is None:
                self._looking.marker_seen(one.look)
        return self.progress(now_ms)

    def progress(self, now_ms: int) -> list[Effect]:
        """To be called after every commit, and after every look at the disk."""
        out: list[Effect] = []
        self._advance(now_ms, out)
        return out

    def next_due_ms(self) -> int | None:
        if not self._waits and not self._open:
            return None
        due = [wait.next_due_ms() for _, wait in self._waits.values()]
        for one in self._open.values():
            due.extend((one.due_ms, one.look.next_due_ms()))
            if one.asked and one.awaiting is not None and not one.awaiting.done:
                due.append(one.told_ms + (TELL_INTERVAL_MS if one.awaiting.idle else CHECK_DELAY_MS))
        return min([at for at in due if at is not None], default=None)

    def clock_set_back(self, back_ms: int) -> None:
        """The clock was set back by so much; every time kept here moves with it, so that nothing waits longer."""
        for _, wait in self._waits.values():
            wait.clock_set_back(back_ms)
        for one in self._open.values():
            one.due_ms -= back_ms
            one.told_ms -= back_ms
            one.look.marker_due_ms -= back_ms

    # -- links and messages

    def _link_up(self, peer: MemberId, now_ms: int, out: list[Effect]) -> None:
        if peer in self._links:
            self._link_down(peer, now_ms, out)
        self._links[peer] = None
        for name, one in self._open.items():
            if one.flood.ask(peer):
                self._ask(name, one, [peer], now_ms, out)
        for _, wait in self._waits.values():
            wait.link_came(now_ms)

    def _link_down(self, peer: MemberId, now_ms: int, out: list[Effect]) -> None:
        if peer not in self._links:
            return
        del self._links[peer]
        for name, one in list(self._open.items()):
            if one.flood.parent == peer:
                self._close(name)
                continue
            self._strayed(one, one.flood.link_lost(peer), fence_name(name, one.round), now_ms, out)

    def _received(self, peer: MemberId, message: Message, now_ms: int, out: list[Effect]) -> None:
        match message:
            case Fence():
                self._fence(peer, message, now_ms, out)
            case FenceReply(fence=fence):
                if (one := self._round(fence)) is not None:
                    one.flood.answered(peer, message)
            case Await():
                self._await(peer, message, now_ms, out)
            case AwaitReply(fence=fence):
                if (one := self._round(fence)) is not None and one.flood.below(peer):
                    self._passed_on(fence, one, peer, message, now_ms, out)
            case _:
                raise AssertionError(f"not a message of a fence: {type(message).__name__}")

    def _round(self, fence: bytes) -> _Open | None:
        name, number = split_fence(fence)
        one = self._open.get(name)
        return one if one is not None and one.round == number else None

    def _fence(self, peer: MemberId, message: Fence, now_ms: int, out: list[Effect]) -> None:
        name, number = split_fence(message.fence)
        held = self._open.get(name)
        if held is not None and (held.ticket or held.round >= number):
            out.append(Send(peer, _answer(message.fence)))
            return
        if held is None and len(self._open) >= OPEN_MAX:
            out.append(Send(peer, _answer(message.fence, failed=[(bytes.fromhex(self._own), TOO_MANY)])))
            return
        seen = {member.hex() for member in message.seen}
        asked = [other for other in self._links if other != peer and other not in seen]
        due_ms = now_ms + max(0, min(message.budget_ms, BUDGET_MAX_MS))
        if held is None:
            held = self._open[name] = _Open(number, Flood(peer, asked), due_ms, self._looking.begin(now_ms))
        else:
            held.round, held.flood, held.due_ms, held.asked = number, Flood(peer, asked), due_ms, False
        self._ask(name, held, asked, now_ms, out, seen)

    def _await(self, peer: MemberId, message: Await, now_ms: int, out: list[Effect]) -> None:
        one = self._round(message.fence)
        if message.budget_ms <= 0:
            if one is not None and one.flood.parent == peer:
                self._release(split_fence(message.fence)[0], out)
            return
        if one is None or one.flood.parent != peer:
            out.append(Send(peer, AwaitReply(fence=message.fence, members=[], lost=[bytes.fromhex(self._own)])))
            return
        one.due_ms = now_ms + max(0, min(message.budget_ms, BUDGET_MAX_MS))
        self._begin_await(message.fence, one, set_of(message.known), now_ms, out)

    def _passed_on(
        self, fence: bytes, one: _Open, peer: MemberId, message: AwaitReply, now_ms: int, out: list[Effect]
    ) -> None:
        below = one.flood.below(peer)
        told = [standing for standing in message.members if standing.member.hex() in below]
        lost = [member for member in message.lost if member.hex() in below]
        if told and one.flood.parent is not None:
            out.append(Send(one.flood.parent, AwaitReply(fence=fence, members=told, lost=[])))
        for standing in told if one.ticket else ():
            self._waits[one.ticket][1].told(standing)
        self._strayed(one, [member.hex() for member in lost], fence, now_ms, out)

    def _strayed(self, one: _Open, members: Sequence[MemberId], fence: bytes, now_ms: int, out: list[Effect]) -> None:
        """They answered, and can no longer be heard."""
        one.flood.strayed(members)
        if not members or not one.flood.replied:
            return
        if one.flood.parent is not None:
            lost = [bytes.fromhex(member) for member in members]
            out.append(Send(one.flood.parent, AwaitReply(fence=fence, members=[], lost=lost)))
        else:
            self._waits[one.ticket][1].strayed(members, now_ms)

    # -- a round

    def _begin_round(self, ticket: int, now_ms: int, out: list[Effect]) -> None:
        name, wait = self._waits[ticket]
        wait.begin_round()
        flood = Flood(None, self._links)
        due_ms = min(wait.round_due_ms, now_ms + BUDGET_MAX_MS)
        held = self._open.get(name)
        if held is None:
            held = self._open[name] = _Open(wait.round, flood, due_ms, self._looking.begin(now_ms), ticket=ticket)
        else:
            held.round, held.flood, held.due_ms, held.asked = wait.round, flood, due_ms, False
        self._ask(name, held, list(self._links), now_ms, out)

    def _ask(
        self,
        name: bytes,
        one: _Open,
        asked: Sequence[MemberId],
        now_ms: int,
        out: list[Effect],
        seen: Iterable[MemberId] = (),
    ) -> None:
        """Pass the fence on. All our neighbours count as seen: each of them has it from us, or from whom we have it."""
        everyone = sorted({*seen, *self._links, self._own})[:MEMBERS_MAX]
        message = Fence(
            fence=fence_name(name, one.round),
            seen=[bytes.fromhex(member) for member in everyone],
            budget_ms=_way_back(one.due_ms - now_ms),
        )
        out.extend(Send(peer, message) for peer in asked)

    def _release(self, name: bytes, out: list[Effect]) -> None:
        """The wait is over: an Await without a budget ends it at the others, where it would else take a place until its
        time was out."""
        one = self._open[name]
        over = Await(fence=fence_name(name, one.round), known=[], budget_ms=0)
        out.extend(Send(peer, over) for peer in one.flood.children())
        self._close(name)

    def _close(self, name: bytes) -> None:
        one = self._open.pop(name, None)
        if one is not None:
            self._looking.end(one.look)

    # -- what follows

    def _advance(self, now_ms: int, out: list[Effect]) -> None:
        self._note_installed()
        if not self._waits and not self._open:
            return
        while True:
            for name, one in list(self._open.items()):
                self._advance_flood(name, one, now_ms, out)
                self._advance_await(name, one, now_ms, out)
                if now_ms >= one.due_ms and not one.ticket and one.flood.replied:
                    self._close(name)
            began = [ticket for ticket, (_, wait) in self._waits.items() if wait.step(now_ms)]
            for ticket in began:
                self._begin_round(ticket, now_ms, out)
            for name, wait in self._waits.values():
                if wait.result is not None and name in self._open:
                    self._release(name, out)
            if not began:
                return

    def _note_installed(self) -> None:
        if not self._catalog.pending_objects:
            self._installed = self._catalog.known

    def _advance_flood(self, name: bytes, one: _Open, now_ms: int, out: list[Effect]) -> None:
        flood = one.flood
        self._looking.overdue(one.look, now_ms)
        if flood.replied:
            return
        if (fenced := self._looking.result(one.look)) is not None:
            flood.own(fenced, self._catalog.known)
        if now_ms >= one.due_ms:
            flood.expire(self._own, self._disk.hindrance)
        if not flood.complete:
            return
        flood.replied = True
        fence = fence_name(name, one.round)
        if flood.parent is not None:
            out.append(Send(flood.parent, flood.reply(fence)))
            return
        target = self._waits[one.ticket][1].collected(flood, now_ms)
        self._begin_await(fence, one, target, now_ms, out)

    def _begin_await(self, fence: bytes, one: _Open, wanted: CNSet, now_ms: int, out: list[Effect]) -> None:
        if one.awaiting is None or one.awaiting.wanted != wanted:
            one.awaiting = Awaiting(self._catalog, wanted)
        one.asked, one.told = True, None
        message = Await(fence=fence, known=wanted.encode(), budget_ms=_way_back(one.due_ms - now_ms))
        out.extend(Send(peer, message) for peer in one.flood.children())

    def _advance_await(self, name: bytes, one: _Open, now_ms: int, out: list[Effect]) -> None:
        if one.awaiting is None or not one.asked:
            return
        one.awaiting.advance(self._installed)
        told = one.told
        if told is not None and not one.awaiting.done and now_ms < one.told_ms + TELL_INTERVAL_MS:
            return
        if told is not None and one.awaiting.done and not told.missing and not told.blocked_count:
            return
        standing = self._standing(one.awaiting)
        if standing == one.told:
            one.told_ms = now_ms
            return
        one.told, one.told_ms = standing, now_ms
        if one.flood.parent is not None:
            reply = AwaitReply(fence=fence_name(name, one.round), members=[standing], lost=[])
            out.append(Send(one.flood.parent, reply))
        else:
            self._waits[one.ticket][1].told(standing)

    def _standing(self, awaiting: Awaiting) -> Installed:
        count, blocked = (0, []) if awaiting.done else awaiting.blocked(self._disk.blocked())
        return Installed(
            member=bytes.fromhex(self._own),
            missing=max(0, awaiting.missing() - count) if not awaiting.done else 0,
            blocked_count=count,
            blocked=blocked,
        )


def _way_back(left_ms: int) -> int:
    """Of the time that is left, what the next member gets."""
    return max(left_ms - HOP_MS, left_ms // 2, 0)


def _answer(fence: bytes, failed: Sequence[tuple[bytes, str]] = ()) -> FenceReply:
    return FenceReply(fence=fence, known=[], members=[], failed=list(failed), lost=[])
