"""What could not be looked at when the disk was held against what the group knows (engine.unclaimed), once it can be.

As by rule 11 (engine.joining): what equals the tree at its path is adopted, the rest goes to PreExisting. Two things
are different, since the member takes part by now:

- what was made or written there since is its user's: it stays, and the scan that follows finds it as new. A directory
  that the tree does not have stays where there is such a thing in it; what else is in it goes to PreExisting;
- what has a node was installed there since, or entered by a scan, and is left alone. So is what stood elsewhere in the
  folder, which its user has moved there: nothing is decided to be gone before a place that is not covered any more has
  been looked at (`LateClaims.waits`).

Each step is a transaction. The walk can be cut off anywhere and begun again, as the place is kept until its end.

RACE: a walk takes some ms. What a user writes in a directory just when that is moved to PreExisting whole is moved
along with it: kept, and listed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

import msgspec

from replicad.catalog.changes import Change
from replicad.catalog.store import Catalog
from replicad.core.adopt import adopt
from replicad.core.diff import OTHER_MOUNT, PRIVATE, same_entry
from replicad.core.draft import Draft
from replicad.core.effects import Changed, Effect, Report
from replicad.core.ids import Uid
from replicad.core.records import DIRECTORY, FILE, SYMLINK
from replicad.core.steps import node_path
from replicad.core.tree import Outcome, Slot, outcome
from replicad.core.tree_places import rep
from replicad.core.view import ROOT_NODE, NodeId
from replicad.core.want import settle
from replicad.engine.joining import is_as_wanted, mount_of_root, set_aside
from replicad.engine.nodes import node_seen
from replicad.engine.renames import trouble
from replicad.engine.scan_moves import Moves, Place
from replicad.engine.unclaimed import Unclaimed, is_new
from replicad.errors import FileTrouble
from replicad.files.fs import FileSystem, Stat
from replicad.files.paths import join

ENTRIES_A_STEP = 512
"""Entries looked at in one transaction: bounds what a crash repeats, and how long the folder's thread is busy."""
LOOKED_THROUGH_MAX = 4_096
"""Entries of a directory that the tree does not have, to see whether anything in it is new: some 20 ms. One that has
more goes to PreExisting whole, which loses nothing."""

SYNC_RETRY_MS = 10_000
"""As engine.folder_disk has it."""

Commit = Callable[[Draft, Sequence[Change], set[Uid]], None]


class _Directory(msgspec.Struct, frozen=True):
    """`node` None: the tree does not have it, and it is looked at for what is new in it."""

    path: bytes
    node: NodeId | None


class _Gone(Exception):
    """A directory is not where it was."""


