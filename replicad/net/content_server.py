"""Serving content: requests are checked, read from disk in a few threads, and streamed under back-pressure.

The answer to a request for ranges has a length, known beforehand. Where the content is lost in the middle that length
cannot be kept: the rest is not sent, the asker, who has been told by a GONE, hangs up, and who does not is cut off.

For one answer at most two batches of pieces exist: one on its way out, one being read ahead. Who reads slowly holds
those, and one of a member's places; the threads go on with others. Who takes nothing at all for SILENCE_S is cut off. A
file that can no longer be had, or is no longer what was asked for, is GONE for this item alone.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol

import aiohttp
import aiohttp.abc
from aiohttp import web

from replicad.core.ids import FolderId, MemberId, Uid
from replicad.net.addresses import Address
from replicad.net.client import SILENCE_S, as_peer_errors, url_of
from replicad.net.content_wire import (
    GONE,
    HEADER,
    LAST,
    MORE,
    PIECE_BYTES_MAX,
    ROUTES,
    FilesRequest,
    ManifestRequest,
    RangesRequest,
    Request,
    answer_bytes,
    decode_request,
)
from replicad.net.race import end_tasks
from replicad.net.refusal import Code, Refused
from replicad.net.server import member_of
from replicad.net.tls import SERVER_NAME, abort
from replicad.net.wire import Want

CONTENT_PATH = "/v1/content/"
ANSWER_PATH = CONTENT_PATH + "answer/"
ANSWERS_PER_MEMBER_MAX = 16
"""Twice what one of ours asks for at once (net.content_client): the rest of an old connection may still be there."""
APART_BYTES = 65_536
"""From here on a piece is written by itself: joining it with others would copy it."""
BATCH_BYTES = 524_288
"""Of small pieces, read in one turn of a thread and written at once."""

LEAVE_S = 10.0
"""For the asker to hang up after a GONE."""

Buffer = bytes | bytearray
Batch = tuple[Buffer, ...]


class ContentSource(Protocol):
    """Where content comes from. All but `may_read` are blocking, called in threads, several at once.

    None: it is not here, not any more, or cannot be read; the source reports its own troubles. What it returns is what
    was asked for, as far as the source knows without reading all of it: the receiver verifies whole files.
    """

    def may_read(self, member_id: MemberId, folder: FolderId) -> bool:
        """Whether the member is in the folder's replica list; at once."""

    def open_small(self, folder: FolderId, uid: Uid, digest: bytes) -> bytes | None:
        """A whole file of at most SMALL_FILE_BYTES_MAX."""

    def manifest(self, folder: FolderId, uid: Uid, digest: bytes, page: bytes | None) -> bytes | None:
        """One page of a manifest, by its digest, or the top; at most PAGE_BYTES_MAX."""

    def read_range(self, folder: FolderId, uid: Uid, digest: bytes, offset: int, length: int) -> bytes | None:
        """Exactly `length` bytes (at most PIECE_BYTES_MAX) from `offset`."""


@dataclass(frozen=True, slots=True)
class Answer:
    """`data` ends after `length` bytes, or raises ConnectionResetError; None: its length shows at its end."""

    length: int | None
    data: AsyncGenerator[Buffer, None]


