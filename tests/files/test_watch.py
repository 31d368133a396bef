"""The watch on a real disk under load, at its limits, and at its start and end."""

import ctypes
import errno
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from watchdog.observers import inotify_c

from replicad.files.changes import (
    Change,
    Dirty,
    Listing,
    Marker,
    Moved,
    Overflow,
    RootGone,
    Unwatchable,
    walk_and_watch,
)
from replicad.files.fs import DIRECTORY, FILE, Stat
from replicad.files.paths import join
from replicad.files.real_fs import RealFileSystem
from replicad.files.watch import Watcher

WITHIN_S = 60


class Follower:
    """Looks at what is told, as an engine does, and remembers each file by its name, as it was when looked at."""

    def __init__(self, fs: RealFileSystem) -> None:
        self.fs = fs
        self.told: queue.SimpleQueue[Change] = queue.SimpleQueue()
        self.watch = Watcher(fs, self.told.put)
        self.seen: dict[bytes, Stat] = {}
        self.dirty: dict[tuple[int, bytes], None] = {}
        self.overflows = 0
        self.markers = 0
        assert self.watch.watch_fence()
        self.walk(b"")

    def walk(self, path: bytes) -> None:
        for listing in walk_and_watch(self.watch, self.fs, path):
            assert listing.watched
            self.seen.update((name, stat) for name, stat in listing.entries if stat.kind == FILE)

    def catch_up(self) -> None:
        """Until all that happened up to now has been told, and looked at."""
        while True:
            overflows = self.overflows
            self.markers += 1
            name = b"m%d" % self.markers
            self.fs.create(b".replicad/fence/" + name).close()
            while self.take(self.told.get(timeout=WITHIN_S)) != Marker(name):
                if self.overflows > overflows:
                    break
            else:
                for inode, name in list(self.dirty):
                    self.look(inode, name)
                if not self.dirty and self.told.empty():
                    return

    def take(self, change: Change) -> Change:
        if isinstance(change, Dirty):
            self.dirty[change.inode, change.name] = None
        elif isinstance(change, Overflow):
            self.overflows += 1
            self.dirty.clear()
            self.walk(b"")
        else:
            assert isinstance(change, (Marker, Moved)), change
        return change

    def look(self, inode: int, name: bytes) -> None:
        """Nothing is done where the directory is not there: more is about to be told of it. Through one handle: it may
        go and come back between two looks."""
        above = self.watch.where(inode)
        if above is not None:
            path = join(above, name)
            try:
                itself, found = self.fs.stat_in(above, name)
            except (FileNotFoundError, NotADirectoryError):
                return
            if itself.inode != inode:
                return
            if found is not None and found.kind == FILE:
                self.seen[name] = found
            elif found is not None and found.kind == DIRECTORY and name != b".replicad":
                if not self.watch.is_watched(path):
                    self.walk(path)
                if not self.watch.is_watched(path):
                    return
            directory = self.fs.stat(above)
            if directory is None or directory.inode != inode:
                return
        del self.dirty[inode, name]

    def missed(self) -> list[bytes]:
        """Files that are not known as they are."""
        missed: list[bytes] = []
        waiting = [b""]
        while waiting:
            path = waiting.pop()
            for name, stat in self.fs.list_dir(path):
                if stat.kind == DIRECTORY and name != b".replicad":
                    waiting.append(join(path, name))
                elif stat.kind == FILE and self.seen.get(name) != stat:
                    missed.append(join(path, name))
        return missed


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "root"
    (made / ".replicad" / "fence").mkdir(parents=True)
    return made


@pytest.fixture
def fs(root: Path) -> Generator[RealFileSystem, None, None]:
    made = RealFileSystem(root)
    yield made
    made.close()


@pytest.fixture
def follower(fs: RealFileSystem) -> Generator[Follower, None, None]:
    made = Follower(fs)
    yield made
    made.watch.close()


def run(root: Path, script: str) -> subprocess.Popen[bytes]:
    """A user in a process of its own, at work in the folder."""
    return subprocess.Popen([sys.executable, "-c", "import os\n" + script], cwd=root)


def test_a_burst_of_20000_files_in_200_directories_is_told_whole(root: Path, follower: Follower) -> None:
    user = run(
        root,
        "for d in range(200):\n"
        "    os.makedirs(f'top{d % 10}/d{d}')\n"
        "    for f in range(100):\n"
        "        with open(f'top{d % 10}/d{d}/f{d}-{f}', 'w') as file:\n"
        "            file.write(str(f))\n",
    )
    while user.poll() is None:
        follower.catch_up()
    assert user.returncode == 0
    follower.catch_up()
    assert len(follower.seen) >= 20_000
    assert follower.missed() == []


