"""What to do next on the disk for one pending object: pure decisions, carried out by `engine.apply`.

`plan` looks at the tree (what the path should be) and at the nodes (what it is) and gives one answer: a `Step`, the
content to fetch first, the objects that must go first, or a reason to wait. It never plans on what another step of the
same batch is about to change: the engine plans each step on the state as committed, and lets go what a step touches.

Rules kept here (DESIGN section 3):
7. While an object is unsettled it is installed only where it is new at a free name.
9. A file that is taken off the disk is preserved unless a change to that same object, whose author had seen what was
   installed, edits or deletes it; one that only loses its name is always preserved.
12. A directory is removed only when nothing replicated is in it, and then by a call that fails where anything else is.
And I4: a path holds a complete old or new version at every instant. So a new version comes from staging by an exchange
where the name is taken; what goes waits for what comes in its place; two entries that want each other's name are
exchanged; an entry that must get out of the way and has no place to go yet, or is exchanged for what is new at its
name, comes out into staging as a node like any other, and goes on from there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec.structs import replace

from replicad.core.ids import Uid
from replicad.core.preserving import Keep, preserve_reason, what_to_keep
from replicad.core.records import DIRECTORY, FILE, Content
from replicad.core.steps import (
    DEPTH_MAX,
    STAGING_PATH,
    Context,
    First,
    NeedContent,
    Plan,
    Step,
    StepKind,
    Wait,
    node_path,
)
from replicad.core.tree import Outcome, Slot, outcome, slot_of, slot_path
from replicad.core.tree_places import rep
from replicad.core.view import ROOT_NODE, STAGING_NODE, Node, NodeId, ObjectState, View
from replicad.core.want import directory_node, main_node, same_bytes

__all__ = [
    "STAGING_PATH",
    "Context",
    "First",
    "NeedContent",
    "Plan",
    "Step",
    "StepKind",
    "Wait",
    "node_path",
    "plan",
    "preserve_reason",
]

FIRST_MAX = 512
"""Objects named as having to go first: a batch's worth; the rest is named when these have gone."""


def plan(view: View, uid: Uid, context: Context) -> Plan:
    """The next act for `uid`; None where its disk is as the tree wants it (or is after `want.settle`)."""
    state = view.object(uid)
    if state is None or not state.pending:
        return None
    slot = slot_of(view, uid)
    found = outcome(view, slot) if slot is not None else None
    if slot is None or found is None or uid in found.hidden:
        # Who loses its name to something unsettled may get another one (S14).
        rivals = found.winners if found is not None else ()
        return _plan_removal(view, state, rivals, context)
    return _plan_slot(view, slot, found, context)


def _plan_removal(view: View, state: ObjectState, rivals: tuple[Uid, ...], context: Context) -> Plan:
    """For an object that the tree shows nowhere, or hides beneath `rivals`."""
    uid = state.record.uid
    for other in (uid, *rivals):
        if not context.settled(other):
            return Wait(unsettled=other)
    node = view.node(state.node) if state.node is not None else None
    if node is None:
        return None
    others = [other for other in view.uids_at(node.id) if other != uid]
    wanted = [other for other in others if _is_winner(view, other)]
    if wanted:
        # The entry goes to them. Should its content be replaced first, this object's loss counts (preserve_reason).
        waiting = tuple(u for u in wanted if _pending(view, u) and u not in context.visiting)
        return First(waiting) if waiting else Step(StepKind.DETACH, uid, node=node.id)
    first = _first_children(view, node, context) if node.kind == DIRECTORY else None
    if first is not None:
        return first
    successor = _successor(view, node, context)
    if successor is not None:
        return First((successor,))
    return _removal(view, uid, node) if node.kind != DIRECTORY else Step(StepKind.REMOVE_DIR, uid, node=node.id)


def _removal(view: View, uid: Uid, node: Node) -> Step:
    return _kept(Step(StepKind.REMOVE, uid, node=node.id), what_to_keep(view, node.id))


def _kept(step: Step, keep: Keep | None) -> Step:
    return (
        step if keep is None else replace(step, preserve=keep.why, pre_existing=keep.pre_existing, winner=keep.winner)
    )


def _unsettled(context: Context, uids: Iterable[Uid]) -> Uid | None:
    """One of these that an unfinished series brought (rule 7)."""
    return next((uid for uid in uids if not context.settled(uid)), None)


