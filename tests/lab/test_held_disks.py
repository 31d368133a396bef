"""A folder's own disk under a running daemon: held and unmounted, covered by another one, failing, and back again (I6).

The daemon keeps nothing open of a disk that is in question, so each of these is mended by umount and mount alone.
"""

import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.lab.disks import Disk, mount, run
from tests.system.folder_tools import at_rest, put, wait
from tests.system.harness import Server, Servers, until
from tests.tree_compare import assert_same_trees, read_tree

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

FILES = 12


class Kept:
    """Two members; the folder of `one` is a disk's root."""

    def __init__(self, servers: Servers, mounts: ExitStack, directory: Path, make: str) -> None:
        self.disk = Disk(mounts, directory, make)
        self.disk.mount()
        self.root = self.disk.place
        if make == "mkfs.ext4":
            (self.root / "lost+found").rmdir()
        self.one = servers.found()
        self.one.cli("folder", "create", "docs", str(self.root))
        self.two = servers.join(self.one, "m1")
        self.two.cli("folder", "join", "docs", str(self.two.folder()))
        self.members = [self.one, self.two]
        for number in range(FILES):
            put(self.root / f"d/f{number}", b"%d" % number)
        self.equal()

    def equal(self) -> None:
        for member in self.members:
            wait(member, len(self.members))
        assert_same_trees(self.root, self.two.folder())

    def lose_most(self) -> None:
        """Marker and all but three files: the folder is held."""
        run("rm", "-r", str(self.root / ".replicad"))
        for number in range(3, FILES):
            (self.root / f"d/f{number}").unlink()
        until("it is held", lambda: holds(self.one) == ["4 of 13"])

    def covered(self) -> None:
        assert list(self.root.iterdir()) == [], "the empty mount point, in which nothing is written"

    def unmount(self) -> None:
        """Nothing of it is open but for a moment now and then."""
        until("nothing keeps it mounted", lambda: not subprocess.run(["umount", self.root], check=False).returncode)


@pytest.fixture
def kept(request: pytest.FixtureRequest, servers: Servers, mounts: ExitStack, tmp_path: Path) -> Kept:
    return Kept(servers, mounts, tmp_path / "d", getattr(request, "param", "mkfs.ext4"))


def holds(member: Server) -> list[str]:
    return [f"{hold['there']} of {hold['looked_for']}" for hold in member.ask("GET", "/v1/holds")["holds"]]


def reason(member: Server) -> str:
    shot = member.folder_status()
    return str(shot["reason"]) if shot["state"] == 5 else ""


def test_i6_a_held_folder_that_is_unmounted_and_mounted_again_is_held_as_before_and_decided_upon(kept: Kept) -> None:
    """Meanwhile the empty mount point is there, which nobody takes for the folder."""
    one, two = kept.members
    kept.lose_most()
    before = read_tree(two.folder())
    run("umount", "-l", str(kept.root))
    until("it is said what is there now", lambda: holds(one) == ["0 of 13"])
    refused = one.run("hold", "approve", "docs")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1), refused
    assert "there is nothing at the folder's path" in refused.stderr
    put(two.folder() / "d/f1", b"edited meanwhile")
    until("it is known", lambda: one.folder_status()["backlog_in"]["files"] == 1)
    assert list(kept.root.iterdir()) == [], "the empty mount point, in which nothing is written"
    assert read_tree(two.folder()).keys() == before.keys(), "nothing is deleted by absence"

    kept.disk.mount_again()
    until("it is held as before", lambda: holds(one) == ["4 of 13"])
    assert (kept.root / "d/f1").read_bytes() == b"1"
    one.cli("hold", "approve", "docs")
    one.until_state(4)
    kept.equal()
    assert len(list((two.folder() / "d").iterdir())) == 3
    assert (kept.root / "d/f1").read_bytes() == b"edited meanwhile"
    at_rest(kept.members)
    assert "Traceback" not in one.last_words()


@pytest.mark.parametrize("kept", ["mkfs.xfs"], indirect=True)
def test_i6_a_disk_that_yields_errors_or_is_covered_by_another_goes_on_once_it_is_mounted_again(
    kept: Kept, mounts: ExitStack
) -> None:
    """A filesystem that was shut down stays so until nobody has it open: to mount it again beside that is no help."""
    one, two = kept.members
    kept.disk.shut_down()
    until("it is said", lambda: "Input/output error" in reason(one))
    assert "\n" not in reason(one)
    assert holds(one) == []
    put(two.folder() / "d/f1", b"edited meanwhile")
    until("it is known", lambda: one.folder_status()["backlog_in"]["files"] == 1)
    kept.unmount()
    kept.disk.mount_again()
    put(kept.root / "mine", b"made before it is looked at again")
    one.until_state(4)
    kept.equal()
    assert (kept.root / "d/f1").read_bytes() == b"edited meanwhile"
    assert (two.folder() / "mine").read_bytes() == b"made before it is looked at again"

    # Another disk over it is not taken for it, and nothing keeps that mounted either.
    mount(mounts, kept.root, "-t", "tmpfs", "none")
    put(kept.root / "other", b"of another disk")
    until("it is said", lambda: "the root marker is missing" in reason(one))
    put(two.folder() / "new", b"made meanwhile")
    until("it is known", lambda: one.folder_status()["backlog_in"]["files"] == 1)
    assert [path.name for path in kept.root.iterdir()] == ["other"]
    assert (two.folder() / "mine").exists(), "nothing is deleted by absence"
    kept.unmount()
    one.until_state(4)
    kept.equal()
    assert not (two.folder() / "other").exists()
    at_rest(kept.members)

    # Where an operator says that what is there is not to count, the folder lies on that disk from then on.
    mount(mounts, kept.root, "-t", "tmpfs", "none")
    put(kept.root / "other", b"of another disk")
    until("it is held", lambda: holds(one) == ["0 of 15"])
    one.cli("hold", "reject", "docs")
    one.until_state(4)
    kept.equal()
    assert not (kept.root / "other").exists()
    assert [path.read_bytes() for path in (kept.root / ".replicad/PreExisting").iterdir()] == [b"of another disk"]
    assert "Traceback" not in one.last_words()
