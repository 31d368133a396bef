"""What the core may look up: a small read-only view of one catalog, and the values it gives.

Both the catalog (SQL) and `core.memory_view` (dictionaries) implement `View`, because a million records do not fit in
memory. `core.draft.Draft` lays the changes of one step over a view.

Three things are kept apart (DESIGN section 4): the *record* is what the group has decided, as far as this member knows;
the *base* is what this member installed on its disk, as read back; the *node* is the disk itself, an entry with the
stat it had when this member last looked. Where record and base differ the object is *pending*.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import msgspec

from replicad.core.cnset import CNSet
from replicad.core.ids import Cn, FolderId, ReplicaId, Uid
from replicad.core.records import DIRECTORY, ENTRY, Content, Place, Record, Stamp, open_content, open_place, usable

NodeId = int
ROOT_NODE: NodeId = 1
"""The folder's root directory; stands for the UID b"" alone."""
STAGING_NODE: NodeId = 2
"""`.replicad/staging`: what was lifted out of the tree for a moment is a child of it, under its staging name."""
FIRST_FREE_NODE: NodeId = 16


class Node(msgspec.Struct, frozen=True, gc=False):
    """One entry of this member's disk, as it was when last looked at. The root and staging are nodes too.

    `shows` is the CN of the content register that the disk shows. None for the two fixed nodes, and where an entry was
    adopted (rule 2) whose bytes are those of its objects' base while mode or mtime are still to be set.
    """

    id: NodeId
    parent: NodeId
    name: bytes
    kind: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    birth_ns: int
    mode: int
    shows: Cn | None = None


class ObjectState(msgspec.Struct, frozen=True, gc=False):
    """All that the catalog holds of one object.

    `node`: the disk entry at which it is, None where it is not on the disk. `base_place_raw`, `base_content_raw`: the
    registers as installed there, empty where they are those of the record (and meaningless without a node).
    `beneath`: the node of the winner under which this loser of a name lay hidden when that was last as the tree wants
    it, with `beneath_seen`, the rank of the loser's content then (rule 3). `pending`: the disk is not yet as the tree
    wants it. `cut`: the effective (parent, name) of a directory whose move is cut out of a cycle, or of a file or
    symlink that stands beside the winner of its name (core.tree_siblings). `kept`: its content is gone, but it is a
    directory above something live. `group`: the smallest UID of several directories of one name (None where it is
    alone). `position`: in the order of storing; 0 in a draft for what is not stored yet.
    """

    record: Record
    node: NodeId | None = None
    base_place_raw: bytes = b""
    base_content_raw: bytes = b""
    beneath: NodeId | None = None
    beneath_seen: Stamp | None = None
    pending: bool = False
    cut: tuple[Uid, bytes] | None = None
    kept: bool = False
    group: Uid | None = None
    position: int = 0

    @property
    def present(self) -> bool:
        """Whether it takes part in the tree: usable, and live or a directory that is kept.

        Catalogs keep this as a column, for `View.present_named` and `View.present_children`.
        """
        held = self.record
        return held.kind != ENTRY and usable(held) and (held.live or (self.kept and held.kind == DIRECTORY))

    @property
    def base_place(self) -> Place | None:
        """The place as installed; None without a node."""
        if self.node is None:
            return None
        return open_place(self.base_place_raw) if self.base_place_raw else self.record.place

    @property
    def base_content(self) -> Content | None:
        """The content as installed; None without a node."""
        if self.node is None:
            return None
        return open_content(self.base_content_raw) if self.base_content_raw else self.record.content


class View(Protocol):
    """Read-only. Every sequence is in ascending order, so that a step is the same function on every implementation."""

    @property
    def folder(self) -> FolderId: ...
    @property
    def replica(self) -> ReplicaId:
        """The replica id under which this catalog originates."""

    @property
    def counter(self) -> int:
        """The last counter allocated under `replica`."""

    @property
    def known(self) -> CNSet: ...
    @property
    def digest(self) -> int:
        """The 128-bit sum over the registers held (core.digest)."""

    @property
    def head(self) -> int:
        """The newest position."""

    @property
    def siblings(self) -> bool:
        """The folder's policy: the loser of a name stands beside the winner, instead of being preserved."""

    def object(self, uid: Uid) -> ObjectState | None: ...
    def objects(self, uids: Iterable[Uid]) -> Sequence[ObjectState]:
        """Those of `uids` that are held; one query for many."""

    def named(self, parent: Uid, name: bytes) -> Sequence[Uid]:
        """Objects whose record places them under `parent` as `name`, gone ones included, cuts not considered."""

    def children(self, parent: Uid) -> Sequence[Uid]:
        """Objects whose record places them under `parent`, gone ones included, cuts not considered."""

    def present_named(self, parent: Uid, name: bytes) -> Sequence[Uid]:
        """Those of `named` that are `present`: few, however often an object of that name came and went."""

    def present_children(self, parent: Uid, limit: int | None = None) -> Sequence[Uid]:
        """The first `limit` of those `children` that are `present` (all of them for None).

        A directory of a million tombstones must answer at once that nothing is left in it.
        """

    def cuts(self) -> Sequence[Uid]:
        """Objects with a `cut`; few. Directories, and siblings of a name."""

    def cut_into(self, parent: Uid) -> Sequence[Uid]:
        """Objects whose `cut` puts them under `parent`."""

    def cut_named(self, parent: Uid, name: bytes) -> Sequence[Uid]:
        """Those of `cut_into` that have this name there."""

    def group_members(self, group: Uid) -> Sequence[Uid]:
        """Objects whose `group` is this one; empty for a directory that is alone."""

    def pending(self, limit: int) -> Sequence[Uid]:
        """At most `limit` pending objects, the longest waiting first; by UID those that one draft made pending."""

    def node(self, node: NodeId) -> Node | None: ...
    def node_at(self, parent: NodeId, name: bytes) -> Node | None: ...
    def nodes_in(self, parent: NodeId, limit: int | None = None) -> Sequence[Node]:
        """Ordered by name; the first `limit` of them (all of them for None)."""

    def node_by_inode(self, inode: int) -> Sequence[Node]:
        """Several for hard links, and for numbers that were reused."""

    def uids_at(self, node: NodeId) -> Sequence[Uid]:
        """The objects for which this disk entry stands; the root's is (b"",)."""

    def hidden_at(self, node: NodeId) -> Sequence[Uid]:
        """The objects whose `beneath` is this node."""

    @property
    def next_node(self) -> NodeId:
        """A node id never used before."""

    def look_ahead(
        self,
        *,
        names: Iterable[tuple[Uid, bytes]] = (),
        entries: Iterable[tuple[NodeId, bytes]] = (),
        nodes: Iterable[NodeId] = (),
        inodes: Iterable[int] = (),
    ) -> None:
        """What is about to be asked: `present_named` of `names`, `node_at` of `entries`, `uids_at`, `hidden_at` and the
        objects of `nodes`, `node_by_inode` of `inodes`. Changes no answer; a catalog asks for all in one go.

        For some 1,000 keys at a time: a catalog does not remember more than a few thousand.
        """
