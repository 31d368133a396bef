"""Power loss on real filesystems (I2, I12): what a member has told as installed is there, and whole.

XFS and ext4 on loop mounts are shut down without their log being flushed (the ioctl that filesystems are tested with),
so what was not synced is lost as in a power cut. The home and the folder lie on one such filesystem, or on two. What
counts as told is what the other member has heard by then, as it keeps it: it is compared with the disk before the
member starts again.
"""

import fcntl
import os
import random
import sqlite3
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import msgspec
import pytest
from blake3 import blake3

from replicad.catalog.store import Reader
from replicad.core.cnset import CNSet
from replicad.core.ids import ROOT, Uid
from replicad.core.messages import MemberStatus
from replicad.core.records import DIRECTORY, FILE, SYMLINK, Content, Record
from replicad.core.status_board import open_status
from replicad.core.tree import tree_of
from tests.system.dying import SETTING
from tests.system.folder_tools import all_the_same, at_rest, catalog, stay, wait
from tests.system.harness import ANY_PORT, Server, Servers, until
from tests.system.restless import User, What, differing, shown_in, wanted_by
from tests.torture.registers import used_twice

pytestmark = pytest.mark.lab

SHUT_DOWN = 0x8004587D
"""XFS_IOC_GOINGDOWN, which ext4 takes, too."""
WITHOUT_FLUSHING = struct.pack("I", 2)
IMAGE_BYTES = 320 << 20
"""XFS takes nothing smaller than 300 MB."""
AT_WORK = {
    ("ext4", "one disk"): "act: exchanged",
    ("ext4", "two disks"): "batch: before it is told",
    ("xfs", "one disk"): "batch: synced",
    ("xfs", "two disks"): "act: put",
}
"""The point (tests/system/dying.py) at which the member dies under load, and the power with it."""
REACHED_S = 60.0
STEPS_TO_REST = 20
PACE_S = 0.02
CHECKED_MIN = 20
LET_GO_S = 60.0
USED_ONCE = ("f", "r")
"""Names that users give once: what was deleted under such a name, and is there, is that."""


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout.strip()


class Disk:
    """A filesystem in a file."""

    def __init__(self, base: Path, name: str, kind: str, stack: ExitStack) -> None:
        self.place = base / name
        self.place.mkdir(parents=True)
        self._image = base / f"{name}.image"
        with self._image.open("wb") as file:
            file.truncate(IMAGE_BYTES)
        run(f"mkfs.{kind}", "-q", str(self._image))
        self.mount()
        stack.callback(subprocess.run, ["umount", "-l", str(self.place)], capture_output=True, check=False)

    def mount(self) -> None:
        run("mount", "-o", "loop", str(self._image), str(self.place))

    def cut_power(self) -> None:
        handle = os.open(self.place, os.O_RDONLY)
        try:
            fcntl.ioctl(handle, SHUT_DOWN, WITHOUT_FLUSHING)
        finally:
            os.close(handle)

    def come_back(self) -> None:
        """It is read anew only when it is mounted nowhere any more: a process begun meanwhile in a namespace of
        its own has a copy of the mount."""
        run("umount", str(self.place))
        until("the disk is let go of", lambda: not run("losetup", "-j", str(self._image)), LET_GO_S)
        self.mount()


class Victim(Server):
    """Its home and its folder lie on disks that can lose power; what it says does not."""

    def __init__(self, base: Path, home: Disk, folder: Disk) -> None:
        super().__init__(base, "victim")
        self.disks = list({id(disk): disk for disk in (home, folder)}.values())
        self.home = home.place / "home"
        self._folder = folder.place / "docs"

    def folder(self, name: str = "docs") -> Path:
        return self._folder

    def lose_power(self, rng: random.Random) -> None:
        rng.shuffle(self.disks)  # one instant may lie on either side of a call
        for disk in self.disks:
            disk.cut_power()
        if self.ended:
            self.wait_for_end()
        else:
            self.kill()

    def find_disks_again(self) -> None:
        for disk in self.disks:
            disk.come_back()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as held:
        yield held