def _plan_slot(view: View, slot: Slot, found: Outcome, context: Context) -> Plan:
    lead = view.object(found.lead)
    assert lead is not None
    parent = directory_node(view, slot.directory)
    if parent is None:
        return _plan_parent(view, slot, found, context)
    occupant = view.node_at(parent.id, slot.name)
    mine = _own_nodes(view, slot, found)
    unsettled = _unsettled(context, found.winners)
    if unsettled is not None and (occupant is not None or mine):
        return Wait(unsettled=unsettled)
    if occupant is not None and occupant.id in {node.id for node in mine}:
        return _plan_in_place(view, slot, found, lead, occupant, mine, context)
    base = Step(
        StepKind.PUT,
        found.lead,
        slot=slot,
        winners=found.winners,
        lead=found.lead,
        object_kind=found.kind,
        parent=parent.id,
        name=slot.name,
    )
    if occupant is None:
        return _plan_free(view, base, lead, parent, mine, context)
    return _plan_occupied(view, base, lead, parent, occupant, mine, context)


def _plan_parent(view: View, slot: Slot, found: Outcome, context: Context) -> Plan:
    parent = view.object(slot.directory)
    if parent is None:
        return Wait("the directory that it is in is not known yet", missing_parent=slot.directory)
    if slot.directory in context.visiting:
        for node in _own_nodes(view, slot, found):
            if node.parent != STAGING_NODE:
                # It stands in the way of the directory that it is to be in: `mv a t; mkdir a; mv t a/b` elsewhere.
                return Step(StepKind.LIFT, found.lead, node=node.id)
    if slot.directory in context.visiting or not parent.pending or parent.record.kind != DIRECTORY:
        return Wait("the directory that it is in cannot be made")
    return First((slot.directory,))


def _plan_in_place(
    view: View, slot: Slot, found: Outcome, lead: ObjectState, node: Node, mine: list[Node], context: Context
) -> Plan:
    """The path is held by one of the winners: content, mode and mtime, and the other entries that merge into it."""
    extras = [extra for extra in mine if extra.id != node.id]
    if extras and found.kind != DIRECTORY:
        return _removal(view, found.lead, extras[0])
    if extras:  # the innermost first: one may lie in another
        extra = max(extras, key=lambda extra: node_path(view, extra.id).count(b"/"))
        return _first_children(view, extra, context) or Step(StepKind.REMOVE_DIR, found.lead, node=extra.id)
    for state in view.objects(found.winners):
        if state.node not in (None, node.id):
            # It stands with others at an entry that is theirs (`_claimed`): objects that were one and have parted.
            return Step(StepKind.DETACH, state.record.uid, node=state.node)
    strangers = [uid for uid in view.uids_at(node.id) if uid not in found.winners]
    content = lead.record.content
    assert content is not None
    step = Step(
        StepKind.SET_META,
        found.lead,
        slot=slot,
        winners=found.winners,
        lead=found.lead,
        object_kind=found.kind,
        node=node.id,
        occupant=node.id,
        parent=node.parent,
        name=node.name,
    )
    if found.kind == node.kind == DIRECTORY or _bytes_there(view, found.kind, node, content):
        if strangers and node.shows == content.cn:
            return Step(StepKind.DETACH, strangers[0], node=node.id)
        return step
    if found.kind == FILE and not context.staged(found.lead, content.digest):
        return NeedContent(found.lead, content, node.id, what_to_keep(view, node.id) is not None)
    return _kept(replace(step, kind=StepKind.PUT, node=None), what_to_keep(view, node.id))


def _plan_free(view: View, step: Step, lead: ObjectState, parent: Node, mine: list[Node], context: Context) -> Plan:
    if mine:
        node = mine[0]
        if node.kind == DIRECTORY and _is_within(view, parent.id, node.id):
            return _first_on_the_way(view, step, parent, node, context)
        return _leaving(view, replace(step, kind=StepKind.MOVE, node=node.id), node, context)
    content = lead.record.content
    assert content is not None
    if step.object_kind == DIRECTORY:
        return replace(step, kind=StepKind.MAKE_DIR)
    if step.object_kind == FILE and not context.staged(step.lead, content.digest):
        return NeedContent(step.lead, content, None)
    return step


