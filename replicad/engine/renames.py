"""Renames and exchanges as disks allow them: in directories that forbid them, without an exchange; words for errors."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable

from replicad.engine.intents import Seen
from replicad.errors import FileTrouble
from replicad.files.fs import DIRECTORY, FileSystem, Stat

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
    """Do `act`; where the mode of a directory forbids it (0555, as in archives), open that directory first.

    `paths` are all those that the act may change, before it and after it: what was opened gets its mode back wherever
    it is then. Whatever happens it does; after a crash by `close_again`. Raises OSError as `act` does.
    """
    try:
        act()
        return
    except PermissionError:
        opened: list[tuple[bytes, Stat]] = []
        try:
            _open(fs, paths, opened)
            if not opened:
                raise
            act()
        finally:
            for path, stat in reversed(opened):
                _close(fs, (path, *paths), stat)


def close_again(fs: FileSystem, entry: Seen, mode: int, path: bytes) -> None:
    """A directory that `permitted` may have left open in a crash: where it lies there, open, it gets its mode back."""
    stat = fs.stat(path)
    if stat is not None and entry.is_entry(stat) and stat.mode == mode | OWNER_MAY_FILL:
        fs.set_mode(path, mode)


def spare_of(aside: bytes) -> bytes:
    """The name in staging for the instant in which an exchange is two renames (`exchange`)."""
    return aside + b".was"


def rename(fs: FileSystem, source: bytes, target: bytes) -> None:
    """As the file system's own, wherever its owner may give the permission (`permitted`)."""
    permitted(fs, lambda: fs.rename(source, target), source, target)


def exchange(fs: FileSystem, one: bytes, other: bytes, spare: bytes) -> None:
    """Each to the other's name, at once (`permitted`). FileNotFoundError where one of them is not there.

    RACE: a filesystem without RENAME_EXCHANGE leaves `other` without an entry between two renames. Whoever looks then
    finds nothing there (I4 does not hold for that instant); whoever makes an entry there then keeps it, and what was
    there lies at `spare` (FileExistsError). A crash leaves it there, too: `end_exchange`.
    """
    permitted(fs, lambda: _exchange(fs, one, other, spare), one, other)


def end_exchange(fs: FileSystem, one: bytes, other: bytes, spare: bytes) -> bool:
    """Bring an exchange that broke off in the middle to an end, or undo it. False where `spare` cannot go back."""
    if fs.stat(spare) is None:
        return True
    for place in (one, other):  # the first one that is empty: `one` if it has moved to `other` already
        if fs.stat(place) is None:
            rename(fs, spare, place)
            return True
    return False


def _exchange(fs: FileSystem, one: bytes, other: bytes, spare: bytes) -> None:
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


def _open(fs: FileSystem, paths: Iterable[bytes], opened: list[tuple[bytes, Stat]]) -> None:
    """The directories that the entries are in; then those that may move, as their `..` is written."""
    for path in (*(path.rpartition(b"/")[0] for path in paths), *paths):
        stat = fs.stat(path) if path else None
        if stat is not None and stat.kind == DIRECTORY and stat.mode & OWNER_MAY_FILL != OWNER_MAY_FILL:
            fs.set_mode(path, stat.mode | OWNER_MAY_FILL)
            opened.append((path, stat))


def _close(fs: FileSystem, paths: Iterable[bytes], before: Stat) -> None:
    """It gets its mode back, at whichever path the act has brought it to; at none where the act has removed it.

    RACE: where somebody moves it in that moment, it stays open, and the scan takes that for a change of its mode.
    """
    for path in paths:
        stat = fs.stat(path)
        if stat is not None and (stat.kind, stat.inode, stat.birth_ns) == (DIRECTORY, before.inode, before.birth_ns):
            fs.set_mode(path, before.mode)
            return