def test_a_storm_of_directory_renames_loses_nothing_that_is_written_beneath(root: Path, follower: Follower) -> None:
    user = run(
        root,
        "import random\n"
        "r = random.Random(5)\n"
        "tops = [f't{n}' for n in range(10)]\n"
        "for top in tops:\n"
        "    os.makedirs(f'{top}/s/u')\n"
        "for n in range(4000):\n"
        "    i = r.randrange(10)\n"
        "    new = f't{n + 10}'\n"
        "    with open(f'{tops[i]}/s/u/f{n % 500}-{i}', 'a') as file:\n"
        "        file.write('x')\n"
        "    os.rename(tops[i], new)\n"
        "    tops[i] = new\n"
        "    if n % 7 == 0:\n"
        "        os.rename(f'{new}/s/u', f'{new}/v')\n"
        "        os.rename(f'{new}/s', f'{new}/w')\n"
        "        os.rename(f'{new}/v', f'{new}/w/u')\n"
        "        os.rename(f'{new}/w', f'{new}/s')\n",
    )
    while user.poll() is None:
        follower.catch_up()
    assert user.returncode == 0
    follower.catch_up()
    assert follower.missed() == []
    for name, stat in follower.fs.list_dir(b""):
        assert stat.kind != DIRECTORY or name == b".replicad" or follower.watch.is_watched(name + b"/s/u"), name


