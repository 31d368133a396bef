"""Content into staging: batches, chunks that are here already, peers that lie, links that break."""

from __future__ import annotations

import asyncio
import errno
import random
from collections.abc import AsyncGenerator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from blake3 import blake3

from replicad.core.effects import Fetch, Fetched, FetchedItem, WantedContent
from replicad.core.manifest import Manifest, decode_top, decode_whole, page_digest
from replicad.engine.fetcher import Fetcher
from replicad.errors import PeerError
from replicad.files.fs import FileSystem, OpenFile
from replicad.files.hashing import Hashed, hash_file
from replicad.files.real_fs import RealFileSystem
from replicad.net.content_wire import SmallFile
from replicad.net.refusal import Code, Refused
from tests.sim.memory_fs import MemoryFileSystem

FOLDER = bytes(16)
PEER = "ab" * 32
Local = tuple[tuple[bytes, bytes], ...]


class Source:
    """A peer: contents by digest. Counts what it is asked for, and may lie or break off."""

    def __init__(self) -> None:
        self.contents: dict[bytes, bytes] = {}
        self.manifests: dict[bytes, Manifest] = {}
        self.asked_files: list[int] = []
        self.asked_ranges: list[list[tuple[int, int]]] = []
        self.asked_pages = 0
        self.breaks_after: int | None = None
        """Bytes, over all requests."""
        self.corrupt_once: set[bytes] = set()

    def add(self, data: bytes) -> bytes:
        digest = blake3(data).digest()
        self.contents[digest] = data
        if len(data) > 131_072:
            self.manifests[digest] = manifest_of(data)
        return digest

    def _sent(self, count: int) -> None:
        if self.breaks_after is not None:
            self.breaks_after -= count
            if self.breaks_after < 0:
                raise PeerError("the link was lost")

    async def files(
        self, member_id: str, folder: bytes, items: Sequence[SmallFile]
    ) -> AsyncGenerator[tuple[int, bytes | bytearray | None], None]:
        self.asked_files.append(len(items))
        for index, item in enumerate(items):
            data = self.contents.get(item.digest)
            self._sent(len(data or b""))
            yield index, data
            await asyncio.sleep(0)

    async def manifest(
        self, member_id: str, folder: bytes, uid: bytes, digest: bytes, pages: Sequence[bytes] = ()
    ) -> list[bytes]:
        found = self.manifests.get(digest)
        if found is None:
            raise Refused(Code.GONE, "not here any more")
        if not pages:
            return [found.top]
        self.asked_pages += len(pages)
        by_digest = {page_digest(page): page for page in found.pages}
        return [by_digest[page] for page in pages]

    async def ranges(
        self, member_id: str, folder: bytes, uid: bytes, digest: bytes, ranges: Sequence[tuple[int, int]]
    ) -> AsyncGenerator[tuple[int, bytes | bytearray], None]:
        self.asked_ranges.append(list(ranges))
        data = self.contents[digest]
        if digest in self.corrupt_once:
            self.corrupt_once.discard(digest)
            data = bytes(len(data))
        for offset, length in ranges:
            for at in range(offset, offset + length, 1 << 20):
                piece = data[at : min(at + (1 << 20), offset + length)]
                self._sent(len(piece))
                yield at, piece
                await asyncio.sleep(0)

    @property
    def sent_ranges(self) -> int:
        return sum(length for ranges in self.asked_ranges for _, length in ranges)


def manifest_of(data: bytes) -> Manifest:
    fs = MemoryFileSystem(lambda: 1)
    with fs.create(b"x") as file:
        file.write_at(0, data)
    stat = fs.stat(b"x")
    assert stat is not None
    hashed = hash_file(fs, b"x", stat)
    assert isinstance(hashed, Hashed)
    assert hashed.manifest is not None
    return hashed.manifest


