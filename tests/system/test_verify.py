"""`replicad verify` on real daemons: what no event and no time told of is found by reading, and nothing is lost."""

from __future__ import annotations

import json
import mmap
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from replicad.core.manifest import SMALL_FILE_BYTES
from tests.system.folder_tools import MTIME_NS, all_the_same, at_rest, preserved_rows, put
from tests.system.harness import Server, Servers, until

SIZE = SMALL_FILE_BYTES * 3
GOOD, BAD = b"g" * SIZE, b"B" * SIZE
MEMORY = Path("/dev/shm")
"""A filesystem in memory: a page that was written to through a mapping never has to be written to the disk, so later
writes to it set no time, and no event tells of them."""


@pytest.fixture
def servers() -> Iterator[Servers]:
    """On that filesystem."""
    base = Path(tempfile.mkdtemp(prefix="replicad-test-", dir=MEMORY))
    made = Servers(base)
    try:
        yield made
    finally:
        made.close()
        print(made.logs())
        shutil.rmtree(base)


@contextmanager
def mapped(path: Path) -> Iterator[mmap.mmap]:
    """The file, each page of it written to once; whatever is written to it now changes its bytes alone."""
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as data:
        data[:] = data[:]
        os.utime(file.fileno(), ns=(MTIME_NS, MTIME_NS))  # of this an event tells, and the file is looked at
        yield data


def verify(server: Server, *options: str) -> tuple[int, dict[str, str]]:
    """(exit status, action by path of each content that differs); nothing else may differ."""
    done = server.run("verify", "docs", "--json", *options)
    answer = json.loads(done.stdout)
    assert answer["differences"] == len(answer["listed"])
    assert {row["kind"] for row in answer["listed"]} <= {"content"}
    return done.returncode, {row["path"]: row["action"] for row in answer["listed"]}


def all_is_read(server: Server) -> None:
    """The files' times can be trusted: none of them is about to be read once more for their sake."""

    def read() -> bool:
        return bool(json.loads(server.run("verify", "docs", "--json").stdout)["bytes"] == 3 * SIZE)

    until("every file is as it was read", read)


def test_content_that_changed_without_a_trace_is_reported_mended_or_taken(servers: Servers) -> None:
    one, two = members = servers.group(2)
    here, there = one.folder(), two.folder()
    for name in ("bad", "also bad", "sub/good"):
        put(here / name, GOOD)
    (here / "link").symlink_to("bad")
    all_the_same(servers, members)
    with mapped(here / "bad") as data:
        all_the_same(servers, members)
        all_is_read(one)
        until("the other one has told what it has", lambda: not one.folder_status()["only_here"]["files"])
        assert verify(one) == (0, {})
        data[:] = BAD
        before = (here / "bad").stat()

        assert verify(one) == (1, {"bad": "reported"})
        assert (here / "bad").read_bytes() == BAD, "it is left as it is"
        assert (here / "bad").stat() == before
        assert (there / "bad").read_bytes() == GOOD
        text = one.run("verify", "docs").stdout
        assert text.startswith("content: bad: what is read is not what was there, though size, times and inode are")
        assert any(line.endswith("(bad)") for line in one.cli("events").splitlines())

        assert verify(one, "--mend") == (1, {"bad": "fetched"})
        until("it is fetched again", lambda: (here / "bad").read_bytes() == GOOD)
        all_the_same(servers, members)
        assert verify(one) == (0, {})
        assert [path for _, path, _ in preserved_rows(one)] == [b"bad"]
        assert [path.read_bytes() for path in (here / ".replicad/ConflictAndDeleted").iterdir()] == [BAD]
    at_rest(members, preserved=1)

    with mapped(here / "also bad") as data:
        all_the_same(servers, members)
        all_is_read(one)
        data[:] = BAD
        assert verify(one, "--take") == (1, {"also bad": "taken"})
        until("it is an edit", lambda: (there / "also bad").read_bytes() == BAD)
    all_the_same(servers, members)
    assert verify(two) == (0, {})
    at_rest(members, preserved=1)

    missing = one.run("verify", "sub")
    assert (missing.returncode, missing.stderr) == (1, "replicad: the folder sub is not kept here\n")
    one.stop()
    assert one.run("verify", "docs").returncode == 3
