"""One WebSocket, dialed or accepted: whole frames in and out, and two ways to end it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import aiohttp
from aiohttp import web

from replicad.errors import PeerError, ProtocolError

STREAM_PATH = "/v1/stream"
CLOSE_S = 1.0
"""How long a peer is waited for when a connection is closed in good order."""
_CLOSE_REASON_BYTES = 120  # RFC 6455: a close frame has room for 123


class LinkClosedError(PeerError):
    """The link is gone, or has to go; the text says why."""


@dataclass(slots=True, eq=False)
class Connection:
    """`hang_up` drops the transport below the WebSocket, whatever state it is in; it may be called again."""

    socket: web.WebSocketResponse | aiohttp.ClientWebSocketResponse
    address: str
    """Of the other end: as it was dialed, or as it came in."""
    hang_up: Callable[[], Awaitable[None]]
    _broken: bool = False
    """A frame is stuck half sent: nothing can follow it."""

    async def receive(self, timeout_ms: int) -> bytes:
        """One frame; LinkClosedError where none comes any more, ProtocolError where something else comes."""
        try:
            message = await self.socket.receive(timeout_ms / 1000)
        except TimeoutError as error:
            raise LinkClosedError(f"no sign of life for {timeout_ms / 1000:g} s") from error
        if message.type is aiohttp.WSMsgType.BINARY:
            data: bytes = message.data
            return data
        if message.type is aiohttp.WSMsgType.ERROR and isinstance(message.data, aiohttp.WebSocketError):
            raise ProtocolError(f"the stream is broken: {message.data}")
        if message.type is aiohttp.WSMsgType.TEXT:
            raise ProtocolError("text came where frames are expected")
        said = message.extra if message.type is aiohttp.WSMsgType.CLOSE and isinstance(message.extra, str) else ""
        raise LinkClosedError(
            f"closed by the peer: {said[:_CLOSE_REASON_BYTES]}" if said else "the connection was lost"
        )

    async def send(self, frame: bytes, timeout_ms: int) -> None:
        """Hand one frame to the system; LinkClosedError where that is not possible in time."""
        self._broken = True
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                await self.socket.send_bytes(frame)
            self._broken = False
        except TimeoutError as error:
            raise LinkClosedError("the peer takes nothing in") from error
        except ConnectionError as error:
            raise LinkClosedError("the connection was lost") from error

    async def close(self, reason: str) -> None:
        """Say why, wait CLOSE_S for the peer's last word, and be gone."""
        if self._broken:
            await self.hang_up()
            return
        try:
            async with asyncio.timeout(CLOSE_S):
                await self.socket.close(message=reason.encode()[:_CLOSE_REASON_BYTES])
        except (TimeoutError, ConnectionError):
            pass
        finally:
            await self.hang_up()
