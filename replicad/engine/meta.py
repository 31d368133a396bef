"""Mode and mtime of an entry that is in place. What is noted is what is read back: not every filesystem holds all bits
of a mode, or nanoseconds.

RACE: a write between the last look and the setting of the mtime, of equal size, has its own mtime overwritten, and no
look at the times would ever find it. So the file is read once more: here if it is small, else by the scan (`again`).
RACE: a chmod within that time is overwritten, as if it had come before.
"""

from __future__ import annotations

import msgspec
from blake3 import blake3
from msgspec.structs import replace

from replicad.core.manifest import SMALL_FILE_BYTES
from replicad.core.records import Content
from replicad.core.view import Node
from replicad.engine.intents import Seen
from replicad.files.fs import FILE, FileSystem, OpenFile, Stat

ROUNDED_NS = 2_000_000_000
"""No filesystem holds times more coarsely; what is further off was set by somebody else."""


def set_mode(fs: FileSystem, path: bytes, node: Node, content: Content) -> Stat | None:
    """Of a directory or file; what stands there then, None where that is not this version of this entry. OSError."""
    fs.set_mode(path, content.mode)
    stat = fs.stat(path)
    if stat is not None and stat.mode != content.mode:  # somebody has changed it since, or it cannot be held
        fs.set_mode(path, content.mode)
        stat = fs.stat(path)
    if stat is None:
        return None
    return stat if replace(Seen.of(node), mode=stat.mode).is_version(stat) else None


def set_times(fs: FileSystem, path: bytes, node: Node, content: Content) -> tuple[Stat | None, bool]:
    """Mode and mtime of a file, through an open handle, so that it is this very file that gets them: what it is then,
    None where another one stands there, and whether it has the right content for certain. Raises OSError.
    """
    try:
        file = fs.open_read(path)
    except PermissionError:
        return _set_unread(fs, path, node, content), False
    with file:
        if file.stat().inode != node.inode:
            return None, False
        file.set_meta(content.mode, content.mtime_ns)
        stat = file.stat()
        if stat.mode != content.mode:  # somebody has changed it since, or it cannot be held
            file.set_meta(content.mode, content.mtime_ns)
            stat = file.stat()
        return _noted(stat, content), _is_right(file, content) and file.stat() == stat


def _set_unread(fs: FileSystem, path: bytes, node: Node, content: Content) -> Stat | None:
    """Its owner may set the times of a file that nobody may read."""
    fs.set_mtime(path, content.mtime_ns)
    fs.set_mode(path, content.mode)
    stat = fs.stat(path)
    same = stat is not None and (stat.kind, stat.inode) == (FILE, node.inode)
    return _noted(stat, content) if same and stat is not None else None


def _noted(stat: Stat, content: Content) -> Stat:
    near = abs(stat.mtime_ns - content.mtime_ns) <= ROUNDED_NS
    return stat if near else msgspec.structs.replace(stat, mtime_ns=content.mtime_ns)


def _is_right(file: OpenFile, content: Content) -> bool:
    small = content.size <= SMALL_FILE_BYTES
    return small and blake3(file.read_at(0, content.size + 1)).digest() == content.digest
