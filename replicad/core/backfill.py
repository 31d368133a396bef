"""The backfill array: what others have shown and this member lacks, and whom it is asked from. PROTOCOL section 4.

Exchange's backfill array, without its two flaws: entries that cannot be satisfied give up their places (its limit of 50
outstanding requests could be filled by them for ever), and the array can be listed.

An *entry* is a CNSet with a time at which it is due. A *cycle* is a conversation with one peer that brings CNs: pages
of a series up to the peer's head, or of the certain CNs that were asked for. Invariants:
1. No CN is in two entries. Nothing known is in an entry.
2. One cycle per peer; an entry is at one peer (`source`), which has a cycle, or at none.
3. Every call ends with each due entry at a peer, or marked `waiting` with its reason; so no timer spins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

from replicad.core.cnset import EMPTY, CNSet
from replicad.core.ids import MemberId

ENTRIES_MAX = 1_000
"""An entry is a gap seen at one time; beyond it a new gap is joined to the last entry."""
LACKING_INTERVALS_MAX = 200_000
"""Of all entries together; a gap beyond it is seen again at the next status, when some of them are cleared."""
FAILURES_MAX = 1_000
"""Of a peer, as counted for its rank; and of an entry: its delay has long reached its limit."""


@dataclass(frozen=True, slots=True)
class Profile:
    """The delays. These are the profile `default`."""

    gap_delay_ms: int = 500
    """Before a gap is asked for: the message that fills it may be on its way."""
    new_replica_delay_ms: int = 0
    """The same where nothing is known yet."""
    retry_min_ms: int = 200
    retry_max_ms: int = 60_000
    """After failures: doubling from the one to the other."""
    answer_max_ms: int = 30_000
    """Without a page for so long, the attempt has failed: a page is read within 0.1 s and takes 1 s at 1 MB/s."""
    outstanding_max: int = 50
    """Entries asked for at once (Exchange's limit; 1 to 5000)."""
    jitter: float = 0.5
    """A delay is shortened by up to this part of it, so that members do not ask in step."""


class Cycle(msgspec.Struct):
    """What is asked from one peer. `wanted`: these CNs alone; None: a series."""

    peer: MemberId
    wanted: CNSet | None
    last_ms: int
    """Of the request or page before."""


class EntryRow(msgspec.Struct, frozen=True):
    """One entry, for operators (REQUIREMENTS P14). `source` is None while it waits; then `next_attempt_ms` counts,
    unless `waiting`: then it waits for a source or a place. `reason` is that of the last failure, or of the waiting."""

    cns: CNSet
    since_ms: int
    next_attempt_ms: int
    attempts: int
    source: MemberId | None
    waiting: bool
    reason: str


class _Entry:
    __slots__ = ("attempts", "cns", "due_ms", "reason", "since_ms", "source", "waiting")

    def __init__(self, cns: CNSet, since_ms: int, due_ms: int) -> None:
        self.cns = cns
        self.since_ms = since_ms
        self.due_ms = due_ms
        self.attempts = 0
        self.source: MemberId | None = None
        self.waiting = False
        self.reason = ""

    def part(self, cns: CNSet) -> _Entry:
        """The same entry for some of its CNs."""
        other = _Entry(cns, self.since_ms, self.due_ms)
        other.attempts, other.reason = self.attempts, self.reason
        return other


class Backfill:
    """Of one catalog. `draw` gives numbers in [0, 1): for jitter and for ties."""

    def __init__(self, profile: Profile, draw: Callable[[], float]) -> None:
        self._profile = profile
        self._draw = draw
        self._entries: list[_Entry] = []
        self._lacking: CNSet = EMPTY
        """The union of the entries."""
        self._cycles: dict[MemberId, Cycle] = {}
        self._failures: dict[MemberId, int] = {}

    # -- what is lacking

    def lack(self, shown: CNSet, known: CNSet, now_ms: int) -> None:
        """A peer has shown `shown`; what of it is neither known nor in an entry becomes one."""
        gap = shown.minus(known).minus(self._lacking)
        if not gap or self._lacking.interval_count() + gap.interval_count() > LACKING_INTERVALS_MAX:
            return
        self._lacking = self._lacking.union(gap)
        if len(self._entries) >= ENTRIES_MAX:
            self._entries[-1].cns = self._entries[-1].cns.union(gap)
            return
        delay_ms = self._profile.gap_delay_ms if known else self._profile.new_replica_delay_ms
        self._entries.append(_Entry(gap, now_ms, now_ms + self._jittered(delay_ms)))

    def clear(self, known: CNSet) -> None:
        """These are known now, whatever brought them."""
        left = self._lacking.minus(known)
        if left == self._lacking:
            return
        self._lacking = left
        for entry in self._entries:
            entry.cns = entry.cns.intersect(left)
        self._entries = [entry for entry in self._entries if entry.cns]

    def expire(self, now_ms: int) -> None:
        """Make every entry that waits due (REQUIREMENTS P16)."""
        for entry in self._entries:
            entry.due_ms = min(entry.due_ms, now_ms)

    # -- cycles

    def begin(self, sources: Mapping[MemberId, CNSet], known: CNSet, now_ms: int) -> list[Cycle]:
        """Give each due entry to one of `sources` (connected peers and what they have shown); returns new cycles."""
        started: list[Cycle] = []
        due = [entry for entry in self._entries if entry.source is None and entry.due_ms <= now_ms]
        due.sort(key=lambda entry: (entry.due_ms, entry.since_ms))
        places = self._profile.outstanding_max - sum(entry.source is not None for entry in self._entries)
        while due:
            entry = due.pop(0)
            entry.waiting = places <= 0
            if entry.waiting:
                entry.reason = entry.reason or "waits for its turn"
                continue
            cycle = self._joined(entry, sources) or self._started(entry, sources, known, now_ms)
            if cycle is None:
                continue
            places -= 1
            if cycle.peer not in self._cycles:
                self._cycles[cycle.peer] = cycle
                started.append(cycle)
            rest = self._give(entry, cycle, sources[cycle.peer])
            if rest is not None:
                due.insert(0, rest)
        return started

    def cycle(self, peer: MemberId) -> Cycle | None:
        return self._cycles.get(peer)

    def progressed(self, peer: MemberId, now_ms: int) -> None:
        """A page came, and there is more."""
        self._cycles[peer].last_ms = now_ms

    def ended(self, peer: MemberId, reason: str, now_ms: int) -> None:
        """The cycle with `peer`, if there is one, is over; `reason` is empty where it brought what the peer had.

        What it should have brought and did not (see `clear`) is asked again, later.
        """
        if self._cycles.pop(peer, None) is None:
            return
        self._failures[peer] = min(self._failures.get(peer, 0) + 1, FAILURES_MAX) if reason else 0
        for entry in self._entries:
            if entry.source == peer:
                entry.source = None
                entry.attempts = min(entry.attempts + 1, FAILURES_MAX)
                entry.reason = reason or "the answer did not bring it"
                entry.due_ms = now_ms + self._retry_ms(entry.attempts)

    def met(self, peer: MemberId) -> None:
        """A new link: what failed before counts no more."""
        self._failures.pop(peer, None)

    def silent(self, now_ms: int) -> list[MemberId]:
        """Peers whose cycle has waited too long for a page; call `ended` for each."""
        return [peer for peer, cycle in self._cycles.items() if now_ms - cycle.last_ms >= self._profile.answer_max_ms]

    def clock_set_back(self, back_ms: int) -> None:
        """Every time kept here moves with the clock."""
        for entry in self._entries:
            entry.since_ms -= back_ms
            entry.due_ms -= back_ms
        for cycle in self._cycles.values():
            cycle.last_ms -= back_ms

    def next_due_ms(self) -> int | None:
        if not self._entries and not self._cycles:
            return None
        due = [entry.due_ms for entry in self._entries if entry.source is None and not entry.waiting]
        due.extend(cycle.last_ms + self._profile.answer_max_ms for cycle in self._cycles.values())
        return min(due, default=None)

    def rows(self) -> list[EntryRow]:
        """The longest lacking first."""
        return [
            EntryRow(e.cns, e.since_ms, e.due_ms, e.attempts, e.source, e.waiting, e.reason)
            for e in sorted(self._entries, key=lambda entry: entry.since_ms)
        ]

    def __len__(self) -> int:
        return len(self._entries)

    # -- source selection

    def _joined(self, entry: _Entry, sources: Mapping[MemberId, CNSet]) -> Cycle | None:
        """A series under way whose peer has shown all of the entry: it will bring it (D5)."""
        for peer, cycle in self._cycles.items():
            if cycle.wanted is None and sources.get(peer, EMPTY).contains_all(entry.cns):
                return cycle
        return None

    def _started(self, entry: _Entry, sources: Mapping[MemberId, CNSet], known: CNSet, now_ms: int) -> Cycle | None:
        found = {peer: shown.intersect(entry.cns) for peer, shown in sources.items()}
        having = {peer: part for peer, part in found.items() if part}
        free = {peer: part for peer, part in having.items() if peer not in self._cycles}
        if not free:
            entry.waiting = True
            entry.reason = "waits for a member that is being asked" if having else "no connected member has it"
            return None
        ranks = {peer: (self._failures.get(peer, 0), -part.count(), self._draw()) for peer, part in free.items()}
        peer = min(sorted(free), key=lambda one: ranks[one])
        under_way = EMPTY
        for other, cycle in self._cycles.items():
            if cycle.wanted is None:
                under_way = under_way.union(sources.get(other, EMPTY).minus(known))
        doubled = bool(sources[peer].minus(known).intersect(under_way))
        return Cycle(peer, free[peer] if doubled and not entry.attempts else None, now_ms)

    def _give(self, entry: _Entry, cycle: Cycle, shown: CNSet) -> _Entry | None:
        """Note that the cycle is to bring the entry; what its peer has not becomes an entry of its own, returned."""
        entry.source, entry.waiting = cycle.peer, False
        rest = entry.cns.minus(shown)
        if not rest or len(self._entries) >= ENTRIES_MAX:
            return None
        entry.cns = entry.cns.intersect(shown)
        other = entry.part(rest)
        self._entries.append(other)
        return other

    # -- delays

    def _retry_ms(self, attempts: int) -> int:
        longest = self._profile.retry_max_ms
        delay = longest if attempts > 32 else min(longest, self._profile.retry_min_ms << (attempts - 1))
        return self._jittered(delay)

    def _jittered(self, delay_ms: int) -> int:
        return int(delay_ms * (1 - self._profile.jitter * self._draw()))
