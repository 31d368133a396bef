"""What is known of each member's state, and when a status is due to whom. PROTOCOL section 4, "Status".

Statuses are state, not events: each replaces the last one, so losing or delaying any of them is harmless. A member's
own word replaces whatever was heard of it; of two that were heard the greater (session, serial) is newer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise

import msgspec

from replicad.core.cnset import CNSet
from replicad.core.ids import COUNTER_MAX, MEMBER_ID_CHARACTERS, REPLICA_MAX, MemberId
from replicad.core.messages import MEMBERS_MAX, MemberStatus, set_of
from replicad.errors import ProtocolError

STATUS_DELAY_MS = 200
"""After a change: what follows at once goes with it."""
STATUS_INTERVAL_MIN_MS = 1_000
"""Between two statuses to one peer, however much changes."""
STATUS_PERIOD_MS = 60_000
STATUS_PERIOD_JITTER = 0.25
"""Up and down: members do not send in step."""
STATUS_INTERVALS_MAX = 4_096
"""Of each set in a status: 80 KB on the wire. `shortened` and `widened` keep to it."""
RELAYED_AGAIN_MS = 600_000
"""What a third member said is passed on once more after this time, where it tells nothing new: in a hub of 200 each
minute would be 40,000 statuses. Nothing waits for it; it only says that the member was there."""
HEARD_BYTES_MAX = 1_048_576
"""Of the statuses that one message passes on; the rest goes with the next one."""

Version = tuple[int, int]
"""(session, serial)."""


class Known(msgspec.Struct, frozen=True, gc=False):
    """A member's status, opened. `direct`: it came from the member itself, in this run of the daemon."""

    status: MemberStatus
    known: CNSet
    missing: CNSet
    not_wanted: CNSet
    purged: CNSet
    connected: frozenset[bytes]
    direct: bool
    received_ms: int

    @property
    def member(self) -> MemberId:
        return self.status.member.hex()

    @property
    def installed(self) -> CNSet:
        return self.known.minus(self.missing)

    @property
    def version(self) -> Version:
        return self.status.session, self.status.serial

    @property
    def whole(self) -> bool:
        """Whether `known` is all that it knows: only then may anything be concluded from what is not in it."""
        return bool(self.status.digest)

    def tells(self) -> tuple[object, ...]:
        """What a change of makes it worth sending on at once."""
        s = self.status
        sets = (s.replica, self.known, self.missing, self.not_wanted, self.purged, s.digest)
        return (*sets, s.session, s.state, s.complete, s.scanned, s.pending_files, s.pending_bytes, self.connected)


def open_status(status: MemberStatus, *, direct: bool, received_ms: int) -> Known:
    """Validate; raises ProtocolError."""
    if len(status.member) * 2 != MEMBER_ID_CHARACTERS or len(status.digest) not in (0, 16):
        raise ProtocolError("a status has a malformed member or digest")
    numbers = (status.session, status.serial, status.head, status.pending_files, status.pending_bytes, status.time_ms)
    if not 0 < status.replica <= REPLICA_MAX or min(numbers) < 0 or max(numbers) > COUNTER_MAX:
        raise ProtocolError("a status has malformed numbers")
    if len(status.connected) > MEMBERS_MAX or not 0 <= status.state <= 5:
        raise ProtocolError("a status is out of its limits")
    if any(len(member) * 2 != MEMBER_ID_CHARACTERS for member in status.connected):
        raise ProtocolError("a status names a malformed member")
    known, missing, not_wanted, purged = (
        set_of(rows) for rows in (status.known, status.missing, status.not_wanted, status.purged)
    )
    if max(cns.interval_count() for cns in (known, missing, not_wanted, purged)) > STATUS_INTERVALS_MAX:
        raise ProtocolError("a set in a status has too many intervals")
    return Known(status, known, missing, not_wanted, purged, frozenset(status.connected), direct, received_ms)


