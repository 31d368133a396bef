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

from collections.abc import Iterable, Sequence

import msgspec

from replicad.core.draft import Draft
from replicad.core.ids import ROOT, Uid
from replicad.core.records import DIRECTORY, FILE, SYMLINK, Content
from replicad.core.steps import DEPTH_MAX
from replicad.core.tree import Outcome, Slot, entries, outcome, slot_of
from replicad.core.tree_places import Worklist, members, rep
from replicad.core.view import ROOT_NODE, Node, NodeId, ObjectState, View

AHEAD_SLOTS = 1_024
"""Looked up in one go; a view remembers a few thousand."""


def settle(draft: Draft, slots: Iterable[Slot], changed: Iterable[Uid]) -> None:
    """Bring pending, base, node and beneath in step with the tree, for all that this draft may have changed.

    `slots` are what `retree` returned (their outcome may have changed), `changed` objects that are to be looked at
    although the draft does not hold them. To be called once, when everything else is in the draft; works within it.
    """
    _Settler(draft).run(slots, {*changed, *draft.states})


def directory_node(view: View, directory: Uid) -> Node | None:
    """The disk entry that stands for a directory of the tree, by any of its UIDs; None while it has none."""
    if directory == ROOT:
        return view.node(ROOT_NODE)
    state = view.object(directory)
    if state is None or state.record.kind != DIRECTORY:
        return None
    node = main_node(view, slot_of(view, directory), members(view, directory))
    return node if node is None or node.kind == DIRECTORY else None  # a file that is to become a directory (records)


def main_node(view: View, slot: Slot | None, winners: Sequence[Uid]) -> Node | None:
    """Of these objects' disk entries the one at the slot's own path, else that of the first object that has one.

    Where the directory that the slot is in has several entries as well, until they are merged, the path goes through
    that one's main entry: what is in the others is to leave them.
    """
    above: list[tuple[bytes, list[Node]]] = []  # the innermost first; the outermost is the first that has no choice
    for _ in range(DEPTH_MAX):
        nodes = [node for state in view.objects(winners) if state.node is not None and (node := view.node(state.node))]
        if slot is None or len(nodes) < 2:
            break
        above.append((slot.name, nodes))
        if slot.directory == ROOT:
            nodes = [root] if (root := view.node(ROOT_NODE)) is not None else []
            break
        winners, slot = members(view, slot.directory), slot_of(view, slot.directory)
    else:
        raise AssertionError("the tree has a loop")
    main = nodes[0] if nodes else None
    for name, choice in reversed(above):
        parent = main.id if main is not None else None
        main = next((node for node in choice if node.name == name and node.parent == parent), choice[0])
    return main


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


