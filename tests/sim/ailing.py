"""What is wrong with a member's disks for a while: calls that fail, room that ends, events that do not come.

A folder whose thread ends with an error of the disk, or cannot be opened, is tried again after RETRY_MS, as the daemon
does it (daemon.folders). Users act on the same disk: where it is away, or read-only, they cannot.
"""

from __future__ import annotations

import copy
import errno
import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from replicad.errors import CatalogDiskError, OpenAnewError
from tests.sim.memory_fs import MemoryFileSystem
from tests.sim.memory_tree import ROOT_MOUNT, Node, Tree

if TYPE_CHECKING:
    from tests.sim.member import SimMember
    from tests.sim.memory_watch import MemoryWatch

RETRY_MS = 10_000
"""daemon.folders.RETRY_S."""
SYNCS = frozenset({"sync", "sync_dirs", "sync_all"})
CONFLICT_AND_DELETED = b".replicad/ConflictAndDeleted/"


@dataclass(frozen=True)
class Failing:
    """Calls that fail with one of `codes`, each with this chance. `changes`: those that change the disk, or those that
    read; `methods`: of them these alone; `beneath`: of paths at it or beneath it."""

    codes: tuple[int, ...]
    chance: float
    changes: bool = True
    methods: frozenset[str] = frozenset()
    beneath: bytes | None = None

    def concerns(self, method: str, paths: tuple[bytes, ...]) -> bool:
        if self.methods and method not in self.methods:
            return False
        top = self.beneath
        return top is None or any(path == top or path.startswith(top + b"/") for path in paths)


class Ailing:
    """Of one member. Nothing is wrong to begin with; whoever begins something ends it."""

    def __init__(self, member: SimMember, rng: random.Random) -> None:
        self._member = member
        self.rng = rng
        self.failing: list[Failing] = []
        self.home_full = False
        """The disk of its home: nothing can be committed."""
        self.refuses: Callable[[bytes], str | None] = lambda path: None
        """Why a directory cannot be watched."""
        self.deaf = False
        self.no_users = 0
        """More than 0: nobody can use its disk."""
        self.temporary = False
        """Another disk is there for a while: no operator decides upon that."""
        self.discards = False
        """ConflictAndDeleted may be emptied by its quota."""

    # -- what the member asks

    def watch_begins(self, watch: MemoryWatch) -> None:
        """As it is with every watch that it has."""
        watch.refuse = lambda path: self.refuses(path)
        watch.deaf = self.deaf

    def before_change(self, method: str, paths: tuple[bytes, ...]) -> None:
        self._may_fail(method, paths, changes=True)
        if method == "unlink" and self.discards and paths[0].startswith(CONFLICT_AND_DELETED):
            self.member_discards(paths[0])

    def before_read(self, method: str, paths: tuple[bytes, ...]) -> None:
        self._may_fail(method, paths, changes=False)

    def before_commit(self) -> None:
        if self.home_full:
            raise CatalogDiskError("the catalog cannot be written: the disk of the home is full")

    def holders(self, path: bytes) -> str:
        return self.rng.choice(("", "vim (process 7)"))

    def failed(self, error: Exception) -> None:
        """Its folder's thread has ended."""
        member = self._member
        member.group.counts[f"folder failed: {type(error).__name__}"] += 1
        member.group.clock.note("failed", member.name, str(error))
        member.refusal = str(error)
        if member.fs.anew is not None and not self.temporary:
            self.back_in_place()  # it is opened anew
        lasted = member.group.clock.now_ms >= member.begun_ms + RETRY_MS
        delay_ms = 0 if isinstance(error, OpenAnewError) and lasted else RETRY_MS
        member.group.clock.after(delay_ms, lambda: member.start() if not member.up else None)

    # -- what is done to it

    def member_discards(self, path: bytes) -> None:
        member = self._member
        node = member.fs.tree.walk(path.split(b"/")[:-1], path).entries.get(path.rpartition(b"/")[2])
        if node is not None:
            member.group.ledger.discarded(member, bytes(node.data))

    def deafen(self, *, deaf: bool) -> None:
        self.deaf = deaf
        if self._member.up:
            self._member.watch.deaf = deaf

    def away(self, *, there: bool) -> None:
        """The root's disk was unmounted, while what has it open goes on; `there`: its directory is mounted again, and
        what was let go of is simply back."""
        fs = self._member.fs
        fs.in_place, fs.anew = there and not fs.is_open, None
        if there and fs.is_open:
            fs.anew = copy.copy(fs)
            fs.anew.in_place = True
            fs.anew.before_change = fs.anew.before_read = None

    def back_in_place(self) -> None:
        fs = self._member.fs
        fs.in_place, fs.anew = True, None

    def _may_fail(self, method: str, paths: tuple[bytes, ...], *, changes: bool) -> None:
        for one in self.failing:
            if one.changes == changes and one.concerns(method, paths) and self.rng.random() < one.chance:
                code = self.rng.choice(one.codes)
                self._member.group.counts[f"call failed: {errno.errorcode[code]}"] += 1
                raise OSError(code, os.strerror(code), paths[0] if paths else None)


# -- other disks


def empty_tree(fs: MemoryFileSystem) -> Tree:
    """What is at a mount point when nothing is mounted there."""
    return Tree(fs.tree._clock, fs.tree._reuse_inodes, None)


def unwatched(tree: Tree) -> Tree:
    """As nobody has it open, and nobody watches it: after a stop."""
    for node in _nodes(tree):
        node.opens = node.writers = node.watch = 0
        node.watched = node.walked = False
    return tree


def copied(tree: Tree) -> Tree:
    """`cp -a` to another disk: equal to look at, with inodes, ctimes and births of its own."""
    now_ns = tree.now()
    made = copy.deepcopy(tree, {id(tree._clock): tree._clock})
    made._free_inodes, made.capacity_bytes, made.refused = [], None, frozenset()
    inode = 2
    for node in _nodes(made):
        node.inode, inode = inode + 1_000, inode + 1
        node.ctime_ns = node.birth_ns = now_ns
        node.mount = ROOT_MOUNT
        node.covered_by = None
    made._inode_last = inode + 1_000
    return unwatched(made)


def _nodes(tree: Tree) -> list[Node]:
    found: list[Node] = []
    waiting = [tree.root]
    while waiting:
        node = waiting.pop()
        found.append(node)
        waiting += node.entries.values()
    return found
