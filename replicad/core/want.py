"""Wanted and installed: for which objects the disk is not yet as the tree wants it.

The tree (core.tree) says what each name of each directory should be; the nodes and bases say what the disk is.
`settle` compares them for the slots that a step touched and keeps up, in the draft, what follows from the comparison:

- `pending`, from which "installed" is computed (DESIGN section 4: known, less the CNs of records held for which the
  disk is not yet as the tree wants it; a hidden loser is as the tree wants it);
- the base of an object whose new register asks for what the disk already shows (equal content, the same path): that is
  installed without touching the disk, so a rewrite with equal content transfers nothing;
- which disk entry stands for which objects: a directory that joins a merged one gets the entry that is there;
- what lies hidden beneath a path, as of when the winner was last installed there (rule 3).

Whether an ancestor is on the disk yet is not asked here: what hangs below it simply cannot be installed before it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from replicad.core.draft import Draft
from replicad.core.ids import ROOT, Uid
from replicad.core.records import DIRECTORY, FILE, SYMLINK, Content
from replicad.core.tree import Outcome, Slot, entries, outcome, slot_of
from replicad.core.tree_places import rep
from replicad.core.view import ROOT_NODE, Node, NodeId, ObjectState, View


def settle(draft: Draft, slots: Iterable[Slot], changed: Iterable[Uid]) -> None:
    """Bring pending, base, node and beneath in step with the tree, for these slots and these objects.

    `slots` are what `retree` returned (their outcome may have changed), `changed` the objects whose record, node or
    base changed. Works within the draft alone.
    """
    worklist = set(slots)
    loose: set[Uid] = set()
    for uid in changed:
        slot = slot_of(draft, uid)
        if slot is None:
            loose.add(uid)
        else:
            worklist.add(slot)
        worklist.update(_uprooted(draft, uid))
    for uid in sorted(loose):
        worklist.update(_settle_absent(draft, uid))
    queue = deque(sorted(worklist))
    while queue:
        queue.extend(_settle_slot(draft, queue.popleft()))


def _uprooted(draft: Draft, uid: Uid) -> list[Slot]:
    """The slots in a directory that stands at another disk entry than before this draft: its children do not."""
    state, before = draft.object(uid), draft.view.object(uid)
    if state is None or before is None or before.node in (None, state.node) or state.record.kind != DIRECTORY:
        return []
    return _slots_in(draft, uid)


def _slots_in(draft: Draft, uid: Uid) -> list[Slot]:
    directory = rep(draft, uid)
    return [Slot(directory, name) for name in entries(draft, directory)]


def directory_node(view: View, directory: Uid) -> Node | None:
    """The disk entry that stands for a directory of the tree (its slot's `directory`); None while it has none."""
    if directory == ROOT:
        return view.node(ROOT_NODE)
    state = view.object(directory)
    if state is None or state.record.kind != DIRECTORY:
        return None
    members = view.group_members(directory) if state.group is not None else (directory,)
    return main_node(view, slot_of(view, directory), members)


def main_node(view: View, slot: Slot | None, winners: Sequence[Uid]) -> Node | None:
    """Of these objects' disk entries the one at the slot's own path, else that of the first object that has one."""
    nodes = [node for state in view.objects(winners) if state.node is not None and (node := view.node(state.node))]
    if len(nodes) > 1 and slot is not None:
        for node in nodes:
            if node.name == slot.name and _parent_is(view, node.parent, slot.directory):
                return node
    return nodes[0] if nodes else None


def same_content(kind: int, one: Content, other: Content) -> bool:
    """Whether two live contents would look the same on a disk: bytes and metadata."""
    if one.gone is not None or other.gone is not None or one.mode != other.mode and kind != SYMLINK:
        return False
    if kind == FILE:
        return one.digest == other.digest and one.size == other.size and one.mtime_ns == other.mtime_ns
    return one.value == other.value


def same_bytes(kind: int, one: Content, other: Content) -> bool:
    """Whether two live contents are equal but perhaps for mode and mtime: never a conflict."""
    if one.gone is not None or other.gone is not None:
        return False
    return one.digest == other.digest if kind == FILE else one.value == other.value


def _parent_is(view: View, parent: NodeId, directory: Uid) -> bool:
    if directory == ROOT:
        return parent == ROOT_NODE
    state = view.object(directory)
    if state is None:
        return False
    members = view.group_members(directory) if state.group is not None else (directory,)
    return any(other.node == parent for other in view.objects(members))


def _settle_slot(draft: Draft, slot: Slot) -> list[Slot]:
    """Returns slots that must be settled after it."""
    more = _settle_tenants(draft, slot)
    found = outcome(draft, slot)
    if found is None:
        return more
    if found.kind == DIRECTORY:
        for uid in found.winners:
            more.extend(_part(draft, uid, found.winners))
    node = _settle_winners(draft, slot, found)
    for uid in found.hidden:
        state = draft.object(uid)
        assert state is not None
        beneath, seen = state.beneath, state.beneath_seen
        if node is not None and state.node is None:
            content = state.record.content
            beneath, seen = node.id, content.rank if content is not None else None
        _store(draft, state, pending=state.node is not None, beneath=beneath, beneath_seen=seen)
    return more


def _part(draft: Draft, uid: Uid, winners: Sequence[Uid]) -> list[Slot]:
    """Directories that were one and are no longer: the disk entry stays with those who are wanted where it is.

    The other ones are not on the disk any more, and what was in them is still at the entry that they left.
    """
    state = draft.object(uid)
    node = draft.node(state.node) if state is not None and state.node is not None else None
    if node is None or not any(
        other not in winners and _is_wanted_at(draft, other, node) for other in draft.uids_at(node.id)
    ):
        return []
    draft.update(uid, node=None, base_place_raw=b"", base_content_raw=b"")
    return _slots_in(draft, uid)


def _is_wanted_at(draft: Draft, uid: Uid, node: Node) -> bool:
    slot = slot_of(draft, uid)
    found = outcome(draft, slot) if slot is not None and slot.name == node.name else None
    if slot is None or found is None or uid not in found.winners:
        return False
    parent = directory_node(draft, slot.directory)
    return parent is not None and parent.id == node.parent


def _settle_tenants(draft: Draft, slot: Slot) -> list[Slot]:
    """What stands at the slot's path and is wanted nowhere any more, such as a directory that was kept."""
    parent = directory_node(draft, slot.directory)
    occupant = draft.node_at(parent.id, slot.name) if parent is not None else None
    more: list[Slot] = []
    for uid in draft.uids_at(occupant.id) if occupant is not None else ():
        if slot_of(draft, uid) is None:
            more.extend(_settle_absent(draft, uid))
    return more


def _settle_winners(draft: Draft, slot: Slot, found: Outcome) -> Node | None:
    """Returns the disk entry of the slot when all winners are as wanted there, else None."""
    parent = directory_node(draft, slot.directory)
    node = main_node(draft, slot, found.winners)
    lead = draft.object(found.lead)
    assert lead is not None
    there = node is not None and parent is not None and node.parent == parent.id and node.name == slot.name
    content_there = there and node is not None and _shows(draft, node, lead, found)
    whole = True
    for uid in found.winners:
        state = draft.object(uid)
        assert state is not None
        whole &= _settle_winner(draft, state, node, there, content_there)
    if whole and node is not None and lead.record.content is not None and node.shows != lead.record.content.cn:
        draft.put_node(_showing(node, lead.record.content))
    return node if whole else None


def _settle_winner(draft: Draft, state: ObjectState, node: Node | None, there: bool, content_there: bool) -> bool:
    """Whether this winner is as the tree wants it; stores what follows."""
    if node is None:
        _store(draft, state, pending=True, beneath=None, beneath_seen=None)
        return False
    if state.node is None and there and (content_there or state.record.kind == DIRECTORY):
        # It joins others at their path: equal content, or one more UID of a directory that is on the disk.
        joined = {"node": node.id, "base_place_raw": b"", "base_content_raw": b""}
        _store(draft, state, pending=not content_there, beneath=None, beneath_seen=None, **joined)
        return content_there
    at_main = state.node == node.id
    place_raw = b"" if at_main and there else state.base_place_raw
    content_raw = b"" if at_main and content_there else state.base_content_raw
    done = at_main and there and content_there
    _store(
        draft,
        state,
        pending=not done,
        base_place_raw=place_raw,
        base_content_raw=content_raw,
        beneath=None,
        beneath_seen=None,
    )
    return done


def _shows(draft: Draft, node: Node, lead: ObjectState, found: Outcome) -> bool:
    """Whether the disk entry shows what the lead's content asks for."""
    wanted = lead.record.content
    assert wanted is not None
    if node.kind != found.kind:
        return False
    if found.kind == DIRECTORY:
        return wanted.gone is not None or node.mode == wanted.mode or node.shows == wanted.cn
    shown = _shown_content(draft, node)
    return node.shows == wanted.cn if shown is None else same_content(found.kind, shown, wanted)


def _shown_content(draft: Draft, node: Node) -> Content | None:
    """The content register whose CN the entry shows, if one of its objects still holds it as base."""
    for uid in draft.uids_at(node.id):
        state = draft.object(uid)
        base = state.base_content if state is not None else None
        if base is not None and base.cn == node.shows:
            return base
    return None


def _showing(node: Node, content: Content) -> Node:
    return Node(
        node.id,
        node.parent,
        node.name,
        node.kind,
        node.inode,
        node.size,
        node.mtime_ns,
        node.ctime_ns,
        node.birth_ns,
        node.mode,
        content.cn,
    )


def _settle_absent(draft: Draft, uid: Uid) -> list[Slot]:
    """An object that the tree shows nowhere: as wanted when it is not on the disk."""
    state = draft.object(uid)
    more = _part(draft, uid, (uid,)) if state is not None and state.record.kind == DIRECTORY else []
    state = draft.object(uid)
    if state is not None:
        _store(draft, state, pending=state.node is not None, beneath=None, beneath_seen=None)
    return more


def _store(draft: Draft, state: ObjectState, **changes: object) -> None:
    if any(getattr(state, name) != value for name, value in changes.items()):
        draft.update(state.record.uid, **changes)
