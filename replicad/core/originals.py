"""Originals (rule 6): what members that found a folder together, each on its own disk, enter in their first scans.

Members started apart, perhaps with copies of one disk, must begin with equal objects. So what such a scan finds has a
UID that is a function of folder, path, kind and digest, stamp zero and empty version vectors; only the CNs are each
member's own, and of two registers with one stamp the greater encoding wins everywhere. An original loses against every
later version, and its name against every object that is not one.
"""

from __future__ import annotations

from replicad.core.author import Author
from replicad.core.ids import ROOT, ReplicaId, Uid, original_uid
from replicad.core.plan import node_path
from replicad.core.records import DIRECTORY, Content
from replicad.core.view import ROOT_NODE, NodeId, ObjectState


def enter_original(
    author: Author, parent: NodeId, name: bytes, kind: int, look: Content, node: NodeId
) -> Content | None:
    """The object that this path, kind and content make; merged with an equal one that another founder has entered.

    Returns the content register that the disk shows. The object stands at `node`; where others have moved, edited or
    deleted it since, the original is what is installed here, and they have the say.

    None, and nothing is written, where this member has entered that original before and its user has moved, edited or
    deleted it in the meantime: what appears now at the old path is new, and must not go the way of the old.
    """
    directory = node_path(author.draft, parent)
    path = directory + b"/" + name if directory else name
    uid = original_uid(author.draft.folder, path, kind, look.digest or look.value)
    held = author.draft.object(uid)
    if held is not None and (held.node is not None or _was_here(held, author.draft.replica)):
        return None
    place = author.place(0, (), _parent_uid(author, parent, directory), name)
    content = author.content(0, (), look, place.cn)
    author.create(uid, kind, place, content, node=node)
    return content


def _was_here(held: ObjectState, replica: ReplicaId) -> bool:
    """Whether this member has had a part in a later version of the object, so that it was on this disk."""
    return any(
        register is not None
        and register.time_ms > 0
        and (register.replica == replica or any(seen == replica for seen, _ in register.vector))
        for register in (held.record.place, held.record.content)
    )


def _parent_uid(author: Author, parent: NodeId, path: bytes) -> Uid:
    """The parent's own original, so that other founders name the same; where a user has moved it, its first UID."""
    if parent == ROOT_NODE:
        return ROOT
    uids = author.draft.uids_at(parent)
    original = original_uid(author.draft.folder, path, DIRECTORY, b"")
    return original if original in uids else uids[0]
