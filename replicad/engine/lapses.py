"""Who has been away for how long, and who has lapsed: the hierarchy's side of core.lapsing.

When a member was last seen is what this one, or any that is in contact with it, knows of it: every status is passed on,
so whatever one has heard another soon has heard, too. It is kept in the catalog, a hundredth of the limit at the most
behind: after a crash nobody has been away for longer than before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from replicad.catalog.changes import SetMeta
from replicad.catalog.store import Catalog
from replicad.core.hierarchy_entries import member_key
from replicad.core.hierarchy_model import Reading
from replicad.core.ids import MemberId, named_uid
from replicad.core.lapsing import CLOCKS_AGREE_MS, FRESH_MS, Contact, Lapsing
from replicad.engine.exchange import Exchange

SEEN_META = "lapsing.seen/"
"""With a member's id: when it was last seen, ms."""
CHECK_MS = 60_000
SEEN_STEPS = 100
"""Of the limit: how often it is stored that somebody was seen."""
LATELY_MS = 24 * 3_600_000
"""Who was seen so lately is written as lapsed by force only: it may be restarting, or a cable be out."""


class Lapses:
    """Of one member. `limit_ms`: how long another may be away."""

    def __init__(
        self,
        catalog: Catalog,
        exchange: Exchange,
        own: MemberId,
        reading: Callable[[], Reading],
        limit_ms: int,
        now_ms: int,
    ) -> None:
        self._catalog = catalog
        self._exchange = exchange
        self._own = own
        self._reading = reading
        self._limit_ms = limit_ms
        self._lapsing = Lapsing()
        self._due_ms = now_ms

    def next_due_ms(self) -> int | None:
        return self._due_ms if self._others() else None

    def clock_set_back(self, now_ms: int) -> None:
        self._due_ms = min(self._due_ms, now_ms)

    def work(self, now_ms: int) -> list[tuple[MemberId, int]]:
        """Those that are to be written as lapsed, with when they were last seen. Owns its transaction."""
        if now_ms < self._due_ms or not self._others():
            return []
        self._due_ms = now_ms + CHECK_MS
        seen = {member: self.seen_ms(member, now_ms) for member in self._others()}
        self._store(seen, now_ms)
        members, lapsed = len(self._reading().members), self._reading().lapsed
        away = {member: at for member, at in seen.items() if member not in lapsed}
        found = self._lapsing.look(members, list(self._contacts(now_ms)), away, self._limit_ms, now_ms)
        return [(member, seen[member]) for member in found]

    def seen_ms(self, member: MemberId, now_ms: int) -> int:
        """When it was last seen by anybody in contact, or else when it came into the group; not after now."""
        if self._in_contact(member, now_ms):
            return now_ms
        told = self._exchange.statuses().get(member)
        seen = [self._stored(member), told.received_ms if told is not None else 0]
        if max(seen) == 0:
            state = self._catalog.object(named_uid(member_key(member)))
            content = state.record.content if state is not None else None
            seen.append(content.time_ms if content is not None else now_ms)
        return min(max(seen), now_ms)

    # -- inside

    def _others(self) -> Iterable[MemberId]:
        return self._reading().members.keys() - {self._own}

    def _contacts(self, now_ms: int) -> Iterable[Contact]:
        statuses = self._exchange.statuses()
        for peer in self._exchange.connected():
            known = statuses.get(peer)
            if known is not None and known.direct and peer in self._reading().members:
                yield Contact(peer, now_ms - known.received_ms, known.status.time_ms - known.received_ms)

    def _in_contact(self, member: MemberId, now_ms: int) -> bool:
        """With this one, or with one that has said so just now."""
        connected = self._exchange.connected()
        if member in connected:
            return True
        statuses = self._exchange.statuses()
        sign = bytes.fromhex(member)
        told = (statuses.get(peer) for peer in connected)
        return any(
            one is not None and one.direct and sign in one.connected and now_ms - one.received_ms <= FRESH_MS
            for one in told
        )

    def _stored(self, member: MemberId) -> int:
        stored = self._catalog.meta(SEEN_META + member)
        return int(stored) if stored is not None else 0

    def _store(self, seen: dict[MemberId, int], now_ms: int) -> None:
        step_ms = self._limit_ms // SEEN_STEPS
        changes = []
        for member, at in sorted(seen.items()):
            stored = self._stored(member)
            if at >= stored + step_ms or stored > now_ms + CLOCKS_AGREE_MS:  # the clock was ahead when it was stored
                changes.append(SetMeta(SEEN_META + member, b"%d" % at))
        if changes:
            self._catalog.commit(None, changes, now_ms=now_ms)
