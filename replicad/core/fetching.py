"""What content to fetch next, from whom: decisions, and the state of what is under way.

Bounded in every direction (I8): contents wanted, requests in flight per source, bytes in staging. A content that cannot
be had gives up its place to one that has not been tried, and comes back after a delay that doubles, so it never stops
the others (I10, P18).

Sources are connected members that have installed the version (or hold its content, as their status says); the one with
the least under way is asked, so several members share the load.

What this member itself has preserved is taken from its own store (HERE): a loser that comes up again may be in nobody's
tree any more. Where nobody shows that it has the content, connected members are asked one after the other all the same:
one of them may have preserved it and have no way to install it.

*The quota.* What is on its way or whole in staging is *held*, and counts. Contents are taken in the order in which they
were wanted: where the next one does not fit, the ones after it wait, too, until enough has left; a file larger than
the quota passes when nothing else is held. So that this moment is sure to come, what is whole and cannot be installed
for now is *parked*: its bytes are counted apart, up to the quota once more, or one file; what does not fit there is
fetched again later. In all staging holds at most two quotas, or two files.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence

import msgspec

from replicad.core.effects import Fetch, FetchedItem, WantedContent
from replicad.core.ids import Cn, MemberId, Uid
from replicad.core.manifest import SMALL_FILE_BYTES

WANTED_MAX = 8_192
"""Contents asked for or being fetched at a time: enough to fill several batches from several sources."""
BATCH_ITEMS_MAX = 512
"""Small files in one request (issue: no round trip per file)."""
BATCH_BYTES_MAX = 16 * 1_048_576
"""Of small files in one request: bounds what a lost link costs."""
TICKETS_PER_PEER_MAX = 3
"""Requests under way at one source: one being sent, one being read there, one being applied here."""
RETRY_FIRST_MS, RETRY_LAST_MS = 500, 60_000
"""Delay after a failure, doubling: quick for a link that comes back, cheap for a source that is gone for a day."""
RETRY_GONE_LAST_MS = 4_000
"""The longest delay where a source that shows the content did not have it just then: its file is touched there, and
it need not tell anything once it rests (new times, a new name of a directory above), so nothing else asks again."""
HERE: MemberId = ""
"""As the source of a content: this member's own preserved files."""
GUESS_AFTER = 3
"""Failures (some 4 s) after which members are asked who do not show that they have the content: whoever preserved it
mostly installs it by then, and shows it."""
HOPELESS_FAILURES = 5
"""In a row, after some 15 s: a link that was lost is back by then, or its member is gone."""
NO_SOURCE = "no connected member has this content"
BROKE_OFF = "the transfer broke off"


class Want(msgspec.Struct):
    """One content on its way. `failures` counts since it was wanted; `refused` are sources that had it no
    longer when they were asked; they are asked again where nobody else is left. `kept`: whether it was among this
    member's own preserved files when that was last looked up; None: to be looked up. `guessed`: who was asked last had
    not shown that it has it; `shown`: somebody connected had.

    `held`: its bytes are counted against the quota; `parked`: they are counted apart. `turn`: it is taken before those
    with a later one. `busy`: whoever could be asked for it had no room when that was last tried; empty: not tried.
    """

    uid: Uid
    digest: bytes
    size: int
    cn: Cn
    staged: bytes
    local: tuple[tuple[bytes, bytes], ...] = ()
    ticket: int = 0
    whole: bool = False
    held: bool = False
    parked: bool = False
    failures: int = 0
    next_ms: int = 0
    reason: str = ""
    kept: bool | None = None
    guessed: bool = False
    shown: bool = False
    refused: set[MemberId] = msgspec.field(default_factory=set)
    turn: int = 0
    busy: tuple[MemberId, ...] = ()


Sources = Callable[[Cn], Sequence[MemberId]]
"""Connected members that have installed the version with this CN."""


