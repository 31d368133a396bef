"""Renames and exchanges as disks allow them: in directories that forbid them, without an exchange; words for errors."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable

from replicad.errors import FileTrouble
from replicad.files.fs import DIRECTORY, FileSystem

OWNER_MAY_FILL = 0o300
_NO_EXCHANGE = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}

_REASONS = {
    errno.ENOSPC: "no space left on the disk",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the filesystem is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "the system does not allow it",
    errno.ENOTEMPTY: "the directory holds something that is not replicated",
    errno.ENAMETOOLONG: "the name is too long for this filesystem",
    errno.EIO: "the disk reports an input/output error",
    errno.EXDEV: "it is on another filesystem or mount than the folder",
    errno.EBUSY: "it is in use (a mount point?)",
}


def trouble(path: bytes, error: OSError) -> FileTrouble:
    """What an operating system's error means for one path, in words for `blocked`."""
    number = error.errno or 0
    if number in _REASONS:
        return FileTrouble(path, _REASONS[number])
    return FileTrouble(path, f"{errno.errorcode.get(number, 'error')}: {error.strerror or error}")


def permitted(fs: FileSystem, act: Callable[[], None], *paths: bytes) -> None:
    """Do `act`; where a directory around `paths` has a mode that forbids it (0555, as in archives), open that first.

    The modes are put back whatever happens; after a crash by `close_again`. Raises OSError as `act` does.
    """
    try:
        act()
        return
    except PermissionError:
        opened: list[tuple[bytes, int]] = []
        try:
            _open(fs, _around(fs, paths), opened)
            if not opened:
                raise
            act()
        finally:
            for path, mode in reversed(opened):
                fs.set_mode(path, mode)


def close_again(fs: FileSystem, path: bytes, mode: int) -> None:
    """A directory that `permitted` may have left open in a crash: where it looks so, it gets its mode back."""
    stat = fs.stat(path)
    if stat is not None and stat.kind == DIRECTORY and stat.mode != mode and stat.mode == mode | OWNER_MAY_FILL:
        fs.set_mode(path, mode)


def exchange(fs: FileSystem, one: bytes, other: bytes, spare: bytes) -> None:
    """Each to the other's name, at once. FileNotFoundError where one of them is not there.

    RACE: a filesystem without RENAME_EXCHANGE leaves `other` without an entry between two renames. Whoever looks then
    finds nothing there (I4 does not hold for that instant); whoever makes an entry there then keeps it, and what was
    there lies at `spare` (FileExistsError). A crash leaves it there, too: `end_exchange`.
    """
    try:
        fs.exchange(one, other)
        return
    except OSError as error:
        if error.errno not in _NO_EXCHANGE:
            raise
    fs.rename(other, spare)
    try:
        fs.rename(one, other)
    except OSError:
        fs.rename(spare, other)
        raise
    fs.rename(spare, one)


def end_exchange(fs: FileSystem, one: bytes, other: bytes, spare: bytes) -> bool:
    """Bring an exchange that broke off in the middle to an end, or undo it. False where `spare` cannot go back."""
    if fs.stat(spare) is None:
        return True
    for place in (one, other):  # the first one that is empty: `one` if it has moved to `other` already
        if fs.stat(place) is None:
            fs.rename(spare, place)
            return True
    return False


def _around(fs: FileSystem, paths: Iterable[bytes]) -> list[bytes]:
    """The directories that these entries are in; and directories that move, as their `..` is written."""
    found: dict[bytes, None] = {}
    for path in paths:
        found[path.rpartition(b"/")[0]] = None
        stat = fs.stat(path)
        if stat is not None and stat.kind == DIRECTORY:
            found[path] = None
    return [path for path in found if path]


def _open(fs: FileSystem, directories: list[bytes], opened: list[tuple[bytes, int]]) -> None:
    for path in directories:
        stat = fs.stat(path)
        if stat is not None and stat.mode & OWNER_MAY_FILL != OWNER_MAY_FILL:
            fs.set_mode(path, stat.mode | OWNER_MAY_FILL)
            opened.append((path, stat.mode))
