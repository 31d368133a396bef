"""Short ways to make records, and a source of choices that hypothesis and a seed can both drive."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

from hypothesis import strategies as st

from replicad.core.draft import Draft
from replicad.core.ids import ROOT, Uid
from replicad.core.memory_view import MemoryView
from replicad.core.records import DIRECTORY, FILE, SYMLINK, Content, Place, Record, Stamp, Vector, record
from replicad.core.tree import Slot, retree
from replicad.core.view import ObjectState

Choose = Callable[[int], int]
"""`choose(n)` is a number from 0 to n - 1."""

FOLDER = bytes(16)
REPLICA = 7


def by_seed(seed: int) -> Choose:
    return random.Random(seed).randrange


def by_hypothesis(data: st.DataObject) -> Choose:
    return lambda n: data.draw(st.integers(0, n - 1))


def uid(number: int) -> Uid:
    return number.to_bytes(16, "big")


def place(
    parent: Uid,
    name: bytes,
    time_ms: int,
    *,
    prior: tuple[Uid, bytes] = (ROOT, b""),
    replica: int = REPLICA,
    counter: int | None = None,
    vector: Vector = (),
) -> Place:
    return Place(replica, counter or max(time_ms, 1), time_ms, vector, parent, name, *prior)


def content(
    time_ms: int,
    value: int = 0,
    *,
    kind: int = FILE,
    gone: Stamp | None = None,
    replica: int = REPLICA,
    counter: int | None = None,
    mtime_ns: int = 0,
    vector: Vector = (),
) -> Content:
    """Of a file `value` is its content, of a symlink its target, of a directory its mode."""
    return Content(
        replica,
        counter or max(time_ms, 1),
        time_ms,
        vector,
        gone,
        mode=value if kind == DIRECTORY and gone is None else 0,
        mtime_ns=mtime_ns,
        size=value if kind == FILE and gone is None else 0,
        digest=bytes([value]) * 32 if kind == FILE and gone is None else b"",
        value=b"to%d" % value if kind == SYMLINK and gone is None else b"",
    )


def gone(time_ms: int, seen_ms: int, *, replica: int = REPLICA, vector: Vector = ()) -> Content:
    return content(time_ms, gone=Stamp(seen_ms, REPLICA) if seen_ms else Stamp(0, 0), replica=replica, vector=vector)


def directory(number: int, parent: Uid, name: bytes, time_ms: int, prior: tuple[Uid, bytes] = (ROOT, b"")) -> Record:
    return record(uid(number), DIRECTORY, place(parent, name, time_ms, prior=prior), content(1, 1, kind=DIRECTORY))


def file(number: int, parent: Uid, name: bytes, time_ms: int, value: int = 0) -> Record:
    return record(uid(number), FILE, place(parent, name, time_ms), content(time_ms, value))


def store(view: MemoryView, records: Iterable[Record], dropped: Iterable[Uid] = ()) -> list[Slot]:
    """Put these in the place of what the view holds of the objects, bring the tree up to date, apply."""
    draft = Draft(view)
    changed: dict[Uid, ObjectState | None] = {}
    for one in records:
        before = draft.object(one.uid)
        changed.setdefault(one.uid, before)
        draft.put(ObjectState(one) if before is None else with_record(before, one))
    for gone_uid in dropped:
        changed.setdefault(gone_uid, draft.object(gone_uid))
        draft.drop(gone_uid)
    slots = retree(draft, changed.items())
    view.apply(draft)
    return slots


def with_record(state: ObjectState, changed: Record) -> ObjectState:
    return ObjectState(changed, cut=state.cut, kept=state.kept, group=state.group, pending=state.pending)


def a_view(records: Iterable[Record] = ()) -> MemoryView:
    view = MemoryView(FOLDER, REPLICA)
    store(view, records)
    return view