def told_by(other: Server, name: str) -> CNSet:
    """What this member has said last of what it has installed, as the other one has kept it."""
    member = next(one["id"] for one in other.status()["members"] if one["name"] == name)
    with catalog(other) as reader:
        path = other.home / "catalog" / f"{other.folder_status()['id']}.db"
        with closing(sqlite3.connect(path)) as db:
            (raw,) = db.execute("SELECT status FROM peer WHERE member = ?", (member,)).fetchone()
        assert reader.known
    known = open_status(msgspec.msgpack.decode(raw, type=MemberStatus), direct=False, received_ms=0)
    return known.installed


def snapshot(member: Server, place: Path) -> Path:
    """Its catalogs as they are, for what it holds and later forgets."""
    (place / "catalog").mkdir(parents=True)
    for path in (member.home / "catalog").glob("*.db"):
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(place / "catalog" / path.name)) as copy:
            source.backup(copy)
    return place


class Memory:
    """What the other member knows, held against what is on the disk that lost power."""

    def __init__(self, other: Server, told: CNSet) -> None:
        self._told = told
        self._other = other
        self.checked = 0

    def check(self, root: Path, own: User, shown: dict[str, What]) -> None:
        with catalog(self._other) as reader:
            for raw, found in tree_of(reader).items():
                state = reader.object(found.lead)
                path = os.fsdecode(raw)
                if state is None or not self._covers(state.record) or self._went_on(own, path, state.record):
                    continue
                self.checked += 1
                self._check_one(root / path, found.kind, state.record.content)
            self._check_deleted(reader, shown)

    def _covers(self, record: Record) -> bool:
        return bool(record.place and record.content) and all(cn in self._told for cn in record.cns())

    def _went_on(self, own: User, path: str, record: Record) -> bool:
        """Its user has changed it since; that was not told."""
        if not path.startswith(own.place + "/"):
            return False
        name = path.partition("/")[2]
        if record.kind == DIRECTORY:
            return name.startswith("e") and name not in own.directories
        newest = own.history.get(name, [None])[-1]
        if record.kind == FILE:
            return not isinstance(newest, bytes) or blake3(newest).digest() != record.content.digest
        return record.kind == SYMLINK and newest != os.fsdecode(record.content.value)

    def _check_one(self, at: Path, kind: int, content: Content) -> None:
        assert os.path.lexists(at), f"told as installed, and not there: {at}"
        if kind == FILE:
            assert blake3(at.read_bytes()).digest() == content.digest, f"told as installed, and another content: {at}"
        elif kind == SYMLINK:
            assert os.fsencode(os.readlink(at)) == content.value, at

    def _check_deleted(self, reader: Reader, shown: dict[str, What]) -> None:
        rows = reader._db.execute("SELECT uid FROM object WHERE live = 0").fetchall()
        for (uid,) in rows:
            state = reader.object(uid)
            record = state.record
            path = self._path(reader, uid)
            if not os.path.basename(path).startswith(USED_ONCE) or not self._covers(record) or not record.content.gone:
                continue
            self.checked += 1
            assert path not in shown, f"told as deleted, and there: {path}"

    def _path(self, reader: Reader, uid: Uid) -> str:
        """Empty where what is above has not come (rule 10): the power went in the middle of what the other was told."""
        names: list[str] = []
        while uid != ROOT:
            state = reader.object(uid)
            if state is None or state.record.place is None:
                return ""
            names.append(os.fsdecode(state.record.place.name))
            uid = state.record.place.parent
        return "/".join(reversed(names))


