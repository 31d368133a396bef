"""What is pushed to one peer, and from where such a page may be said to begin. PROTOCOL sections 2 and 4.

Rules kept here:
1. The base of a push, and the claim that it begins at 0, stand on what the peer has *told* in this session; what was
   sent may be lost.
2. A change that came from others goes at once to those that are not connected to where it came from; to the rest only
   when they have had time to get it, and say that they have not.
3. A change that is not settled here (rule 7) is passed on when it is, for which it is given a moment: nearly always
   the rest of its series is on its way, and a page that is not settled makes the receiver wait for half a minute.
4. Not more than WAITING_MAX pushed records wait for the peer to tell that it knows them. Beyond that nothing is
   pushed: a status tells of it, and the peer pulls at its own pace. So a queue to a slow peer never grows.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from replicad.core.cnset import EMPTY, CNSet
from replicad.core.ids import Uid

WAITING_MAX = 512
"""Records: one page. A peer that is behind by more is served better by a series."""
FORWARD_DELAY_MS = 1_000
"""For a change to come from where it came from, and for the status that says so: at most one a second."""
SETTLE_DELAY_MS = 1_000
"""After that it is passed on as it is."""
FORWARD_LATEST_MS = 2_500
"""Without such a status the link between the two may be gone without anyone having noticed."""
NOTES_MAX = 64
"""Pushes not yet told of, and changes held back: beyond it the oldest are joined."""


TOLD_INTERVALS_MAX = 400_000
"""Of what a peer has told on one link, some 50 MB; beyond it (its sets have nothing in common) what it told last stands
alone: it may understate."""


class Mark(msgspec.Struct, frozen=True, gc=False):
    """A catalog between two commits."""

    head: int
    known: CNSet


class Push(msgspec.Struct, frozen=True, gc=False):
    """Send what was stored after `after`, without `base`, as pages the first of which begins at `begin`."""

    after: int
    begin: int
    base: CNSet


class _Sent(msgspec.Struct, frozen=True, gc=False):
    cns: CNSet
    records: int


class _Held(msgspec.Struct, frozen=True, gc=False):
    """A change that is passed on later: when `uids` are settled, or if the peer does not get it from another."""

    since_ms: int
    after: int
    cns: CNSet
    uids: frozenset[Uid]
    elsewhere: bool


class Outbox:
    """Of one link, for as long as it is up."""

    def __init__(self) -> None:
        self.told: CNSet | None = None
        """All that the peer has said in this session that it knows; None: nothing yet, and nothing is pushed."""
        self._told_ms = 0
        self._sent: list[_Sent] = []
        self._held: list[_Held] = []

    @property
    def waiting(self) -> int:
        """Records pushed that the peer has not told of."""
        return sum(sent.records for sent in self._sent)

    def hear(self, cns: CNSet, now_ms: int) -> None:
        """The peer has shown that it knows `cns`: by any message, for any reason."""
        told = (self.told or EMPTY).union(cns)
        if told is not self.told:
            self.told = told if told.interval_count() <= TOLD_INTERVALS_MAX else cns
            self._sent = [sent for sent in self._sent if not told.contains_all(sent.cns)]
        self._told_ms = now_ms

    def committed(
        self,
        before: Mark,
        head: int,
        added: CNSet,
        now_ms: int,
        *,
        elsewhere: bool = False,
        unsettled: frozenset[Uid] = frozenset(),
    ) -> Push | None:
        """A commit brought this member from `before` to `head`, and added `added` to what it knows.

        `elsewhere`: the peer should get it from another; `unsettled`: what of it is not settled here.

        None also where the peer is too far behind: the status that every commit leads to tells of it.
        """
        if self.told is None or head == before.head:
            return None
        lacking = added.minus(self.told)
        if not lacking:
            return None
        if elsewhere or unsettled:
            self._hold(_Held(now_ms, before.head, lacking, unsettled, elsewhere))
            return None
        begin = 0 if self.told.contains_all(before.known) else before.head
        return self._push(before.head, begin, lacking, head)

    def due(self, head: int, now_ms: int, settled: Callable[[Uid], bool]) -> Push | None:
        """What was held back, is still not there, and has waited enough. To be asked after every event."""
        if not self._held:
            return None
        told = self.told or EMPTY
        self._held = [held for held in self._held if not told.contains_all(held.cns)]
        ripe = [held for held in self._held if self._ripe(held, now_ms, settled)]
        if not ripe:
            return None
        after = min(held.after for held in ripe)
        lacking = EMPTY
        for held in self._held:
            if held.after >= after:
                lacking = lacking.union(held.cns.minus(told))
        self._held = [held for held in self._held if held.after < after]
        return self._push(after, after, lacking, head)

    def clock_set_back(self, back_ms: int) -> None:
        """Every time kept here moves with the clock."""
        self._told_ms -= back_ms
        self._held = [msgspec.structs.replace(held, since_ms=held.since_ms - back_ms) for held in self._held]

    def next_due_ms(self) -> int | None:
        """When `due` has something to do at the latest."""
        return min([held.since_ms + _latest_ms(held) for held in self._held]) if self._held else None

    def _push(self, after: int, begin: int, lacking: CNSet, head: int) -> Push | None:
        records = head - after
        if self.waiting + records > WAITING_MAX:
            return None
        self._sent.append(_Sent(lacking, records))
        if len(self._sent) > NOTES_MAX:
            first, second = self._sent[0], self._sent[1]
            self._sent[:2] = [_Sent(first.cns.union(second.cns), first.records + second.records)]
        return Push(after, begin, self.told or EMPTY)

    def _hold(self, held: _Held) -> None:
        self._held.append(held)
        if len(self._held) > NOTES_MAX:
            first, second = self._held[0], self._held[1]
            after, cns = min(first.after, second.after), first.cns.union(second.cns)
            joined = _Held(first.since_ms, after, cns, second.uids, first.elsewhere and second.elsewhere)
            self._held[:2] = [joined]

    def _ripe(self, held: _Held, now_ms: int, settled: Callable[[Uid], bool]) -> bool:
        if now_ms >= held.since_ms + _latest_ms(held):
            return True
        if held.elsewhere:
            return self._told_ms >= held.since_ms + FORWARD_DELAY_MS
        return all(settled(uid) for uid in held.uids)


def _latest_ms(held: _Held) -> int:
    return FORWARD_LATEST_MS if held.elsewhere else SETTLE_DELAY_MS
