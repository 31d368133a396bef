"""Taking pages in: the knowledge rule at work (docs/PROTOCOL.md, section 2, R1 to R3, and section 6)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from replicad.catalog.store import Catalog
from replicad.core.cnset import EMPTY, CNSet
from replicad.core.draft import Draft
from replicad.core.ids import MemberId, ReplicaId, created_by
from replicad.core.messages import Page
from replicad.core.records import Record
from replicad.core.series import Checkpoint, Coverage, Taken, covered, take
from replicad.core.settling import Settling
from replicad.engine.exchange_memory import Memory

Absorb = Callable[[Draft, Sequence[Record]], None]
"""Merge records into a draft, and keep in step what follows from them; the CNs are added by the exchange."""


class Intake:
    """Of one exchange."""

    def __init__(self, catalog: Catalog, absorb: Absorb, memory: Memory, settling: Settling) -> None:
        self._catalog = catalog
        self._absorb = absorb
        self._memory = memory
        self._settling = settling
        self._coverage: dict[MemberId, Coverage] = {}

    def meet(self, peer: MemberId) -> None:
        self._coverage[peer] = Coverage()

    def part(self, peer: MemberId) -> None:
        del self._coverage[peer]

    def take(
        self,
        peer: MemberId,
        page: Page,
        records: Sequence[Record],
        shown: CNSet | None,
        offers: CNSet,
        now_ms: int,
        *,
        asked: bool = False,
    ) -> bool:
        """Store a page that was validated; `shown` is S, `offers` what the peer had shown before. `asked`: its records
        were asked for by UID.

        Returns whether it brought anything, or moved w.
        """
        before = self._catalog.known
        row = self._memory.row(peer, page.replica)
        taken = take(row, page.begin, page.end, page.head, shown is not None)
        cns = CNSet.of(cn for record in records for cn in record.cns())
        learned = cns.union(shown) if taken.learn and shown is not None else cns
        fresh = records if asked else self._without_forgotten(records)
        self._store(peer, page, fresh, learned, taken, now_ms)
        self._settle(peer, page, records, cns.minus(before), offers.union(shown or EMPTY), now_ms)
        if shown is not None and taken.learn:
            self._settling.completed(peer, page.replica, page.head, shown)
        elif shown is not None:
            self.cover(peer, page.replica, page.head, shown)
        if self._catalog.known != before:
            self._cover_all()
        return taken.row.position > row.position or self._catalog.known != before

    def cover(self, peer: MemberId, replica: ReplicaId, head: int, shown: CNSet) -> None:
        """R3, now or once what is lacking has come. `shown` is all that the peer knew at `head`."""
        lacking = shown.minus(self._catalog.known)
        if lacking:
            self._coverage[peer].note(Checkpoint(replica, head, shown, lacking))
        else:
            self._covered(peer, replica, head, shown)

    def _cover_all(self) -> None:
        for peer, coverage in self._coverage.items():
            checkpoint = coverage.learned(self._catalog.known) if len(coverage) else None
            if checkpoint is not None:
                self._covered(peer, checkpoint.replica, checkpoint.head, checkpoint.shown)

    def _covered(self, peer: MemberId, replica: ReplicaId, head: int, shown: CNSet) -> None:
        self._memory.set_row(peer, replica, covered(self._memory.row(peer, replica), head))
        self._settling.completed(peer, replica, head, shown)

    def _store(
        self, peer: MemberId, page: Page, records: Sequence[Record], learned: CNSet, taken: Taken, now_ms: int
    ) -> None:
        """Records, CNs and row in one transaction; none where nothing changed."""
        draft = Draft(self._catalog)
        self._absorb(draft, records)
        draft.learn(learned)
        moved = taken.row != self._memory.row(peer, page.replica)
        if not moved and not draft.stored and draft.known == self._catalog.known:
            return
        self._catalog.commit(draft, self._memory.row_changes((peer, page.replica, taken.row)), now_ms=now_ms)
        # Only now: a commit that fails must not leave a row here that claims what was not stored (I2).
        self._memory.set_row(peer, page.replica, taken.row)
        self._memory.rows_stored()

    def _without_forgotten(self, records: Sequence[Record]) -> Sequence[Record]:
        """What is known and not held was deleted, and the deletion forgotten (docs/safety.md, section 3). Neither a
        page that was long on its way nor a member that has not heard of it brings it back (I7)."""
        known = {record.uid for record in records if self._is_known(record)}
        dead = known.difference(state.record.uid for state in self._catalog.objects(known)) if known else known
        return [record for record in records if record.uid not in dead]

    def _is_known(self, record: Record) -> bool:
        """Whether this member knows anything of the object: of a record in part it has told that it knows the rest."""
        if record.place is None or record.content is None:
            return True
        creation = created_by(record.uid)
        known = self._catalog.known
        return any(cn in known for cn in record.cns()) or (creation is not None and creation in known)

    def _settle(
        self, peer: MemberId, page: Page, records: Sequence[Record], fresh: CNSet, offers: CNSet, now_ms: int
    ) -> None:
        if records:
            self._settling.record_came(peer, now_ms)
        brought = [record.uid for record in records if any(cn in fresh for cn in record.cns())]
        if brought or not page.settled:
            whole = fresh.union(offers)
            self._settling.brought(peer, page.replica, page.head, brought, whole, page.settled, now_ms)
