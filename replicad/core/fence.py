"""The fence: how `wait` finds out that everybody has looked, what was known then, and that it is installed.

*Theory of operation.* A wait goes in rounds. In a round the waiting member floods a Fence: each member passes it on to
its linked members that are not in `seen`, looks at its own disk (engine.fences), and answers once, for itself and for
those whom it passed the fence on to. So answers come back along a tree. From them follows the *target* T: the CNs that
the reachable members knew. An Await with T goes down the same tree, and each member tells how it stands to T.

*T is fixed by each member's first passing.* A member that has passed tells its replica id and the last counter it had
made a change under; whatever else is known under that replica id was made later, and is taken out of T, whoever knows
it. So T holds, of every member that has passed, exactly what was on its disk when it passed. Nobody passes before the
wait began, so what was on a disk then is in T; what a member wrote after it had passed is not. A member that connects
during the wait is fenced in a later round and adds what it had on its disk by then. A member that could not read some
of what it had to look at (`unread`) has not passed in this sense: it is asked again until it has or the time is out.

*A round is repeated* while members are missing, could not pass in time, were lost on the way, or had unread entries. A
member that has passed once need not look again for the same wait: the looking that counts is any one that began after
the wait did. The wait is over when, in one round, enough members answered, none of them failed, was lost or had
anything unread, and each of them says that all of T is installed.

Invariants:
1. A `Flood` is complete only when this member and everyone whom it asked has answered, failed or was lost.
2. `Wait.target` only grows, and only by what members knew at the end of a round.
3. `Wait` says `done` only for standings told in the present round, for the present target.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from replicad.core.cnset import EMPTY, CNSet
from replicad.core.ids import COUNTER_MAX, MemberId
from replicad.core.messages import BLOCKED_SHOWN_MAX, FENCE_BYTES, MEMBERS_MAX, Fenced, FenceReply, Installed, set_of

WAIT_BYTES = 12
"""Of a fence's name: the wait, random; the rest is the round."""
RETRY_FIRST_MS, RETRY_LAST_MS = 100, 2_000
"""Between rounds, doubling: a round is two small messages a link, and finds who has come or been healed."""
LOOK_ONCE_MS = 2_000
"""What `--timeout 0` gives the one round it makes: a marker comes back in milliseconds where nothing else goes on."""
REASON_CHARACTERS_MAX = 500
"""Of a reason that comes from a peer."""
FENCE_INTERVALS_MAX = 100_000
"""Of a set in these messages: under 2 MB encoded, and half of what a decoder takes."""

NOT_LOOKED = "it has not looked at every change on its disk yet"
NOT_ANSWERED = "it has not answered yet"
NOT_CONNECTED = "not connected"
LOST = "the link to it was lost"
TOO_MANY_HOLES = "what it knows has too many holes to be told: wait until it has caught up"

BlockedEntry = tuple[MemberId, bytes, str]
"""(member, path, reason)."""


def fence_name(wait: bytes, number: int) -> bytes:
    """The name of a wait's round, 16 bytes."""
    return wait + number.to_bytes(FENCE_BYTES - WAIT_BYTES, "big")


def split_fence(fence: bytes) -> tuple[bytes, int]:
    """(wait, number of the round)."""
    return fence[:WAIT_BYTES], int.from_bytes(fence[WAIT_BYTES:], "big")


