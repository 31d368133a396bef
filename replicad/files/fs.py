"""The one way to the tree of a folder: a protocol with two implementations, one on a real disk, one in memory.

All paths are bytes, relative to the folder's root, joined with ``/``; ``b""`` is the root itself. No path leaves the
root: no component is ``.`` or ``..``, and no symlink is followed in any of them (the real one resolves beneath a
directory handle). `.replicad/…` is inside the root and is reached by the same calls, so every move between the tree
and staging is a rename within one filesystem.

Errors: operating system errors come out as `OSError` with their errno, as the disk gave them (the caller turns them
into `FileTrouble` where one file is concerned). A path that breaks the rules above is a `ValueError`: our own bug.

tests/files/test_fs_contract.py runs the same tests on both implementations.
"""

from collections.abc import Sequence
from typing import Protocol

import msgspec

FILE, DIRECTORY, SYMLINK, OTHER = 1, 2, 3, 9
"""Kinds of a directory entry; the first three are also the kinds of objects (core.records)."""


class Stat(msgspec.Struct, frozen=True, gc=False):
    """What `statx` tells of one entry, never following a symlink.

    `mode` is the 12 permission bits alone. `birth_ns` is 0 where the filesystem does not tell. `mount` is the mount's
    id (it differs from the root's where another filesystem or a bind mount begins). `size` of a directory is 0.
    """

    kind: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    birth_ns: int
    mode: int
    links: int
    mount: int


class OpenFile(Protocol):
    """An open regular file. Closed by `close` (or as a context manager)."""

    def stat(self) -> Stat: ...
    def read_at(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes; fewer only at the end of the file."""

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """All of `data`, whatever the system's partial writes."""

    def drop_cached(self) -> None:
        """What the system holds of it in memory need not be kept: the next read asks the disk, where that is possible
        (not for what is not written to the disk yet, or mapped)."""

    def truncate(self, size: int) -> None: ...
    def set_meta(self, mode: int, mtime_ns: int) -> None: ...
    def sync(self) -> None:
        """fsync."""

    def close(self) -> None: ...
    def __enter__(self) -> "OpenFile": ...
    def __exit__(self, *exc: object) -> None: ...


class FileSystem(Protocol):
    """One folder's tree."""

    def stat(self, path: bytes) -> Stat | None:
        """None where nothing is there (ENOENT, ENOTDIR); any other error is raised."""

    def stat_in(self, directory: bytes, name: bytes) -> tuple[Stat, Stat | None]:
        """What the directory itself is, and its entry `name`, through one handle: whatever is renamed meanwhile, the
        entry is that directory's. FileNotFoundError or NotADirectoryError where there is no such directory."""

    def list_dir(self, path: bytes) -> list[tuple[bytes, Stat]]:
        """All entries with their stats, sorted by name; an entry that vanishes meanwhile is left out.

        Raises where the directory cannot be read to its end: a listing is complete or it is an error.
        """

    def read_dir(self, path: bytes) -> tuple[Stat, list[tuple[bytes, Stat]]]:
        """What the directory itself is, and all its entries as by `list_dir`, through one handle: whatever is renamed
        meanwhile, the entries are those of that directory."""

    def read_link(self, path: bytes) -> bytes: ...
    def open_read(self, path: bytes) -> OpenFile:
        """A regular file only, no atime update if allowed; a fifo or device raises OSError ELOOP, ENXIO or EINVAL."""

    def is_open_for_writing(self, path: bytes) -> bool:
        """Whether anybody has this regular file open for writing, or mapped so; False also where the system does not
        tell. This process must not have it open so."""

    def create(self, path: bytes) -> OpenFile:
        """A new regular file, mode 0600, open for reading and writing; FileExistsError if the name is taken."""

    def open_write(self, path: bytes) -> OpenFile:
        """An existing regular file, for reading and writing (staging only)."""

    def make_dir(self, path: bytes, mode: int) -> None:
        """One directory with exactly `mode` (whatever the umask); FileExistsError if the name is taken."""

    def make_symlink(self, path: bytes, target: bytes) -> None: ...
    def rename(self, source: bytes, target: bytes) -> None:
        """RENAME_NOREPLACE: FileExistsError if `target` is taken. Never overwrites."""

    def exchange(self, one: bytes, other: bytes) -> None:
        """RENAME_EXCHANGE: both must exist; any two kinds."""

    def unlink(self, path: bytes) -> None:
        """A file, symlink, fifo…; not a directory."""

    def remove_dir(self, path: bytes) -> None:
        """An empty directory; OSError ENOTEMPTY otherwise."""

    def set_mode(self, path: bytes, mode: int) -> None:
        """Not for symlinks (their mode means nothing)."""

    def set_mtime(self, path: bytes, mtime_ns: int) -> None:
        """Also for symlinks (the link itself)."""

    def sync_dirs(self, paths: Sequence[bytes]) -> None:
        """fsync of each directory (deduplicated by the caller)."""

    def sync_all(self) -> None:
        """syncfs: all written to this filesystem so far is durable when it returns; raises on a write-back error."""

    def free_bytes(self) -> int:
        """What an ordinary process may still allocate."""

    def total_bytes(self) -> int:
        """Of the filesystem, used or not."""

    def filesystem_uuid(self) -> bytes | None:
        """The UUID of the filesystem in which the root lies; None where the system does not tell."""

    def supports_exchange(self, directory: bytes = b".replicad") -> bool:
        """Whether `exchange` works here: tried with two files in `directory`, gone again when it returns."""

    def root_in_place(self) -> bool:
        """Whether the path that the operator named still leads to the directory that is open here."""

    def opened_anew(self) -> "FileSystem":
        """The directory to which the path that the operator named leads now. The caller closes it. OSError where it
        cannot be opened."""

    def let_go(self) -> None:
        """Nothing of the disk is held open any more, so that it can be unmounted: from now on every call but
        `root_in_place`, which says no, and `opened_anew` raises OSError. Nobody may be in a call."""

    def close(self) -> None: ...
