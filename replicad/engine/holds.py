"""What waits for an operator's word (`replicad hold list | approve | reject`), and what that word does.

A folder is held (state 5, nothing is originated or installed) where going on by itself might lose something: where the
directory at its path is not the one that was replicated there, or has lost its marker and most of its entries; where a
scan finds much of it gone (engine.deletions).

- *approve*: what is there is the folder. The marker is written, and a full scan follows: what is not there any more is
  deleted on every member, what differs is a change made here.
- *reject*: what is there is not to count. The marker is written, what was known of the disk is forgotten, and the disk
  is held against what the group knows, as a joiner's is (rule 11): what is equal is kept, the rest goes to PreExisting,
  and what is missing comes back from other members.

Both begin with a new start of the folder, so nothing that was concluded from the old disk is left in memory.
*Forgetting* goes a piece at a time, and a crash goes on with it: the phase is in the catalog.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from replicad.catalog.store import Catalog
from replicad.core.draft import Draft
from replicad.core.ids import Uid
from replicad.core.local import LIMBO_NODE
from replicad.core.view import FIRST_FREE_NODE, STAGING_NODE, NodeId
from replicad.core.want import settle
from replicad.engine.intents import in_staging
from replicad.files.fs import FileSystem

FORGOTTEN_A_STEP = 512
"""Entries in one transaction: bounds what a crash repeats, and how long the folder's thread is busy."""
ROOT, DELETIONS = "root", "deletions"
"""The kind of a hold: the folder's directory is in question, or much that is missing in it (engine.deletions)."""


class Hold(msgspec.Struct, frozen=True):
    """`kind` says what is in question. Of the entries that were `looked_for`, so many are at their paths. `missing`:
    paths of the uppermost ones that are not, not all of them; of deletions alone."""

    kind: str
    reason: str
    there: int
    looked_for: int
    missing: Sequence[bytes] = ()


def forget_some(catalog: Catalog, now_ms: int) -> bool:
    """Forget some of what is known of the disk; True when nothing is left. Owns its transaction."""
    nodes = [node.id for node in catalog.nodes_after(FIRST_FREE_NODE - 1, FORGOTTEN_A_STEP)]
    draft = Draft(catalog)
    if not nodes and catalog.node(LIMBO_NODE) is not None:
        draft.drop_node(LIMBO_NODE)
    forget(draft, nodes)
    catalog.commit(draft, now_ms=now_ms)
    return not nodes


def forget_lost(catalog: Catalog, fs: FileSystem, now_ms: int) -> None:
    """Staging was removed: what had been lifted out of the tree into it is not on this disk any more."""
    lost = [node for node in catalog.nodes_in(STAGING_NODE) if fs.stat(in_staging(node.name)) is None]
    nodes: list[NodeId] = []
    while lost:
        node = lost.pop()
        nodes.append(node.id)
        lost.extend(catalog.nodes_in(node.id))
    draft = Draft(catalog)
    forget(draft, nodes)
    catalog.commit(draft, now_ms=now_ms)


def forget(draft: Draft, nodes: list[NodeId]) -> None:
    """Nothing is known to be at these entries of the disk: what the tree wants there is to be installed anew."""
    touched: set[Uid] = set()
    draft.look_ahead(nodes=nodes)
    for node in nodes:
        for uid in draft.uids_at(node):
            draft.update(uid, node=None, base_place_raw=b"", base_content_raw=b"")
            touched.add(uid)
        for uid in draft.hidden_at(node):
            draft.update(uid, beneath=None, beneath_seen=None)
            touched.add(uid)
        draft.drop_node(node)
    settle(draft, (), touched)
