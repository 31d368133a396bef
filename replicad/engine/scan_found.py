"""What stands at open places as they are now, and which entries have come there."""

from __future__ import annotations

import msgspec

from replicad.core.diff import Sight, born_apart
from replicad.core.records import DIRECTORY
from replicad.core.view import Node, NodeId
from replicad.engine.scan_moves import Place
from replicad.engine.scan_state import Why
from replicad.files.fs import Stat

LOST = (Sight.VANISHED, Sight.REPLACED, Sight.OTHER, Sight.UNFIT)


class Found(msgspec.Struct, frozen=True):
    """An open place as it is now."""

    place: Place
    path: bytes
    why: Why
    stat: Stat | None
    node: Node | None
    sight: Sight

    def left(self, elsewhere: set[int]) -> bool:
        """Whether the entry that was known here is not, and one of its number stands elsewhere."""
        node = self.node
        return node is not None and node.inode in elsewhere and (self.stat is None or self.stat.inode != node.inode)

    @property
    def is_another(self) -> bool:
        """Whether what stands here is not the entry that was known here; a number is given out again at once."""
        node, stat = self.node, self.stat
        return node is None or stat is None or node.inode != stat.inode or born_apart(node, stat)

    @property
    def is_lost_directory(self) -> bool:
        """Whether a directory was known here, and is not here any more."""
        return self.sight in LOST and self.node is not None and self.node.kind == DIRECTORY


class Claim(msgspec.Struct, frozen=True):
    """The entry of `node` stands at `open` now."""

    node: Node
    open: Found


def freed(claims: dict[NodeId, Claim]) -> dict[NodeId, Claim]:
    """Claims whose place is free, or held by an entry that itself goes by such a claim."""
    left = dict(claims)
    while stuck := [
        key for key, claim in left.items() if claim.open.node is not None and claim.open.node.id not in left
    ]:
        for key in stuck:
            del left[key]
    return left
