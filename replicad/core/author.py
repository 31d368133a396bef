"""How this member writes a register: the CN, the time, the version vector and the base of a change of its own (rule 1).

*The base of a change is what was installed, never what the catalog has learned since.* The new register's vector and
the stamp that *gone* has seen come from the base; then the register is merged with the record that is held, like any
other. It may lose there against a version that this member knows and has not installed: then the record stays, the
disk shows what was just written, and that is the base from here on.

*Time.* A change that was seen as it happened is stamped by the clock. What a scan finds of changes that nobody watched
is stamped by the time the file tells, where that lies after the predecessor and not after now: Monday's offline edit,
found on Wednesday, does not beat Tuesday's. A content whose mtime cannot be that (`cp -p` of an old file over a new
one, a file renamed over another) is stamped by its ctime, under the same condition: then it was put there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from replicad.core.draft import Draft
from replicad.core.ids import Cn, Uid
from replicad.core.records import (
    DIRECTORY,
    Content,
    Place,
    Record,
    Register,
    Stamp,
    Vector,
    encode,
    merge,
    next_time,
)
from replicad.core.tree import Slot, retree
from replicad.core.view import ObjectState

NS_PER_MS = 1_000_000


class Author:
    """Writes into one draft; remembers every object it touches as it was before."""

    def __init__(self, draft: Draft, now_ms: int) -> None:
        self.draft = draft
        self.watched = True
        """What is written next was seen as it happened."""
        self._now_ms = now_ms
        self._tree_may_differ = False
        self._before: dict[Uid, ObjectState | None] = {}
        """Since the tree was last brought up to date."""
        self._touched: dict[Uid, None] = {}
        self._slots: dict[Slot, None] = {}

    def time(self, told_ns: int, *last: Register | None, else_ns: int = 0) -> int:
        """The logical time of a change whose file tells `told_ns` (0: nothing), or if that cannot be, `else_ns`; after
        each version in `last`."""
        floor = next_time(0, *last)
        for told_ms in (told_ns // NS_PER_MS, else_ns // NS_PER_MS):
            if not self.watched and floor <= told_ms <= self._now_ms:
                return told_ms
        return next_time(self._now_ms, *last)

    def place(
        self, time_ms: int, vector: Vector, parent: Uid, name: bytes, prior: tuple[Uid, bytes] | None = None
    ) -> Place:
        """A place register with a CN of its own; without `prior` it falls back to itself, as at a creation."""
        cn = self.draft.allocate()
        return Place(cn.replica, cn.counter, time_ms, vector, parent, name, *(prior or (parent, name)))

    def content(self, time_ms: int, vector: Vector, look: Content, cn: Cn | None = None) -> Content:
        """A content register that shows `look`, with a CN of its own or that of the creation it is part of."""
        cn = cn or self.draft.allocate()
        return msgspec.structs.replace(
            look, replica=cn.replica, counter=cn.counter, time_ms=time_ms, vector=vector, gone=None
        )

    def gone(self, time_ms: int, vector: Vector, seen: Stamp, mode: int = 0) -> Content:
        """A tombstone for content of rank `seen`, with a CN of its own.

        `mode` is a directory's as it was: should something keep it (core.tree), it must look the same everywhere.
        """
        cn = self.draft.allocate()
        return Content(cn.replica, cn.counter, time_ms, vector, seen, mode, 0, 0, b"", b"")

    def create(self, uid: Uid, kind: int, place: Place, content: Content, **changes: Any) -> None:
        """An object with both registers, whose disk shows them; merged with an equal original where that is held."""
        self.write(ObjectState(Record(uid, kind, None, None)), place, content, known=False, **changes)

    def write(
        self,
        state: ObjectState,
        place: Place | None = None,
        content: Content | None = None,
        *,
        known: bool = True,
        **changes: Any,
    ) -> None:
        """Merge new registers into what is held; the disk shows them, so they are the base wherever they lost.

        `changes` go into the state as they are. `known=False`: the object may or may not be held.
        """
        held = state if known else self.draft.object(state.record.uid)
        place_raw = encode(place) if place is not None else b""
        content_raw = encode(content) if content is not None else b""
        ours = Record(state.record.uid, state.record.kind, place, content, place_raw, content_raw)
        merged = merge(held.record if held is not None else None, ours).record
        bases = _bases(held, place_raw, content_raw, merged)
        fields: dict[str, Any] = {"record": merged, "position": 0, **bases, "pending": any(bases.values()), **changes}
        self._put(msgspec.structs.replace(held or state, **fields))

    def change(self, state: ObjectState, **changes: Any) -> None:
        """Change what is known of an object's disk, without a record."""
        self._put(msgspec.structs.replace(state, **changes))

    def touch(self, uids: Iterable[Uid]) -> None:
        """Objects of which somebody else has changed what is known of their disk."""
        self._touched.update(dict.fromkeys(uids))

    def state(self, uid: Uid) -> ObjectState:
        """As it is now in the draft; the object is held."""
        state = self.draft.object(uid)
        assert state is not None, "an object at a disk entry is not held"
        return state

    def states(self, uids: Iterable[Uid]) -> list[ObjectState]:
        return [self.state(uid) for uid in uids]

    def bring_tree_up_to_date(self) -> None:
        """Before the tree is asked what it wants at a name. New files change nothing about any other name."""
        if self._tree_may_differ:
            self._retree()

    def _retree(self) -> None:
        self._slots.update(dict.fromkeys(retree(self.draft, self._before.items())))
        self._before.clear()
        self._tree_may_differ = False

    def touched(self) -> tuple[list[Slot], list[Uid]]:
        """Every slot whose outcome may have changed, every object written or looked at, both ascending."""
        if self._before:
            self._retree()
        return sorted(self._slots), sorted(self._touched)

    def _put(self, state: ObjectState) -> None:
        uid = state.record.uid
        before = self.draft.object(uid)
        if before is None or before.record is not state.record:
            self._before.setdefault(uid, before)
            self._tree_may_differ |= before is not None or state.record.kind == DIRECTORY
        self.draft.put(state)
        self._touched[uid] = None


def file_look(mode: int, mtime_ns: int, size: int, digest: bytes) -> Content:
    """What a disk shows, as a content register that has no CN yet; so are the next two."""
    return Content(0, 0, 0, (), None, mode, mtime_ns, size, digest, b"")


def directory_look(mode: int) -> Content:
    return Content(0, 0, 0, (), None, mode, 0, 0, b"", b"")


def symlink_look(target: bytes) -> Content:
    """The mode of a symlink means nothing."""
    return Content(0, 0, 0, (), None, 0, 0, 0, b"", target)


def _bases(held: ObjectState | None, place_raw: bytes, content_raw: bytes, merged: Record) -> dict[str, bytes]:
    """What is installed, as far as it is not the record: the new registers, for the rest what it was."""
    at_node = held is not None and held.node is not None
    place_base = place_raw or (held.base_place_raw if held is not None and at_node else b"")
    content_base = content_raw or (held.base_content_raw if held is not None and at_node else b"")
    return {
        "base_place_raw": b"" if place_base == merged.place_raw else place_base,
        "base_content_raw": b"" if content_base == merged.content_raw else content_base,
    }