class Bench:
    def __init__(self, fs: FileSystem | None = None) -> None:
        self.fs = fs if fs is not None else MemoryFileSystem(lambda: 1)
        self.fs.make_dir(b".replicad", 0o700)
        self.fs.make_dir(b".replicad/staging", 0o700)
        self.source = Source()
        self.known: dict[bytes, Manifest] = {}
        self.threads = ThreadPoolExecutor(1)
        self.fetcher = Fetcher(FOLDER, self.fs, self.source, self.known.get, self.threads)

    def wanted(
        self, number: int, data: bytes, digest: bytes, local: tuple[tuple[bytes, bytes], ...] = ()
    ) -> WantedContent:
        return WantedContent(number.to_bytes(16, "big"), digest, len(data), b"new-%d" % number, local)

    async def fetch(self, *items: WantedContent) -> Fetched:
        answer = await asyncio.wait_for(self.fetcher.fetch(Fetch(7, PEER, items)), 30)
        assert answer.ticket == 7
        assert [item.uid for item in answer.items] == [item.uid for item in items]
        return answer

    async def fetch_one(self, data: bytes, digest: bytes, local: Local = ()) -> FetchedItem:
        return (await self.fetch(self.wanted(1, data, digest, local))).items[0]

    def staged(self, number: int = 1) -> bytes:
        with self.fs.open_read(b".replicad/staging/new-%d" % number) as file:
            return file.read_at(0, 1 << 30)

    def put(self, path: bytes, data: bytes) -> bytes:
        """A file of this member's own, whose manifest is known."""
        with self.fs.create(path) as file:
            file.write_at(0, data)
        digest = blake3(data).digest()
        self.known[digest] = manifest_of(data)
        return digest


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.threads.shutdown()


