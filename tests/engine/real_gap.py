"""The gap (tests.engine.gap) on a real disk: an instant is a system call of the applier's, or a commit.

`RealDisk` has the face of the tree in memory. Its calls are `RealFileSystem`'s; what that calls of the system goes
through `Hooked`, so the user acts between any two system calls: also between the look-up of a directory and the rename
in it, and between a check and an exchange.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from replicad.files import linux, real_fs
from replicad.files.changes import Watched as WatchedDirectory
from replicad.files.fs import DIRECTORY, FILE, SYMLINK, Stat
from replicad.files.real_fs import RealFileSystem
from tests.engine.gap import Gap, Story, Watched

MODES = 0o7777
CALLS = (
    "open", "close", "mkdir", "rmdir", "unlink", "symlink", "readlink", "scandir", "utime", "fchmod", "fsync",
    "ftruncate", "pread", "pwrite", "open_beneath", "rename_noreplace", "rename_exchange", "change_mode",
    "change_mtime", "statx_device", "sync_filesystem",
)  # fmt: skip


SYNCS = ("fsync", "sync_filesystem")
"""Told, and not made: the process dies here, not the system."""


class Hooked:
    """A module whose system calls are told before they are made."""

    def __init__(self, module: Any, before: Callable[[str], None]) -> None:
        self._module = module
        self._before = before

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._module, name)
        if name not in CALLS:
            return found

        def call(*arguments: Any, **named: Any) -> Any:
            self._before(name)
            return found(*arguments, **named) if name not in SYNCS else None

        return call


class UsersHandle:
    """A file that a user holds open for writing."""

    def __init__(self, path: bytes) -> None:
        self._file = os.open(path, os.O_RDWR)

    def stat(self) -> Any:
        status = os.fstat(self._file)
        return Stat(FILE, status.st_ino, status.st_size, 0, 0, 0, 0, status.st_nlink, 0)

    def write_at(self, offset: int, data: bytes) -> None:
        os.pwrite(self._file, data, offset)

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class RealDisk(RealFileSystem):
    """On a directory; users act on it by the same names as on the tree in memory."""

    def __init__(self, root: Path) -> None:
        self.before_change: Callable[..., None] | None = None
        self.before_read: Callable[..., None] | None = None
        self.exchanges = True
        self.calls: set[str] = set()
        self._at = os.fsencode(root)
        super().__init__(root)

    def told(self, name: str) -> None:
        if self.before_change is not None:
            self.calls.add(name)
            self.before_change(name, ())

    def exchange(self, one: bytes, other: bytes) -> None:
        if not self.exchanges:
            raise OSError(22, "as a filesystem without exchange")
        super().exchange(one, other)

    def crash(self) -> None:
        """What the process had open is closed with it; the calls here keep nothing open."""

    def read_tree(self, *, private: bool = False) -> dict[bytes, tuple[Stat, bytes]]:
        found: dict[bytes, tuple[Stat, bytes]] = {}
        waiting = [b""]
        while waiting:
            above = waiting.pop()
            for name in self._listed(above):
                path = above + b"/" + name if above else name
                if path == b".replicad" and not private:
                    continue
                stat = self._looked(path)
                data = b""
                if stat.kind == DIRECTORY:
                    waiting.append(path)
                elif stat.kind == SYMLINK:
                    data = os.readlink(self._full(path))
                else:
                    with open(self._full(path), "rb") as file:
                        data = file.read()
                found[path] = (stat, data)
        return dict(sorted(found.items()))

    # -- users

    def user_open(self, path: bytes) -> UsersHandle:
        return UsersHandle(self._full(path))

    def user_write(self, path: bytes, data: bytes) -> None:
        with open(self._full(path), "wb") as file:
            file.write(data)

    def user_save(self, path: bytes, data: bytes) -> None:
        self.user_write(path + b"~", data)
        self.user_rename(path + b"~", path)

    def user_rename(self, source: bytes, target: bytes) -> None:
        os.rename(self._full(source), self._full(target))

    def user_unlink(self, path: bytes) -> None:
        os.unlink(self._full(path))

    def user_mkdir(self, path: bytes) -> None:
        os.mkdir(self._full(path), 0o755)

    def user_remove_tree(self, path: bytes) -> None:
        full = self._full(path)
        if os.path.isdir(full) and not os.path.islink(full):
            shutil.rmtree(full)
        else:
            os.unlink(full)

    def user_chmod(self, path: bytes, mode: int) -> None:
        os.chmod(self._full(path), mode)

    def user_set_mtime(self, path: bytes, mtime_ns: int) -> None:
        os.utime(self._full(path), ns=(mtime_ns, mtime_ns), follow_symlinks=False)

    def _full(self, path: bytes) -> bytes:
        return self._at + b"/" + path

    def _listed(self, path: bytes) -> list[bytes]:
        full = self._full(path)
        if not os.access(full, os.R_OK | os.X_OK):
            os.chmod(full, 0o700)  # a file's mode, set in the moment in which the user put a directory there
        return os.listdir(full)

    def _looked(self, path: bytes) -> Stat:
        parent, _, name = path.rpartition(b"/")
        handle = os.open(self._full(parent), os.O_PATH)
        try:
            return linux.statx_device(handle, name)[0]
        finally:
            os.close(handle)


class NoWatch:
    """Nothing is told: everything is looked at."""

    def watch_directory(self, path: bytes, parent: WatchedDirectory | None = None) -> WatchedDirectory | None:
        return None

    def begin_walk(self) -> None:
        pass

    def walked(self, directory: WatchedDirectory) -> None:
        """Nothing to note."""

    def is_watched(self, path: bytes) -> bool:
        return True

    def where(self, inode: int) -> bytes | None:
        return None

    def watch_fence(self) -> bool:
        return False

    def close(self) -> None:
        """Nothing is open."""


def real_rig(root: Path, patch: pytest.MonkeyPatch) -> type[Watched]:
    """A rig whose disk is the directory `root`."""

    class RealRig(Watched):
        def make_fs(self) -> Any:
            disks: list[RealDisk] = []
            for module in (os, linux):
                hooked = Hooked(module, lambda name: disks[0].told(name) if disks else None)
                patch.setattr(real_fs, module.__name__.rpartition(".")[2], hooked)
            disks.append(RealDisk(root))
            self.now_ms = time.time_ns() // 1_000_000
            return disks[0]

        def make_watch(self) -> Any:
            return NoWatch()

        def look(self) -> None:
            self.scanner.scan()
            super().look()

    return RealRig


class RealGap(Gap):
    """One run of a story on a directory of its own."""

    def __init__(self, story: Story, root: Path, patch: pytest.MonkeyPatch, **options: Any) -> None:
        root.mkdir()
        self.make_rig = real_rig(root, patch)
        super().__init__(story, **options)

    def close(self) -> None:
        """What the disk holds open. No user acts any more."""
        self.rig.fs.before_change = None
        self.rig.fs.close()
