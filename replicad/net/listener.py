"""Listening: sockets, TLS handshakes under limits, and aiohttp behind them.

The handshake is made here and not by aiohttp, so that each takes the members of its moment (net.tls), idle strangers
cannot pile up, and the number of connections is bounded before memory is spent on them.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections import deque
from collections.abc import Callable

from aiohttp import web

from replicad.errors import OperatorError
from replicad.net.addresses import Address
from replicad.net.client import READ_BUFFER_BYTES
from replicad.net.settings import NetSettings
from replicad.net.tls import ServerTrust, abort, peer_certificate

BACKLOG = 256
ACCEPT_PAUSE_S = 0.2
"""After the system had no file handle left for another connection."""
KEEP_ALIVE_S = 75.0
"""More than a client keeps an idle connection (net.client): it is the client that closes it, without a race."""
LINGER_S = 1.0
"""The rest of a body that nobody wants is read so long, so that its sender hears the refusal."""
SHUTDOWN_S = 2.0


class Listener:
    """`start`, then `addresses`; `stop` ends every connection and every handler."""

    def __init__(self, app: web.Application, trust: ServerTrust, settings: NetSettings) -> None:
        self._trust = trust
        self._settings = settings
        self._runner = web.AppRunner(
            app,
            access_log=None,
            handler_cancellation=True,
            keepalive_timeout=KEEP_ALIVE_S,
            lingering_time=LINGER_S,
            shutdown_timeout=SHUTDOWN_S,
            read_bufsize=READ_BUFFER_BYTES,
            auto_decompress=False,
        )
        self._sockets: list[socket.socket] = []
        self._accepting: list[asyncio.Task[None]] = []
        self._handshakes: dict[asyncio.Task[None], None] = {}
        self._guests: deque[asyncio.Transport] = deque()
        self._factory: Callable[[], asyncio.BaseProtocol] | None = None
        self.addresses: tuple[Address, ...] = ()
        """Where it listens, with the ports that the system gave."""

    async def start(self) -> None:
        """OperatorError where it cannot listen."""
        await self._runner.setup()
        self._factory = self._runner.server
        try:
            self._sockets = await self._bound()
        except OSError as error:
            await self._runner.cleanup()
            reason = error.strerror or str(error)
            raise OperatorError(f"cannot listen at {self._settings.listen}: {reason}; set [member] listen") from error
        self.addresses = tuple(Address(*bound.getsockname()[:2]) for bound in self._sockets)
        self._accepting = [asyncio.create_task(self._accept(bound)) for bound in self._sockets]

    async def _bound(self) -> list[socket.socket]:
        listen, before = self._settings.listen, self._settings.port_before
        if not listen.port and before:
            try:
                return await _bind(Address(listen.host, before))
            except OSError as error:
                if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                    raise
        return await _bind(listen)

    async def stop(self) -> None:
        tasks = [*self._accepting, *self._handshakes]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for bound in self._sockets:
            bound.close()
        await self._runner.cleanup()

    async def _accept(self, bound: socket.socket) -> None:
        while True:
            await _readable(bound)
            try:
                accepted, _ = bound.accept()
            except BlockingIOError:
                continue  # the peer was gone before it was accepted
            except OSError:
                await asyncio.sleep(ACCEPT_PAUSE_S)  # no file handle left, say
                continue
            self._take(accepted)

    def _take(self, accepted: socket.socket) -> None:
        server = self._runner.server
        if server is None or len(server.connections) >= self._settings.connections_max:
            accepted.close()
            return
        if len(self._handshakes) >= self._settings.handshakes_max:
            next(iter(self._handshakes)).cancel()
        task = asyncio.create_task(self._shake_hands(accepted))
        self._handshakes[task] = None
        task.add_done_callback(lambda done: self._handshakes.pop(done, None))

    async def _shake_hands(self, accepted: socket.socket) -> None:
        assert self._factory is not None
        loop = asyncio.get_running_loop()
        try:
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            transport, _ = await loop.connect_accepted_socket(
                self._factory,
                accepted,
                ssl=self._trust.context(),
                ssl_handshake_timeout=self._settings.handshake_ms / 1000,
                ssl_shutdown_timeout=SHUTDOWN_S,
            )
        except (OSError, EOFError):
            accepted.close()  # a stranger's certificate, a scan, a cut: TLS has told it what there is to tell
            return
        except asyncio.CancelledError:
            accepted.close()
            raise
        tls = transport.get_extra_info("ssl_object")
        if tls is None:
            abort(transport)  # the other end was gone when the handshake was done
        elif peer_certificate(tls) is None:
            self._receive_guest(transport)

    def _receive_guest(self, transport: asyncio.Transport) -> None:
        """For a while, and in the place of the one who came first: strangers never take the place of members."""
        self._guests = deque(guest for guest in self._guests if not guest.is_closing())
        self._guests.append(transport)
        if len(self._guests) > self._settings.guests_max:
            abort(self._guests.popleft())
        asyncio.get_running_loop().call_later(self._settings.guest_ms / 1000, abort, transport)


async def _readable(bound: socket.socket) -> None:
    """Until somebody wants to be accepted.

    RACE: cancelled in the same turn of the loop in which somebody comes, `loop.sock_accept` accepts all the same: that
    connection is nobody's, and an error in a callback is all that tells of it. So accepting is not left to it.
    """
    loop = asyncio.get_running_loop()
    comes = asyncio.Event()
    loop.add_reader(bound, comes.set)
    try:
        await comes.wait()
    finally:
        loop.remove_reader(bound)


async def _bind(listen: Address) -> list[socket.socket]:
    """One listening socket for each address that the name stands for."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(listen.host, listen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            bound = socket.socket(family, kind, protocol)
            sockets.append(bound)
            bound.setblocking(False)
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if listen.unspecified else 1)
            bound.bind(address)
            bound.listen(BACKLOG)
    except BaseException:
        for bound in sockets:
            bound.close()
        raise
    return sockets