def some(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


async def test_small_files_come_in_one_request_and_equal_ones_travel_once(bench: Bench) -> None:
    datas = [b"", b"x", some(131_072), some(100), some(100)]
    items = [bench.wanted(n, data, bench.source.add(data)) for n, data in enumerate(datas)]
    answer = await bench.fetch(*items)
    assert all(not item.reason and not item.gone for item in answer.items)
    assert [bench.staged(n) for n in range(5)] == datas
    assert bench.source.asked_files == [4]


async def test_i10_one_bad_file_does_not_stop_the_others(bench: Bench) -> None:
    good, bad, gone = b"good", b"bad", b"gone"
    digests = [bench.source.add(data) for data in (good, bad, gone)]
    bench.source.contents[digests[1]] = b"BAD"
    del bench.source.contents[digests[2]]
    items = [bench.wanted(n, data, digests[n]) for n, data in enumerate((good, bad, gone))]
    first, second, third = (await bench.fetch(*items)).items
    assert (first.reason, first.gone) == ("", False)
    assert (second.reason, second.gone) == ("what the source sent is not this content", False)
    assert third.gone
    assert bench.fs.stat(b".replicad/staging/new-1") is None


async def test_what_had_come_before_the_link_broke_is_staged(bench: Bench) -> None:
    datas = [some(1_000, n) for n in range(10)]
    items = [bench.wanted(n, data, bench.source.add(data)) for n, data in enumerate(datas)]
    bench.source.breaks_after = 4_500
    answer = await bench.fetch(*items)
    assert [item.reason for item in answer.items] == [""] * 4 + ["the link was lost"] * 6
    assert [bench.staged(number) for number in range(4)] == datas[:4]


async def test_a_large_file_comes_by_its_manifest_and_is_verified(bench: Bench) -> None:
    data = some(3_000_000)
    item = await bench.fetch_one(data, bench.source.add(data))
    assert not item.reason
    assert bench.staged() == data
    assert decode_whole(item.manifest) == manifest_of(data)
    assert bench.source.sent_ranges == len(data)
    assert len(bench.source.asked_ranges) == 1


@pytest.mark.requirement("R14")
async def test_only_chunks_travel_that_no_local_file_has(bench: Bench) -> None:
    old = some(4_000_000)
    new = old[:2_000_000] + b"an insertion" + old[2_000_000:]
    local = bench.put(b"old", old)
    item = await bench.fetch_one(new, bench.source.add(new), ((b"old", local),))
    assert not item.reason
    assert bench.staged() == new
    assert 0 < bench.source.sent_ranges < 1_000_000


async def test_pages_that_an_older_version_has_are_not_fetched(bench: Bench) -> None:
    old = some(60_000_000)
    new = old[:-5] + b"other"
    local = bench.put(b"old", old)
    digest = bench.source.add(new)
    await bench.fetch_one(new, digest, ((b"old", local),))
    pages = len(decode_top(bench.source.manifests[digest].top, len(new)).pages)
    assert bench.source.asked_pages < pages


@pytest.mark.requirement("R15")
async def test_a_broken_transfer_goes_on_from_the_chunks_that_came(bench: Bench) -> None:
    data = some(6_000_000)
    digest = bench.source.add(data)
    bench.source.breaks_after = 4_000_000
    assert (await bench.fetch_one(data, digest)).reason == "the link was lost"
    bench.source.breaks_after = None
    bench.source.asked_ranges.clear()
    item = await bench.fetch_one(data, digest)
    assert not item.reason
    assert bench.staged() == data
    assert bench.source.sent_ranges < 4_000_000


async def test_equal_chunks_of_one_file_travel_once(bench: Bench) -> None:
    data = bytes(10_000_000)
    item = await bench.fetch_one(data, bench.source.add(data))
    assert not item.reason
    assert bench.staged() == data
    assert bench.source.sent_ranges < 1_000_000


async def test_a_mismatch_fetches_the_whole_file_once_more_without_reuse(bench: Bench) -> None:
    data = some(2_000_000)
    digest = bench.source.add(data)
    bench.source.corrupt_once.add(digest)
    item = await bench.fetch_one(data, digest)
    assert not item.reason
    assert bench.staged() == data
    assert bench.source.asked_ranges[-1] == [(0, len(data))]


async def test_a_peer_that_sends_something_else_again_and_again_is_at_fault(bench: Bench) -> None:
    data = some(2_000_000)
    digest = bench.source.add(data)
    bench.source.contents[digest] = some(2_000_000, seed=2)
    assert (await bench.fetch_one(data, digest)).reason == "what the source sent is not this content"


async def test_a_manifest_that_does_not_describe_its_file_is_not_passed_on(bench: Bench) -> None:
    data = some(2_000_000)
    digest = bench.source.add(data)
    bench.source.manifests[digest] = manifest_of(some(2_000_000, seed=3))
    item = await bench.fetch_one(data, digest)
    assert not item.reason
    assert bench.staged() == data
    assert decode_whole(item.manifest) == manifest_of(data)


async def test_a_manifest_that_breaks_the_rules_is_the_peers_fault(bench: Bench) -> None:
    data = some(2_000_000)
    digest = bench.source.add(data)
    bench.source.manifests[digest] = manifest_of(some(1_000_000))
    item = await bench.fetch_one(data, digest)
    assert "manifest" in item.reason
    bench.source.manifests.clear()
    assert (await bench.fetch_one(data, digest)).gone


async def test_a_full_disk_is_the_reason(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bench.fs, "create", full)
    small, large = b"x", some(200_000)
    items = [bench.wanted(n, data, bench.source.add(data)) for n, data in enumerate((small, large))]
    reasons = [item.reason for item in (await bench.fetch(*items)).items]
    assert reasons == ["cannot be staged: No space left on device; see to the folder's disk"] * 2


async def test_a_file_that_does_not_fit_is_not_begun(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.fs, "free_bytes", lambda: 1_000_000)
    data = some(2_000_000)
    item = await bench.fetch_one(data, bench.source.add(data))
    assert item.reason == "no room on the folder's disk: the file needs 2000000 bytes, and 1000000 are free"
    assert bench.source.sent_ranges == 0
    assert bench.fs.list_dir(b".replicad/staging") == []


async def test_holes_need_no_room(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.fs, "free_bytes", lambda: 1_500_000)
    data = some(1_000_000) + bytes(20_000_000)
    assert not (await bench.fetch_one(data, bench.source.add(data))).reason


@pytest.mark.parametrize("size", [100, 2_000_000])
async def test_i10_what_came_of_a_file_that_filled_the_disk_leaves_room_for_others(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    def full(offset: int, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    create = bench.fs.create

    def create_on_full_disk(path: bytes) -> OpenFile:
        file = create(path)
        monkeypatch.setattr(file, "write_at", full)
        return file

    monkeypatch.setattr(bench.fs, "create", create_on_full_disk)
    data = some(size)
    assert "No space left" in (await bench.fetch_one(data, bench.source.add(data))).reason
    assert bench.fs.list_dir(b".replicad/staging") == []


async def test_what_cannot_be_synced_is_not_staged(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(bench.fs, "sync_all", fail)
    assert "Input/output error" in (await bench.fetch_one(b"x", bench.source.add(b"x"))).reason


@pytest.mark.parametrize("size", [131_072, 2_000_000])
async def test_what_arrives_has_holes_where_it_has_zeros(tmp_path: Path, size: int) -> None:
    """A small file; a large one, of whose chunks one is here, one is fetched, and the rest is copied from these."""
    bench = Bench(RealFileSystem(tmp_path))
    data = some(9_000) + bytes(size - 18_000) + some(9_000, 2)
    local = (b"local", bench.put(b"local", some(9_000) + bytes(size))) if size > 131_072 else None
    done = await bench.fetch_one(data, bench.source.add(data), (local,) if local else ())
    assert (done.reason, done.gone) == ("", False)
    assert bench.staged() == data
    assert (tmp_path / ".replicad/staging/new-1").stat().st_blocks * 512 <= 32_768
    bench.threads.shutdown()
    bench.fs.close()
