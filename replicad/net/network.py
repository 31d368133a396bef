"""`PeerNetwork`: this member among the others. It listens, dials, keeps one link for each pair, and serves.

    async with PeerNetwork(identity, own, handler, settings) as network:
        network.set_members({member_id: certificate_der, …})
        network.set_addresses(member_id, [Address(…), …])
        …

It runs in a TaskGroup of its own: a bug in any of its tasks cancels the body, and comes out of the `async with` as an
ExceptionGroup. Leaving the body ends every link in good order, `on_link_down` included, and every task.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine, Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol, Self

import aiohttp
from aiohttp import web

from replicad.core.ids import MemberId
from replicad.errors import PeerError
from replicad.net.addresses import Address
from replicad.net.client import UnreachableError
from replicad.net.connection import CLOSE_S, STREAM_PATH, Connection, LinkClosedError
from replicad.net.content_client import ContentClient
from replicad.net.content_server import ContentDesk, ContentSource
from replicad.net.dialing import Dialer
from replicad.net.identity import Identity, check_certificate
from replicad.net.join import JoinDesk
from replicad.net.link import Link, LinkEvents, LinkInfo
from replicad.net.listener import Listener
from replicad.net.pairs import Myself, Pairs, Sessions
from replicad.net.race import end_tasks
from replicad.net.refusal import Code, Refused
from replicad.net.remote import DialState, Remote
from replicad.net.server import Guard, join_routes, member_of
from replicad.net.settings import NetSettings
from replicad.net.tls import ServerTrust, abort
from replicad.net.wire import FRAME_BYTES_MAX, Deny, Want

STOP_S = 10.0
"""For the links' last words and the handler's `on_link_down`, when the network stops."""


class NetHandler(LinkEvents, Sessions, Protocol):
    """What the network needs of the daemon. All is called in the network's loop; what blocks goes to threads."""

    def on_refused(self, member_id: MemberId, refusal: Refused) -> None:
        """A member that we dialed said no (Code.REMOVED: we are out of the group, as far as it knows)."""

    def reason_against(self, member_id: MemberId) -> Refused:
        """What to tell one who is not, or no longer, a member."""