class _Settler:
    """One `settle`: a worklist of slots. A directory that stands at another disk entry than before puts the slots in it
    on the list, since their objects are judged by where the directory is."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._waiting: Worklist[Slot] = Worklist()
        self._stood: dict[Uid, NodeId | None] = {}
        """By the UID that stands for a directory: the disk entry by which what is in it was last judged."""

    def run(self, slots: Iterable[Slot], touched: Iterable[Uid]) -> None:
        loose: list[Uid] = []
        directories: list[Uid] = []
        for uid in sorted(touched):
            state = self._draft.object(uid)
            if state is None:
                continue
            slot = slot_of(self._draft, uid)
            if slot is None:
                loose.append(uid)
            else:
                self._waiting.push(slot)
            if state.record.kind == DIRECTORY:
                directories.append(uid)
        for slot in sorted(slots):
            self._waiting.push(slot)
        for uid in loose:
            self._settle_absent(uid)
        for uid in directories:
            self._look_below(uid)
        ahead = 0
        for slot in self._waiting:
            if not ahead:
                upcoming = [slot, *self._waiting.upcoming(AHEAD_SLOTS - 1)]
                self._look_ahead(upcoming)
                ahead = len(upcoming)
            self._settle_slot(slot)
            ahead -= 1

    def _look_ahead(self, slots: Sequence[Slot]) -> None:
        """What settling these will ask."""
        if len(slots) == 1:
            return
        directories = {slot.directory for slot in slots}
        nodes = {uid: directory_node(self._draft, uid) for uid in directories}
        self._draft.look_ahead(
            names=[(uid, slot.name) for slot in slots for uid in members(self._draft, slot.directory)],
            entries=[(node.id, slot.name) for slot in slots if (node := nodes[slot.directory]) is not None],
        )

    def _look_below(self, directory: Uid) -> None:
        """What is in a directory is judged anew where the directory stands at another entry than it was judged by."""
        first = rep(self._draft, directory)
        node = directory_node(self._draft, first)
        now = node.id if node is not None else None
        if first in self._stood:
            before = {self._stood[first]}
        else:
            before = {_node_before(self._draft, member) for member in members(self._draft, first)}
        self._stood[first] = now
        if before == {now} or (before == {None} and now is not None and not self._draft.nodes_in(now, 1)):
            return  # nothing can be as wanted in a directory that has just been made
        for name in entries(self._draft, first):
            self._waiting.push(Slot(first, name))

    def _settle_slot(self, slot: Slot) -> None:
        self._settle_tenants(slot)
        found = outcome(self._draft, slot)
        if found is None:
            return
        if found.kind == DIRECTORY:
            for uid in found.winners:
                self._part(uid, found.winners)
            self._part_from(slot, found)
        node = self._settle_winners(slot, found)
        for uid in found.hidden:
            self._settle_hidden(uid, node)
        if found.kind == DIRECTORY:
            self._look_below(found.winners[0])

    def _settle_hidden(self, uid: Uid, winner: Node | None) -> None:
        state = self._draft.object(uid)
        assert state is not None
        beneath, seen = state.beneath, state.beneath_seen
        if winner is not None and state.node is None:
            content = state.record.content
            beneath, seen = winner.id, content.rank if content is not None else None
        self._store(state, pending=state.node is not None, beneath=beneath, beneath_seen=seen)

    def _part(self, uid: Uid, winners: Sequence[Uid]) -> None:
        """Directories that were one and are no longer: the disk entry goes to some of them, with what is in it.

        The other ones are not on the disk any more.
        """
        state = self._draft.object(uid)
        node = self._draft.node(state.node) if state is not None and state.node is not None else None
        if node is None or all(other in winners for other in self._draft.uids_at(node.id)):
            return
        heirs = _heirs(self._draft, node)
        if not heirs or uid in heirs:
            return
        self._draft.update(uid, node=None, base_place_raw=b"", base_content_raw=b"")
        slot = slot_of(self._draft, uid)
        if slot is not None:
            self._waiting.push(slot)
        self._look_below(uid)

    def _part_from(self, slot: Slot, found: Outcome) -> None:
        """The same for those who are at the winners' entry with them and wanted elsewhere."""
        node = main_node(self._draft, slot, found.winners)
        for uid in self._draft.uids_at(node.id) if node is not None else ():
            if uid not in found.winners:
                other = slot_of(self._draft, uid)
                there = outcome(self._draft, other) if other is not None else None
                self._part(uid, there.winners if there is not None and uid in there.winners else (uid,))

    def _settle_tenants(self, slot: Slot) -> None:
        """What stands at the slot's path and is wanted nowhere any more, such as a directory that was kept."""
        parent = directory_node(self._draft, slot.directory)
        occupant = self._draft.node_at(parent.id, slot.name) if parent is not None else None
        for uid in self._draft.uids_at(occupant.id) if occupant is not None else ():
            if slot_of(self._draft, uid) is None:
                self._settle_absent(uid)

    def _settle_winners(self, slot: Slot, found: Outcome) -> Node | None:
        """Returns the disk entry of the slot when all winners are as wanted there, else None."""
        draft = self._draft
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
            whole &= self._settle_winner(state, node, there, content_there)
        if whole and node is not None and lead.record.content is not None and node.shows != lead.record.content.cn:
            draft.put_node(msgspec.structs.replace(node, shows=lead.record.content.cn))
        return node if whole else None

    def _settle_winner(self, state: ObjectState, node: Node | None, there: bool, content_there: bool) -> bool:
        """Whether this winner is as the tree wants it; stores what follows."""
        if node is None:
            self._store(state, pending=True, beneath=None, beneath_seen=None)
            return False
        if state.node is None and there and (content_there or state.record.kind == DIRECTORY):
            # It joins others at their path: equal content, or one more UID of a directory that is on the disk.
            joined = {"node": node.id, "base_place_raw": b"", "base_content_raw": b""}
            self._store(state, pending=not content_there, beneath=None, beneath_seen=None, **joined)
            return content_there
        at_main = state.node == node.id
        done = at_main and there and content_there
        self._store(
            state,
            pending=not done,
            base_place_raw=b"" if at_main and there else state.base_place_raw,
            base_content_raw=b"" if at_main and content_there else state.base_content_raw,
            beneath=None,
            beneath_seen=None,
        )
        return done

    def _settle_absent(self, uid: Uid) -> None:
        """An object that the tree shows nowhere: as wanted when it is not on the disk."""
        state = self._draft.object(uid)
        if state is not None and state.record.kind == DIRECTORY:
            self._part(uid, (uid,))
            state = self._draft.object(uid)
        if state is not None:
            self._store(state, pending=state.node is not None, beneath=None, beneath_seen=None)

    def _store(self, state: ObjectState, **changes: object) -> None:
        if any(getattr(state, name) != value for name, value in changes.items()):
            self._draft.update(state.record.uid, **changes)


def _node_before(draft: Draft, directory: Uid) -> NodeId | None:
    node = directory_node(draft.view, directory)
    return node.id if node is not None else None


def _heirs(draft: Draft, node: Node) -> Sequence[Uid]:
    """Of objects that are at one entry and wanted at different places, those who keep it: who is wanted where it is,
    else the first who is wanted anywhere, each with those that are wanted there as well. None: nobody is."""
    first: Sequence[Uid] = ()
    for uid in draft.uids_at(node.id):
        slot = slot_of(draft, uid)
        found = outcome(draft, slot) if slot is not None else None
        if slot is None or found is None or uid not in found.winners:
            continue
        parent = directory_node(draft, slot.directory) if slot.name == node.name else None
        if parent is not None and parent.id == node.parent:
            return found.winners
        first = first or found.winners
    return first


def _shows(draft: Draft, node: Node, lead: ObjectState, found: Outcome) -> bool:
    """Whether the disk entry shows what the lead's content asks for."""
    wanted = lead.record.content
    assert wanted is not None
    if node.kind != found.kind:
        return False
    if found.kind == DIRECTORY and (node.mode == wanted.mode or node.shows != wanted.cn):
        return node.mode == wanted.mode
    shown = _shown_content(draft, node)
    if found.kind == DIRECTORY:  # one that is gone but kept has a mode, too; and one CN may stand for two changes (S28)
        return shown is None or shown == wanted
    return node.shows == wanted.cn if shown is None else same_content(found.kind, shown, wanted)


def _shown_content(draft: Draft, node: Node) -> Content | None:
    """The content register whose CN the entry shows, if one of its objects still holds it as base."""
    for uid in draft.uids_at(node.id):
        state = draft.object(uid)
        base = state.base_content if state is not None else None
        if base is not None and base.cn == node.shows:
            return base
    return None
