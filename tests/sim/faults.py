"""Random histories in which disks fail, fill up, are emptied or replaced, and operators act upon it:
python -m tests.sim --faults. Whatever was begun is mended before the group is healed, and what is held then is decided.
"""

from __future__ import annotations

import random
from typing import Generic, TypeVar

import msgspec
from blake3 import blake3

from replicad.core.effects import Received
from replicad.core.ids import MemberId
from replicad.core.messages import Answer, FenceReply, Message, Question, decode_message
from replicad.core.messages_meeting import NotHeld
from replicad.engine.verifying import Remedy
from replicad.errors import PeerError, ProtocolError
from tests.sim.ailing import Ailing
from tests.sim.fault_disks import DiskFaults, Fault, Mend, ailing
from tests.sim.fault_operators import Operators, has_rot
from tests.sim.group import files
from tests.sim.member import SimMember
from tests.sim.network import Network, Session
from tests.sim.story import Story

T = TypeVar("T")
FAILS = 0.3
"""After a burst a disk begins to fail."""
LASTS = 0.08
"""After a burst it is emptied, or replaced."""
ORDINARY_USER = 0.5
"""Of so many histories the members do not run as root."""
NO_EXCHANGE = 0.15
"""Of so many disks two names cannot be exchanged."""
BACKED_UP = 0.1
OPERATED = 0.35
DECIDED = 0.3
GARBLED = 0.1
LASTS_MS = (500, 3_000, 20_000, 60_000, 200_000)
MINUTE_MS = 60_000
ROUNDS_MAX = 60
"""Of an operator who looks after the group before it is healed."""


class Deck(Generic[T]):
    """Each of them once, in a random order, before any comes again: so a few histories have all."""

    def __init__(self, every: list[tuple[str, T]], rng: random.Random) -> None:
        self._every = every
        self._rng = rng
        self._left: list[tuple[str, T]] = []

    def draw(self) -> tuple[str, T]:
        if not self._left:
            self._left = self._rng.sample(self._every, len(self._every))
        return self._left.pop()

    def later(self, name: str, one: T) -> None:
        """It could not be done now."""
        self._left.insert(0, (name, one))


