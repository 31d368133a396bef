"""The scan on this machine's disk, with its inodes, clocks and inotify, and programs that really change files."""

from __future__ import annotations

import os
import queue
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from blake3 import blake3

from replicad.core.draft import Draft
from replicad.core.ids import Uid
from replicad.core.memory_view import MemoryView
from replicad.core.records import DIRECTORY, FILE
from replicad.core.tree import tree_of
from replicad.core.view import ROOT_NODE, Node
from replicad.engine.scan import Scanner
from replicad.files.changes import Change, Dirty, Marker, Moved
from replicad.files.linux import Features
from replicad.files.real_fs import RealFileSystem
from replicad.files.watch import Watcher

OLD_KERNEL = Features(openat2=False, statx=False)
"""Does not tell when an entry was made."""
TOLD_WITHIN_S = 10.0


class RealWorld:
    """A folder on the disk and its scanner."""

    def __init__(self, root: Path, features: Features | None) -> None:
        self.root = root
        (root / ".replicad" / "fence").mkdir(parents=True)
        (root / ".replicad" / "staging").mkdir()
        self.told: queue.Queue[Change] = queue.Queue()
        self.fs = RealFileSystem(root, features)
        self.watch = Watcher(self.fs, self.told.put)
        self.watch.watch_fence()
        self.view = MemoryView(b"folder, 16 bytes", 1)
        draft = Draft(self.view)
        draft.put_node(Node(ROOT_NODE, 0, b"", DIRECTORY, 0, 0, 0, 0, 0, 0o755))
        self.view.apply(draft)
        self.scanner = self._new_scanner()
        self._markers = 0

    def close(self) -> None:
        self.watch.close()
        self.fs.close()

    def live(self) -> None:
        """All events have come, all was looked at, and nothing is left that the times were too fresh for."""
        self._hear()
        while not self.scanner.at_rest or self.scanner.next_due_ms() is not None:
            self._step()

    def stopped(self) -> None:
        """No event has come."""
        self.scanner = self._new_scanner()
        while not self.scanner.idle:
            self._step()
        self.live()

    def uid(self, path: str) -> Uid:
        node = self.view.node(ROOT_NODE)
        for name in path.encode().split(b"/"):
            assert node is not None
            node = self.view.node_at(node.id, name)
        assert node is not None, f"no node for {path}"
        (uid,) = self.view.uids_at(node.id)
        return uid

    def assert_shown(self) -> None:
        found: dict[str, object] = {}
        for path, outcome in tree_of(self.view).items():
            state = self.view.object(outcome.lead)
            assert state is not None
            assert state.record.content is not None
            content = state.record.content
            found[path.decode()] = content.digest if outcome.kind == FILE else content.value or None
        assert found == self._disk()
        written = self.view.counter
        self.scanner.scan()
        self.live()
        assert self.view.counter == written, "an echo"

    def _new_scanner(self) -> Scanner:
        return Scanner(self.fs, self.watch, lambda: True, founding=lambda: False)

    def _hear(self) -> None:
        """Everything that the watch tells up to now reaches the scanner: proved by a marker that passes through it."""
        self._markers += 1
        name = b"%d" % self._markers
        self.fs.create(b".replicad/fence/" + name).close()
        while (change := self.told.get(timeout=TOLD_WITHIN_S)) != Marker(name):
            if isinstance(change, Dirty):
                self.scanner.hint(change.directory, change.name, change.inode)
            elif isinstance(change, Moved):
                self.scanner.moved(change.old, change.new)

    def _step(self) -> None:
        draft = Draft(self.view)
        due = self.scanner.next_due_ms()
        if self.scanner.idle and self.scanner.unresolved:
            self._hear()
            if self.scanner.idle:
                self.scanner.resolve(draft, time.time_ns())
        else:
            if self.scanner.idle and due is not None:
                try:
                    change = self.told.get(timeout=max(due / 1000 - time.time(), 0.001))
                    self.told.put(change)
                except queue.Empty:
                    pass  # it is due
            self.scanner.step(draft, time.time_ns())
        self.view.apply(draft)

    def _disk(self) -> dict[str, object]:
        found: dict[str, object] = {}
        for directory, names, files in os.walk(self.root):
            if ".replicad" in names:
                names.remove(".replicad")
            for name in [*names, *files]:
                path = Path(directory) / name
                at = str(path.relative_to(self.root))
                if path.is_symlink():
                    found[at] = os.fsencode(os.readlink(path))
                else:
                    found[at] = None if path.is_dir() else blake3(path.read_bytes()).digest()
        return found


