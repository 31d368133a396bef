"""Disks and mounts as root makes them: a mount inside a folder (I6, S29), and a reboot that changes device numbers."""

import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from replicad.core.diff import OTHER_MOUNT
from tests.lab.disks import Disk, mount, run, unmount
from tests.system.folder_tools import all_the_same, at_rest, head_of, put, stay, wait
from tests.system.harness import ANY_PORT, Server, Servers, until
from tests.tree_compare import assert_same_trees, read_tree

pytestmark = pytest.mark.lab

OTHER_MOUNT_TROUBLE = "it is on another filesystem or mount than the folder"


def reasons(member: Server) -> dict[str, str]:
    return {row["path"]: row["reason"] for row in member.folder_status()["blocked"]}


@pytest.mark.parametrize(("kind", "when"), [("tmpfs", "running"), ("bind", "stopped"), ("itself", "running")])
def test_i6_what_a_mount_covers_is_neither_deleted_nor_changed_and_goes_on_when_it_is_unmounted(
    servers: Servers, mounts: ExitStack, tmp_path: Path, kind: str, when: str
) -> None:
    """S29. `itself`: a bind mount of the very directory, in which everything is as it was."""
    one, two = members = servers.group(2)
    media = one.folder() / "media"
    for name in ("under", "edited", "goes", "d/x"):
        put(media / name, name.encode())
    put(one.folder() / "beside", b"beside")
    all_the_same(servers, members)
    covered = read_tree(media)

    if when == "stopped":
        one.stop()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    how = {"tmpfs": ("-t", "tmpfs", "none"), "bind": ("--bind", str(elsewhere)), "itself": ("--bind", str(media))}
    mount(mounts, media, *how[kind])
    (media / "film").write_bytes(b"on the other filesystem")
    if when == "stopped":
        one.start()
    on_mount = read_tree(media)

    # The other member goes on in that directory.
    put(two.folder() / "media/edited", b"edited elsewhere", mtime_ns=10**18)
    put(two.folder() / "media/new", b"new elsewhere")
    put(two.folder() / "media/d/y", b"new below")
    (two.folder() / "media/made").mkdir()
    (two.folder() / "media/goes").unlink()
    put(two.folder() / "after", b"goes on")
    until("the rest goes on", lambda: (one.folder() / "after").exists())
    until("it is said", lambda: reasons(one).get("media") == OTHER_MOUNT)
    one.stop()  # another full scan
    one.start()
    put(one.folder() / "once more", b"goes on")
    until("the rest goes on", lambda: (two.folder() / "once more").exists())
    assert reasons(one)["media"] == OTHER_MOUNT
    shown = until("each is said", lambda: rows if len(rows := reasons(one)) >= 5 else None)
    assert shown.pop("media") == OTHER_MOUNT
    assert set(shown.values()) == {OTHER_MOUNT_TROUBLE}, shown
    assert read_tree(media) == on_mount, "nothing was done on the other filesystem"
    assert sorted(path.name for path in (two.folder() / "media").iterdir()) == ["d", "edited", "made", "new", "under"]

    unmount(media)
    if kind != "itself":
        assert read_tree(media) == covered, "nothing was done beneath the mount"
    until("it is taken up again by itself", lambda: (media / "new").exists() and not reasons(one), 60)
    all_the_same(servers, members)
    assert (media / "edited").read_bytes() == b"edited elsewhere"
    assert not (media / "goes").exists()
    assert (two.folder() / "media/film").exists() == (kind == "itself")
    at_rest(members)


@pytest.mark.parametrize("kind", ["tmpfs", "file", "nested"])
def test_a_mount_is_listed_though_nobody_changes_anything_and_not_once_it_is_unmounted(
    servers: Servers, mounts: ExitStack, tmp_path: Path, kind: str
) -> None:
    """Nothing but the table of mounts tells of it."""
    one, two = members = servers.group(2)
    media = one.folder() / "d/media"
    put(media / "f", b"covered")
    all_the_same(servers, members)
    if kind == "file":
        other = tmp_path / "other"
        other.write_bytes(b"on the other filesystem")
        mount(mounts, media / "f", "--bind", str(other))
        covered = "d/media/f"
    else:
        mount(mounts, media, "-t", "tmpfs", "none")
        covered = "d/media"
    if kind == "nested":
        (media / "inner").mkdir()
        mount(mounts, media / "inner", "-t", "tmpfs", "none")
    until("it is said", lambda: reasons(one) == {covered: OTHER_MOUNT})
    assert (two.folder() / "d/media/f").read_bytes() == b"covered"
    if kind == "nested":
        unmount(media / "inner")
    unmount(one.folder() / covered)
    until("it is said no more", lambda: not reasons(one))
    put(media / "f", b"edited")
    put(media / "new", b"goes on")
    all_the_same(servers, members)
    assert (two.folder() / "d/media/new").read_bytes() == b"goes on"
    at_rest(members)


