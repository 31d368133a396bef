"""The network between simulated members: sessions that are reliable and in order while they last, and how they end.

A session between two members is like the transport's stream: messages come in order, once, and when it breaks an
unknown suffix is lost in both directions; each side notices at a time of its own, or hears of the next session first.
With `hostile` single messages are lost, doubled and delayed as well, which no stream does, and the exchange must bear.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from replicad.core.effects import LinkDown, LinkUp, Received
from replicad.core.messages import CODE_NAMES, Message, code_of, decode_message, encode_message
from replicad.core.messages_meeting import Meet
from tests.sim.clockwork import Clockwork

if TYPE_CHECKING:
    from tests.sim.member import SimMember

CONNECT_MS = (5, 400)
NOTICE_MS = (0, 3_000)
"""Until a side notices that a session has ended."""
DEAD_PEER_MS = 30_000
"""Until a session in which one direction is cut is given up (the transport's own time-out)."""


@dataclass
class Session:
    """`ended`: at that time it broke; what would arrive later is lost."""

    one: SimMember
    other: SimMember
    ended_ms: int | None = None
    last_ms: dict[str, int] = field(default_factory=dict)
    """By the receiver's name: when the last message arrives there; none overtakes it."""
    lives: dict[str, tuple[int, int]] = field(default_factory=dict)
    """By the sender's name: how many lives of its catalog it has told of, and the last of them."""
    arrived: dict[str, int] = field(default_factory=dict)
    """By the sender's name: the number of the last one of which something has arrived. What it told in an earlier one
    does not come after that: messages of a link arrive in order, and there the protocol needs it (docs/PROTOCOL.md)."""

    def meet(self, source: str, life: int) -> None:
        number, last = self.lives.get(source, (0, life))
        self.lives[source] = (number + (life != last), life)

    def is_late(self, source: str, number: int) -> bool:
        self.arrived[source] = max(number, self.arrived.get(source, 0))
        return number < self.arrived[source]


@dataclass
class Weather:
    """What the network does to messages."""

    delay_ms: tuple[int, int] = (0, 20)
    hostile: bool = False
    fetch_delay_ms: tuple[int, int] = (1, 60)
    fetch_loss: float = 0.0
    slow: dict[str, int] = field(default_factory=dict)
    """By name of a member: its messages take so many times longer."""


class Network:
    """`pairs`: who may ever connect to whom (names)."""

    def __init__(self, clock: Clockwork, rng: random.Random, weather: Weather) -> None:
        self._clock = clock
        self._rng = rng
        self.weather = weather
        self._members: dict[str, SimMember] = {}
        self.pairs: list[tuple[str, str]] = []
        self._sessions: dict[tuple[str, str], Session] = {}
        self._connecting: set[tuple[str, str]] = set()
        self._cut: dict[tuple[str, str], int] = {}
        """Directions that are cut, and by how many partitions."""
        self.messages: Counter[str] = Counter()
        self.on_message: Callable[[SimMember, SimMember, Message], bool] = lambda source, target, message: True
        """Whether a message goes out: a scenario's hook."""

    def add(self, member: SimMember) -> None:
        self._members[member.name] = member

    # -- partitions

    def cut(self, source: str, target: str) -> None:
        """Nothing gets from one to the other any more."""
        self._cut[source, target] = self._cut.get((source, target), 0) + 1
        pair = _pair(source, target)
        session = self._sessions.get(pair)
        if session is not None and session.ended_ms is None:
            both = self._cut.get((target, source), 0)
            delay_ms = 0 if both else self._rng.randrange(1, DEAD_PEER_MS)
            self._clock.after(delay_ms, lambda: self._end(session) if not self._open(*pair) else None)

    def mend(self, cut: Sequence[tuple[str, str]]) -> None:
        """Undo one `cut` of each of these directions."""
        for direction in cut:
            left = self._cut.get(direction, 0) - 1
            if left > 0:
                self._cut[direction] = left
            else:
                self._cut.pop(direction, None)
        self.connect_all()

    def unite(self, one: str, other: str) -> None:
        """These two reach each other, however often they were cut."""
        self._cut.pop((one, other), None)
        self._cut.pop((other, one), None)
        self.connect_all()

    def mend_all(self) -> None:
        self._cut.clear()
        self.connect_all()

    def reset(self, one: str, other: str) -> None:
        """The connection breaks, and may be made again at once."""
        session = self._sessions.get(_pair(one, other))
        if session is not None:
            self._end(session)

    def _open(self, one: str, other: str) -> bool:
        return not self._cut.get((one, other)) and not self._cut.get((other, one))

    # -- sessions

    def connect_all(self) -> None:
        """Whoever can connect will, some time soon."""
        for pair in self.pairs:
            session = self._sessions.get(pair)
            if (session is None or session.ended_ms is not None) and pair not in self._connecting:
                one, other = self._members[pair[0]], self._members[pair[1]]
                if self._can_link(one, other):
                    self._connecting.add(pair)
                    self._clock.after(self._rng.randint(*CONNECT_MS), lambda pair=pair: self._connect(pair))  # type: ignore[misc]

    def _connect(self, pair: tuple[str, str]) -> None:
        self._connecting.discard(pair)
        one, other = self._members[pair[0]], self._members[pair[1]]
        if not self._can_link(one, other):
            return
        session = self._sessions[pair] = Session(one, other)
        self._clock.note("connect", *pair)
        for member, peer in ((one, other), (other, one)):
            self._attach(member, peer, session)

    def _can_link(self, one: SimMember, other: SimMember) -> bool:
        return one.up and other.up and self._open(one.name, other.name)

    def _attach(self, member: SimMember, peer: SimMember, session: Session) -> None:
        member.sessions[peer.name] = session
        member.post(LinkUp(peer.id))

    def _detach(self, member: SimMember, peer: SimMember, session: Session) -> None:
        if member.sessions.get(peer.name) is session:
            del member.sessions[peer.name]
            member.post(LinkDown(peer.id))

    def _not_attached(
        self, target: SimMember, source: SimMember, session: Session, arrives: Callable[[], None]
    ) -> None:
        """Something has come over a session that the target does not use (any more)."""

    def _end(self, session: Session) -> None:
        if session.ended_ms is not None:
            return
        session.ended_ms = self._clock.now_ms
        self._clock.note("break", session.one.name, session.other.name)
        for member, peer in ((session.one, session.other), (session.other, session.one)):
            self._clock.after(self._rng.randint(*NOTICE_MS), lambda m=member, p=peer: self._notice(m, p, session))  # type: ignore[misc]

    def _notice(self, member: SimMember, peer: SimMember, session: Session) -> None:
        self._detach(member, peer, session)
        self.connect_all()

    def gone(self, member: SimMember) -> None:
        """It has crashed or been stopped: its sessions break."""
        for session in list(self._sessions_of(member)):
            self._end(session)
        member.sessions.clear()

    def _sessions_of(self, member: SimMember) -> Iterable[Session]:
        return member.sessions.values()

    def connected(self, one: str, other: str) -> bool:
        session = self._sessions.get(_pair(one, other))
        return session is not None and session.ended_ms is None

    # -- messages

    def send(self, source: SimMember, target: SimMember, message: Message) -> None:
        session = source.sessions.get(target.name)
        if session is None or not self.on_message(source, target, message):
            return
        self.messages[CODE_NAMES[code_of(message)]] += 1
        if isinstance(message, Meet):
            session.meet(source.name, message.life)
        data = encode_message(message)
        if not self.weather.hostile:
            self._fly(session, source, target, data, in_order=True)
            return
        for _ in range(self._rng.choice((0, 1, 1, 1, 1, 1, 2))):
            self._fly(session, source, target, data, in_order=self._rng.random() < 0.5)

    def _fly(self, session: Session, source: SimMember, target: SimMember, data: bytes, *, in_order: bool) -> None:
        factor = max(self.weather.slow.get(source.name, 1), self.weather.slow.get(target.name, 1))
        at_ms = self._clock.now_ms + self._rng.randint(*self.weather.delay_ms) * factor
        if not in_order:
            at_ms += self._rng.randrange(2_000)
        else:
            at_ms = max(at_ms, session.last_ms.get(target.name, 0))
            session.last_ms[target.name] = at_ms
        number, sent_ms = session.lives.get(source.name, (0, 0))[0], self._clock.now_ms
        self._clock.at(at_ms, lambda: self._arrive(session, source, target, data, number, sent_ms))

    def _arrive(
        self, session: Session, source: SimMember, target: SimMember, data: bytes, number: int, sent_ms: int
    ) -> None:
        if self._cut.get((source.name, target.name)):
            return
        if session.ended_ms is not None and session.ended_ms < self._clock.now_ms:
            return
        if target.sessions.get(source.name) is not session:
            hand = lambda: self._hand_over(session, source, target, data, number, sent_ms)  # noqa: E731
            self._not_attached(target, source, session, hand)
            return
        self._hand_over(session, source, target, data, number, sent_ms)

    def _hand_over(
        self, session: Session, source: SimMember, target: SimMember, data: bytes, number: int, sent_ms: int
    ) -> None:
        """But for what was said before one of the two began anew: in order it comes before the meet."""
        message = decode_message(data)
        of_before = sent_ms < target.begun_ms and not isinstance(message, Meet)
        if not of_before and not session.is_late(source.name, number):
            target.post(Received(source.id, message))

    def refuse(self, member: SimMember, peer: SimMember) -> None:
        """The member closes its link: the peer broke the protocol."""
        session = member.sessions.get(peer.name)
        if session is not None:
            self._end(session)


def _pair(one: str, other: str) -> tuple[str, str]:
    return (one, other) if one < other else (other, one)
