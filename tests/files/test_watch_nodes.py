"""The watch's decisions against a model of the kernel: whatever users do, and however far the queue is behind, all that
was written is found, and every directory is known where it is."""

import random
from itertools import pairwise
from typing import cast

import pytest

from replicad.files.changes import Change, Dirty, RootGone, Watched, walk_and_watch
from replicad.files.fs import FILE, FileSystem
from replicad.files.paths import join
from replicad.files.watch_nodes import (
    CREATED,
    DELETE_SELF,
    IS_DIRECTORY,
    MOVE_SELF,
    MOVED_FROM,
    MOVED_TO,
    MOVES_MAX,
    UNMOUNT,
    WatchNodes,
)
from replicad.files.watch_places import WatchPlaces
from tests.files.watch_model import Dir, Disk


class Follower:
    """Keeps up with a disk as an engine does: looks at what is dirty, and walks what is not watched."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.nodes = WatchNodes()
        self.places = WatchPlaces(self.nodes, disk)
        self.seen: dict[tuple[int, bytes], int] = {}
        self.dirty: dict[tuple[int, bytes], None] = {}

    # Watch, as far as the walk needs it.

    def watch_directory(self, path: bytes, parent: Watched | None = None) -> Watched | None:
        try:
            return self.places.watch_directory(path, parent)
        finally:
            self.disk.remove_left(self.nodes)

    def begin_walk(self) -> None:
        self.nodes.begin_walk()

    def walked(self, directory: Watched) -> None:
        self.nodes.walked(directory.watch)

    def is_watched(self, path: bytes) -> bool:
        node = self.places.find(path)
        self.disk.remove_left(self.nodes)
        return node is not None and self.nodes.is_walked(node)

    def where(self, inode: int) -> bytes | None:
        return self.nodes.where(inode)

    def watch_fence(self) -> bool:
        return True

    def close(self) -> None:
        """Nothing is held."""

    # The engine's part.

    def receive(self, count: int) -> None:
        self.disk.deliver(self.nodes, count)
        self.take(self.nodes.changes)
        self.nodes.changes.clear()

    def take(self, changes: list[Change]) -> None:
        for change in changes:
            if isinstance(change, Dirty):
                self.dirty[change.inode, change.name] = None

    def walk(self, path: bytes) -> None:
        for listing in walk_and_watch(self, cast(FileSystem, self.disk), path):
            assert listing.error is None
            for name, stat in listing.entries:
                if stat.kind == FILE:
                    self.seen[stat.inode, name] = stat.size
            self.receive(self.disk.random.randrange(4))

    def look(self, inode: int, name: bytes) -> bool:
        """Whether it could be looked at: in the directory that it tells of, from the beginning to the end."""
        path = self.where(inode)
        if path is None:
            self.dirty.pop((inode, name), None)
            return True
        directory = self.at(path, inode)
        if directory is None:
            return False
        if name in directory.files:
            self.seen[directory.uid, name] = directory.files[name]
        if name in directory.dirs and not self.is_watched(join(path, name)):
            self.walk(join(path, name))
            if not self.is_watched(join(path, name)):
                return False
        if self.at(path, inode) is not directory:
            return False
        self.dirty.pop((inode, name), None)
        return True

    def at(self, path: bytes, inode: int) -> Dir | None:
        try:
            directory = self.disk.at(path)
        except FileNotFoundError:
            return None
        return directory if directory.inode == inode else None

    def settle(self) -> None:
        while self.disk.queue or self.nodes.changes or any(self.look(*each) for each in list(self.dirty)):
            self.receive(len(self.disk.queue))


def follow(seed: int, acts: int) -> tuple[Follower, Disk]:
    """A disk in use, and its follower from the first walk to the end of all acts."""
    randomness = random.Random(seed)
    disk = Disk(randomness)
    for _ in range(20):
        disk.act()
    follower = Follower(disk)
    follower.walk(b"")
    for _ in range(acts):
        disk.act()
        if randomness.random() < 0.2:
            disk.close_what_is_held()
        if randomness.random() < 0.6:
            follower.receive(randomness.randrange(6))
        if follower.dirty and randomness.random() < 0.4:
            follower.look(*randomness.choice(list(follower.dirty)))
    disk.users_active = False
    disk.close_what_is_held()
    follower.settle()
    return follower, disk


def check(follower: Follower, disk: Disk, seed: int) -> None:
    for directory in disk.root.downward():
        assert directory.watch is not None, (seed, directory.path())
        node = follower.places.find(directory.path())
        assert node is not None, (seed, directory.path())
        assert node.watch == directory.watch, (seed, directory.path())
        assert follower.nodes.path(node) == directory.path(), (seed, directory.path())
        for name, version in directory.files.items():
            assert follower.seen.get((directory.uid, name)) == version, (seed, join(directory.path(), name))
    assert not [each.uid for each in disk.outside.downward() if each.watch is not None], seed


@pytest.mark.parametrize("block", range(8))
def test_all_that_is_written_is_found_whatever_is_renamed_meanwhile(block: int) -> None:
    for seed in range(block * 100, block * 100 + 100):
        follower, disk = follow(seed, 60)
        check(follower, disk, seed)


def test_the_same_seed_gives_the_same_history() -> None:
    runs = [follow(7, 100) for _ in range(2)]
    assert runs[0][0].seen == runs[1][0].seen


def test_the_model_does_what_it_is_for() -> None:
    """Its histories hold the hard cases, or the test above would prove little."""
    seen = {"exchange": 0, "left": 0, "held": 0, "interleaved": 0}
    for seed in range(100):
        randomness = random.Random(seed)
        disk = Disk(randomness)
        follower = Follower(disk)
        follower.walk(b"")
        for _ in range(60):
            disk.act()
            follower.walk(b"")
            follower.dirty.clear()
            seen["held"] += bool(disk._held_open)
            masks = [(watch, mask & ~IS_DIRECTORY) for watch, mask, _, _ in disk.queue]
            for before, after in pairwise(masks):
                seen["left"] += before[1] == MOVED_FROM and after[1] == MOVE_SELF
                seen["exchange"] += before[1] == MOVE_SELF and after[1] == MOVED_FROM
                seen["interleaved"] += before[1] == MOVED_FROM and after[1] not in (MOVED_TO, MOVE_SELF)
            follower.receive(len(disk.queue))
    assert all(count > 20 for count in seen.values()), seen


def test_a_child_is_not_taken_for_that_of_the_directory_which_was_at_the_path_before() -> None:
    """A walk has listed `a` when it is exchanged with `c`, of which no event has been delivered: `a/b` is `c`'s by now,
    and `a`'s own is at `c/b`."""
    disk = Disk(random.Random(1))
    disk.users_active = False
    one, other = disk.make(disk.root, b"a"), disk.make(disk.root, b"c")
    for each in (one, other):
        disk.make(each, b"b").files[b"f"] = 1
    follower = Follower(disk)
    follower.walk(b"")
    new = disk.make(disk.make(one, b"new"), b"b")
    walk = walk_and_watch(follower, cast(FileSystem, disk), b"a")
    assert next(walk).path == b"a"
    disk.exchange(one, other)
    list(walk)
    new.files[b"f"] = 1
    follower.settle()
    check(follower, disk, 0)


