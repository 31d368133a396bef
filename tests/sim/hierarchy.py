"""The hierarchy beside a simulated folder, one replica a member: for scenarios about who has lapsed.

Its sessions come and go with the folder's, as the channels of one link do; messages come in order.
"""

from __future__ import annotations

import random
import weakref
from collections import deque
from collections.abc import Callable, Iterable

from replicad.catalog.database import MemoryDatabase
from replicad.catalog.store import Catalog
from replicad.core.effects import Changed, Effect, Event, LinkDown, LinkUp, Report, Send, Tick
from replicad.core.ids import MemberId
from replicad.core.lapsing import OFFLINE_LIMIT_MS
from replicad.engine.hierarchy import HierarchyReplica
from tests.sim.group import Group
from tests.sim.member import SimMember
from tests.sim.network import Network, Session, Weather

GROUP = bytes(range(16))


class SimKeeper:
    """A member's hierarchy. To a network it looks like a member."""

    def __init__(self, member: SimMember, limit_ms: int) -> None:
        self.name = member.name
        self.id = member.id
        self.sessions: dict[str, Session] = {}
        self.begun_ms = 0
        self.network: Network
        self._member = member
        self._limit_ms = limit_ms
        self._clock = member.group.clock
        self.database = MemoryDatabase()
        weakref.finalize(self, self.database.close)
        self.on_changed: Callable[[], None] = lambda: None
        self._rng = random.Random(f"{member.group.seed} {member.name} hierarchy")
        self._inbox: deque[Event] = deque()
        self._replica: HierarchyReplica | None = None
        self._life = 0
        self._wake_ms: int | None = None

    @property
    def up(self) -> bool:
        return self._replica is not None

    @property
    def running(self) -> HierarchyReplica:
        assert self._replica is not None, f"{self.name} is down"
        return self._replica

    @property
    def lapsed(self) -> set[MemberId]:
        return set(self.running.reading().lapsed) if self._replica is not None else set()

    def start(self) -> None:
        self.open()
        self.declare()

    def declare(self) -> None:
        """Itself. Raises OperatorError where it was removed."""
        addresses = [f"{self.name}:7722"]
        self.act(lambda replica, now_ms: replica.declare_member(self.name, self.certificate, addresses, now_ms))

    def open(self) -> None:
        self.catalog = Catalog.open(self.database, b"", lambda: self._rng.randrange(1, 2**64))
        self._replica = HierarchyReplica(
            self.catalog,
            self.id,
            GROUP,
            sign=lambda statement: self.certificate,
            verify=lambda certificate, signature, statement: certificate == signature,
            new_replica=lambda: self._rng.randrange(1, 2**64),
            draw=self._rng.random,
            now_ms=self._member.now_ms,
            offline_limit_ms=self._limit_ms,
        )

    @property
    def certificate(self) -> bytes:
        return self.name.encode()

    def act(self, function: Callable[[HierarchyReplica, int], Iterable[Effect]]) -> None:
        """A command. Raises OperatorError."""
        self._do(function(self.running, self._member.now_ms))

    def crash(self) -> None:
        self._replica = None
        self._life += 1
        self._wake_ms = None
        self._inbox.clear()
        self.network.gone(self)  # type: ignore[arg-type]

    def post(self, event: Event) -> None:
        if self._replica is not None:
            self._inbox.append(event)
            self._schedule()

    def lapse(self, *names: str, force: bool = True) -> None:
        """Its operator says so."""
        for name in names:
            one = self._member.group[name].id
            self._do(self.running.lapse_member(one, self._member.now_ms, force=force))

    def return_living(self) -> None:
        self._do(self.running.return_living(self._member.now_ms))

    def _schedule(self) -> None:
        due_ms = self.running.next_due_ms()
        now_ms = self._clock.now_ms
        at_ms = now_ms if self._inbox else due_ms - self._member.offset_ms if due_ms is not None else None
        if at_ms is None or (self._wake_ms is not None and self._wake_ms <= max(at_ms, now_ms)):
            return
        self._wake_ms = max(at_ms, now_ms)
        life, wake_ms = self._life, self._wake_ms
        self._clock.at(wake_ms, lambda: self._wake(life, wake_ms))

    def _wake(self, life: int, wake_ms: int) -> None:
        if life != self._life or wake_ms != self._wake_ms:
            return
        self._wake_ms = None
        event = self._inbox.popleft() if self._inbox else Tick()
        assert isinstance(event, LinkUp | LinkDown | Tick) or hasattr(event, "message")
        self._do(self.running.handle(event, self._member.now_ms))  # type: ignore[arg-type]
        self._schedule()

    def _do(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(peer, message):
                    to = self._member.group.by_id[peer].keeper
                    self.network.send(self, to, message)  # type: ignore[arg-type]
                case Report():
                    self._member.reports.append(effect)
                    self._clock.note("hierarchy", self.name, effect.text)
                case Changed():
                    self.on_changed()
                case _:
                    raise AssertionError(f"nothing that the hierarchy wants done: {effect}")
        if self._replica is not None:
            self._schedule()


def with_hierarchy(group: Group, *, offline_limit_ms: int = OFFLINE_LIMIT_MS) -> dict[str, SimKeeper]:
    """Before anybody is started."""
    network = Network(group.clock, random.Random(f"{group.seed} hierarchy"), Weather())
    network._cut = group.network._cut
    keepers = {name: SimKeeper(member, offline_limit_ms) for name, member in group.members.items()}
    for name, keeper in keepers.items():
        keeper.network = network
        network.add(keeper)  # type: ignore[arg-type]
        group[name].keeper = keeper
    connect, end = group.network._connect, group.network._end

    def connect_both(pair: tuple[str, str]) -> None:
        network._connect(pair)
        connect(pair)

    def end_both(session: Session) -> None:
        end(session)
        beside = network._sessions.get((session.one.name, session.other.name))
        if beside is not None:
            network._end(beside)

    group.network._connect = connect_both  # type: ignore[method-assign]
    group.network._end = end_both  # type: ignore[method-assign]
    return keepers
