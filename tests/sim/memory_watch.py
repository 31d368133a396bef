"""The watch over a tree in memory: reports what inotify would make the real watch report, at once, in the same call.

tests/files/test_watch_contract.py runs one suite against both.
"""

import errno
from collections.abc import Callable

from replicad.files.changes import Change, Dirty, Marker, Moved, Overflow, Unwatchable, Watched
from replicad.files.root_marker import FENCE
from tests.sim.memory_fs import MemoryFileSystem
from tests.sim.memory_tree import Node


class MemoryWatch:
    """`Watch` on a `MemoryFileSystem`. One at a time; `close` makes room for the next (after a crash, too)."""

    def __init__(self, fs: MemoryFileSystem, on_change: Callable[[Change], None]) -> None:
        self._fs = fs
        self._on_change = on_change
        self._fence: Node | None = None
        self._by_watch: dict[int, Node] = {}
        self._by_inode: dict[int, Node] = {}
        self.refuse: Callable[[bytes], str | None] = lambda path: None
        """Gives the reason why a directory cannot be watched, where the test wants that."""
        self.deaf = False
        """The system never tells of anything."""
        fs.on_entry = self._on_entry
        fs.on_moved = self._on_moved

    def watch_directory(self, path: bytes, parent: Watched | None = None) -> Watched | None:
        node = self._fs.tree.directory(path)
        reason = self.refuse(path)
        if reason is not None:
            node.watched = node.walked = False
            self._on_change(Unwatchable(path, reason))
            return None
        above = node.parent
        if above is not None and (not above.watched or (parent is not None and parent.inode != above.inode)):
            raise FileNotFoundError(errno.ENOENT, "moved meanwhile, or its parent was", path)
        node.watched = True
        if not node.watch:
            node.watch = len(self._by_watch) + 1
            self._by_watch[node.watch] = self._by_inode[node.inode] = node
        return Watched(node.watch, node.inode)

    def begin_walk(self) -> None:
        for node in self._by_watch.values():
            node.walked = False

    def walked(self, directory: Watched) -> None:
        node = self._by_watch[directory.watch]
        node.walked = node.watched and node.watch == directory.watch

    def is_watched(self, path: bytes) -> bool:
        try:
            return self._fs.tree.directory(path).walked
        except (FileNotFoundError, NotADirectoryError):
            return False

    def where(self, inode: int) -> bytes | None:
        node = self._by_inode.get(inode)
        return node.path() if node is not None and node.watched and node.links else None

    def watch_fence(self) -> bool:
        self._fence = self._fs.tree.directory(FENCE)
        return True

    def overflow(self) -> None:
        """As when the kernel's queue runs over. Nothing is watched then but the fence."""
        _forget(self._fs.tree.root)
        self._on_change(Overflow())

    def close(self) -> None:
        self._fs.on_entry = self._fs.on_moved = None
        _forget(self._fs.tree.root)

    def _on_entry(self, directory: Node, name: bytes, new: bool, source: Node | None, closed: bool) -> None:
        if self.deaf:
            return
        if directory is self._fence:
            if new:
                self._on_change(Marker(name))
        elif directory.watched:
            renamed = source is not None and source.watched
            self._on_change(Dirty(directory.path(), name, directory.inode, renamed, closed))

    def _on_moved(self, node: Node, before: bytes) -> None:
        if not node.watched or self.deaf:
            return
        if node.parent is None or not node.parent.watched:
            _forget(node)
        else:
            self._on_change(Moved(before, node.path()))


def _forget(node: Node) -> None:
    waiting = [node]
    while waiting:
        directory = waiting.pop()
        directory.watched = directory.walked = False
        directory.watch = 0
        for entry in directory.entries.values():
            waiting.append(entry)
            if entry.covered_by is not None:
                waiting.append(entry.covered_by)
