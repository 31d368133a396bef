"""Forgetting deletions: the walk over old tombstones, and the purged set (docs/safety.md, section 3).

A member's purged set says what must be known to whoever would exchange records with it: all that every living member
had installed when it, or one whose purged set it has taken over, forgot something. It is told in each status.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from replicad.catalog.changes import SetMeta
from replicad.catalog.store import Catalog
from replicad.core.cnset import EMPTY, CNSet
from replicad.core.collection import Circle, installed_by_all, may_drop
from replicad.core.draft import Draft
from replicad.core.effects import Changed, Effect, FoundingOver
from replicad.core.ids import Uid
from replicad.core.status_board import STATUS_INTERVALS_MAX
from replicad.engine.exchange import Exchange

PURGED_META = "safety.purged"
LOOKED_AT_A_STEP = 512
"""Tombstones in one transaction: some 20 ms of the folder's thread."""
WALK_MS, WALK_MIN_MS = 3_600_000, 1_000
LIFETIME_WALKS = 60
"""Between two walks it is a sixtieth of a tombstone's life, within these bounds: one query."""
RESTS_MAX = 6
"""Doublings while nothing changes; until it is a tombstone's life, or the longest time between two walks."""
_sets = msgspec.msgpack.Decoder(list[list[int]])


class Tombstones:
    """Of one folder. `lifetime_ms`: how old a tombstone must be; `circle`: None while the hierarchy is not known."""

    def __init__(
        self,
        catalog: Catalog,
        exchange: Exchange,
        circle: Callable[[], Circle | None],
        lifetime_ms: Callable[[], int],
        now_ms: int,
    ) -> None:
        self._catalog = catalog
        self._exchange = exchange
        self._circle = circle
        self._lifetime_ms = lifetime_ms
        self._after: tuple[int, Uid] = (-1, b"")
        self._due_ms = now_ms
        self._in_vain: tuple[int, CNSet, Sequence[tuple[int, Uid]]] | None = None
        """The catalog's commits, what all had installed, and the tombstones of which none could be dropped."""
        self._rests = 0
        """Walks in a row that met just that again: each is twice as far from the next as the one before."""
        stored = catalog.meta(PURGED_META)
        self.purged = CNSet.decode(_sets.decode(stored)) if stored is not None else EMPTY

    def covers(self, purged: CNSet) -> bool:
        """Whether all that one with this purged set has forgotten is known here as deleted, or was dropped."""
        return self._catalog.known.union(self.purged).contains_all(purged)

    def take_over(self, purged: CNSet, now_ms: int) -> bool:
        """A peer's purged set that is covered here, or where nothing is known. Whether it says anything new. Owns its
        transaction."""
        assert self.covers(purged) or not self._catalog.known, "a purged set is taken over that is not known"
        if self.purged.contains_all(purged):
            return False
        self._catalog.commit(None, [self.storing(purged)], now_ms=now_ms)
        return True

    def storing(self, purged: CNSet) -> SetMeta:
        """For a commit, in which the purged set takes in `purged`."""
        self.purged = self.purged.union(purged)
        return SetMeta(PURGED_META, msgspec.msgpack.encode(self.purged.encode()))

    def forgetting(self) -> SetMeta:
        """For the commit with which a catalog that was put back begins anew: what it has forgotten is not sure."""
        self.purged = EMPTY
        return SetMeta(PURGED_META, None)

    def next_due_ms(self) -> int | None:
        """None while there is no tombstone; the next walk finds the first one old enough, or is late for it."""
        first_ms = self._catalog.first_tombstone_ms()
        return max(self._due_ms, first_ms + self._lifetime_ms()) if first_ms is not None else None

    def clock_set_back(self, now_ms: int) -> None:
        self._due_ms = min(self._due_ms, now_ms + self._walk_ms())

    def work(self, now_ms: int) -> list[Effect]:
        """Look at the next tombstones, if it is time. Owns its transaction."""
        if now_ms < self._due_ms:
            return []
        found = self._old_enough(now_ms - self._lifetime_ms())
        circle = self._circle() if found else None
        if circle is None or not circle.may_collect or self._catalog.first_out_ms() is not None:
            return self._end_walk(now_ms)
        if not circle.founded:
            return [FoundingOver(), *self._end_walk(now_ms)]
        self._after = found[-1]
        installed = self._installed(circle)
        looked_at = (self._catalog.commits, installed, found)
        again = looked_at == self._in_vain
        self._rests = min(self._rests + 1, RESTS_MAX) if again else 0
        dropped = not again and self._drop([uid for _, uid in found], installed, now_ms)
        self._in_vain = looked_at if not dropped else None
        if len(found) < LOOKED_AT_A_STEP:
            self._end_walk(now_ms)
        return [Changed(), *self._exchange.after_commit(now_ms)] if dropped else []

    def _old_enough(self, until_ms: int) -> Sequence[tuple[int, Uid]]:
        """The next ones stored at `until_ms` or before, in the walk's order."""
        first_ms = self._catalog.first_tombstone_ms()
        if first_ms is None or first_ms > until_ms:
            return ()
        return self._catalog.tombstones(until_ms, self._after, LOOKED_AT_A_STEP)

    def _end_walk(self, now_ms: int) -> list[Effect]:
        self._after = (-1, b"")
        self._due_ms = now_ms + self._walk_ms()
        return []

    def _walk_ms(self) -> int:
        every_ms = max(WALK_MIN_MS, min(WALK_MS, self._lifetime_ms() // LIFETIME_WALKS))
        return min(every_ms << self._rests, max(every_ms, min(WALK_MS, self._lifetime_ms())))

    def _installed(self, circle: Circle) -> CNSet:
        statuses = self._exchange.statuses()
        others = (statuses.get(member) for member in sorted(circle.others))
        return installed_by_all(self._catalog.known, self._catalog.not_installed(), others)

    def _drop(self, uids: list[Uid], installed: CNSet, now_ms: int) -> bool:
        if not installed:
            return False
        if self.purged.union(installed).interval_count() > STATUS_INTERVALS_MAX:
            return False  # it could not be told; the holes close when what is missing has come
        draft = Draft(self._catalog)
        draft.objects(uids)
        # Those within before those around them: a tombstone that is a parent goes with its last child.
        left = [uid for uid in uids if not self._catalog.came_from(uid)]
        while ready := [uid for uid in left if may_drop(draft, uid, installed)]:
            for uid in ready:
                draft.drop(uid)
            left = [uid for uid in left if draft.object(uid) is not None]
        if not draft.dropped:
            return False
        self._catalog.commit(draft, [self.storing(installed)], now_ms=now_ms)
        return True
