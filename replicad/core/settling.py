"""Settled: which objects were brought by a series that is not finished (DESIGN section 3, rule 7; PROTOCOL section 6).

Half of a swap looks like a conflict. So what an unfinished series has brought is installed only where it is new at a
free name; the engine asks `settled` before it replaces, moves or deletes. Ending too early costs a needless preserved
copy, ending too late costs time: all ends here are sure to come.

A *part* is what one page brought (or several, where there are many). Invariants:
1. `_uids` counts, for each UID, the parts that hold it; a part that holds everything counts in `_everything`.
2. All memory is bounded: parts per sender, UIDs in all; beyond a bound parts are joined, or hold everything.
"""

from __future__ import annotations

from collections.abc import Iterable

from replicad.core.cnset import EMPTY, CNSet
from replicad.core.ids import MemberId, ReplicaId, Uid

SENDER_SILENT_MS = 30_000
"""No page with a record from the sender for so long: it is gone, or has nothing more (S24)."""
UNSETTLED_MAX_MS = 300_000
"""However long a series goes on: then what is there is installed."""
PARTS_MAX = 64
"""Per sender; further pages are joined to the last one, and where they cannot be, the oldest ends."""
UIDS_MAX = 100_000
"""In all, some 20 MB; what comes beyond makes its part hold everything."""


class _Part:
    __slots__ = ("clean", "closed", "cns", "head", "opened_ms", "replica", "uids")

    def __init__(self, replica: ReplicaId, head: int, clean: bool, now_ms: int) -> None:
        self.replica = replica
        self.head = head
        self.clean = clean
        """Every page of it was settled at its sender."""
        self.closed = False
        """Its series is complete, but not clean: the sender's later pages do not end it any more."""
        self.opened_ms = now_ms
        self.uids: set[Uid] | None = set()
        """None: everything."""
        self.cns: CNSet | None = EMPTY
        """None: not known, after a start or where they are too many."""


class Settling:
    """Of one catalog. Senders are this member's peers."""

    def __init__(self) -> None:
        self._parts: dict[MemberId, list[_Part]] = {}
        self._last_record_ms: dict[MemberId, int] = {}
        self._uids: dict[Uid, int] = {}
        self._everything = 0
        self.endings = 0
        """How many parts have ended: when it grows, something may be settled that was not."""

    # -- what comes in

    def unfinished(self, sender: MemberId, replica: ReplicaId, head: int, now_ms: int) -> None:
        """After a start: a series stood before its head. What it had brought is not known any more."""
        part = _Part(replica, head, True, now_ms)
        self._last_record_ms[sender] = now_ms
        self._parts.setdefault(sender, []).append(part)
        self._hold_everything(part)

    def record_came(self, sender: MemberId, now_ms: int) -> None:
        """A page with a record came, whether it was new here or not: the sender is not silent."""
        if sender in self._parts:
            self._last_record_ms[sender] = now_ms

    def brought(
        self, sender: MemberId, replica: ReplicaId, head: int, uids: Iterable[Uid], cns: CNSet, clean: bool, now_ms: int
    ) -> None:
        """A page read at `head` brought `uids`. `clean`: it was settled at its sender. `cns`: what another peer must
        know to stand in for the rest of the series: the CNs that were new here, and all that the sender had shown.

        A page that brought nothing is not told of here, but for one that was not clean: then so is its series.
        """
        parts = self._parts.setdefault(sender, [])
        self._last_record_ms[sender] = now_ms
        if not clean:
            for part in parts:
                part.clean = part.clean and (part.closed or part.replica != replica)
        fresh = set(uids)
        if not fresh:
            self._forget_if_done(sender)
            return
        last = parts[-1] if parts else None
        joins = last is not None and not last.closed and last.replica == replica
        if last is None or not joins or len(parts) < PARTS_MAX:
            last = _Part(replica, head, clean, now_ms)
            parts.append(last)
        self._extend(last, fresh, cns)
        last.head, last.clean = max(last.head, head), last.clean and clean
        self._end(sender, parts[:-PARTS_MAX])

    def completed(self, sender: MemberId, replica: ReplicaId, head: int, shown: CNSet) -> None:
        """The sender's series is complete up to `head`, at which it knew `shown`: by R2 with S, or by R3."""
        parts = self._parts.get(sender, [])
        mine = [part for part in parts if part.replica == replica and part.head <= head and not part.closed]
        if not all(part.clean for part in mine):
            for part in mine:
                part.closed = True
            return
        self._end(sender, mine)
        for other, theirs in list(self._parts.items()):
            ours = [part for part in theirs if other != sender or part.replica != replica]
            self._end(other, [part for part in ours if part.cns is not None and shown.contains_all(part.cns)])

    def expire(self, now_ms: int) -> None:
        """End what has waited long enough."""
        for sender in list(self._parts):
            silent = now_ms - self._last_record_ms[sender] >= SENDER_SILENT_MS
            self._end(
                sender,
                [part for part in self._parts[sender] if silent or now_ms - part.opened_ms >= UNSETTLED_MAX_MS],
            )

    def clock_set_back(self, back_ms: int) -> None:
        """Every time kept here moves with the clock."""
        for sender, parts in self._parts.items():
            self._last_record_ms[sender] -= back_ms
            for part in parts:
                part.opened_ms -= back_ms

    # -- what is asked

    def settled(self, uid: Uid) -> bool:
        return not self._everything and uid not in self._uids

    @property
    def any_unsettled(self) -> bool:
        return bool(self._parts)

    def next_due_ms(self) -> int | None:
        """When `expire` has something to do."""
        if not self._parts:
            return None
        return min(
            (
                min(
                    self._last_record_ms[sender] + SENDER_SILENT_MS,
                    min(part.opened_ms for part in parts) + UNSETTLED_MAX_MS,
                )
                for sender, parts in self._parts.items()
            ),
            default=None,
        )

    # -- parts

    def _extend(self, part: _Part, uids: set[Uid], cns: CNSet) -> None:
        if part.uids is None:
            return
        for uid in uids - part.uids:
            self._uids[uid] = self._uids.get(uid, 0) + 1
        part.uids |= uids
        part.cns = part.cns.union(cns) if part.cns is not None else None
        if len(self._uids) > UIDS_MAX:
            self._hold_everything(part)

    def _hold_everything(self, part: _Part) -> None:
        if part.uids is not None:
            self._release(part.uids)
            self._everything += 1
        part.uids = part.cns = None

    def _release(self, uids: set[Uid]) -> None:
        for uid in uids:
            left = self._uids[uid] - 1
            if left:
                self._uids[uid] = left
            else:
                del self._uids[uid]

    def _end(self, sender: MemberId, ended: list[_Part]) -> None:
        self.endings += len(ended)
        for part in ended:
            self._parts[sender].remove(part)
            if part.uids is None:
                self._everything -= 1
            else:
                self._release(part.uids)
        self._forget_if_done(sender)

    def _forget_if_done(self, sender: MemberId) -> None:
        if not self._parts.get(sender):
            self._parts.pop(sender, None)
            self._last_record_ms.pop(sender, None)
