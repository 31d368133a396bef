"""Who has a file open for writing, as /proc tells."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from replicad.files.holders import Holder, find_holders, in_words
from replicad.files.real_fs import RealFileSystem

OPEN = """
import sys
import threading
file = open(sys.argv[1], sys.argv[2])
sys.stdout.write("open\\n")
sys.stdout.flush()
sys.stdin.read()
"""


# mmap.mmap keeps a descriptor of its own.
MAP = """
import ctypes
import mmap
import os
import sys
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = (
    ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long
)
descriptor = os.open(sys.argv[1], os.O_RDWR)
protection, flags = sys.argv[2].split()
address = libc.mmap(None, 4096, getattr(mmap, protection), getattr(mmap, flags), descriptor, 0)
assert address != ctypes.c_void_p(-1).value, os.strerror(ctypes.get_errno())
os.close(descriptor)
sys.stdout.write("open\\n")
sys.stdout.flush()
sys.stdin.read()
"""


@contextmanager
def another_process_with(path: Path, mode: str, program: str = OPEN) -> Iterator[int]:
    """Its pid; it has the file open until the end."""
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(path), mode], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process, process.stdin:
        assert process.stdout.readline() == b"open\n"
        yield process.pid


def found(*paths: Path) -> list[list[int]]:
    wanted = {}
    for path in paths:
        status = path.stat()
        wanted[os.fsencode(path.name)] = (status.st_dev, status.st_ino)
    return [[one.pid for one in holders] for holders in find_holders(wanted).values()]


@pytest.mark.parametrize(("mode", "is_holder"), [("ab", True), ("r+b", True), ("rb", False)])
def test_a_process_that_may_write_to_the_file_is_found_and_one_that_reads_is_not(
    tmp_path: Path, mode: str, is_holder: bool
) -> None:
    log, other = tmp_path / "log", tmp_path / "other"
    log.write_bytes(b"x")
    other.write_bytes(b"x")
    with another_process_with(log, mode) as pid:
        assert found(log, other) == [[pid] if is_holder else [], []]
    assert found(log, other) == [[], []]


def test_a_file_of_the_same_name_elsewhere_is_another_one_and_a_renamed_one_is_the_same(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    log, namesake = tmp_path / "log", tmp_path / "d" / "log"
    log.write_bytes(b"x")
    namesake.write_bytes(b"x")
    with another_process_with(log, "ab") as pid:
        assert found(namesake) == [[]]
        log.rename(tmp_path / "renamed")
        assert found(tmp_path / "renamed") == [[pid]]


@pytest.mark.parametrize("name", ["log", "two\nlines", "a space", "back\\slash", "caf\udce9"])
def test_a_process_that_has_the_file_mapped_for_writing_is_found_though_its_descriptor_is_closed(
    tmp_path: Path, name: str
) -> None:
    log, other = tmp_path / name, tmp_path / "other"
    log.write_bytes(b"x" * 4096)
    other.write_bytes(b"x")
    with another_process_with(log, "PROT_WRITE MAP_SHARED", MAP) as pid:
        assert found(log, other) == [[pid], []]
        log.rename(tmp_path / "renamed")
        assert found(tmp_path / "renamed") == [[pid]]
    assert found(other) == [[]]


@pytest.mark.parametrize("how", ["PROT_WRITE MAP_PRIVATE", "PROT_READ MAP_SHARED"])
def test_a_mapping_through_which_nothing_reaches_the_file_is_none(tmp_path: Path, how: str) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"x" * 4096)
    with another_process_with(log, how, MAP):
        assert found(log) == [[]]


def test_this_process_is_not_counted(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb"):
        assert found(log) == [[]]


def test_the_first_few_are_named_and_the_rest_counted() -> None:
    holders = [Holder(pid, "vim") for pid in range(1, 6)]
    assert in_words(holders[:1]) == "pid 1 (vim)"
    assert in_words(holders) == "pid 1 (vim), pid 2 (vim), pid 3 (vim) and 2 more"


@pytest.mark.parametrize(("mode", "is_open"), [("ab", True), ("r+b", True), ("rb", False)])
def test_a_file_that_another_process_has_open_for_writing_is_said_to_be(
    tmp_path: Path, mode: str, is_open: bool
) -> None:
    (tmp_path / "log").write_bytes(b"x")
    fs = RealFileSystem(tmp_path)
    with another_process_with(tmp_path / "log", mode):
        assert fs.is_open_for_writing(b"log") is is_open
    assert not fs.is_open_for_writing(b"log")
    fs.close()


def test_a_file_that_is_mapped_for_writing_is_open_though_its_descriptor_is_closed(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"x" * 4096)
    fs = RealFileSystem(tmp_path)
    with (tmp_path / "log").open("r+b") as file:
        data = mmap.mmap(file.fileno(), 0)
    assert fs.is_open_for_writing(b"log")
    data.close()
    assert not fs.is_open_for_writing(b"log")
    fs.close()


def test_who_opens_the_file_meanwhile_is_neither_refused_nor_does_anything_die(tmp_path: Path) -> None:
    """The lease that asks is broken by it, which would be told by a signal that kills."""
    (tmp_path / "log").write_bytes(b"x")
    fs = RealFileSystem(tmp_path)
    stop = threading.Event()
    opened = 0

    def open_again_and_again() -> None:
        nonlocal opened
        while not stop.is_set():
            with (tmp_path / "log").open("r+b"):
                opened += 1

    thread = threading.Thread(target=open_again_and_again)
    thread.start()
    try:
        for _ in range(2_000):
            fs.is_open_for_writing(b"log")
    finally:
        stop.set()
        thread.join(30)
    assert opened
    assert not fs.is_open_for_writing(b"log")
    fs.close()
