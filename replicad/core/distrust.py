"""An entry of the disk that turned out, when it was read, to be something else than its times tell (engine.verify).

To have it replaced by what the group has, and kept, it counts from now on as a version of its own: made by somebody
unknown (a replica id that is nobody's, and follows from what was found), who had seen what was installed. There is no
record of it, and nobody is told of it. So the object is pending, its content is fetched, and what comes off the disk is
preserved, since no change has seen it. Whoever edits the file meanwhile edits that version, and thereby wins.
"""

from __future__ import annotations

from collections.abc import Sequence

from blake3 import blake3
from msgspec.structs import replace

from replicad.core.draft import Draft
from replicad.core.ids import Cn, ReplicaId, Uid
from replicad.core.records import SYMLINK, encode, next_time, vector_after
from replicad.core.view import Node
from replicad.core.want import settle


def distrust(draft: Draft, node: Node, found: bytes) -> Sequence[Uid]:
    """`found`: the digest of what was read of the file at this entry, or a symlink's target. The objects that are
    pending now, settled in the draft; none where the entry stands for nothing that is live."""
    states = [
        s for s in draft.objects(draft.uids_at(node.id)) if s.base_content is not None and not s.base_content.gone
    ]
    if not states:
        return ()
    cn = Cn(_nobody(draft, node, found), 1)
    for state in states:
        base = state.base_content
        assert base is not None
        read = replace(base, value=found) if node.kind == SYMLINK else replace(base, digest=found)
        shown = replace(
            read, replica=cn.replica, counter=cn.counter, time_ms=next_time(0, base), vector=vector_after(base)
        )
        draft.update(state.record.uid, base_content_raw=encode(shown))
    draft.put_node(replace(node, shows=cn))
    uids = [state.record.uid for state in states]
    settle(draft, (), uids)
    return uids


def _nobody(draft: Draft, node: Node, found: bytes) -> ReplicaId:
    """64 bits of a hash, as good as drawn; never 0. The same where the same is found again."""
    seed = b"distrust %d %d " % (draft.replica, node.id) + found
    return int.from_bytes(blake3(seed).digest(8), "big") or 1
