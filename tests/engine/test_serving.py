"""What is served of a folder: only what is installed, and only while the disk still shows it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from blake3 import blake3
from msgspec import structs

from replicad.catalog.changes import Manifest as ManifestRow
from replicad.catalog.changes import PutManifest
from replicad.catalog.store import Catalog, Reader
from replicad.core.draft import Draft
from replicad.core.ids import ROOT, uid_of
from replicad.core.manifest import encode_whole, page_digest
from replicad.core.records import DIRECTORY, FILE, Content, Place, record
from replicad.core.view import ROOT_NODE, Node, ObjectState
from replicad.engine import readers
from replicad.engine.readers import YOUNG_S, Readers
from replicad.engine.serving import ContentShelf, FolderContent
from replicad.errors import CatalogError
from replicad.files.hashing import Hashed, hash_file
from replicad.files.real_fs import RealFileSystem

FOLDER = b"f" * 16
MEMBER = "ab" * 32


class Bench:
    """A folder on a real disk, with a catalog that believes what is put into it."""

    def __init__(self, base: Path) -> None:
        (base / "docs").mkdir()
        self.root = base / "docs"
        self.fs = RealFileSystem(self.root)
        self.catalog = Catalog.open(base / "catalog.db", FOLDER, lambda: 99)
        draft = Draft(self.catalog)
        draft.put_node(Node(ROOT_NODE, 0, b"", DIRECTORY, 1, 0, 0, 0, 0, 0o755))
        self.catalog.commit(draft, now_ms=1)
        self.opened = 0
        self.sweeps: list[float] = []
        self.readers = Readers(self._open, self.sweeps.append)
        self.content = FolderContent(self.fs, self.readers)
        self.shelf = ContentShelf(lambda member, folder: member == MEMBER)
        self.shelf.add(FOLDER, self.content)

    def _open(self) -> Reader:
        self.opened += 1
        return self.catalog.reader()

    def install(self, name: bytes, data: bytes) -> tuple[bytes, bytes]:
        """A file and its record, as if scanned or installed; (uid, digest)."""
        (self.root / os.fsdecode(name)).write_bytes(data)
        stat = self.fs.stat(name)
        assert stat is not None
        digest = blake3(data).digest()
        draft = Draft(self.catalog)
        cn = draft.allocate()
        place = Place(cn.replica, cn.counter, 5, (), ROOT, name, ROOT, b"")
        content = Content(cn.replica, cn.counter, 5, (), None, stat.mode, stat.mtime_ns, stat.size, digest, b"")
        node = draft.new_node_id()
        draft.put_node(
            Node(node, ROOT_NODE, name, FILE, stat.inode, stat.size, stat.mtime_ns, stat.ctime_ns, 0, stat.mode, cn)
        )
        draft.put(ObjectState(record(uid_of(cn), FILE, place, content), node=node))
        changes = []
        hashed = hash_file(self.fs, name, stat)
        if isinstance(hashed, Hashed) and hashed.manifest is not None:
            changes.append(PutManifest(ManifestRow(digest, encode_whole(hashed.manifest), stat.size)))
        self.catalog.commit(draft, changes, now_ms=2)
        return uid_of(cn), digest


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.content.close()
    made.readers.close()
    made.catalog.close()
    made.fs.close()


def test_what_is_installed_is_served(bench: Bench) -> None:
    uid, digest = bench.install(b"f", b"content")
    assert bench.shelf.open_small(FOLDER, uid, digest) == b"content"
    assert bench.shelf.read_range(FOLDER, uid, digest, 2, 3) == b"nte"


def test_a_folder_is_served_to_its_members_alone(bench: Bench) -> None:
    assert bench.shelf.may_read(MEMBER, FOLDER)
    assert not bench.shelf.may_read("cd" * 32, FOLDER)
    uid, digest = bench.install(b"f", b"content")
    bench.shelf.remove(FOLDER, bench.content)
    assert bench.shelf.open_small(FOLDER, uid, digest) is None
    assert bench.shelf.manifest(FOLDER, uid, digest, None) is None


def test_another_version_another_object_or_more_than_is_there_is_gone(bench: Bench) -> None:
    uid, digest = bench.install(b"f", b"content")
    assert bench.content.open_small(uid, bytes(32)) is None
    assert bench.content.open_small(bytes(16), digest) is None
    assert bench.content.read_range(uid, digest, 5, 3) is None


@pytest.mark.parametrize("change", ["edited", "replaced", "removed", "directory", "symlink"])
def test_a_file_that_is_no_longer_what_was_installed_is_gone(bench: Bench, change: str) -> None:
    uid, digest = bench.install(b"f", b"content")
    path = bench.root / "f"
    if change == "edited":
        path.write_bytes(b"CONTENT and more")
    else:
        path.rename(bench.root / "elsewhere")
    if change == "replaced":
        path.write_bytes(b"another")
    elif change == "directory":
        path.mkdir()
    elif change == "symlink":
        path.symlink_to("elsewhere")
    assert bench.content.open_small(uid, digest) is None


def test_a_file_that_was_renamed_after_the_snapshot_in_use_was_taken_is_served(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is told of the new name asks at once, while snapshots of before still count as young."""
    monkeypatch.setattr(readers, "YOUNG_S", 3600.0)
    uid, digest = bench.install(b"f", b"content")
    assert bench.content.open_small(uid, digest) == b"content"
    (bench.root / "f").rename(bench.root / "g")
    stat = bench.fs.stat(b"g")
    assert stat is not None
    draft = Draft(bench.catalog)
    state = bench.catalog.object(uid)
    assert state is not None
    assert state.node is not None
    node = bench.catalog.node(state.node)
    assert node is not None
    draft.put_node(structs.replace(node, name=b"g", ctime_ns=stat.ctime_ns))
    bench.catalog.commit(draft, now_ms=3)
    assert bench.content.open_small(uid, digest) == b"content"
    assert bench.content.read_range(uid, digest, 2, 3) == b"nte"


