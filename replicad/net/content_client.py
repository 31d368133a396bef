"""Asking for content, and hiding which way it comes.

A member is asked by a request of ours where it can be dialed. Where only it can dial us, the request goes over the link
(WANT), and it brings the same body by a request of its own. Callers see no difference; the reads below hold the socket
back in both cases, and in both a member that falls silent is given up after SILENCE_S.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

import aiohttp
from aiohttp import web

from replicad.core.ids import FolderId, MemberId, Uid
from replicad.net.addresses import Address
from replicad.net.client import SILENCE_S, UnreachableError, as_peer_errors, url_of
from replicad.net.connection import LinkClosedError
from replicad.net.content_server import ANSWER_PATH, CONTENT_PATH
from replicad.net.content_wire import (
    FILES,
    GONE,
    MANIFEST,
    MORE,
    RANGES,
    FilesRequest,
    ManifestRequest,
    Piece,
    PieceReader,
    Range,
    RangesRequest,
    Request,
    SmallFile,
    encode_request,
    item_limits,
)
from replicad.net.link import Link
from replicad.net.refusal import Code, Refused, from_headers
from replicad.net.server import member_of
from replicad.net.tls import SERVER_NAME, abort
from replicad.net.wire import Deny, Want

REQUESTS_PER_MEMBER_MAX = 8
"""Under way to one member; more would only wait there."""


class Reach(Protocol):
    """How members are reached; the network."""

    def link(self, member_id: MemberId) -> Link | None: ...

    def session(self, member_id: MemberId) -> aiohttp.ClientSession:
        """UnreachableError where it is no member."""

    async def direct(self, member_id: MemberId) -> Address | None:
        """Where it can be dialed; None where it is known, or found out now, that it cannot."""

    def direct_failed(self, member_id: MemberId, address: Address) -> None:
        """It could not be dialed there after all."""


@dataclass(slots=True)
class _Waiting:
    """For an answer that the other brings."""

    body: asyncio.Future[aiohttp.StreamReader]
    done: asyncio.Event = field(default_factory=asyncio.Event)
    whole: bool = False


class ContentClient:
    """Close the generators (`contextlib.aclosing`) where they are left early: that ends the transfer.

    All raise Refused where the member refuses, UnreachableError where it cannot be asked or stops in the middle,
    ProtocolError where it answers something else.
    """

    def __init__(self, reach: Reach) -> None:
        self._reach = reach
        self._turns: dict[MemberId, asyncio.Semaphore] = {}
        self._waiting: dict[tuple[MemberId, int], _Waiting] = {}
        self._next_id = 1

    async def files(
        self, member_id: MemberId, folder: FolderId, items: Sequence[SmallFile]
    ) -> AsyncGenerator[tuple[int, bytes | bytearray | None], None]:
        """(index, body or None where it is gone) for each item, in order; at most content_wire.FILES_MAX items."""
        parts: list[bytes | bytearray] = []
        async with aclosing(self._ask(member_id, FILES, FilesRequest(folder, list(items)))) as pieces:
            async for piece in pieces:
                if piece.kind == MORE:
                    parts.append(piece.data)
                    continue
                body = piece.data if not parts else b"".join([*parts, piece.data])
                parts = []
                yield piece.index, None if piece.kind == GONE else body

    async def manifest(
        self, member_id: MemberId, folder: FolderId, uid: Uid, digest: bytes, pages: Sequence[bytes] = ()
    ) -> list[bytes]:
        """The pages, or the top as the only one; Refused(GONE) where one of them is not to be had."""
        parts: list[list[bytes | bytearray]] = [[] for _ in range(max(1, len(pages)))]
        request = ManifestRequest(folder, uid, digest, list(pages))
        async with aclosing(self._ask(member_id, MANIFEST, request)) as pieces:
            async for piece in pieces:
                if piece.kind == GONE:
                    raise Refused(Code.GONE, "the content's manifest is not there any more")
                parts[piece.index].append(piece.data)
        return [b"".join(page) for page in parts]

    async def ranges(
        self, member_id: MemberId, folder: FolderId, uid: Uid, digest: bytes, ranges: Sequence[tuple[int, int]]
    ) -> AsyncGenerator[tuple[int, bytes | bytearray], None]:
        """(offset in the file, data of at most 1 MiB) in order, of (offset, length)s; Refused(GONE) may come late."""
        request = RangesRequest(folder, uid, digest, [Range(offset, length) for offset, length in ranges])
        index, offset = -1, 0
        async with aclosing(self._ask(member_id, RANGES, request)) as pieces:
            async for piece in pieces:
                if piece.kind == GONE:
                    raise Refused(Code.GONE, "the content is not there any more")
                if piece.index != index:
                    index, offset = piece.index, ranges[piece.index][0]
                yield offset, piece.data
                offset += len(piece.data)

    def routes(self) -> list[web.RouteDef]:
        return [web.post(ANSWER_PATH + "{request_id:[0-9]{1,18}}", self._receive_answer)]

    def on_deny(self, member_id: MemberId, deny: Deny) -> None:
        """Instead of an answer over the other way."""
        waiting = self._waiting.get((member_id, deny.request_id))
        if waiting and not waiting.body.done():
            waiting.body.set_exception(Refused(deny.code, deny.reason))

    def on_link_down(self, member_id: MemberId) -> None:
        """What was asked over the link is not answered any more; what is arriving goes on."""
        for (asked, _), waiting in self._waiting.items():
            if asked == member_id and not waiting.body.done():
                waiting.body.set_exception(UnreachableError("the link ended"))

    def forget(self, member_id: MemberId) -> None:
        """It is no member any more."""
        self._turns.pop(member_id, None)

    async def _ask(self, member_id: MemberId, route: str, request: Request) -> AsyncGenerator[Piece, None]:
        reader = PieceReader(item_limits(request), exact=not isinstance(request, ManifestRequest))
        turn = self._turns.setdefault(member_id, asyncio.Semaphore(REQUESTS_PER_MEMBER_MAX))
        async with turn, self._open(member_id, route, encode_request(request)) as body:
            with as_peer_errors():
                while data := await _read(body):
                    for piece in reader.feed(data):
                        yield piece
        if not reader.complete:
            raise UnreachableError("the answer was cut short")

    @asynccontextmanager
    async def _open(self, member_id: MemberId, route: str, request: bytes) -> AsyncIterator[aiohttp.StreamReader]:
        """The answer's body, by whichever way there is."""
        address = await self._reach.direct(member_id)
        opened = False
        if address is not None:
            try:
                async with self._open_directly(member_id, address, route, request) as body:
                    opened = True
                    yield body
                    return
            except UnreachableError:
                if opened:
                    raise
                self._reach.direct_failed(member_id, address)
        link = self._reach.link(member_id)
        if link is None:
            raise UnreachableError("there is no way to the member")
        async with self._open_by_link(link, route, request) as body:
            yield body

    @asynccontextmanager
    async def _open_directly(
        self, member_id: MemberId, address: Address, route: str, request: bytes
    ) -> AsyncIterator[aiohttp.StreamReader]:
        session = self._reach.session(member_id)
        with as_peer_errors():
            url = url_of(address, CONTENT_PATH + route)
            async with session.post(url, data=request, server_hostname=SERVER_NAME) as response:
                if response.status != 200:
                    raise from_headers(response.status, response.headers)
                yield response.content

    @asynccontextmanager
    async def _open_by_link(self, link: Link, route: str, request: bytes) -> AsyncIterator[aiohttp.StreamReader]:
        request_id, self._next_id = self._next_id, self._next_id + 1
        waiting = _Waiting(asyncio.get_running_loop().create_future())
        key = (link.member_id, request_id)
        self._waiting[key] = waiting
        try:
            try:
                link.send_control(Want(request_id, route, request))
                async with asyncio.timeout(SILENCE_S):
                    body = await waiting.body
            except (LinkClosedError, TimeoutError) as error:
                raise UnreachableError("the member does not bring the content") from error
            yield body
            waiting.whole = body.at_eof()
        finally:
            del self._waiting[key]
            waiting.done.set()
            if waiting.body.done() and not waiting.body.cancelled():
                waiting.body.exception()  # RACE: set when nobody waited any more: it has been looked at

    async def _receive_answer(self, request: web.Request) -> web.StreamResponse:
        """The other's request; it lasts as long as somebody here reads its body."""
        waiting = self._waiting.get((member_of(request), int(request.match_info["request_id"])))
        if waiting is None or waiting.body.done():
            raise Refused(Code.GONE, "nobody waits for this answer any more")
        waiting.body.set_result(request.content)
        await waiting.done.wait()
        if not waiting.whole:
            abort(request.transport)  # else all the rest would have to be read
        return web.Response(status=204)


async def _read(body: aiohttp.StreamReader) -> bytes:
    try:
        async with asyncio.timeout(SILENCE_S):
            return await body.readany()
    except (web.RequestPayloadError, RuntimeError) as error:
        # RuntimeError: how aiohttp says that the connection was closed before the read began.
        raise UnreachableError("the answer was cut short") from error
