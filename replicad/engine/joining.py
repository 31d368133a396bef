"""Joining a folder that the group already has (DESIGN section 3, rule 11): the disk claims nothing.

After everything that a complete member knows has been taken in, the disk is walked once. What equals the tree at its
path is adopted: no transfer. The rest goes to PreExisting, which no quota empties; with `merge`, what only this disk
has, at names that nothing in the group has or had, stays where it is and becomes new objects at the scan that follows.
Only after this walk does the member originate.

What cannot be looked at, or moved away, is kept for later (engine.unclaimed).

The walk can be cut off anywhere and begun again: what was adopted is equal to the tree and is adopted again, what was
moved away is no longer met.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection

import msgspec

from replicad.catalog.changes import PRE_EXISTING, Change, Manifest, PutManifest
from replicad.catalog.store import Catalog
from replicad.core.adopt import adopt, equals
from replicad.core.collection import Circle
from replicad.core.diff import OTHER_MOUNT
from replicad.core.draft import Draft
from replicad.core.ids import ROOT, MemberId, Uid
from replicad.core.manifest import encode_whole
from replicad.core.records import DIRECTORY, FILE, SYMLINK
from replicad.core.tree import Outcome, Slot, outcome
from replicad.core.tree_places import members
from replicad.core.view import ROOT_NODE, Node, NodeId
from replicad.core.want import settle
from replicad.engine.disposal import OutNote, preserve
from replicad.engine.intents import Seen
from replicad.engine.nodes import node_seen
from replicad.engine.renames import trouble
from replicad.engine.unclaimed import Unclaimed
from replicad.errors import FileTrouble
from replicad.files.fs import FileSystem, Stat
from replicad.files.hashing import Hashed, hash_file

ENTRIES_A_STEP = 512
"""Entries looked at in one transaction: bounds what a crash repeats, and how long the folder's thread is busy."""
PRIVATE = b".replicad"
WHY = "the folder was joined, and the group has another version or none"


class _Directory(msgspec.Struct, frozen=True):
    path: bytes
    node: NodeId
    uid: Uid


class Claim:
    """The walk. `step` until it says that it is done; owns its transactions."""

    def __init__(self, catalog: Catalog, fs: FileSystem, unclaimed: Unclaimed, *, merge: bool) -> None:
        self._catalog = catalog
        self._fs = fs
        self._unclaimed = unclaimed
        self._merge = merge
        self._mount = 0
        """The root's."""
        self._waiting: deque[tuple[_Directory, bytes, Stat]] = deque()
        self._directories: deque[_Directory] = deque([_Directory(b"", ROOT_NODE, ROOT)])
        self.adopted = 0
        self.preserved = 0
        self.preserved_bytes = 0

    @property
    def summary(self) -> str:
        later = f", {len(self._unclaimed)} could not be looked at or moved yet" if len(self._unclaimed) else ""
        return f"joined: {self.adopted} entries adopted, {self.preserved} moved to PreExisting{later}"

    def step(self, now_ms: int) -> bool:
        """Look at some entries; True when all of the disk has been looked at. Raises OSError where the disk fails."""
        draft = Draft(self._catalog)
        changes: list[Change] = []
        touched: set[Uid] = set()
        self._mount = mount_of_root(self._fs)
        for _ in range(ENTRIES_A_STEP):
            if not self._waiting and not self._next_directory(now_ms):
                break
            directory, name, stat = self._waiting.popleft()
            path = directory.path + b"/" + name if directory.path else name
            try:
                self._look(draft, directory, name, path, stat, changes, touched, now_ms)
            except FileNotFoundError:
                continue
            except OSError as error:
                self._unclaimed.keep((directory.node, name), now_ms, trouble(path, error).reason)
            except FileTrouble as error:
                self._unclaimed.keep((directory.node, name), now_ms, error.reason)
        settle(draft, (), touched)
        if draft.states or changes:
            self._fs.sync_all()  # what is adopted counts as installed (I2)
        self._catalog.commit(draft, [*changes, *self._unclaimed.changes()], now_ms=now_ms)
        return not self._waiting and not self._directories

    def _next_directory(self, now_ms: int) -> bool:
        while self._directories:
            directory = self._directories.popleft()
            try:
                listed = self._fs.list_dir(directory.path)
            except OSError as error:
                if not directory.path:
                    raise
                self._unclaimed.keep((directory.node, b""), now_ms, trouble(directory.path, error).reason)
                continue
            for name, stat in listed:
                if directory.path or name != PRIVATE:
                    self._waiting.append((directory, name, stat))
            if self._waiting:
                return True
        return False

    def _look(
        self,
        draft: Draft,
        directory: _Directory,
        name: bytes,
        path: bytes,
        stat: Stat,
        changes: list[Change],
        touched: set[Uid],
        now_ms: int,
    ) -> None:
        if stat.kind not in (FILE, DIRECTORY, SYMLINK):
            return  # a fifo or socket stays; the scan lists it as not replicated
        slot = Slot(directory.uid, name)
        found = outcome(draft, slot)
        if found is None and self._merge and not was_known(draft, directory.uid, name):
            return
        if stat.mount != self._mount:
            # Nothing is known of what lies beneath.
            self._unclaimed.keep((directory.node, name), now_ms, OTHER_MOUNT, covered=True)
            return
        held = draft.node_at(directory.node, name)
        node = node_seen(held.id if held is not None else draft.new_node_id(), directory.node, name, stat)
        if found is not None and is_as_wanted(self._fs, draft, found, node, path, stat, changes):
            adopt(draft, found, node)
            touched.update(found.winners)
            self.adopted += 1
            if stat.kind == DIRECTORY:
                self._directories.append(_Directory(path, node.id, found.winners[0]))
            return
        kept = set_aside(self._fs, path, stat, self._catalog.new_id(), now_ms)
        if kept is not None:
            changes.append(kept)
            self.preserved += 1
            self.preserved_bytes += stat.size


