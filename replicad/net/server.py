"""What is served to whom: one guard before every handler.

Without a certificate a connection reaches the two requests of a join, and nothing else: it hears one refusal, with its
reason, and is closed. With a certificate it must be a member's *now*: TLS let it in by the members of the handshake's
moment, and by chains (net.tls, rule 1), so every request is checked again by fingerprint. The connections of a member
that is removed are dropped at once.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from weakref import WeakSet

import aiohttp
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from replicad.core.ids import MEMBER_ID_CHARACTERS, MemberId
from replicad.errors import PeerError
from replicad.net.identity import member_id_of
from replicad.net.join import JoinDesk
from replicad.net.joining import HELLO_PATH, PROOF_PATH
from replicad.net.proof import REQUEST_BYTES_MAX
from replicad.net.refusal import Code, Refused, http_status, to_headers
from replicad.net.settings import NetSettings
from replicad.net.tls import abort, peer_certificate
from replicad.net.wire import WANT_BYTES_MAX

MEMBER_HEADER = "Replicad-Member"
"""Who comes without a certificate may say who it is, to hear a better reason; nothing depends on it."""
ALIVE_PATH = "/v1/alive"

_MEMBER = web.RequestKey("member_id", str)
Reason = Callable[[MemberId], Refused]
"""What to tell one who says it is `member_id` and is not, or no longer, a member."""
Bug = Callable[[BaseException], None]


class Guard:
    """`is_member` is asked at every request. `bug` is told what a handler may not raise: aiohttp would only log it."""

    def __init__(self, is_member: Callable[[MemberId], bool], reason: Reason, bug: Bug, settings: NetSettings) -> None:
        self._is_member = is_member
        self._reason = reason
        self._bug = bug
        self._settings = settings
        self._transports: dict[MemberId, WeakSet[asyncio.BaseTransport]] = {}

    def application(self, routes: list[web.RouteDef]) -> web.Application:
        app = web.Application(middlewares=[self._middleware()], client_max_size=WANT_BYTES_MAX)
        app.add_routes([web.get(ALIVE_PATH, _alive), *routes])
        return app

    def drop(self, member_id: MemberId) -> None:
        """Cut every connection of one who is no member any more, whatever is under way on it."""
        for transport in self._transports.pop(member_id, ()):
            abort(transport)

    def _middleware(self) -> Middleware:
        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            try:
                return await self._admit(request, handler)
            except Refused as refusal:
                return _refusal(refusal)
            except web.HTTPException as answer:
                answer.force_close()
                raise
            except PeerError as error:
                return _refusal(Refused(Code.REQUEST, str(error)))
            except (aiohttp.ClientError, web.RequestPayloadError, OSError, TimeoutError):
                return _refusal(Refused(Code.REQUEST, "the connection broke"))  # hardly anyone is left to hear it
            except Exception as error:
                self._bug(error)
                raise

        return guard

    async def _admit(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        transport = request.transport
        tls = transport.get_extra_info("ssl_object") if transport else None
        if transport is None or not isinstance(tls, ssl.SSLObject):
            raise Refused(Code.REQUEST, "the connection broke")
        certificate = peer_certificate(tls)
        if certificate is None:
            return await self._admit_guest(request, handler)
        member_id = member_id_of(certificate)
        if not self._is_member(member_id):
            raise self._reason(member_id)
        self._transports.setdefault(member_id, WeakSet()).add(transport)
        request[_MEMBER] = member_id
        return await handler(request)

    async def _admit_guest(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.method == "POST" and request.path in (HELLO_PATH, PROOF_PATH):
            async with asyncio.timeout(self._settings.guest_ms / 1000):
                return await handler(request)
        claimed = request.headers.get(MEMBER_HEADER, "")
        if len(claimed) == MEMBER_ID_CHARACTERS and not self._is_member(claimed):
            raise self._reason(claimed)
        raise Refused(Code.JOIN_ONLY, "without a member's certificate one may only join")


def member_of(request: web.Request) -> MemberId:
    """The member that makes this request; the guard has checked it."""
    return request[_MEMBER]


def join_routes(desk: JoinDesk | None) -> list[web.RouteDef]:
    """The two requests of a join; None where nobody can join (yet)."""

    def served(answer: Callable[[JoinDesk, bytes, str], Awaitable[bytes]]) -> Handler:
        async def serve(request: web.Request) -> web.StreamResponse:
            if desk is None:
                raise Refused(Code.JOIN_ONLY, "this member takes nobody in")
            if (request.content_length or 0) > REQUEST_BYTES_MAX:
                raise Refused(Code.REQUEST, "the request is too long")
            return web.Response(body=await answer(desk, await request.read(), request.remote or ""))

        return serve

    return [web.post(HELLO_PATH, served(JoinDesk.hello)), web.post(PROOF_PATH, served(JoinDesk.proof))]


async def _alive(request: web.Request) -> web.StreamResponse:
    """That this member can be dialed at this address, and by whom it was."""
    return web.Response(status=204)


def _refusal(refusal: Refused) -> web.Response:
    response = web.Response(status=http_status(refusal), text=f"{refusal}\n", headers=to_headers(refusal))
    response.force_close()
    return response
