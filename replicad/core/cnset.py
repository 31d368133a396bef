"""CNSets: which changes a member knows, as intervals per replica id.

The idea is Exchange's (a CNSet per folder per server is that server's status) and Active Directory's up-to-dateness
vector. A set is a value: it never changes, and the operations below return new ones. Intervals are closed at both
ends, sorted, disjoint and not adjacent, so equal sets are equal values and have equal encodings.

An old replica id costs one interval, so a set stays small: its size is the number of holes, not of changes.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping

from replicad.core.ids import COUNTER_MAX, REPLICA_MAX, Cn, ReplicaId
from replicad.errors import ProtocolError

Interval = tuple[int, int]
"""(first, last), both included, 1 <= first <= last."""

WIRE_INTERVALS_MAX = 200_000
"""A set from the wire may have this many intervals: some 25 MB of memory. Holes come from lost messages, few of which
are under way at once, so an honest set has a thousandth of it."""


class CNSet:
    """An immutable set of CNs."""

    __slots__ = ("_intervals",)

    def __init__(self, intervals: Mapping[ReplicaId, tuple[Interval, ...]] | None = None) -> None:
        """`intervals` must be in canonical form already; use `of`, `decode` or `union` to get there."""
        self._intervals: dict[ReplicaId, tuple[Interval, ...]] = (
            {k: v for k, v in intervals.items() if v} if intervals else {}
        )

    @classmethod
    def of(cls, cns: Iterable[Cn]) -> CNSet:
        by_replica: dict[ReplicaId, list[Interval]] = {}
        for cn in cns:
            by_replica.setdefault(cn.replica, []).append((cn.counter, cn.counter))
        return cls({replica: _normal(parts) for replica, parts in by_replica.items()})

    @classmethod
    def span(cls, replica: ReplicaId, first: int, last: int) -> CNSet:
        """Every CN of `replica` from `first` to `last`, both included; empty when `last < first`."""
        return cls({replica: ((first, last),)}) if first <= last else cls()

    def __contains__(self, cn: Cn) -> bool:
        parts = self._intervals.get(cn.replica)
        if not parts:
            return False
        index = bisect_right(parts, (cn.counter, COUNTER_MAX)) - 1
        return index >= 0 and parts[index][1] >= cn.counter

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CNSet) and self._intervals == other._intervals

    def __hash__(self) -> int:
        return hash(frozenset(self._intervals.items()))

    def __bool__(self) -> bool:
        return bool(self._intervals)

    def __repr__(self) -> str:
        return f"CNSet({self.show()})"

    def show(self) -> str:
        """For people: `1f3a…:1-100,103`, replica ids shortened."""
        words = []
        for replica, parts in sorted(self._intervals.items()):
            spans = ",".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)
            words.append(f"{replica:016x}"[:6] + f":{spans}")
        return " ".join(words) or "nothing"

    def items(self) -> Iterator[tuple[ReplicaId, tuple[Interval, ...]]]:
        yield from sorted(self._intervals.items())

    def intervals(self, replica: ReplicaId) -> tuple[Interval, ...]:
        return self._intervals.get(replica, ())

    def last(self, replica: ReplicaId) -> int:
        """The highest counter of `replica` in the set, 0 if none."""
        parts = self._intervals.get(replica)
        return parts[-1][1] if parts else 0

    def count(self) -> int:
        """How many CNs."""
        return sum(last - first + 1 for parts in self._intervals.values() for first, last in parts)

    def interval_count(self) -> int:
        return sum(len(parts) for parts in self._intervals.values())

    def union(self, other: CNSet) -> CNSet:
        if not other._intervals or self is other:
            return self
        if not self._intervals:
            return other
        merged = dict(self._intervals)
        for replica, parts in other._intervals.items():
            mine = merged.get(replica)
            if mine is None:
                merged[replica] = parts
            elif mine != parts:
                merged[replica] = _normal([*mine, *parts])
        return CNSet(merged)

    def add(self, cns: Iterable[Cn]) -> CNSet:
        return self.union(CNSet.of(cns))

    def minus(self, other: CNSet) -> CNSet:
        """What is in this set and not in `other`: what a gap is made of."""
        if not self._intervals or not other._intervals:
            return self
        if self._intervals == other._intervals:
            return EMPTY
        left: dict[ReplicaId, tuple[Interval, ...]] = {}
        for replica, parts in self._intervals.items():
            theirs = other._intervals.get(replica)
            if not theirs:
                left[replica] = parts
            elif theirs != parts:
                left[replica] = _minus(parts, theirs)
        return CNSet(left)

    def intersect(self, other: CNSet) -> CNSet:
        return self.minus(self.minus(other))

    def contains_all(self, other: CNSet) -> bool:
        for replica, parts in other._intervals.items():
            mine = self._intervals.get(replica, ())
            if mine != parts and _minus(parts, mine):
                return False
        return True

    def encode(self) -> list[list[int]]:
        """The wire's form: a row per replica id, `[replica, first, last, first, last, …]`, sorted."""
        return [[replica, *(bound for part in parts for bound in part)] for replica, parts in self.items()]

    @classmethod
    def decode(cls, rows: list[list[int]]) -> CNSet:
        """The inverse of `encode`; raises ProtocolError unless the form is canonical and within limits."""
        intervals: dict[ReplicaId, tuple[Interval, ...]] = {}
        if sum(len(row) // 2 for row in rows) > WIRE_INTERVALS_MAX:
            raise ProtocolError("a CNSet has too many intervals")
        replica = 0
        for row in rows:
            if len(row) < 3 or len(row) % 2 == 0 or not replica < row[0] <= REPLICA_MAX:
                raise ProtocolError("a CNSet row is malformed or out of order")
            replica = row[0]
            parts = tuple(zip(row[1::2], row[2::2], strict=True))
            before = -1
            for first, last in parts:
                if not (before + 1 < first <= last <= COUNTER_MAX) or first < 1:
                    raise ProtocolError("a CNSet's intervals are out of order")
                before = last
            intervals[row[0]] = parts
        return cls(intervals)


EMPTY = CNSet()


def _normal(parts: list[Interval]) -> tuple[Interval, ...]:
    parts.sort()
    merged: list[Interval] = []
    for first, last in parts:
        if merged and first <= merged[-1][1] + 1:
            if last > merged[-1][1]:
                merged[-1] = (merged[-1][0], last)
        else:
            merged.append((first, last))
    return tuple(merged)


def _minus(parts: tuple[Interval, ...], others: tuple[Interval, ...]) -> tuple[Interval, ...]:
    left: list[Interval] = []
    for first, last in parts:
        at = first
        index = max(bisect_left(others, (at, 0)) - 1, 0)
        while index < len(others) and others[index][0] <= last:
            low, high = others[index]
            if low > at:
                left.append((at, low - 1))
            at = max(at, high + 1)
            index += 1
        if at <= last:
            left.append((at, last))
    return tuple(left)