def _plan_occupied(
    view: View, step: Step, lead: ObjectState, parent: Node, occupant: Node, mine: list[Node], context: Context
) -> Plan:
    """The name is held by an entry that stands for none of the winners."""
    tenants = view.uids_at(occupant.id)
    elsewhere = tuple(uid for uid in tenants if _is_winner(view, uid))
    unsettled = _unsettled(context, tenants)
    if unsettled is not None:
        return Wait(unsettled=unsettled)
    node = mine[0] if mine else None
    if elsewhere:
        waiting = tuple(
            uid for uid in elsewhere if uid not in context.visiting and _pending(view, uid) and _has_way(view, uid)
        )
        if node is not None and _wants(view, occupant, node) and not _nested(view, node, occupant):
            return replace(step, kind=StepKind.SWAP, node=node.id, occupant=occupant.id)
        if waiting and not (node is None and _gives_way(view, waiting, occupant, step, context)):
            return First(waiting)
        if node is not None and not _nested(view, node, occupant) and node.parent != STAGING_NODE:
            return replace(step, kind=StepKind.SWAP, node=node.id, occupant=occupant.id)
    elif occupant.kind == DIRECTORY:
        if node is not None and _is_within(view, node.id, occupant.id):
            return Step(StepKind.LIFT, step.uid, node=node.id)
        # What is in it may be wanted at this very name, merged with `node`: it would wait for itself.
        ours = replace(context, visiting=context.visiting.union(step.winners))
        first = _first_children(view, occupant, ours)
        if first is not None:
            return first
    if node is not None and node.parent != STAGING_NODE:
        return _leaving(view, Step(StepKind.LIFT, step.uid, node=node.id), node, context)
    if node is not None and node.kind == DIRECTORY and _is_within(view, parent.id, node.id):
        return _first_on_the_way(view, step, parent, node, context)
    content = lead.record.content
    assert content is not None
    keep = None if elsewhere or occupant.kind == DIRECTORY else what_to_keep(view, occupant.id)
    if node is None and step.object_kind == FILE and not context.staged(step.lead, content.digest):
        return NeedContent(step.lead, content, None, keep is not None)
    put = replace(
        step, node=node.id if node is not None else None, occupant=occupant.id, occupant_stays=bool(elsewhere)
    )
    return _kept(put, keep)


def _leaving(view: View, step: Step, node: Node, context: Context) -> Plan:
    """`step` takes `node` from its place; a file leaves it to whoever is new there."""
    successor = _successor(view, node, context, new=True) if node.kind != DIRECTORY else None
    return First((successor,)) if successor is not None else step


def _successor(view: View, node: Node, context: Context, *, new: bool = False) -> Uid | None:
    """Who is wanted where `node` is, and takes the name by an exchange, so that it is never empty (I4).

    None where that one waits for `node` to go, or cannot be had: `node` then goes, and the name is empty for a while.
    `new`: only who is nowhere on this disk. Two entries of the tree that take turns do so as their user had them do.
    """
    for uid in view.uids_at(node.parent):
        slot = Slot(rep(view, uid), node.name)
        found = outcome(view, slot)
        if found is None:
            continue
        waits = not context.visiting.isdisjoint(found.winners) or context.hopeless(found.lead)
        if waits or not _pending(view, found.lead) or (new and _own_nodes(view, slot, found)):
            return None
        parent = directory_node(view, slot.directory)
        return found.lead if parent is not None and parent.id == node.parent else None
    return None


def _gives_way(view: View, tenants: Iterable[Uid], occupant: Node, step: Step, context: Context) -> bool:
    """Whether `occupant` would leave at once for where it is wanted: then it is exchanged for what `step` puts.

    It is planned as if that were waiting for it. It has an entry, so it asks this of nobody else.
    """
    if occupant.kind == DIRECTORY:
        return False
    behind = replace(context, visiting=context.visiting.union(step.winners))
    found = (plan(view, uid, behind) for uid in tenants)
    leaving = {StepKind.MOVE, StepKind.LIFT}
    return any(isinstance(one, Step) and one.kind in leaving and one.node == occupant.id for one in found)


def _first_children(view: View, directory: Node, context: Context) -> Plan:
    """What must go before an emptied directory can: None where no replicated entry is left in it."""
    waiting: list[Uid] = []
    child = None
    for child in _children(view, directory.id):
        tenants = [uid for uid in view.uids_at(child.id) if _pending(view, uid)]
        winners = [uid for uid in tenants if _is_winner(view, uid)]
        if winners and all(uid in context.visiting or not _has_way(view, uid) for uid in winners):
            # It waits for what waits for it, or for a directory that is not known yet (rule 10): in staging.
            unsettled = _unsettled(context, tenants)
            lift = Step(StepKind.LIFT, tenants[0], node=child.id)
            return lift if unsettled is None else Wait(unsettled=unsettled)
        waiting.extend(uid for uid in tenants if uid not in context.visiting)
        if len(waiting) >= FIRST_MAX:
            break
    if child is None:
        return None
    return First(tuple(waiting)) if waiting else Wait("what is in the directory cannot go yet")


