"""Where an entry that turns up on the disk has come from: the nodes, held against inodes.

A move leaves the inode, so an entry whose inode a node has is that node's entry, moved, if three things hold:

- it is the very same (`core.diff.same_entry`: an inode number alone is given out again at once);
- it has left its old place: a hard link has not. For a directory this follows from the first, it is only in one place;
- at its old place there is nothing of its kind now, or something that has itself come from elsewhere (a swap, a chain
  of renames). A new file there is an editor's save: the object stays at its path, and what carries its old inode is the
  editor's backup, a new file.

Asked at the moment in which only one side of a move has been noticed, the disk tells the rest: the old place is looked
at there and then.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum

from replicad.core.diff import Seen, same_entry
from replicad.core.draft import Draft
from replicad.core.local import LIMBO_NODE
from replicad.core.plan import node_path
from replicad.core.records import DIRECTORY
from replicad.core.view import ROOT_NODE, STAGING_NODE, Node, NodeId
from replicad.files.fs import FileSystem, Stat
from replicad.files.paths import join

SEARCHED_ENTRIES_MAX = 1_000
"""Of a new directory that stands where another one stood, to see whether that is inside: `mkdir new; mv d new; mv new
d`. More is not worth the time: what is not found is a new directory, and the files in it are found by their inodes."""

Place = tuple[NodeId, bytes]
"""A name in a directory of the disk; the directory by its node, wherever that is moved."""


class Leave(Enum):
    """Whether an entry has left its place for another."""

    YES = 1
    NO = 2
    UNSURE = 3
    """The directory that it was in is not where it was, and not found elsewhere yet."""


class Moves:
    """Questions about one state of nodes and disk."""

    def __init__(self, draft: Draft, fs: FileSystem, mount: int, *, final: bool) -> None:
        """`final`: all that could be found was found; a directory that is not where it was is nowhere."""
        self._draft = draft
        self._fs = fs
        self._mount = mount
        self._final = final
        self.looked_past: dict[Place, None] = {}
        """Old places, and the directories around them, that an answer depended on: they must be looked at as well."""

    def origin(self, seen: Seen, place: Place) -> tuple[Node | None, bool]:
        """The node whose entry has come to `place`, None for none; and whether that is certain. Raises OSError."""
        sure = True
        for node in self._candidates(seen, place):
            if node.kind == DIRECTORY:
                return node, True
            leave = self._leaves(node)
            if leave is Leave.YES:
                return node, True
            sure = sure and leave is Leave.NO
        return None, sure

    def in_place(self, directory: NodeId) -> bool:
        """Whether the directory stands on the disk where its node says. Raises OSError."""
        if directory in (ROOT_NODE, STAGING_NODE):
            return True
        stat = self._fs.stat(node_path(self._draft, directory))
        return stat is not None and self._is_where_it_was(directory, stat)

    def look(self, place: Place) -> tuple[bool, Stat | None]:
        """Whether the directory stands on the disk where its node says, and what is at the name in that very directory,
        which may be renamed at any moment. Raises OSError."""
        directory, name = place
        if directory not in (ROOT_NODE, STAGING_NODE) and self._draft.node(directory) is None:
            return False, None
        try:
            itself, stat = self._fs.stat_in(node_path(self._draft, directory), name)
        except (FileNotFoundError, NotADirectoryError):
            return False, None
        return self._is_where_it_was(directory, itself), stat

    def _is_where_it_was(self, directory: NodeId, stat: Stat) -> bool:
        if directory in (ROOT_NODE, STAGING_NODE):
            return True
        node = self._draft.node(directory)
        return node is not None and stat.mount == self._mount and same_entry(node, stat) is not False

    def search(self, directory: bytes, wanted: Node) -> list[tuple[bytes, Stat]]:
        """The way from a directory down to the entry of `wanted`, which is its last; empty where it is not found.

        Raises OSError.
        """
        waiting: list[list[tuple[bytes, Stat]]] = [[]]
        seen = 0
        while waiting and seen < SEARCHED_ENTRIES_MAX:
            way = waiting.pop(0)
            for name, stat in self._fs.list_dir(_path_of(directory, way)):
                seen += 1
                if stat.mount != self._mount:
                    continue
                if self._is(wanted, stat, _path_of(directory, [*way, (name, stat)])):
                    return [*way, (name, stat)]
                if stat.kind == DIRECTORY:
                    waiting.append([*way, (name, stat)])
        return []

    def node_of(self, seen: Seen, path: bytes) -> Node | None:
        """The node of a directory that was found at `path`, wherever its place is."""
        return next((node for node in self._draft.node_by_inode(seen.inode) if self._is(node, seen, path)), None)

    def _candidates(self, seen: Seen, place: Place) -> Iterator[Node]:
        """Nodes elsewhere whose entry this may be: they are not at their own places any more."""
        for node in self._draft.node_by_inode(seen.inode):
            if (node.parent, node.name) == place or node.id in (ROOT_NODE, STAGING_NODE):
                continue
            if self._is(node, seen, join(node_path(self._draft, place[0]), place[1])) and not self._stands(node):
                yield node

    def _is(self, node: Node, seen: Seen, path: bytes) -> bool:
        same = same_entry(node, seen)
        return self._shares_entries(node, path) if same is None else same

    def _shares_entries(self, node: Node, path: bytes) -> bool:
        """Where the disk does not tell when a directory was made: whether something that was in it still is, under its
        name (its number alone may be another's by now), or nothing was and is."""
        was = {(child.name, child.kind, child.inode) for child in self._draft.nodes_in(node.id)}
        found = {(name, stat.kind, stat.inode) for name, stat in self._fs.list_dir(path)}
        return bool(was & found) or (not was and not found)

    def _stands(self, node: Node) -> bool:
        """Whether the entry is in the directory that its node names: at its path alone may be another directory's."""
        there, stat = self.look((node.parent, node.name))
        return there and stat is not None and stat.mount == self._mount and same_entry(node, stat) is not False

    def _leaves(self, node: Node) -> Leave:
        """For a file or symlink that is not at its place; what is there now may have come from yet another place."""
        passed: set[NodeId] = set()
        at = node
        while at.id not in passed:
            passed.add(at.id)
            if at.parent == LIMBO_NODE:
                return Leave.YES
            self.looked_past[at.parent, at.name] = None
            there, stat = self.look((at.parent, at.name))
            if not there:
                if self._final:
                    return Leave.YES
                self.look_at_directory(at.parent)
                return Leave.UNSURE
            if stat is None or stat.kind != at.kind:
                return Leave.YES
            if stat.mount != self._mount:
                return Leave.NO
            following = next(self._candidates(stat, (at.parent, at.name)), None)
            if following is None:
                return Leave.NO
            at = following
        return Leave.YES  # a ring: each has moved to where the next one was

    def look_at_directory(self, directory: NodeId) -> None:
        """What may have been moved is this directory, or one above it. (Of what is in the limbo that is known.)"""
        at: Node | None = self._draft.node(directory)
        while at is not None and at.id not in (ROOT_NODE, STAGING_NODE) and at.parent != LIMBO_NODE:
            self.looked_past[at.parent, at.name] = None
            at = self._draft.node(at.parent)


def is_within(draft: Draft, inner: NodeId, outer: NodeId) -> bool:
    """Whether a directory is another, or lies beneath it, by the nodes."""
    at: NodeId = inner
    while at not in (ROOT_NODE, STAGING_NODE):
        if at == outer:
            return True
        node = draft.node(at)
        if node is None:
            return False
        at = node.parent
    return at == outer


def _path_of(directory: bytes, way: list[tuple[bytes, Stat]]) -> bytes:
    return b"/".join([directory, *(name for name, _ in way)]) if directory else b"/".join(name for name, _ in way)
