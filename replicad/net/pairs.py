"""One link for each pair of members, whoever dials: the hello, and the word of the arbiter.

Both members of a pair may dial at once, and either may think the link dead while the other does not. So one of the two
has the say: the *arbiter*, the one with the lower member id. A connection becomes the pair's link by the arbiter's word
and by nothing else: its WELCOME where it was dialed, its READY where it dialed.

    arbiter dials:   A → HELLO   B → WELCOME(0)   A → READY(serial)     up at A when sent, at B when received
    other dials:     B → HELLO   A → WELCOME(serial)                    up at A when sent, at B when received

Invariants, at A (the arbiter), where each pair has a lock:

1. The word is given under the lock: one connection is chosen at a time, and no other is closed for it but one that is
   dead (below). So exactly one survives, and at no time are both of two good ones closed.
2. Serials grow with every word. B takes a word only if it is newer than its last of the same boot of A: words that
   overtake each other on different connections are put in order.
3. While A has a link that answers a ping, another HELLO of the same boot is refused (DUPLICATE). B had that link's word
   before it could answer the ping on it, so what is refused is a second one. A link that does not answer within
   `probe_ms` is dead and gives way.
4. While either has a link that answers a ping, a HELLO of another boot is refused (COPY): two processes have the key of
   one member. Else they would take the link from each other for ever, and each would take itself for put back.

RACE: A gives its word to a connection that B drops in the same moment. A sees it end, and both dial again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol, TypeVar

from replicad.core.ids import MemberId
from replicad.core.naming import GroupId
from replicad.errors import ProtocolError
from replicad.net.connection import Connection, LinkClosedError
from replicad.net.link import Link, LinkInfo
from replicad.net.refusal import Code, Refused
from replicad.net.settings import NetSettings
from replicad.net.wire import (
    CONTROL,
    VERSIONS,
    Control,
    Hello,
    Ready,
    Refuse,
    Session,
    Welcome,
    choose_version,
    decode_control,
    decode_frame,
    encode_control,
    refuse,
)

M = TypeVar("M", Hello, Welcome, Ready)


class Sessions(Protocol):
    """Where the numbers of sessions with each member are kept (DESIGN section 4, *put back*)."""

    async def open_session(self, member_id: MemberId) -> Session:
        """For one more hello with this member; durable before it returns where that matters."""


@dataclass(frozen=True, slots=True)
class Myself:
    """What this member says of itself in every hello. `boot` is random, new with every start."""

    member_id: MemberId
    group_id: GroupId
    boot: bytes
    software: str
    features: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Offer:
    """A dialed connection that was welcomed, and is not yet the pair's link."""

    member_id: MemberId
    connection: Connection
    own: Hello
    welcome: Welcome


@dataclass(slots=True)
class _Pair:
    lock: asyncio.Lock
    link: Link | None = None
    boot: bytes = b""
    """Of the peer, when `serial` was given or taken."""
    serial: int = 0


Install = Callable[[Connection, LinkInfo], Link]
"""Makes the link and starts its life; the network's."""


