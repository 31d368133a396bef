"""Content that only lies among preserved files: served where a live record asks for it, and staged like any other."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from blake3 import blake3

from replicad.catalog.changes import CONFLICT_AND_DELETED, PRE_EXISTING, AddPreserved, Preserved, PutManifest
from replicad.catalog.changes import Manifest as ManifestRow
from replicad.catalog.store import Catalog, Reader
from replicad.core.draft import Draft
from replicad.core.effects import Fetch, FetchedItem, WantedContent
from replicad.core.fetching import HERE
from replicad.core.ids import ROOT, Uid
from replicad.core.manifest import encode_whole
from replicad.core.records import FILE, Content, Place, record
from replicad.core.view import ObjectState
from replicad.engine.disposal import store_path
from replicad.engine.fetcher import Fetcher
from replicad.engine.nearby import Nearby
from replicad.engine.serving import FolderContent
from replicad.files.hashing import Hashed, hash_file
from replicad.net.content_wire import SmallFile
from tests.sim.memory_fs import MemoryFileSystem

FOLDER = b"f" * 16
PEER = "ab" * 32
UID = b"u" * 16
LARGE = random.Random(1).randbytes(3_000_000)


class Peer:
    """Somebody else, who has one small file."""

    def __init__(self) -> None:
        self.asked = 0

    async def files(
        self, member_id: str, folder: bytes, items: Sequence[SmallFile]
    ) -> AsyncGenerator[tuple[int, bytes | bytearray | None], None]:
        self.asked += 1
        yield 0, b"from a peer"

    async def manifest(
        self, member_id: str, folder: bytes, uid: bytes, digest: bytes, pages: Sequence[bytes] = ()
    ) -> list[bytes]:
        raise AssertionError("nobody is to be asked")

    async def ranges(
        self, member_id: str, folder: bytes, uid: bytes, digest: bytes, ranges: Sequence[tuple[int, int]]
    ) -> AsyncGenerator[tuple[int, bytes | bytearray], None]:
        self.asked += 1
        for offset, length in ranges:
            yield offset, bytes(length)


class Bench:
    """A member that has nothing in its tree."""

    def __init__(self) -> None:
        self.fs = MemoryFileSystem(lambda: 1)
        for path in (b".replicad", b".replicad/staging", store_path(CONFLICT_AND_DELETED, b"").rstrip(b"/")):
            self.fs.make_dir(path, 0o700)
        self.fs.make_dir(store_path(PRE_EXISTING, b"").rstrip(b"/"), 0o700)
        self.catalog = Catalog.open(None, FOLDER, lambda: 99)
        self.threads = ThreadPoolExecutor(1)
        self.content = FolderContent(self.fs, self)  # type: ignore[arg-type]  # stands in for the readers
        self.peer = Peer()
        nearby = Nearby(self.content, self.peer, self.threads)
        self.fetcher = Fetcher(FOLDER, self.fs, nearby, self.content.manifest_of, self.threads)

    @contextmanager
    def reader(self, *, fresh: bool = False) -> Iterator[Reader]:
        yield self.catalog.reader()

    def wants(self, data: bytes, uid: Uid = UID) -> bytes:
        """A live record of a file with this content, which is not on the disk; its digest."""
        digest = blake3(data).digest()
        content = Content(7, 1, 5, (), None, 0o644, 0, len(data), digest, b"")
        draft = Draft(self.catalog)
        held = record(uid, FILE, Place(7, 1, 5, (), ROOT, b"n", ROOT, b""), content)
        draft.put(ObjectState(held, pending=True))
        self.catalog.commit(draft, now_ms=1)
        return digest

    def keep(self, data: bytes, store: str = CONFLICT_AND_DELETED) -> bytes:
        """A preserved file, and what is known of it; its path."""
        number = self.catalog.new_id()
        path = store_path(store, b"%d-n" % number)
        with self.fs.create(path) as file:
            file.write_at(0, data)
        row = Preserved(
            number, store, b"n", FILE, len(data), blake3(data).digest(), UID, None, 1, "why", b"%d-n" % number
        )
        stat = self.fs.stat(path)
        assert stat is not None
        hashed = hash_file(self.fs, path, stat)
        assert isinstance(hashed, Hashed)
        manifest = hashed.manifest
        known = [PutManifest(ManifestRow(row.digest, encode_whole(manifest), len(data)))] if manifest else []
        self.catalog.commit(None, [AddPreserved(row), *known], now_ms=1)
        return path

    async def fetch(self, data: bytes, peer: str = HERE) -> FetchedItem:
        item = WantedContent(UID, blake3(data).digest(), len(data), b"new-1")
        (got,) = (await self.fetcher.fetch(Fetch(1, peer, (item,)))).items
        return got

    def read(self, path: bytes) -> bytes:
        with self.fs.open_read(path) as file:
            return file.read_at(0, 1 << 30)


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.content.close()
    made.threads.shutdown()


@pytest.mark.parametrize("data", [b"", b"small", LARGE], ids=["empty", "small", "large"])
@pytest.mark.parametrize("store", [CONFLICT_AND_DELETED, PRE_EXISTING])
async def test_what_is_preserved_here_is_staged_and_stays_preserved(bench: Bench, data: bytes, store: str) -> None:
    bench.wants(data)
    path = bench.keep(data, store)
    got = await bench.fetch(data)
    assert (got.reason, got.gone) == ("", False)
    assert bench.read(b".replicad/staging/new-1") == data
    assert bench.read(path) == data


@pytest.mark.parametrize("data", [b"small", LARGE], ids=["small", "large"])
async def test_a_preserved_file_that_was_changed_or_thrown_away_is_not_staged(bench: Bench, data: bytes) -> None:
    bench.wants(data)
    path = bench.keep(data)
    with bench.fs.open_write(path) as file:
        file.write_at(0, bytes(len(data)))
    assert (await bench.fetch(data)).reason
    bench.fs.unlink(path)
    assert (await bench.fetch(data)).gone


async def test_a_copy_that_is_thrown_away_leaves_the_others(bench: Bench) -> None:
    bench.wants(b"small")
    bench.keep(b"small")
    bench.fs.unlink(bench.keep(b"small"))
    assert not (await bench.fetch(b"small")).reason
    assert bench.read(b".replicad/staging/new-1") == b"small"


async def test_what_is_to_come_from_a_peer_comes_from_the_peer(bench: Bench) -> None:
    bench.wants(b"from a peer")
    bench.keep(b"from a peer")
    assert not (await bench.fetch(b"from a peer", PEER)).reason
    assert bench.peer.asked == 1


def test_a_preserved_file_is_served_to_whom_a_live_record_sends(bench: Bench) -> None:
    digest = bench.wants(b"small")
    bench.keep(b"small")
    assert bench.content.open_small(UID, digest) == b"small"
    assert bench.content.read_range(UID, digest, 1, 2) == b"ma"


def test_i11_a_preserved_file_that_no_live_record_asks_for_is_not_served(bench: Bench) -> None:
    """A member may have what the folder's records name, and not what lies in another's stores besides."""
    bench.wants(b"small")
    bench.keep(b"secret")
    assert bench.content.open_small(UID, blake3(b"secret").digest()) is None
    assert bench.content.open_small(b"x" * 16, blake3(b"secret").digest()) is None
