"""A node as the disk shows its entry."""

from __future__ import annotations

from replicad.core.ids import Cn
from replicad.core.view import Node, NodeId
from replicad.files.fs import Stat


def node_seen(node: NodeId, parent: NodeId, name: bytes, stat: Stat, shows: Cn | None = None) -> Node:
    """`shows`: as of `Node`."""
    return Node(
        node,
        parent,
        name,
        stat.kind,
        stat.inode,
        stat.size,
        stat.mtime_ns,
        stat.ctime_ns,
        stat.birth_ns,
        stat.mode,
        shows,
    )
