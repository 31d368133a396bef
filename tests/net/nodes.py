"""Members for tests: real sockets on loopback, ports from the system, and a handler that remembers everything."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from replicad.core.ids import MemberId
from replicad.net.addresses import Address
from replicad.net.content_server import ContentSource
from replicad.net.identity import Identity
from replicad.net.join import JoinDesk
from replicad.net.link import Link
from replicad.net.network import PeerNetwork
from replicad.net.pairs import Myself
from replicad.net.refusal import Code, Refused
from replicad.net.settings import NetSettings
from replicad.net.wire import Session
from tests.net.certificates import make_identity

GROUP = b"g" * 16
FOLDER = b"f" * 16
LOOPBACK = Address("127.0.0.1", 0)
PATIENCE_S = 30.0
"""How long a condition may take to come about; tests wait for conditions, and fail here."""

SETTINGS = NetSettings(
    listen=LOOPBACK,
    ping_ms=50,
    dead_ms=2_000,
    hello_ms=2_000,
    probe_ms=500,
    dial_min_ms=20,
    dial_max_ms=200,
    steady_ms=50,
)


class Recorder:
    """A handler that remembers. `on_message` may be held back by clearing `open`."""

    def __init__(self) -> None:
        self.ups: list[Link] = []
        self.downs: list[tuple[Link, str]] = []
        self.messages: list[tuple[MemberId, bytes, bytes]] = []
        self.refusals: list[tuple[MemberId, Refused]] = []
        self.sessions = 0
        self.open = asyncio.Event()
        self.open.set()
        self.removed: set[MemberId] = set()
        self.react: Callable[[Link, bytes, bytes], None] = lambda link, channel, payload: None
        self._changed = asyncio.Condition()

    async def open_session(self, member_id: MemberId) -> Session:
        self.sessions += 1
        return Session(self.sessions, self.sessions.to_bytes(16, "big"))

    async def on_link_up(self, link: Link) -> None:
        self.ups.append(link)
        await self._tell()

    async def on_message(self, link: Link, channel: bytes, payload: bytes) -> None:
        await self.open.wait()
        self.messages.append((link.member_id, channel, payload))
        self.react(link, channel, payload)
        await self._tell()

    async def on_link_down(self, link: Link, reason: str) -> None:
        self.downs.append((link, reason))
        await self._tell()

    def on_refused(self, member_id: MemberId, refusal: Refused) -> None:
        self.refusals.append((member_id, refusal))
        self._told = asyncio.ensure_future(self._tell())

    def reason_against(self, member_id: MemberId) -> Refused:
        if member_id in self.removed:
            return Refused(Code.REMOVED, "this member was removed from the group")
        return Refused(Code.NOT_A_MEMBER, "this is no member of the group")

    def got_message(self) -> bool:
        return bool(self.messages)

    def got_second_link(self) -> bool:
        return len(self.ups) == 2

    async def until(self, happened: Callable[[], Any]) -> None:
        async with asyncio.timeout(PATIENCE_S), self._changed:
            await self._changed.wait_for(happened)

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()


class Node:
    """One member. `network` exists inside `running`."""

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.seen = Recorder()
        self.boot = 0
        self.network: PeerNetwork

    @property
    def id(self) -> MemberId:
        return self.identity.member_id

    @property
    def address(self) -> Address:
        return self.network.addresses[0]

    @asynccontextmanager
    async def running(
        self,
        *,
        settings: NetSettings = SETTINGS,
        group: bytes = GROUP,
        desk: JoinDesk | None = None,
        source: ContentSource | None = None,
        features: tuple[str, ...] = (),
    ) -> AsyncIterator["Node"]:
        self.boot += 1
        boot = self.boot.to_bytes(16, "big")
        myself = Myself(self.id, group, boot, "replicad 0", features)
        async with PeerNetwork(self.identity, myself, self.seen, settings, desk=desk, source=source) as network:
            self.network = network
            yield self

    def knows(self, *others: "Node") -> None:
        """As members; addresses are told apart."""
        certificates = {other.id: other.identity.certificate_der for other in others}
        assert self.network.set_members(certificates) == {}

    def dials(self, other: "Node") -> None:
        self.network.set_addresses(other.id, [other.address])

    async def linked(self, other: "Node") -> Link:
        await self.seen.until(lambda: self.network.link(other.id))
        link = self.network.link(other.id)
        assert link is not None
        return link


def two_nodes(directory: Path) -> tuple[Node, Node]:
    """(the lower member id, which is the pair's arbiter; the other)."""
    nodes = [Node(make_identity(directory, name)) for name in ("one", "two")]
    low, high = sorted(nodes, key=lambda node: node.id)
    return low, high


def with_settings(**changes: Any) -> NetSettings:
    return replace(SETTINGS, **changes)


def refused_port() -> Address:
    """An address at which nobody listens."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return Address(*probe.getsockname())
