"""Pins (rule 5): what the tree shows on account of something else is written down before a user builds on it.

Three things are where they are only because of others:

- a directory whose content is gone stays while something below it lives. Who changes something beneath it takes it for
  an ordinary directory: unless it is written down, it vanishes with its last child;
- a directory whose move is cut out of a cycle is where it was before. Who changes something beneath it may well take
  the cycle apart: unless it is written down, the cut goes elsewhere and the directory with it;
- a loser of a name that stands beside the winner (policy `sibling`) has a name that is a function of the conflict. Who
  takes the winner away takes the conflict away: unless its name is written down, it takes the freed one.

What is written down is what the disk shows, and only where it shows it: a decision of the tree's that is not installed
yet is nothing that the user has seen.
"""

from __future__ import annotations

from collections.abc import Sequence

from replicad.core.author import Author, directory_look
from replicad.core.ids import Uid
from replicad.core.records import DIRECTORY, joined_vector, vector_after
from replicad.core.view import ROOT_NODE, STAGING_NODE, Node, NodeId, ObjectState


class Pins:
    """Pins for one batch of local changes."""

    def __init__(self, author: Author) -> None:
        self._author = author
        self._draft = author.draft
        self._checked: set[NodeId] = set()
        """These, and all directories above them, need no pins (any more)."""

    def structure_changed(self) -> None:
        """A directory has another parent: what is above what must be looked at anew."""
        self._checked.clear()

    def above(self, directory: NodeId) -> None:
        """Before a change beneath `directory`, which is an entry of the disk, write it and what is above it down."""
        way: list[Node] = []
        at = directory
        while at not in (ROOT_NODE, STAGING_NODE) and at not in self._checked:
            node = self._draft.node(at)
            assert node is not None, "a node's parent is missing"
            way.append(node)
            self._checked.add(at)
            at = node.parent
        for node in reversed(way):
            self._pin_content(node)
            self._pin_cuts(node)

    def siblings(self, parent: NodeId, name: bytes) -> None:
        """Before the entry `name` leaves its name, write down those that stand beside it under another."""
        for uid in self._draft.uids_at(parent):
            for other in self._author.states(self._draft.present_named(uid, name)):
                self.own_name(other, parent)

    def own_name(self, state: ObjectState, parent: NodeId) -> None:
        """Write down the name under which an object stands in `parent`, where that is not its own."""
        node = self._draft.node(state.node) if state.node is not None else None
        base = state.base_place
        if node is None or base is None or node.parent != parent or node.name == base.name:
            return
        is_cut = state.cut is not None and state.record.kind == DIRECTORY  # of a file it is the name beside the winner
        if is_cut or base.parent not in self._draft.uids_at(parent):
            return
        time_ms = self._author.time(node.ctime_ns, base)
        pin = self._author.place(time_ms, vector_after(base), base.parent, node.name)
        self._author.write(state, place=pin)

    def _pin_content(self, node: Node) -> None:
        states = self._author.states(self._draft.uids_at(node.id))
        if not all(_is_seen_gone(state) for state in states):
            return
        for state in states:
            base = state.base_content
            assert base is not None
            if not state.record.live:
                time_ms = self._author.time(0, base)
                pin = self._author.content(time_ms, vector_after(base), directory_look(node.mode))
                self._author.write(state, content=pin)

    def _pin_cuts(self, node: Node) -> None:
        parents = self._draft.uids_at(node.parent)
        for state in self._author.states(self._draft.uids_at(node.id)):
            if state.cut is not None and _shows_cut(node, parents, state.cut):
                base, record = state.base_place, state.record.place
                assert base is not None
                assert record is not None
                # What the user sees is the outcome of the record's move: the author has seen that, too.
                time_ms = self._author.time(0, base, record)
                pin = self._author.place(time_ms, joined_vector((record, base)), *state.cut)
                self._author.write(state, place=pin)


def _is_seen_gone(state: ObjectState) -> bool:
    base = state.base_content
    return base is not None and base.gone is not None


def _shows_cut(node: Node, parents: Sequence[Uid], cut: tuple[Uid, bytes]) -> bool:
    return node.name == cut[1] and cut[0] in parents
