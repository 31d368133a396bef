"""Which objects two members hold differently, found by sums over ranges of UIDs."""

from __future__ import annotations

import random
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicad.core.ids import Uid
from replicad.core.messages import decode_message, encode_message
from replicad.core.messages_repair import (
    OBJECTS_MAX,
    PIECES_MAX,
    PIECES_MIN,
    Differ,
    RangeReply,
    RangeRequest,
    RangeSums,
    Sums,
    Taken,
)
from replicad.core.repair import WHOLE, Against, Cutter, ObjectSum, Range, piece_bytes
from replicad.errors import ProtocolError

Held = Mapping[Uid, int]


def uid(number: int) -> Uid:
    """Those of three authors, and originals between them."""
    if number % 4 == 3:
        return random.Random(number).randbytes(20)
    return (number % 4 * 0x1234567812345678 + 1).to_bytes(8, "big") + number.to_bytes(8, "big")


def within(held: Held, part: Range) -> list[ObjectSum]:
    return sorted((one, total) for one, total in held.items() if part.after < one <= part.upto)


def told_of(held: Held, part: Range) -> RangeSums:
    cutter = Cutter(part)
    for one in within(held, part):
        cutter.take([one])
    reply = RangeReply(correlation=1, ranges=[cutter.told()])
    assert decode_message(encode_message(reply)) == reply
    return reply.ranges[0]


def found_by(ours: Held, theirs: Held) -> tuple[list[Uid], int]:
    """What is found to differ, and how many questions it took."""
    left, found, questions = [WHOLE], [], 0
    while left:
        part = left.pop()
        questions += 1
        against = Against(part, told_of(theirs, part))
        against.take(within(ours, part))
        against.end()
        left += against.ranges
        found += against.uids
    return sorted(found), questions


@given(st.dictionaries(st.integers(0, 3_000), st.integers(0, 2), max_size=400), st.data())
def test_what_differs_is_found_and_nothing_else(numbers: dict[int, int], data: st.DataObject) -> None:
    ours = {uid(number): total * 2**90 + total for number, total in numbers.items()}
    theirs = dict(ours)
    for one in data.draw(st.lists(st.integers(0, 3_000), max_size=30)):
        if data.draw(st.booleans()):
            theirs[uid(one)] = 77
        else:
            theirs.pop(uid(one), None)
    differ = sorted(one for one in {*ours, *theirs} if ours.get(one) != theirs.get(one))
    assert found_by(ours, theirs)[0] == differ
    assert found_by(theirs, ours)[0] == differ


@pytest.mark.parametrize("count", [0, 1, 64, 65, 127, 128, 129, 1_000, 5_000])
def test_a_range_is_told_in_pieces_of_about_one_size_however_many_there_are(count: int) -> None:
    held = {uid(number): number for number in range(count)}
    told = told_of(held, WHOLE)
    if count <= OBJECTS_MAX:
        assert not told.pieces
        assert len(told.objects) == count
        return
    assert PIECES_MIN <= len(told.pieces) <= PIECES_MAX
    assert told.pieces[-1][0] == WHOLE.upto
    after = WHOLE.after
    sizes = []
    for upto, total in told.pieces:
        part = within(held, Range(after, upto))
        assert piece_bytes(sum(one for _, one in part)) == total
        sizes.append(len(part))
        after = upto
    assert sum(sizes) == count
    assert max(sizes) <= count / PIECES_MIN + 1


def test_one_difference_in_many_takes_few_questions() -> None:
    ours = {uid(number): number for number in range(20_000)}
    theirs = {**ours, uid(12_345): 1}
    assert found_by(ours, theirs) == ([uid(12_345)], 3)


def told(pieces: Sums = (), objects: Sums = ()) -> RangeSums:  # type: ignore[assignment]
    return RangeSums(pieces=list(pieces), objects=list(objects))


A, B, C = (bytes(15) + bytes((number,)) for number in (1, 2, 3))
S, P = bytes(8), bytes(16)


@pytest.mark.parametrize(
    "message",
    [
        RangeRequest(correlation=1, ranges=[]),
        RangeRequest(correlation=-1, ranges=[(A, B)]),
        RangeRequest(correlation=1, ranges=[(A, A)]),
        RangeRequest(correlation=1, ranges=[(B, A)]),
        RangeRequest(correlation=1, ranges=[(A, C), (B, C)]),
        RangeRequest(correlation=1, ranges=[(b"", bytes(21))]),
        RangeRequest(correlation=1, ranges=[(bytes((n,)), bytes((n + 1,))) for n in range(17)]),
        RangeReply(correlation=1, ranges=[told()] * 17),
        RangeReply(correlation=1, ranges=[told(pieces=[(A, P)])]),
        RangeReply(correlation=1, ranges=[told(pieces=[(A, P), (A, P)])]),
        RangeReply(correlation=1, ranges=[told(pieces=[(A, P), (B, S)])]),
        RangeReply(correlation=1, ranges=[told(pieces=[(bytes((n,)), P) for n in range(33)])]),
        RangeReply(correlation=1, ranges=[told(pieces=[(A, P), (bytes(21), P)])]),
        RangeReply(correlation=1, ranges=[told(pieces=[(A, P), (B, P)], objects=[(C, S)])]),
        RangeReply(correlation=1, ranges=[told(objects=[(B, S), (A, S)])]),
        RangeReply(correlation=1, ranges=[told(objects=[(b"x", S)])]),
        RangeReply(correlation=1, ranges=[told(objects=[(A, P)])]),
        RangeReply(correlation=1, ranges=[told(objects=[(uid(4 * n), S) for n in range(65)])]),
        Differ(correlation=1, uids=[b"x"]),
        Differ(correlation=1, uids=[A] * 513),
        Taken(correlation=2**63, changed=True),
    ],
)
def test_messages_beyond_their_limits_are_refused(message: RangeRequest | RangeReply | Differ | Taken) -> None:
    with pytest.raises(ProtocolError):
        decode_message(encode_message(message))


@pytest.mark.parametrize("answer", [told(pieces=[(A, P), (B, P)]), told(objects=[(A, S)]), told(objects=[(uid(6), S)])])
def test_what_is_told_of_another_range_is_refused(answer: RangeSums) -> None:
    with pytest.raises(ProtocolError):
        Against(Range(A, C), answer)