class PeerNetwork:
    """`desk` is None where nobody can join, `source` where there is no content to serve."""

    def __init__(
        self,
        identity: Identity,
        myself: Myself,
        handler: NetHandler,
        settings: NetSettings,
        *,
        desk: JoinDesk | None = None,
        source: ContentSource | None = None,
        randomness: random.Random | None = None,
    ) -> None:
        assert identity.member_id == myself.member_id, "the hello names another member than the certificate"
        self._identity = identity
        self._handler = handler
        self._settings = settings
        self._randomness = randomness or random.Random()  # noqa: S311 - jitter
        self._remotes: dict[MemberId, Remote] = {}
        self._dialing: dict[MemberId, asyncio.Task[None]] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._lives: dict[Link, asyncio.Task[None]] = {}
        self._tasks = asyncio.TaskGroup()
        self._trust = ServerTrust(identity)
        self._pairs = Pairs(myself, handler, self._install, settings)
        self._guard = Guard(self._remotes.__contains__, handler.reason_against, self._bug, settings)
        self._content_desk = ContentDesk(source, settings.content_threads) if source else None
        self.content = ContentClient(self)
        """Asks other members for content."""
        routes = [web.get(STREAM_PATH, self._stream), *join_routes(desk), *self.content.routes()]
        routes += self._content_desk.routes() if self._content_desk else []
        self._listener = Listener(self._guard.application(routes), self._trust, settings)

    async def __aenter__(self) -> Self:
        """OperatorError where it cannot listen."""
        await self._listener.start()
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._stop()
        finally:
            await self._tasks.__aexit__(kind, error, trace)

    # -- what the daemon tells

    def set_members(self, certificates: Mapping[MemberId, bytes]) -> dict[MemberId, str]:
        """The other members, all of them; at once nobody else is served. The answer: whom it cannot know, and why.

        Own entry and order do not matter. Links, connections and transfers of whoever is left out are cut.
        """
        wanted = {member_id: der for member_id, der in certificates.items() if member_id != self._identity.member_id}
        for member_id in self._remotes.keys() - wanted.keys():
            self._remove(member_id)
        unknown: dict[MemberId, str] = {}
        for member_id in wanted.keys() - self._remotes.keys():
            try:
                if check_certificate(wanted[member_id]) != member_id:
                    raise PeerError("the certificate is another member's")
            except PeerError as error:
                unknown[member_id] = str(error)
            else:
                self._add(member_id, wanted[member_id])
        self._trust.set_members(remote.certificate_der for remote in self._remotes.values())
        return unknown

    def set_addresses(self, member_id: MemberId, addresses: Sequence[Address]) -> None:
        """Where a member may be reached; new ones are tried at once. For one who is no member, nothing."""
        remote = self._remotes.get(member_id)
        if remote:
            remote.set_addresses(addresses)

    # -- what the daemon asks

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Where this member listens, with the ports that the system gave."""
        return self._listener.addresses

    def link(self, member_id: MemberId) -> Link | None:
        return self._pairs.link(member_id)

    def links(self) -> list[Link]:
        return self._pairs.links()

    def dial_state(self, member_id: MemberId) -> DialState | None:
        remote = self._remotes.get(member_id)
        return remote.state() if remote else None

    # -- net.content_client.Reach

    def session(self, member_id: MemberId) -> aiohttp.ClientSession:
        remote = self._remotes.get(member_id)
        if remote is None:
            raise UnreachableError("this is no member of the group")
        return remote.session

    async def direct(self, member_id: MemberId) -> Address | None:
        remote = self._remotes.get(member_id)
        return await remote.direct() if remote else None

    def direct_failed(self, member_id: MemberId, address: Address) -> None:
        remote = self._remotes.get(member_id)
        if remote:
            remote.direct_failed(address)

    # -- members come and go

    def _add(self, member_id: MemberId, certificate_der: bytes) -> None:
        dialer = Dialer(self._identity, member_id, certificate_der)
        remote = Remote(
            member_id,
            certificate_der,
            dialer,
            self._pairs,
            self._settings,
            self._randomness,
            self._spawn,
            self._handler.on_refused,
        )
        self._remotes[member_id] = remote
        self._pairs.add(member_id)
        self._dialing[member_id] = self._spawn(remote.run())

    def _remove(self, member_id: MemberId) -> None:
        remote = self._remotes.pop(member_id)
        self._dialing.pop(member_id).cancel()
        self._pairs.drop(member_id)
        self._guard.drop(member_id)
        self.content.forget(member_id)
        self._spawn(remote.close())

    # -- links come and go

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        """The accepting side of a link: as long as this runs, the WebSocket is open."""
        socket = web.WebSocketResponse(timeout=CLOSE_S, max_msg_size=FRAME_BYTES_MAX + 1, compress=False)
        await socket.prepare(request)
        transport = request.transport

        async def hang_up() -> None:
            abort(transport)

        peer = transport.get_extra_info("peername") if transport else None
        connection = Connection(socket, str(Address(*peer[:2])) if peer else "", hang_up)
        try:
            link = await self._pairs.answer(member_of(request), connection)
        except PeerError as error:
            await connection.close(str(error))
        else:
            await link.ended.wait()
        return socket

    def _install(self, connection: Connection, info: LinkInfo) -> Link:
        link = Link(connection, info, events=self._handler, asked=self._asked, settings=self._settings)
        remote = self._remotes.get(info.member_id)
        if remote:
            remote.on_link_up()
        self._lives[link] = self._spawn(self._live(link, remote))
        return link

    async def _live(self, link: Link, remote: Remote | None) -> None:
        reason = "stopped"
        try:
            reason = await link.run()
        finally:
            if remote:
                remote.on_link_down(reason)
            self.content.on_link_down(link.member_id)
            try:
                await self._handler.on_link_down(link, reason)
            finally:
                del self._lives[link]
                self._pairs.forget(link)
                link.ended.set()

    def _asked(self, link: Link, message: Want | Deny) -> None:
        if isinstance(message, Deny):
            self.content.on_deny(link.member_id, message)
        else:
            self._spawn(self._bring(link, message))

    async def _bring(self, link: Link, want: Want) -> None:
        """Answer a WANT by a request of ours, with the body that a request of the other's would have been answered."""
        try:
            remote = self._remotes.get(link.member_id)
            address = await remote.direct() if remote else None
            if remote is None or address is None or self._content_desk is None:
                raise Refused(Code.GONE, "this member cannot bring content there")
            await self._content_desk.bring(link.member_id, want, remote.session, address)
        except PeerError as error:
            refusal = error if isinstance(error, Refused) else Refused(Code.REQUEST, str(error))
            try:
                link.send_control(Deny(want.request_id, refusal.code[:64], str(refusal)))
            except LinkClosedError:
                return

    # -- tasks

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._tasks.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    def _bug(self, error: BaseException) -> None:
        """An exception where none may be: it ends the network, with its traceback."""

        async def fail() -> None:
            raise error

        self._spawn(fail())

    async def _stop(self) -> None:
        self._pairs.close()
        await end_tasks(self._dialing.values())
        for link in self._lives:
            link.close("the member stops")
        if self._lives:
            await asyncio.wait(self._lives.values(), timeout=STOP_S)
        await self._listener.stop()
        for remote in self._remotes.values():
            await remote.close()
        while self._background:
            await end_tasks(self._background)
        for link in self._lives:
            await link.hang_up()  # cancelled before it lived
        if self._content_desk:
            self._content_desk.close()