class ContentDesk:
    """Answers requests for content, whichever way they came and the answer goes."""

    def __init__(self, source: ContentSource, threads: int) -> None:
        self._source = source
        self._threads = ThreadPoolExecutor(threads, "replicad-content")
        self._answers: Counter[MemberId] = Counter()
        self.idle = asyncio.Event()
        self.idle.set()
        """No answer is under way."""

    @property
    def answers(self) -> int:
        """Under way, to all members."""
        return self._answers.total()

    def close(self) -> None:
        """When no answer is under way any more."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def routes(self) -> list[web.RouteDef]:
        return [web.post(CONTENT_PATH + route, self._serve) for route in ROUTES]

    @contextmanager
    def answering(self, member_id: MemberId, route: str, body: bytes) -> Iterator[Answer]:
        """The answer, to be iterated once inside. Refused and ProtocolError come on entering."""
        request = decode_request(route, body)
        if not self._source.may_read(member_id, request.folder):
            raise Refused(Code.FOLDER, "the folder is not replicated to this member")
        if self._answers[member_id] >= ANSWERS_PER_MEMBER_MAX:
            raise Refused(Code.BUSY, "too many requests for content at once")
        self._answers[member_id] += 1
        self.idle.clear()
        try:
            length = answer_bytes(request)
            yield Answer(length, self._stream(_packed(self._pieces(request)), length))
        finally:
            self._answers[member_id] -= 1
            if not self._answers[member_id]:
                del self._answers[member_id]
            if not self._answers:
                self.idle.set()

    async def bring(self, member_id: MemberId, want: Want, session: aiohttp.ClientSession, address: Address) -> None:
        """Answer a WANT by a request of ours to `address`; Refused, ProtocolError, UnreachableError."""
        with self.answering(member_id, want.route, want.body) as answer:
            body = _Body(answer)
            url = url_of(address, f"{ANSWER_PATH}{want.request_id}")
            try:
                with as_peer_errors():
                    async with session.post(url, data=body, server_hostname=SERVER_NAME):
                        return
            finally:
                await body.ended()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        route = request.path.removeprefix(CONTENT_PATH)
        with self.answering(member_of(request), route, body) as answer:
            response = web.StreamResponse()
            if answer.length is not None:
                response.content_length = answer.length
            await response.prepare(request)
            try:
                async with aclosing(answer.data) as data:
                    async for part in data:
                        async with asyncio.timeout(SILENCE_S):
                            await response.write(part)
                await response.write_eof()
            except (OSError, aiohttp.ClientError):
                abort(request.transport)  # nothing else can be said in the middle of a body
            return response

    async def _stream(self, batches: Iterator[Batch], length: int | None) -> AsyncGenerator[Buffer, None]:
        loop = asyncio.get_running_loop()
        ahead = loop.run_in_executor(self._threads, next, batches, None)
        sent = 0
        try:
            while (batch := await asyncio.shield(ahead)) is not None:
                ahead = loop.run_in_executor(self._threads, next, batches, None)
                for data in batch:
                    yield data
                    sent += len(data)
        finally:
            await asyncio.wait([ahead])  # the thread is out of `batches` before anything is closed beneath it
        if length is not None and sent < length:
            with suppress(TimeoutError):
                async with asyncio.timeout(LEAVE_S):
                    await asyncio.Event().wait()  # cancelled when the asker has hung up
            raise ConnectionResetError("content was lost in the middle of its answer")

    def _pieces(self, request: Request) -> Iterator[tuple[int, int, Buffer]]:
        """(index, kind, data): in a thread."""
        match request:
            case FilesRequest():
                yield from self._files(request)
            case RangesRequest():
                yield from self._ranges(request)
            case ManifestRequest():
                for index, page in enumerate(request.pages or [None]):
                    data = self._source.manifest(request.folder, request.uid, request.digest, page)
                    yield from _cut(index, data)

    def _files(self, request: FilesRequest) -> Iterator[tuple[int, int, Buffer]]:
        for index, item in enumerate(request.items):
            data = self._source.open_small(request.folder, item.uid, item.digest)
            if data is None or len(data) != item.size:
                yield index, GONE, b""
            else:
                yield index, LAST, data

    def _ranges(self, request: RangesRequest) -> Iterator[tuple[int, int, Buffer]]:
        for index, part in enumerate(request.ranges):
            offset, end = part.offset, part.offset + part.length
            while offset < end:
                size = min(PIECE_BYTES_MAX, end - offset)
                data = self._source.read_range(request.folder, request.uid, request.digest, offset, size)
                if data is None or len(data) != size:
                    yield index, GONE, b""
                    return
                offset += size
                yield index, LAST if offset == end else MORE, data


class _Body(aiohttp.Payload):
    """An answer as the body of a request. aiohttp writes it in a task of its own, which may outlive the request."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer, content_type="application/octet-stream")
        self._size = answer.length
        self._answer = answer
        self._writing: asyncio.Task[Any] | None = None

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        raise TypeError("an answer is no text")

    async def write(self, writer: aiohttp.abc.AbstractStreamWriter) -> None:
        self._writing = asyncio.current_task()
        async with aclosing(self._answer.data) as data:
            async for part in data:
                async with asyncio.timeout(SILENCE_S):
                    await writer.write(part)

    async def write_with_length(self, writer: aiohttp.abc.AbstractStreamWriter, content_length: int | None) -> None:
        await self.write(writer)

    async def ended(self) -> None:
        """The disk is not read any more."""
        if self._writing:
            await end_tasks([self._writing])


def _cut(index: int, data: bytes | None) -> Iterator[tuple[int, int, Buffer]]:
    if data is None:
        yield index, GONE, b""
        return
    for begin in range(0, max(1, len(data)), PIECE_BYTES_MAX):
        part = data[begin : begin + PIECE_BYTES_MAX]
        yield index, LAST if begin + PIECE_BYTES_MAX >= len(data) else MORE, part


def _packed(pieces: Iterator[tuple[int, int, Buffer]]) -> Iterator[Batch]:
    """Small pieces together, large ones by themselves behind their header."""
    out = bytearray()
    for index, kind, data in pieces:
        out += HEADER.pack(index, kind, len(data))
        if len(data) >= APART_BYTES:
            yield out, data
            out = bytearray()
            continue
        out += data
        if len(out) >= BATCH_BYTES:
            yield (out,)
            out = bytearray()
    if out:
        yield (out,)
