"""The operator API over HTTP: operations, status, events, health. On the control socket, and on TCP.

Every request passes `access.refusal` first. Errors are JSON: {"error": one line, "exit_status": as the CLI's}. What
answers cost is bounded: bodies by BODY_BYTES_MAX, followers of events by FOLLOWERS_MAX, without a queue for each.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any, Protocol

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from replicad.config.home import CONTROL_SOCKET
from replicad.config.settings import ApiSettings
from replicad.errors import OperatorError, ReplicadError, UsageError
from replicad.net.addresses import Address
from replicad.ops.access import Request as AccessRequest
from replicad.ops.access import TokenFile, refusal
from replicad.ops.events import EventRing, OperatorEvent
from replicad.ops.home import socket_path
from replicad.ops.office import Office
from replicad.ops.openapi import description
from replicad.ops.operations import OPERATIONS, STREAMED
from replicad.ops.requests import ROUTES, Request, Route
from replicad.ops.text import path_json, rfc3339

BODY_BYTES_MAX = 65_536
"""The longest request is a join token with its addresses, 8 KiB."""
FOLLOWERS_MAX = 64
"""Dashboards and scripts that follow events at once."""
KEEP_ALIVE_S = 15.0
"""Between comments on a quiet stream of events, so that what stands between does not cut it."""
SHUTDOWN_S = 2.0
SOCKET_BACKLOG = 64

_READING = frozenset((route.method, route.path) for route in ROUTES if not route.changes)
_STATUS_OF_EXIT = {1: 409, 2: 400, 3: 503, 4: 504}


class Health(Protocol):
    """What the API asks the daemon beside operations."""

    async def status(self) -> dict[str, Any]:
        """`GET /v1/status`."""

    def not_ready(self) -> str:
        """Why not every folder is in state 4; empty when all are."""


class OperatorApi:
    """`start` and `stop`, on the event loop. `office` answers operations."""

    def __init__(self, office: Office, health: Health, events: EventRing, settings: ApiSettings, home: Path) -> None:
        self._office = office
        self._health = health
        self._events = events
        self._settings = settings
        self._home = home
        self._token = TokenFile(home, settings)
        self._followers = 0
        self._changing = asyncio.Lock()  # one change at a time: each looks at what is there and then writes
        self._stopping = asyncio.Event()
        self._runners: list[web.AppRunner] = []
        self.addresses: tuple[Address, ...] = ()
        """Where it listens over TCP, with the port that the system gave."""

    async def start(self) -> None:
        """OperatorError where it cannot listen."""
        control = web.AppRunner(self._application(), access_log=None, shutdown_timeout=SHUTDOWN_S)
        tcp = web.AppRunner(self._application(), access_log=None, shutdown_timeout=SHUTDOWN_S)
        self._runners = [control, tcp]
        for runner in self._runners:
            await runner.setup()
        await web.SockSite(control, self._control_socket()).start()
        listen = self._settings.listen
        site = web.TCPSite(tcp, listen.host, listen.port, backlog=SOCKET_BACKLOG)
        try:
            await site.start()
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise OperatorError(f"cannot listen at {listen}: {reason}; set [api] listen") from error
        self.addresses = tuple(Address(*address[:2]) for address in tcp.addresses)

    async def stop(self) -> None:
        self._stopping.set()
        for runner in self._runners:
            await runner.cleanup()
        with suppress(OSError):  # on a disk that is read-only by now it stays; the next start replaces it
            (self._home / CONTROL_SOCKET).unlink()

    def _control_socket(self) -> socket.socket:
        """Bound for its owner alone from its first instant; a socket of a daemon that is gone is replaced.

        The caller holds the home's lock, so nobody listens at the old one.
        """
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            os.fchmod(listening.fileno(), 0o600)  # what bind makes takes its mode from the descriptor
            (self._home / CONTROL_SOCKET).unlink(missing_ok=True)
            with socket_path(self._home) as path:
                listening.bind(path)
            listening.listen(SOCKET_BACKLOG)
        except OSError as error:
            listening.close()
            raise OperatorError(f"cannot listen at {self._home / CONTROL_SOCKET}: {error.strerror}") from error
        return listening

    def _application(self) -> web.Application:
        app = web.Application(middlewares=[self._guard()], client_max_size=BODY_BYTES_MAX)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/v1/status", self._status)
        app.router.add_get("/v1/events", self._follow)
        app.router.add_get("/v1/openapi.json", self._openapi)
        for route in ROUTES:
            app.router.add_route(route.method, route.path, self._operation(route))
        return app

    # -- every request

    def _guard(self) -> Any:
        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            refused = refusal(_access(request), self._token.current())
            if refused is not None:
                return _error(refused[0], refused[1], 1)
            try:
                return await handler(request)
            except OperatorError as error:
                return _error(_STATUS_OF_EXIT.get(error.exit_status, 409), str(error), error.exit_status)
            except ReplicadError as error:
                return _error(409, str(error), 1)
            except web.HTTPException as answer:
                return _error(answer.status, answer.reason or "no such thing", 2)

        return guard

    def _operation(self, route: Route) -> Handler:
        async def serve(request: web.Request) -> web.StreamResponse:
            asked = await _read(request, route)
            if route.streams:
                return await self._stream(request, STREAMED[route.request](self._office, asked))
            operation = OPERATIONS[route.request]
            if not route.changes or route.beside:
                return _json(await operation(self._office, asked))
            async with self._changing:
                return _json(await operation(self._office, asked))

        return serve

    async def _stream(self, request: web.Request, pieces: AsyncGenerator[dict[str, Any], None]) -> web.StreamResponse:
        """Until the operation or whoever asked for it ends. An error before the first piece is an answer like others,
        one after it the last piece."""
        async with aclosing(pieces):
            first = await anext(pieces)
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
            await response.prepare(request)
            try:
                await response.write(_event(first))
                async for piece in pieces:
                    await response.write(_event(piece))
            except ConnectionError:
                pass  # who asked has gone
            except ReplicadError as error:
                status = error.exit_status if isinstance(error, OperatorError) else 1
                await response.write(_event({"error": str(error), "exit_status": status}))
        return response

    # -- what is not an operation

    async def _healthz(self, request: web.Request) -> web.StreamResponse:
        return web.Response(text="ok\n")

    async def _readyz(self, request: web.Request) -> web.StreamResponse:
        reason = self._health.not_ready()
        return web.Response(status=503 if reason else 200, text=f"{reason or 'ok'}\n")

    async def _status(self, request: web.Request) -> web.StreamResponse:
        return _json(await self._health.status())

    async def _openapi(self, request: web.Request) -> web.StreamResponse:
        return _json(description())

    async def _follow(self, request: web.Request) -> web.StreamResponse:
        """Server-sent events: from `after` (or Last-Event-ID) on; without it all that are still in memory.

        With `follow=0` what is there now, and the end.
        """
        last = _number(request.headers.get("Last-Event-ID") or request.query.get("after") or "0")
        follow = request.query.get("follow", "1") != "0"
        if self._followers >= FOLLOWERS_MAX:
            return _error(503, f"{FOLLOWERS_MAX} already follow the events", 1)
        self._followers += 1
        try:
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
            await response.prepare(request)
            while not self._stopping.is_set():
                lost, events = self._events.after(last)
                if lost:
                    await response.write(b": %d events are no longer in memory\n\n" % lost)
                for event in events:
                    await response.write(_sse(event))
                    last = event.number
                if not follow:
                    break
                if not await self._more(last):
                    await response.write(b": nothing new\n\n")
            return response
        except ConnectionError:
            return response  # the follower has gone
        finally:
            self._followers -= 1

    async def _more(self, last: int) -> bool:
        """Until there is another event, KEEP_ALIVE_S are over (False) or the daemon stops."""
        waits = [asyncio.ensure_future(self._events.wait_after(last)), asyncio.ensure_future(self._stopping.wait())]
        try:
            done, _ = await asyncio.wait(waits, timeout=KEEP_ALIVE_S, return_when=asyncio.FIRST_COMPLETED)
            return bool(done)
        finally:
            for waiting in waits:
                waiting.cancel()


def event_json(event: OperatorEvent) -> dict[str, Any]:
    return {
        "number": event.number,
        "time": rfc3339(event.time_ms),
        "code": event.code,
        "folder": event.folder,
        "text": event.text,
        "path": path_json(event.path) if event.path else None,
    }


async def _read(request: web.Request, route: Route) -> Request:
    """The operation's request from body and path; UsageError says what is wrong with it."""
    body = await request.read()
    try:
        given = msgspec.json.decode(body) if body else {}
    except msgspec.MsgspecError as error:
        raise UsageError(f"the request's body is no JSON: {error}") from error
    if not isinstance(given, Mapping):
        raise UsageError("the request's body is no JSON object")
    asked = dict(request.query) if route.method == "GET" else {}
    fields = {**given, **asked, **{field: request.match_info[field] for field in route.fields_in_path()}}
    try:
        return msgspec.convert(fields, type=route.request)
    except msgspec.ValidationError as error:
        raise UsageError(f"the request is wrong: {error}") from error


