"""Rule 9: what must be kept of a file that a change takes off the disk, and where.

A file is preserved unless a change to that same object, whose author had seen what was installed there, edits or
deletes it; one that only loses its name to another object is always preserved. The version vector that counts is that
of the object at the entry, never that of the object which takes its place (S34).

Where: in ConflictAndDeleted. But a file of which both registers are still originals was never taken up by anybody: it
lay on this disk when the folder was founded, and lost its name there. It goes to PreExisting (S33).
"""

from __future__ import annotations

from typing import NamedTuple

from replicad.core.ids import ReplicaId, Uid
from replicad.core.records import DIRECTORY, Content, contains
from replicad.core.tree import outcome, slot_of
from replicad.core.view import NodeId, ObjectState, View
from replicad.core.want import same_bytes

LOST_ITS_NAME = "another object has its name"
"""Such a loser is hidden and may come up again: then its content is wanted."""


class Keep(NamedTuple):
    """`why` is for operators."""

    why: str
    pre_existing: bool = False
    winner: ReplicaId = 0
    """Under which what takes it off was written; 0: not known."""


def what_to_keep(view: View, node: NodeId) -> Keep | None:
    """Whether and why the file or symlink at `node` must be preserved when a change takes it off the disk."""
    uids = view.uids_at(node)
    if not uids:
        return Keep("nothing is known of it")
    kept = [keep for state in view.objects(uids) if (keep := _keep_of(view, state)) is not None]
    # Several objects were one file here: it is a founder's only if it is so for all who want it kept.
    return min(kept, key=lambda keep: keep.pre_existing) if kept else None


def preserve_reason(view: View, node: NodeId) -> str:
    """Why the file at `node` must be preserved; empty: it need not."""
    keep = what_to_keep(view, node)
    return keep.why if keep is not None else ""


def _keep_of(view: View, state: ObjectState) -> Keep | None:
    base, now = state.base_content, state.record.content
    if base is None or now is None:
        return Keep("its record is incomplete")
    if state.record.kind == DIRECTORY:  # a file or symlink was it (core.records)
        return Keep("another member made a directory under the same change number")
    slot = slot_of(view, state.record.uid)
    found = outcome(view, slot) if slot is not None else None
    if found is not None and state.record.uid in found.hidden:
        pre_existing = state.record.original and _is_original(base)
        return Keep(LOST_ITS_NAME, pre_existing, _writer(view, found.lead))
    if not contains(now, base) and not same_bytes(state.record.kind, now, base):
        if contains(base, now):  # only core.distrust makes such a base
            return Keep("what was read here is not what was there, though its times are the same", winner=now.replica)
        why = "deleted elsewhere meanwhile" if now.gone is not None else "edited elsewhere meanwhile"
        return Keep(why, winner=now.replica)
    return None


def _writer(view: View, uid: Uid) -> ReplicaId:
    """Who gave an object what its strength at its name comes from: the later of its registers."""
    state = view.object(uid)
    if state is None or state.record.place is None or state.record.content is None:
        return 0
    place, content = state.record.place, state.record.content
    return place.replica if place.stamp > content.stamp else content.replica


def _is_original(content: Content) -> bool:
    return not content.time_ms
