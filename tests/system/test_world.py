"""Faults of the world on real daemons: disks that are full or read-only, watches that are used up, directories gone.

Each test that needs disks of its own runs in a user and mount namespace: it starts itself there again, in a process of
its own. Not every machine lets an ordinary user make one, so these are lab tests.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.system.harness import ANY_PORT, Server, Servers, until

NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount", "--propagation", "private")
INSIDE = "TESTS_IN_NAMESPACE"
LIBC = ctypes.CDLL(None, use_errno=True)
MS_RDONLY, MS_REMOUNT = 1, 32


def in_namespace(test: Callable[..., None]) -> Callable[..., None]:
    """The test is root in a namespace that has its mounts and its count of inotify watches to itself."""
    if INSIDE in os.environ:
        return test

    def outside() -> None:
        with tempfile.TemporaryDirectory(prefix="w") as base:  # a short path: it has to fit into a socket's address
            inside = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={base}/t"]
            done = subprocess.run(
                [*NAMESPACE, *inside, f"{__file__}::{test.__name__}"],
                env={**os.environ, INSIDE: "1"}, capture_output=True, text=True, timeout=120, check=False,
            )  # fmt: skip
        assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]

    outside.__name__, outside.__doc__, outside.__module__ = test.__name__, test.__doc__, test.__module__
    return pytest.mark.lab(outside)


def mount(path: Path, options: str) -> None:
    path.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(path)], check=True)


def remount(path: Path, *, size: str = "", read_only: bool = False) -> None:
    """By the system call: mount(8) adds owners that this namespace does not know."""
    flags = MS_REMOUNT | (MS_RDONLY if read_only else 0)
    options = f"size={size}".encode() if size else None
    if LIBC.mount(b"none", os.fsencode(path), None, flags, options):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(path))


def fill(path: Path) -> None:
    """Take all that is left on the disk."""
    handle = os.open(path, os.O_CREAT | os.O_WRONLY)
    try:
        while True:
            os.write(handle, b"x" * 4096)
    except OSError:
        return
    finally:
        os.close(handle)


def two_members(servers: Servers, *, home: str = "", folder: str = "") -> tuple[Server, Server]:
    """The second one's home or folder is a disk of its own."""
    one, two = servers.found(), servers.add("two")
    one.cli("folder", "create", "docs", str(one.folder()))
    for path, options in ((two.home, home), (two.folder(), folder)):
        if options:
            mount(path, options)
    two.cli("join", one.cli("invite"), "--name", "two", "--listen", ANY_PORT, "--api", ANY_PORT)
    two.cli("folder", "join", "docs", str(two.folder()))
    two.start()
    servers.synchronized(one, members=2)
    return one, two


def blocked(server: Server) -> dict[str, str]:
    return {row["path"]: row["reason"] for row in server.folder_status()["blocked"]}


def events(server: Server) -> list[str]:
    return server.cli("events").splitlines()


@in_namespace
def test_i10_full_and_read_only_disks_and_used_up_watches_stop_only_what_needs_them(
    servers: Servers,
) -> None:
    one, two = two_members(servers, folder="size=4m")
    (one.folder() / "big").write_bytes(os.urandom(6_000_000))
    needs = "no room on the folder's disk: the file needs 6000000 bytes, and "
    until("the big file is blocked", lambda: blocked(two).get("big", "").startswith(needs))
    for number in range(20):
        (one.folder() / f"small{number}").write_text("fits")
    until("what fits is there", lambda: (two.folder() / "small19").exists())
    remount(two.folder(), size="40m")
    servers.synchronized(one, members=2)
    servers.same([one, two])

    remount(two.folder(), read_only=True)
    (one.folder() / "small0").write_text("new")
    (one.folder() / "small1").unlink()

    def refused() -> bool:
        reasons = blocked(two)
        return all("read-only" in reasons.get(name, "").lower() for name in ("small0", "small1"))

    until("both are blocked", refused)
    assert two.folder_status()["state"] == 4
    remount(two.folder())
    servers.synchronized(one, members=2)
    servers.same([one, two])

    # Where inotify watches are used up, the sysctl is named, and the folder is polled.
    two.stop()
    for number in range(20):
        (two.folder() / f"d{number}").mkdir()
    limit = Path("/proc/sys/user/max_inotify_watches")
    one.stop()
    limit.write_text("10")
    two.start()
    polled = until("it is polled", lambda: two.folder_status()["polled"])
    assert "raise the sysctl fs.inotify.max_user_watches (now " in polled
    assert sum("raise the sysctl" in line for line in events(two)) == 1, "not once for each directory"


