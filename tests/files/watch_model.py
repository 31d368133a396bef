"""A model of a disk with inotify, as `fs/notify` and `fs/namei.c` order its events, for `test_watch_nodes`.

Directories only matter by their names and watches, files by a version that grows with each write. `Disk` does what
users do and queues what the kernel would tell; others' events fall in between where the kernel lets them.
"""

import errno
import heapq
import os
import random
from dataclasses import dataclass, field

from replicad.files.fs import DIRECTORY, FILE, Stat
from replicad.files.paths import components, join
from replicad.files.watch_nodes import (
    CREATED,
    DELETE_SELF,
    DELETED,
    IS_DIRECTORY,
    MOVE_SELF,
    MOVED_FROM,
    MOVED_TO,
    WatchNodes,
)

WRITTEN = 0x8
NAMES = [b"a", b"b", b"c"]


@dataclass(eq=False)
class Dir:
    """A directory. `inode` is used again after its end, `uid` never."""

    uid: int
    inode: int
    parent: "Dir | None" = None
    name: bytes = b""
    dirs: dict[bytes, "Dir"] = field(default_factory=dict)
    files: dict[bytes, int] = field(default_factory=dict)
    watch: int | None = None

    def path(self) -> bytes:
        return join(self.parent.path(), self.name) if self.parent else b""

    def upward(self) -> list["Dir"]:
        return [self, *(self.parent.upward() if self.parent else [])]

    def downward(self) -> list["Dir"]:
        return [self, *(below for each in self.dirs.values() for below in each.downward())]


Event = tuple[int, int, int, bytes]


