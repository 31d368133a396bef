"""When to dial a member, and the connection that comes of it.

`Backoff` says how long to wait: nothing at first and after new addresses, else twice as long as the last time, up to a
limit, jittered over the upper half so that members that failed together do not try together. `connect` tries all of a
member's addresses as `net.race` does, from any free port (two members that dial from the ports they listen at can meet
in the middle and never connect).
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import aiohttp

from replicad.core.ids import MemberId
from replicad.net.addresses import Address
from replicad.net.client import CONNECT_S, as_peer_errors, new_session, url_of
from replicad.net.connection import CLOSE_S, STREAM_PATH, Connection
from replicad.net.identity import Identity
from replicad.net.race import race
from replicad.net.refusal import CODE_HEADER, Code, from_headers
from replicad.net.server import ALIVE_PATH, MEMBER_HEADER
from replicad.net.tls import SERVER_NAME, guest_context, member_context
from replicad.net.wire import FRAME_BYTES_MAX


@dataclass(slots=True)
class Backoff:
    """Pure but for `source`, its randomness."""

    min_ms: int
    max_ms: int
    source: random.Random
    failures: int = 0

    def next_ms(self) -> int:
        """How long to wait before the next attempt; 0 before the first."""
        if self.failures == 0:
            return 0
        ceiling_ms = min(self.max_ms, self.min_ms * 2 ** min(self.failures - 1, 30))
        return self.source.randint(ceiling_ms // 2, ceiling_ms)

    def failed(self) -> None:
        self.failures += 1

    def reset(self) -> None:
        self.failures = 0


class Dialer:
    """Connections to one member: `certificate_der` is its, `identity` ours."""

    def __init__(self, identity: Identity, member_id: MemberId, certificate_der: bytes) -> None:
        self._identity = identity
        self._member_id = member_id
        self._certificate_der = certificate_der

    @cached_property
    def _context(self) -> ssl.SSLContext:
        """Made at the first attempt: it costs OpenSSL a millisecond, and a start meets all members at once."""
        return member_context(self._identity, self._certificate_der)

    def session(self) -> aiohttp.ClientSession:
        """For requests to this member and no other; the caller closes it."""
        return new_session(self._context)

    async def reach(self, session: aiohttp.ClientSession, addresses: Sequence[Address]) -> Address:
        """The first address at which the member answers; PeerError as `connect`."""

        async def attempt(address: Address) -> Address:
            with as_peer_errors():
                url = url_of(address, ALIVE_PATH)
                async with (
                    asyncio.timeout(CONNECT_S),
                    session.get(url, server_hostname=SERVER_NAME) as response,
                ):
                    if response.status != 204:
                        raise from_headers(response.status, response.headers)
            return address

        async def discard(address: Address) -> None:
            return

        return await race(addresses, attempt, discard)

    async def connect(self, addresses: Sequence[Address]) -> tuple[Connection, Address]:
        """A WebSocket, at which nothing has been said. Refused, or another PeerError with every address's reason."""

        async def discard(made: tuple[Connection, Address]) -> None:
            await made[0].hang_up()

        return await race(addresses, self._connect_to, discard)

    async def _connect_to(self, address: Address) -> tuple[Connection, Address]:
        session = self.session()
        try:
            async with asyncio.timeout(2 * CONNECT_S):
                socket = await session.ws_connect(
                    url_of(address, STREAM_PATH),
                    server_hostname=SERVER_NAME,
                    max_msg_size=FRAME_BYTES_MAX + 1,  # aiohttp refuses what is as long as the limit
                    timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_S),
                )
        except aiohttp.WSServerHandshakeError as error:
            await session.close()
            raise from_headers(error.status, error.headers or {}) from error
        except BaseException as error:
            await session.close()
            with as_peer_errors():
                await self._hear_reason(address, error)
                raise

        async def hang_up() -> None:
            await session.close()
            await socket.close()  # has nothing to write to any more: it only lets go of the transport

        return Connection(socket, str(address), hang_up), address

    async def _hear_reason(self, address: Address, error: BaseException) -> None:
        """TLS says only "no": where it was our certificate that was refused, ask once without it, and raise Refused."""
        if not _may_be_our_certificate(error):
            return
        session = new_session(guest_context(self._member_id))
        try:
            headers = {MEMBER_HEADER: self._identity.member_id}
            async with (
                asyncio.timeout(CONNECT_S),
                session.get(url_of(address, STREAM_PATH), headers=headers, server_hostname=SERVER_NAME) as response,
            ):
                refusal = from_headers(response.status, response.headers)
                if CODE_HEADER in response.headers and refusal.code != Code.JOIN_ONLY:
                    raise refusal
        except (aiohttp.ClientError, OSError, TimeoutError):
            return  # the first error says enough
        finally:
            await session.close()


def _may_be_our_certificate(error: BaseException) -> bool:
    """In TLS 1.3 the dialer is done before the other sees its certificate: what comes back is a cut, or an alert."""
    cut = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)
    return isinstance(error, cut) and not isinstance(error, aiohttp.ClientConnectorError)
