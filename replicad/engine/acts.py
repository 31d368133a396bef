"""Acts on the tree: each does one intent, and looks at what came of it.

A check before a rename always races. So what is replaced is exchanged, and what came out is inspected afterwards: if it
is not what the catalog believed, it was somebody's change; it is put back, and the path is looked at again like any
other local change (I3, mutagen's applier is the model). Where even putting back meets a change, that one is kept.

The invariants of every function here, at every instant and so at a kill -9:
1. a path of the tree holds a complete old or a complete new version (I4);
2. what came out of the tree and is not known to be expendable exists, in the tree, in staging or in a store;
3. nothing is overwritten: all renames are NOREPLACE or EXCHANGE.

RACE: a writer that has the file open goes on writing into what came out. What comes out is therefore kept in staging
until it has been quiet (engine.disposal), and preserved when it was not. Worst case: a writer that pauses for longer
than that, without closing, and writes again, writes into an unlinked file.
RACE: a change that keeps size and mtime, made between the check and the rename. The check refuses files whose mtime is
within FRESH_NS of now, so such a change must also have set its mtime back. Worst case: it is kept until quiet only.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

import msgspec

from replicad.core.plan import StepKind
from replicad.core.view import Node
from replicad.engine.intents import Intent, Seen
from replicad.errors import FileTrouble
from replicad.files.fs import DIRECTORY, FILE, FileSystem, Stat

FRESH_NS = 20_000_000
"""20 ms: several ticks of the coarsest clock that Linux stamps files with (10 ms at 100 Hz)."""


class Done(msgspec.Struct, frozen=True):
    """The act is done. `stat`: of the entry at the target now. `out`: the path at which what came out of the tree lies
    (for a move within the tree, the target)."""

    stat: Stat | None
    out: bytes | None = None
    out_stat: Stat | None = None
    """Of what came out and stays a node: the occupant of a SWAP, or of a PUT that is wanted elsewhere."""


class Surprise(msgspec.Struct, frozen=True):
    """The disk is not as the catalog believed; nothing was changed. Look at `path` again.

    `keep`: a path in staging where somebody's change ended up; it must be preserved.
    """

    path: bytes
    keep: bytes | None = None


def matches(node: Node, stat: Stat | None) -> bool:
    """Whether the disk still shows what the catalog believes of this entry."""
    if stat is None or stat.kind != node.kind or stat.inode != node.inode:
        return False
    if stat.kind == DIRECTORY:
        return True
    return (stat.size, stat.mtime_ns, stat.ctime_ns, stat.mode) == (
        node.size,
        node.mtime_ns,
        node.ctime_ns,
        node.mode,
    )


def is_fresh(stat: Stat, now_ns: int) -> bool:
    return stat.kind == FILE and abs(now_ns - stat.mtime_ns) < FRESH_NS


def act(fs: FileSystem, intent: Intent) -> Done | Surprise:
    """Carry out an intent whose preconditions have just been checked. Raises FileTrouble; OSError only for bugs."""
    try:
        match intent.step.kind:
            case StepKind.PUT if intent.leaving is not None:
                return _exchange_in(fs, intent)
            case StepKind.PUT | StepKind.MOVE | StepKind.LIFT | StepKind.REMOVE:
                return _rename(fs, intent)
            case StepKind.SWAP:
                return _swap(fs, intent)
            case kind:
                raise AssertionError(f"{kind} needs no intent")
    except OSError as error:
        raise trouble(intent.target, error) from error


def make_directory(fs: FileSystem, path: bytes, mode: int) -> Done | Surprise:
    """A directory at a free name. Its owner may always enter and fill it; a stricter mode is set afterwards."""
    try:
        permitted(fs, lambda: fs.make_dir(path, mode | 0o700), path)
    except FileExistsError:
        return Surprise(path)
    except OSError as error:
        raise trouble(path, error) from error
    return Done(fs.stat(path))


def remove_directory(fs: FileSystem, path: bytes, node: Node) -> Done | Surprise:
    """Remove an empty directory; a FileTrouble with the reason where something not replicated is in it (rule 12)."""
    stat = fs.stat(path)
    if stat is None or not matches(node, stat):
        return Surprise(path)
    try:
        permitted(fs, lambda: fs.remove_dir(path), path)
    except FileNotFoundError:
        return Surprise(path)
    except OSError as error:
        raise trouble(path, error) from error
    return Done(None)


def set_meta(fs: FileSystem, path: bytes, node: Node, mode: int, mtime_ns: int) -> Done | Surprise:
    """Mode and, for files, mtime; through an open handle, so that it is this very file that gets them."""
    try:
        if node.kind == FILE:
            with fs.open_read(path) as file:
                if not matches(node, file.stat()):
                    return Surprise(path)
                file.set_meta(mode, mtime_ns)
        else:
            if not matches(node, fs.stat(path)):
                return Surprise(path)
            if node.kind == DIRECTORY:
                fs.set_mode(path, mode)
    except FileNotFoundError:
        return Surprise(path)
    except OSError as error:
        raise trouble(path, error) from error
    return Done(fs.stat(path))


def permitted(fs: FileSystem, act: Callable[[], None], *paths: bytes) -> None:
    """Do `act`; where a parent of `paths` has a mode that forbids it (0555, as in archives), open that for a moment.

    The modes are put back whatever happens. A crash in between leaves a mode that the next scan takes for the user's.
    """
    try:
        act()
        return
    except PermissionError:
        opened = _open_parents(fs, paths)
        if not opened:
            raise
    try:
        act()
    finally:
        for parent, mode in opened:
            fs.set_mode(parent, mode)


def _open_parents(fs: FileSystem, paths: tuple[bytes, ...]) -> list[tuple[bytes, int]]:
    opened = []
    for parent in {path.rpartition(b"/")[0] for path in paths}:
        stat = fs.stat(parent) if parent else None
        if stat is not None and stat.mode & 0o300 != 0o300:
            fs.set_mode(parent, stat.mode | 0o700)
            opened.append((parent, stat.mode))
    return opened


def trouble(path: bytes, error: OSError) -> FileTrouble:
    """What an operating system's error means for one path, in words for `blocked`."""
    number = error.errno or 0
    if number in _REASONS:
        return FileTrouble(path, _REASONS[number])
    return FileTrouble(path, f"{errno.errorcode.get(number, 'error')}: {error.strerror or error}")


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