@in_namespace
def test_i12_a_home_whose_disk_is_full_loses_nothing_and_goes_on_when_there_is_room(servers: Servers) -> None:
    one, two = two_members(servers, home="size=48m,mode=700")
    filler = two.home / "filler"
    fill(filler)
    for number in range(50):
        (one.folder() / f"f{number}").write_text("x" * 100)
    (two.folder() / "mine").write_text("written while the home was full")
    until("the folder says why", lambda: "see to the disk of the home" in (two.folder_status()["reason"] or ""))
    assert two.folder_status()["state"] == 5
    two.stop()
    fill(two.home / "more")
    two.start()
    reason = until("it runs, and says why it does nothing", lambda: two.status()["member"]["trouble"])
    assert "see to the disk of the home" in reason
    assert "see to the disk of the home" in two.run("folder", "list").stderr
    filler.unlink()
    (two.home / "more").unlink()
    servers.synchronized(one, members=2)
    servers.same([one, two])
    assert (one.folder() / "mine").exists()
    assert "Traceback" not in two.last_words()


def test_i6_what_users_do_to_a_folders_directory_heals_or_waits_for_an_operator(servers: Servers) -> None:
    one, two = servers.group(2)
    for number in range(10):
        (one.folder() / f"f{number}").write_text(str(number))
    servers.synchronized(one, members=2)
    private = two.folder() / ".replicad"

    shutil.rmtree(private)
    (two.folder() / "f0").write_text("changed meanwhile")
    until(".replicad is made again", lambda: (private / "marker").exists())
    servers.synchronized(one, members=2)
    servers.same([one, two])
    assert any("this is the same directory, and 10 of 10 entries" in line for line in events(two))

    moved = two.folder().rename(two.base / "elsewhere")
    two.until_state(5)
    assert "replicad folder move" in two.folder_status()["reason"]
    two.cli("folder", "move", "docs", str(moved))
    (moved / "f1").write_text("changed there")
    servers.synchronized(one, members=2)
    assert (one.folder() / "f1").read_text() == "changed there"
    moved.rename(two.folder())
    two.cli("folder", "move", "docs", str(two.folder()))

    shutil.rmtree(private)
    for number in range(2, 10):
        (two.folder() / f"f{number}").unlink()
    (two.folder() / "f0").write_text("not from here")
    until("it is held", lambda: two.folder_status()["held"])
    assert "2 of 10" in two.cli("hold", "list")
    assert "hold reject docs" in two.cli("status")
    assert one.run("hold", "approve", "docs").returncode == 1
    two.cli("hold", "reject", "docs")
    servers.synchronized(one, members=2)
    servers.same([one, two])
    assert (one.folder() / "f0").read_text() == "changed meanwhile"
    assert [path.read_text() for path in (private / "PreExisting").iterdir()] == ["not from here"]


def test_what_only_a_removed_member_had_can_be_given_up(servers: Servers) -> None:
    one, two = servers.group(2)
    (one.folder() / "f").write_text("first")
    servers.synchronized(one, members=2)
    # The content does not come, as it cannot be staged here; then its only holder is gone.
    staging = two.folder() / ".replicad" / "staging"
    staging.chmod(0o500)
    if os.access(staging, os.W_OK):
        pytest.skip("root may write anywhere")
    (one.folder() / "f").write_text("second")
    until("it is known", lambda: blocked(two).get("f"))
    one.kill()
    staging.chmod(0o700)
    refused = two.run("abandon", str(two.folder() / "f"))
    assert "m0 has told that it has 1 of 1 files: bring it back, or remove it with `replicad member remove m0`" in (
        refused.stderr
    )
    two.cli("member", "remove", "m0")
    assert two.cli("abandon", str(two.folder() / "f")) == "given up: 1 files are as they are here, 0 are gone"
    until(f"nothing is blocked: {two.folder_status()}", lambda: not blocked(two), 5)
    assert (two.folder() / "f").read_text() == "first"