# Single decisions.


def watched(*paths: bytes) -> WatchNodes:
    """Directories watched as 1 (the root), 2, 3… and settled."""
    nodes = WatchNodes()
    nodes.place(1, 101, None, b"")
    for number, path in enumerate(paths, 2):
        parent, _, name = path.rpartition(b"/")
        above = nodes.root
        for each in parent.split(b"/") if parent else []:
            assert above is not None
            above = nodes.at(above, each)
        assert nodes.place(number, 100 + number, above, name)
    return nodes


def test_only_move_self_says_which_directory_moved() -> None:
    nodes = watched(b"a", b"b", b"a/x", b"b/x")
    nodes.on_event(1, MOVED_FROM | IS_DIRECTORY, 7, b"a")
    nodes.on_event(1, MOVED_TO | IS_DIRECTORY, 7, b"b")
    nodes.on_event(2, MOVE_SELF, 0, b"")
    nodes.on_event(1, MOVED_FROM | IS_DIRECTORY, 8, b"b")
    nodes.on_event(1, MOVED_TO | IS_DIRECTORY, 8, b"a")
    nodes.on_event(3, MOVE_SELF, 0, b"")
    nodes.changes.clear()
    nodes.on_event(4, CREATED, 0, b"f")
    nodes.on_event(5, CREATED, 0, b"f")
    assert nodes.changes == [Dirty(b"b/x", b"f", 104), Dirty(b"a/x", b"f", 105)]


def test_a_directory_exchanged_for_one_that_is_not_watched_stays_certain() -> None:
    nodes = watched(b"a")
    nodes.on_event(1, MOVED_FROM | IS_DIRECTORY, 7, b"a")
    nodes.on_event(1, MOVED_TO | IS_DIRECTORY, 7, b"b")
    nodes.on_event(2, MOVE_SELF, 0, b"")
    nodes.on_event(1, MOVED_FROM | IS_DIRECTORY, 8, b"b")
    nodes.on_event(1, MOVED_TO | IS_DIRECTORY, 8, b"a")
    nodes.on_event(2, CREATED, 0, b"f")
    assert nodes.changes[-1] == Dirty(b"b", b"f", 102)


@pytest.mark.parametrize(("mask", "how"), [(MOVE_SELF, "moved"), (DELETE_SELF, "removed"), (UNMOUNT, "unmounted")])
def test_i6_the_end_of_the_root_is_told(mask: int, how: str) -> None:
    nodes = watched(b"a")
    nodes.on_event(1, mask, 0, b"")
    assert nodes.changes == [RootGone(f"the folder's root was {how}")]


def test_the_root_is_not_placed_within_itself() -> None:
    nodes = watched(b"a")
    assert nodes.root is not None
    assert not nodes.place(1, 101, nodes.at(nodes.root, b"a"), b"mounted")
    assert nodes.path(nodes.root) == b""


def test_i8_renames_that_never_end_are_bounded() -> None:
    nodes = watched(*(b"d%d" % number for number in range(MOVES_MAX + 10)))
    for number in range(MOVES_MAX + 10):
        above = number + 2
        assert nodes.root is not None
        nodes.place(5000 + number, 9000 + number, nodes.at(nodes.root, b"d%d" % number), b"x")
        nodes.on_event(above, MOVED_FROM | IS_DIRECTORY, number, b"x")
    assert len(nodes._moves) == MOVES_MAX


def test_events_of_unknown_watches_are_passed_over() -> None:
    nodes = watched(b"a")
    nodes.on_event(99, CREATED, 0, b"f")
    nodes.on_watch_gone(99)
    assert nodes.changes == []
