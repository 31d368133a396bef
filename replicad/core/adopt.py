"""Adoption: a disk entry that equals what the tree wants at its path is taken as installed (rules 2 and 11).

No record is written and nothing is transferred. Where only mode or mtime differ, the base is the wanted content with
the disk's mode and mtime: the object is pending, and the applier sets them.
"""

from __future__ import annotations

import msgspec

from replicad.core.draft import Draft
from replicad.core.records import DIRECTORY, FILE, encode
from replicad.core.tree import Outcome
from replicad.core.view import Node


def equals(draft: Draft, found: Outcome, node: Node, digest: bytes, value: bytes) -> bool:
    """Whether an entry shows what the tree wants: its kind and bytes. `digest` of a file, `value` of a symlink."""
    lead = draft.object(found.lead)
    if node.kind != found.kind or lead is None or lead.record.content is None:
        return False
    if found.kind == DIRECTORY:
        return True
    content = lead.record.content
    return content.digest == digest if found.kind == FILE else content.value == value


def adopt(draft: Draft, found: Outcome, node: Node) -> None:
    """Let `node`, of which `equals` holds, stand for those winners that are not on the disk elsewhere.

    The caller settles the winners' slot afterwards.
    """
    lead = draft.object(found.lead)
    assert lead is not None
    content = lead.record.content
    assert content is not None
    base_raw = b""
    if found.kind == FILE and (content.mode, content.mtime_ns) != (node.mode, node.mtime_ns):
        base_raw = encode(msgspec.structs.replace(content, mode=node.mode, mtime_ns=node.mtime_ns))
    if found.kind == DIRECTORY and content.mode != node.mode:
        base_raw = encode(msgspec.structs.replace(content, mode=node.mode, gone=None))
    shows = None if found.kind == DIRECTORY and base_raw else content.cn
    draft.put_node(msgspec.structs.replace(node, shows=shows))
    for uid in found.winners:
        state = draft.object(uid)
        assert state is not None
        if state.node is None or draft.node(state.node) is None:
            own_raw = base_raw if uid == found.lead else b""
            draft.update(uid, node=node.id, base_place_raw=b"", base_content_raw=own_raw)
