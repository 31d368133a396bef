"""What content to fetch next, from whom: decisions, and the state of what is under way.

Bounded in every direction (I8): contents wanted, requests in flight per source, bytes in staging. A content that cannot
be had gives up its place and comes back after a delay that doubles, so it never stops the others (I10, P18). A file
larger than the staging quota passes alone.

Sources are connected members that have installed the version (or hold its content, as their status says); the one with
the least under way is asked, so several members share the load.
"""

from __future__ import annotations

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

NO_SOURCE = "no connected member has this content"


class Want(msgspec.Struct):
    """One content on its way. `failures` counts since it was wanted; `refused` are sources that no longer have it.

    `held`: its bytes are counted against the quota; `parked`: they are counted apart.
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
    refused: set[MemberId] = msgspec.field(default_factory=set)


Sources = Callable[[Cn], Sequence[MemberId]]
"""Connected members that have installed the version with this CN."""


class Fetching:
    """The contents of one folder that are wanted, under way or staged."""

    def __init__(self, quota_bytes: int) -> None:
        self._quota_bytes = quota_bytes
        self._wants: dict[Uid, Want] = {}
        self._tickets: dict[int, tuple[MemberId, tuple[Uid, ...]]] = {}
        self._next_ticket = 1
        self._used_bytes = 0
        self._parked_bytes = 0
        self._stirred = False
        """Something has happened since the last requests that may allow more of them."""
        self._due_ms: int | None = None

    @property
    def used_bytes(self) -> int:
        """Of staging: contents that are whole there or on their way."""
        return self._used_bytes

    @property
    def full(self) -> bool:
        """Whether no more may be wanted for now."""
        return len(self._wants) >= WANTED_MAX

    def want(self, want: Want) -> list[bytes]:
        """Take it up. Returns the staged names that are no longer needed (an older version of the object)."""
        self._stirred = True
        held = self._wants.get(want.uid)
        if held is not None and held.digest == want.digest:
            return []
        stale = self.forget(want.uid)
        self._wants[want.uid] = want
        return stale

    def wanted(self, uid: Uid) -> Want | None:
        return self._wants.get(uid)

    def staged(self, uid: Uid, digest: bytes) -> bool:
        """Whether the content is whole and verified in staging."""
        held = self._wants.get(uid)
        return held is not None and held.whole and held.digest == digest

    def forget(self, uid: Uid) -> list[bytes]:
        """It was installed or is no longer wanted. Returns the staged names to be removed if they are there."""
        self._stirred = True
        held = self._wants.pop(uid, None)
        if held is None:
            return []
        self._release(held)
        return [held.staged]

    def drop_staged(self, uid: Uid) -> None:
        """What was staged turned out to be gone or damaged: fetch it again."""
        self._stirred = True
        held = self._wants.get(uid)
        if held is not None and held.whole:
            held.whole = False
            self._release(held)

    def park(self, uid: Uid) -> list[bytes]:
        """It is staged but cannot be installed for now: it must not keep room from others, however long that lasts.

        Returns the staged name to be removed where what is parked would fill more than the quota again.
        """
        self._stirred = True
        held = self._wants.get(uid)
        if held is None or not held.whole or not held.held:
            return []
        self._release(held)
        if self._parked_bytes + held.size > self._quota_bytes:
            return self.forget(uid)
        held.parked = True
        self._parked_bytes += held.size
        return []

    def requests(self, now_ms: int, sources: Sources) -> list[Fetch]:
        """The requests to send now; each is answered by one `finish`."""
        self._stirred = False
        batches: dict[MemberId, list[Want]] = {}
        batch_bytes: dict[MemberId, int] = {}
        room: dict[MemberId, int] = {}
        fetches: list[Fetch] = []
        for want in self._wants.values():
            if want.whole or want.ticket or want.next_ms > now_ms or not self._fits(want):
                continue
            peer = self._choose(want, sources, room)
            if peer is None:
                self._note_no_source(want, now_ms, sources)
                continue
            if want.size > SMALL_FILE_BYTES:
                self._hold(want)
                fetches.append(self._open(peer, [want], room))
                continue
            batch = batches.setdefault(peer, [])
            batch.append(want)
            batch_bytes[peer] = batch_bytes.get(peer, 0) + want.size
            self._hold(want)
            if len(batch) >= BATCH_ITEMS_MAX or batch_bytes[peer] >= BATCH_BYTES_MAX:
                fetches.append(self._open(peer, batches.pop(peer), room))
                batch_bytes.pop(peer)
        fetches.extend(self._open(peer, batch, room) for peer, batch in batches.items())
        open_wants = (want.next_ms for want in self._wants.values() if not want.ticket and not want.whole)
        self._due_ms = min((at for at in open_wants if at > now_ms), default=None)
        return fetches

    def finish(self, ticket: int, items: Sequence[FetchedItem], now_ms: int) -> list[Uid]:
        """The end of a request. Returns the objects whose content is whole in staging now."""
        self._stirred = True
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
            if item is not None and item.gone:
                want.refused.add(peer)
            self._fail(want, item.reason if item is not None and item.reason else "the transfer broke off", now_ms)
        return ready

    def status_changed(self, peer: MemberId, now_ms: int) -> None:
        """A source told of its state: what it did not have it may have now."""
        self._stirred = True
        for want in self._wants.values():
            if peer in want.refused or (want.reason == NO_SOURCE and not want.ticket):
                want.refused.discard(peer)
                want.next_ms = min(want.next_ms, now_ms)

    def linked(self, now_ms: int) -> None:
        """A source came: what waits for one is tried at once."""
        self._stirred = True
        for want in self._wants.values():
            if not want.ticket and not want.whole:
                want.next_ms = now_ms

    def waiting(self) -> list[tuple[Uid, str]]:
        """Contents that cannot be had for now, each with the reason."""
        return [(uid, want.reason) for uid, want in self._wants.items() if want.reason and not want.ticket]

    def next_due_ms(self) -> int | None:
        """When `requests` may have something new to say: at once after an event, else when a delay is over.

        What waits for room, in staging or at a source, waits for the event that makes room.
        """
        return 0 if self._stirred and self._wants else self._due_ms

    def _hold(self, want: Want) -> None:
        want.held = True
        want.ticket = -1
        self._used_bytes += want.size

    def _release(self, want: Want) -> None:
        if want.held:
            self._used_bytes -= want.size
            want.held = False
        if want.parked:
            self._parked_bytes -= want.size
            want.parked = False

    def _fits(self, want: Want) -> bool:
        return self._used_bytes == 0 or self._used_bytes + want.size <= self._quota_bytes

    def _choose(self, want: Want, sources: Sources, room: dict[MemberId, int]) -> MemberId | None:
        best: MemberId | None = None
        for peer in sources(want.cn):
            if peer in want.refused:
                continue
            if peer not in room:
                room[peer] = TICKETS_PER_PEER_MAX - sum(1 for other, _ in self._tickets.values() if other == peer)
            if room[peer] > 0 and (best is None or room[peer] > room[best]):
                best = peer
        return best

    def _note_no_source(self, want: Want, now_ms: int, sources: Sources) -> None:
        """Only where there is none at all: a busy one is no reason to wait longer."""
        if not any(peer not in want.refused for peer in sources(want.cn)):
            self._fail(want, NO_SOURCE, now_ms)

    def _open(self, peer: MemberId, wants: list[Want], room: dict[MemberId, int]) -> Fetch:
        ticket = self._next_ticket
        self._next_ticket += 1
        for want in wants:
            want.ticket = ticket
        room[peer] = room.get(peer, TICKETS_PER_PEER_MAX) - 1
        self._tickets[ticket] = (peer, tuple(want.uid for want in wants))
        return Fetch(
            ticket,
            peer,
            tuple(WantedContent(want.uid, want.digest, want.size, want.staged, want.local) for want in wants),
        )

    def _fail(self, want: Want, reason: str, now_ms: int) -> None:
        want.failures += 1
        want.reason = reason
        want.next_ms = now_ms + min(RETRY_LAST_MS, RETRY_FIRST_MS << min(want.failures - 1, 10))
