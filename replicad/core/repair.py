"""Finding which objects two members hold differently, by sums over ranges of UIDs. Pure. docs/safety.md, section 7.

Sums of registers (core.digest) over a range differ where a register does. So one side tells the other the sums over
pieces of what it holds; those that differ are cut again, and where few objects are left they are told one by one. It is
range-based set reconciliation (Meyer, 2023), with the sum that the digest is of. A piece is cut by the objects that are
there, since UIDs are no even numbers: those of one author follow each other.

A sum is over both registers, with all that is in them: where one CN stands for two changes, sums tell what CNs do not.

Objects come in the order of their UIDs, each once, in as many portions as one likes; what is kept is bounded.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from replicad.core.draft import DIGEST_MODULUS
from replicad.core.ids import ORIGINAL_UID_BYTES, Uid
from replicad.core.messages_repair import (
    OBJECT_SUM_BYTES,
    OBJECTS_MAX,
    PIECE_SUM_BYTES,
    PIECES_MAX,
    PIECES_MIN,
    RangeSums,
)
from replicad.errors import ProtocolError

ObjectSum = tuple[Uid, int]
"""An object that is not gone, and the sum of its registers, below 2**128."""


class Range(NamedTuple):
    """`(after, upto]`, in the order of bytes."""

    after: Uid
    upto: Uid


WHOLE = Range(b"", b"\xff" * ORIGINAL_UID_BYTES)


def piece_bytes(total: int) -> bytes:
    return total.to_bytes(PIECE_SUM_BYTES, "big")


def object_bytes(total: int) -> bytes:
    return piece_bytes(total)[-OBJECT_SUM_BYTES:]


class Cutter:
    """What is told of one range: a few objects, or PIECES_MIN to PIECES_MAX pieces of about the same number of them.

    How many there are is not known before the end. So pieces begin small, and when there are too many of them each two
    neighbours become one: their sums add up.
    """

    def __init__(self, within: Range) -> None:
        self._upto = within.upto
        self._objects: list[ObjectSum] = []
        """All of them, or the last ones: those of a piece that is not full."""
        self._pieces: list[ObjectSum] = []
        """Each with its last UID."""
        self._size = OBJECTS_MAX // PIECES_MIN
        """Of a piece, once there are any."""

    def take(self, sums: Iterable[ObjectSum]) -> None:
        for one in sums:
            self._objects.append(one)
            if self._pieces and len(self._objects) == self._size:
                self._close()
            elif len(self._objects) > OBJECTS_MAX and not self._pieces:
                first, self._objects = self._objects, []
                for each in first:
                    self._objects.append(each)
                    if len(self._objects) == self._size:
                        self._close()

    def told(self) -> RangeSums:
        if not self._pieces:
            return RangeSums(pieces=[], objects=[(uid, object_bytes(total)) for uid, total in self._objects])
        pieces = list(self._pieces)
        if self._objects:
            pieces.append(_joined(self._objects))
        pieces[-1] = (self._upto, pieces[-1][1])
        return RangeSums(pieces=[(uid, piece_bytes(total)) for uid, total in pieces], objects=[])

    def _close(self) -> None:
        self._pieces.append(_joined(self._objects))
        self._objects = []
        if len(self._pieces) == PIECES_MAX:
            pairs = zip(self._pieces[::2], self._pieces[1::2], strict=True)
            self._pieces = [_joined(pair) for pair in pairs]
            self._size *= 2


def _joined(sums: Sequence[ObjectSum]) -> ObjectSum:
    return sums[-1][0], sum(total for _, total in sums) % DIGEST_MODULUS


class Against:
    """Own objects of one range, held against what a peer has told of it.

    `ranges`: those that are to be cut again; `uids`: objects that differ, or that only one side has. Both grow as
    objects come; who asks may take from them meanwhile.
    """

    def __init__(self, within: Range, told: RangeSums) -> None:
        """Raises ProtocolError where that is of another range."""
        self.ranges: list[Range] = []
        self.uids: list[Uid] = []
        self._after = within.after
        self._told = told.pieces or told.objects
        self._by_piece = bool(told.pieces)
        self._next = 0
        self._sum = 0
        inside = all(within.after < uid <= within.upto for uid, _ in self._told)
        if not inside or (self._by_piece and self._told[-1][0] != within.upto):
            raise ProtocolError("a peer has told of another range than it was asked for")

    def take(self, sums: Iterable[ObjectSum]) -> None:
        for uid, total in sums:
            self._pass(uid)
            if self._by_piece:
                self._sum += total
            elif self._next < len(self._told) and self._told[self._next][0] == uid:
                if self._told[self._next][1] != object_bytes(total):
                    self.uids.append(uid)
                self._next += 1
            else:
                self.uids.append(uid)

    def end(self) -> None:
        """There are no more."""
        self._pass(None)

    def _pass(self, uid: Uid | None) -> None:
        """All that the peer has told of what lies before `uid` is over; None: all."""
        while self._next < len(self._told) and (uid is None or self._told[self._next][0] < uid):
            upto, told = self._told[self._next]
            if not self._by_piece:
                self.uids.append(upto)
            elif piece_bytes(self._sum % DIGEST_MODULUS) != told:
                self.ranges.append(Range(self._after, upto))
            self._after, self._sum = upto, 0
            self._next += 1