def test_i6_a_mount_over_the_folder_is_noticed_at_once(servers: Servers, mounts: ExitStack) -> None:
    one, two = members = servers.group(2)
    put(one.folder() / "d/f", b"covered")
    all_the_same(servers, members)
    mount(mounts, one.folder(), "-t", "tmpfs", "none")
    until("it is said", lambda: one.folder_status()["state"] == 5)
    assert (two.folder() / "d/f").read_bytes() == b"covered"
    assert list(one.folder().iterdir()) == []
    unmount(one.folder())
    until("it goes on", lambda: one.folder_status()["state"] == 4)
    put(one.folder() / "d/new", b"goes on")
    all_the_same(servers, members)
    at_rest(members)


def test_a_name_that_a_mount_has_here_waits_and_what_is_deleted_elsewhere_is_deleted_once_it_is_uncovered(
    servers: Servers, mounts: ExitStack
) -> None:
    one, two = members = servers.group(2)
    put(one.folder() / "media/under", b"covered")
    all_the_same(servers, members)
    (one.folder() / "disk").mkdir()
    for name in ("media", "disk"):
        mount(mounts, one.folder() / name, "-t", "tmpfs", "none")
        (one.folder() / name / "film").write_bytes(b"on the other filesystem")
    (two.folder() / "media/under").unlink()
    (two.folder() / "media").rmdir()
    put(two.folder() / "disk/x", b"beneath the name of the other one's mount")
    put(two.folder() / "after", b"goes on")
    until("the rest goes on", lambda: (one.folder() / "after").exists())
    until("both are said", lambda: reasons(one).get("media") == reasons(one).get("disk") == OTHER_MOUNT)
    for name in ("media", "disk"):
        assert [path.name for path in (one.folder() / name).iterdir()] == ["film"]
    assert not (two.folder() / "media").exists(), "what was deleted comes not back"
    for name in ("media", "disk"):
        unmount(one.folder() / name)
    until("nothing waits any more", lambda: not reasons(one), 60)
    until("what came is installed", (one.folder() / "disk/x").exists)
    until("what was deleted is gone", lambda: not (one.folder() / "media").exists())
    all_the_same(servers, members)
    at_rest(members)


def test_i7_what_a_mount_covered_while_its_member_rejoined_does_not_come_back(
    servers: Servers, mounts: ExitStack
) -> None:
    """What the group has is adopted, what was written there since is new, the rest goes to PreExisting; also where the
    daemon was killed in between."""
    one, two = members = servers.group(2)
    for name in ("media/gone", "media/d/gone", "media/here", "covered/gone"):
        put(one.folder() / name, name.encode())
    all_the_same(servers, members)
    places = [two.folder() / name for name in ("media", "covered")]
    for place in places:
        mount(mounts, place, "-t", "tmpfs", "none")
        (place / "film").write_bytes(b"on the other filesystem")
    two.cli("rejoin", "docs")
    two.until_state(4)
    for name in ("media/gone", "media/d/gone", "covered/gone"):
        (one.folder() / name).unlink()
    for name in ("media/d", "covered"):
        (one.folder() / name).rmdir()
    put(one.folder() / "after", b"goes on")
    until("the rest goes on", lambda: (two.folder() / "after").exists())
    two.kill()
    two.start()
    until("they are said", lambda: reasons(two).get("media") == reasons(two).get("covered") == OTHER_MOUNT)
    for place in places:
        unmount(place)
    put(two.folder() / "media/new", b"written there since")
    until("nothing waits any more", lambda: not reasons(two), 90)
    all_the_same(servers, members)
    assert sorted(read_tree(one.folder())) == sorted([b"after", b"media", b"media/here", b"media/new"])
    assert two.folder_status()["preserved"]["files"] == 3
    at_rest(members, preserved=3)


@pytest.mark.parametrize("make", ["mkfs.ext4", "mkfs.xfs"])
def test_a_reboot_that_changes_device_numbers_changes_nothing(
    servers: Servers, mounts: ExitStack, tmp_path: Path, make: str
) -> None:
    """The disk is the one that it was, by the marker's id and inode and the filesystem's UUID; entries keep their
    inodes, so what was moved meanwhile is a move."""
    disk = Disk(mounts, tmp_path / "d", make)
    disk.mount()
    one = servers.found()
    root = disk.place / "docs"
    one.cli("folder", "create", "docs", str(root))
    two = servers.join(one, "m1")
    two.cli("folder", "join", "docs", str(two.folder()))
    for number in range(50):
        put(root / f"d/f{number}", b"%d" % number * 1_000)
    wait(one, 2)
    wait(two, 2)
    assert_same_trees(root, two.folder())
    device, heads = os.stat(root).st_dev, (head_of(one), head_of(two))

    one.stop()
    disk.unmount()
    disk.take_number()
    disk.mount()
    assert os.stat(root).st_dev != device
    (root / "d").rename(root / "moved")
    one.start()
    wait(one, 2)
    assert_same_trees(root, two.folder())
    assert (head_of(one), head_of(two)) == (heads[0] + 1, heads[1] + 1), "a rename is one record"
    at_rest([one, two])

    # Another disk in its place, empty: nothing is deleted anywhere.
    one.stop()
    disk.unmount()
    before = read_tree(two.folder())
    (disk.place / "docs").mkdir()
    one.start()
    until("it is said", lambda: one.folder_status()["state"] == 5)
    assert read_tree(two.folder()) == before
    one.stop()
    (disk.place / "docs").rmdir()
    disk.mount()
    one.start()
    wait(one, 2)
    assert_same_trees(root, two.folder())
    at_rest([one, two])


