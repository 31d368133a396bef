"""Content for this member's fetcher: what it has preserved itself comes from its own stores, all else by the network.

What is read here goes the same way as what a peer sends: into staging, verified by its digest, synced. So everything
that holds for fetched content holds for it, a crash included, and the preserved file stays as it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import Executor
from contextlib import aclosing
from typing import TypeVar

from replicad.core.fetching import HERE
from replicad.core.ids import FolderId, MemberId, Uid
from replicad.engine.fetcher import Content
from replicad.engine.serving import FolderContent
from replicad.net.content_wire import SmallFile
from replicad.net.refusal import Code, Refused

PIECE_BYTES = 1_048_576
"""Read at a time, as a peer sends it."""

T = TypeVar("T")


class Nearby:
    """`fetcher.Content` of one folder. `threads` is shared with others."""

    def __init__(self, here: FolderContent, others: Content, threads: Executor) -> None:
        self._here = here
        self._others = others
        self._threads = threads

    async def files(
        self, member_id: MemberId, folder: FolderId, items: Sequence[SmallFile]
    ) -> AsyncGenerator[tuple[int, bytes | bytearray | None], None]:
        if member_id != HERE:
            async with aclosing(self._others.files(member_id, folder, items)) as arriving:
                async for index, body in arriving:
                    yield index, body
            return
        for index, item in enumerate(items):
            yield index, await self._in_thread(self._here.open_small, item.uid, item.digest)

    async def manifest(
        self, member_id: MemberId, folder: FolderId, uid: Uid, digest: bytes, pages: Sequence[bytes] = ()
    ) -> list[bytes]:
        if member_id != HERE:
            return await self._others.manifest(member_id, folder, uid, digest, pages)
        found = [await self._in_thread(self._here.manifest, uid, digest, page) for page in (pages or (None,))]
        return [_there(one) for one in found]

    async def ranges(
        self, member_id: MemberId, folder: FolderId, uid: Uid, digest: bytes, ranges: Sequence[tuple[int, int]]
    ) -> AsyncGenerator[tuple[int, bytes | bytearray], None]:
        if member_id != HERE:
            async with aclosing(self._others.ranges(member_id, folder, uid, digest, ranges)) as arriving:
                async for offset, data in arriving:
                    yield offset, data
            return
        for begin, length in ranges:
            for offset in range(begin, begin + length, PIECE_BYTES):
                size = min(PIECE_BYTES, begin + length - offset)
                yield offset, _there(await self._in_thread(self._here.read_range, uid, digest, offset, size))

    async def _in_thread(self, function: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)


def _there(found: bytes | None) -> bytes:
    if found is None:
        raise Refused(Code.GONE, "it is no longer among the preserved files")
    return found