class Pairs:
    """The decisions; `install` is told which connection is the link, and `forget` is called when one has ended."""

    def __init__(self, own: Myself, sessions: Sessions, install: Install, settings: NetSettings) -> None:
        self._own = own
        self._sessions = sessions
        self._install = install
        self._settings = settings
        self._pairs: dict[MemberId, _Pair] = {}
        self._serial = 0
        self._closed = False

    def link(self, member_id: MemberId) -> Link | None:
        """None where there is none, or it takes no more messages."""
        pair = self._pairs.get(member_id)
        return pair.link if pair and _alive(pair) else None

    def links(self) -> list[Link]:
        return [pair.link for pair in self._pairs.values() if pair.link and _alive(pair)]

    def close(self) -> None:
        """No more links are made."""
        self._closed = True

    def forget(self, link: Link) -> None:
        """It has ended, and everyone above knows."""
        pair = self._pairs.get(link.member_id)
        if pair and pair.link is link:
            pair.link = None

    def add(self, member_id: MemberId) -> None:
        self._pairs.setdefault(member_id, _Pair(asyncio.Lock()))

    def drop(self, member_id: MemberId) -> None:
        """The member is none any more: what is on its way to a link is refused, a link it has ends without a word."""
        pair = self._pairs.pop(member_id, None)
        if pair and pair.link:
            pair.link.abort("the member was removed from the group")

    async def answer(self, member_id: MemberId, connection: Connection) -> Link:
        """The accepting side, up to the link. Refused (the peer has been told), ProtocolError, LinkClosedError."""
        try:
            hello = await self._expect(connection, Hello)
            version = self._judge(hello, member_id)
            own = await self._hello(member_id)
            pair = self._pair(member_id)
            if self._arbiter_of(member_id):
                async with pair.lock:
                    await self._check_duplicate(pair, hello)
                    await self._check_copy(pair, hello)
                    serial = self._next_serial()
                    await self._say(connection, Welcome(version, own, serial))
                    return await self._choose(pair, connection, self._info(connection, own, hello, version, serial))
            await self._check_copy(pair, hello)
            await self._say(connection, Welcome(version, own, 0))
            ready = await self._expect(connection, Ready)
            async with pair.lock:
                self._check_newer(pair, hello, ready.serial)
                return await self._choose(pair, connection, self._info(connection, own, hello, version, ready.serial))
        except Refused as refusal:
            with suppress(LinkClosedError):
                await self._say(connection, refuse(refusal))
            raise

    async def introduce(self, member_id: MemberId, connection: Connection) -> Offer:
        """The dialing side, up to the other's WELCOME; Refused by the peer. May be cancelled: the caller hangs up."""
        own = await self._hello(member_id)
        await self._say(connection, own)
        welcome = await self._expect(connection, Welcome)
        version = self._judge(welcome.hello, member_id)
        if welcome.version != version:
            raise ProtocolError(f"the peer chose version {welcome.version} of the protocol, not {version}")
        return Offer(member_id, connection, own, welcome)

    async def settle(self, offer: Offer) -> Link:
        """The dialing side's last step. Refused(DUPLICATE) where the pair has its link already."""
        pair = self._pair(offer.member_id)
        peer = offer.welcome.hello
        async with pair.lock:
            if self._arbiter_of(offer.member_id):
                if _alive(pair):
                    raise Refused(Code.DUPLICATE, "the other's connection came first")
                serial = self._next_serial()
                await self._say(offer.connection, Ready(serial))
            else:
                serial = offer.welcome.serial
                self._check_newer(pair, peer, serial)
                await self._check_copy(pair, peer)
            info = self._info(offer.connection, offer.own, peer, offer.welcome.version, serial, dialed=True)
            return await self._choose(pair, offer.connection, info)

    async def _choose(self, pair: _Pair, connection: Connection, info: LinkInfo) -> Link:
        """Under the lock: from here on this connection is the link; the one before has ended when this returns."""
        if pair.link is not None:
            pair.link.abort("replaced by a newer connection")
            await pair.link.ended.wait()
        if self._pair(info.member_id) is not pair:
            raise Refused(Code.REMOVED, "this member was removed, and added again")
        pair.boot, pair.serial = info.peer_boot, info.serial
        pair.link = self._install(connection, info)
        return pair.link

    async def _check_duplicate(self, pair: _Pair, hello: Hello) -> None:
        """Invariant 3."""
        if pair.link and pair.link.info.peer_boot == hello.boot and await pair.link.probe():
            raise Refused(Code.DUPLICATE, "the two have a link already")

    async def _check_copy(self, pair: _Pair, hello: Hello) -> None:
        """Invariant 4."""
        link = pair.link
        if link and link.info.peer_boot != hello.boot and await link.probe():
            where = f"another daemon with this member's key is connected from {link.info.address}"
            raise Refused(Code.COPY, f"{where}: one of the two homes is a copy of the other")

    def _check_newer(self, pair: _Pair, peer: Hello, serial: int) -> None:
        """Invariant 2."""
        if pair.boot == peer.boot and serial <= pair.serial:
            raise Refused(Code.DUPLICATE, "the other has chosen a newer connection")

    def _judge(self, hello: Hello, member_id: MemberId) -> int:
        """The version to speak; Refused."""
        version = choose_version(hello.versions)
        if hello.group_id != self._own.group_id:
            raise Refused(Code.GROUP, f"this is group {self._own.group_id.hex()[:8]}, not {hello.group_id.hex()[:8]}")
        if hello.member_id.hex() != member_id:
            raise Refused(Code.NOT_A_MEMBER, "the hello names another member than the certificate")
        return version

    def _arbiter_of(self, member_id: MemberId) -> bool:
        """Whether we are, between us and `member_id`."""
        return self._own.member_id < member_id

    def _pair(self, member_id: MemberId) -> _Pair:
        if self._closed:
            raise Refused(Code.BUSY, "this member is stopping")
        pair = self._pairs.get(member_id)
        if pair is None:
            raise Refused(Code.REMOVED, "this member was removed from the group")
        return pair

    def _next_serial(self) -> int:
        self._serial += 1
        return self._serial

    async def _hello(self, member_id: MemberId) -> Hello:
        own = self._own
        session = await self._sessions.open_session(member_id)
        identity = bytes.fromhex(own.member_id)
        return Hello(list(VERSIONS), identity, own.group_id, session, own.boot, own.software, list(own.features))

    def _info(
        self, connection: Connection, own: Hello, peer: Hello, version: int, serial: int, *, dialed: bool = False
    ) -> LinkInfo:
        return LinkInfo(
            member_id=peer.member_id.hex(),
            version=version,
            features=frozenset(own.features) & frozenset(peer.features),
            software=peer.software,
            session=own.session,
            peer_session=peer.session,
            peer_boot=peer.boot,
            serial=serial,
            dialed=dialed,
            address=connection.address,
        )

    async def _say(self, connection: Connection, message: Control) -> None:
        await connection.send(encode_control(message), self._settings.hello_ms)

    async def _expect(self, connection: Connection, kind: type[M]) -> M:
        """The next message, which is of this kind; Refused where the peer refuses."""
        channel, payload = decode_frame(await connection.receive(self._settings.hello_ms))
        message = decode_control(payload) if channel == CONTROL else None
        if isinstance(message, Refuse):
            raise Refused(message.code, message.reason)
        if not isinstance(message, kind):
            raise ProtocolError(f"{kind.__name__.upper()} was expected")
        return message


def _alive(pair: _Pair) -> bool:
    return pair.link is not None and not pair.link.ending
