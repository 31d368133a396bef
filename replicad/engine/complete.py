"""What a done act means for the catalog: nodes and bases as read back from the disk, entered into a draft.

The one place where an installed register becomes the base of what this member originates next (rule 1). Used after an
act and, for an act that a crash cut off from its commit, at the next start.
"""

from __future__ import annotations

import msgspec

from replicad.core.draft import Draft
from replicad.core.ids import Cn, Uid
from replicad.core.plan import Step, StepKind
from replicad.core.view import STAGING_NODE, Node, NodeId
from replicad.engine.acts import Done
from replicad.engine.intents import Seen
from replicad.files.fs import DIRECTORY, Stat


def complete(draft: Draft, step: Step, result: Done, lifted: bytes) -> set[Uid]:
    """Enter the act into `draft`; `lifted` is the name in staging of what went there to go on from there.

    Returns the objects whose node or base changed: the caller settles them.
    """
    match step.kind:
        case StepKind.PUT if step.node is None:
            return _put_new(draft, step, result, lifted)
        case StepKind.MAKE_DIR:
            return _put_new(draft, step, result, lifted)
        case StepKind.PUT | StepKind.MOVE:
            return _relocate(draft, step, result, lifted)
        case StepKind.SWAP:
            return _swap(draft, step, result)
        case StepKind.LIFT:
            assert step.node is not None
            assert result.stat is not None
            _move_node(draft, step.node, STAGING_NODE, lifted, result.stat)
            return set(draft.uids_at(step.node))
        case StepKind.REMOVE | StepKind.REMOVE_DIR:
            assert step.node is not None
            return _vacate(draft, step.node)
        case StepKind.SET_META:
            return _set_meta(draft, step, result)
        case StepKind.DETACH:
            draft.update(step.uid, node=None, base_place_raw=b"", base_content_raw=b"")
            return {step.uid}
    raise AssertionError(f"an unknown step {step.kind}")


def _put_new(draft: Draft, step: Step, result: Done, lifted: bytes) -> set[Uid]:
    assert result.stat is not None
    changed: set[Uid] = set(step.winners)
    in_place = step.occupant is not None and any(state.node == step.occupant for state in draft.objects(step.winners))
    node_id = step.occupant if in_place else None
    if in_place:
        assert step.occupant is not None
        for uid in draft.uids_at(step.occupant):
            if uid not in step.winners:
                draft.update(uid, node=None, base_place_raw=b"", base_content_raw=b"")
                changed.add(uid)
    elif step.occupant is not None:
        changed |= _clear_name(draft, step, result, lifted)
    if node_id is None:
        node_id = draft.new_node_id()
    draft.put_node(_node(node_id, step.parent, step.name, result.stat, _shown_cn(draft, step.lead)))
    for uid in step.winners:
        # A winner that stands at an entry of its own elsewhere keeps it until that merges into this one.
        state = draft.object(uid)
        assert state is not None
        if state.node in (None, node_id) or _is_shared(draft, state.node, step):
            draft.update(uid, node=node_id, base_place_raw=b"", base_content_raw=b"")
    return changed


def _is_shared(draft: Draft, node: NodeId | None, step: Step) -> bool:
    """Whether an entry stands for others too, who keep it: objects that were one and have parted."""
    return node is not None and any(uid not in step.winners for uid in draft.uids_at(node))


def _relocate(draft: Draft, step: Step, result: Done, lifted: bytes) -> set[Uid]:
    assert step.node is not None
    assert result.stat is not None
    changed = set(draft.uids_at(step.node))
    if step.occupant is not None:
        changed |= _clear_name(draft, step, result, lifted)
    _move_node(draft, step.node, step.parent, step.name, result.stat)
    for uid in draft.uids_at(step.node):
        if uid in step.winners:
            draft.update(uid, base_place_raw=b"")
    return changed


def _swap(draft: Draft, step: Step, result: Done) -> set[Uid]:
    assert step.node is not None
    assert step.occupant is not None
    assert result.stat is not None
    one, other = draft.node(step.node), draft.node(step.occupant)
    assert one is not None
    assert other is not None
    changed = {*draft.uids_at(one.id), *draft.uids_at(other.id)}
    assert result.out_stat is not None
    _move_node(draft, other.id, one.parent, one.name, result.out_stat)
    _move_node(draft, one.id, step.parent, step.name, result.stat)
    for uid in draft.uids_at(one.id):
        if uid in step.winners:
            draft.update(uid, base_place_raw=b"")
    return changed


def _clear_name(draft: Draft, step: Step, result: Done, lifted: bytes) -> set[Uid]:
    assert step.occupant is not None
    if step.occupant_stays:
        assert result.out_stat is not None
        _move_node(draft, step.occupant, STAGING_NODE, lifted, result.out_stat)
        return set(draft.uids_at(step.occupant))
    return _vacate(draft, step.occupant)


def _vacate(draft: Draft, node: NodeId) -> set[Uid]:
    """The entry is no longer on the disk."""
    gone = set(draft.uids_at(node))
    for uid in gone:
        draft.update(uid, node=None, base_place_raw=b"", base_content_raw=b"")
    draft.drop_node(node)
    return gone


def _move_node(draft: Draft, node: NodeId, parent: NodeId, name: bytes, stat: Stat) -> None:
    """A rename changes the ctime. Any other difference is somebody's edit: the old stat stays, so that it is found."""
    held = draft.node(node)
    assert held is not None
    same = stat.kind == DIRECTORY or Seen.of(stat) == Seen(held.kind, held.inode, held.size, held.mtime_ns, held.mode)
    ctime_ns = stat.ctime_ns if same else 0
    draft.put_node(msgspec.structs.replace(held, parent=parent, name=name, ctime_ns=ctime_ns))


def _set_meta(draft: Draft, step: Step, result: Done) -> set[Uid]:
    assert step.node is not None
    assert result.stat is not None
    held = draft.node(step.node)
    assert held is not None
    draft.put_node(_node(held.id, held.parent, held.name, result.stat, _shown_cn(draft, step.lead)))
    changed = set(draft.uids_at(held.id))
    for uid in changed.intersection(step.winners):
        draft.update(uid, base_content_raw=b"")
    return changed


def _shown_cn(draft: Draft, lead: Uid) -> Cn:
    state = draft.object(lead)
    assert state is not None
    assert state.record.content is not None
    return state.record.content.cn


def _node(node: NodeId, parent: NodeId, name: bytes, stat: Stat, shows: Cn) -> Node:
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
