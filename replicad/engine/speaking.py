"""A primary's disk speaks (`rejoin --primary`): the other way round than joining (engine.joining).

All that the tree wants is entered as if it were installed here, each entry with times that no file has. So the scan
that follows reads all of it, and finds what any scan would: what has other content, times or mode was edited here, what
is not there was deleted, what is new was made here. Nothing of the disk is read or changed by this walk. What cannot
be looked at, since another filesystem is mounted over it, or its directory cannot be listed, says nothing: it is left
pending, and judged later as what a joiner could not look at (engine.unclaimed).

It can be cut off anywhere and begun again: what has a node keeps it.
"""

from __future__ import annotations

from collections import deque

import msgspec

from replicad.catalog.store import Catalog
from replicad.core.adopt import adopt
from replicad.core.diff import OTHER_MOUNT, SMUDGED_NS
from replicad.core.draft import Draft
from replicad.core.ids import ROOT, Uid
from replicad.core.records import DIRECTORY, Content
from replicad.core.tree import Outcome, Slot, entries, outcome
from replicad.core.view import ROOT_NODE, Node, NodeId
from replicad.core.want import settle
from replicad.engine.joining import mount_of_root
from replicad.engine.renames import trouble
from replicad.engine.unclaimed import Unclaimed
from replicad.files.fs import FileSystem, Stat

ENTRIES_A_STEP = 512
"""Entries in one transaction: bounds what a crash repeats, and how long the folder's thread is busy."""
MODE_OF_KEPT = 0o755
"""Of a directory that is there only for what is in it: nobody says what its mode is."""


class _Directory(msgspec.Struct, frozen=True):
    path: bytes
    node: NodeId
    uid: Uid
    there: bool
    """It is on the disk."""


class Speaking:
    """The walk. `step` until it says that it is done; owns its transactions."""

    def __init__(self, catalog: Catalog, fs: FileSystem, unclaimed: Unclaimed) -> None:
        self._catalog = catalog
        self._fs = fs
        self._unclaimed = unclaimed
        self._waiting: deque[tuple[_Directory, bytes]] = deque()
        self._directories: deque[_Directory] = deque([_Directory(b"", ROOT_NODE, ROOT, there=True)])
        self._entered = 0
        self._mount = 0
        """The root's."""

    @property
    def summary(self) -> str:
        return f"this member's disk speaks: it is held against the {self._entered} entries that the group has"

    def step(self, now_ms: int) -> bool:
        """Enter some; True when that is all."""
        draft = Draft(self._catalog)
        touched: set[Uid] = set()
        self._mount = mount_of_root(self._fs)
        for _ in range(ENTRIES_A_STEP):
            while not self._waiting and self._directories:
                directory = self._directories.popleft()
                if not directory.there or self._can_be_looked_at(directory, now_ms):
                    self._waiting.extend((directory, name) for name in entries(draft, directory.uid))
            if not self._waiting:
                break
            self._enter(draft, *self._waiting.popleft(), touched)
        settle(draft, (), touched)
        self._catalog.commit(draft, self._unclaimed.changes(), now_ms=now_ms)
        return not self._waiting and not self._directories

    def _can_be_looked_at(self, directory: _Directory, now_ms: int) -> bool:
        """And what in it cannot is kept. Raises OSError where the root cannot be listed."""
        try:
            listed = self._fs.list_dir(directory.path)
        except OSError as error:
            if not directory.path:
                raise
            self._unclaimed.keep((directory.node, b""), now_ms, trouble(directory.path, error).reason)
            return False
        for name, stat in listed:
            if stat.mount != self._mount:
                self._unclaimed.keep((directory.node, name), now_ms, OTHER_MOUNT, covered=True)
        return True

    def _enter(self, draft: Draft, directory: _Directory, name: bytes, touched: set[Uid]) -> None:
        found = outcome(draft, Slot(directory.uid, name))
        lead = draft.object(found.lead) if found is not None else None
        if found is None or lead is None or lead.record.content is None:
            return
        path = directory.path + b"/" + name if directory.path else name
        try:
            stat = self._fs.stat(path)
        except OSError:
            return  # such a name cannot be here: that it is not says nothing
        if stat is not None and stat.mount != self._mount:
            return  # nothing is known of what lies beneath
        held = draft.node_at(directory.node, name)
        key = held.id if held is not None else draft.new_node_id()
        adopt(draft, found, _as_installed(key, directory.node, name, found, lead.record.content, stat))
        touched.update(found.winners)
        self._entered += 1
        if found.kind == DIRECTORY:
            there = stat is not None and stat.kind == DIRECTORY
            self._directories.append(_Directory(path, key, found.winners[0], there))


def _as_installed(
    key: NodeId, parent: NodeId, name: bytes, found: Outcome, content: Content, stat: Stat | None
) -> Node:
    """As if the content were there since before any look: with the inode that stands there, if it is of that kind."""
    there = stat if stat is not None and stat.kind == found.kind else None
    mode = content.mode
    if content.gone is not None:
        mode = there.mode if there is not None else MODE_OF_KEPT
    inode, birth_ns = (there.inode, there.birth_ns) if there is not None else (0, 0)
    return Node(key, parent, name, found.kind, inode, content.size, content.mtime_ns, SMUDGED_NS, birth_ns, mode)
