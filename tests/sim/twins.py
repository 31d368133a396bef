"""Members of which there are two: a machine, or its disks, copied while it runs; and volumes that only moved.

Both have one key, so each of the others has a link with one of them at a time: the one that came first has it for as
long as it lasts (net.pairs). Somebody notices in the end, and stops one of them for good.
"""

from __future__ import annotations

import copy
import random

from replicad.core.effects import LinkDown
from replicad.core.ids import MemberId
from replicad.engine.height import Height
from replicad.errors import PeerError
from tests.sim.member import SimMember
from tests.sim.memory_fs import MemoryFileSystem
from tests.sim.memory_tree import Node
from tests.sim.network import Network, Session
from tests.sim.story import Story
from tests.sim.user import Hand

HAPPENS = 0.12
"""After a burst."""
PARTS = 0.3


class TwinNetwork(Network):
    """Of two with one id the first to connect has the link; one that is dead and not given up yet goes for it."""

    def _attach(self, member: SimMember, peer: SimMember, session: Session) -> None:
        for name, other in list(member.sessions.items()):
            if name != peer.name and self._members[name].id == peer.id:
                del member.sessions[name]
                member.post(LinkDown(peer.id))
                self._end(other)
        super()._attach(member, peer, session)

    def _can_link(self, one: SimMember, other: SimMember) -> bool:
        return one.id != other.id and super()._can_link(one, other) and not self._is_taken(one, other)

    def _is_taken(self, one: SimMember, other: SimMember) -> bool:
        return any(
            peer.id == twin.id and self.connected(member.name, twin.name) and self._open(member.name, twin.name)
            for member, peer in ((one, other), (other, one))
            for twin in self._members.values()
            if twin is not peer
        )


def twin_of(member: SimMember, name: str, *, moved: bool) -> SimMember:
    """What a copy of its machine at this instant is; it is not started. `moved`: it can see that it is elsewhere."""
    group = member.group
    twin = SimMember(group, name, member.role, member.offset_ms)
    twin.id = member.id
    twin.database = member.database.copy()
    twin.height = Height(member.height.commits, moved=moved) if member.height is not None else None
    twin.fs = _copy_of(member.fs, twin)
    ledger = group.ledger
    ledger.disks[name] = copy.deepcopy(ledger.disk(member))
    for one in (member, twin):
        ledger.forgot(one)
    group.twins[member.id] = twin
    group.twinned.add(member.id)
    group.network.add(twin)
    peers = {one for pair in group.network.pairs if member.name in pair for one in pair if one != member.name}
    group.network.pairs = sorted({*group.network.pairs, *((min(name, one), max(name, one)) for one in peers)})
    return twin


def go_on(twin: SimMember) -> None:
    """Start it, as a machine that was doubled with all that runs on it: it has no start after which it is cautious."""
    twin.start()
    if twin.up:
        twin.running.course._caution._until_ms = None
        twin.forget_due()


def part(member: SimMember, stays: SimMember) -> SimMember:
    """One of the two is stopped for good; who that is."""
    group = member.group
    twin = group.twins.pop(member.id)
    goes = twin if stays is member else member
    goes.crash()
    group.network.pairs = [pair for pair in group.network.pairs if goes.name not in pair]
    if stays is twin:
        del group.members[member.name]
        group.members[stays.name] = group.by_id[stays.id] = stays
    group.departed[goes.name] = goes
    stays.take_settings()  # what was told to the one alone
    return goes


def _copy_of(fs: MemoryFileSystem, twin: SimMember) -> MemoryFileSystem:
    made = MemoryFileSystem(twin._now_ns)
    made.tree = copy.deepcopy(fs.tree, {id(fs.tree._clock): twin._now_ns})
    waiting: list[Node] = [made.tree.root]
    while waiting:
        node = waiting.pop()
        node.opens = node.writers = 0
        node.watched, node.walked, node.watch = False, False, 0
        waiting += node.entries.values()
    return made


