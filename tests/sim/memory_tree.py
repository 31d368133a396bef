"""The nodes beneath `memory_fs`: directories, files, symlinks and fifos with the times and numbers Linux gives them.

Rules kept (tests/files/test_fs_contract.py holds both implementations to them): a change of an entry changes mtime and
ctime of its directory; rename, link, unlink, chmod and utime change the ctime of the node itself, writing also its
mtime; renaming a directory leaves its mtime. Freed inode numbers are given out again at once, lowest first, as ext4
does: whoever takes a number for an identity fails soon.
"""

import errno
import heapq
import os
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache

from replicad.files.fs import DIRECTORY, FILE, SYMLINK, Stat
from replicad.files.paths import components

NAME_MAX = 255
TARGET_MAX = 4095
ROOT_MOUNT = 1


@lru_cache(4_096)
def _names(path: bytes) -> tuple[bytes, ...]:
    """As `components`: the same few paths are asked for all the time."""
    return tuple(components(path))


def failure(code: int, path: bytes = b"") -> OSError:
    return OSError(code, os.strerror(code), path)


class Node:
    """Anything in the tree. `parent` and `name` are its newest place (of a hard link there may be others)."""

    def __init__(self, kind: int, inode: int, mode: int, now_ns: int, mount: int) -> None:
        self.kind = kind
        self.inode = inode
        self.mode = mode
        self.mtime_ns = self.ctime_ns = self.birth_ns = now_ns
        self.mount = mount
        self.links = 2 if kind == DIRECTORY else 1
        self.opens = 0
        self.writers = 0
        """How often users have it open for writing."""
        self.data = bytearray()
        self.target = b""
        self.entries: dict[bytes, Node] = {}
        self.parent: Node | None = None
        self.name = b""
        self.covered_by: Node | None = None
        """The root of what is mounted here."""
        self.watched = self.walked = False
        self.watch = 0
        """For the watch: whether events are told, whether all beneath was watched, and the watch's number."""

    def stat(self) -> Stat:
        size = len(self.data) if self.kind == FILE else len(self.target) if self.kind == SYMLINK else 0
        mode = 0o777 if self.kind == SYMLINK else self.mode
        times = self.mtime_ns, self.ctime_ns, self.birth_ns
        return Stat(self.kind, self.inode, size, *times, mode, self.links, self.mount)

    def path(self) -> bytes:
        names: list[bytes] = []
        node = self
        while node.parent is not None:
            names.append(node.name)
            node = node.parent
        return b"/".join(reversed(names))

    def ancestors(self) -> Iterator["Node"]:
        """The node itself and every directory above it."""
        node: Node | None = self
        while node is not None:
            yield node
            node = node.parent


