"""Pages as they go out: answers and pushes (docs/PROTOCOL.md sections 2 and 3)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from replicad.catalog.pages import PageRows
from replicad.catalog.store import Catalog
from replicad.core.cnset import CNSet
from replicad.core.messages import PAGE_BYTES_MAX, PAGE_RECORDS_MAX, BackfillRequest, Page, WireRecord, seal, unseal
from replicad.core.outbox import Push
from replicad.core.records import Record
from replicad.core.settling import Settling
from replicad.engine.exchange_link import AnswerType, PushType

PAGE_SET_INTERVALS_MAX = 100_000
"""Of S: at most 2 MB, so that a page stays within a message. A catalog with more holes is far from complete."""


class Pager:
    """Reads pages of one catalog. `purged`: what belongs to S; None: it is not sure, and there is no S."""

    def __init__(self, catalog: Catalog, settling: Settling, purged: Callable[[], CNSet | None]) -> None:
        self._catalog = catalog
        self._settling = settling
        self._purged = purged

    def answer(self, make: AnswerType, request: BackfillRequest, base: CNSet, wanted: CNSet, *, serves: bool) -> Page:
        """One page, whatever was asked for; empty where nothing may be served."""
        if not serves:
            return self.loose(make, request.correlation, ())
        if request.uids:
            held = self._catalog.objects(request.uids)
            return self.loose(make, request.correlation, [state.record for state in held])
        if request.wanted is not None:
            return self.loose(make, request.correlation, self._catalog.with_cns(wanted, request.records_max))
        after = request.after if request.replica == self._catalog.replica else 0
        return self.series(make, request.correlation, after, base, request.records_max)

    def series(self, make: AnswerType, correlation: int, after: int, base: CNSet, records_max: int) -> Page:
        """The next page of a series."""
        rows = self._catalog.page(after, base, min(records_max, PAGE_RECORDS_MAX), PAGE_BYTES_MAX)
        return self._page(make, correlation, rows.begin, rows)

    def loose(self, make: AnswerType, correlation: int, records: Iterable[Record]) -> Page:
        """Records that were asked for by CN or UID: covers no positions, brings no set."""
        wires: list[WireRecord] = []
        left = PAGE_BYTES_MAX
        for record in records:
            wire = seal(record)
            left -= len(wire.place) + len(wire.content)
            if len(wires) == PAGE_RECORDS_MAX or (left < 0 and wires):
                break
            wires.append(wire)
        return make(
            correlation=correlation,
            replica=self._catalog.replica,
            begin=0,
            end=0,
            head=0,
            records=wires,
            known=None,
            settled=self._all_settled(wires),
        )

    def pushed(self, make: PushType, correlation: int, push: Push) -> list[Page]:
        """All of a push: few pages, since a push has at most outbox.WAITING_MAX records."""
        pages: list[Page] = []
        after, begin = push.after, push.begin
        while True:
            rows = self._catalog.page(after, push.base, PAGE_RECORDS_MAX, PAGE_BYTES_MAX)
            if rows.records or pages:
                pages.append(self._page(make, correlation, begin, rows))
                begin = rows.end
            if rows.end == rows.head:
                return pages
            after = rows.end

    def _page(self, make: AnswerType | PushType, correlation: int, begin: int, rows: PageRows) -> Page:
        purged = self._purged() if rows.known is not None else None
        whole = purged is not None and rows.known is not None and rows.known.interval_count() <= PAGE_SET_INTERVALS_MAX
        return make(
            correlation=correlation,
            replica=rows.replica,
            begin=begin,
            end=rows.end,
            head=rows.head,
            records=list(rows.records),
            known=rows.known.encode() if whole and rows.known is not None else None,
            settled=self._all_settled(rows.records),
            purged=purged.encode() if whole and purged is not None else [],
        )

    def _all_settled(self, wires: Sequence[WireRecord]) -> bool:
        return all(self._settling.settled(wire.uid) or self._own_alone(wire) for wire in wires)

    def _own_alone(self, wire: WireRecord) -> bool:
        """What this member itself changed lay in nobody's series, though the object's other register may have (S24)."""
        return all(cn.replica == self._catalog.replica for cn in unseal(wire).cns())