class TwinStory(Story):
    network = TwinNetwork
    steps = (*Story.steps, "_move", "_double", "_part")

    def __init__(self, seed: int, *, restores: bool = False) -> None:
        super().__init__(seed, restores=restores)
        self.doubling = random.Random(f"doubling {seed}")
        self.group.on_stuck = self._abandon
        self.group.on_refused = self._refused
        self.twins = 0

    def _burst(self) -> None:
        super()._burst()
        for twin in self.group.twins.values():
            for _ in range(self.doubling.randrange(4)):
                self.hands[twin.name].act()
                self.group.run(self.doubling.choice((0, 10, 1_000)))

    def _mishap(self) -> None:
        super()._mishap()
        if self.group.twins:
            if self.doubling.random() < PARTS:
                self._part()
        elif self.doubling.random() < HAPPENS:
            self.doubling.choice((self._move, self._double, self._double))()

    def _end(self) -> None:
        if self.group.twins:
            self._part()
        super()._end()

    def _move(self) -> None:
        """Its volume is on another host from now on: it begins under a new replica id, and that is all."""
        member = self.doubling.choice(self.members)
        if not member.up or member.height is None:
            return
        self.group.counts["volume moved"] += 1
        if self.doubling.random() < 0.5:
            member.crash()
        else:
            member.stop()
        if not member.up and member.height is not None:
            member.height = Height(member.height.commits, moved=True)
        self._restart_later(member)

    def _double(self) -> None:
        sees = self.doubling.random() < 0.5
        member = self.doubling.choice(self.members)
        sound = all(one.up and one.running.course.takes_part for one in self.members)
        if not sound or not member.catalog.peers() or not self.twins_may(member.id):
            return
        self.group.counts["doubled" if sees else "doubled, unseen"] += 1
        self.twins += 1
        if not sees:
            self.group.ledger.doubled = self.group.faulty = True
            self.group.ledger.twofold.add(member.catalog.replica)
        twin = twin_of(member, f"{member.name}{self.twins}", moved=sees)
        self.hands[twin.name] = Hand(twin, random.Random(f"{self.seed} hand {twin.name}"))
        if self.doubling.random() < 0.6:
            self._divide(member, twin)
        live = not sees and self.doubling.random() < 0.7
        later_ms = 0 if live else self.doubling.choice((0, 3_000, 60_000))
        self.group.clock.after(later_ms, lambda: self._begin_twin(twin, live))

    def _refused(self, member: SimMember, error: PeerError) -> None:
        """Two with one key that rejoin in turn, each of whom makes the other one an old life."""
        assert self.group.twinned, error
        assert "changes its replica id again and again" in str(error)
        self.group.counts["refused"] += 1

    def twins_may(self, member: MemberId) -> bool:
        return member not in self.group.twins

    def _begin_twin(self, twin: SimMember, live: bool) -> None:
        if self.group.twins.get(twin.id) is twin and not twin.up:
            if live:
                go_on(twin)
            else:
                twin.start()

    def _divide(self, member: SimMember, twin: SimMember) -> None:
        """Each in contact with others than the other one, for a while."""
        cut = []
        for one in self.members:
            if one is not member:
                away = self.doubling.choice((member, twin))
                cut += [(away.name, one.name), (one.name, away.name)]
        for source, target in cut:
            self.group.network.cut(source, target)
        self.group.clock.after(self.doubling.choice((5_000, 60_000, 200_000)), lambda: self.group.network.mend(cut))

    def _part(self) -> None:
        twin = next(iter(self.group.twins.values()))
        member = self.group.by_id[twin.id]
        part(member, self.doubling.choice((member, twin)))
        self.members[:] = self.group.members.values()

    def _restart_later(self, member: SimMember) -> None:
        delay_ms = self.rng.choice((10, 1_000, 10_000, 60_000))
        self.group.clock.after(delay_ms, lambda: self._restart(member))

    def _restart(self, member: SimMember) -> None:
        if not member.up and member.name not in self.group.departed:
            member.start()
