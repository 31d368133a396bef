"""Rejoining: a member whose catalog is stale, or was put back, is taken in again (docs/safety.md, section 5).

While it *compares*, no record crosses any link. What was made under replica ids of its own that no peer has ever shown
is dropped, if it was put back; then it asks a peer of which of its objects that peer has no register, though it knows
of their creation: those were deleted, and the deletion forgotten. They are dropped, with all that lies beneath them.
What follows are the phases of one that joins: its disk claims nothing.

Invariant (K): what is known here and not held is dead: it was deleted, and the deletion forgotten, by this member or by
one with which it was compared. So what was dropped stays known, and nobody brings it back. Where that cannot be kept,
because the peer is gone before it has taught what else it had forgotten, less is known: what is held, and no more.

Each piece is a transaction, and a crash begins the comparison anew: what was dropped is not met again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import reduce

from replicad.catalog.changes import Change as CatalogChange
from replicad.catalog.changes import RenewReplica, Series, SetMeta, SetReplicaOwner, SetSeries
from replicad.catalog.store import Catalog
from replicad.core.cnset import EMPTY, CNSet
from replicad.core.collection import Circle
from replicad.core.draft import Draft
from replicad.core.effects import Effect, Send
from replicad.core.ids import COUNTER_MAX, Cn, MemberId, ReplicaId, Uid, created_by
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
from replicad.engine.phases import (
    CLEARING,
    IN_ERROR,
    INITIAL_SYNC,
    LOST,
    MERGE_META,
    ORIGINALS_META,
    PHASE_META,
    PRIMARY,
    PUT_BACK,
    STALE,
    WHY_META,
    Phase,
)
from replicad.engine.tombstones import Tombstones

DROPPED_META = "safety.dropped"
"""There while it compares: what no peer has heard of was dropped."""
ANSWER_MAX_MS = 10_000
"""Until a question that was not answered is asked again."""
OWED_META = "safety.owed"
"""There from when something was dropped because of a peer, or compared with it, until all is known that it had
forgotten."""
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
        self._pinned: set[Uid] | None = None
        """Directories beneath which lies what the peer knows at another place; None: not looked for yet."""
        self._pins = False
        """They are being looked for."""
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
        self._exchange.meetings.deserted = self._exchange.meetings.mixed = False
        changes: list[CatalogChange] = [
            RenewReplica(replica),
            SetReplicaOwner(replica, self._own),
            new_life(self._catalog, self._exchange.meetings.life_remembered, now_ms),
            SetMeta(WHY_META, self.why),
            SetMeta(DROPPED_META, None),
            SetMeta(PHASE_META, Phase.COMPARING.value),
            SetMeta(OWED_META, None),
            *([self._tombstones.forgetting()] if self.why in (PUT_BACK, CLEARING) else []),
            *([SetMeta(ORIGINALS_META, None)] if self.why == CLEARING else []),
        ]
        self._catalog.commit(None, changes, now_ms=now_ms)

    def again(self, now_ms: int, more: Iterable[CatalogChange] = ()) -> None:
        """The peer with which it was compared is gone, and has not taught all that it had forgotten. What was dropped
        because of it may come again from whoever still has it, and is known no more: else the two would know the same,
        and hold different records. Owns its transaction, with `more`."""
        self.compare_again(now_ms)
        self._compared = False
        self._exchange.meetings.compared.clear()
        self._exchange.meetings.deserted = self._exchange.meetings.mixed = False
        changes: list[CatalogChange] = [
            new_life(self._catalog, self._exchange.meetings.life_remembered, now_ms),
            SetMeta(OWED_META, None),
            SetMeta(PHASE_META, Phase.COMPARING.value),
            *more,
        ]
        self._know(self._catalog.recount().held, changes, now_ms)

    @property
    def owes(self) -> bool:
        """Something was dropped because of a peer, or compared with it, and it has not taught all it had forgotten."""
        return self._catalog.meta(OWED_META) is not None

    @property
    def deserted(self) -> bool:
        """The peer that was to teach that is gone, perhaps before all was compared with it."""
        return self.owes and (self._exchange.meetings.deserted or not self._exchange.meetings.compared)

    def learn_first_from(self, peer: MemberId, now_ms: int) -> None:
        """Where nothing is held it is as if it were compared. Owns its transaction."""
        self._exchange.meetings.compared[peer] = self._exchange.meetings.met()[peer].purged or EMPTY
        self._catalog.commit(None, [SetMeta(OWED_META, b"1")], now_ms=now_ms)

    def take_over_compared(self, now_ms: int) -> bool:
        """Whether all is known, or was never told, that the peers had forgotten with which it was compared: then it
        counts for all. Owns its transaction."""
        meetings = self._exchange.meetings
        if meetings.untaught():
            return False
        if self.owes:
            purged = EMPTY
            for one in meetings.compared.values():
                purged = purged.union(one)
            self._catalog.commit(None, [self._tombstones.storing(purged), SetMeta(OWED_META, None)], now_ms=now_ms)
        meetings.compared.clear()
        meetings.mixed = False
        return True

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

    def ahead(self) -> set[MemberId]:
        """Peers to compare with: complete ones that have forgotten deletions which this catalog does not know. Of the
        others it is not known what they lack; they meet again when they are complete."""
        met = self._exchange.meetings.met()
        return {peer for peer in self._exchange.meetings.stale_towards() if met[peer].complete}

    def must_compare(self) -> bool:
        """While it learns: whether the peer that teaches has forgotten more since, or there is none to learn from but
        such that have forgotten what is not known here. Where there is, those are for later: one that takes part is
        complete, and can be compared with by them as well."""
        ahead = self.ahead()
        untaught = self._exchange.meetings.untaught()
        if untaught or not ahead:
            return not ahead.isdisjoint(untaught)
        met = self._exchange.meetings.met()
        return not any(link.complete for peer, link in met.items() if peer not in ahead)

    def compare_again(self, now_ms: int) -> None:
        """Somebody has forgotten more than what was compared with, and this member has not begun yet."""
        self._peer, self._asked, self._after, self._due_ms = None, None, 0, now_ms

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
        """Whether every living member is in contact, and none has a catalog of the folder that is complete; or nobody
        else keeps it. Who joins leaves it to those that rejoin or are in their first scans: they will be complete."""
        circle, met = self._circle(), self._exchange.meetings.met()
        if circle is None or circle.alone:
            return circle is not None
        if not circle.others or not circle.others <= met.keys():
            return False
        known = [self._exchange.statuses().get(member) for member in circle.others]
        told = [one.status for one in known if one is not None and one.direct]
        if len(told) < len(known) or any(one.complete or one.state == IN_ERROR for one in told):
            return False  # one whose disk cannot be used may have all of it in its catalog
        joins = all(one.state == INITIAL_SYNC and one.scanned for one in told)
        return bool(self.why) or (joins and circle.heard)

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
            self._peer, self._after, self._pinned = peer, 0, None
            if self._is_ahead_of(peer):
                return False, self._yield(now_ms)
        elif self._asked is not None:
            self._asked_ms = now_ms
            return False, [Send(peer, self._asked)]
        return self._ask(peer, now_ms)

    def woken(self, now_ms: int) -> None:
        """Who is in contact has changed."""
        if self._peer not in self._exchange.meetings.met():
            if self._peer is not None and self.owes:
                self._exchange.meetings.deserted = True
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
            self._drop([uid for uid in answer.uids if uid in asked], now_ms, known=_forgotten_by(link), forgotten=True)

    def _teacher(self) -> MemberId | None:
        met = self._exchange.meetings.met()
        if self._peer in met:
            return self._peer
        ahead = self.ahead()
        ahead = ahead.intersection(self._exchange.meetings.untaught()) or ahead
        if not ahead and self.why == PUT_BACK and not self._compared:
            ahead = {peer for peer, link in met.items() if link.complete}
        return min(ahead, default=None)

    def _is_ahead_of(self, peer: MemberId) -> bool:
        """Whether both have forgotten what the other does not know, and the peer may not compare, since this member is
        not complete: each would wait for the other."""
        return self.why != STALE and peer in self._exchange.meetings.lagging()

    def _yield(self, now_ms: int) -> list[Effect]:
        """It has forgotten nothing, as one that was put back; so the peer may tell. What only it had forgotten may come
        again, until it meets somebody else who has. Owns its transaction."""
        self.again(now_ms, [self._tombstones.forgetting()])
        return self._exchange.reopen(now_ms, anew=True)

    def _needs_none(self) -> bool:
        """Whether there is nobody to compare with, and nobody is waited for."""
        if self.why != PUT_BACK or self._compared:
            return True  # who had forgotten more is not in contact: it is asked when it is
        circle = self._circle()
        return circle is not None and circle.others <= self._exchange.meetings.met().keys()

    def _pin(self, known: CNSet) -> bool:
        """A step of looking for what was moved, as the peer has not heard, beneath a directory that it may have
        forgotten: that one is kept then, and comes back. Whether that is done."""
        if self._pinned is None:
            self._pinned, self._after = set(), 0
        page = self._catalog.page(self._after, known, HELD_UIDS_MAX, PAGE_BYTES_MAX)
        for wire in page.records:
            held = self._catalog.object(wire.uid)
            at = held.record.place if held is not None and wire.place and _creation_known(held.record, known) else None
            while at is not None and at.parent and at.parent not in self._pinned:
                self._pinned.add(at.parent)
                above = self._catalog.object(at.parent)
                at = above.record.place if above is not None else None
        self._after = page.end if page.end < page.head else 0
        return page.end == page.head

    def _ask(self, peer: MemberId, now_ms: int) -> tuple[bool, list[Effect]]:
        known = _forgotten_by(self._exchange.meetings.met()[peer])
        if self._pinned is None or self._pins:
            self._pins = not self._pin(known)
            return False, []
        page = self._catalog.page(self._after, EMPTY, HELD_UIDS_MAX, PAGE_BYTES_MAX)
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
        # What was dropped stays known: else whoever has not heard of its deletion would bring it back (seed 29).
        self._catalog.commit(None, [SetMeta(OWED_META, b"1")], now_ms=now_ms)
        return True, []

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
        life = new_life(self._catalog, self._exchange.meetings.life_remembered, now_ms)
        self._know(EMPTY, [SetMeta(WHY_META, LOST), SetMeta(DROPPED_META, None), life], now_ms)
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
            self._drop([held.uid for held in found], now_ms, known=reduce(CNSet.union, shown, EMPTY))
            return
        self._know(self._catalog.recount().held, [SetMeta(DROPPED_META, b"1")], now_ms)

    def _drop(self, uids: Iterable[Uid], now_ms: int, *, known: CNSet | None = None, forgotten: bool = False) -> None:
        """`known`: what peers know; with these goes what lies beneath and is news to them: its parent would be asked
        for for ever. What is not was moved out since, and comes with its new place. `forgotten`: one of them has."""
        draft = Draft(self._catalog)
        before: dict[Uid, ObjectState | None] = {}
        waiting, pinned = list(uids), self._pinned if forgotten and self._pinned else frozenset()
        while waiting:
            uid = waiting.pop()
            state = draft.object(uid)
            if state is None or uid in before or uid in pinned:
                continue
            before[uid] = state
            if known is not None:
                below = draft.objects(draft.children(uid))
                waiting.extend(child.record.uid for child in below if not _creation_known(child.record, known))
        for uid in before:
            draft.drop(uid)
        slots = retree(draft, before.items())
        settle(draft, slots, ())
        owed = [SetMeta(OWED_META, b"1")] if forgotten and before else []
        self._catalog.commit(draft, owed, now_ms=now_ms)


def answer_held(catalog: Catalog, peer: MemberId, request: HeldRequest) -> Send:
    """Of which of these objects this catalog has no register, and nothing that lies in them."""
    held = {state.record.uid for state in catalog.objects(request.uids)}
    missing = [uid for uid in request.uids if uid not in held and not catalog.children(uid)]
    return Send(peer, NotHeld(correlation=request.correlation, uids=missing))


def _forgotten_by(link: Link) -> CNSet:
    """What a complete peer has known at some time: of an object made in it, it holds a register, or it was deleted."""
    return link.known.union(link.purged or EMPTY)


def _creation_known(held: Record, known: CNSet) -> bool:
    """Whether who knows `known` has heard of the object's creation; of an original, which has no CN of its creation, of
    any version that its registers are or have seen."""
    creation = created_by(held.uid)
    if creation is not None:
        return creation in known
    registers = [register for register in (held.place, held.content) if register is not None]
    seen = (Cn(*entry) for register in registers for entry in register.vector)
    return any(cn in known for cn in (*held.cns(), *seen))
