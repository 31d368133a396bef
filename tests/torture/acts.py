"""What users do to a disk, one act a method, each told to the ledger as exactly as a disk lets one know it.

An act on a path that replicad replaces in the same moment takes off something else than what was looked at: so the file
is held open meanwhile, and its count of links tells whether it is the one that has gone. Who writes in place reads and
writes by one descriptor, wherever the file is by then.
"""

from __future__ import annotations

import ctypes
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from tests.torture.contents import FILE, SYMLINK
from tests.torture.ledger import SEEN_S, Ledger

PRIVATE = b".replicad"
RENAME_EXCHANGE = 2
AT_FDCWD = -100
_libc = ctypes.CDLL(None, use_errno=True)


class Host(Protocol):
    """What a user's acts need of a member."""

    name: str

    @property
    def root(self) -> bytes:
        """Of the folder, absolute."""

    @property
    def outside(self) -> bytes:
        """A directory on the same filesystem that nobody watches."""

    def up_for_s(self) -> float:
        """How long its daemon has been up; 0: it is not."""


@dataclass
class Held:
    """An entry that is held open while something happens to it."""

    kind: str
    descriptor: int
    data: bytes
    changed_s: float

    def is_gone(self) -> bool:
        return os.fstat(self.descriptor).st_nlink == 0

    def identity(self) -> tuple[int, int]:
        status = os.fstat(self.descriptor)
        return status.st_dev, status.st_ino


@dataclass
class Writer:
    """Somebody who keeps a file open for writing."""

    path: bytes
    descriptor: int
    unlinked: bool = False
    """By a user: what is written from then on is on no disk."""