class Flood:
    """One round at one member: whom it asked, and what came back. `parent` is None where the wait is its own."""

    def __init__(self, parent: MemberId | None, asked: Iterable[MemberId]) -> None:
        self.parent = parent
        self._asked = dict.fromkeys(asked)
        self._below: dict[MemberId, tuple[MemberId, ...]] = {}
        self._passed: dict[MemberId, Fenced] = {}
        self._failed: dict[MemberId, str] = {}
        self._lost: dict[MemberId, None] = {}
        self._known = EMPTY
        self._own: MemberId | None = None
        self.replied = False
        """The answer has been sent up, or taken by the wait: what comes later comes too late for this round."""

    @property
    def complete(self) -> bool:
        return self._own is not None and not self._asked

    @property
    def known(self) -> CNSet:
        """What those who passed knew, together."""
        return self._known

    @property
    def passed(self) -> dict[MemberId, Fenced]:
        return self._passed

    @property
    def failed(self) -> dict[MemberId, str]:
        return self._failed

    @property
    def lost(self) -> Sequence[MemberId]:
        """Those who were not reached by another way either."""
        return [member for member in self._lost if member not in self._passed and member not in self._failed]

    def children(self) -> list[MemberId]:
        """Neighbours through which somebody passed: the tree's edges."""
        return [peer for peer, below in self._below.items() if any(member in self._passed for member in below)]

    def below(self, peer: MemberId) -> tuple[MemberId, ...]:
        return self._below.get(peer, ())

    def ask(self, peer: MemberId) -> bool:
        """A neighbour that has just come; False where it is too late, or it has been asked."""
        if self.replied or peer == self.parent or peer in self._asked or self._below.get(peer):
            return False
        self._asked[peer] = None
        self._lost.pop(peer, None)
        return True

    def own(self, fenced: Fenced, known: CNSet) -> None:
        """This member has passed."""
        self._own = fenced.member.hex()
        self._passed[self._own] = fenced
        self._take(known)

    def own_failed(self, member: MemberId, reason: str) -> None:
        self._own = member
        self._failed[member] = reason

    def answered(self, peer: MemberId, reply: FenceReply) -> None:
        """Raises ProtocolError. An answer that nobody waits for is none."""
        if peer not in self._asked:
            return
        known = set_of(reply.known)
        del self._asked[peer]
        members = {one.member.hex(): one for one in reply.members}
        failed = {member.hex(): reason[:REASON_CHARACTERS_MAX] for member, reason in reply.failed}
        self._passed.update(members)
        self._failed.update(failed)
        self._lost.update(dict.fromkeys(member.hex() for member in reply.lost))
        self._take(known)
        self._below[peer] = (*members, *failed)

    def link_lost(self, peer: MemberId) -> tuple[MemberId, ...]:
        """Returns those who had answered through it and can no longer be heard."""
        if peer in self._asked:
            del self._asked[peer]
            self._lost[peer] = None
        below = self._below.pop(peer, ())
        self.strayed(below)
        return below

    def strayed(self, members: Iterable[MemberId]) -> None:
        """They had answered, and can no longer be heard: before this member's own answer, that they are lost is it."""
        if self.replied:
            return
        for member in members:
            self._passed.pop(member, None)
            self._failed.pop(member, None)
            self._lost[member] = None

    def expire(self, own: MemberId, reason: str) -> None:
        """The time is out: who has not answered has failed."""
        if self._own is None:
            self.own_failed(own, reason or NOT_LOOKED)
        for peer in self._asked:
            self._failed[peer] = NOT_ANSWERED
        self._asked.clear()

    def reply(self, fence: bytes) -> FenceReply:
        """To the parent."""
        return FenceReply(
            fence=fence,
            known=self._known.encode(),
            members=list(self._passed.values())[:MEMBERS_MAX],
            failed=[(bytes.fromhex(member), reason) for member, reason in self._failed.items()][:MEMBERS_MAX],
            lost=[bytes.fromhex(member) for member in self.lost][:MEMBERS_MAX],
        )

    def _take(self, known: CNSet) -> None:
        self._known = self._known.union(known)
        if self._known.interval_count() > FENCE_INTERVALS_MAX:
            self._failed.update(dict.fromkeys(self._passed, TOO_MANY_HOLES))
            self._passed.clear()
            self._known = EMPTY


class WaitResult(msgspec.Struct, frozen=True):
    """What a wait came to. `missing`: members not reached. `behind`: members reached that are not done, and what each
    lacks. `blocked`: at most BLOCKED_SHOWN_MAX a member, of `blocked_count`."""

    done: bool
    members: tuple[MemberId, ...] = ()
    """Those that took part, this one among them."""
    missing: tuple[tuple[MemberId, str], ...] = ()
    short: int = 0
    """So many members are missing by their number alone: more were asked for than there are."""
    behind: tuple[tuple[MemberId, str], ...] = ()
    blocked: tuple[BlockedEntry, ...] = ()
    blocked_count: int = 0

    @property
    def exit_status(self) -> int:
        """INTERFACE: 0 done, 1 members missing or objects blocked, 4 the time ran out."""
        if self.done:
            return 0
        return 1 if self.missing or self.short or self.blocked_count else 4