class Disk:
    """The tree, its watches and their queue, and users at random."""

    def __init__(self, randomness: random.Random) -> None:
        self.random = randomness
        self._uid_last = 1
        self._free: list[int] = []
        self.root = Dir(1, 1)
        self.outside = Dir(0, 0)  # where directories go that leave the folder
        self.queue: list[Event] = []
        self._watch_last = 0
        self._cookie_last = 0
        self.watched: dict[int, Dir] = {}
        self._held_open: list[Dir] = []
        self._handles: dict[int, Dir] = {}
        self._handle_last = 0
        self.users_active = True

    # Users.

    def act(self, locked: tuple[Dir, ...] = ()) -> None:
        """Something at random that does not need the lock of any of these directories."""
        if not self.users_active:
            return
        acts = [self._write, self._write, self._make, self._rename, self._rename, self._exchange, self._remove]
        self.random.choice(acts)(locked)

    def _any(self, locked: tuple[Dir, ...]) -> Dir:
        free = [each for each in self.root.downward() if each not in locked]
        return self.random.choice(free) if free else self.root

    def _write(self, locked: tuple[Dir, ...]) -> None:
        directory = self.random.choice(self.root.downward())  # writing into a file takes no lock of its directory
        name = b"f%d" % self.random.randrange(2)
        if name not in directory.files:
            if directory in locked:
                return
            self._tell(directory, CREATED, 0, name)
        directory.files[name] = directory.files.get(name, 0) + 1
        self._tell(directory, WRITTEN, 0, name)

    def _make(self, locked: tuple[Dir, ...]) -> None:
        parent, name = self._any(locked), self.random.choice(NAMES)
        if parent not in locked and name not in parent.dirs and len(self.root.downward()) <= 12:
            self.make(parent, name)

    def make(self, parent: Dir, name: bytes) -> Dir:
        self._uid_last += 1
        inode = heapq.heappop(self._free) if self._free else self._uid_last
        made = parent.dirs[name] = Dir(self._uid_last, inode, parent, name)
        self._tell(parent, CREATED | IS_DIRECTORY, 0, name)
        return made

    def _remove(self, locked: tuple[Dir, ...]) -> None:
        directory = self._any(locked)
        parent = directory.parent
        if parent is None or parent in locked or directory in locked or directory.dirs:
            return
        del parent.dirs[directory.name]
        self._tell(parent, DELETED | IS_DIRECTORY, 0, directory.name)
        self._end(directory)

    def _rename(self, locked: tuple[Dir, ...]) -> None:
        moved, target = self._any(locked), self._any(locked)
        source, name = moved.parent, self.random.choice(NAMES)
        if self.random.random() < 0.1:
            target = self.outside
        if source is None or source in locked or target in locked or moved in target.upward():
            return
        there = target.dirs.get(name)
        if there is moved or (there is not None and (there.dirs or there.files or there in locked)):
            return
        if target is self.outside:
            name = b"%d" % moved.uid
        old_name = moved.name
        del source.dirs[old_name]
        moved.parent, moved.name, target.dirs[name] = target, name, moved
        self._tell_move(source, old_name, target, name, moved, locked)
        if there is not None:
            self._end(there)

    def _exchange(self, locked: tuple[Dir, ...]) -> None:
        one, other = self._any(locked), self._any(locked)
        if one in other.upward() or other in one.upward() or one.parent is None or other.parent is None:
            return
        if one.parent not in locked and other.parent not in locked:
            self.exchange(one, other, locked)

    def exchange(self, one: Dir, other: Dir, locked: tuple[Dir, ...] = ()) -> None:
        assert one.parent is not None
        assert other.parent is not None
        places = (one.parent, one.name), (other.parent, other.name)
        (one.parent, one.name), (other.parent, other.name) = places[1], places[0]
        for each in (one, other):
            assert each.parent is not None
            each.parent.dirs[each.name] = each
        self._tell_move(*places[0], *places[1], one, (*locked, places[1][0]))
        self._tell_move(*places[1], *places[0], other, (*locked, places[0][0]))

    def _tell_move(
        self, source: Dir, name: bytes, target: Dir, new_name: bytes, moved: Dir, locked: tuple[Dir, ...]
    ) -> None:
        self._cookie_last += 1
        cookie = self._cookie_last
        locked = (*locked, source, target)
        self._tell(source, MOVED_FROM | IS_DIRECTORY, cookie, name)
        self._others(locked)
        self._tell(target, MOVED_TO | IS_DIRECTORY, cookie, new_name)
        self._others(locked)
        self._tell(moved, MOVE_SELF, 0, b"")

    def _others(self, locked: tuple[Dir, ...]) -> None:
        while self.random.random() < 0.3:
            self.act(locked)

    def _end(self, directory: Dir) -> None:
        directory.parent = None
        if self.random.random() < 0.3:
            self._held_open.append(directory)
        else:
            self._free_directory(directory)

    def close_what_is_held(self) -> None:
        while self._held_open:
            self._free_directory(self._held_open.pop())

    def _free_directory(self, directory: Dir) -> None:
        heapq.heappush(self._free, directory.inode)
        if directory.watch is not None:
            self._tell(directory, DELETE_SELF, 0, b"")
            self.remove_watch(directory.watch)

    # inotify.

    def _tell(self, directory: Dir, mask: int, cookie: int, name: bytes) -> None:
        if directory.watch is not None:
            self.queue.append((directory.watch, mask, cookie, name))

    def remove_watch(self, watch: int) -> None:
        directory = self.watched.pop(watch, None)
        if directory is not None:
            directory.watch = None
            self.queue.append((watch, 0, 0, b""))

    def deliver(self, nodes: WatchNodes, count: int) -> None:
        for _ in range(min(count, len(self.queue))):
            watch, mask, cookie, name = self.queue.pop(0)
            if mask:
                nodes.on_event(watch, mask, cookie, name)
            else:
                nodes.on_watch_gone(watch)
            self.remove_left(nodes)

    def remove_left(self, nodes: WatchNodes) -> None:
        for each in nodes.unwatch:
            self.remove_watch(each)
        nodes.unwatch.clear()

    # The system calls of `WatchPlaces`; anything may happen before each.

    def open(self, path: bytes) -> int:
        self._others(())
        self._handle_last += 1
        self._handles[self._handle_last] = self.at(path)
        return self._handle_last

    def close_handle(self, handle: int) -> None:
        del self._handles[handle]

    def identify(self, handle: int) -> tuple[int, int]:
        directory = self._handles[handle]
        self._others(())
        above = directory.parent
        self._others(())
        return directory.inode, above.inode if above else -1

    def inode_at(self, path: bytes) -> int | None:
        self._others(())
        try:
            return self.at(path).inode
        except FileNotFoundError:
            return None

    def add_watch(self, handle: int) -> int:
        self._others(())
        directory = self._handles[handle]
        if directory.parent is None and directory is not self.root:
            raise FileNotFoundError(errno.ENOENT, "removed")
        if directory.watch is None:
            self._watch_last += 1
            directory.watch = self._watch_last
            self.watched[directory.watch] = directory
        return directory.watch

    # The filesystem of `walk_and_watch`.

    def at(self, path: bytes) -> Dir:
        directory = self.root
        for name in components(path):
            found = directory.dirs.get(name)
            if found is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            directory = found
        return directory

    def stat(self, path: bytes) -> Stat | None:
        self._others(())
        try:
            return _stat(DIRECTORY, self.at(path).inode)
        except FileNotFoundError:
            return None

    def read_dir(self, path: bytes) -> tuple[Stat, list[tuple[bytes, Stat]]]:
        """A file's version stands in its size; its directory's `uid` in its inode."""
        self._others(())
        directory = self.at(path)
        dirs = [(name, _stat(DIRECTORY, each.inode)) for name, each in directory.dirs.items()]
        files = [(name, _stat(FILE, directory.uid, version)) for name, version in directory.files.items()]
        return _stat(DIRECTORY, directory.inode), sorted([*dirs, *files], key=lambda entry: entry[0])


def _stat(kind: int, inode: int, size: int = 0) -> Stat:
    return Stat(kind, inode, size, 0, 0, 0, 0, 1, 1)
