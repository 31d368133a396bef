"""A disk in memory that can lose power: it is then as it was when it was last synced.

That is the worst that a filesystem with a journal does: it keeps what was changed in its order, so anything between the
last sync and the last change may be left. (The other end is what a kill leaves.)
"""

from __future__ import annotations

import copy

from tests.sim.memory_fs import MemoryFileSystem
from tests.sim.memory_tree import Node, Tree


class SyncedDisk(MemoryFileSystem):
    """Remembers what it was when it was last synced as a whole; of single files and directories it does not."""

    _synced: Tree | None = None

    def sync_all(self) -> None:
        super().sync_all()
        self._synced = _copied(self.tree)

    def lose_power(self) -> None:
        """Nobody has anything open any more, and nothing is watched."""
        assert self._synced is not None, "it was never synced"
        self.tree = _copied(self._synced)


def _copied(tree: Tree) -> Tree:
    found = copy.copy(tree)
    found.root, found._free_inodes = copy.deepcopy((tree.root, tree._free_inodes))
    waiting: list[Node] = [found.root]
    while waiting:
        node = waiting.pop()
        node.opens = node.writers = node.watch = 0
        node.watched = node.walked = False
        waiting += node.entries.values()
    return found
