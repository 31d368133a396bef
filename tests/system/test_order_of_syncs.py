"""I12: data, then rename, then directory, then commit, then acknowledgement, seen in a daemon's system calls.

A member is traced while it installs a batch of small files, a large one, a rename, a symlink, a deletion and what
loses a conflict, and while its own user makes, edits and deletes files. The trace is held against the rules of
tests/system/trace.py. That these rules see what they are to see is tried on the same trace, with calls taken out.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from tests.system.folder_tools import all_the_same, at_rest, head_of, preserved_rows, stay, wait
from tests.system.harness import ANY_PORT, Server, Servers, until
from tests.system.trace import Order, tracer

SMALL_FILES = 100
CONFLICTS = 20


def traced(servers: Servers, name: str, token: str) -> tuple[Server, Path]:
    member = servers.add(name)
    trace = member.base / "trace"
    member.module = "tests.system.tracing"
    member.tracer = tracer(trace)
    member.cli("join", token, "--name", name, "--listen", ANY_PORT, "--api", ANY_PORT)
    member.cli("folder", "join", "docs", str(member.folder()))
    member.start()
    return member, trace


def live(other: Server, member: Server) -> None:
    """What both users do."""
    one, two = other.folder(), member.folder()
    (one / "d").mkdir()
    for number in range(SMALL_FILES):
        (one / f"d/f{number}").write_bytes(b"%d" % number)
    (one / "large").write_bytes(bytes(range(256)) * 2_000)
    (one / "link").symlink_to("d")
    (two / "own").write_bytes(b"its own")
    (two / "goes").write_bytes(b"goes")
    wait(other, 2)
    (one / "d/f0").rename(one / "renamed")
    (one / "d/f1").unlink()
    (one / "d/f2").write_bytes(b"edited")
    (one / "d/f3").chmod(0o600)
    (one / "large").write_bytes(b"in front of it" + bytes(range(256)) * 2_000)
    (one / "link").unlink()
    (one / "link").symlink_to("renamed")
    (two / "own").write_bytes(b"its own, edited")
    (two / "goes").unlink()
    (two / "d/f4").rename(two / "moved")
    wait(member, 2)


def lose(member: Server, other: Server) -> None:
    """`member` has its versions stamped before `other`, stopped meanwhile, has later ones of the same names."""
    stay([other])
    other.stop()
    head = head_of(member)
    for number in range(CONFLICTS):
        (member.folder() / f"n{number}").write_bytes(b"first %d" % number)
    until("its versions are stamped", lambda: head_of(member) >= head + CONFLICTS)
    for number in range(CONFLICTS):
        (other.folder() / f"n{number}").write_bytes(b"later %d" % number)
    other.start()


def without(lines: Iterable[str], gone: Callable[[str], bool]) -> Iterator[str]:
    return (line for line in lines if not gone(line))


def found(lines: Iterable[str], root: Path) -> str:
    return "\n".join(Order(str(root)).check(lines))


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_i12_data_rename_commit_and_acknowledgement_follow_each_other(servers: Servers) -> None:
    other = servers.found("other")
    other.cli("folder", "create", "docs", str(other.folder()))
    member, trace = traced(servers, "traced", other.cli("invite"))
    members = [other, member]
    wait(member, 2)
    live(other, member)
    lose(member, other)
    all_the_same(servers, members)
    at_rest(members, preserved=None)
    preserved = preserved_rows(member)
    member.stop()
    lines = trace.read_text(errors="replace").splitlines()

    order = Order(str(member.folder()))
    assert order.check(lines) == []
    seen = order.seen
    assert len(preserved) == CONFLICTS
    assert seen["changes of the tree"] > SMALL_FILES + len(preserved)
    assert seen["changes of its own"] >= 2
    assert seen["syncs in the folder"] < SMALL_FILES, "they are grouped"
    assert seen["told by page"] >= 2
    assert seen["told by status"] >= 2

    root = member.folder()
    unsynced = found(without(lines, lambda line: " syncfs(" in line), root)
    assert "an intent before" in unsynced
    assert "a commit before what was done to" in unsynced
    assert "changes of its own that are not synced" in unsynced
    assert "before the log of" in found(without(lines, lambda line: " fdatasync(" in line), root)
    early = without(lines, lambda line: '"committed' in line.replace("\\", "") and "hierarchy" not in line)
    assert "what no commit has stored" in found(early, root)