class _Walk:
    """Through one place. `step` until it says that it is done."""

    def __init__(self, catalog: Catalog, fs: FileSystem, unclaimed: Unclaimed, place: Place) -> None:
        self._catalog = catalog
        self._fs = fs
        self._unclaimed = unclaimed
        self.place = place
        self.epoch = unclaimed.epoch
        self._since_ms = unclaimed.since_ms(place)
        self._mount = 0
        """The root's."""
        self._directories: deque[_Directory] = deque()
        self._waiting: deque[tuple[_Directory, bytes]] = deque()
        self._left = False
        """Something in it could not be looked at, and no place but this stands for that."""
        self.path = b""
        """Of what was looked at, for the scan."""
        self.adopted = 0
        self.preserved = 0
        top, name = place
        if catalog.node(top) is not None or top == ROOT_NODE:
            self.path = join(node_path(catalog, top), name) if name else node_path(catalog, top)
            if name:
                self._waiting.append((_Directory(node_path(catalog, top), top), name))
            else:
                self._directories.append(_Directory(self.path, top))

    def step(self, draft: Draft, changes: list[Change], touched: set[Uid], now_ms: int) -> bool:
        """Look at some entries; True when that is all."""
        self._mount = mount_of_root(self._fs)
        moves = Moves(draft, self._fs, self._mount, final=False)
        for _ in range(ENTRIES_A_STEP):
            if not self._waiting and not self._next_directory(draft, moves):
                break
            directory, name = self._waiting.popleft()
            path = join(directory.path, name)
            try:
                self._look(draft, moves, directory, name, path, changes, touched, now_ms)
            except FileNotFoundError:
                continue
            except (OSError, FileTrouble, _Gone) as error:
                self._cannot(directory, name, _why(path, error))
        settle(draft, (), touched)
        over = not self._waiting and not self._directories
        if over and not self._left:
            self._unclaimed.drop(self.place)
        return over

    def _cannot(self, directory: _Directory, name: bytes, why: str, *, covered: bool = False) -> None:
        place = self.place
        if directory.node is not None:
            place = self._unclaimed.keep((directory.node, name), self._since_ms, why, covered=covered)
        self._left |= place == self.place

    def _next_directory(self, draft: Draft, moves: Moves) -> bool:
        while self._directories:
            directory = self._directories.popleft()
            path = directory.path
            try:
                if directory.node is not None:
                    path = node_path(draft, directory.node)
                    if not moves.in_place(directory.node):
                        raise _Gone
                listed = self._fs.list_dir(path)
            except (OSError, _Gone) as error:
                self._cannot(directory, b"", _why(path, error))
                continue
            at = _Directory(path, directory.node)
            self._waiting.extend((at, name) for name, _ in listed if path or name != PRIVATE)
            if self._waiting:
                return True
        return False

    def _look(
        self,
        draft: Draft,
        moves: Moves,
        directory: _Directory,
        name: bytes,
        path: bytes,
        changes: list[Change],
        touched: set[Uid],
        now_ms: int,
    ) -> None:
        stat = self._stat(moves, directory, name)
        if stat is None or stat.kind not in (FILE, DIRECTORY, SYMLINK):
            return
        if stat.mount != self._mount:
            self._cannot(directory, name, OTHER_MOUNT, covered=True)
            return
        held = draft.node_at(directory.node, name) if directory.node is not None else None
        if held is not None:
            if held.kind == stat.kind == DIRECTORY and (directory.node, name) != self.place:
                self._directories.append(_Directory(path, held.id))
            return
        if self._stays(draft, stat, now_ms):
            return
        found = self._wanted(draft, directory, name)
        if found is not None and self._adopt(draft, found, directory, name, path, stat, changes):
            touched.update(found.winners)
        elif stat.kind == DIRECTORY and self._holds_new(draft, path, now_ms):
            self._directories.append(_Directory(path, None))
        else:
            kept = set_aside(self._fs, path, stat, self._catalog.new_id(), now_ms)
            if kept is not None:
                changes.append(kept)
                self.preserved += 1
            touched.update(found.winners if found is not None else ())

    def _stat(self, moves: Moves, directory: _Directory, name: bytes) -> Stat | None:
        """Of the entry of that very directory, where it has a node: what is adopted is in it."""
        if directory.node is None:
            return self._fs.stat(join(directory.path, name))
        there, stat = moves.look((directory.node, name))
        if not there:
            raise _Gone
        return stat

    def _stays(self, draft: Draft, stat: Stat, now_ms: int) -> bool:
        """Whether it is not what lay there before: it is new, or has come from elsewhere in the folder."""
        known = draft.node_by_inode(stat.inode)
        return is_new(stat, self._since_ms, now_ms) or any(same_entry(node, stat) for node in known)

    def _wanted(self, draft: Draft, directory: _Directory, name: bytes) -> Outcome | None:
        uids = draft.uids_at(directory.node) if directory.node is not None else ()
        return outcome(draft, Slot(rep(draft, uids[0]), name)) if uids else None

    def _adopt(
        self,
        draft: Draft,
        found: Outcome,
        directory: _Directory,
        name: bytes,
        path: bytes,
        stat: Stat,
        changes: list[Change],
    ) -> bool:
        """Where the tree wants just this, and does not have it on the disk elsewhere."""
        assert directory.node is not None
        if all(state.node is not None for state in draft.objects(found.winners)):
            return False
        node = node_seen(draft.new_node_id(), directory.node, name, stat)
        if not is_as_wanted(self._fs, draft, found, node, path, stat, changes):
            return False
        adopt(draft, found, node)
        self.adopted += 1
        if stat.kind == DIRECTORY:
            self._directories.append(_Directory(path, node.id))
            if (directory.node, name) == self.place:
                # What is in it is not looked at yet: from here on that is what is kept.
                self._unclaimed.drop(self.place)
                self.place = (node.id, b"")
                self._unclaimed.keep(self.place, self._since_ms)
        return True

    def _holds_new(self, draft: Draft, path: bytes, now_ms: int) -> bool:
        """Or may hold it. What cannot be listed goes with the rest."""
        waiting, looked = [path], 0
        while waiting and looked < LOOKED_THROUGH_MAX:
            at = waiting.pop()
            try:
                listed = self._fs.list_dir(at)
            except OSError:
                continue
            for name, stat in listed:
                looked += 1
                if stat.mount != self._mount or self._stays(draft, stat, now_ms):
                    return True
                if stat.kind == DIRECTORY:
                    waiting.append(join(at, name))
        return False