class User:
    """Of one member. Every method raises OSError where the system refuses: then nothing was done."""

    def __init__(self, host: Host, ledger: Ledger) -> None:
        self.host = host
        self.ledger = ledger
        self.writers: list[Writer] = []
        self.founding = False
        """Its first scan is still to come: what is moved before it is another original than its copies elsewhere."""

    # -- making and writing

    def create(self, path: bytes, data: bytes, *, slowly: bool = False) -> None:
        self._check_free(path)
        descriptor = os.open(self._at(path), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
        self.ledger.arrives(self.host.name, path, self.host.up_for_s())
        self._finish(path, descriptor, b"", data, slowly=slowly)

    def edit(self, path: bytes, data: bytes, *, slowly: bool = False) -> None:
        """In place: emptied and written anew."""
        descriptor, _ = self._open_to_write(path)
        os.ftruncate(descriptor, 0)
        self._finish(path, descriptor, b"", data, slowly=slowly)

    def append(self, path: bytes, piece: bytes) -> None:
        descriptor, before = self._open_to_write(path)
        self._finish(path, descriptor, before, piece)

    def go_on(self, writer: Writer, piece: bytes) -> None:
        """The last piece of who wrote slowly; then it closes the file."""
        self.writers.remove(writer)
        before = _read(writer.descriptor)
        if writer.unlinked:
            os.close(writer.descriptor)
            self.ledger.note(self.host.name, "closes what was deleted", writer.path)
            return
        self._tell_overwritten(writer.path, writer.descriptor, before)
        self._finish(writer.path, writer.descriptor, before, piece)

    def save(self, path: bytes, data: bytes) -> None:
        """As an editor: a temporary file, renamed over."""
        beside = path + b".tmp~"
        with open(self._at(beside), "xb") as file:
            file.write(data)
        self.ledger.wrote(self.host.name, path, FILE, data)
        try:
            with self._takes_off(path):
                os.rename(self._at(beside), self._at(path))
        except OSError:
            self.ledger.note(self.host.name, "could not save, left", beside)
            raise
        self.ledger.arrives(self.host.name, path, self.host.up_for_s())

    def mkdir(self, path: bytes) -> None:
        os.mkdir(self._at(path))
        self.ledger.note(self.host.name, "mkdir", path)

    def symlink(self, path: bytes, target: bytes) -> None:
        os.symlink(target, self._at(path))
        self.ledger.wrote(self.host.name, path, SYMLINK, target)

    # -- names

    def rename(self, source: bytes, target: bytes) -> None:
        """rename(2): over a file that is there."""
        moving = self._kind_and_data(source)
        self._may_become_another(source)
        if moving is None:
            self._check_free(target)
            os.rename(self._at(source), self._at(target))
        else:
            with self._takes_off(target):
                os.rename(self._at(source), self._at(target))
        self.ledger.note(self.host.name, "rename", source, target)
        if moving is not None:
            self.ledger.leaves(self.host.name, source, *moving)
            self.ledger.arrives(self.host.name, target, self.host.up_for_s())

    def exchange(self, one: bytes, other: bytes) -> None:
        before = [self._kind_and_data(path) for path in (one, other)]
        for path in (one, other):
            self._may_become_another(path)
        if _libc.renameat2(AT_FDCWD, self._at(one), AT_FDCWD, self._at(other), RENAME_EXCHANGE):
            raise OSError(ctypes.get_errno(), "exchange")
        self.ledger.note(self.host.name, "exchange", one, other)
        for path, left in zip((one, other), before, strict=True):
            if left is not None:
                self.ledger.leaves(self.host.name, path, *left)
        for path in (one, other):
            self.ledger.arrives(self.host.name, path, self.host.up_for_s())

    # -- taking off

    def delete(self, path: bytes) -> None:
        with self._takes_off(path):
            os.unlink(self._at(path))

    def move_out(self, path: bytes) -> None:
        """Out of the folder, which is a deletion; what was taken is looked at there."""
        out = os.path.join(self.host.outside, b"out")
        with self._takes_off(path, out=out):
            os.rename(self._at(path), out)
        os.unlink(out)

    def rmdir(self, path: bytes) -> None:
        os.rmdir(self._at(path))
        self.ledger.note(self.host.name, "rmdir", path)

    def remove_tree(self, path: bytes) -> None:
        """Like rm -r: entry by entry; what appears meanwhile stays, with the directories above it."""
        self.ledger.note(self.host.name, "rm -r", path)
        for place, directories, names in os.walk(self._at(path), topdown=False):
            below = place[len(self.host.root) + 1 :]
            for name in [*names, *directories]:
                inner = below + b"/" + name
                if os.path.isdir(self._at(inner)) and not os.path.islink(self._at(inner)):
                    self.rmdir(inner)
                else:
                    self.delete(inner)
        self.rmdir(path)

    # -- mode and times

    def chmod(self, path: bytes, mode: int) -> None:
        self._affirms(path)
        os.chmod(self._at(path), mode)
        self.ledger.note(self.host.name, f"chmod {mode:o}", path)

    def touch(self, path: bytes, mtime_ns: int) -> None:
        self._affirms(path)
        os.utime(self._at(path), ns=(mtime_ns, mtime_ns), follow_symlinks=False)
        self.ledger.note(self.host.name, f"mtime {mtime_ns}", path)

    # -- looking

    def look(self, path: bytes) -> None:
        """I4: whoever opens a file reads what somebody wrote."""
        with self._held(path) as held:
            self.ledger.meets(self.host.name, path, held.kind, held.data)

    def paths(self) -> list[tuple[bytes, str]]:
        """All entries with their kinds ("directory", "file", "symlink"), sorted."""
        found: list[tuple[bytes, str]] = []
        root = self.host.root
        for place, directories, names in os.walk(root):
            below = place[len(root) + 1 :]
            if not below:
                directories[:] = [name for name in directories if name != PRIVATE]
            for name in [*directories, *names]:
                status = _lstat(os.path.join(place, name))
                if status is not None:
                    found.append((below + b"/" + name if below else name, _kind(status)))
        return sorted(found)

    def kind_at(self, path: bytes) -> str | None:
        status = _lstat(self._at(path))
        return _kind(status) if status is not None else None

    # -- inside

    def _at(self, path: bytes) -> bytes:
        return os.path.join(self.host.root, path)

    def _check_free(self, path: bytes) -> None:
        if _lstat(self._at(path)) is not None:
            raise FileExistsError(path)

    def _open_to_write(self, path: bytes) -> tuple[int, bytes]:
        """What is there counts as taken off from here on."""
        descriptor = os.open(self._at(path), os.O_RDWR | os.O_NOFOLLOW)
        before = _read(descriptor)
        self._tell_overwritten(path, descriptor, before)
        return descriptor, before

    def _tell_overwritten(self, path: bytes, descriptor: int, before: bytes) -> None:
        self.ledger.meets(self.host.name, path, FILE, before)
        status, there = os.fstat(descriptor), _lstat(self._at(path))
        at_its_path = there is not None and (there.st_dev, there.st_ino) == (status.st_dev, status.st_ino)
        seen = at_its_path and self._was_seen(status.st_ctime)
        self.ledger.takes_off(self.host.name, path, FILE, before, seen=seen)

    def _finish(self, path: bytes, descriptor: int, before: bytes, piece: bytes, *, slowly: bool = False) -> None:
        """Adds a piece; `slowly`: more is to come (`go_on`)."""
        self.ledger.passes(before)
        if slowly:
            self.ledger.passes(before + piece)
            self.writers.append(Writer(path, descriptor))
        else:
            self.ledger.wrote(self.host.name, path, FILE, before + piece)
        os.pwrite(descriptor, piece, len(before))
        if not slowly:
            os.close(descriptor)

    @contextmanager
    def _takes_off(self, path: bytes, out: bytes | None = None) -> Iterator[None]:
        """What is at `path` goes in the block, if anything is there. `out`: where it can be looked at afterwards."""
        kind = self.kind_at(path)
        if kind is None:
            yield
            return
        if kind not in (FILE, SYMLINK):
            raise IsADirectoryError(path)
        with self._held(path) as held:
            identity = held.identity()
            seen = self._was_seen(held.changed_s)
            yield
            if out is not None:
                there = os.lstat(out)
                went = (there.st_dev, there.st_ino) == identity
            else:
                went = held.is_gone()
            if not went:
                self.ledger.cannot_tell(self.host.name, path)
                return
            self.ledger.meets(self.host.name, path, held.kind, held.data)
            self.ledger.takes_off(self.host.name, path, held.kind, held.data, seen=seen)
            for writer in self.writers:
                status = os.fstat(writer.descriptor)
                writer.unlinked |= (status.st_dev, status.st_ino) == identity

    @contextmanager
    def _held(self, path: bytes) -> Iterator[Held]:
        status = os.lstat(self._at(path))
        flags = os.O_PATH if stat.S_ISLNK(status.st_mode) else os.O_RDONLY
        descriptor = os.open(self._at(path), flags | os.O_NOFOLLOW)
        try:
            status = os.fstat(descriptor)
            kind = _kind(status)
            data = os.fsencode(os.readlink(b"", dir_fd=descriptor)) if kind == SYMLINK else _read(descriptor)
            yield Held(kind, descriptor, data, status.st_ctime)
        finally:
            os.close(descriptor)

    def _was_seen(self, changed_s: float) -> bool:
        """Whether replicad has surely looked at what last changed then."""
        return min(time.time() - changed_s, self.host.up_for_s()) > SEEN_S

    def _kind_and_data(self, path: bytes) -> tuple[str, bytes] | None:
        """Of a file or symlink; None: it is a directory."""
        if self.kind_at(path) == "directory":
            return None
        with self._held(path) as held:
            return held.kind, held.data

    def _may_become_another(self, moving: bytes) -> None:
        self.founding = self.founding and self.host.up_for_s() < SEEN_S
        if self.founding:
            for path, kind in self.paths():
                if kind in (FILE, SYMLINK) and (path == moving or path.startswith(moving + b"/")):
                    with self._held(path) as held:
                        self.ledger.copies(held.kind, held.data)

    def _affirms(self, path: bytes) -> None:
        found = self._kind_and_data(path)
        if found is not None:
            self.ledger.affirms(self.host.name, path, *found)


def _read(descriptor: int) -> bytes:
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0)


def _lstat(path: bytes) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except OSError:
        return None


def _kind(status: os.stat_result) -> str:
    if stat.S_ISDIR(status.st_mode):
        return "directory"
    return SYMLINK if stat.S_ISLNK(status.st_mode) else FILE
