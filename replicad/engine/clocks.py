"""What records and statuses tell of other members' clocks: how long a change was on its way, and whose clock is ahead.

Nothing is ordered by it: stamps are (DESIGN section 3, clocks).
"""

from __future__ import annotations

from collections.abc import Sequence

from replicad.catalog.store import Catalog
from replicad.core.effects import Report
from replicad.core.ids import MemberId, ReplicaId
from replicad.core.records import Record
from replicad.core.steps import Step
from replicad.engine.exchange import Exchange
from replicad.engine.lag import Lag

CLOCK_AHEAD_MS = 24 * 3_600_000
"""A stamp this far ahead of our clock still converges, and is reported."""


class Clocks:
    """Of one folder."""

    def __init__(self, catalog: Catalog, exchange: Exchange) -> None:
        self._catalog = catalog
        self._exchange = exchange
        self._ahead: set[MemberId] = set()
        self.lag = Lag()

    def installed(self, steps: Sequence[Step], now_ms: int) -> None:
        offsets: dict[ReplicaId, int] = {}
        for state in self._catalog.objects(step.lead for step in steps if step.slot is not None):
            newest = max((r for r in (state.record.place, state.record.content) if r), key=lambda r: r.time_ms)
            if newest.replica not in offsets:
                offsets[newest.replica] = self._offset_ms(newest.replica)
            self.lag.installed(newest.time_ms, offsets[newest.replica], now_ms)

    def look(self, records: Sequence[Record], now_ms: int) -> list[Report]:
        """Each member whose clock is ahead is reported once in a run."""
        reports: list[Report] = []
        for record in records:
            for register in (record.place, record.content):
                if register is not None and register.time_ms > now_ms + CLOCK_AHEAD_MS:
                    reports.extend(self._report(register.replica))
        return reports

    def _offset_ms(self, replica: ReplicaId) -> int:
        """Our clock less that of the member who writes under `replica`; 0 where it is not in direct contact."""
        known = self._exchange.statuses().get(self._catalog.replica_owner(replica) or "")
        return known.received_ms - known.status.time_ms if known is not None and known.direct else 0

    def _report(self, replica: ReplicaId) -> list[Report]:
        member = self._catalog.replica_owner(replica) or f"replica {replica:016x}"
        if member in self._ahead:
            return []
        self._ahead.add(member)
        text = f"the clock of member {member} is more than a day ahead; its changes win until others edit after them"
        return [Report(0, text)]