class Tree:
    """Nodes and what changes them. Paths are checked and looked up here; events and faults are added above it."""

    def __init__(self, clock: Callable[[], int], reuse_inodes: bool, capacity_bytes: int | None) -> None:
        self._clock = clock
        self._reuse_inodes = reuse_inodes
        self._free_inodes: list[int] = []
        self._inode_last = 1
        self._mount_last = ROOT_MOUNT
        self.capacity_bytes = capacity_bytes
        self.used_bytes = 0
        self.refused: frozenset[bytes] = frozenset()
        """Names that this filesystem does not take, as one that is case-blind or of another system has some."""
        self.root = self.make_node(DIRECTORY, 0o755, ROOT_MOUNT)

    def now(self) -> int:
        return self._clock()

    # Nodes.

    def make_node(self, kind: int, mode: int, mount: int) -> Node:
        if self._free_inodes:
            inode = heapq.heappop(self._free_inodes)
        else:
            self._inode_last += 1
            inode = self._inode_last
        return Node(kind, inode, mode, self.now(), mount)

    def release(self, node: Node) -> None:
        """Free the number and the space of a node that neither a name nor an open file holds."""
        if node.links == 0 and node.opens == 0:
            self.used_bytes -= len(node.data)
            if self._reuse_inodes:
                heapq.heappush(self._free_inodes, node.inode)

    def resize(self, node: Node, size: int) -> None:
        grown = size - len(node.data)
        if self.capacity_bytes is not None and self.used_bytes + grown > self.capacity_bytes:
            raise failure(errno.ENOSPC)
        self.used_bytes += grown
        if grown >= 0:
            node.data.extend(bytes(grown))
        else:
            del node.data[size:]

    # Looking up.

    def directory(self, path: bytes) -> Node:
        """The directory at a path; a symlink on the way is none."""
        return self.walk(_names(path), path)

    def place(self, path: bytes) -> tuple[Node, bytes]:
        """The directory that an entry is in, and its name."""
        *above, name = _names(path) or (None,)
        if name is None:
            raise ValueError(f"not the path of an entry within a folder: {path!r}")
        return self.walk(above, path), name

    def walk(self, names: Iterable[bytes], path: bytes) -> Node:
        node = self.root
        for name in names:
            node = self.entry(node, name)
            if node.kind != DIRECTORY:
                raise failure(errno.ENOTDIR, path)
        return node

    def entry(self, directory: Node, name: bytes) -> Node:
        found = self.find(directory, name)
        if found is None:
            raise failure(errno.ENOENT, name)
        return found

    def find(self, directory: Node, name: bytes) -> Node | None:
        if len(name) > NAME_MAX:
            raise failure(errno.ENAMETOOLONG, name)
        found = directory.entries.get(name)
        return found.covered_by or found if found is not None else None

    # Changing entries.

    def touch(self, node: Node) -> None:
        node.mtime_ns = node.ctime_ns = self.now()

    def add(self, directory: Node, name: bytes, node: Node) -> None:
        directory.entries[name] = node
        node.parent, node.name = directory, name
        if node.kind == DIRECTORY:
            directory.links += 1
        self.touch(directory)

    def drop(self, directory: Node, name: bytes) -> Node:
        """Take a name away; the node's own link count and ctime are the caller's affair."""
        node = directory.entries.pop(name)
        if node.kind == DIRECTORY:
            directory.links -= 1
        self.touch(directory)
        return node

    def remove(self, directory: Node, name: bytes) -> Node:
        """unlink or rmdir of what the caller has checked."""
        node = self.drop(directory, name)
        node.links = 0 if node.kind == DIRECTORY else node.links - 1
        node.ctime_ns = self.now()
        if (node.parent, node.name) == (directory, name):
            node.parent = None
        self.release(node)
        return node

    def move(self, source: Node, source_name: bytes, target: Node, target_name: bytes) -> None:
        node = self.drop(source, source_name)
        self.add(target, target_name, node)
        node.ctime_ns = self.now()

    def check_name(self, name: bytes) -> None:
        """Of an entry that is to be made."""
        if name in self.refused:
            raise failure(errno.EINVAL, name)

    def check_move(self, source: Node, source_name: bytes, target: Node) -> Node:
        """The node at the source; what forbids moving it whatever is at the target."""
        node = self.entry(source, source_name)
        if source.mount != target.mount:
            raise failure(errno.EXDEV, source_name)
        if source.entries[source_name].covered_by is not None:
            raise failure(errno.EBUSY, source_name)
        if any(above is node for above in target.ancestors()):
            raise failure(errno.EINVAL, source_name)
        return node

    # Mounts.

    def mount(self, path: bytes) -> None:
        """Another, empty filesystem at an existing directory."""
        parent, _, name = path.rpartition(b"/")
        under = self.directory(parent).entries[name]
        if under.kind != DIRECTORY or under.covered_by is not None:
            raise failure(errno.ENOTDIR if under.kind != DIRECTORY else errno.EBUSY, path)
        self._mount_last += 1
        over = self.make_node(DIRECTORY, 0o755, self._mount_last)
        over.parent, over.name = under.parent, under.name
        under.covered_by = over

    def unmount(self, path: bytes) -> Node:
        """What was mounted; `mount_again` puts it back."""
        parent, _, name = path.rpartition(b"/")
        under = self.directory(parent).entries[name]
        over = under.covered_by
        if over is None:
            raise failure(errno.EINVAL, path)
        under.covered_by = None
        return over

    def mount_again(self, path: bytes, over: Node) -> None:
        parent, _, name = path.rpartition(b"/")
        under = self.directory(parent).entries[name]
        over.parent, over.name = under.parent, under.name
        under.covered_by = over
