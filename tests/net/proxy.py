"""A TCP forwarder that can fall silent: what a cut cable or a lost host looks like from both ends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from replicad.net.addresses import Address


class Proxy:
    def __init__(self, target: Address) -> None:
        self.target = target
        self.address: Address
        self._flowing = asyncio.Event()
        self._flowing.set()

    def freeze(self) -> None:
        """Not a byte passes any more, and nobody is told."""
        self._flowing.clear()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Proxy"]:
        async with asyncio.TaskGroup() as tasks:

            async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                there_reader, there_writer = await asyncio.open_connection(self.target.host, self.target.port)
                both = [
                    tasks.create_task(self._pump(reader, there_writer)),
                    tasks.create_task(self._pump(there_reader, writer)),
                ]
                pumps.extend(both)

            pumps: list[asyncio.Task[None]] = []
            server = await asyncio.start_server(forward, "127.0.0.1", 0)
            self.address = Address(*server.sockets[0].getsockname())
            try:
                yield self
            finally:
                server.close()
                for pump in pumps:
                    pump.cancel()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                await self._flowing.wait()
                writer.write(data)
                await writer.drain()
            await self._flowing.wait()
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()
