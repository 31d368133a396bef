"""Files that are open, and files that are written to all the time, by processes of their own, on real disks."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO

import pytest

from tests.system.folder_tools import all_the_same, at_rest, put
from tests.system.harness import Server, Servers, until

LARGE_BYTES = 9 * 2**20
HALVES_BYTES = 64 * 1024
"""Of the file whose first and last number tell whether it is torn; it is read in one go."""

WRITERS = {
    "numbers": """
        os.pwrite(file, number.to_bytes(8, "big"), 0)
        os.pwrite(file, number.to_bytes(8, "big"), size - 8)
""",
    "large": """
        os.pwrite(file, number.to_bytes(8, "big"), number * 4096 % size)
        time.sleep(0.002)
""",
    "log": """
        os.write(file, b"line %d\\n" % number)
        time.sleep(0.02)
""",
    "slow": """
        if number < 30:
            os.write(file, bytes([number]) * 5_000)
            time.sleep(0.1)
""",
    "database": """
        with database:
            database.execute("INSERT INTO numbers VALUES (?)", (number,))
""",
}
"""What each does again and again; `number` counts."""

PROGRAM = """
import os, select, sqlite3, sys, time
size = {size}
file = os.open(sys.argv[1], os.O_RDWR | os.O_APPEND * (sys.argv[2] in ("log", "slow")))
database = sqlite3.connect(sys.argv[1]) if sys.argv[2] == "database" else None
print("begun", flush=True)
number = 0
while not select.select([sys.stdin], [], [], 0)[0]:
    number += 1
    if True:
{body}
if database is not None:
    database.close()
"""


@contextmanager
def writing(path: Path, kind: str) -> Iterator[int]:
    """A process writes to the file, which it has open all the while; its pid."""
    size = path.stat().st_size
    program = PROGRAM.format(size=size, body=WRITERS[kind])
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(path), kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        try:
            assert process.stdout.readline() == b"begun\n"
            yield process.pid
        finally:
            process.stdin.close()
            status = process.wait(30)
        assert status == 0


@contextmanager
def held_open(path: Path) -> Iterator[IO[bytes]]:
    with path.open("ab", buffering=0) as file:
        yield file


def torn(path: Path) -> bool:
    """Whether the two numbers are ones that were never there together: the first is written first."""
    data = path.read_bytes()
    first, last = int.from_bytes(data[:8], "big"), int.from_bytes(data[-8:], "big")
    return first - last not in (0, 1)


def blocked(server: Server) -> dict[str, str]:
    return {row["path"]: row["reason"] for row in server.folder_status()["blocked"]}


@pytest.mark.requirement("R6")
def test_files_that_are_written_all_the_time_are_listed_and_never_torn_and_those_that_rest_are_replicated(
    servers: Servers,
) -> None:
    one, two = members = servers.group(2)
    here, there = one.folder(), two.folder()
    put(here / "numbers", bytes(HALVES_BYTES))
    put(here / "large", os.urandom(LARGE_BYTES))
    put(here / "log", b"")
    put(here / "slow", b"")
    with closing(sqlite3.connect(here / "database")) as database, database:
        database.execute("CREATE TABLE numbers (number INTEGER)")
    all_the_same(servers, members)
    large_before = (there / "large").read_bytes()

    # Open, and at rest: no closing is waited for.
    with held_open(here / "resting") as file:
        for number in range(3):
            file.write(b"line %d\n" % number)
            until("it arrives", lambda: (there / "resting").exists() and same(here / "resting", there / "resting"))

    with (
        writing(here / "numbers", "numbers"),
        writing(here / "large", "large") as pid,
        writing(here / "log", "log"),
        writing(here / "slow", "slow"),
        writing(here / "database", "database"),
    ):

        def named() -> bool:
            assert not torn(there / "numbers"), "a mixture of two versions was installed"
            return f"pid {pid} (" in blocked(one).get("large", "")

        until("who writes to the large one is named", named)
        assert "it is being written" in blocked(one)["large"]
        lines = one.cli("events").splitlines()
        assert any("[4302]" in line and f"pid {pid} (" in line and "(large)" in line for line in lines), lines
        put(here / "another", b"goes on")
        until("others go on", lambda: (there / "another").exists())
        until("the log goes on", lambda: (there / "log").stat().st_size > 0)
        assert (there / "large").read_bytes() == large_before, "no version of it could be read"

    all_the_same(servers, members)
    at_rest(members, preserved=None)
    assert not torn(there / "numbers")
    with closing(sqlite3.connect(there / "database")) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert database.execute("SELECT count(*) = max(number) FROM numbers").fetchall() == [(1,)]


def same(one: Path, other: Path) -> bool:
    return one.read_bytes() == other.read_bytes()
