"""The course of a member in a folder: which phase it is in (engine.phases), and what leads to the next one.

A founder scans; who joins learns and claims; who is stale, or was put back, compares first (engine.rejoining); all end
by taking part. Each phase is in the catalog, so that a crash goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from replicad.catalog.changes import Change as CatalogChange
from replicad.catalog.changes import RenewReplica, SetReplicaOwner
from replicad.catalog.store import Catalog
from replicad.core.effects import Changed, Effect, Received, Report
from replicad.core.ids import MemberId
from replicad.core.messages_meeting import HeldRequest, NotHeld
from replicad.engine.caution import Caution
from replicad.engine.exchange import Exchange
from replicad.engine.folder_events import Surroundings
from replicad.engine.height import HeightMark
from replicad.engine.holds import forget_some
from replicad.engine.joining import Claim, nobody_to_learn_from
from replicad.engine.latecomer import Latecomer
from replicad.engine.phases import CLEARING, LOST, PRIMARY, PUT_BACK, STALE, Phase, merges, phase_changes
from replicad.engine.rejoining import Rejoining, answer_held
from replicad.engine.returning import Returning
from replicad.engine.root_watch import RootWatch
from replicad.engine.speaking import Speaking
from replicad.engine.tombstones import Tombstones
from replicad.engine.unclaimed import Unclaimed
from replicad.files.fs import FileSystem

WAS_PUT_BACK = "it was put back, and its disk is held against what the others know"
IS_STALE = "it was away for longer than deletions are remembered: its disk is held against what the others know"
IS_LATE = "the folder was founded before this member was in the group: its disk is held against what the others know"
NOBODY_IS_LEFT = "nobody is left who had all of the folder: it is founded again, from the disks of those who keep it"
NOBODY_MS = 10_000
"""After so long one that learns looks whether there is anyone to learn from: longer than links take to come up."""


class Course:
    """Of one folder. `entered` is told of each new phase, `claimed` when the disk has been claimed."""

    def __init__(
        self,
        phase: Phase,
        catalog: Catalog,
        fs: FileSystem,
        own: MemberId,
        exchange: Exchange,
        tombstones: Tombstones,
        root: RootWatch,
        around: Surroundings,
        mark: HeightMark,
        *,
        entered: Callable[[], None],
        claimed: Callable[[], None],
        now_ms: int,
    ) -> None:
        self.phase = phase
        self._catalog = catalog
        self._fs = fs
        self._own = own
        self._exchange = exchange
        self._tombstones = tombstones
        self._root = root
        self._around = around
        self._mark = mark
        self._entered = entered
        self._claimed = claimed
        self._claim: Claim | Speaking | None = None
        self._nobody_ms = now_ms + NOBODY_MS
        """When one that learns looks next whether there is anyone to learn from."""
        self._waits_for = ""
        """As of the last look."""
        self.rejoining = Rejoining(catalog, exchange, tombstones, own, around.circle, now_ms)
        self.latecomer = Latecomer(catalog, own, around.circle)
        self.unclaimed = Unclaimed(catalog)
        self.returning = Returning(exchange, tombstones, around.circle, lambda: self.compares)
        self._caution = Caution(catalog, lambda: exchange.meetings.approved, around.circle, now_ms)

    @property
    def takes_part(self) -> bool:
        return self.phase is Phase.TAKING_PART

    @property
    def compares(self) -> bool:
        return self.phase is Phase.COMPARING

    @property
    def why(self) -> bytes:
        """Why it rejoins (engine.phases); empty where it does not."""
        return self.rejoining.why

    @property
    def waits_for(self) -> str:
        """Why it cannot go on with learning, and what an operator can do."""
        return self._waits_for if self.phase is Phase.LEARNING else ""

    @property
    def serves(self) -> bool:
        """Whether others are told what is held here. In the first scan that is not decided yet; and what one holds that
        was put back, or has lost everything, may be dead, until it has learned."""
        return self.phase is not Phase.FOUNDING and self.why not in (PUT_BACK, CLEARING, LOST)

    @property
    def cautious(self) -> bool:
        """Nothing may be originated yet: it may have been put back."""
        return self._caution.waits

    def next_due_ms(self, now_ms: int) -> int | None:
        due = [self._caution.next_due_ms()]
        if self.phase is Phase.FORGETTING and not self._root.fault:
            due.append(now_ms)
        if self.phase is Phase.CLAIMING and not self._root.fault:
            due.append(self.returning.next_due_ms() or now_ms)
        if self.takes_part:
            due.append(self.returning.next_due_ms())
        if self.phase is Phase.LEARNING:
            due.append(self._nobody_ms)
        if self.compares:
            due.append(self.rejoining.next_due_ms())
        return min((at for at in due if at is not None), default=None)

    def clock_set_back(self, now_ms: int) -> None:
        self.rejoining.clock_set_back(now_ms)
        self._caution.clock_set_back(now_ms)
        self.latecomer.clock_set_back()
        self.returning.clock_set_back()
        self._nobody_ms = min(self._nobody_ms, now_ms + NOBODY_MS)

    # -- what happens

    def start(self, now_ms: int) -> list[Effect]:
        """Before anything else is done with the catalog."""
        if self._mark.below:
            return self._rejoin(PUT_BACK, f"its catalog is older than the mark in the home: {WAS_PUT_BACK}", now_ms)
        if self._mark.moved:
            self._renew_replica(now_ms)
        if self.latecomer.look(now_ms):
            return self._rejoin(CLEARING, IS_LATE, now_ms)
        if self.rejoining.owes:
            self.rejoining.again(now_ms)
            self.phase = Phase.COMPARING
        return []

    def handle(self, event: Received, now_ms: int) -> list[Effect]:
        """A question of what is held here, or the answer to one."""
        match event.message:
            case HeldRequest() as request:
                return [answer_held(self._catalog, event.peer, request)]
            case NotHeld() as answer:
                self.rejoining.answered(event.peer, answer, now_ms)
        return []

    def woken(self, now_ms: int) -> None:
        """Who is in contact has changed."""
        self.rejoining.woken(now_ms)

    def scanned(self, now_ms: int) -> None:
        """The whole disk was looked at."""
        self.unclaimed.ask_all()
        if self.phase is Phase.FOUNDING:
            self._enter(Phase.TAKING_PART, now_ms)
        elif self.why == PRIMARY:
            self._catalog.commit(None, self.rejoining.ending(), now_ms=now_ms)

    def after_exchange(self, now_ms: int) -> list[Effect]:
        """A message was taken in."""
        if self._is_late(now_ms):
            return self._rejoin(CLEARING, IS_LATE, now_ms)
        out: list[Effect] = []
        if self.phase is Phase.LEARNING:
            out += self._learn_of_purged(now_ms)
        if self.phase is Phase.LEARNING:
            out += self._learned(now_ms)
        if self._exchange.put_back and self.why != PUT_BACK:
            out += self._rejoin(PUT_BACK, WAS_PUT_BACK, now_ms)
        elif self.takes_part:
            out += self._take_over_purged(now_ms)
        if self.takes_part:
            out += self.returning.look(now_ms)
        if self.compares:
            self.rejoining.woken(now_ms)
        return out

    def work(self, now_ms: int) -> list[Effect]:
        """A piece of what the phase demands."""
        out: list[Effect] = []
        if self._caution.over(now_ms):
            self._renew_replica(now_ms)
            out.append(Changed())
        if self.phase is Phase.LEARNING:
            out += self._learn_of_purged(now_ms)
        if self.phase is Phase.LEARNING:
            out += self._learned(now_ms)
        if self.compares:
            over, sent = self.rejoining.work(now_ms)
            out += sent
            if over:  # who joins has nothing to forget
                self._enter(Phase.FORGETTING if self.why else Phase.LEARNING, now_ms)
                out += self._exchange.reopen(now_ms, anew=self.why == LOST)
        if self._root.fault:
            return out
        if self.phase is Phase.FORGETTING and forget_some(self._catalog, now_ms):
            self._enter(Phase.LEARNING if self.why else Phase.CLAIMING, now_ms)
        if self.phase is Phase.CLAIMING:
            out += self._claim_some(now_ms)
        if self.takes_part:
            out += self.returning.look(now_ms)
        return out

    # -- from one phase to the next

    def _learn_of_purged(self, now_ms: int) -> list[Effect]:
        """Before anything is known, what peers have forgotten is no concern here; after that it may be held here."""
        if self.rejoining.deserted:
            self.rejoining.again(now_ms)
            self.phase = Phase.COMPARING
            return [Changed(), *self._exchange.reopen(now_ms, anew=True)]
        taught = self.rejoining.take_over_compared(now_ms)
        if taught and not self._catalog.known:
            self._learn_first(now_ms)
        elif self.rejoining.must_compare():
            self.rejoining.compare_again(now_ms)
            self._enter(Phase.COMPARING, now_ms)
            return [Changed(), *self._exchange.reopen(now_ms)]
        return []

    def _learn_first(self, now_ms: int) -> None:
        met = self._exchange.meetings.met()
        forgetful = [peer for peer, link in met.items() if link.purged and link.complete]
        if forgetful:
            self.rejoining.learn_first_from(min(forgetful), now_ms)

    def _take_over_purged(self, now_ms: int) -> list[Effect]:
        """What peers have forgotten, and is known here; or else this member is stale."""
        for link in self._exchange.meetings.met().values():
            if link.purged and self._tombstones.covers(link.purged):
                self._tombstones.take_over(link.purged, now_ms)
        ahead = self.rejoining.ahead()
        if self.latecomer.unsettled:
            ahead &= self._exchange.meetings.judged_by()  # the others would say that it came too late
        return self._rejoin(STALE, IS_STALE, now_ms) if ahead else []

    def _rejoin(self, why: bytes, text: str, now_ms: int) -> list[Effect]:
        self.rejoining.begin(why, self._around.new_replica(), now_ms)
        self.phase, self._claim = Phase.COMPARING, None
        return [Report(0, text), Changed(), *self._exchange.reopen(now_ms, anew=True)]

    def _is_late(self, now_ms: int) -> bool:
        told, self._exchange.meetings.told_late = self._exchange.meetings.told_late, False
        return self.latecomer.look(now_ms, told=told)

    def _renew_replica(self, now_ms: int) -> None:
        replica = self._around.new_replica()
        self._catalog.commit(None, [RenewReplica(replica), SetReplicaOwner(replica, self._own)], now_ms=now_ms)

    def _learned(self, now_ms: int) -> list[Effect]:
        """Rule 11: what a complete member knows has been taken in; or there is none to learn from."""
        looks = now_ms >= self._nobody_ms
        self._nobody_ms = now_ms + NOBODY_MS if looks else self._nobody_ms
        if self._exchange.any_unsettled or self._root.fault:
            return []
        if self.rejoining.owes:
            return []  # who has taught it all that the peers have forgotten
        statuses = self._exchange.statuses()
        stale = self._exchange.meetings.stale_towards()
        for peer in self._exchange.connected():
            known = statuses.get(peer)
            if (
                peer not in stale
                and known is not None
                and known.direct  # one that is remembered may be of before it was put back as well
                and known.status.complete
                and self._catalog.known.contains_all(known.known)
            ):
                self._enter(Phase.CLAIMING, now_ms)
                return []
        if self.why == PRIMARY:
            if looks and not self._exchange.any_complete():
                self._enter(Phase.CLAIMING, now_ms)
        elif self.rejoining.nobody_is_complete():
            return self._found_again(now_ms)
        return self._say_why_it_waits() if looks and self.phase is Phase.LEARNING else []

    def _say_why_it_waits(self) -> list[Effect]:
        before, circle = self._waits_for, self._around.circle()
        teaches = self._exchange.any_complete() or self.why == PRIMARY
        self._waits_for = "" if teaches else nobody_to_learn_from(circle, self._exchange.meetings.met())
        if self._waits_for == before:
            return []
        return [Changed(), *([Report(0, self._waits_for)] if self._waits_for and not before else [])]

    def _found_again(self, now_ms: int) -> list[Effect]:
        """Each from its own disk, with nothing in the catalog."""
        if not self.why:
            return self._rejoin(CLEARING, NOBODY_IS_LEFT, now_ms)
        if self.why == LOST and not self._catalog.known:
            self.unclaimed.begin()  # the disks speak
            self._enter(Phase.FOUNDING, now_ms, self.rejoining.ending())
        else:
            self.rejoining.clear(now_ms)
            self.phase = Phase.COMPARING
        return []

    def _claim_some(self, now_ms: int) -> list[Effect]:
        if self._claim is None:
            speaks = self.why == PRIMARY
            self.unclaimed.begin()
            merge = merges(self._catalog)
            self._claim = (
                Speaking(self._catalog, self._fs, self.unclaimed)
                if speaks
                else Claim(self._catalog, self._fs, self.unclaimed, merge=merge)
            )
        if not self._claim.step(now_ms):
            return []
        asked = self.returning.look(now_ms)
        if self.why and self.returning.holds_up(now_ms):
            # It is living again before it takes part: else what others forget meanwhile makes it stale at once.
            return self._rejoin(STALE, IS_STALE, now_ms) if self.returning.caught_up is False else asked
        claim, self._claim = self._claim, None
        # Others have met it as one that was not complete: those that are stale towards it may compare with it now.
        met = bool(self.why) or bool(self._exchange.meetings.lagging())
        # The disk of a primary has spoken when it has been looked at whole (`scanned`).
        self._enter(Phase.TAKING_PART, now_ms, self.rejoining.ending() if self.why != PRIMARY else ())
        self._claimed()
        out = self._exchange.reopen(now_ms, anew=True) if met else []
        return [Report(0, claim.summary), Changed(), *out, *self._exchange.after_commit(now_ms)]

    def _enter(self, phase: Phase, now_ms: int, changes: Sequence[CatalogChange] = ()) -> None:
        self.phase, self._waits_for = phase, ""
        self._catalog.commit(None, [*phase_changes(phase), *changes, *self.unclaimed.changes()], now_ms=now_ms)
        self._entered()
