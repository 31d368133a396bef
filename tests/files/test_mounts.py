"""What is mounted in a folder, as the system's table of mounts tells. With real mounts: tests/lab/test_mounts.py."""

from __future__ import annotations

import errno
import os
import queue
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from replicad.files.changes import Change, Dirty, RootGone
from replicad.files.mounts import SystemTable, changed_within, mount_points
from replicad.files.real_fs import RealFileSystem
from replicad.files.watch import Watcher

WITHIN_S = 60


def line(number: int, point: bytes) -> bytes:
    return b"%d 1 0:%d / %s rw,relatime shared:1 - tmpfs none rw\n" % (number, number, point)


class WrittenTable:
    """As the test says."""

    def __init__(self) -> None:
        self._lines: dict[int, bytes] = {1: line(1, b"/")}
        self._changes: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._ended = threading.Event()
        self.fails = False
        self.closed = False

    def mount(self, number: int, point: Path | str) -> None:
        escaped = os.fsencode(point).replace(b"\\", b"\\134").replace(b" ", b"\\040").replace(b"\n", b"\\012")
        self._lines = {**self._lines, number: line(number, escaped)}
        self._changes.put(True)

    def unmount(self, number: int) -> None:
        self._lines = {key: text for key, text in self._lines.items() if key != number}
        self._changes.put(True)

    def fail(self) -> None:
        self.fails = True
        self._changes.put(True)

    def read(self) -> bytes:
        if self.fails:
            raise OSError(errno.EIO, "")
        return b"".join(self._lines.values())

    def wait(self) -> bool:
        return self._changes.get()

    def rest(self, seconds: float) -> bool:
        return not self._ended.is_set()

    def end(self) -> None:
        self._ended.set()
        self._changes.put(False)

    def close(self) -> None:
        self.closed = True


class Watched:
    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir()
        self.table = WrittenTable()
        self.fs = RealFileSystem(root)
        self.told: queue.SimpleQueue[Change] = queue.SimpleQueue()
        self.watch = Watcher(self.fs, self.told.put, lambda: self.table)

    def next(self) -> Change:
        return self.told.get(timeout=WITHIN_S)

    def close(self) -> None:
        self.watch.close()
        self.fs.close()


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    made = Watched(tmp_path / "root")
    yield made
    made.close()


def test_a_mount_and_an_unmount_are_told_as_changes_of_the_entry_that_is_covered(watched: Watched) -> None:
    watched.table.mount(2, watched.root / "d" / "two words\nand \\ lines")
    covered = Dirty(b"d", b"two words\nand \\ lines")
    assert watched.next() == covered
    watched.table.mount(3, watched.root / "top")
    assert watched.next() == Dirty(b"", b"top")
    watched.table.unmount(2)
    assert watched.next() == covered


def test_another_mount_over_the_same_place_is_a_change(watched: Watched) -> None:
    for number in (2, 3):
        watched.table.mount(number, watched.root / "d")
        assert watched.next() == Dirty(b"", b"d")
    watched.table.unmount(3)
    assert watched.next() == Dirty(b"", b"d")


def test_what_is_mounted_elsewhere_is_not_told(watched: Watched) -> None:
    beside = watched.root.with_name("rootbeside") / "d"
    for number, place in enumerate((Path("/"), Path("/elsewhere"), beside, watched.root, watched.root.parent), 2):
        watched.table.mount(number, place)
    watched.table.mount(9, watched.root / "d")
    assert watched.next() == Dirty(b"", b"d")
    assert watched.told.empty()


def test_a_folder_that_was_moved_is_known_where_it_is(watched: Watched) -> None:
    watched.root.rename(watched.root.with_name("moved"))
    watched.table.mount(2, watched.root.with_name("moved") / "d")
    assert watched.next() == RootGone("the folder's path leads elsewhere since a change of the mounts")
    assert watched.next() == Dirty(b"", b"d")
    watched.table.unmount(2)
    assert watched.next() == Dirty(b"", b"d"), "what leads elsewhere is told once"


def test_a_table_that_cannot_be_read_any_more_ends_it_and_nothing_else(watched: Watched) -> None:
    watched.table.fail()
    watched.watch.watch_directory(b"")
    (watched.root / "f").touch()
    assert watched.next() == Dirty(b"", b"f", watched.root.stat().st_ino)


def test_where_there_is_no_table_the_folder_is_watched_all_the_same(tmp_path: Path) -> None:
    fs = RealFileSystem(tmp_path)
    unreadable = WrittenTable()
    unreadable.fails = True

    def missing() -> SystemTable:
        return SystemTable(str(tmp_path / "mountinfo"))

    for table in (missing, lambda: unreadable):
        watch = Watcher(fs, lambda change: None, table)
        assert watch.watch_directory(b"") is not None
        watch.close()
    assert unreadable.closed
    fs.close()


def test_the_systems_table_names_the_root_and_can_be_waited_for_until_it_is_to_end() -> None:
    table = SystemTable()
    try:
        assert b"/proc" in mount_points(table.read()).values()
        assert table.read() == table.read(), "each time from the beginning"
        assert table.rest(0)
        waits: queue.SimpleQueue[bool] = queue.SimpleQueue()
        thread = threading.Thread(target=lambda: waits.put(table.wait()))
        thread.start()
        table.end()
        while waits.get(timeout=WITHIN_S):
            thread.join()  # somebody has mounted something just now
            thread = threading.Thread(target=lambda: waits.put(table.wait()))
            thread.start()
        thread.join()
        assert not table.rest(WITHIN_S)
    finally:
        table.close()


def test_lines_that_are_none_are_passed_over() -> None:
    assert mount_points(b"\n2 1 0:2 /\n" + line(3, b"/a\\040b")) == {b"3": b"/a b"}


def test_a_mount_point_that_was_removed_is_where_it_was() -> None:
    assert mount_points(line(3, b"/a//deleted")) == {b"3": b"/a"}


def test_the_uppermost_place_comes_first_and_each_once() -> None:
    before = {b"1": b"/", b"2": b"/r/d", b"3": b"/r/d/e"}
    after = {b"1": b"/", b"4": b"/r/d", b"5": b"/r", b"6": b"/rest"}
    assert changed_within(before, after, b"/r") == [b"d", b"d/e"]
    assert changed_within(before, after, b"/") == [b"r", b"r/d", b"r/d/e", b"rest"]
    assert changed_within(before, before, b"/r") == []