class Trial:
    """A member that loses power again and again, and another that remembers what it was told."""

    def __init__(self, servers: Servers, home: Disk, folder: Disk, snapshots: Path) -> None:
        self.servers = servers
        self.snapshots = snapshots
        self.checked = 0
        self.random = random.Random(str(snapshots.name))
        self.other = servers.found("other")
        self.other.cli("folder", "create", "docs", str(self.other.folder()))
        self.victim = Victim(servers.base, home, folder)
        servers.all.append(self.victim)
        self.victim.cli("join", self.other.cli("invite"), "--name", "victim", "--listen", ANY_PORT, "--api", ANY_PORT)
        self.victim.cli("folder", "join", "docs", str(self.victim.folder()))
        self.victim.start()
        self.members = [self.other, self.victim]
        servers.synchronized(self.victim, members=2)
        stay(self.members)
        self.far, self.own = (User(one.folder(), one.name, f"{snapshots.name}") for one in self.members)

    def at_work_until_it_dies(self, point: str) -> None:
        """At a point of its own work (tests/system/dying.py), and the power with it."""
        self.victim.stop()
        self.victim.module = "tests.system.dying"
        self.victim.settings[SETTING] = point
        self.victim.begin()
        end = time.monotonic() + REACHED_S
        while not self.victim.ended:
            assert time.monotonic() < end, f"it never came to: {point}"
            self.far.step()
            self.own.step()
            time.sleep(PACE_S)  # the users' pace
        self.victim.module = "replicad"
        del self.victim.settings[SETTING]
        self.lose_power(point)

    def at_rest_after(self, user: User, name: str) -> None:
        """What was synced for one of them must not be all that covers what the other has done."""
        for _ in range(STEPS_TO_REST):
            user.step()
        wait(self.other, len(self.members))  # that it is installed on both
        expected = wanted_by((self.far, self.own))
        wrong = differing(expected, self.lose_power(name))
        assert not wrong, f"{name}: a wait has said that it is installed, and it is not there: {wrong}"

    def lose_power(self, name: str) -> dict[str, What]:
        """And start again, and go on until all is one. Returns what was on the disk by then."""
        self.victim.lose_power(self.random)
        until("the other member has noticed", lambda: "victim" not in self.other.connected())
        place = snapshot(self.other, self.snapshots / str(len(list(self.snapshots.glob("*")))))
        memory = Memory(self.other, told_by(self.other, "victim"))
        self.victim.find_disks_again()
        shown = shown_in(self.victim.folder())
        try:
            memory.check(self.victim.folder(), self.own, shown)
        except AssertionError as error:
            raise AssertionError(f"power lost at {name}, see {place}") from error
        self.checked += memory.checked
        self.own.look_again()
        self.victim.start()
        all_the_same(self.servers, self.members)
        wrong = differing(self.far.expected(), shown_in(self.victim.folder(), self.far.place))
        assert not wrong, f"{name}: what the other member's user made is not as it was made: {wrong}"
        at_rest(self.members, preserved=None)
        return shown

    def end(self) -> None:
        assert self.checked > CHECKED_MIN, self.checked
        for member in self.members:
            member.stop()
        homes = [member.home for member in self.members] + list(self.snapshots.glob("*"))
        assert used_twice(homes) == []


@pytest.mark.timeout(300)
@pytest.mark.parametrize("layout", ["one disk", "two disks"])
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_i12_what_was_told_as_installed_survives_a_power_loss(
    stack: ExitStack, servers: Servers, tmp_path: Path, kind: str, layout: str
) -> None:
    disk = Disk(tmp_path / "disks", "one", kind, stack)
    home = disk if layout == "one disk" else Disk(tmp_path / "disks", "other", kind, stack)
    trial = Trial(servers, home, disk, tmp_path / f"{kind} {layout}")
    if layout == "two disks":
        trial.lose_power("the start")
    trial.at_work_until_it_dies(AT_WORK[kind, layout])
    trial.at_rest_after(trial.own, "its own user's work")
    trial.at_rest_after(trial.far, "the other user's work")
    trial.end()