class Fetching:
    """The contents of one folder that are wanted, under way or staged."""

    def __init__(self, quota_bytes: int) -> None:
        self._quota_bytes = quota_bytes
        self._wants: dict[Uid, Want] = {}
        self._idle: dict[Uid, None] = {}
        """To be looked at in the next round, in the order of their turns."""
        self._held_up: dict[tuple[MemberId, ...], dict[Uid, None]] = {}
        """Looked at, by who could be asked for them, all of whom had no room: of these only those are looked at again
        who may be asked now, so that a round costs what it takes and not what waits."""
        self._failed: dict[Uid, None] = {}
        """Those that could not be had and are not under way; the one that failed first gives up its place first."""
        self._delayed: list[tuple[int, Uid]] = []
        """(when it is due, object): a heap of the failed ones. What its want contradicts counts for nothing."""
        self._last_turn = 0
        self._tickets: dict[int, tuple[MemberId, tuple[Uid, ...]]] = {}
        self._next_ticket = 1
        self._held_bytes = 0
        self._parked_bytes = 0
        self._changed = False
        """Something has changed since the last `requests`, so what was not possible then may be now."""

    def set_quota(self, quota_bytes: int) -> None:
        """What is held already stays, though it be more."""
        self._quota_bytes = quota_bytes
        self._changed = True

    @property
    def used_bytes(self) -> int:
        """Of staging: contents that are whole there or on their way."""
        return self._held_bytes + self._parked_bytes

    @property
    def room(self) -> int:
        """How many more contents may be wanted for now."""
        return WANTED_MAX - len(self._wants) + len(self._failed)

    def want(self, want: Want) -> list[bytes]:
        """Take it up. Returns the staged names that are no longer needed: of an older version of the object, and of
        whatever gave up its place to it."""
        held = self._wants.get(want.uid)
        if held is not None and held.digest == want.digest:
            if held.cn != want.cn:  # written anew with equal content: others may have that
                held.cn = want.cn
                held.refused.clear()
                if held.busy:
                    self._take_out(held)
                    self._queue(held)
                self._changed = True
            return []
        stale = self.forget(want.uid)
        if len(self._wants) >= WANTED_MAX and self._failed:
            stale += self.forget(next(iter(self._failed)))
        self._wants[want.uid] = want
        self._queue(want)
        return stale

    def wanted(self, uid: Uid) -> Want | None:
        return self._wants.get(uid)

    def awaited(self, uid: Uid) -> bool:
        """Whether its content is wanted, and not whole in staging yet."""
        held = self._wants.get(uid)
        return held is not None and not held.whole

    def staged(self, uid: Uid, digest: bytes) -> bool:
        """Whether the content is whole and verified in staging."""
        held = self._wants.get(uid)
        return held is not None and held.whole and held.digest == digest

    def hopeless(self, uid: Uid) -> bool:
        """Whether it was asked for in vain so often that nobody should wait for it."""
        held = self._wants.get(uid)
        return held is not None and held.failures >= HOPELESS_FAILURES

    def forget(self, uid: Uid) -> list[bytes]:
        """It was installed or is no longer wanted. Returns the staged names to be removed if they are there."""
        held = self._wants.pop(uid, None)
        if held is None:
            return []
        self._take_out(held)
        self._failed.pop(uid, None)
        self._release(held)
        return [held.staged]

    def drop_staged(self, uid: Uid) -> None:
        """What was staged turned out to be gone or damaged: fetch it again."""
        held = self._wants.get(uid)
        if held is not None and held.whole:
            held.whole = False
            self._release(held)
            self._queue(held)

    def park(self, uid: Uid) -> list[bytes]:
        """It is staged but cannot be installed for now: it must not keep room from others, however long that lasts.

        Returns the staged name to be removed where there is no room to park it.
        """
        held = self._wants.get(uid)
        if held is None or not held.whole or not held.held:
            return []
        self._release(held)
        if self._parked_bytes and self._parked_bytes + held.size > self._quota_bytes:
            return self.forget(uid)
        held.parked = True
        self._parked_bytes += held.size
        return []

    def requests(
        self,
        now_ms: int,
        sources: Sources,
        connected: Callable[[], Sequence[MemberId]] = tuple,
        kept: Callable[[bytes], bool] = lambda digest: False,
    ) -> list[Fetch]:
        """The requests to send now; each is answered by one `finish`. `kept`: whether this member has preserved a file
        with this digest."""
        while (due_ms := self._next_delayed_ms()) is not None and due_ms <= now_ms:
            self._queue(self._wants[heapq.heappop(self._delayed)[1]])
        if not self._changed:
            return []
        self._changed = False
        round_ = _Round(self, now_ms, sources, connected, kept)
        while (uid := self._next_in_turn(round_)) is not None:
            if not round_.take(self._wants[uid]):
                break
        return round_.end()

    def finish(self, ticket: int, items: Sequence[FetchedItem], now_ms: int) -> list[Uid]:
        """The end of a request. Returns the objects whose content is whole in staging now."""
        self._changed = True
        peer, uids = self._tickets.pop(ticket, ("", ()))
        results = {item.uid: item for item in items}
        ready: list[Uid] = []
        for uid in uids:
            want = self._wants.get(uid)
            if want is None or want.ticket != ticket:
                continue
            want.ticket = 0
            item = results.get(uid)
            if item is not None and item.digest == want.digest and not item.reason and not item.gone:
                want.whole, want.failures, want.reason = True, 0, ""
                ready.append(uid)
                continue
            self._release(want)
            gone = item is not None and item.gone
            if gone or peer == HERE:
                want.refused.add(peer)
            reason = item.reason if item is not None and item.reason else BROKE_OFF
            last_ms = RETRY_GONE_LAST_MS if gone and want.shown else RETRY_LAST_MS
            self._fail(want, NO_SOURCE if gone and want.guessed else reason, now_ms, last_ms)
        return ready

    def status_changed(self, peer: MemberId, now_ms: int) -> None:
        """A source told of its state: what it did not have it may have now."""
        for uid in self._failed:
            want = self._wants[uid]
            if peer in want.refused or want.reason == NO_SOURCE:
                want.refused.discard(peer)
                self._hasten(want, now_ms)
        self._look_again([busy for busy in self._held_up if peer not in busy])

    def linked(self, now_ms: int) -> None:
        """A source came or went: what waits for one is tried at once."""
        for uid in self._failed:
            self._hasten(self._wants[uid], now_ms)
        self._look_again(list(self._held_up))
        self._changed = True

    def waiting(self) -> list[tuple[Uid, str]]:
        """Contents that cannot be had for now, each with the reason."""
        return [(uid, self._wants[uid].reason) for uid in self._failed]

    def next_due_ms(self) -> int | None:
        """When `requests` has something to do. What waits for room or for a free source is not due: it is when
        something has changed."""
        if self._changed and (self._idle or self._held_up):
            return 0
        return self._next_delayed_ms()

    # -- for a round

    def fits(self, want: Want) -> bool:
        return not self._held_bytes or self._held_bytes + want.size <= self._quota_bytes

    def under_way(self, peer: MemberId) -> int:
        return sum(1 for other, _ in self._tickets.values() if other == peer)

    def open_ticket(self, peer: MemberId, wants: Sequence[Want]) -> Fetch:
        ticket = self._next_ticket
        self._next_ticket += 1
        for want in wants:
            want.ticket = ticket
        self._tickets[ticket] = (peer, tuple(want.uid for want in wants))
        return Fetch(
            ticket,
            peer,
            tuple(WantedContent(want.uid, want.digest, want.size, want.staged, want.local) for want in wants),
        )

    def hold(self, want: Want) -> None:
        """It is on its way."""
        want.held = True
        self._held_bytes += want.size
        self._take_out(want)
        self._failed.pop(want.uid, None)

    def hold_up(self, want: Want, busy: Sequence[MemberId]) -> None:
        """Until one of these has room."""
        self._take_out(want)
        want.busy = tuple(busy)
        self._held_up.setdefault(want.busy, {})[want.uid] = None

    def no_source(self, want: Want, now_ms: int) -> None:
        self._take_out(want)
        self._fail(want, NO_SOURCE, now_ms)

    def _next_in_turn(self, round_: _Round) -> Uid | None:
        """Of those that may be asked for, the first."""
        queues = [queue for busy, queue in self._held_up.items() if any(map(round_.has_room, busy))]
        heads = [next(iter(queue)) for queue in (self._idle, *queues) if queue]
        return min(heads, key=lambda uid: self._wants[uid].turn, default=None)

    # -- queues

    def _queue(self, want: Want) -> None:
        """Behind all others."""
        self._last_turn += 1
        want.turn = self._last_turn
        self._idle[want.uid] = None
        self._changed = True

    def _take_out(self, want: Want) -> None:
        self._idle.pop(want.uid, None)
        if want.busy:
            queue = self._held_up[want.busy]
            del queue[want.uid]
            if not queue:
                del self._held_up[want.busy]
            want.busy = ()

    def _look_again(self, held_up: Sequence[tuple[MemberId, ...]]) -> None:
        """These, each in its turn: others may be asked for them now."""
        if not held_up:
            return
        uids = [uid for busy in held_up for uid in self._held_up.pop(busy)]
        for uid in uids:
            self._wants[uid].busy = ()
        self._idle = dict.fromkeys(sorted((*self._idle, *uids), key=lambda uid: self._wants[uid].turn))
        self._changed = True

    def _hasten(self, want: Want, now_ms: int) -> None:
        """One that has failed: its delay is over now."""
        if want.next_ms > now_ms:
            want.next_ms = now_ms
            heapq.heappush(self._delayed, (now_ms, want.uid))

    def _next_delayed_ms(self) -> int | None:
        while self._delayed:
            due_ms, uid = self._delayed[0]
            want = self._wants.get(uid)
            waits = uid in self._failed and uid not in self._idle
            if want is not None and waits and not want.busy and want.next_ms == due_ms:
                return due_ms
            heapq.heappop(self._delayed)
        return None

    def _release(self, want: Want) -> None:
        self._changed = True
        if want.held:
            self._held_bytes -= want.size
            want.held = False
        if want.parked:
            self._parked_bytes -= want.size
            want.parked = False

    def _fail(self, want: Want, reason: str, now_ms: int, last_ms: int = RETRY_LAST_MS) -> None:
        """Behind all others, then: whoever fails again and again does not hold them up."""
        want.failures += 1
        want.reason = reason
        want.kept = None
        want.next_ms = now_ms + min(last_ms, RETRY_FIRST_MS << min(want.failures - 1, 10))
        heapq.heappush(self._delayed, (want.next_ms, want.uid))
        self._failed.pop(want.uid, None)
        self._failed[want.uid] = None


