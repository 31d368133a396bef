"""A tree in memory as a value: taken down, and built again. Hard links, mounts and open files do not occur here."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from replicad.files.changes import Change
from replicad.files.fs import DIRECTORY, FILE
from tests.sim.memory_fs import MemoryFileSystem
from tests.sim.memory_tree import ROOT_MOUNT, Node
from tests.sim.memory_watch import MemoryWatch

STORES = (b"ConflictAndDeleted", b"PreExisting")


class Entry(msgspec.Struct, frozen=True):
    """`watched`, `walked`: the watch's, of directories."""

    kind: int
    inode: int
    mode: int
    mtime_ns: int
    ctime_ns: int
    birth_ns: int
    data: bytes
    watched: bool
    walked: bool
    entries: tuple[tuple[bytes, Entry], ...]


class Disk(msgspec.Struct, frozen=True):
    """`free`: inode numbers to be given out again, the lowest first; then those after `last`."""

    root: Entry
    free: tuple[int, ...]
    last: int


def take_down(fs: MemoryFileSystem) -> Disk:
    assert not fs.open_files, "a step closes what it opens"
    return Disk(_entry(fs.tree.root), tuple(sorted(fs.tree._free_inodes)), fs.tree._inode_last)


def _entry(node: Node) -> Entry:
    entries = tuple((name, _entry(node.entries[name])) for name in sorted(node.entries))
    times = node.mtime_ns, node.ctime_ns, node.birth_ns
    return Entry(node.kind, node.inode, node.mode, *times, bytes(node.data), node.watched, node.walked, entries)


def build(disk: Disk, clock: Callable[[], int]) -> MemoryFileSystem:
    fs = MemoryFileSystem(clock)
    fs.tree._free_inodes, fs.tree._inode_last = list(disk.free), disk.last
    fs.tree.root = _node(disk.root, None, b"")
    return fs


def _node(entry: Entry, parent: Node | None, name: bytes) -> Node:
    node = Node(entry.kind, entry.inode, entry.mode, entry.mtime_ns, ROOT_MOUNT)
    node.ctime_ns, node.birth_ns = entry.ctime_ns, entry.birth_ns
    node.data = bytearray(entry.data)
    node.watched, node.walked = entry.watched, entry.walked
    node.parent, node.name = parent, name
    for child, below in entry.entries:
        node.entries[child] = _node(below, node, child)
        node.links += below.kind == DIRECTORY
    return node


def watch(fs: MemoryFileSystem, on_change: Callable[[Change], None]) -> MemoryWatch:
    """With the watches that the directories had."""
    made = MemoryWatch(fs, on_change)
    waiting = [fs.tree.root]
    while waiting:
        node = waiting.pop()
        waiting.extend(node.entries.values())
        if node.watched:
            node.watch = len(made._by_watch) + 1
            made._by_watch[node.watch] = made._by_inode[node.inode] = node
    return made


def tree(disk: Disk) -> Iterator[tuple[bytes, Entry]]:
    """(path, entry) of what users see, parents first."""
    waiting = [(name, entry) for name, entry in disk.root.entries if name != b".replicad"]
    while waiting:
        path, entry = waiting.pop()
        yield path, entry
        waiting.extend((path + b"/" + name, below) for name, below in entry.entries)


def private(disk: Disk, name: bytes) -> tuple[tuple[bytes, Entry], ...]:
    """What lies in a directory of `.replicad`."""
    (own,) = (entry for at, entry in disk.root.entries if at == b".replicad")
    return next((entry.entries for at, entry in own.entries if at == name), ())


def stored(disk: Disk) -> list[bytes]:
    """Contents that were preserved, sorted."""
    return sorted(entry.data for store in STORES for _, entry in private(disk, store) if entry.kind == FILE)


def bodies(disk: Disk) -> set[bytes]:
    """Contents that can be had from this disk."""
    return {entry.data for _, entry in tree(disk) if entry.kind == FILE} | set(stored(disk))