def test_i6_a_disk_that_is_unmounted_and_mounted_again_while_the_daemon_runs(
    servers: Servers, mounts: ExitStack, tmp_path: Path
) -> None:
    """Nothing is deleted meanwhile, not a thing is written beneath, and it goes on by itself."""
    disk = Disk(mounts, tmp_path / "d", "mkfs.ext4")
    disk.mount()
    one = servers.found()
    root = disk.place / "docs"
    one.cli("folder", "create", "docs", str(root))
    two = servers.join(one, "m1")
    two.cli("folder", "join", "docs", str(two.folder()))
    put(root / "d/f", b"on the disk")
    wait(one, 2)
    run("umount", "-l", str(disk.place))
    until("it is said", lambda: one.folder_status()["state"] == 5)
    put(two.folder() / "d/f", b"edited meanwhile")
    (two.folder() / "new").write_bytes(b"made meanwhile")
    until("it is known", lambda: one.folder_status()["backlog_in"]["files"] == 2)
    assert list(disk.place.iterdir()) == []
    disk.mount_again()
    until("it goes on", lambda: one.folder_status()["state"] == 4)
    wait(one, 2)
    assert_same_trees(root, two.folder())
    assert (root / "d/f").read_bytes() == b"edited meanwhile"
    at_rest([one, two])


def test_i12_a_home_that_turns_read_only_while_the_daemon_runs_loses_nothing_and_goes_on_once_it_is_mended(
    servers: Servers, mounts: ExitStack, tmp_path: Path
) -> None:
    """What was written meanwhile on either side is taken up; links and folders come back."""
    disk = Disk(mounts, tmp_path / "d", "mkfs.ext4")
    disk.mount()
    run("mount", "-o", "remount,errors=remount-ro", str(disk.place))
    one, two = servers.found(), servers.add("m1")
    two.home = disk.place / "home"
    one.cli("folder", "create", "docs", str(one.folder()))
    two.cli("join", one.cli("invite"), "--name", "m1", "--listen", ANY_PORT, "--api", ANY_PORT)
    two.cli("folder", "join", "docs", str(two.folder()))
    two.start()
    for number in range(20):
        put(one.folder() / f"d/f{number}", b"%d" % number)
    members = [one, two]
    stay(members)
    all_the_same(servers, members)

    disk.turn_read_only()
    put(one.folder() / "d/f0", b"edited on the other side")
    (one.folder() / "d/f1").unlink()
    put(two.folder() / "d/f2", b"edited while the home was read-only")
    put(two.folder() / "mine", b"made while the home was read-only")
    (two.folder() / "d/f3").rename(two.folder() / "moved")
    until("it says why", lambda: trouble_of(two).endswith("see to the disk of the home, and it goes on by itself"))
    assert "\n" not in trouble_of(two)
    one.cli("folder", "set", "docs", "conflicts=sibling")
    until("nothing of the group can be changed there", lambda: two.status()["member"]["trouble"])
    assert one.connected() == {"m1"}, "its link stays"
    put(one.folder() / "after", b"goes on")
    two.stop()
    refused = two.run("run")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1), refused
    assert "Read-only file system" in refused.stderr

    disk.mend()
    two.start()
    until("the link is back", lambda: one.connected() == {"m1"})
    all_the_same(servers, members)
    assert (one.folder() / "mine").read_bytes() == b"made while the home was read-only"
    assert (one.folder() / "d/f2").read_bytes() == b"edited while the home was read-only"
    assert (two.folder() / "d/f0").read_bytes() == b"edited on the other side"
    assert not (two.folder() / "d/f1").exists()
    assert (one.folder() / "moved").read_bytes() == b"3"
    at_rest(members)
    assert "Traceback" not in two.last_words()


def trouble_of(server: Server) -> str:
    """Of the member, or of its folder."""
    shot = server.status()
    reasons = [shot["member"]["trouble"], *(folder["reason"] for folder in shot["folders"])]
    return next((str(reason) for reason in reasons if reason), "")