def _children(view: View, directory: NodeId) -> Iterator[Node]:
    """In a directory of 100,000 entries the first ones are what is asked for, again and again."""
    asked, passed = FIRST_MAX, 0
    while True:
        found = view.nodes_in(directory, asked)
        yield from found[passed:]
        if len(found) < asked:
            return
        passed, asked = len(found), asked * 4


def _first_on_the_way(view: View, step: Step, parent: Node, node: Node, context: Context) -> Plan:
    """`node` is wanted beneath itself: somebody between the two must move out first, since the tree has no cycle.

    Who is to move out and waits for `node` (it stands at its name, say), or is to become one with it, comes out into
    staging. Not `parent`, which may be as wanted: it would go back, and be lifted again, for ever.
    """
    waiting: list[Uid] = []
    lifted = parent
    at: Node | None = parent
    while at is not None and at.id != node.id:
        pending = [uid for uid in view.uids_at(at.id) if _pending(view, uid)]
        waiting.extend(uid for uid in pending if uid not in context.visiting and uid not in step.winners)
        lifted = at if pending else lifted
        at = view.node(at.parent)
    if waiting:
        return First(tuple(waiting))
    if lifted.parent == STAGING_NODE:
        return Wait("the directory that it is in has not moved yet")
    return Step(StepKind.LIFT, next(iter(view.uids_at(lifted.id))), node=lifted.id)


def _own_nodes(view: View, slot: Slot, found: Outcome) -> list[Node]:
    """The entries of the winners, the one at the slot's path first, without those that others hold at another name.

    Two files that were one may part; the entry then stays with those who want it where it is, the rest start anew.
    """
    main = main_node(view, slot, found.winners)
    nodes: dict[NodeId, Node] = {main.id: main} if main is not None else {}
    for state in view.objects(found.winners):
        node = view.node(state.node) if state.node is not None else None
        if node is not None:
            nodes.setdefault(node.id, node)
    return [node for node in nodes.values() if not _claimed(view, node, found)]


def _claimed(view: View, node: Node, found: Outcome) -> bool:
    for uid in view.uids_at(node.id):
        if uid in found.winners:
            continue
        slot = slot_of(view, uid)
        other = outcome(view, slot) if slot is not None else None
        if slot is None or other is None or uid not in other.winners:
            continue
        parent = directory_node(view, slot.directory)
        if parent is not None and parent.id == node.parent and slot.name == node.name:
            return True
    return False


def _bytes_there(view: View, kind: int, node: Node, content: Content) -> bool:
    """Whether the entry has the wanted bytes already, so that only mode and mtime may differ."""
    if content.gone is not None or node.kind != kind:
        return False
    for state in view.objects(view.uids_at(node.id)):
        base = state.base_content
        if base is not None and node.shows in (None, base.cn):  # None: adopted, its bytes are those of the base
            return same_bytes(kind, base, content)
    return False


def _wants(view: View, mover: Node, place: Node) -> bool:
    """Whether `mover` is wanted exactly where `place` is."""
    for uid in view.uids_at(mover.id):
        slot = slot_of(view, uid)
        if slot is None or slot.name != place.name:
            continue
        parent = directory_node(view, slot.directory)
        if parent is not None and parent.id == place.parent:
            return True
    return False


def _nested(view: View, one: Node, other: Node) -> bool:
    return _is_within(view, one.id, other.id) or _is_within(view, other.id, one.id)


def _is_within(view: View, inner: NodeId, outer: NodeId) -> bool:
    """Whether `inner` is `outer` or lies beneath it on the disk."""
    at = inner
    for _ in range(DEPTH_MAX):
        if at == outer:
            return True
        entry = view.node(at)
        if entry is None or at in (ROOT_NODE, STAGING_NODE):
            return False
        at = entry.parent
    raise AssertionError("the nodes form a loop")


def _is_winner(view: View, uid: Uid) -> bool:
    slot = slot_of(view, uid)
    found = outcome(view, slot) if slot is not None else None
    return found is not None and uid in found.winners


def _has_way(view: View, uid: Uid) -> bool:
    """Whether the place where a winner is wanted is reached from the root."""
    slot = slot_of(view, uid)
    return slot is not None and slot_path(view, slot) is not None


def _pending(view: View, uid: Uid) -> bool:
    state = view.object(uid)
    return state is not None and state.pending