class _Round:
    """One `requests`: gathers small files by source."""

    def __init__(
        self,
        fetching: Fetching,
        now_ms: int,
        sources: Sources,
        connected: Callable[[], Sequence[MemberId]],
        kept: Callable[[bytes], bool],
    ) -> None:
        self._fetching = fetching
        self._now_ms = now_ms
        self._sources = sources
        self._connected = connected
        self._kept = kept
        self._room: dict[MemberId, int] = {}
        self._batches: dict[MemberId, list[Want]] = {}
        self._batch_bytes: dict[MemberId, int] = {}
        self._fetches: list[Fetch] = []

    def take(self, want: Want) -> bool:
        """False where the quota says that nothing more may be taken."""
        sources = self._to_ask(want)
        if not sources:
            self._fetching.no_source(want, self._now_ms)
            return True
        peer = HERE if HERE in sources else max(sources, key=self._room_at)  # of equal ones the first
        if self._room_at(peer) <= 0:
            self._fetching.hold_up(want, [HERE] if peer == HERE else sources)
            return True
        if not self._fetching.fits(want):
            return False
        self._fetching.hold(want)
        if want.size > SMALL_FILE_BYTES:
            self._open(peer, [want])
            return True
        batch = self._batches.setdefault(peer, [])
        batch.append(want)
        self._batch_bytes[peer] = self._batch_bytes.get(peer, 0) + want.size
        if len(batch) >= BATCH_ITEMS_MAX or self._batch_bytes[peer] >= BATCH_BYTES_MAX:
            self._close(peer)
        return True

    def _to_ask(self, want: Want) -> Sequence[MemberId]:
        if want.kept is None:
            want.kept = self._kept(want.digest)
        having = [HERE] if want.kept else []
        shown = self._sources(want.cn)
        want.shown = bool(shown)
        having += shown
        sources = [peer for peer in having if peer not in want.refused]
        want.guessed = not sources and want.failures >= GUESS_AFTER
        if want.guessed:
            sources = [peer for peer in self._connected() if peer not in having and peer not in want.refused]
        if not sources:
            # All have refused, and its delay is over. Whoever moved the file while it was asked has it all the same,
            # and may have nothing more to tell: it is asked anew, ever more seldom.
            want.refused.clear()
            want.guessed = False
            return having
        return sources

    def end(self) -> list[Fetch]:
        for peer in list(self._batches):
            self._close(peer)
        return self._fetches

    def has_room(self, peer: MemberId) -> bool:
        return self._room_at(peer) > 0

    def _room_at(self, peer: MemberId) -> int:
        if peer not in self._room:
            self._room[peer] = TICKETS_PER_PEER_MAX - self._fetching.under_way(peer)
        return self._room[peer]

    def _close(self, peer: MemberId) -> None:
        self._batch_bytes.pop(peer)
        self._open(peer, self._batches.pop(peer))

    def _open(self, peer: MemberId, wants: list[Want]) -> None:
        self._room[peer] -= 1
        self._fetches.append(self._fetching.open_ticket(peer, wants))
