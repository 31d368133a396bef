"""Serving content: requests are checked, read from disk in a few threads, and streamed under back-pressure.

For one answer at most two batches of pieces exist: one on its way out, one being read ahead. Who reads slowly holds
those, and one of a member's places; the threads go on with others. A file that can no longer be had, or is no longer
what was asked for, is GONE for this item alone.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, contextmanager
from typing import Protocol

from aiohttp import web

from replicad.core.ids import FolderId, MemberId, Uid
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
    decode_request,
)
from replicad.net.refusal import Code, Refused
from replicad.net.server import member_of

CONTENT_PATH = "/v1/content/"
ANSWERS_PER_MEMBER_MAX = 16
"""Twice what one of ours asks for at once (net.content_client): the rest of an old connection may still be there."""
APART_BYTES = 65_536
"""From here on a piece is written by itself: joining it with others would copy it."""
BATCH_BYTES = 524_288
"""Of small pieces, read in one turn of a thread and written at once."""

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


class ContentDesk:
    """Answers requests for content, whichever way they came and the answer goes."""

    def __init__(self, source: ContentSource, threads: int) -> None:
        self._source = source
        self._threads = ThreadPoolExecutor(threads, "replicad-content")
        self._answers: Counter[MemberId] = Counter()

    def close(self) -> None:
        """When no answer is under way any more."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def routes(self) -> list[web.RouteDef]:
        return [web.post(CONTENT_PATH + route, self._serve) for route in ROUTES]

    @contextmanager
    def answering(self, member_id: MemberId, route: str, body: bytes) -> Iterator[AsyncGenerator[Buffer, None]]:
        """The answer's bytes, to be iterated once inside. Refused and ProtocolError come on entering."""
        request = decode_request(route, body)
        if not self._source.may_read(member_id, request.folder):
            raise Refused(Code.FOLDER, "the folder is not replicated to this member")
        if self._answers[member_id] >= ANSWERS_PER_MEMBER_MAX:
            raise Refused(Code.BUSY, "too many requests for content at once")
        self._answers[member_id] += 1
        try:
            yield self._stream(_packed(self._pieces(request)))
        finally:
            self._answers[member_id] -= 1
            if not self._answers[member_id]:
                del self._answers[member_id]

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        route = request.path.removeprefix(CONTENT_PATH)
        with self.answering(member_of(request), route, body) as answer:
            response = web.StreamResponse()
            await response.prepare(request)
            async with aclosing(answer):
                async for data in answer:
                    await response.write(data)
            await response.write_eof()
            return response

    async def _stream(self, batches: Iterator[Batch]) -> AsyncGenerator[Buffer, None]:
        loop = asyncio.get_running_loop()
        ahead = loop.run_in_executor(self._threads, next, batches, None)
        try:
            while (batch := await asyncio.shield(ahead)) is not None:
                ahead = loop.run_in_executor(self._threads, next, batches, None)
                for data in batch:
                    yield data
        finally:
            await asyncio.wait([ahead])  # the thread is out of `batches` before anything is closed beneath it

    def _pieces(self, request: Request) -> Iterator[tuple[int, int, Buffer]]:
        """(index, kind, data): in a thread."""
        match request:
            case FilesRequest():
                yield from self._files(request)
            case RangesRequest():
                for index, part in enumerate(request.ranges):
                    yield from self._range(request, index, part.offset, part.length)
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

    def _range(self, request: RangesRequest, index: int, offset: int, length: int) -> Iterator[tuple[int, int, Buffer]]:
        end = offset + length
        while offset < end:
            size = min(PIECE_BYTES_MAX, end - offset)
            data = self._source.read_range(request.folder, request.uid, request.digest, offset, size)
            if data is None or len(data) != size:
                yield index, GONE, b""
                return
            offset += size
            yield index, LAST if offset == end else MORE, data


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
