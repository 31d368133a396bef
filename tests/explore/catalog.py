"""A catalog in memory that is taken down as a value: `core.memory_view`, and of `catalog.store` what a scan, the
workbench, the applier, recovery and the exchange's intake ask for (tests/catalog holds both views to one contract)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from replicad.catalog.changes import (
    AddIntents,
    AddOut,
    AddPreserved,
    Change,
    ClearIntents,
    Intent,
    Out,
    Preserved,
    RemoveOut,
    RemovePreserved,
    SetSeries,
)
from replicad.catalog.pages import PageRows
from replicad.core.cnset import CNSet
from replicad.core.draft import Draft
from replicad.core.ids import Cn, FolderId, ReplicaId, Uid
from replicad.core.indexes import ObjectIndexes
from replicad.core.memory_view import MemoryView
from replicad.core.messages import WireRecord, seal
from replicad.core.records import Record
from replicad.core.series import Row
from replicad.core.view import FIRST_FREE_NODE, STAGING_NODE, Node, ObjectState

RECORDS_A_PAGE = 1
"""So few, that a series can be cut off between any two."""
FOLDER: FolderId = b"folder, 16 bytes"


class Stored(msgspec.Struct, frozen=True):
    """What is durable. `states` begin with those that are pending, the longest waiting first."""

    replica: ReplicaId
    counter: int
    head: int
    known: CNSet
    digest: int
    states: tuple[ObjectState, ...]
    nodes: tuple[Node, ...]
    intents: tuple[Intent, ...]
    outs: tuple[Out, ...]
    preserved: tuple[Preserved, ...]
    row: Row


class Catalog(MemoryView):
    """`row`: how far the peer was read, as stored. `at_commit` is called before and after each one that stores."""

    def __init__(self, stored: Stored) -> None:
        super().__init__(FOLDER, stored.replica)
        self.counter, self.head = stored.counter, stored.head
        self.known, self.digest = stored.known, stored.digest
        self._indexes = ObjectIndexes()
        for state in stored.states:
            self._set(state.record.uid, state)
        for node in stored.nodes:
            self._set_node(node.id, node)
        self.next_node = 1 + max((node.id for node in stored.nodes), default=0)
        self.next_node = max(self.next_node, FIRST_FREE_NODE)
        self._intents = {one.intent_id: one for one in stored.intents}
        self._outs = {one.out_id: one for one in stored.outs}
        self._preserved = {one.preserved_id: one for one in stored.preserved}
        self.row = stored.row
        lifted = [int(one.name.rpartition(b"-")[2]) for one in stored.nodes if one.parent == STAGING_NODE]
        self._next_id = 1 + max((*self._intents, *self._outs, *self._preserved, *lifted), default=0)
        """As low as it may be, so that equal states are; names in staging have such a number (engine.intents)."""
        self.commits = 0
        self.at_commit: Callable[[Draft | None], None] = lambda draft: None
        self.committed: Callable[[Draft], None] = lambda draft: None

    def take_down(self) -> Stored:
        pending = list(self._indexes.pending.at(True))
        rest = sorted(uid for uid, state in self.states.items() if not state.pending)
        return Stored(
            self.replica,
            self.counter,
            self.head,
            self.known,
            self.digest,
            tuple(self.states[uid] for uid in (*pending, *rest)),
            tuple(self.nodes[number] for number in sorted(self.nodes)),
            tuple(self._intents[number] for number in sorted(self._intents)),
            tuple(self._outs[number] for number in sorted(self._outs)),
            tuple(self._preserved[number] for number in sorted(self._preserved)),
            self.row,
        )

    # -- writing

    def commit(self, draft: Draft | None, changes: Sequence[Change] = (), *, now_ms: int) -> int:
        if not changes and (draft is None or self._is_empty(draft)):
            return self.head
        self.at_commit(draft)
        if draft is not None:
            self.committed(draft)
            self.apply(draft)
        for change in changes:
            self._take(change)
        self.commits += 1
        self.at_commit(None)
        return self.head

    def _is_empty(self, draft: Draft) -> bool:
        changes = draft.states or draft.dropped or draft.nodes
        return not changes and draft.counter == self.counter and draft.known == self.known

    def _take(self, change: Change) -> None:
        match change:
            case AddIntents(intents):
                self._intents.update((one.intent_id, one) for one in intents)
            case ClearIntents(ids):
                for one in ids:
                    del self._intents[one]
            case AddOut(out):
                self._outs[out.out_id] = out
            case RemoveOut(ids):
                for one in ids:
                    del self._outs[one]
            case AddPreserved(preserved):
                self._preserved[preserved.preserved_id] = preserved
            case RemovePreserved(ids):
                for one in ids:
                    del self._preserved[one]
            case SetSeries(series):
                self.row = Row(series.position, series.head)
            case _:
                raise AssertionError(f"a change that does not occur here: {change}")

    def new_id(self) -> int:
        self._next_id += 1
        return self._next_id - 1

    # -- reading

    def intents(self) -> Sequence[Intent]:
        return [self._intents[number] for number in sorted(self._intents)]

    def outs(self, until_ms: int, limit: int) -> Sequence[Out]:
        due = (out for out in self._outs.values() if out.due_ms <= until_ms)
        return sorted(due, key=lambda out: (out.due_ms, out.out_id))[:limit]

    def first_out_ms(self) -> int | None:
        return min((out.due_ms for out in self._outs.values()), default=None)

    def preserved(self, limit: int, after: int = 0) -> Sequence[Preserved]:
        return [self._preserved[number] for number in sorted(self._preserved) if number > after][:limit]

    @property
    def pending_objects(self) -> int:
        return sum(state.pending for state in self.states.values())

    def pending_after(self, commit: int, uid: Uid, limit: int) -> Sequence[tuple[int, Uid]]:
        """In the order in which they became pending, each as if by a commit of its own."""
        rows = [(number, found) for number, found in enumerate(self.pending(1_000), 1)]
        return [row for row in rows if row > (commit, uid)][:limit]

    def page(self, after: int, base: CNSet, records_max: int, bytes_max: int) -> PageRows:
        begin = end = min(after, self.head)
        records: list[WireRecord] = []
        cns: list[Cn] = []
        for state in sorted(self.states.values(), key=lambda state: state.position):
            if state.position <= after:
                continue
            wire, lacked = _lacked(state.record, base)
            if wire is not None:
                if len(records) == min(records_max, RECORDS_A_PAGE):
                    break
                records.append(wire)
                cns += lacked
            end = state.position
        else:
            end = self.head
        known = self.known if end == self.head else None
        return PageRows(self.replica, begin, end, self.head, tuple(records), CNSet.of(cns), known)


def _lacked(held: Record, base: CNSet) -> tuple[WireRecord | None, list[Cn]]:
    place = held.place is not None and held.place.cn not in base
    content = held.content is not None and held.content.cn not in base
    if not (place or content):
        return None, []
    lacked = [register.cn for register, there in ((held.place, place), (held.content, content)) if there and register]
    return seal(held, place=place, content=content), lacked
