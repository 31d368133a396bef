"""Fifos, sockets and devices: each is listed as blocked with its reason, wherever it is, and stops nothing else."""

import base64
import os
import shutil
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from replicad.core.diff import OTHER_KIND
from tests.system.folder_tools import Pair, all_the_same, at_rest, put, wait
from tests.system.harness import Server, until
from tests.tree_compare import differences, read_tree

BAD_NAME = b"fifo \xff\n"


@pytest.fixture
def opened() -> Iterator[list[socket.socket]]:
    sockets: list[socket.socket] = []
    yield sockets
    for one in sockets:
        one.close()


def blocked(member: Server) -> dict[object, str]:
    """By path; by its bytes where those are not UTF-8."""
    rows = member.folder_status()["blocked"]
    paths = [row["path"] for row in rows]
    read = [path if isinstance(path, str) else base64.b64decode(path["path_bytes"]) for path in paths]
    return {path: row["reason"] for path, row in zip(read, rows, strict=True)}


def make_special(root: Path, opened: list[socket.socket]) -> set[object]:
    """Paths of what was made."""
    (root / "d").mkdir(exist_ok=True)
    os.mkfifo(root / "d/fifo")
    os.mkfifo(os.fsencode(root / "d") + b"/" + BAD_NAME)
    made: set[object] = {"d/fifo", b"d/" + BAD_NAME, "d/socket"}
    here = os.open(root / "d", os.O_RDONLY | os.O_DIRECTORY)
    try:
        opened.append(socket.socket(socket.AF_UNIX))
        opened[-1].bind(f"/proc/self/fd/{here}/socket")
    finally:
        os.close(here)
    if os.geteuid() == 0:
        os.mknod(root / "d/null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        os.mknod(root / "d/loop", 0o600 | stat.S_IFBLK, os.makedev(7, 250))
        made |= {"d/null", "d/loop"}
    put(root / "d/beside", b"a file beside them")
    return made


def test_fifos_sockets_and_devices_are_listed_with_their_reason_and_stop_nothing(
    pair: Pair, opened: list[socket.socket]
) -> None:
    servers, members = pair
    one, two = members
    root = one.folder()
    made = make_special(root, opened)
    wait(one, 2)
    assert blocked(one) == dict.fromkeys(made, OTHER_KIND)
    assert blocked(two) == {}
    assert sorted(path.name for path in (two.folder() / "d").iterdir()) == ["beside"]
    told = one.cli("status")
    assert "d/fifo \\xff\\n" in told
    assert told.isprintable() or "\n" in told

    one.stop()  # found by a scan, as they were when they were seen to come
    one.start()
    wait(one, 2)
    assert blocked(one) == dict.fromkeys(made, OTHER_KIND)

    (root / "d").rename(root / "renamed")
    renamed = {path.replace("d/", "renamed/", 1) if isinstance(path, str) else b"renamed" + path[1:] for path in made}  # type: ignore[attr-defined]
    wait(one, 2)
    assert blocked(one) == dict.fromkeys(renamed, OTHER_KIND)

    os.unlink(root / "renamed/fifo")
    put(root / "renamed/fifo", b"a file now")
    wait(one, 2)
    assert (two.folder() / "renamed/fifo").read_bytes() == b"a file now"
    os.unlink(root / "renamed/beside")
    os.mkfifo(root / "renamed/beside")
    wait(one, 2)
    assert not (two.folder() / "renamed/beside").exists(), "what a fifo has taken the place of is gone"
    assert blocked(one)["renamed/beside"] == OTHER_KIND

    shutil.rmtree(root / "renamed")
    wait(one, 2)
    all_the_same(servers, members)
    at_rest(members)


def test_a_directory_in_which_another_member_has_a_fifo_stays_there_with_that_reason(
    pair: Pair,
) -> None:
    """Rule 12, S32. What comes in at a name that a fifo has waits, and arrives when the fifo is gone."""
    servers, members = pair
    one, two = members
    put(one.folder() / "d/sub/f", b"f")
    all_the_same(servers, members)
    os.mkfifo(two.folder() / "d/sub/fifo")
    os.mkfifo(two.folder() / "taken")
    os.mkfifo(two.folder() / os.fsdecode(BAD_NAME))
    wait(two, 2)
    shutil.rmtree(one.folder() / "d")
    for name in ("taken", os.fsdecode(BAD_NAME)):
        put(one.folder() / name, b"at the name of the other one's fifo")
    put(one.folder() / "g", b"goes on")
    until("the rest goes on", lambda: (two.folder() / "g").exists() and not (two.folder() / "d/sub/f").exists())
    shown = until("each is said", lambda: rows if len(rows := blocked(two)) >= 4 else None)
    assert shown["d/sub/fifo"] == shown["taken"] == shown[BAD_NAME] == OTHER_KIND, shown
    assert "not replicated" in shown["d/sub"]
    waited = two.run("wait", "--timeout", "1")
    assert waited.returncode == 1
    assert waited.stderr.rstrip("\n").isprintable()
    assert "fifo \\xff\\n is blocked" in waited.stderr
    assert stat.S_ISFIFO((two.folder() / "taken").stat().st_mode)
    assert (two.folder() / "d/sub/fifo").exists()
    os.unlink(two.folder() / "d/sub/fifo")
    os.unlink(two.folder() / "taken")
    os.unlink(two.folder() / os.fsdecode(BAD_NAME))
    all_the_same(servers, members)
    assert differences(read_tree(one.folder()), read_tree(two.folder())) == []
    assert not (two.folder() / "d").exists()
    at_rest(members)
