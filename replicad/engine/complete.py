"""What a done act means for the catalog: nodes and bases as read back from the disk, entered into a draft.

The one place where an installed register becomes the base of what this member originates next (rule 1). Used after an
act and, for an act that was cut off from its commit, when that is found out (engine.resume).

What the act put somewhere and somebody has changed since is entered as it was put, with a ctime that no file has: so
the next look at the path finds it changed, and takes it for an edit of what was installed.
"""

from __future__ import annotations

import msgspec

from replicad.core.diff import SMUDGED_NS
from replicad.core.draft import Draft
from replicad.core.ids import Cn, Uid
from replicad.core.records import Content, open_content
from replicad.core.steps import Step, StepKind
from replicad.core.view import STAGING_NODE, Node, NodeId, View
from replicad.engine.acts import Done
from replicad.engine.intents import Intent, Seen
from replicad.engine.nodes import node_seen
from replicad.files.fs import Stat


def complete(draft: Draft, intent: Intent, done: Done) -> set[Uid]:
    """Enter the act into `draft`. Returns the objects whose node or base changed: the caller settles them."""
    step = intent.step
    match step.kind:
        case StepKind.MAKE_DIR:
            return _put_new(draft, intent, done)
        case StepKind.PUT if step.node is None:
            return _put_new(draft, intent, done)
        case StepKind.PUT | StepKind.MOVE:
            return _relocate(draft, intent, done)
        case StepKind.SWAP:
            return _swap(draft, intent, done)
        case StepKind.LIFT:
            assert step.node is not None
            return _lift(draft, intent, step.node, done)
        case StepKind.REMOVE | StepKind.REMOVE_DIR:
            assert step.node is not None
            return vacate(draft, step.node)
        case StepKind.SET_META:
            return _set_meta(draft, intent, done)
        case kind:
            raise AssertionError(f"{kind} is no act")


def detach(draft: Draft, uid: Uid) -> set[Uid]:
    """The object no longer stands at its entry, where others do."""
    draft.update(uid, node=None, base_place_raw=b"", base_content_raw=b"")
    return {uid}


def vacate(draft: Draft, node: NodeId) -> set[Uid]:
    """The entry is no longer on the disk, nor is what was in it."""
    gone: set[Uid] = set()
    waiting = [node]
    while waiting:
        at = waiting.pop()
        waiting.extend(child.id for child in draft.nodes_in(at))
        for uid in draft.uids_at(at):
            gone |= detach(draft, uid)
        draft.drop_node(at)
    return gone


def _put_new(draft: Draft, intent: Intent, done: Done) -> set[Uid]:
    step = intent.step
    changed: set[Uid] = set(step.winners)
    in_place = step.occupant is not None and any(state.node == step.occupant for state in draft.objects(step.winners))
    if in_place:
        assert step.occupant is not None
        node_id = step.occupant
        for uid in draft.uids_at(node_id):
            if uid not in step.winners:
                changed |= detach(draft, uid)
    else:
        node_id = draft.new_node_id()
        changed |= _clear_name(draft, intent, done)
    draft.put_node(_new_node(node_id, intent, done.stat, _shown_cn(draft, intent)))
    for uid in step.winners:
        # A winner that stands at an entry of its own elsewhere keeps it until that merges into this one.
        state = draft.object(uid)
        assert state is not None
        if state.node in (None, node_id) or _is_shared(draft, state.node, step):
            place, content = _installed(draft, intent, uid)
            draft.update(uid, node=node_id, base_place_raw=place, base_content_raw=content)
    return changed


def _is_shared(draft: Draft, node: NodeId | None, step: Step) -> bool:
    """Whether an entry stands for others too, who keep it: objects that were one and have parted."""
    return node is not None and any(uid not in step.winners for uid in draft.uids_at(node))


def _relocate(draft: Draft, intent: Intent, done: Done) -> set[Uid]:
    step = intent.step
    assert step.node is not None
    changed = set(draft.uids_at(step.node)) | _clear_name(draft, intent, done)
    _move_node(draft, step.node, step.parent, step.name, done.stat)
    for uid in draft.uids_at(step.node):
        if uid in step.winners:
            draft.update(uid, base_place_raw=_installed(draft, intent, uid)[0])
    return changed


