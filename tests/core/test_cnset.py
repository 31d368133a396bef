"""CNSets against Python's sets of CNs."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicad.core import cnset
from replicad.core.cnset import EMPTY, CNSet
from replicad.core.ids import COUNTER_MAX, REPLICA_MAX, Cn
from replicad.errors import ProtocolError

cns = st.builds(Cn, st.sampled_from([1, 2, REPLICA_MAX]), st.integers(1, 12))
plain_sets = st.frozensets(cns, max_size=20)


def members(found: CNSet) -> frozenset[Cn]:
    return frozenset(
        Cn(replica, counter)
        for replica, parts in found.items()
        for first, last in parts
        for counter in range(first, last + 1)
    )


def is_canonical(found: CNSet) -> bool:
    return all(
        parts
        and all(1 <= first <= last for first, last in parts)
        and all(before[1] + 1 < after[0] for before, after in pairwise(parts))
        for _, parts in found.items()
    )


@given(plain_sets, plain_sets)
def test_the_algebra_is_that_of_sets(one: frozenset[Cn], other: frozenset[Cn]) -> None:
    a, b = CNSet.of(one), CNSet.of(other)
    for found, expected in (
        (a, one),
        (a.union(b), one | other),
        (a.minus(b), one - other),
        (a.intersect(b), one & other),
        (a.add(other), one | other),
    ):
        assert members(found) == expected
        assert is_canonical(found)
        assert found == CNSet.of(expected)
        assert hash(found) == hash(CNSet.of(expected))
    assert a.contains_all(b) == (other <= one)
    assert (a == b) == (one == other)
    assert bool(a) == bool(one)


@given(plain_sets)
def test_what_is_counted_and_contained(one: frozenset[Cn]) -> None:
    found = CNSet.of(one)
    assert found.count() == len(one)
    assert found.interval_count() == sum(len(parts) for _, parts in found.items())
    for replica in (1, 2, 3, REPLICA_MAX):
        assert found.last(replica) == max((cn.counter for cn in one if cn.replica == replica), default=0)
        for counter in range(14):
            assert (Cn(replica, counter) in found) == (Cn(replica, counter) in one)


@given(st.lists(plain_sets, max_size=4))
def test_the_order_of_union_does_not_matter(parts: list[frozenset[Cn]]) -> None:
    forward, backward = EMPTY, EMPTY
    for part in parts:
        forward = forward.union(CNSet.of(part))
    for part in reversed(parts):
        backward = backward.union(CNSet.of(part))
    assert forward == backward
    assert forward.encode() == backward.encode()


@given(plain_sets)
def test_what_is_encoded_is_decoded_to_the_same_value(one: frozenset[Cn]) -> None:
    found = CNSet.of(one)
    packed = msgspec.msgpack.encode(found.encode())
    assert CNSet.decode(msgspec.msgpack.decode(packed, type=list[list[int]])) == found
    assert CNSet.decode(found.encode()).encode() == found.encode()


def test_a_gap_is_what_is_missing_between_two_sets() -> None:
    theirs, ours = CNSet.span(1, 1, 100).union(CNSet.span(2, 5, 9)), CNSet.span(1, 1, 40).union(CNSet.span(1, 60, 70))
    assert theirs.minus(ours).encode() == [[1, 41, 59, 71, 100], [2, 5, 9]]
    assert ours.minus(theirs) == EMPTY


def test_neighbours_are_one_interval() -> None:
    assert CNSet.span(1, 1, 5).union(CNSet.span(1, 6, 9)).encode() == [[1, 1, 9]]
    assert CNSet.of([Cn(1, 3), Cn(1, 1), Cn(1, 2)]).encode() == [[1, 1, 3]]


def test_a_span_that_ends_before_it_begins_is_empty() -> None:
    assert CNSet.span(1, 5, 4) == EMPTY
    assert not EMPTY
    assert EMPTY.encode() == []
    assert (str(EMPTY), str(CNSet.span(0xAB << 56, 1, 2).add([Cn(0xAB << 56, 9)]))) == (
        "CNSet(nothing)",
        "CNSet(ab0000:1-2,9)",
    )


def test_a_set_never_changes() -> None:
    one = CNSet.span(1, 1, 5)
    one.union(CNSet.span(1, 4, 9))
    one.minus(CNSet.span(1, 2, 3))
    one.add([Cn(2, 1)])
    assert one == CNSet.span(1, 1, 5)


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param([[]], id="an empty row"),
        pytest.param([[1]], id="no interval"),
        pytest.param([[1, 2]], id="half an interval"),
        pytest.param([[1, 1, 2, 4]], id="one interval and a half"),
        pytest.param([[0, 1, 2]], id="replica id 0"),
        pytest.param([[-1, 1, 2]], id="replica id below 0"),
        pytest.param([[REPLICA_MAX + 1, 1, 2]], id="replica id above 64 bits"),
        pytest.param([[1, 0, 2]], id="counter 0"),
        pytest.param([[1, -5, 2]], id="counter below 0"),
        pytest.param([[1, 3, 2]], id="ends before it begins"),
        pytest.param([[1, 1, 2, 3, 4]], id="adjacent intervals"),
        pytest.param([[1, 1, 5, 4, 9]], id="overlapping intervals"),
        pytest.param([[1, 5, 6, 1, 2]], id="intervals out of order"),
        pytest.param([[1, 1, COUNTER_MAX + 1]], id="counter above 63 bits"),
        pytest.param([[1, 1, 2], [1, 5, 6]], id="a replica id twice"),
        pytest.param([[2, 1, 2], [1, 1, 2]], id="replica ids out of order"),
    ],
)
def test_a_malformed_set_is_refused(rows: list[list[int]]) -> None:
    with pytest.raises(ProtocolError):
        CNSet.decode(rows)


def test_i8_a_set_with_too_many_intervals_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [[1, *(counter for first in range(1, 40, 3) for counter in (first, first + 1))]]
    monkeypatch.setattr(cnset, "WIRE_INTERVALS_MAX", 13)
    assert CNSet.decode(rows).interval_count() == 13
    monkeypatch.setattr(cnset, "WIRE_INTERVALS_MAX", 12)
    with pytest.raises(ProtocolError):
        CNSet.decode(rows)


def test_the_largest_numbers_are_taken() -> None:
    assert CNSet.decode([[REPLICA_MAX, 1, COUNTER_MAX]]).last(REPLICA_MAX) == COUNTER_MAX