def mount_of_root(fs: FileSystem) -> int:
    root = fs.stat(b"")
    assert root is not None, "an open root has a stat"
    return root.mount


def set_aside(fs: FileSystem, path: bytes, stat: Stat, preserved_id: int, now_ms: int) -> Change | None:
    """Into PreExisting; None where it is no longer there. Raises OSError."""
    note = OutNote(Seen.of(stat), path, b"", 0, b"")
    return preserve(fs, path, preserved_id, PRE_EXISTING, note, WHY, now_ms)


def is_as_wanted(
    fs: FileSystem, draft: Draft, found: Outcome, node: Node, path: bytes, stat: Stat, changes: list[Change]
) -> bool:
    """Whether an entry is what the tree wants there. Also adds the file's manifest, by which it is served. Raises
    OSError, FileTrouble."""
    lead = draft.object(found.lead)
    assert lead is not None
    content = lead.record.content
    if stat.kind != found.kind or content is None:
        return False
    if stat.kind == DIRECTORY:
        return True
    if stat.kind == SYMLINK:
        return equals(draft, found, node, b"", fs.read_link(path))
    if stat.size != content.size:
        return False
    hashed = hash_file(fs, path, stat)
    if not isinstance(hashed, Hashed) or not equals(draft, found, node, hashed.digest, b""):
        return False
    if hashed.manifest is not None:
        changes.append(PutManifest(Manifest(hashed.digest, encode_whole(hashed.manifest), stat.size)))
    return True


def was_known(draft: Draft, directory: Uid, name: bytes) -> bool:
    """Whether the group ever had something of this name here: then a tombstone lies there."""
    return any(draft.named(uid, name) for uid in members(draft, directory))


def nobody_to_learn_from(circle: Circle | None, met: Collection[MemberId]) -> str:
    """For operators, where no member in contact (`met`) is complete: what is waited for, and what helps."""
    away = len(circle.others.difference(met)) if circle is not None else 0
    if circle is None or (not away and circle.others):
        return (
            "no member of the folder has all of it yet; those who rejoin, or are in their first scans, are waited for"
        )
    who = f"{away} of its {len(circle.others)} members are not in contact" if away else "all of its members have lapsed"
    help_ = (
        "`replicad member remove NAME` for those that will not be back, or `replicad rejoin FOLDER --primary --force`"
    )
    return f"no member that has all of the folder is in contact, and {who}: {help_} to have this disk count"
