"""Carries out a `Fetch`: content from a peer into staging, verified and durable. One answer for each, always.

Small files come in one request and are written and synced together; a large file comes by its manifest, of which only
the chunks that are not here travel. The network is on the event loop, disk and hashing in threads; while one batch is
written the next one is read, so at most two are in memory.

Rules:
1. A content counts as staged when all of it was verified by blake3 and synced.
2. A peer's fault, a lost link, a full disk is the reason in the answer; nothing is raised but our own bugs.
3. A mismatch of a file that was put together from parts that were not fetched fetches it once more, all of it; a
   mismatch of what the peer sent is the peer's fault.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from concurrent.futures import Executor
from contextlib import aclosing, suppress
from typing import Protocol, TypeVar

import msgspec
from blake3 import blake3

from replicad.core.effects import Fetch, Fetched, FetchedItem, WantedContent
from replicad.core.ids import FolderId, MemberId, Uid
from replicad.core.manifest import (
    SMALL_FILE_BYTES,
    Chunk,
    Manifest,
    Top,
    decode,
    decode_top,
    encode_whole,
    missing_pages,
    page_digest,
)
from replicad.core.plan import STAGING_PATH
from replicad.engine.assembly import Assembly, LocalFile
from replicad.errors import FileTrouble, PeerError, ProtocolError
from replicad.files.fs import FileSystem
from replicad.files.hashing import BeingWritten, chunk_name, hash_file
from replicad.files.sparse import BLOCK_BYTES, write_sparse
from replicad.net.content_wire import FILES_MAX, PAGES_MAX, RANGES_MAX, SmallFile
from replicad.net.refusal import Code, Refused

BATCH_BYTES = 1_048_576
"""Of small files handed to a thread at once: enough to make the handing over cheap."""
RANGES_BYTES = 256 * 1_048_576
"""Of one large file asked for in one request: what arrived by then is counted and copied to where it occurs again."""
ONE_RANGE_BYTES = 64 * 1_048_576

T = TypeVar("T")


class Content(Protocol):
    """net.content_client.ContentClient."""

    def files(
        self, member_id: MemberId, folder: FolderId, items: Sequence[SmallFile]
    ) -> AsyncGenerator[tuple[int, bytes | bytearray | None], None]: ...
    def manifest(
        self, member_id: MemberId, folder: FolderId, uid: Uid, digest: bytes, pages: Sequence[bytes] = ()
    ) -> Awaitable[list[bytes]]: ...
    def ranges(
        self, member_id: MemberId, folder: FolderId, uid: Uid, digest: bytes, ranges: Sequence[tuple[int, int]]
    ) -> AsyncGenerator[tuple[int, bytes | bytearray], None]: ...


ManifestOf = Callable[[bytes], Manifest | None]
"""The manifest of a content by its digest, where this member has it; blocking, called in threads."""


class MismatchError(PeerError):
    """What the peer sent is not what was asked for."""


class Fetcher:
    """Of one folder. `threads` is shared with others."""

    def __init__(
        self, folder: FolderId, fs: FileSystem, content: Content, manifest_of: ManifestOf, threads: Executor
    ) -> None:
        self._folder = folder
        self._fs = fs
        self._content = content
        self._manifest_of = manifest_of
        self._threads = threads

    async def fetch(self, wanted: Fetch) -> Fetched:
        """One answer, with every item of `wanted`."""
        small = [item for item in wanted.items if item.size <= SMALL_FILE_BYTES]
        results: dict[Uid, FetchedItem] = {}
        for begin in range(0, len(small), FILES_MAX):
            results.update(await self._fetch_small(wanted.peer, small[begin : begin + FILES_MAX]))
        for item in wanted.items:
            if item.size > SMALL_FILE_BYTES:
                results[item.uid] = await self._fetch_large(wanted.peer, item)
        return Fetched(wanted.ticket, tuple(results[item.uid] for item in wanted.items))

    # -- small files

    async def _fetch_small(self, peer: MemberId, items: Sequence[WantedContent]) -> dict[Uid, FetchedItem]:
        results: dict[Uid, FetchedItem] = {}
        writing: asyncio.Future[dict[Uid, FetchedItem]] | None = None
        reason = "the transfer broke off"
        try:
            async for batch in self._small_batches(peer, items):
                if writing is not None:
                    results.update(await writing)
                writing = self._thread(self._write_small, batch)
        except PeerError as error:
            reason = str(error)
        finally:
            if writing is not None:
                written = await _finished(writing)
                results.update(written)
        missing = [item for item in items if item.uid not in results]
        results.update((item.uid, _failed(item, reason)) for item in missing)
        return await self._in_thread(self._sync, results)

    async def _small_batches(
        self, peer: MemberId, items: Sequence[WantedContent]
    ) -> AsyncGenerator[list[tuple[WantedContent, bytes | bytearray | None]], None]:
        """What arrives, in batches; equal contents are asked for once."""
        same: dict[bytes, list[WantedContent]] = {}
        for item in items:
            same.setdefault(item.digest, []).append(item)
        asked = [SmallFile(first.uid, digest, first.size) for digest, (first, *_) in same.items()]
        batch: list[tuple[WantedContent, bytes | bytearray | None]] = []
        size = 0
        try:
            async with aclosing(self._content.files(peer, self._folder, asked)) as arriving:
                async for index, body in arriving:
                    batch.extend((item, body) for item in same[asked[index].digest])
                    size += len(body or b"")
                    if size >= BATCH_BYTES:
                        yield batch
                        batch, size = [], 0
        except PeerError:
            yield batch  # what came before the link broke counts
            raise
        if batch:
            yield batch

    def _write_small(self, batch: Sequence[tuple[WantedContent, bytes | bytearray | None]]) -> dict[Uid, FetchedItem]:
        results = {}
        for item, body in batch:
            if body is None:
                results[item.uid] = _failed(item, "the source no longer has it", gone=True)
            elif len(body) != item.size or blake3(body).digest() != item.digest:
                results[item.uid] = _failed(item, "what the source sent is not this content")
            else:
                results[item.uid] = self._write_one(item, body)
        return results

    def _write_one(self, item: WantedContent, body: bytes | bytearray) -> FetchedItem:
        path = _staged_path(item)
        try:
            try:
                file = self._fs.create(path)
            except FileExistsError:
                self._fs.unlink(path)  # what an earlier attempt left: perhaps half of it
                file = self._fs.create(path)
            with file:
                if len(body) >= BLOCK_BYTES:
                    file.truncate(len(body))
                write_sparse(file, 0, body)
        except OSError as error:
            self._make_room(error, path)
            return _failed(item, _disk(error))
        return FetchedItem(item.uid, item.digest, item.staged)

    def _make_room(self, error: OSError, path: bytes) -> None:
        """Where the disk is full, what came of a file goes again: it must not take the room of those that fit (I10)."""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            with suppress(OSError):
                self._fs.unlink(path)

    def _check_room(self, item: WantedContent, chunks: Sequence[Chunk]) -> None:
        """Raises FileTrouble before anything is fetched that does not fit on the disk. Holes take no room."""
        free = self._fs.free_bytes()
        if item.size <= free or self._fs.stat(_staged_path(item)) is not None:
            return
        hole = {length: chunk_name(bytes(length)) for length in {chunk.length for chunk in chunks}}
        needed = sum(chunk.length for chunk in chunks if chunk.name != hole[chunk.length])
        if needed > free:
            text = f"no room on the folder's disk: the file needs {needed} bytes, and {free} are free"
            raise FileTrouble(_staged_path(item), text)

    def _sync(self, results: dict[Uid, FetchedItem]) -> dict[Uid, FetchedItem]:
        """Rule 1: what was written counts when it is durable."""
        if not any(_is_staged(item) for item in results.values()):
            return results
        try:
            self._fs.sync_all()
        except OSError as error:
            reason = _disk(error)
            return {
                uid: FetchedItem(uid, item.digest, item.staged, reason) if _is_staged(item) else item
                for uid, item in results.items()
            }
        return results

    # -- a large file

    async def _fetch_large(self, peer: MemberId, item: WantedContent) -> FetchedItem:
        try:
            manifest = await self._get_manifest(peer, item)
            chunks = await self._in_thread(decode, manifest, item.size)
            await self._in_thread(self._check_room, item, chunks)
            assembly = await self._in_thread(Assembly, self._fs, _staged_path(item), chunks)
            try:
                return await self._assemble(peer, item, assembly, manifest)
            finally:
                await self._in_thread(assembly.close)
        except Refused as refusal:
            return _failed(item, str(refusal), gone=refusal.code == Code.GONE)
        except PeerError as error:
            return _failed(item, str(error))
        except OSError as error:
            await self._in_thread(self._make_room, error, _staged_path(item))
            return _failed(item, _disk(error))
        except FileTrouble as trouble:
            return _failed(item, trouble.reason)

    async def _get_manifest(self, peer: MemberId, item: WantedContent) -> Manifest:
        """This member's own, or the peer's, of which only pages are fetched that no local version has."""
        own = await self._in_thread(self._manifest_of, item.digest)
        if own is not None:
            return own
        raw_top = (await self._content.manifest(peer, self._folder, item.uid, item.digest))[0]
        top = await self._in_thread(decode_top, raw_top, item.size)
        pages: dict[bytes, bytes] = {}
        for _, digest in item.local:
            local = await self._in_thread(self._manifest_of, digest)
            if local is not None:
                pages.update(await self._in_thread(_pages_of, local))
        missing = missing_pages(top, frozenset(pages))
        for begin in range(0, len(missing), PAGES_MAX):
            asked = missing[begin : begin + PAGES_MAX]
            got = await self._content.manifest(
                peer, self._folder, item.uid, item.digest, [entry.digest for entry in asked]
            )
            pages.update((entry.digest, page) for entry, page in zip(asked, got, strict=True))
        return Manifest(raw_top, tuple(pages[entry.digest] for entry in top.pages))

    async def _assemble(
        self, peer: MemberId, item: WantedContent, assembly: Assembly, manifest: Manifest
    ) -> FetchedItem:
        await self._in_thread(assembly.take_found)
        for path, digest in item.local:
            local = await self._in_thread(self._local_file, path, digest)
            if local is not None:
                await self._in_thread(assembly.take_local, local)
        while ranges := await self._in_thread(assembly.missing, RANGES_BYTES, RANGES_MAX):
            await self._get_ranges(peer, item, assembly, ranges)
            if not await self._in_thread(assembly.fetched, ranges):
                break  # nothing has the name that the manifest gives it
        verdict = await self._in_thread(assembly.verify, item.digest)
        if not verdict.digest_right:
            await self._in_thread(assembly.forget)
            everything = await self._in_thread(assembly.all_ranges, ONE_RANGE_BYTES)
            await self._get_ranges(peer, item, assembly, everything)
            verdict = await self._in_thread(assembly.verify, item.digest)
        if not verdict.digest_right:
            raise MismatchError("what the source sent is not this content")
        await self._in_thread(assembly.sync)
        if not verdict.names_right:
            manifest = await self._in_thread(self._described, _staged_path(item))
        return FetchedItem(item.uid, item.digest, item.staged, manifest=encode_whole(manifest))

    async def _get_ranges(
        self, peer: MemberId, item: WantedContent, assembly: Assembly, ranges: Sequence[tuple[int, int]]
    ) -> None:
        writing: asyncio.Future[None] | None = None
        try:
            asked = self._content.ranges(peer, self._folder, item.uid, item.digest, ranges)
            async with aclosing(asked) as arriving:
                async for offset, data in arriving:
                    if writing is not None:
                        await writing
                    writing = self._thread(assembly.write, offset, data)
        finally:
            if writing is not None:
                await _finished(writing)

    def _local_file(self, path: bytes, digest: bytes) -> LocalFile | None:
        manifest = self._manifest_of(digest)
        if manifest is None:
            return None
        try:
            return LocalFile(path, _chunks_of(manifest))
        except PeerError:
            return None  # a manifest that came from a peer, and never described its file

    def _described(self, path: bytes) -> Manifest:
        """A manifest made from the file, where the peer's does not describe it."""
        stat = self._fs.stat(path)
        assert stat is not None, "the staged file is ours"
        hashed = hash_file(self._fs, path, stat)
        if isinstance(hashed, BeingWritten) or hashed.manifest is None:
            raise FileTrouble(path, "the staged file changed while it was read")
        return hashed.manifest

    # -- threads

    def _thread(self, function: Callable[..., T], *arguments: object) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    async def _in_thread(self, function: Callable[..., T], *arguments: object) -> T:
        """Cancelled, it still waits for the thread: nothing may go on in a file that is closed beneath it."""
        future = self._thread(function, *arguments)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            raise


async def _finished(future: asyncio.Future[T]) -> T:
    """The result of a thread's work, which goes on whatever becomes of us."""
    await asyncio.wait([future])
    return future.result()


def _chunks_of(manifest: Manifest) -> list[Chunk]:
    """Raises ProtocolError."""
    try:
        size = msgspec.msgpack.decode(manifest.top, type=Top).size
    except msgspec.MsgspecError as error:
        raise ProtocolError(f"manifest: {error}") from error
    return decode(manifest, size)


def _pages_of(manifest: Manifest) -> dict[bytes, bytes]:
    return {page_digest(page): page for page in manifest.pages}


def _staged_path(item: WantedContent) -> bytes:
    return STAGING_PATH + b"/" + item.staged


def _is_staged(item: FetchedItem) -> bool:
    return not item.reason and not item.gone


def _failed(item: WantedContent, reason: str, *, gone: bool = False) -> FetchedItem:
    return FetchedItem(item.uid, item.digest, item.staged, reason, gone=gone)


def _disk(error: OSError) -> str:
    return f"cannot be staged: {error.strerror or error}; see to the folder's disk"
