"""Steps: single acts on the disk, and the other answers that planning one object can give.

`core.plan` decides, `engine.apply` carries out. A step names disk entries by their nodes and objects by UIDs, so it can
be stored (rule 8: intent before act) and finished after a crash.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

import msgspec

from replicad.core.ids import ReplicaId, Uid
from replicad.core.records import Content
from replicad.core.tree import Slot
from replicad.core.view import ROOT_NODE, STAGING_NODE, NodeId, View

STAGING_PATH = b".replicad/staging"
DEPTH_MAX = 100_000
"""Of a path, in components: the nodes form a tree, so this only stops a loop that would be a bug of ours."""


class StepKind(IntEnum):
    MAKE_DIR = 1
    """Make a directory at a free name."""
    MOVE = 2
    """Move `node` to a free name."""
    PUT = 3
    """Put new content (`staged`), or `node` out of staging, at the name; what is there (`occupant`) comes out."""
    SWAP = 4
    """Exchange `node` and `occupant`, both in the tree."""
    LIFT = 5
    """Take `node` into staging; it stays an object's place and goes on from there."""
    REMOVE = 6
    """Take the file or symlink `node` off the disk."""
    REMOVE_DIR = 7
    """Remove the empty directory `node`."""
    SET_META = 8
    """Give `node` the lead's mode and mtime."""
    DETACH = 9
    """`uid` no longer stands at `node`, where others do; the disk stays as it is."""


class Step(msgspec.Struct, frozen=True, array_like=True):
    """One act. `slot` is the name it is for (None where something only goes); `winners` the objects it installs there.

    `preserve` is the reason to keep what comes off the disk (the occupant, or `node` for REMOVE), empty for none.
    """

    kind: StepKind
    uid: Uid
    slot: Slot | None = None
    winners: tuple[Uid, ...] = ()
    lead: Uid = b""
    object_kind: int = 0
    node: NodeId | None = None
    occupant: NodeId | None = None
    occupant_stays: bool = False
    """The occupant is wanted elsewhere: it stays a node, in staging, instead of being disposed of."""
    parent: NodeId = ROOT_NODE
    name: bytes = b""
    preserve: str = ""
    pre_existing: bool = False
    """It is preserved in PreExisting, which no quota empties, instead of ConflictAndDeleted."""
    winner: ReplicaId = 0
    """Whose change takes off what is preserved; 0: not known."""


class NeedContent(msgspec.Struct, frozen=True):
    """The lead's content must be in staging first. `node`: an entry that may share parts with it. `keeps`: installing
    it takes something off that has to be preserved."""

    uid: Uid
    content: Content
    node: NodeId | None
    keeps: bool = False


class First(msgspec.Struct, frozen=True):
    """These objects must be planned before this one."""

    uids: tuple[Uid, ...]


class Wait(msgspec.Struct, frozen=True):
    """Nothing can be done now. `reason` is for operators; empty while a series is being taken in (rule 7)."""

    reason: str = ""
    missing_parent: Uid = b""
    retry_ms: int = 0
    """When it is worth another look though nothing has happened here; 0: it is not."""
    unsettled: Uid | None = None
    """What waits for the end of a series."""


Plan = Step | NeedContent | First | Wait | None


class Context(msgspec.Struct, frozen=True):
    """What a plan depends on besides the view."""

    settled: Callable[[Uid], bool]
    staged: Callable[[Uid, bytes], bool]
    """Whether the content with this digest is whole in staging for this object."""
    hopeless: Callable[[Uid], bool] = lambda uid: False
    """Whether this object was tried in vain so often that none should wait for it who can do without."""
    visiting: frozenset[Uid] = frozenset()
    """Objects that wait for this one: where one of them is in the way, waiting would be for ever."""


def node_path(view: View, node: NodeId) -> bytes:
    """The path of a disk entry, relative to the folder's root; what is in staging has a path in `.replicad`."""
    names: list[bytes] = []
    at = node
    for _ in range(DEPTH_MAX):
        if at == ROOT_NODE:
            return b"/".join(reversed(names))
        if at == STAGING_NODE:
            return b"/".join([STAGING_PATH, *reversed(names)])
        entry = view.node(at)
        assert entry is not None, "a node's parent is missing"
        names.append(entry.name)
        at = entry.parent
    raise AssertionError("the nodes form a loop")
