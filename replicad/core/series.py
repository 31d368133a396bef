"""How far this member has read a peer's catalog, and when it may take over what that peer knows.

docs/PROTOCOL.md section 2, rules R2 and R3; the idea is Active Directory's high-watermark and up-to-dateness vector.
Invariant of a `Row`: the receiver knows every CN of every record that the sender held at a position up to `position`
when its head was `head`; and `position <= head`.

The trap (DESIGN section 4): a page's records say nothing of the changes that they superseded. Only the sender's whole
set S says that, and S may be added only when everything up to its head was read.
"""

from __future__ import annotations

import msgspec

from replicad.core.cnset import CNSet
from replicad.core.ids import ReplicaId

CHECKPOINTS_MAX = 64
"""Sets that a peer has shown and that are not known yet: a second or two of a busy group; each is a few intervals."""

CHECKPOINT_INTERVALS_MAX = 1_024
"""Of what a checkpoint lacks: what is on its way is a few; where very much is missing, a series will bring it."""


class Row(msgspec.Struct, frozen=True, gc=False):
    """`position` is w: read up to here; `head` is h, the highest head taken. Of one peer and replica id."""

    position: int = 0
    head: int = 0


class Taken(msgspec.Struct, frozen=True, gc=False):
    """What a page does to the row. `contiguous`: R2 holds; `learn`: add S."""

    row: Row
    contiguous: bool
    learn: bool


def take(row: Row, begin: int, end: int, head: int, has_set: bool) -> Taken:
    """R2, for a page over `(begin, end]` read at `head`. A page with S has `end == head` (core.messages checks it)."""
    if begin > row.position or head < row.head:
        # S31: a delayed page of a lower head has not what moved on since; its S would claim it.
        return Taken(row, False, False)
    return Taken(Row(max(row.position, end), head), True, has_set)


def covered(row: Row, head: int) -> Row:
    """R3: everything that the sender knew at `head` is known here, so nothing up to there is left to read."""
    return row if head < row.head else Row(head, head)


class Checkpoint(msgspec.Struct, frozen=True, gc=False):
    """At `head` of `replica` the sender knew `shown`; `lacking` of that was unknown here."""

    replica: ReplicaId
    head: int
    shown: CNSet
    lacking: CNSet


class Coverage:
    """The heads of one peer that will be covered (R3) once what is lacking arrives, from wherever. Bounded."""

    def __init__(self) -> None:
        self._waiting: list[Checkpoint] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def note(self, checkpoint: Checkpoint) -> None:
        """In the order in which they came. When full, the newest gives way: the oldest will be covered first."""
        if checkpoint.lacking.interval_count() > CHECKPOINT_INTERVALS_MAX:
            return
        if self._waiting and self._waiting[0].replica != checkpoint.replica:
            self._waiting.clear()
        if len(self._waiting) == CHECKPOINTS_MAX:
            self._waiting.pop()
        self._waiting.append(checkpoint)

    def learned(self, known: CNSet) -> Checkpoint | None:
        """The highest head that is covered now that `known` is known; it and those below are forgotten."""
        done = [checkpoint for checkpoint in self._waiting if known.contains_all(checkpoint.lacking)]
        if not done:
            return None
        best = max(done, key=lambda checkpoint: checkpoint.head)
        self._waiting = [checkpoint for checkpoint in self._waiting if checkpoint.head > best.head]
        return best