def _rename(fs: FileSystem, intent: Intent) -> Done | Surprise:
    """To a free name: into the tree (PUT, MOVE) or out of it into staging (LIFT, REMOVE)."""
    try:
        permitted(fs, lambda: fs.rename(intent.source, intent.target), intent.source, intent.target)
    except (FileExistsError, FileNotFoundError):
        return Surprise(intent.target if intent.step.kind in (StepKind.PUT, StepKind.MOVE) else intent.source)
    stat = fs.stat(intent.target)
    if stat is not None and Seen.of(stat) == intent.moving:
        return Done(stat, intent.target)
    if stat is not None and stat.inode == intent.moving.inode and intent.step.kind in (StepKind.PUT, StepKind.MOVE):
        return Done(
            stat, intent.target
        )  # the right file, and already edited again: the next look at the path finds that
    return _rename_back(fs, intent)


def _rename_back(fs: FileSystem, intent: Intent) -> Surprise:
    """What moved is not what was meant to: somebody had put another entry there, or had just edited it."""
    try:
        fs.rename(intent.target, intent.source)
    except FileNotFoundError:
        return Surprise(intent.source)
    except FileExistsError:
        return Surprise(intent.source, keep=intent.target)
    return Surprise(intent.source)


def _exchange_in(fs: FileSystem, intent: Intent) -> Done | Surprise:
    try:
        permitted(fs, lambda: fs.exchange(intent.source, intent.target), intent.target)
    except FileNotFoundError:
        return Surprise(intent.target)
    return inspect_exchange(fs, intent)


def inspect_exchange(fs: FileSystem, intent: Intent) -> Done | Surprise:
    """Look at what an exchange brought out (also after a crash, S30). Raises OSError."""
    out = fs.stat(intent.source)
    if out is not None and Seen.of(out) == intent.leaving:
        if out.kind != DIRECTORY or intent.step.occupant_stays:
            return Done(fs.stat(intent.target), intent.source)
        try:
            fs.remove_dir(intent.source)
            return Done(fs.stat(intent.target))
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise
            back = _exchange_back(fs, intent)
            if back.keep is None:
                raise
            return back
    return _exchange_back(fs, intent)


def _exchange_back(fs: FileSystem, intent: Intent) -> Surprise:
    try:
        permitted(fs, lambda: fs.exchange(intent.source, intent.target), intent.target)
    except FileNotFoundError:
        # Our new version is gone from the path again: somebody removed or renamed it within this moment.
        return Surprise(intent.target, keep=intent.source)
    back = fs.stat(intent.source)
    if back is not None and Seen.of(back) != intent.moving:
        return Surprise(intent.target, keep=intent.source)
    return Surprise(intent.target)


def _swap(fs: FileSystem, intent: Intent) -> Done | Surprise:
    """Two entries of the tree, each to the other's name."""
    try:
        permitted(fs, lambda: fs.exchange(intent.source, intent.target), intent.source, intent.target)
    except FileNotFoundError:
        return Surprise(intent.target)
    here, there = fs.stat(intent.target), fs.stat(intent.source)
    if here is not None and there is not None and intent.leaving is not None:
        if here.inode == intent.moving.inode and there.inode == intent.leaving.inode:
            return Done(here, intent.source, there)
        fs.exchange(intent.source, intent.target)
    return Surprise(intent.target)
