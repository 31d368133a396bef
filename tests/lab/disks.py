"""Disks and mounts for lab tests: filesystems in files on loop devices."""

import errno
import fcntl
import os
import struct
import subprocess
from contextlib import ExitStack
from pathlib import Path

from tests.system import evidence
from tests.system.harness import until

SHUT_DOWN = 0x8004587D
"""XFS_IOC_GOINGDOWN, which ext4 takes, too; with 0, what was written is flushed before."""


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout.strip()


def mount(mounts: ExitStack, place: Path, *how: str) -> None:
    run("mount", *how, str(place))
    mounts.callback(subprocess.run, ["umount", "-l", str(place)], capture_output=True, check=False)


def unmount(place: Path) -> None:
    done = subprocess.run(["umount", str(place)], capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        held = "\n".join(evidence.holders(place))
        raise AssertionError(f"umount: {done.stdout}{done.stderr}\n{held}\n{evidence.mounts(place.parent)}")


class Disk:
    """A filesystem in a file, mounted through a loop device, whose number may be another each time."""

    def __init__(self, mounts: ExitStack, directory: Path, make: str) -> None:
        self._mounts = mounts
        self._directory = directory
        self.place = directory / "disk"
        self.place.mkdir(parents=True)
        self._image = directory / "image"
        self._new_image(self._image, 400)
        run(make, "-q", str(self._image))
        self._loop = ""
        self._others = 0

    def mount(self) -> None:
        self._loop = self._attach(self._image)
        mount(self._mounts, self.place, self._loop)

    def mount_again(self) -> None:
        """What is still attached."""
        mount(self._mounts, self.place, self._loop)

    def shut_down(self) -> None:
        """As XFS does when its disk fails: every call yields an error, until it is mounted anew by nobody who has it
        open."""
        handle = os.open(self.place, os.O_RDONLY)
        try:
            fcntl.ioctl(handle, SHUT_DOWN, struct.pack("I", 0))
        finally:
            os.close(handle)

    def turn_read_only(self) -> None:
        """As ext4 does when its disk fails (`errors=remount-ro`), with all that is open on it."""
        Path("/sys/fs/ext4", Path(self._loop).name, "trigger_fs_error").write_text("x")

    def mend(self) -> None:
        """Unmounted, checked, mounted again: a filesystem that had an error stays read-only until then."""
        self._unmount()
        done = subprocess.run(["e2fsck", "-fy", self._loop], capture_output=True, text=True, check=False)
        assert done.returncode in (0, 1), f"{done.returncode}: {done.stdout}{done.stderr}"  # 1: errors were corrected
        self.mount_again()

    def unmount(self) -> None:
        self._unmount()
        run("losetup", "-d", self._loop)
        until("it is detached", lambda: not run("losetup", "-j", str(self._image)))

    def _unmount(self) -> None:
        """Until nobody has it mounted: who made a namespace of mounts meanwhile keeps it so, read-only too."""
        run("umount", str(self.place))
        until(f"{self._loop} is free", self._is_free, 60)

    def _is_free(self) -> bool:
        try:
            os.close(os.open(self._loop, os.O_RDONLY | os.O_EXCL))
        except OSError as error:
            if error.errno == errno.EBUSY:
                return False
            raise
        return True

    def take_number(self) -> None:
        """Somebody else is attached under the number that this one had."""
        self._others += 1
        other = self._directory / f"other-{self._others}"
        self._new_image(other, 1)
        self._attach(other)

    def _attach(self, image: Path) -> str:
        loop = run("losetup", "--find", "--show", str(image))
        self._mounts.callback(subprocess.run, ["losetup", "-d", loop], capture_output=True, check=False)
        run("blockdev", "--flushbufs", loop)  # nothing is left of what was attached under this number before
        return loop

    @staticmethod
    def _new_image(path: Path, mebibytes: int) -> None:
        with path.open("wb") as file:
            file.truncate(mebibytes * 2**20)
