"""Files that programs keep open and write to: a log for a long time, a file slowly, a database all the time."""

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from tests.system.folder_tools import Pair, all_the_same, at_rest, wait
from tests.system.harness import Server, Servers, until

LINES = 40
WRITER = """
import sqlite3, sys, time
log = open("log", "a", buffering=1)
database = sqlite3.connect("data.db", isolation_level=None)
database.execute("CREATE TABLE IF NOT EXISTS t (n INTEGER PRIMARY KEY, x)")
slow = open("slow", "wb", buffering=0)
number = 0
print("ready", flush=True)
import select
while not select.select([sys.stdin], [], [], 0.002)[0]:
    number += 1
    log.write(f"line {number}\\n")
    database.execute("INSERT INTO t (x) VALUES (randomblob(200))")
    if number % 20 == 0:
        slow.write(b"another piece " * 5_000)
print(number, flush=True)
"""


@contextmanager
def writing(root: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A log, a database and a file that grows, written without end until its input is closed."""
    command = [sys.executable, "-c", WRITER]
    with subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield process
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(30)


def holds(member: Server, name: str, content: bytes) -> bool:
    path = member.folder() / name
    return path.exists() and path.read_bytes() == content


def whole(root: Path) -> None:
    """The database and the log that the writer has left are complete, and agree."""
    with closing(sqlite3.connect(f"file:{root / 'data.db'}?immutable=1", uri=True)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        (rows,) = database.execute("SELECT count(*) FROM t").fetchone()
    assert (root / "log").read_text().splitlines()[-1] == f"line {rows}"
    assert not (root / "data.db-journal").exists()


def test_what_is_appended_arrives_while_the_file_stays_open(pair: Pair) -> None:
    """Line by line, each in its own time; and what was written by half shows up when the rest is there, too."""
    servers, members = pair
    one, two = members
    with (one.folder() / "log").open("ab", buffering=0) as log, (one.folder() / "big").open("wb", buffering=0) as big:
        for number in range(LINES):
            log.write(b"line %d\n" % number)
            big.write(b"%d" % (number % 10) * 50_000)
            if number % 8 == 0:
                wait(one, 2)
                assert (two.folder() / "log").read_bytes() == (one.folder() / "log").read_bytes()
                assert (two.folder() / "big").read_bytes() == (one.folder() / "big").read_bytes()
        big.truncate(70_000)
        wait(one, 2)
        assert (two.folder() / "big").stat().st_size == 70_000
    all_the_same(servers, members)
    at_rest(members)


def test_a_log_and_a_database_written_all_the_time_hold_nothing_else_up_and_arrive_in_the_end(
    pair: Pair,
) -> None:
    servers, members = pair
    one, two = members
    with writing(one.folder()) as writer:
        for number in range(5):
            content = b"beside it, %d" % number
            (one.folder() / f"beside-{number}").write_bytes(content)
            until("what is beside it arrives", lambda: holds(two, f"beside-{number}", content))  # noqa: B023
            (two.folder() / f"back-{number}").write_bytes(content)
            until("and comes back", lambda: holds(one, f"back-{number}", content))  # noqa: B023
        assert writer.poll() is None
    wait(one, 2)
    all_the_same(servers, members)
    whole(two.folder())
    at_rest(members)


def test_what_programs_write_all_the_time_arrives_on_three_members_also_when_one_was_stopped_meanwhile(
    servers: Servers,
) -> None:
    """Each has a log and a database of its own that never rest; one member is stopped, its programs write on."""
    members = one, two, three = servers.group(3)
    for member in members:
        (member.folder() / member.name).mkdir()
    all_the_same(servers, members)
    with ExitStack() as stack:
        writers = [stack.enter_context(writing(member.folder() / member.name)) for member in members]
        for number in range(2):
            for author, reader in ((one, two), (two, three), (three, one)):
                content = b"beside it, %d, by %s" % (number, author.name.encode())
                (author.folder() / f"beside-{number}").write_bytes(content)
                until("what is beside it arrives", lambda: holds(reader, f"beside-{number}", content))  # noqa: B023
        three.stop()
        (one.folder() / "while one is stopped").write_bytes(b"x")
        until("the others go on", lambda: holds(two, "while one is stopped", b"x"))
        three.start()
        until("it takes part again", lambda: holds(three, "while one is stopped", b"x"))
        assert [writer.poll() for writer in writers] == [None] * 3
    for member in members:
        wait(member, 3)
    all_the_same(servers, members)
    for author in members:
        whole(two.folder() / author.name)
    at_rest(members)
