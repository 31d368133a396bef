"""Where each watched directory is now: the part of the watch that decides, without system calls, threads or clocks.

inotify names a directory by the number of its watch, for as long as it lives, wherever it is moved. `WatchNodes` keeps
for each number the parent's node and the name below it, so a rename of a directory changes one node, whatever lies
beneath it, and paths are put together when they are told.

How a rename of a watched directory X is told (fs/notify, `fsnotify_move`): MOVED_FROM to its old parent and MOVED_TO to
its new one, both with one cookie and a name, then MOVE_SELF to X itself, with neither. Only MOVE_SELF says *which*
directory moved: names do not, when two are exchanged, or one is renamed over another that somebody holds open. The
kernel queues the three while it holds both parents locked, so:

1. by MOVE_SELF, a missing MOVED_TO means that the new parent is not watched;
2. once anything else is told of a name in the old parent, a move out of it that still lacks its MOVE_SELF is of a
   directory that is not watched;
3. other directories' events may come in between. Those from beneath X are told under the old path; that `Moved`
   follows them is why its takers look under the new one as well.

The queue may be behind the disk, and `place` (from a caller that has seen the disk) ahead of it. Then events that
follow repeat moves that are known already; each either starts where the node is, and is applied, or ends there or lies
in its past, and is passed over. At the last of them the node is where the disk has it.

`names` of a node holds what is certain. A name is dropped there as soon as an event casts doubt on it, which may well
be one from before the directory was placed; who asks for that name then looks at the disk and places what is there.
A node that lost its name keeps its place for telling paths (`_doubtful`) until it is placed again, moves or goes.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from watchdog.observers.inotify_c import InotifyConstants

from replicad.files.changes import Change, Dirty, Moved, RootGone

IS_DIRECTORY = int(InotifyConstants.IN_ISDIR)
CLOSED = int(InotifyConstants.IN_CLOSE_WRITE)
CREATED = int(InotifyConstants.IN_CREATE)
DELETED = int(InotifyConstants.IN_DELETE)
MOVED_FROM = int(InotifyConstants.IN_MOVED_FROM)
MOVED_TO = int(InotifyConstants.IN_MOVED_TO)
MOVE_SELF = int(InotifyConstants.IN_MOVE_SELF)
DELETE_SELF = int(InotifyConstants.IN_DELETE_SELF)
UNMOUNT = int(InotifyConstants.IN_UNMOUNT)
NAMES = CREATED | DELETED | MOVED_FROM | MOVED_TO

MOVES_MAX = 1000
"""Renames whose MOVE_SELF is awaited. There is hardly ever more than one for each processor."""


class Node:
    """A watched directory. `walked`: the last walk in which everything beneath was watched, too; what came since has
    been told."""

    __slots__ = ("inode", "name", "names", "parent", "walked", "watch")

    def __init__(self, watch: int, inode: int) -> None:
        self.watch = watch
        self.inode = inode
        self.parent: Node | None = None
        self.name = b""
        self.names: dict[bytes, Node] = {}
        self.walked = 0


@dataclass
class _Move:
    """A rename of a directory out of a watched one, whose MOVE_SELF has not come yet."""

    cookie: int
    source: Node
    source_name: bytes
    candidates: list[Node]
    dropped: Node | None
    """What lost the name `source_name` when the move began."""
    target: Node | None = None
    target_name: bytes = b""


class WatchNodes:
    """All nodes, by the number of their watch. `changes` and `unwatch` fill up until the caller takes them."""

    def __init__(self) -> None:
        self.root: Node | None = None
        self.changes: list[Change] = []
        self.unwatch: list[int] = []
        """Watches of directories that have left the folder, to be removed."""
        self._walk = 1
        self._by_watch: dict[int, Node] = {}
        self._by_inode: dict[int, Node] = {}
        self._doubtful: dict[tuple[Node, bytes], list[Node]] = {}
        """By their place; hardly ever more than one at each."""
        self._moves: list[_Move] = []
        self._leaving: dict[int, None] = {}
        """Cookies of renames of which the first half was told."""

    # Asked and told by whoever has looked at the disk.

    def at(self, parent: Node, name: bytes) -> Node | None:
        """The directory that is certain to be there, if it is watched."""
        return parent.names.get(name)

    def is_doubtful(self, parent: Node, name: bytes) -> bool:
        """A watched directory may be there."""
        return (parent, name) in self._doubtful

    def where(self, inode: int) -> bytes | None:
        node = self._by_inode.get(inode)
        return self.path(node) if node is not None else None

    def begin_walk(self) -> None:
        """Through everything."""
        self._walk += 1

    def is_walked(self, node: Node) -> bool:
        return node.walked == self._walk

    def walked(self, watch: int) -> None:
        node = self._by_watch.get(watch)
        if node is not None:
            node.walked = self._walk

    def place(self, watch: int, inode: int, parent: Node | None, name: bytes) -> bool:
        """The directory behind `watch`, new or known, lies at `name` in `parent`; without a parent it is the root.

        False where that contradicts what is known, which is then of the past: its events are still to come.
        """
        node = self._by_watch.get(watch)
        if node is None:
            node = self._by_watch[watch] = self._by_inode[inode] = Node(watch, inode)
        if parent is None:
            self.root = node
            return True
        if node is self.root:
            return False
        if node in _upward(parent):  # nothing on a disk lies within itself
            self._leave(node)
            return False
        self._put(node, parent, name)
        return True

    def drop_unknown(self, watch: int) -> None:
        """A watch that turned out to be on a directory elsewhere; one that is known here stays."""
        if watch not in self._by_watch:
            self.unwatch.append(watch)

    # Told by the kernel.

    def on_event(self, watch: int, mask: int, cookie: int, name: bytes) -> None:
        node = self._by_watch.get(watch)
        if node is None:
            return
        if name:
            self._on_entry(node, mask, cookie, name)
        elif node is self.root and mask & (MOVE_SELF | DELETE_SELF | UNMOUNT):
            how = "moved" if mask & MOVE_SELF else "removed" if mask & DELETE_SELF else "unmounted"
            self.changes.append(RootGone(f"the folder's root was {how}"))
        elif mask & MOVE_SELF:
            self._on_moved(node)

    def on_watch_gone(self, watch: int) -> None:
        """The directory was removed, or its filesystem unmounted."""
        node = self._by_watch.pop(watch, None)
        if node is not None:
            self._take_place(node)
            self._forget_inode(node)
            if node is self.root:
                self.root = None

    def path(self, node: Node) -> bytes | None:
        """None where the node no longer hangs below the root."""
        names: list[bytes] = []
        for each in _upward(node):
            if each.parent is None:
                return b"/".join(reversed(names)) if each is self.root else None
            names.append(each.name)
        return None

    # Entries.

    def _on_entry(self, node: Node, mask: int, cookie: int, name: bytes) -> None:
        path = self.path(node)
        if path is None:
            return
        self.changes.append(Dirty(path, name, node.inode, self._is_renamed(mask, cookie), bool(mask & CLOSED)))
        if self._moves and mask & NAMES:
            self._moves = [move for move in self._moves if move.source is not node or move.cookie == cookie]  # 2.
        if mask & IS_DIRECTORY and mask & NAMES:
            dropped = self._doubt(node, name)
            if mask & MOVED_FROM:
                self._begin_move(node, name, cookie, dropped)
            elif mask & MOVED_TO:
                for move in self._moves:
                    if move.cookie == cookie:
                        move.target, move.target_name = node, name

    def _is_renamed(self, mask: int, cookie: int) -> bool:
        """Whether this is the second half of a rename whose first half was told: the kernel tells them one after the
        other, though what others do may come between."""
        if mask & MOVED_FROM:
            if len(self._leaving) == MOVES_MAX:
                del self._leaving[next(iter(self._leaving))]
            self._leaving[cookie] = None
        return bool(mask & MOVED_TO) and self._leaving.pop(cookie, cookie) is None

    def _doubt(self, parent: Node, name: bytes) -> Node | None:
        dropped = parent.names.pop(name, None)
        if dropped is not None:
            self._doubtful.setdefault((parent, name), []).append(dropped)
        return dropped

    def _begin_move(self, node: Node, name: bytes, cookie: int, dropped: Node | None) -> None:
        candidates = self._doubtful.get((node, name))
        if not candidates:
            return  # a directory that is not watched
        if len(self._moves) == MOVES_MAX:
            del self._moves[0]
        self._moves.append(_Move(cookie, node, name, list(candidates), dropped))

    def _on_moved(self, node: Node) -> None:
        place = (node.parent, node.name)
        for move in self._moves:
            if (move.source, move.source_name) == place:
                self._moves.remove(move)
                self._finish_move(node, move)
                return
        for move in self._moves:
            if (move.target, move.target_name) == place:  # placed there already by who saw the disk
                self._moves.remove(move)
                return

    def _finish_move(self, node: Node, move: _Move) -> None:
        if move.dropped is not None and move.dropped is not node:
            self._restore(move.dropped, move)
        if move.target is None or self._by_watch.get(move.target.watch) is not move.target:
            self._leave(node)  # 1., or the new parent has left in the meantime
            return
        if node in _upward(move.target):
            self._leave(node)  # known places are of the past; the walk that MOVED_TO asks for finds it again
            return
        self._put(node, move.target, move.target_name)

    def _restore(self, dropped: Node, move: _Move) -> None:
        """It was not the one that moved from its name; and if nothing has been told of that name since, it is there."""
        place = (move.source, move.source_name)
        if dropped in self._doubtful.get(place, ()) and move.source_name not in move.source.names:
            self._put(dropped, *place)

    # Places.

    def _put(self, node: Node, parent: Node, name: bytes) -> None:
        before = self.path(node)
        self._take_place(node)
        self._doubt(parent, name)
        node.parent, node.name = parent, name
        parent.names[name] = node
        after = self.path(node)
        if before is not None and after is not None and before != after:
            self.changes.append(Moved(before, after))

    def _take_place(self, node: Node) -> None:
        if node.parent is None:
            return
        if node.parent.names.get(node.name) is node:
            del node.parent.names[node.name]
            return
        place = (node.parent, node.name)
        there = self._doubtful.get(place, [])
        if node in there:
            there.remove(node)
            if not there:
                del self._doubtful[place]

    def _forget_inode(self, node: Node) -> None:
        if self._by_inode.get(node.inode) is node:  # else the number is another directory's by now
            del self._by_inode[node.inode]

    def _leave(self, node: Node) -> None:
        """A directory and all beneath it are no longer in the folder, as far as is known."""
        waiting = [each for there in self._doubtful.values() for each in there if node in _upward(each)]
        waiting.append(node)
        while waiting:
            each = waiting.pop()
            waiting.extend(each.names.values())
            self._take_place(each)
            each.parent = None
            self._forget_inode(each)
            if self._by_watch.pop(each.watch, None) is not None:
                self.unwatch.append(each.watch)


def _upward(node: Node) -> Iterator[Node]:
    """The node and those above it, to the top."""
    above: Node | None = node
    while above is not None:
        yield above
        above = above.parent
