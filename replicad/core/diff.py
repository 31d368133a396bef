"""The disk against the nodes: what one look at a directory or an entry says. Pure; `engine.scan` does the looking.

What tells that content may have changed is any difference in inode, size, mtime, ctime or mode. A different ctime alone
(rename, chmod, link) is enough to read the file again: a write with the mtime set back looks just like that. Nothing is
concluded from the times of a directory, which change with what is in it; a directory is listed to know that.

A file whose times are as fresh as the look at it cannot be trusted: another write in the same tick of the disk's clock
would leave them as they are. As git does with its index, such an entry is entered with a time that no file has
(`SMUDGED_NS` as its ctime), so every later look, also one after a crash, reads it again.

What is on another mount than the folder, or of a kind that is not replicated, is *blocked*: nothing is concluded from
it about what may lie beneath (I6, S29).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import Protocol

import msgspec

from replicad.core.records import DIRECTORY, FILE, KINDS, SYMLINK
from replicad.core.view import Node

PRIVATE = b".replicad"
"""The one name in the folder's root that is never looked at."""
FRESH_NS = 20_000_000
"""20 ms: several ticks of the coarsest clock that Linux stamps files with (10 ms at 100 Hz)."""
SMUDGED_NS = 0
"""As a node's ctime: its content was read while its times were too fresh; read it again."""

OTHER_MOUNT = "another filesystem is mounted here; what is on it is not replicated with this folder"
OTHER_KIND = "not a file, directory or symlink (a fifo, socket or device); these are not replicated"


class Seen(Protocol):
    """What a look at an entry tells: `files.fs.Stat`, of which the core knows no more than this."""

    @property
    def kind(self) -> int: ...
    @property
    def inode(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def mtime_ns(self) -> int: ...
    @property
    def ctime_ns(self) -> int: ...
    @property
    def birth_ns(self) -> int: ...
    @property
    def mode(self) -> int: ...
    @property
    def mount(self) -> int: ...


class Sight(IntEnum):
    """What one entry looks like, held against its node."""

    SAME = 1
    READ = 2
    """A file or symlink that may have other content: read it."""
    MODE = 3
    """A directory with another mode."""
    REPLACED = 4
    """Another directory stands here: the one that did has moved away, or was removed and made again."""
    APPEARED = 5
    """No node is here."""
    OTHER = 6
    """An entry of another kind stands here; the one that did has moved away or is gone."""
    VANISHED = 7
    """Nothing is here any more."""
    FOREIGN = 8
    """On another mount: whatever the node was is covered, and not gone."""
    UNFIT = 9
    """Of a kind that is not replicated; a node that was here has moved away or is gone."""
    NOTHING = 10
    """Neither a node nor an entry."""

    @property
    def blocked(self) -> str:
        """The reason for which what is there is not replicated; empty where it is."""
        return OTHER_MOUNT if self is Sight.FOREIGN else OTHER_KIND if self is Sight.UNFIT else ""


class Difference(msgspec.Struct, frozen=True):
    """One entry of a directory that is not as its node says."""

    name: bytes
    sight: Sight
    node: Node | None


def look(node: Node | None, seen: Seen | None, mount: int) -> Sight:
    """What one entry looks like. `mount` is that of the folder's root."""
    if seen is None:
        return Sight.NOTHING if node is None else Sight.VANISHED
    if seen.mount != mount:
        return Sight.FOREIGN
    if seen.kind not in KINDS:
        return Sight.UNFIT
    if node is None:
        return Sight.APPEARED
    if node.kind != seen.kind:
        return Sight.OTHER
    if node.kind != DIRECTORY:
        return Sight.SAME if _untouched(node, seen) else Sight.READ
    if node.inode != seen.inode or born_apart(node, seen):
        return Sight.REPLACED
    return Sight.SAME if node.mode == seen.mode else Sight.MODE


def compare(
    nodes: Sequence[Node], listing: Sequence[tuple[bytes, Seen]], mount: int, *, root: bool = False
) -> Iterator[Difference]:
    """The differences between one directory's nodes and its listing, both by rising name; in that order.

    `root`: it is the folder's root, whose `.replicad` is not seen.
    """
    seen = {name: entry for name, entry in listing if not (root and name == PRIVATE)}
    known = {node.name: node for node in nodes}
    for name in sorted(seen.keys() | known.keys()):
        node = known.get(name)
        sight = look(node, seen.get(name), mount)
        if sight is not Sight.SAME:
            yield Difference(name, sight, node)


def trusted_from(seen: Seen, now_ns: int) -> int:
    """When an entry that was looked at at `now_ns` can be trusted: `now_ns` itself where its times are old enough.

    A time that lies further from now than a tick is no clock's reading of this moment: it was set, or the disk's clock
    is another one, and waiting would not help.
    """
    if seen.kind not in (FILE, SYMLINK):
        return now_ns
    fresh = [time for time in (seen.mtime_ns, seen.ctime_ns) if abs(now_ns - time) < FRESH_NS]
    return max(fresh) + FRESH_NS if fresh else now_ns


def same_entry(node: Node, seen: Seen) -> bool | None:
    """Whether `seen`, found elsewhere, is the very entry that the node stands for; None: these two do not tell.

    An inode number alone is no identity: it is given out again at once. The time of birth is one; where the disk does
    not tell it, a file's size and mtime, which a rename leaves alone, have to do. Of a directory they change with what
    is in it: who asks has to look there.
    """
    if node.kind != seen.kind or node.inode != seen.inode:
        return False
    if node.birth_ns and seen.birth_ns:
        return node.birth_ns == seen.birth_ns
    if node.kind == DIRECTORY:
        return None
    return node.size == seen.size and node.mtime_ns == seen.mtime_ns


def _untouched(node: Node, seen: Seen) -> bool:
    return (node.inode, node.size, node.mtime_ns, node.ctime_ns, node.mode) == (
        seen.inode,
        seen.size,
        seen.mtime_ns,
        seen.ctime_ns,
        seen.mode,
    )


def born_apart(node: Node, seen: Seen) -> bool:
    """Whether the disk tells that what has this inode number is another entry than the node's."""
    return bool(node.birth_ns and seen.birth_ns) and node.birth_ns != seen.birth_ns
