"""Catalogs that are corrupt or newer, while the daemon runs and before it starts: said in one line.

Only that folder waits; nothing is lost, and it goes on when the file is back or was moved away.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from replicad.daemon.folders import JUST_STOPPED
from tests.system.folder_tools import all_the_same, at_rest, kept_contents, put, wait
from tests.system.harness import Server, Servers, until

FILES = 300
PAGE = 4096
CANNOT_BE_USED = "cannot be used: "
CHANGED = "a value in its table object is not the one that was written"
MEND = "put the home back from a backup, or move the file away"


def files_of(path: Path) -> list[Path]:
    """The database, its log and the log's index."""
    return [path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm")]


def overwrite(path: Path, first: int = 0) -> None:
    """With noise, from a page on."""
    length = path.stat().st_size - first * PAGE
    with path.open("r+b") as file:
        file.seek(first * PAGE)
        file.write(random.Random(1).randbytes(max(0, length)))


def truncate(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def make_newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE alembic_version SET version_num = '9999'")
        db.commit()


DAMAGES: tuple[tuple[Callable[[Path], None], str], ...] = (
    (lambda path: overwrite(path, 1), CANNOT_BE_USED),
    (truncate, CANNOT_BE_USED),
    (make_newer, "was written by a newer replicad (its schema is 9999, this program's is "),
)


def reason_of(server: Server) -> str:
    """Of the folder docs in state 5."""

    def found() -> str:
        shot = server.folder_status()
        told = shot["state"] == 5 and shot["reason"] != JUST_STOPPED
        return str(shot["reason"]) if told else ""

    return until("the folder says why", found)


def catalog_of(server: Server, folder: str) -> Path:
    return server.home / "catalog" / f"{folder}.db"


def assert_the_rest_goes_on(one: Server, two: Server, content: bytes) -> None:
    """The other folder on both, and this one on the other member."""
    assert two.folder_status("more")["state"] == 4
    for author, reader, name in ((one, two, "to"), (two, one, "fro")):
        put(author.folder("more") / name, content)
        until("it arrives", lambda: holds(reader.folder("more") / name, content))  # noqa: B023
    assert one.folder_status()["state"] == 4


def holds(path: Path, content: bytes) -> bool:
    return path.exists() and path.read_bytes() == content


def move_away(path: Path) -> None:
    for file in files_of(path):
        file.unlink(missing_ok=True)


def two_members(servers: Servers) -> tuple[Server, Server, Path]:
    """With two folders; the catalog of the first of them on the second member."""
    one, two = servers.group(2)
    one.cli("folder", "create", "more", str(one.folder("more")))
    one.cli("wait", "--folder", "docs")
    two.cli("folder", "join", "more", str(two.folder("more")))
    for number in range(FILES):
        put(one.folder() / f"d{number % 10}/f{number}", b"%d" % number)
    servers.synchronized(one, members=2)
    return one, two, catalog_of(two, two.folder_status()["id"])


def test_i10_a_catalog_that_is_corrupt_or_newer_stops_its_folder_alone_and_loses_nothing(servers: Servers) -> None:
    one, two, path = two_members(servers)

    # While the daemon runs.
    for file in files_of(path)[:2]:
        overwrite(file)
    put(two.folder() / "d0/f0", b"edited where the catalog is broken")
    put(two.folder() / "mine", b"made where the catalog is broken")
    put(one.folder() / "d1/f1", b"edited elsewhere")
    reason = reason_of(two)
    assert reason.startswith(f"the catalog {path} {CANNOT_BE_USED}"), reason
    assert MEND in reason
    assert "\n" not in reason
    until("an operator sees it", lambda: f"the catalog {path} {CANNOT_BE_USED}" in two.cli("status"))
    assert_the_rest_goes_on(one, two, b"while it is broken")
    move_away(path)
    two.until_state(4)
    all_the_same(servers, [one, two])
    kept = kept_contents([one, two])
    assert {b"edited where the catalog is broken", b"made where the catalog is broken", b"edited elsewhere"} <= kept
    assert len(list(one.folder().glob("d*/f*"))) == FILES, "nothing was deleted"

    # Before it starts.
    for number, (damage, why) in enumerate(DAMAGES):
        two.stop()
        good = path.read_bytes()
        damage(path)
        put(two.folder() / f"stopped-{number}", b"made while stopped %d" % number)
        put(two.folder() / f"d2/f{2 + 10 * number}", b"edited while stopped %d" % number)
        two.start()
        reason = reason_of(two)
        assert reason.startswith(f"the catalog {path} {why}"), reason
        assert "\n" not in reason
        assert_the_rest_goes_on(one, two, b"damage %d" % number)
        two.stop()
        move_away(path)
        if damage is make_newer:
            path.write_bytes(good)  # as it is with that version installed again
        two.start()
        all_the_same(servers, [one, two])
        made = {b"made while stopped %d" % number, b"edited while stopped %d" % number}
        assert made <= kept_contents([one, two]), number
        assert len(list(one.folder().glob("d*/f*"))) == FILES, "nothing was deleted"
    assert [shot["blocked"] for shot in one.status()["folders"]] == [[], []]
    assert "Traceback" not in two.last_words()


def change_a_value(path: Path) -> None:
    """Which SQLite cannot tell from one that was written: the last byte of a content's digest."""
    with closing(sqlite3.connect(path)) as db:
        ((number, raw),) = db.execute("SELECT no, content_raw FROM object WHERE size > 0 LIMIT 1").fetchall()
        changed = raw[:-3] + bytes([raw[-3] ^ 1]) + raw[-2:]
        db.execute("UPDATE object SET content_raw = ? WHERE no = ?", (changed, number))
        db.commit()


def test_a_value_that_was_changed_in_a_catalog_is_found_when_it_is_read_or_counted_anew(servers: Servers) -> None:
    one, two, path = two_members(servers)
    two.stop()
    change_a_value(path)
    two.module = "tests.system.hasty"
    two.start()
    reason = reason_of(two)
    assert reason.startswith(f"the catalog {path} {CANNOT_BE_USED}"), reason
    assert CHANGED in reason
    assert MEND in reason
    waited = one.run("wait", "--folder", "docs", "--members", "2", "--timeout", "1")
    assert waited.returncode == 4
    assert f"m1: the folder has stopped there: the catalog {path}" in waited.stdout + waited.stderr
    assert_the_rest_goes_on(one, two, b"while it is in doubt")
    two.stop()
    two.module = "replicad"
    two.start()
    assert CHANGED in reason_of(two), "it is not used, whatever runs"
    move_away(path)
    two.until_state(4)
    all_the_same(servers, [one, two])
    assert len(list(one.folder().glob("d*/f*"))) == FILES, "nothing was deleted"


def test_a_daemon_whose_hierarchy_is_corrupt_says_so_in_one_line_and_finds_its_group_again(servers: Servers) -> None:
    one, two = members = servers.group(2)
    put(one.folder() / "f", b"before")
    wait(one, 2)
    path = two.home / "catalog/hierarchy.db"
    two.stop()
    overwrite(path)
    put(one.folder() / "f", b"changed elsewhere")
    put(two.folder() / "mine", b"made while stopped")
    for command in (("run",), ("folder", "list")):
        refused = two.run(*command)
        assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (1, "", 1), refused
        assert f"the catalog {path} {CANNOT_BE_USED}" in refused.stderr
    move_away(path)
    two.start()
    until("it has found its group", lambda: two.connected() == {"m0"})
    all_the_same(servers, members)
    assert (one.folder() / "mine").read_bytes() == b"made while stopped"
    at_rest(members)
