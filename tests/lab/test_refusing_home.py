"""A home whose disk refuses every change while the daemon is at work, and takes them again while it still is.

A filesystem that had an error stays read-only until it is unmounted, and a daemon holds it open (test_mounts.py has
that case, with a restart). So the system calls are refused by a tracer: what is written to the files of the home, and
nothing else, fails as on a filesystem that is read-only, and goes on once the tracer lets go.
"""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.system.folder_tools import all_the_same, at_rest, put, stay, wait
from tests.system.harness import Server, Servers, until

pytestmark = pytest.mark.lab

REFUSED = "pwrite64,write,fsync,fdatasync,ftruncate"


@contextmanager
def refusing(server: Server, error: str) -> Iterator[None]:
    """Every change of a file that is in the server's home now fails with this error."""
    files = [path for path in server.home.rglob("*") if path.is_file() and not path.is_symlink()]
    tracer = subprocess.Popen(
        ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={REFUSED}", "-e", f"inject={REFUSED}:error={error}"]
        + [part for path in files for part in ("-P", str(path))]
        + ["-p", str(server.pid)]
    )
    try:
        until("every thread is traced", lambda: is_traced(server.pid))
        yield
    finally:
        tracer.terminate()
        tracer.wait()


def is_traced(pid: int) -> bool:
    statuses = [(task / "status").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    return not any("TracerPid:\t0\n" in status for status in statuses)


def trouble(server: Server) -> str:
    """Of the member, or of its folder."""
    shot = server.status()
    return " ".join(filter(None, [shot["member"]["trouble"], *(folder["reason"] for folder in shot["folders"])]))


@pytest.mark.parametrize("error", ["EROFS", "EIO"])
def test_i12_a_home_that_refuses_every_change_for_a_while_loses_nothing_and_the_daemon_goes_on_by_itself(
    servers: Servers, error: str
) -> None:
    """Its API answers all the time, and says why what does not go on; its links and the folder that has nothing to
    write stay, and the other member is not held up."""
    one, two = members = servers.group(2)
    one.cli("folder", "create", "quiet", str(one.folder("quiet")))
    put(one.folder("quiet") / "f", b"at rest")
    until("it is known there", lambda: two.run("folder", "join", "quiet", str(two.folder("quiet"))).returncode == 0)
    two.until_state(4, "quiet")
    until("it is there", (two.folder("quiet") / "f").exists)
    for number in range(20):
        put(one.folder() / f"d/f{number}", b"%d" % number)
    stay(members)
    all_the_same(servers, members)
    pid = two.pid

    with refusing(two, error):
        put(one.folder() / "d/f0", b"edited on the other side")
        (one.folder() / "d/f1").unlink()
        put(two.folder() / "d/f2", b"edited while the home refused")
        put(two.folder() / "mine", b"made while the home refused")
        (two.folder() / "d/f3").rename(two.folder() / "moved")
        (two.folder() / "d/f4").unlink()
        until("it says why", lambda: trouble(two).endswith("see to the disk of the home, and it goes on by itself"))
        assert "\n" not in trouble(two)
        one.cli("folder", "set", "docs", "conflicts=sibling")  # the other catalog of the home has to take that
        until("nothing of the group can be changed there", lambda: two.status()["member"]["trouble"])
        refused = two.run("invite")
        assert (refused.returncode, refused.stderr.count("\n")) == (1, 1), refused
        assert "see to the disk of the home" in refused.stderr
        put(one.folder() / "after", b"goes on")
        with pytest.raises(AssertionError, match="m1: the folder has stopped there: the catalog"):
            wait(one, 2, timeout_s=10)
        assert one.connected() == {"m1"}
        assert two.connected() == {"m0"}
        assert two.folder_status("quiet")["state"] == 4
        assert two.folder_status()["state"] == 5

    until("nothing is said any more", lambda: not trouble(two))
    for member in (two, one):
        member.cli("folder", "leave", "quiet")
    all_the_same(servers, members)
    assert two.pid == pid
    assert not two.ended
    assert [event for event in two.last_words().splitlines() if "the link to m0 ended" in event] == []
    assert (one.folder() / "mine").read_bytes() == b"made while the home refused"
    assert (one.folder() / "d/f2").read_bytes() == b"edited while the home refused"
    assert (one.folder() / "moved").read_bytes() == b"3"
    assert (two.folder() / "d/f0").read_bytes() == b"edited on the other side"
    for member in members:
        assert not (member.folder() / "d/f1").exists()
        assert not (member.folder() / "d/f4").exists()
    at_rest(members)
    assert "Traceback" not in two.last_words()
