"""From a path to its watched directory, while others rename things: the part of the watch that asks the disk.

What `WatchNodes` knows may be behind the disk, and a path may lead elsewhere from one call to the next. So nothing here
goes by a path alone. A directory is opened once, and by that handle it is watched and identified; and it is placed in
the node of its parent only if the parent that the disk names for the handle is that node's very directory, and the path
leads to it still.
"""

import errno
from typing import Protocol

from replicad.files.changes import Watched
from replicad.files.paths import components, join, split
from replicad.files.watch_nodes import Node, WatchNodes


class System(Protocol):
    """The system calls that are needed."""

    def open(self, path: bytes) -> int: ...
    def close_handle(self, handle: int) -> None: ...
    def identify(self, handle: int) -> tuple[int, int]:
        """The inode of the directory behind a handle, and that of its parent."""

    def inode_at(self, path: bytes) -> int | None: ...
    def add_watch(self, handle: int) -> int:
        """The number of its watch: the same for the same directory for as long as it is watched."""


class WatchPlaces:
    """Finds and places nodes. The caller lets no event in meanwhile."""

    def __init__(self, nodes: WatchNodes, system: System) -> None:
        self._nodes = nodes
        self._system = system

    def find(self, path: bytes) -> Node | None:
        """The node at a path. Where that is in doubt, the disk decides."""
        node = self._nodes.root
        at = b""
        for name in components(path):
            if node is None:
                return None
            at = join(at, name)
            above, node = node, self._nodes.at(node, name)
            if node is None and self._nodes.is_doubtful(above, name):
                node = self._look_again(above, name, at)
        return node

    def watch_directory(self, path: bytes, parent: Watched | None) -> Watched:
        """`Watch.watch_directory`; OSError where it cannot be watched."""
        if not path:
            return self._watch(path, None, b"")
        parent_path, name = split(path)
        above = self.find(parent_path)
        if above is None or (parent is not None and parent.watch != above.watch):
            raise _moved(path)
        return self._watch(path, above, name)

    def _look_again(self, parent: Node, name: bytes, path: bytes) -> Node | None:
        try:
            self._watch(path, parent, name)
        except OSError:
            return None  # for who asks it is not watched; who watches it is told why not
        return self._nodes.at(parent, name)

    def _watch(self, path: bytes, parent: Node | None, name: bytes) -> Watched:
        handle = self._system.open(path)
        try:
            # 1. Identified after it is watched: from then on no move escapes the queue.
            # 2. By its parent and by the path: it lay there, under that name, at one moment after it was watched.
            watch = self._system.add_watch(handle)
            inode, inode_above = self._system.identify(handle)
            is_there = self._system.inode_at(path) == inode
        finally:
            self._system.close_handle(handle)
        if not is_there or (parent is not None and inode_above != parent.inode):
            self._nodes.drop_unknown(watch)
            raise _moved(path)
        if not self._nodes.place(watch, inode, parent, name):
            raise _moved(path)
        return Watched(watch, inode)


def _moved(path: bytes) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, "moved meanwhile, or its parent was", path)
