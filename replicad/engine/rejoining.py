"""Rejoining: a member whose catalog is stale, or was put back, is taken in again (docs/safety.md, section 5).

While it *compares*, no record crosses any link. What was made under replica ids of its own that no peer has ever shown
is dropped, if it was put back; then it asks a peer of which of its objects that peer has no register, though it knows
of their creation: those were deleted, and the deletion forgotten. They are dropped, with all that lies beneath them.
What follows are the phases of one that joins: its disk claims nothing.

Each piece is a transaction, and a crash begins the comparison anew: what was dropped is not met again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from replicad.catalog.changes import Change as CatalogChange
from replicad.catalog.changes import RenewReplica, Series, SetMeta, SetReplicaOwner, SetSeries
from replicad.catalog.store import Catalog
from replicad.core.cnset import EMPTY, CNSet
from replicad.core.collection import Circle
from replicad.core.draft import Draft
from replicad.core.effects import Effect, Send
from replicad.core.ids import COUNTER_MAX, CREATED_UID_BYTES, Cn, MemberId, ReplicaId, Uid
from replicad.core.messages import PAGE_BYTES_MAX
from replicad.core.messages_meeting import HELD_UIDS_MAX, HeldRequest, NotHeld
from replicad.core.records import Record, open_record
from replicad.core.tree import retree
from replicad.core.view import ObjectState
from replicad.core.want import settle
from replicad.engine.deletions import APPROVED, HELD_META
from replicad.engine.exchange import Exchange
from replicad.engine.exchange_link import Link
from replicad.engine.meeting import new_life
from replicad.engine.phases import CLEARING, LOST, MERGE_META, PHASE_META, PRIMARY, PUT_BACK, STALE, WHY_META, Phase
from replicad.engine.tombstones import Tombstones

DROPPED_META = "safety.dropped"
"""There while it compares: what no peer has heard of was dropped."""
ANSWER_MAX_MS = 10_000
"""Until a question that was not answered is asked again."""
DROPPED_A_STEP = 512


class Rejoining:
    """Of one folder. `work` while the phase is COMPARING."""

    def __init__(
        self,
        catalog: Catalog,
        exchange: Exchange,
        tombstones: Tombstones,
        own: MemberId,
        circle: Callable[[], Circle | None],
        now_ms: int,
    ) -> None:
        self._catalog = catalog
        self._exchange = exchange
        self._tombstones = tombstones
        self._own = own
        self._circle = circle
        self.why = catalog.meta(WHY_META) or b""
        """As engine.phases has it; empty where it does not rejoin."""
        self._peer: MemberId | None = None
        self._after = 0
        self._asked: HeldRequest | None = None
        self._asked_ms = 0
        self._due_ms = now_ms
        self._compared = False
        """With one peer at least, since it began or was begun again."""
        if catalog.replica_owner(catalog.replica) is None:
            catalog.commit(None, [SetReplicaOwner(catalog.replica, own)], now_ms=now_ms)

    def begin(self, why: bytes, replica: ReplicaId, now_ms: int) -> None:
        """`replica`: a new id, under which it originates when it takes part again. Owns its transaction."""
        self.why = PUT_BACK if self.why == PUT_BACK and why == STALE else why
        self._peer, self._asked, self._after, self._due_ms = None, None, 0, now_ms
        self._compared = False
        self._exchange.meetings.compared.clear()
        changes: list[CatalogChange] = [
            RenewReplica(replica),
            SetReplicaOwner(replica, self._own),
            new_life(self._catalog, self._exchange.meetings.life_remembered, now_ms),
            SetMeta(WHY_META, self.why),
            SetMeta(DROPPED_META, None),
            SetMeta(PHASE_META, Phase.COMPARING.value),
        ]
        self._catalog.commit(None, changes, now_ms=now_ms)

    def ask(self, why: bytes, replica: ReplicaId, now_ms: int) -> None:
        """An operator wants it: nothing of its disk is known any more, and it knows what it holds and no more, so that
        the rest is asked for again. The replica is started anew after this. Owns its transaction."""
        self.why = why
        approved = APPROVED if why == PRIMARY else None  # what a primary lacks is deleted: that was the word
        changes: list[CatalogChange] = [
            RenewReplica(replica),
            SetReplicaOwner(replica, self._own),
            new_life(self._catalog, self._exchange.meetings.life_remembered, now_ms),
            SetMeta(WHY_META, why),
            SetMeta(DROPPED_META, None),
            SetMeta(MERGE_META, None),
            SetMeta(HELD_META, approved),
            SetMeta(PHASE_META, Phase.FORGETTING.value),
        ]
        self._know(self._catalog.recount().held, changes, now_ms)

    def compare_again(self, now_ms: int) -> None:
        """Somebody has forgotten more than what was compared with, and this member has not begun yet."""
        self._peer, self._asked, self._after, self._due_ms = None, None, 0, now_ms

    def learned(self) -> list[CatalogChange]:
        """For the commit with which all is known that a complete member knows: what was compared counts for all."""
        compared = self._exchange.meetings.compared
        purged = EMPTY
        for one in compared.values():
            purged = purged.union(one)
        compared.clear()
        return [self._tombstones.storing(purged)] if purged else []

    def ending(self) -> list[CatalogChange]:
        """For the commit that ends it."""
        self.why = b""
        return [SetMeta(WHY_META, None)]

    def next_due_ms(self) -> int:
        return self._asked_ms + ANSWER_MAX_MS if self._asked is not None else self._due_ms

    def clock_set_back(self, now_ms: int) -> None:
        self._asked_ms = min(self._asked_ms, now_ms)
        self._due_ms = min(self._due_ms, now_ms)

    def nobody_is_complete(self) -> bool:
        """Whether every living member is in contact, and none has a catalog of the folder that is complete."""
        circle, met = self._circle(), self._exchange.meetings.met()
        if circle is None or not circle.others or not circle.others <= met.keys():
            return False
        statuses = self._exchange.statuses()
        told = [statuses.get(member) for member in circle.others]
        return all(status is not None and status.direct and not status.status.complete for status in told)

    # -- comparing

    def work(self, now_ms: int) -> tuple[bool, list[Effect]]:
        """The next piece; (whether it is over, what is to be sent). Owns its transactions."""
        if now_ms < self.next_due_ms():
            return False, []
        if self.why == CLEARING:
            return self._clear(now_ms), []
        if self.why == PUT_BACK and self._catalog.meta(DROPPED_META) is None:
            self._drop_own(now_ms)
            return False, []
        if self.why == PUT_BACK and self.nobody_is_complete():
            self.clear(now_ms)
            return False, []
        peer = self._teacher()
        if peer is None:
            self._due_ms = now_ms + ANSWER_MAX_MS  # a link that comes up wakes it
            return self._needs_none(), []
        if peer != self._peer:
            self._peer, self._after = peer, 0
        elif self._asked is not None:
            self._asked_ms = now_ms
            return False, [Send(peer, self._asked)]
        return self._ask(peer, now_ms)

    def woken(self, now_ms: int) -> None:
        """Who is in contact has changed."""
        if self._peer not in self._exchange.meetings.met():
            self._asked, self._peer = None, None
        self._due_ms = now_ms

    def answered(self, peer: MemberId, answer: NotHeld, now_ms: int) -> None:
        """Owns its transaction."""
        if self._asked is None or peer != self._peer or answer.correlation != self._asked.correlation:
            return
        asked, self._asked = set(self._asked.uids), None
        self._due_ms = now_ms
        link = self._exchange.meetings.met().get(peer)
        if link is not None:
            self._drop([uid for uid in answer.uids if uid in asked], now_ms, told=_forgotten_by(link))

    def _teacher(self) -> MemberId | None:
        met = self._exchange.meetings.met()
        if self._peer in met:
            return self._peer
        complete = {peer for peer, link in met.items() if link.complete}
        ahead = complete.intersection(self._exchange.meetings.stale_towards())
        if not ahead and self.why == PUT_BACK and not self._compared:
            ahead = complete
        return min(ahead, default=None)

    def _needs_none(self) -> bool:
        """Whether there is nobody to compare with, and nobody is waited for."""
        if self.why != PUT_BACK or self._compared:
            return True  # who had forgotten more is not in contact: it is asked when it is
        circle = self._circle()
        return circle is not None and circle.others <= self._exchange.meetings.met().keys()

    def _ask(self, peer: MemberId, now_ms: int) -> tuple[bool, list[Effect]]:
        page = self._catalog.page(self._after, EMPTY, HELD_UIDS_MAX, PAGE_BYTES_MAX)
        known = _forgotten_by(self._exchange.meetings.met()[peer])
        uids = [
            wire.uid
            for wire in page.records
            if _creation_known(open_record(wire.uid, wire.kind, wire.place, wire.content), known)
        ]
        self._after = page.end
        if uids:
            self._asked, self._asked_ms = HeldRequest(correlation=page.end + 1, uids=uids), now_ms
            return False, [Send(peer, self._asked)]
        if page.end < page.head:
            return False, []
        self._exchange.meetings.compared[peer] = self._exchange.meetings.met()[peer].purged or EMPTY
        self._peer, self._due_ms, self._compared = None, now_ms, True
        over = self._teacher() is None
        if over:
            # What was dropped is not known any more: who still has its tombstone would leave out what we know of it.
            self._know(self._catalog.recount().held, [], now_ms)
        return over, []

    # -- dropping

    def clear(self, now_ms: int) -> None:
        """There is nobody to compare with, nor to learn from: begin with nothing. Owns its transaction."""
        self.why, self._due_ms = CLEARING, now_ms
        changes = [SetMeta(WHY_META, CLEARING), SetMeta(PHASE_META, Phase.COMPARING.value)]
        self._catalog.commit(None, changes, now_ms=now_ms)

    def _clear(self, now_ms: int) -> bool:
        page = self._catalog.page(0, EMPTY, HELD_UIDS_MAX, PAGE_BYTES_MAX)
        if page.records:
            self._drop([wire.uid for wire in page.records], now_ms)
            return False
        self.why = LOST
        self._know(EMPTY, [SetMeta(WHY_META, LOST), SetMeta(DROPPED_META, None)], now_ms)
        return True

    def _know(self, known: CNSet, changes: list[CatalogChange], now_ms: int) -> None:
        """Know less than before: every series begins anew."""
        draft = Draft(self._catalog)
        draft.known = known
        rows = [row for peer in self._catalog.peers() for row in self._catalog.series(peer.member)]
        series: list[CatalogChange] = [SetSeries(Series(row.member, row.replica, 0, 0)) for row in rows]
        self._catalog.commit(draft, [*series, *changes], now_ms=now_ms)
        self._exchange.begin_anew(now_ms)

    def _drop_own(self, now_ms: int) -> None:
        """A piece of what no peer has ever shown; and at its end, what is known is what is held: what superseded a
        register that was dropped is not known any more."""
        shown = [known.known for known in self._exchange.statuses().values()]
        shown += [link.known for link in self._exchange.meetings.met().values()]
        ours = [replica for replica, member in self._catalog.replicas().items() if member == self._own]
        unseen = CNSet.of(())
        for replica in ours:
            if not any(known.last(replica) for known in shown):
                unseen = unseen.union(CNSet.span(replica, 1, COUNTER_MAX))
        found = self._catalog.with_cns(unseen, DROPPED_A_STEP)
        if found:
            self._drop([held.uid for held in found], now_ms)
            return
        self._know(self._catalog.recount().held, [SetMeta(DROPPED_META, b"1")], now_ms)

    def _drop(self, uids: Iterable[Uid], now_ms: int, *, told: CNSet | None = None) -> None:
        """`told`: what the peer knows that has forgotten them. With them goes what lies beneath and is news to it: its
        parent would be asked for for ever. What is not has been moved out since, and comes with its new place."""
        draft = Draft(self._catalog)
        before: dict[Uid, ObjectState | None] = {}
        waiting = list(uids)
        while waiting:
            uid = waiting.pop()
            state = draft.object(uid)
            if state is None or uid in before:
                continue
            before[uid] = state
            if told is not None:
                below = draft.objects(draft.children(uid))
                waiting.extend(child.record.uid for child in below if not _creation_known(child.record, told))
        for uid in before:
            draft.drop(uid)
        slots = retree(draft, before.items())
        settle(draft, slots, ())
        self._catalog.commit(draft, now_ms=now_ms)


def answer_held(catalog: Catalog, peer: MemberId, request: HeldRequest) -> Send:
    """Of which of these objects this catalog has no register."""
    held = {state.record.uid for state in catalog.objects(request.uids)}
    missing = [uid for uid in request.uids if uid not in held]
    return Send(peer, NotHeld(correlation=request.correlation, uids=missing))


def _forgotten_by(link: Link) -> CNSet:
    """What a complete peer has known at some time: of an object made in it, it holds a register, or it was deleted."""
    return link.known.union(link.purged or EMPTY)


def _creation_known(held: Record, known: CNSet) -> bool:
    """Whether who knows `known` has heard of the object's creation; of an original, which has no CN of its creation, of
    any of its registers."""
    if len(held.uid) == CREATED_UID_BYTES:
        return Cn(int.from_bytes(held.uid[:8], "big"), int.from_bytes(held.uid[8:], "big")) in known
    return any(cn in known for cn in held.cns())