def _access(request: web.Request) -> AccessRequest:
    resource = request.match_info.route.resource
    asked = (request.method, resource.canonical if resource is not None else request.path)
    reading = request.method in ("GET", "HEAD") or asked in _READING
    return AccessRequest(
        path=request.path,
        changes=not reading,
        remote=_remote(request),
        host=request.headers.get("Host", ""),
        origin=request.headers.get("Origin"),
        authorization=request.headers.get("Authorization"),
    )


def _remote(request: web.Request) -> str | None:
    """The peer's IP address; None on the control socket."""
    transport = request.transport
    used = transport.get_extra_info("socket") if transport is not None else None
    if used is not None and used.family == socket.AF_UNIX:
        return None
    return request.remote or "unknown"


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise UsageError(f"{text[:20]!r} is no event's number")
    return int(text)


def _sse(event: OperatorEvent) -> bytes:
    data = json.dumps(event_json(event), ensure_ascii=False)
    return f"id: {event.number}\ndata: {data}\n\n".encode()


def _event(piece: dict[str, Any]) -> bytes:
    return b"data: " + _dumps(piece).encode() + b"\n\n"


def _json(value: object, status: int = 200) -> web.Response:
    return web.json_response(value, status=status, dumps=_dumps)


def _error(status: int, text: str, exit_status: int) -> web.Response:
    return _json({"error": text, "exit_status": exit_status}, status)


def _dumps(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