class FaultNetwork(Network):
    """Now and then a peer sends what is no message."""

    garbles = 0

    def garble(self, rng: random.Random) -> None:
        self.garbles = 1
        self._garbling = rng

    def _hand_over(
        self, session: Session, source: SimMember, target: SimMember, data: bytes, number: int, sent_ms: int
    ) -> None:
        if self.garbles:
            broken = bytearray(data)
            for _ in range(self._garbling.randrange(1, 4)):
                broken[self._garbling.randrange(len(broken))] = self._garbling.randrange(256)
            try:
                decode_message(bytes(broken[: self._garbling.choice((len(broken), len(broken) // 2))]))
            except ProtocolError:
                self.garbles = 0
                target.group.counts["malformed message"] += 1
                self.refuse(target, source)
                return
        super()._hand_over(session, source, target, data, number, sent_ms)


class FaultStory(Story):
    network = FaultNetwork
    steps = (*Story.steps, "_breaks", "_commands", "_back_up", "_decide", "_garble", "_speak_nonsense")

    def __init__(self, seed: int, *, restores: bool = False) -> None:
        super().__init__(seed, restores=restores)
        self.faults = random.Random(f"faults {seed}")
        self.group.on_stuck = self._help
        self.group.on_refused = self._refused
        self.group.ledger.common.add(blake3(b"").digest())  # what a full disk makes of a file that is written anew
        self.group.settings = msgspec.structs.replace(
            self.group.settings, scan_deletions_max=self.faults.choice((1_000, 5, 5))
        )
        modes_bind = self.faults.random() < ORDINARY_USER
        for member in self.members:
            member.fs.exchanges = self.faults.random() >= NO_EXCHANGE
            member.fs.modes_bind = modes_bind
            member.settings = self.group.settings
            member.ailing = Ailing(member, random.Random(f"{seed} ailing {member.name}"))
        self.disks = DiskFaults(self.group, random.Random(f"{seed} disks"))
        self.operators = Operators(self.group, random.Random(f"{seed} operators"))
        self.temporary = Deck(self.disks.temporary, self.faults)
        self.lasting = Deck(self.disks.lasting, self.faults)
        self.acts_left = Deck(self.operators.acts, self.faults)
        self.mends: dict[str, Mend] = {}
        """Of what is wrong now, by member."""
        self.nonsense: set[tuple[str, MemberId]] = set()
        """(member, peer): who was sent nonsense, and by whom."""

    def sources(self) -> dict[str, random.Random]:
        parts = {f"ailing {member.name}": ailing(member).rng for member in self.members}
        return super().sources() | {"disks": self.disks.rng, "operators": self.operators.rng} | parts

    # -- what is done now and then

    def _act(self, member: SimMember) -> None:
        one = ailing(member)
        if one.no_users:
            return
        tree, ledger = member.fs.tree, self.group.ledger
        if tree.capacity_bytes is None and not tree.refused:
            super()._act(member)
            return
        condemned, destroyed = dict(ledger.condemned), dict(ledger.destroyed)
        super()._act(member)
        # What the disk has refused to do to a file leaves it there, perhaps.
        there = {blake3(data).digest() for data in files(member).values()}
        for now, before in ((ledger.condemned, condemned), (ledger.destroyed, destroyed)):
            for digest in there & (now.keys() - before.keys()):
                del now[digest]

    def _mishap(self) -> None:
        super()._mishap()
        if self.faults.random() < FAILS:
            self._goes_wrong(self.temporary, temporary=True)
        if self.faults.random() < BACKED_UP:
            self._back_up(self.faults.choice(self.members))
        if self.faults.random() < LASTS:
            self._goes_wrong(self.lasting, temporary=False)
        if self.faults.random() < OPERATED:
            self._operate()
        if self.faults.random() < DECIDED:
            self._decide(self.faults.choice(self.members))
        if self.faults.random() < GARBLED:
            self._garble()
        if self.faults.random() < GARBLED:
            self._speak_nonsense()

    def _goes_wrong(self, deck: Deck[Fault], *, temporary: bool) -> None:
        member = self.faults.choice(self.members)
        if member.name in self.mends:
            return
        name, begin = deck.draw()
        if not self._breaks(member, name, temporary):
            deck.later(name, begin)

    def _breaks(self, member: SimMember, name: str, temporary: bool) -> bool:
        """Whether that could be done now."""
        mend = dict(self.disks.temporary if temporary else self.disks.lasting)[name](member)
        if mend is None:
            return False
        self.counts[name] += 1
        self.group.clock.note("fault", member.name, name)
        if temporary:
            self.mends[member.name] = mend
            self.group.clock.after(self.faults.choice(LASTS_MS), lambda: self._mend(member.name, mend))
        return True

    def _operate(self) -> None:
        name, act = self.acts_left.draw()
        if self._commands(self.faults.choice(self.members), name):
            self.counts[name] += 1
        else:
            self.acts_left.later(name, act)

    def _commands(self, member: SimMember, name: str) -> bool:
        """An operator's act; whether it could be done now."""
        return dict(self.operators.acts)[name](member)

    def _back_up(self, member: SimMember) -> None:
        self.disks.back_up(member)

    def _decide(self, member: SimMember) -> None:
        self.operators.decide_some(member)

    def _garble(self) -> None:
        self.group.network.garble(random.Random(self.faults.random()))  # type: ignore[attr-defined]

    def _mend(self, name: str, mend: Mend) -> None:
        if self.mends.get(name) is mend:
            del self.mends[name]
            self.group.clock.note("mended", name)
            mend()

    # -- what a member of the group never says

    def _speak_nonsense(self) -> None:
        member, peer = self.faults.sample(self.members, 2)
        if not member.up or peer.name not in member.sessions:
            return
        a, b, c = (bytes([n]) * 32 for n in (1, 2, 3))
        us, them = bytes.fromhex(member.id), bytes.fromhex(peer.id)
        said: Message = self.faults.choice(
            (
                Question(route=[a, b], correlation=1, budget_ms=1, asked=b"?"),
                Question(route=[a, us], correlation=1, budget_ms=1, asked=b"?"),
                Question(route=[them, us], correlation=2, budget_ms=1_000, asked=b"?"),
                Question(route=[them, us, c], correlation=3, budget_ms=1_000, asked=b"?"),
                Answer(asker=us, correlation=4, answered=b"?"),
                Answer(asker=c, correlation=5, answered=b"?"),
                FenceReply(fence=b"x" * 16, known=[], members=[], failed=[], lost=[]),
                NotHeld(correlation=77, uids=[b"x" * 16]),
            )
        )
        self.counts["nonsense"] += 1
        self.nonsense.add((member.name, peer.id))
        member.post(Received(peer.id, said))

    def _refused(self, member: SimMember, error: PeerError) -> None:
        assert any(name == member.name for name, _ in self.nonsense), f"{member.name} refused a message: {error}"
        self.counts["nonsense refused"] += 1

    # -- the end

    def _end(self) -> None:
        for name, mend in list(self.mends.items()):
            self._mend(name, mend)
        self.group.network.garbles = 0  # type: ignore[attr-defined]
        for member in self.members:
            member.fault_in = member.racing = None
        self.group.network.mend_all()
        for _ in range(ROUNDS_MAX):
            if not self._look_after():
                break
            self.group.run(MINUTE_MS)
        super()._end()

    def _look_after(self) -> bool:
        """An operator starts what is down, decides what is held and verifies what has lost bits. Whether he did."""
        done = False
        for member in self.members:
            if not member.up:
                member.start()
                done = True
            elif member.running.held:
                done |= self.operators.decide_some(member)
            elif has_rot(member):
                done |= self.operators.verify(member, self.faults.choice((Remedy.TAKE, Remedy.MEND)))
        return done

    def _help(self) -> bool:
        """It does not come to rest."""
        return self._look_after() or self._abandon()

    def _gives_up(self, member: SimMember) -> None:
        """What it settles on is wanted, also where a user took it off elsewhere."""
        for data in files(member).values():
            self.group.ledger.affirms(data)