def shortened(cns: CNSet, intervals_max: int = STATUS_INTERVALS_MAX) -> CNSet:
    """At most so many intervals of `cns`, the longest: it may understate."""
    if cns.interval_count() <= intervals_max:
        return cns
    spans = [(first - last, replica, first, last) for replica, parts in cns.items() for first, last in parts]
    kept: dict[int, list[tuple[int, int]]] = {}
    for _, replica, first, last in sorted(spans)[:intervals_max]:
        kept.setdefault(replica, []).append((first, last))
    return CNSet({replica: tuple(sorted(parts)) for replica, parts in kept.items()})


def widened(cns: CNSet, intervals_max: int = STATUS_INTERVALS_MAX) -> CNSet:
    """`cns` with its smallest holes filled down to so many intervals (but one per replica id): it may overstate."""
    excess = cns.interval_count() - intervals_max
    if excess <= 0:
        return cns
    holes = sorted(
        (after[0] - before[1], replica, index)
        for replica, parts in cns.items()
        for index, (before, after) in enumerate(pairwise(parts))
    )
    filled = {(replica, index) for _, replica, index in holes[:excess]}
    joined: dict[int, tuple[tuple[int, int], ...]] = {}
    for replica, parts in cns.items():
        spans = [parts[0]]
        for index, part in enumerate(parts[1:]):
            if (replica, index) in filled:
                spans[-1] = (spans[-1][0], part[1])
            else:
                spans.append(part)
        joined[replica] = tuple(spans)
    return CNSet(joined)


class _Talk:
    """With one peer: what is due to it, and which version of each member's status it has."""

    __slots__ = ("due_ms", "has", "last_ms", "periodic_ms")

    def __init__(self, periodic_ms: int) -> None:
        self.due_ms: int | None = None
        self.last_ms = -STATUS_INTERVAL_MIN_MS
        self.periodic_ms = periodic_ms
        self.has: dict[MemberId, tuple[Version, int]] = {}
        """And when it was sent, or told of it here."""


