"""What cannot be installed for now, and the reason that an operator is given (I10)."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

import pytest

from replicad.core.records import Record
from tests.engine.rig import Author, Rig

Make = Callable[[Author], Record]


@pytest.mark.parametrize(
    "make",
    [
        lambda author: author.file(b"f", b"1"),
        lambda author: author.directory(b"f"),
        lambda author: author.symlink(b"f", b"target"),
    ],
    ids=["file", "directory", "symlink"],
)
def test_i10_a_name_that_a_fifo_has_is_told_as_the_reason(make: Make) -> None:
    rig = Rig()
    author = Author(rig.bodies)
    rig.fs.user_fifo(b"f")
    rig.take([make(author), author.file(b"other", b"2")])
    for _ in range(10):
        rig.work()
    (reason,) = [reason for _, reason in rig.workbench.waiting()]
    assert reason == "something that is not replicated (a fifo, socket or device) has this name"
    assert not rig.dirty, "the scan would look in vain"
    assert rig.disk()[b"other"][2] == b"2"
    rig.fs.user_unlink(b"f")
    for _ in range(100):
        rig.work()
    assert rig.disk() == rig.wanted()


def test_i6_nothing_is_made_in_a_mount_though_it_be_of_the_very_directory_that_it_covers() -> None:
    """`mount --bind d d`: by inode and time of birth it is the same directory, and not by its mount."""
    rig = Rig()
    author = Author(rig.bodies)
    directory = author.directory(b"d")
    rig.take([directory])
    rig.settle()
    rig.fs.user_mount(b"d")
    under = rig.fs.tree.directory(b"").entries[b"d"]
    assert under.covered_by is not None
    for same in ("inode", "birth_ns", "mode", "mtime_ns", "ctime_ns"):
        setattr(under.covered_by, same, getattr(under, same))
    rig.take([author.directory(b"sub", directory.uid)])
    for _ in range(10):
        rig.work()
    assert list(rig.disk()) == [b"d"]
    (reason,) = [reason for _, reason in rig.workbench.waiting()]
    assert reason == "it is on another filesystem or mount than the folder"
    rig.fs.user_unmount(b"d")
    for _ in range(100):
        rig.work()
    assert rig.disk() == rig.wanted()
    assert list(rig.disk()) == [b"d", b"d/sub"]


# -- a directory of ours that was exchanged into the tree for a moment, and got something in it there


def test_i3_what_somebody_put_into_a_directory_that_is_taken_back_is_preserved() -> None:
    """The file that the directory replaced had just been edited: it comes back, the directory goes."""
    rig, _ = _file_becomes_directory()

    def act(method: str, paths: tuple[bytes, ...]) -> None:
        if method == "exchange":
            rig.fs.before_change = put_something_in
            rig.fs.user_write(b"f", b"edited")

    def put_something_in(method: str, paths: tuple[bytes, ...]) -> None:
        if method == "exchange":
            rig.fs.before_change = None
            rig.fs.user_write(b"f/inside", b"precious")

    rig.fs.before_change = act
    rig.work()
    rig.work()
    assert rig.disk()[b"f"][2] == b"edited"
    assert rig.stored() == [b"precious"]
    assert rig.dirty
    assert not rig.staging()


def test_i12_a_staged_directory_that_holds_something_does_not_keep_the_daemon_from_starting() -> None:
    rig, made = _file_becomes_directory()
    rig.kill()
    staged = b".replicad/staging/new-" + made.uid.hex().encode() + b"-0123456789abcdef"
    rig.fs.user_mkdir(staged)
    rig.fs.user_write(staged + b"/inside", b"precious")
    rig.start()
    assert rig.stored() == [b"precious"]
    assert not rig.staging()


@pytest.mark.parametrize("kind", ["directory", "symlink"])
def test_what_was_staged_and_not_put_is_not_left_in_staging(kind: str) -> None:
    rig = Rig()
    author = Author(rig.bodies)
    held = author.file(b"f", b"1")
    rig.take([held])
    rig.settle()
    made = author.directory(b"f") if kind == "directory" else author.symlink(b"f", b"target")
    rig.take([author.delete(held), made])
    rig.fs.user_write(b"f", b"edited")
    rig.work()
    assert rig.dirty == [b"f"]
    assert not rig.staging()


def _file_becomes_directory() -> tuple[Rig, Record]:
    rig = Rig()
    author = Author(rig.bodies)
    held = author.file(b"f", b"1")
    rig.take([held])
    rig.settle()
    made = author.directory(b"f")
    rig.take([author.delete(held), made])
    return rig, made


def test_i3_what_somebody_puts_in_place_of_what_came_from_staging_stays_in_the_tree() -> None:
    """`f` goes by way of staging to `g`, where a user at once makes a directory in its place."""
    rig = Rig()
    author = Author(rig.bodies)
    held = author.file(b"f", b"1")
    rig.take([held])
    rig.settle()
    rig.take([author.move(held, b"g"), author.file(b"f", b"new")])

    def act(method: str, paths: tuple[bytes, ...]) -> None:
        if paths == (b"g",) and b"g" in rig.fs.read_tree():
            rig.fs.before_read = None
            rig.fs.user_unlink(b"g")
            rig.fs.user_mkdir(b"g")
            rig.fs.user_write(b"g/inside", b"precious")

    rig.fs.before_read = act
    for _ in range(4):
        rig.work()
    assert rig.fs.before_read is None
    assert rig.disk()[b"g/inside"][2] == b"precious"
    assert b"g" in rig.dirty


def test_i3_what_is_written_to_in_staging_and_deleted_there_is_preserved() -> None:
    """`f` waits in staging for a directory that nobody knows; who has it open writes to it; it is deleted."""
    rig = Rig()
    author = Author(rig.bodies)
    held = author.file(b"f", b"1")
    rig.take([held])
    rig.settle()
    handle = rig.fs.user_open(b"f")
    moved = author.move(held, b"g", (77).to_bytes(16, "big"))
    rig.take([moved, author.file(b"f", b"new")])
    rig.settle()
    assert rig.disk() == {b"f": (1, 0o644, b"new")}
    handle.write_at(1, b"23")
    rig.take([author.delete(moved)])
    rig.settle()
    rig.pass_quiet_time()
    assert rig.stored() == [b"123"]
    assert not rig.catalog.pending(1)
    assert not rig.staging()


def test_i3_acts_that_could_not_be_synced_are_finished_though_others_could_be_since() -> None:
    """Seeds 72 and 106 with --faults: their intents stayed for good, and what had come out of the tree in staging."""
    rig = Rig()
    author = Author(rig.bodies)
    f, h = author.file(b"f", b"1"), author.file(b"h", b"2")
    rig.take([f, h])
    rig.settle()
    failing = 1

    def refuse(method: str, paths: tuple[bytes, ...]) -> None:
        nonlocal failing
        if method == "sync_all" and failing:
            failing -= 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    rig.fs.before_change = refuse
    rig.take([author.move(f, b"g")])
    rig.work()
    assert failing == 0
    assert rig.catalog.intents()
    failing = 1  # when it is found out what became of that one; the next batch is synced
    rig.take([author.move(h, b"i")])
    rig.settle()
    assert failing == 0
    assert not rig.catalog.intents()
    assert rig.disk() == rig.wanted()