def test_an_overflow_of_the_kernels_queue_is_told_and_nothing_is_lost(root: Path, fs: RealFileSystem) -> None:
    reading, go_on = threading.Event(), threading.Event()
    follower = Follower(fs)

    def stall(change: Change) -> None:
        reading.set()
        assert go_on.wait(WITHIN_S)
        follower.told.put(change)

    follower.watch._on_change = stall
    (root / "first").touch()
    assert reading.wait(WITHIN_S)
    queued_max = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    (root / "d").mkdir()
    for number in range(queued_max // 2 + 100):  # a file's coming and going are an event each
        (root / f"f{number}").touch()
        (root / f"f{number}").unlink()
    (root / "d" / "last").touch()
    go_on.set()
    follower.catch_up()
    assert follower.overflows == 1
    assert follower.missed() == []
    (root / "d" / "after").touch()
    follower.catch_up()
    assert follower.missed() == []
    follower.watch.close()
    assert threading.active_count() == 1


def test_an_overflow_is_told_before_anything_that_came_after_it(root: Path, fs: RealFileSystem) -> None:
    told: queue.SimpleQueue[Change] = queue.SimpleQueue()
    watch = Watcher(fs, told.put)
    assert watch.watch_fence()
    list(walk_and_watch(watch, fs, b""))
    watch.take_overflow(watch._generation)
    fs.create(b".replicad/fence/m").close()
    (root / "f").touch()
    assert told.get(timeout=WITHIN_S) == Overflow()
    assert told.get(timeout=WITHIN_S) == Marker(b"m")
    assert not watch.is_watched(b"")
    watch.close()


def test_directories_below_any_depth_are_watched(fs: RealFileSystem, follower: Follower) -> None:
    path = b""
    for _ in range(30):
        path = join(path, b"d" * 200)
        fs.make_dir(path, 0o755)
    follower.catch_up()
    assert len(path) > 4096
    fs.create(path + b"/f").close()
    follower.catch_up()
    assert b"f" in follower.seen
    assert follower.watch.is_watched(path)


def test_a_removed_directory_that_is_held_open_does_not_stand_for_the_new_one(root: Path, follower: Follower) -> None:
    (root / "d").mkdir()
    follower.catch_up()
    held = os.open(root / "d", os.O_RDONLY)
    (root / "d").rmdir()
    (root / "d").mkdir()
    (root / "d" / "f").touch()
    follower.catch_up()
    os.close(held)
    assert b"f" in follower.seen
    (root / "d" / "g").touch()
    follower.catch_up()
    assert b"g" in follower.seen


def test_a_rename_in_the_middle_of_a_walk_leaves_nothing_unwatched(
    root: Path, fs: RealFileSystem, follower: Follower
) -> None:
    """The walk has listed `a` when it becomes `z`, and another `a` takes its place."""
    for path in ("a/b/c", "other/b/x"):
        (root / path).mkdir(parents=True)
    walk = walk_and_watch(follower.watch, fs, b"a")
    assert next(walk).path == b"a"
    (root / "a").rename(root / "z")
    (root / "other").rename(root / "a")
    list(walk)
    follower.catch_up()
    for path in ("z/b/c/in-c", "a/b/x/in-x"):
        (root / path).touch()
    follower.catch_up()
    assert follower.missed() == []


# Limits.


def changes_of(fs: RealFileSystem, act: Callable[[Watcher], object]) -> list[Change]:
    told: list[Change] = []
    watch = Watcher(fs, told.append)
    act(watch)
    watch.close()
    return told


def fail_with(code: int) -> Callable[..., int]:
    def fail(*arguments: object) -> int:
        ctypes.set_errno(code)
        return -1

    return fail


def test_no_more_watches_is_an_error_that_names_the_limit(fs: RealFileSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inotify_c, "inotify_add_watch", fail_with(errno.ENOSPC))
    told = changes_of(fs, lambda watch: watch.watch_directory(b""))
    value = Path("/proc/sys/fs/inotify/max_user_watches").read_text().strip()
    [change] = told
    assert isinstance(change, Unwatchable)
    assert "fs.inotify.max_user_watches" in change.reason
    assert f"now {value}" in change.reason


def test_no_right_to_read_is_an_error_although_watchdog_takes_it_for_success(
    root: Path, fs: RealFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = inotify_c.inotify_add_watch
    (root / "d" / "below").mkdir(parents=True)
    (root / "e").mkdir()
    walked: list[tuple[bytes, bool]] = []

    def act(watch: Watcher) -> None:
        walk = walk_and_watch(watch, fs, b"")
        walked.append((next(walk).path, True))
        monkeypatch.setattr(inotify_c, "inotify_add_watch", fail_with(errno.EACCES))
        first = next(walk)
        monkeypatch.setattr(inotify_c, "inotify_add_watch", real)
        walked.append((first.path, first.watched))
        walked.extend((listing.path, listing.watched) for listing in walk)
        assert watch.watch_directory(b"d") is not None
        assert not watch.is_watched(b"d")

    told = changes_of(fs, act)
    assert told == [Unwatchable(b"d", "cannot be watched: Permission denied")]
    assert walked == [(b"", True), (b"d", False), (b"d/below", False), (b"e", True)]


def test_a_directory_that_may_not_be_read_is_told_and_listed_as_an_error(root: Path, fs: RealFileSystem) -> None:
    if os.geteuid() == 0:
        pytest.skip("root can read what no one may")
    (root / "d").mkdir(0o300)
    found: list[Listing] = []

    def act(watch: Watcher) -> None:
        found.extend(walk_and_watch(watch, fs, b""))

    told = changes_of(fs, act)
    (root / "d").chmod(0o700)
    assert told == [Unwatchable(b"d", "cannot be watched: Permission denied")]
    [listing] = [each for each in found if each.path == b"d"]
    assert isinstance(listing.error, PermissionError)
    assert not listing.watched


def test_no_more_instances_is_told_at_the_first_directory(fs: RealFileSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inotify_c, "inotify_init", fail_with(errno.EMFILE))
    told = changes_of(fs, lambda watch: watch.watch_directory(b""))
    [change] = told
    assert isinstance(change, Unwatchable)
    assert change.path == b""
    assert "fs.inotify.max_user_instances" in change.reason


@pytest.mark.parametrize(
    ("act", "how"),
    [
        (lambda root: root.rename(root.with_name("elsewhere")), "moved"),
        (lambda root: [(root / ".replicad").rmdir(), root.rmdir()], "removed"),
    ],
)
def test_i6_the_end_of_the_root_is_told(
    root: Path, fs: RealFileSystem, act: Callable[[Path], object], how: str
) -> None:
    told: queue.SimpleQueue[Change] = queue.SimpleQueue()
    watch = Watcher(fs, told.put)
    list(walk_and_watch(watch, fs, b""))
    (root / ".replicad" / "fence").rmdir()
    fs_of_root = os.open(root, os.O_RDONLY)
    os.close(fs_of_root)
    fs.close()  # an open handle would keep a removed root alive
    act(root)
    while (change := told.get(timeout=WITHIN_S)) != RootGone(f"the folder's root was {how}"):
        assert isinstance(change, Dirty)
    watch.close()


# Start and end.


def test_starting_and_stopping_leaves_no_thread_and_no_handle(fs: RealFileSystem) -> None:
    before = set(os.listdir("/proc/self/fd")), threading.active_count()
    for number in range(200):
        watch = Watcher(fs, lambda change: None)
        if number % 2:
            watch.watch_directory(b"")
        watch.close()
    assert (set(os.listdir("/proc/self/fd")), threading.active_count()) == before


def test_closing_in_the_middle_of_a_burst_ends_it(root: Path, fs: RealFileSystem) -> None:
    before = set(os.listdir("/proc/self/fd"))
    for _ in range(20):
        told: list[Change] = []
        some = threading.Event()

        def on_change(change: Change, told: list[Change] = told, some: threading.Event = some) -> None:
            told.append(change)
            some.set()

        watch = Watcher(fs, on_change)
        list(walk_and_watch(watch, fs, b""))
        for number in range(200):
            (root / f"f{number}").touch()
        assert some.wait(WITHIN_S)
        watch.close()
        count = len(told)
        (root / "late").touch()
        assert len(told) == count
        assert threading.active_count() == 1
    assert set(os.listdir("/proc/self/fd")) == before


def test_what_is_asked_of_a_closed_watch_is_refused_in_silence(fs: RealFileSystem) -> None:
    told: list[Change] = []
    watch = Watcher(fs, told.append)
    watch.close()
    watch.close()
    assert watch.watch_directory(b"") is None
    assert not watch.watch_fence()
    assert not watch.is_watched(b"")
    assert told == []
