"""Messages of two members that know the same and hold different records: docs/safety.md, section 7.

One of the two asks, the other answers: what your objects in these ranges of UIDs add up to; which of them differ, as
far as I see; and that you have asked me for them. A range is half-open, `(after, upto]`, in the order of bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import msgspec

from replicad.core.ids import COUNTER_MAX, CREATED_UID_BYTES, ORIGINAL_UID_BYTES, Uid
from replicad.errors import ProtocolError

RANGE_REQUEST, RANGE_REPLY, DIFFER, TAKEN = 0x114, 0x115, 0x116, 0x117
REPAIR_NAMES = {RANGE_REQUEST: "range request", RANGE_REPLY: "range reply", DIFFER: "differ", TAKEN: "taken"}
RANGES_MAX = 16
"""In a question: their answers have at most 21 kB, and reading them takes no longer than reading all once."""
PIECES_MIN, PIECES_MAX = 16, 32
"""A range of many objects is told in so many pieces: each level of cutting costs a round trip and 1.3 kB at most."""
OBJECTS_MAX = 64
"""A range of no more is told object by object: 2 kB, about what another level of cutting would cost."""
DIFFER_UIDS_MAX = 512
"""As many as one request by UID asks for."""
PIECE_SUM_BYTES = 16
OBJECT_SUM_BYTES = 8
"""The lower half of the sum of one object: told of 64 of them at a time, it errs once in 10^17 times."""

Sums = list[tuple[bytes, bytes]]


class RangeRequest(msgspec.Struct, frozen=True, array_like=True, tag=RANGE_REQUEST, kw_only=True):
    """0x114: what do your objects in these ranges add up to? Rising, without overlaps."""

    correlation: int
    ranges: list[tuple[Uid, Uid]]


class RangeSums(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """Of one range: either its `objects` (UID, sum), or its `pieces` (their last UID, sum), the first of which begins,
    and the last of which ends, where the range does."""

    pieces: Sums
    objects: Sums


class RangeReply(msgspec.Struct, frozen=True, array_like=True, tag=RANGE_REPLY, kw_only=True):
    """0x115, the answer: one for each range asked, in their order."""

    correlation: int
    ranges: list[RangeSums]


class Differ(msgspec.Struct, frozen=True, array_like=True, tag=DIFFER, kw_only=True):
    """0x116: of these objects we hold different registers; ask me for mine."""

    correlation: int
    uids: list[Uid]


class Taken(msgspec.Struct, frozen=True, array_like=True, tag=TAKEN, kw_only=True):
    """0x117, the answer, when that is done. `changed`: it was news."""

    correlation: int
    changed: bool


OfRepair = RangeRequest | RangeReply | Differ | Taken


def check_repair(message: OfRepair) -> None:
    """Raises ProtocolError."""
    if not 0 <= message.correlation <= COUNTER_MAX:
        raise ProtocolError("a comparison is out of its limits")
    match message:
        case RangeRequest(ranges=ranges):
            bounds = [bound for one in ranges for bound in one]
            if not 0 < len(ranges) <= RANGES_MAX or any(len(bound) > ORIGINAL_UID_BYTES for bound in bounds):
                raise ProtocolError("the ranges of a comparison are out of their limits")
            if bounds != sorted(bounds) or any(after == upto for after, upto in ranges):
                raise ProtocolError("the ranges of a comparison do not rise")
        case RangeReply(ranges=told):
            if len(told) > RANGES_MAX:
                raise ProtocolError("too many ranges are told of")
            for one in told:
                _check_sums(one)
        case Differ(uids=uids):
            if len(uids) > DIFFER_UIDS_MAX or not all(map(_is_uid, uids)):
                raise ProtocolError("objects that differ are out of their limits")
        case Taken():
            pass


def _check_sums(told: RangeSums) -> None:
    # A range in one piece would be cut again and again.
    if len(told.objects) > OBJECTS_MAX or len(told.pieces) > PIECES_MAX or len(told.pieces) == 1:
        raise ProtocolError("a range is told in too many pieces, or in one")
    if told.objects and told.pieces:
        raise ProtocolError("a range is told twice")
    if not all(_is_uid(uid) for uid, _ in told.objects) or any(len(u) > ORIGINAL_UID_BYTES for u, _ in told.pieces):
        raise ProtocolError("a range names a malformed UID")
    if not _rises(uid for uid, _ in (*told.objects, *told.pieces)):
        raise ProtocolError("a range does not rise")
    sizes = {len(total) for _, total in told.objects} - {OBJECT_SUM_BYTES}
    sizes |= {len(total) for _, total in told.pieces} - {PIECE_SUM_BYTES}
    if sizes:
        raise ProtocolError("a sum is malformed")


def _rises(uids: Iterable[Uid]) -> bool:
    return all(one < other for one, other in pairwise(uids))


def _is_uid(uid: bytes) -> bool:
    return len(uid) in (CREATED_UID_BYTES, ORIGINAL_UID_BYTES)