def _why(path: bytes, error: Exception) -> str:
    """In words for `blocked`."""
    if isinstance(error, OSError):
        return trouble(path, error).reason
    return error.reason if isinstance(error, FileTrouble) else "its directory was moved in that moment"


class LateClaims:
    """Of one folder: one place after the other, of those that are asked for."""

    def __init__(
        self,
        catalog: Catalog,
        fs: FileSystem,
        unclaimed: Unclaimed,
        *,
        root_ok: Callable[[], bool],
        commit: Commit,
        look_again: Callable[[bytes], None],
    ) -> None:
        """`commit` stores a draft and offers what it made pending; `look_again`: a scan of a path is to follow."""
        self._catalog = catalog
        self._fs = fs
        self._unclaimed = unclaimed
        self._root_ok = root_ok
        self._commit = commit
        self._look_again = look_again
        self._walk: _Walk | None = None
        self._unsynced_until_ms = 0
        """The disk could not be synced: it is not tried again before."""

    def next_due_ms(self, now_ms: int) -> int | None:
        if self._walk is None and not self._unclaimed.asked:
            return None
        return max(now_ms, self._unsynced_until_ms)

    def clock_set_back(self) -> None:
        self._unsynced_until_ms = 0

    def waits(self, draft: Draft, now_ms: int) -> bool:
        """Whether what is missing may have been moved to where nobody has looked yet. Looks at what was covered."""
        if now_ms < self._unsynced_until_ms:
            return False
        covered = self._unclaimed.covered
        with suppress(OSError):
            mount = mount_of_root(self._fs) if covered else 0
            for place in sorted(covered):
                there, stat = Moves(draft, self._fs, mount, final=False).look(place)
                if there and (stat is None or stat.mount == mount):
                    covered.discard(place)
                    self._unclaimed.asked[place] = None
        return self._walk is not None or bool(self._unclaimed.asked)

    def work(self, now_ms: int) -> list[Effect]:
        """A step. Owns its transaction."""
        walk = self._walk
        if walk is None or walk.epoch != self._unclaimed.epoch:
            walk = self._walk = self._next()
        if walk is None or now_ms < self._unsynced_until_ms or not self._root_ok():
            return []
        draft, touched = Draft(self._catalog), set[Uid]()
        changes: list[Change] = []
        over = walk.step(draft, changes, touched, now_ms)
        if not self._root_ok() or not self._sync(draft, changes, now_ms):
            # What was moved away is listed; of the rest nothing is certain.
            self._walk = None
            self._unclaimed.reload()
            self._commit(Draft(self._catalog), changes, set())
            return []
        self._commit(draft, [*changes, *self._unclaimed.changes()], touched)
        return self._ended(walk) if over else []

    def _sync(self, draft: Draft, changes: Sequence[Change], now_ms: int) -> bool:
        """What is adopted counts as installed (I2)."""
        try:
            if draft.states or changes:
                self._fs.sync_all()
        except OSError:
            self._unsynced_until_ms = now_ms + SYNC_RETRY_MS
            return False
        return True

    def _next(self) -> _Walk | None:
        while self._unclaimed.asked:
            place = next(iter(self._unclaimed.asked))
            del self._unclaimed.asked[place]
            if place in self._unclaimed:
                return _Walk(self._catalog, self._fs, self._unclaimed, place)
        return None

    def _ended(self, walk: _Walk) -> list[Effect]:
        self._walk = None
        if walk.place in self._unclaimed and not walk.adopted and not walk.preserved:
            return []  # as before: it is tried again when it is looked at again
        self._look_again(walk.path)
        if not walk.adopted and not walk.preserved:
            return []
        what = f"{walk.adopted} entries adopted, {walk.preserved} moved to PreExisting"
        return [Report(0, f"what could not be looked at when the folder was joined: {what}", walk.path), Changed()]