class Wait:
    """One wait at the member that waits: its rounds, its target, how everybody stands to it.

    `expected` are the members to be named when they are missing, this one among them or not; `count` is how many must
    take part, this one included (None: all that are expected). `timeout_ms` 0 makes one round and looks once.
    """

    def __init__(
        self,
        own: MemberId,
        name: bytes,
        expected: Iterable[MemberId],
        count: int | None,
        now_ms: int,
        timeout_ms: int,
    ) -> None:
        self._own = own
        self._name = name
        self._expected = frozenset({*expected, own})
        self._count = count
        self._once = timeout_ms <= 0
        self.deadline_ms = now_ms + (2 * LOOK_ONCE_MS if self._once else timeout_ms)
        self.round_due_ms = now_ms + LOOK_ONCE_MS if self._once else self.deadline_ms
        """When members that have not answered a fence have failed."""
        self.round = 0
        self.target: CNSet = EMPTY
        self.result: WaitResult | None = None
        self._first: dict[MemberId, Fenced] = {}
        """Each member's first passing with nothing unread, or its latest."""
        self._flood: Flood | None = None
        """Of the present round, once it is complete."""
        self._standing: dict[MemberId, Installed] = {}
        self._strayed: dict[MemberId, None] = {}
        """Lost since the present round was complete."""
        self._retry_ms: int | None = None
        self._delay_ms = RETRY_FIRST_MS

    def begin_round(self) -> bytes:
        """Returns the name of the fence to flood."""
        self.round += 1
        self._flood = None
        self._standing = {}
        self._strayed = {}
        self._retry_ms = None
        return fence_name(self._name, self.round)

    def collected(self, flood: Flood, now_ms: int) -> CNSet:
        """The round is complete. Returns the target to await from all who passed."""
        self._flood = flood
        for member, fenced in flood.passed.items():
            first = self._first.get(member)
            if first is None or first.unread_count:
                self._first[member] = fenced
        self.target = self._clipped(self.target.union(flood.known))
        if not self._once and not self._enough(flood):
            self._retry(now_ms)
        return self.target

    def told(self, installed: Installed) -> None:
        """How a member stands to the target of the present round."""
        member = installed.member.hex()
        if self._flood is not None and member in self._flood.passed:
            self._standing[member] = installed

    def strayed(self, members: Iterable[MemberId], now_ms: int) -> None:
        """These can no longer be heard in this round."""
        if self._flood is None:
            return
        here = [member for member in members if member in self._flood.passed]
        self._strayed.update(dict.fromkeys(here))
        if here and not self._once:
            self._retry(now_ms)

    def link_came(self, now_ms: int) -> None:
        """Somebody may be reached now who was not."""
        if self._retry_ms is not None:
            self._retry_ms, self._delay_ms = now_ms, RETRY_FIRST_MS

    def clock_set_back(self, back_ms: int) -> None:
        """Every time kept here moves with the clock."""
        self.deadline_ms -= back_ms
        self.round_due_ms -= back_ms
        self._retry_ms = self._retry_ms - back_ms if self._retry_ms is not None else None

    def step(self, now_ms: int) -> bool:
        """Look whether it is over (`result`); True when a new round is to begin now."""
        if self.result is not None:
            return False
        if self._is_done():
            assert self._flood is not None
            self.result = WaitResult(True, tuple(sorted(self._flood.passed)))
        elif now_ms >= self.deadline_ms or (self._once and self._has_looked()):
            self.result = self._shortfall()
        elif self._retry_ms is not None and now_ms >= self._retry_ms:
            return True
        return False

    def next_due_ms(self) -> int | None:
        if self.result is not None:
            return None
        return self.deadline_ms if self._retry_ms is None else min(self.deadline_ms, self._retry_ms)

    def _clipped(self, known: CNSet) -> CNSet:
        """Without what a member that has passed made after that."""
        for fenced in self._first.values():
            known = known.minus(CNSet.span(fenced.replica, fenced.counter + 1, COUNTER_MAX))
        return known

    def _retry(self, now_ms: int) -> None:
        if self._retry_ms is None:
            self._retry_ms = now_ms + self._delay_ms
            self._delay_ms = min(RETRY_LAST_MS, self._delay_ms * 2)

    def _enough(self, flood: Flood) -> bool:
        """Whether this round's members will do, if each of them gets there."""
        if flood.failed or flood.lost or any(one.unread_count for one in flood.passed.values()):
            return False
        return not self._missing(flood) and not self._short(flood)

    def _missing(self, flood: Flood | None) -> list[MemberId]:
        """Expected members that were not reached; none of them where a lesser number suffices and is there."""
        reached = {*flood.passed, *flood.failed} if flood is not None else {self._own}
        if self._count is not None and len(reached) >= self._count:
            return []
        return sorted(self._expected - reached)

    def _short(self, flood: Flood | None) -> int:
        reached = len({*flood.passed, *flood.failed}) if flood is not None else 1
        wanted = self._count if self._count is not None else 1
        return max(0, wanted - max(reached, len(self._expected)))

    def _is_done(self) -> bool:
        flood = self._flood
        if flood is None or self._strayed or not self._enough(flood):
            return False
        return all(
            (standing := self._standing.get(member)) is not None and not standing.missing and not standing.blocked_count
            for member in flood.passed
        )

    def _has_looked(self) -> bool:
        flood = self._flood
        return flood is not None and all(m in self._standing or m in self._strayed for m in flood.passed)

    def _shortfall(self) -> WaitResult:
        flood = self._flood
        lost = {*flood.lost, *self._strayed} if flood is not None else set()
        missing = dict.fromkeys(self._missing(flood), NOT_CONNECTED)
        missing.update((member, LOST) for member in sorted(lost) if member in self._expected)
        if flood is None:
            return WaitResult(False, (), tuple(missing.items()), 0, ((self._own, NOT_LOOKED),))
        behind = dict(flood.failed)
        blocked: list[BlockedEntry] = []
        count = 0
        for member, fenced in flood.passed.items():
            standing = self._standing.get(member)
            if member not in lost and standing is None:
                behind[member] = NOT_ANSWERED
            elif standing is not None and standing.missing:
                behind[member] = f"{standing.missing} changes are not installed yet"
            for part in (fenced.unread, standing.blocked if standing is not None else ()):
                blocked.extend((member, path, reason) for path, reason in part[:BLOCKED_SHOWN_MAX])
            count += fenced.unread_count + (standing.blocked_count if standing is not None else 0)
        return WaitResult(
            False,
            tuple(sorted(flood.passed)),
            tuple(missing.items()),
            self._short(flood),
            tuple(sorted(behind.items())),
            tuple(blocked),
            count,
        )
