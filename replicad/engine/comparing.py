"""The two sides of a comparison (docs/safety.md, section 7), and the reading that both do, a bounded step at a time.

What is read in several steps is not of one instant: what changes meanwhile is found to differ, and asked for in vain,
or is not found, and then the digests tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from replicad.catalog.store import Catalog
from replicad.core.draft import DIGEST_MODULUS
from replicad.core.ids import MemberId, Uid
from replicad.core.messages_repair import DIFFER_UIDS_MAX, RANGES_MAX, RangeReply, RangeRequest
from replicad.core.repair import WHOLE, Against, Cutter, ObjectSum, Range
from replicad.errors import ProtocolError

ROWS_A_STEP = 1_024
"""Of the catalog: some 10 ms of the folder's thread."""
QUESTIONS_MAX = 10_000
"""In one comparison: some ten million objects that differ. What is left is for the next one."""


class _Taker(Protocol):
    def take(self, sums: Sequence[ObjectSum]) -> None: ...


class Reading:
    """Of own objects in some ranges, each by its taker."""

    def __init__(self, catalog: Catalog, parts: Sequence[tuple[Range, _Taker]]) -> None:
        self._catalog = catalog
        self._parts = list(parts)
        self._after = self._parts[0][0].after
        self._all = [within for within, _ in parts] == [WHOLE]
        self._digest = catalog.digest
        self._sum = 0

    @property
    def counted(self) -> int | None:
        """What the digest is by the rows; None where they were not all read, or have changed meanwhile."""
        still = self._all and not self._parts and self._catalog.digest == self._digest
        return self._sum % DIGEST_MODULUS if still else None

    def step(self) -> bool:
        """Read on; whether that was all."""
        left = ROWS_A_STEP
        while self._parts and left > 0:
            within, taker = self._parts[0]
            found = self._catalog.range_sums(self._after, within.upto, left)
            taker.take(found.sums)
            self._sum += sum(total for _, total in found.sums)
            left -= max(1, found.rows)
            self._after = found.reached
            if found.reached == within.upto:
                self._parts.pop(0)
                self._after = self._parts[0][0].after if self._parts else b""
        return not self._parts


class Answering:
    """What a peer has asked for: what the objects in some ranges add up to."""

    def __init__(self, catalog: Catalog, request: RangeRequest) -> None:
        ranges = [Range(after, upto) for after, upto in request.ranges]
        self._correlation = request.correlation
        self._cutters = [Cutter(within) for within in ranges]
        self.reading = Reading(catalog, list(zip(ranges, self._cutters, strict=True)))

    def step(self) -> RangeReply | None:
        if not self.reading.step():
            return None
        return RangeReply(correlation=self._correlation, ranges=[cutter.told() for cutter in self._cutters])


class Taking:
    """Objects that are asked of a peer by UID, until all that it holds have come."""

    def __init__(self, uids: Sequence[Uid]) -> None:
        self.uids = tuple(uids)
        self.correlation = 0
        """Of the request under way."""
        self.changed = False

    def came(self, uids: Sequence[Uid], changed: bool) -> bool:
        """A page of them, which brought news or not; whether others are still to be asked for: they did not fit."""
        self.changed |= changed
        last = max(uids, default=None)
        self.uids = tuple(uid for uid in self.uids if last is not None and uid > last)
        return bool(self.uids)


class Comparison:
    """Of this member with one peer; this one asks. What there is to do next is `reads`, or given by `question` and
    `batch`, or else it waits for the peer; it is over when there is nothing."""

    def __init__(self, catalog: Catalog, peer: MemberId) -> None:
        self.peer = peer
        self.changed = False
        """It has brought news to either side."""
        self.taking: Taking | None = None
        """What is asked of the peer by UID."""
        self.differ: int | None = None
        """The number of what the peer was told to ask for, until it has."""
        self._catalog = catalog
        self._left: list[Range] = [WHOLE]
        """To be asked about, the last ones first: so there are never more than a few at each level of cutting."""
        self._asked: RangeRequest | None = None
        self._against: list[Against] = []
        self._reading: Reading | None = None
        self._uids: list[Uid] = []
        """That differ, and were not asked for yet."""
        self._questions = 0

    @property
    def waits(self) -> bool:
        """For the peer."""
        return self._asked is not None or self.taking is not None or self.differ is not None

    @property
    def reads(self) -> bool:
        return self._reading is not None and not self.waits and len(self._uids) < DIFFER_UIDS_MAX

    def step(self) -> Reading:
        """Read on."""
        reading = self._reading
        assert reading is not None
        over = reading.step()
        for against in self._against:
            if over:
                against.end()
            self._uids += against.uids
            against.uids.clear()
        if over:
            for against in self._against:
                self._left += against.ranges
            self._against, self._reading = [], None
        return reading

    def batch(self) -> list[Uid]:
        """Objects that are to be asked for now, by either side of the other."""
        if self.waits or (len(self._uids) < DIFFER_UIDS_MAX and (self._left or self._reading is not None)):
            return []
        batch, self._uids = self._uids[:DIFFER_UIDS_MAX], self._uids[DIFFER_UIDS_MAX:]
        return batch

    def question(self, correlation: int) -> RangeRequest | None:
        """The next one, which is asked now."""
        if self.waits or self._reading is not None or not self._left or self._questions == QUESTIONS_MAX:
            return None
        self._questions += 1
        ranges, self._left = self._left[-RANGES_MAX:], self._left[:-RANGES_MAX]
        self._asked = RangeRequest(correlation=correlation, ranges=[(one.after, one.upto) for one in sorted(ranges)])
        return self._asked

    def told(self, reply: RangeReply) -> None:
        """Raises ProtocolError where it does not answer what was asked."""
        asked = self._asked
        if asked is None or reply.correlation != asked.correlation:
            return
        if len(reply.ranges) != len(asked.ranges):
            raise ProtocolError("a peer has told of another number of ranges than it was asked for")
        ranges = [Range(after, upto) for after, upto in asked.ranges]
        self._against = [Against(within, told) for within, told in zip(ranges, reply.ranges, strict=True)]
        self._reading = Reading(self._catalog, list(zip(ranges, self._against, strict=True)))
        self._asked = None
