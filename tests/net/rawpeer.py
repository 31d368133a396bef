"""A member that says whatever the test wants, over a real connection."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from replicad.net.connection import Connection
from replicad.net.dialing import Dialer
from replicad.net.identity import Identity
from replicad.net.wire import Control, Hello, Session, decode_control, decode_frame, encode_control
from tests.net.nodes import GROUP, SETTINGS, Node


class RawPeer:
    """`connection` is a WebSocket to the node, made with the identity's certificate, on which nothing was said."""

    def __init__(self, identity: Identity, connection: Connection) -> None:
        self.identity = identity
        self.connection = connection

    def hello(self, **changes: object) -> Hello:
        hello = Hello([1], bytes.fromhex(self.identity.member_id), GROUP, Session(1, bytes(16)), b"raw!" * 4, "raw", [])
        return msgspec.structs.replace(hello, **changes)

    async def say(self, message: Control) -> None:
        await self.send(encode_control(message))

    async def send(self, frame: bytes) -> None:
        await self.connection.send(frame, SETTINGS.hello_ms)

    async def hear(self) -> Control:
        """The next message of the link's own."""
        _, payload = decode_frame(await self.connection.receive(SETTINGS.hello_ms))
        return decode_control(payload)


@asynccontextmanager
async def raw_peer(identity: Identity, node: Node) -> AsyncIterator[RawPeer]:
    connection, _ = await Dialer(identity, node.id, node.identity.certificate_der).connect([node.address])
    try:
        yield RawPeer(identity, connection)
    finally:
        await connection.hang_up()