def test_a_small_file_that_has_only_grown_is_served_as_it_was(bench: Bench) -> None:
    """A log that is written to all the time would else be gone whenever somebody asks for it."""
    uid, digest = bench.install(b"log", b"one line\n")
    with (bench.root / "log").open("ab") as file:
        file.write(b"another line\n")
    assert bench.content.open_small(uid, digest) == b"one line\n"
    assert bench.content.read_range(uid, digest, 0, 3) is None, "of a part nobody knows whether it is the same"


def test_a_manifest_is_served_by_its_pages(bench: Bench) -> None:
    data = os.urandom(300_000)
    uid, digest = bench.install(b"large", data)
    held = bench.content.manifest_of(digest)
    assert held is not None
    assert bench.content.manifest(uid, digest, None) == held.top
    for page in held.pages:
        assert bench.content.manifest(uid, digest, page_digest(page)) == page
    assert bench.content.manifest(uid, digest, bytes(16)) is None
    assert bench.content.manifest(uid, bytes(32), None) is None
    assert bench.content.open_small(uid, digest) is None  # not a small file
    assert bench.content.read_range(uid, digest, 100, 1_000) == data[100:1_100]


def test_snapshots_are_used_again_while_they_are_young_and_closed_soon(bench: Bench) -> None:
    uid, digest = bench.install(b"f", b"content")
    for _ in range(50):
        assert bench.content.open_small(uid, digest) == b"content"
    assert bench.opened < 25  # half as many as there were requests, on however slow a machine
    assert bench.sweeps
    assert set(bench.sweeps) == {YOUNG_S}
    bench.readers.close()
    with pytest.raises(CatalogError), bench.readers.reader():
        pass


def test_however_many_want_to_see_this_very_moment_few_snapshots_stay_open(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "YOUNG_S", 3600.0)
    for _ in range(10 * readers.IDLE_MAX):
        with bench.readers.reader(fresh=True):
            pass
    logs = [link for link in Path("/proc/self/fd").iterdir() if str(link.resolve()).endswith("catalog.db-wal")]
    assert len(logs) <= 1 + readers.IDLE_MAX


def test_what_was_committed_a_moment_ago_is_served_although_a_snapshot_is_older(bench: Bench) -> None:
    one = bench.install(b"f", b"one")
    assert bench.content.open_small(*one) == b"one"
    two = bench.install(b"g", b"two")
    assert bench.content.open_small(*two) == b"two"


def test_closing_waits_for_reads_under_way_and_refuses_later_ones(bench: Bench) -> None:
    uid, digest = bench.install(b"f", b"content")
    closed = threading.Event()

    def close() -> None:
        bench.content.close()
        closed.set()

    with bench.content._under_way():
        thread = threading.Thread(target=close)
        thread.start()
        assert not closed.wait(0.05)
    assert closed.wait(10)
    thread.join()
    assert bench.content.open_small(uid, digest) is None