class StatusBoard:
    """Of one catalog. `draw` gives numbers in [0, 1)."""

    def __init__(self, own: MemberId, draw: Callable[[], float]) -> None:
        self._own = own
        self._draw = draw
        self._members: dict[MemberId, Known] = {}
        self._says_since: dict[MemberId, Version] = {}
        """Which version was the first to tell what the newest tells."""
        self._talks: dict[MemberId, _Talk] = {}

    # -- links

    def link_up(self, peer: MemberId, now_ms: int) -> None:
        self._talks[peer] = _Talk(self._next_period(now_ms))

    def link_down(self, peer: MemberId) -> None:
        self._talks.pop(peer, None)

    # -- what is heard

    def take(self, sender: MemberId | None, heard: Iterable[Known], now_ms: int) -> list[Known]:
        """Take in what `sender` sent (None: what the catalog kept). Returns those that are new or newer.

        What is newer and says something else is soon due to those who cannot hear it from the member itself.
        """
        newer: list[Known] = []
        for known in heard:
            talk = self._talks.get(sender) if sender is not None else None
            if talk is not None:
                talk.has[known.member] = max(
                    (known.version, now_ms), talk.has.get(known.member, (known.version, now_ms))
                )
            if known.member == self._own or not self._newer(known):
                continue
            before = self._members.get(known.member)
            if before is None and len(self._members) >= MEMBERS_MAX:
                continue
            self._members[known.member] = known
            newer.append(known)
            if before is None or before.tells() != known.tells():
                self._says_since[known.member] = known.version
                for peer in self._talks:
                    if self._lacks(peer, known.member, now_ms):
                        self._mark(peer, now_ms)
        return newer

    def _newer(self, known: Known) -> bool:
        before = self._members.get(known.member)
        if before is None or (known.direct and known.status.session != before.status.session):
            return True
        if not known.direct and before.direct and known.member in self._talks:
            return False  # the member itself is connected, and speaks for itself
        return known.version > before.version

    def member(self, member: MemberId) -> Known | None:
        return self._members.get(member)

    def members(self) -> dict[MemberId, Known]:
        """The newest of each, this member excluded."""
        return dict(self._members)

    def connected(self, one: MemberId, other: MemberId) -> bool:
        """Whether `one` has said that it has a link to `other`."""
        known = self._members.get(one)
        return known is not None and bytes.fromhex(other) in known.connected

    def forget(self, member: MemberId) -> None:
        """It was removed."""
        self._members.pop(member, None)
        self._says_since.pop(member, None)

    # -- what is due

    def mark(self, now_ms: int) -> None:
        """This member's own state may have changed."""
        for peer in self._talks:
            self._mark(peer, now_ms)

    def due(self, now_ms: int) -> list[tuple[MemberId, bool]]:
        """Peers to which a status is due, and whether the period is over: then it is sent whatever it says."""
        return [
            (peer, talk.periodic_ms <= now_ms)
            for peer, talk in self._talks.items()
            if talk.periodic_ms <= now_ms or (talk.due_ms is not None and talk.due_ms <= now_ms)
        ]

    def has_to_relay(self, peer: MemberId, now_ms: int) -> bool:
        return any(self._lacks(peer, member, now_ms) for member in self._members)

    def relay(self, peer: MemberId, now_ms: int) -> list[MemberStatus]:
        """What to pass on to `peer` with the next status; noted as passed on."""
        talk, size = self._talks[peer], 0
        passed: list[MemberStatus] = []
        for member in sorted(self._members):
            if not self._lacks(peer, member, now_ms):
                continue
            known = self._members[member]
            size += _bytes_of(known)
            if passed and size > HEARD_BYTES_MAX:
                break
            talk.has[member] = (known.version, now_ms)
            passed.append(known.status)
        return passed

    def sent(self, peer: MemberId, now_ms: int) -> None:
        """A status went out, or there was nothing to say."""
        talk = self._talks[peer]
        talk.due_ms, talk.last_ms, talk.periodic_ms = None, now_ms, self._next_period(now_ms)

    def nothing_new(self, peer: MemberId) -> None:
        """What was marked turned out to say nothing."""
        self._talks[peer].due_ms = None

    def clock_set_back(self, back_ms: int) -> None:
        """Every time kept here moves with the clock."""
        for talk in self._talks.values():
            talk.has = {member: (version, at_ms - back_ms) for member, (version, at_ms) in talk.has.items()}
            talk.last_ms -= back_ms
            talk.periodic_ms -= back_ms
            talk.due_ms = talk.due_ms - back_ms if talk.due_ms is not None else None
        for member, known in self._members.items():
            self._members[member] = msgspec.structs.replace(known, received_ms=known.received_ms - back_ms)

    def next_due_ms(self) -> int | None:
        first_ms = None
        for talk in self._talks.values():
            for at_ms in (talk.periodic_ms, talk.due_ms):
                if at_ms is not None and (first_ms is None or at_ms < first_ms):
                    first_ms = at_ms
        return first_ms

    def _lacks(self, peer: MemberId, member: MemberId, now_ms: int) -> bool:
        """Whether `peer` cannot hear `member` itself, and has not what is known of it here. What tells nothing new but
        that the member was there is passed on now and then: each minute it would be everybody's, to everybody."""
        if member == peer or self.connected(peer, member):
            return False
        had = self._talks[peer].has.get(member)
        if had is None or had[0] < self._says_since[member]:
            return True
        return had[0] < self._members[member].version and now_ms >= had[1] + RELAYED_AGAIN_MS

    def _mark(self, peer: MemberId, now_ms: int) -> None:
        talk = self._talks[peer]
        if talk.due_ms is None:
            talk.due_ms = max(now_ms + STATUS_DELAY_MS, talk.last_ms + STATUS_INTERVAL_MIN_MS)

    def _next_period(self, now_ms: int) -> int:
        return now_ms + int(STATUS_PERIOD_MS * (1 - STATUS_PERIOD_JITTER + 2 * STATUS_PERIOD_JITTER * self._draw()))


def _bytes_of(known: Known) -> int:
    """About so many on the wire."""
    intervals = sum(cns.interval_count() for cns in (known.known, known.missing, known.not_wanted, known.purged))
    return 200 + 20 * intervals + 34 * len(known.status.connected)
