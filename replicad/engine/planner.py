"""One round of planning: objects one by one, those first that others wait for; independent steps make a batch.

Each object is planned on the committed state (`core.plan`). A step may join the batch where no other step of it touches
the same entries, and where none moves a directory that the other's path leads through: all paths of a batch are those
of before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Set

import msgspec

from replicad.core.fetching import Fetching
from replicad.core.ids import Uid
from replicad.core.plan import plan
from replicad.core.records import DIRECTORY
from replicad.core.steps import Context, First, NeedContent, Step, StepKind, Wait
from replicad.core.tree_places import place_of
from replicad.core.view import NodeId, ObjectState, View
from replicad.core.want import directory_node

PLANS_A_ROUND = 2_048
"""Objects planned in one go: bounds the time for which the folder's thread does nothing else (some 100 ms)."""
NO_ROOM_RETRY_MS = 10_000
"""The disk's free space is looked at again: nobody tells of it."""
_MOVERS = frozenset({StepKind.MOVE, StepKind.SWAP, StepKind.LIFT, StepKind.PUT, StepKind.REMOVE_DIR})
Entry = NodeId | tuple[NodeId, bytes]


class Planned(msgspec.Struct):
    """What a round came to."""

    steps: list[Step] = msgspec.field(default_factory=list)
    accepted: dict[Uid, None] = msgspec.field(default_factory=dict)
    """Objects on whose behalf these steps are."""
    needs: list[NeedContent] = msgspec.field(default_factory=list)
    starved: list[Uid] = msgspec.field(default_factory=list)
    """Objects whose content must be fetched, for which there is no room now."""
    idle: list[Uid] = msgspec.field(default_factory=list)
    """Pending by the catalog, but as the tree wants them."""
    waits: dict[Uid, Wait] = msgspec.field(default_factory=dict)
    blocked: dict[Uid, Uid] = msgspec.field(default_factory=dict)
    """Objects that wait for another one."""
    later: list[Uid] = msgspec.field(default_factory=list)
    """Objects to be planned again at once, on the state that this batch makes."""
    seen: dict[Uid, None] = msgspec.field(default_factory=dict)


class Planner:
    """For one round. `held`: entries and objects that no step may touch (engine.apply). `troubled`: objects that must
    wait because of trouble with themselves; they are not planned before their time for others that wait for them.
    `hopeless`: those that had so much of it that others go on without them, where they can."""

    def __init__(
        self,
        view: View,
        settled: Callable[[Uid], bool],
        fetching: Fetching,
        held: Set[NodeId | Uid],
        troubled: Callable[[Uid], bool],
        hopeless: Callable[[Uid], bool],
        steps_max: int,
        no_room: Callable[[int], str] = lambda size: "",
    ) -> None:
        """`no_room(size)`: why content of this size may not be fetched where what it replaces must be preserved."""
        self._view = view
        self._context = Context(settled, fetching.staged, lambda uid: fetching.hopeless(uid) or hopeless(uid))
        self._fetching = fetching
        self._held = held
        self._troubled = troubled
        self._steps_max = steps_max
        self._no_room = no_room
        self._entries: set[Entry] = set()
        self._above: set[NodeId] = set()
        """Directories that the paths of the steps so far lead through."""
        self._moved: set[NodeId] = set()
        """Directories that these steps move or remove."""
        self._room = fetching.room
        self._planned = Planned()
        self._full = False

    def gather(self, ready: Iterable[Uid]) -> Planned:
        """Plan these in their order, as far as the round goes."""
        wanted = [uid for _, uid in zip(range(PLANS_A_ROUND), ready, strict=False)]
        self._look_ahead(self._view.objects(wanted))
        for uid in wanted:
            if self._full or len(self._planned.seen) >= PLANS_A_ROUND:
                break
            self._resolve(uid)
        return self._planned

    def _look_ahead(self, states: Sequence[ObjectState]) -> None:
        """What planning them will ask."""
        if len(states) == 1:
            return
        places = [place for state in states if (place := place_of(state)) is not None]
        nodes = {uid: directory_node(self._view, uid) for uid in {parent for parent, _ in places}}
        self._view.look_ahead(
            names=places,
            entries=[(node.id, name) for parent, name in places if (node := nodes[parent]) is not None],
            nodes=[state.node for state in states if state.node is not None],
        )

    def _resolve(self, root: Uid) -> None:
        """Plan an object, and what it waits for, and what that waits for…"""
        planned = self._planned
        worklist: list[tuple[Uid, frozenset[Uid]]] = [(root, frozenset())]
        while worklist and not self._full:
            uid, visiting = worklist.pop()
            if uid in planned.seen:
                continue
            planned.seen[uid] = None
            found = plan(self._view, uid, msgspec.structs.replace(self._context, visiting=visiting))
            if isinstance(found, Step):
                self._accept(uid, found)
            elif isinstance(found, First):
                planned.blocked[uid] = found.uids[0]
                first = [other for other in found.uids if other not in planned.seen and not self._troubled(other)]
                worklist.extend((other, visiting | {uid}) for other in first)
            elif isinstance(found, NeedContent):
                self._need(uid, found)
            elif isinstance(found, Wait) and visiting and found.unsettled is None:
                planned.later.append(uid)  # it may be so only as seen from those that wait for it
            elif isinstance(found, Wait):
                planned.waits[uid] = found
            else:
                planned.idle.append(uid)
        planned.later += [uid for uid, _ in worklist if uid not in planned.seen]

    def _need(self, uid: Uid, found: NeedContent) -> None:
        known = self._fetching.wanted(found.uid) is not None
        reason = self._no_room(found.content.size) if found.keeps and not known else ""
        if reason:
            self._planned.waits[uid] = Wait(reason, retry_ms=NO_ROOM_RETRY_MS)
            return
        if known or self._room > 0:
            self._room -= not known
            self._planned.needs.append(found)
        else:
            self._planned.starved.append(uid)

    def _accept(self, uid: Uid, step: Step) -> None:
        if not self._held.isdisjoint((step.uid, step.lead, step.node, step.occupant)):
            self._planned.waits[uid] = Wait("what an error left has to be looked into first")
            return
        entries, moved = self._touched(step)
        above = self._leads_through(step)
        apart = self._entries.isdisjoint(entries) and self._moved.isdisjoint(above) and self._above.isdisjoint(moved)
        if not apart:
            self._planned.later.append(uid)
            return
        self._entries |= entries
        self._above |= above
        self._moved |= moved
        self._planned.steps.append(step)
        self._planned.accepted[uid] = None
        self._full = len(self._planned.steps) >= self._steps_max

    def _touched(self, step: Step) -> tuple[set[Entry], set[NodeId]]:
        """The entries and names that a step touches, and the directories that it moves or removes."""
        entries: set[Entry] = set()
        moved: set[NodeId] = set()
        for node_id in (step.node, step.occupant):
            node = self._view.node(node_id) if node_id is not None else None
            if node is not None:
                entries.update((node.id, (node.parent, node.name)))
                if node.kind == DIRECTORY and step.kind in _MOVERS:
                    moved.add(node.id)
        if step.slot is not None:
            entries.add((step.parent, step.name))
        return entries, moved

    def _leads_through(self, step: Step) -> set[NodeId]:
        found: set[NodeId] = set()
        starts = [step.parent] if step.slot is not None else []
        for node_id in (step.node, step.occupant):
            node = self._view.node(node_id) if node_id is not None else None
            if node is not None:
                starts.append(node.parent)
        for start in starts:
            at = self._view.node(start)
            while at is not None and at.id not in found:
                found.add(at.id)
                at = self._view.node(at.parent)
        return found