def _swap(draft: Draft, intent: Intent, done: Done) -> set[Uid]:
    step = intent.step
    assert step.node is not None
    assert step.occupant is not None
    one, other = draft.node(step.node), draft.node(step.occupant)
    assert one is not None
    assert other is not None
    _move_node(draft, other.id, one.parent, one.name, done.other)
    _move_node(draft, one.id, step.parent, step.name, done.stat)
    for uid in draft.uids_at(one.id):
        if uid in step.winners:
            draft.update(uid, base_place_raw=_installed(draft, intent, uid)[0])
    return {*draft.uids_at(one.id), *draft.uids_at(other.id)}


def _lift(draft: Draft, intent: Intent, node: NodeId, done: Done) -> set[Uid]:
    if done.out is None:
        return vacate(draft, node)  # staging was emptied at once
    _move_node(draft, node, STAGING_NODE, intent.aside.rpartition(b"/")[2], done.out)
    return set(draft.uids_at(node))


def _clear_name(draft: Draft, intent: Intent, done: Done) -> set[Uid]:
    """The occupant of the name has left it."""
    step = intent.step
    if step.occupant is None:
        return set()
    return _lift(draft, intent, step.occupant, done) if step.occupant_stays else vacate(draft, step.occupant)


def _move_node(draft: Draft, node: NodeId, parent: NodeId, name: bytes, stat: Stat | None) -> None:
    """A rename changes the ctime, and nothing else."""
    held = draft.node(node)
    assert held is not None
    ctime_ns = stat.ctime_ns if stat is not None else SMUDGED_NS
    draft.put_node(msgspec.structs.replace(held, parent=parent, name=name, ctime_ns=ctime_ns))


def _set_meta(draft: Draft, intent: Intent, done: Done) -> set[Uid]:
    step = intent.step
    assert step.node is not None
    assert done.stat is not None
    held = draft.node(step.node)
    assert held is not None
    ctime_ns = done.stat.ctime_ns if intent.target not in done.again else SMUDGED_NS
    node = node_seen(held.id, held.parent, held.name, done.stat, _shown_cn(draft, intent))
    draft.put_node(msgspec.structs.replace(node, ctime_ns=ctime_ns))
    changed = set(draft.uids_at(held.id))
    for uid in changed.intersection(step.winners):
        draft.update(uid, base_content_raw=_installed(draft, intent, uid)[1])
    return changed


def _installed(draft: Draft, intent: Intent, uid: Uid) -> tuple[bytes, bytes]:
    """What the act has installed of an object, as the raw registers of a base: empty where it has them still."""
    state, then = draft.object(uid), intent.registers(uid)
    assert state is not None
    if then is None:
        return b"", b""
    place, content = then
    return (
        place if place != state.record.place_raw else b"",
        content if content != state.record.content_raw else b"",
    )


def _shown_cn(draft: Draft, intent: Intent) -> Cn:
    content = content_then(draft, intent)
    assert content is not None
    return content.cn


def content_then(view: View, intent: Intent) -> Content | None:
    """Of the lead, when the act was done."""
    then = intent.registers(intent.step.lead)
    if then is not None:
        return open_content(then[1])
    state = view.object(intent.step.lead)
    return state.record.content if state is not None else None


def _new_node(node: NodeId, intent: Intent, stat: Stat | None, shows: Cn) -> Node:
    step = intent.step
    put: Seen = intent.moving
    if stat is not None:
        new = node_seen(node, step.parent, step.name, stat, shows)
        # A directory has no versions, so its mode may be somebody's already.
        return new if step.kind != StepKind.PUT else msgspec.structs.replace(new, mode=put.mode)
    return Node(
        node,
        step.parent,
        step.name,
        put.kind,
        put.inode,
        put.size,
        put.mtime_ns,
        SMUDGED_NS,
        put.birth_ns,
        put.mode,
        shows,
    )