Seen = Callable[[RealWorld], None]
SEEN = [pytest.param(RealWorld.live, id="live"), pytest.param(RealWorld.stopped, id="stopped")]


@pytest.fixture(params=[pytest.param(None, id="this-kernel"), pytest.param(OLD_KERNEL, id="old-kernel")])
def world(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[RealWorld]:
    made = RealWorld(tmp_path / "root", request.param)
    for directory in ("d", "d/e"):
        (made.root / directory).mkdir()
    for path in ("d/x", "d/e/y", "f", "g"):
        (made.root / path).write_text("content of " + path)
    made.live()
    yield made
    made.close()


def run(world: RealWorld, command: str) -> None:
    subprocess.run(["sh", "-ec", command], cwd=world.root, check=True, timeout=30)


@pytest.mark.parametrize("seen", SEEN)
def test_mv_of_files_and_directories(world: RealWorld, seen: Seen) -> None:
    uids = [world.uid(path) for path in ("d", "d/e/y", "f")]
    run(world, "mkdir n; mv d n/m; mv f n/m/h")
    seen(world)
    assert [world.uid(path) for path in ("n/m", "n/m/e/y", "n/m/h")] == uids
    world.assert_shown()


@pytest.mark.parametrize("seen", SEEN)
def test_swapped_names(world: RealWorld, seen: Seen) -> None:
    uids = [world.uid("f"), world.uid("g")]
    run(world, "mv f t; mv g f; mv t g")
    seen(world)
    assert [world.uid("g"), world.uid("f")] == uids
    world.assert_shown()


@pytest.mark.parametrize("seen", SEEN)
def test_sed_in_place_and_a_save_with_backup(world: RealWorld, seen: Seen) -> None:
    uids = [world.uid("f"), world.uid("g")]
    run(world, "sed -i s/content/edited/ f; mv g g.bak; echo saved > g")
    seen(world)
    assert [world.uid("f"), world.uid("g")] == uids
    assert world.uid("g.bak") not in uids
    world.assert_shown()


@pytest.mark.parametrize("seen", SEEN)
def test_a_tree_of_hard_links(world: RealWorld, seen: Seen) -> None:
    uids = [world.uid(path) for path in ("d", "d/x", "d/e/y")]
    run(world, "cp -al d copy")
    seen(world)
    assert [world.uid(path) for path in ("d", "d/x", "d/e/y")] == uids
    assert world.uid("copy/x") not in uids
    world.assert_shown()


@pytest.mark.parametrize("seen", SEEN)
def test_files_removed_and_made_while_inode_numbers_come_again(world: RealWorld, seen: Seen) -> None:
    gone = {world.uid(path) for path in ("f", "g", "d", "d/x")}
    shutil.rmtree(world.root / "d")
    run(world, "rm f g; mkdir n; echo new > n/1; echo newer > n/2; ln -s 1 n/l; mkdir n/m")
    seen(world)
    assert not gone & {world.uid(path) for path in ("n", "n/1", "n/2", "n/l", "n/m")}
    world.assert_shown()


@pytest.mark.parametrize("seen", SEEN)
def test_kinds_that_change_and_a_directory_in_its_own_place(world: RealWorld, seen: Seen) -> None:
    uid = world.uid("d")
    run(world, "rm f; mkdir f; echo in > f/in; rm g; ln -s nowhere g; mkdir n; mv d n/d; mv n d")
    seen(world)
    assert world.uid("d/d") == uid
    world.assert_shown()


@pytest.mark.parametrize("seen", SEEN)
def test_a_write_whose_mtime_is_set_back(world: RealWorld, seen: Seen) -> None:
    run(world, "touch -r f ref; printf 'CONTENT OF f' > f; touch -r ref f; rm ref")
    seen(world)
    world.assert_shown()


def test_many_files_made_at_once_are_all_seen(world: RealWorld) -> None:
    run(
        world,
        "for d in 1 2 3 4 5 6 7 8; do mkdir -p a/$d/b; for f in 1 2 3 4 5 6 7 8 9; do echo $d > a/$d/b/$f; done; done",
    )
    world.live()
    world.assert_shown()
