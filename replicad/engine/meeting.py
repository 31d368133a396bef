"""Meeting a peer: the first message on a link, and what is judged of it (docs/safety.md, section 2; core.runs).

No record crosses a link before its peer's `Meet` has come. It is sent again until it is answered: a link's messages are
not lost, but nothing here stands on that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from replicad.catalog.changes import Peer, SetMeta, SetPeer
from replicad.catalog.store import Catalog
from replicad.core.cnset import EMPTY, CNSet
from replicad.core.effects import Effect, Send
from replicad.core.ids import MemberId
from replicad.core.messages import set_of
from replicad.core.messages_meeting import MARK_BYTES, Judged, Meet
from replicad.core.runs import Remembered, Run, follows, is_ahead, lacks_what_it_told, remember
from replicad.core.status_board import Known, shortened
from replicad.engine.exchange_link import Link, OwnState

LIFE_META = "safety.life"
GREET_AGAIN_MS = 5_000
"""Until a `Meet` that was not answered is sent again."""


def life_of(catalog: Catalog) -> int:
    life = catalog.meta(LIFE_META)
    assert life is not None, "a catalog that has not begun to live"
    return int(life)


def new_life(catalog: Catalog, remembered: int, now_ms: int) -> SetMeta:
    """For the commit with which it begins anew. `remembered`: the latest life that a peer has named."""
    before = catalog.meta(LIFE_META)
    return SetMeta(LIFE_META, b"%d" % max(now_ms, remembered + 1, int(before) + 1 if before is not None else 1))


def draw_mark(draw: Callable[[], float]) -> bytes:
    """Of a run."""
    return b"".join(int(draw() * 2**32).to_bytes(4, "big") for _ in range(MARK_BYTES // 4))


class Meetings:
    """Of one exchange and run. `links`: the exchange's own, by peer. `opened` and `closed` are told when records may
    cross a link, and when they may not any more."""

    def __init__(
        self,
        catalog: Catalog,
        run: Run,
        own_state: Callable[[], OwnState],
        links: Mapping[MemberId, Link],
        may_receive: Callable[[MemberId], bool],
        *,
        opened: Callable[[MemberId, list[Effect]], None],
        closed: Callable[[MemberId, int], None],
    ) -> None:
        self._catalog = catalog
        self.run = run
        self._own_state = own_state
        self._links = links
        self._may_receive = may_receive
        self._opened = opened
        self._closed = closed
        self.life_remembered = 0
        """The latest of this catalog's that a peer has named."""
        self.compared: dict[MemberId, CNSet] = {}
        """What a peer had purged when this catalog was last compared with what it holds: nothing that it has forgotten
        is held here. It stands for that one link, until all of it is known."""
        self.deserted = False
        """A peer is gone before it has taught all that it has forgotten."""
        self.mixed = False
        """Since something was compared, what a peer knows was taken over, and not yet what it has forgotten."""
        self.told_late = False
        """A peer knows that the founding ended without this member."""
        self.approved: set[MemberId] = set()
        """Peers that have found this run to follow from what they remember."""

    def greet(self, peer: MemberId, now_ms: int, out: list[Effect]) -> None:
        link = self._links[peer]
        if self._may_receive(peer):
            life = life_of(self._catalog)
            link.barred = link.barred or link.greeted_life not in (0, life)
            link.greeted_life = life
            out.append(Send(peer, self._greeting(peer, answered=link.judged)))
        link.greeted_ms, link.greeted_as = now_ms, self._catalog.replica

    def greet_anew(self, now_ms: int, out: list[Effect]) -> None:
        """This member has begun anew: every peer hears of it, and answers."""
        for peer, link in self._links.items():
            link.judged = False
            self.greet(peer, now_ms, out)

    def begins_anew(self, peer: MemberId, meet: Meet) -> bool:
        """Whether the peer is in another life than the one that is remembered of it."""
        kept = self._catalog.peer(peer)
        return kept is not None and kept.life not in (0, meet.life)

    def meet(self, peer: MemberId, meet: Meet, before: Known | None, now_ms: int, out: list[Effect]) -> None:
        """Take note of a peer's run. `before`: the last status of it. Owns its transaction."""
        judged = self._judge(peer, meet, before, now_ms)
        if judged is not None and self._may_receive(peer):
            out.append(Send(peer, judged))

    def judged(self, peer: MemberId, judged: Judged, now_ms: int, out: list[Effect]) -> bool:
        """The peer's answer: False where it finds this catalog put back. Owns its transaction."""
        link = self._links[peer]
        if link.barred and judged.of not in (0, life_of(self._catalog)):
            return True  # of an earlier life: the answer for this one is still waited for
        first, link.judged = not link.judged, True
        if link.barred:
            link.barred = False
            self._open_or_close(peer, now_ms, out)
        if link.greeted_as != self._catalog.replica:
            return True  # it was found to be put back since, and has drawn the consequence
        if not self._take_judgement(peer, judged, now_ms):
            return False
        if first:
            self.greet(peer, now_ms, out)  # so that it knows: only then does it forget the run before
        return True

    def too_late(self, meet: Meet) -> Judged:
        """The answer to one that would bring originals after the end of the founding: it is as if it had not met."""
        return Judged(
            session=meet.session, mark=meet.mark, put_back=False, life=0, knows=False, of=meet.life, late=True
        )

    # -- whether records may cross

    def purged(self, peer: MemberId, purged: CNSet, now_ms: int, out: list[Effect]) -> None:
        """What the peer has forgotten."""
        self._links[peer].purged = purged
        self._open_or_close(peer, now_ms, out)

    def reopen(self, now_ms: int, out: list[Effect]) -> None:
        """This member's own state, or what it has purged, is another."""
        for peer in sorted(self._links):
            self._open_or_close(peer, now_ms, out)

    def parted(self, peer: MemberId) -> None:
        """The link is gone, or the peer is not complete any more: it does not teach what it has forgotten."""
        self.deserted = self.deserted or peer in self.untaught()
        self.compared.pop(peer, None)

    def met(self) -> dict[MemberId, Link]:
        """Connected peers that have met this member."""
        return {peer: link for peer, link in self._links.items() if link.purged is not None}

    def judged_by(self) -> set[MemberId]:
        """Connected peers that have judged this member."""
        return {peer for peer, link in self._links.items() if link.judged}

    def learns_from(self, peer: MemberId) -> bool:
        """Whether its records are taken: while not all is known that a peer with which this catalog was compared has
        forgotten, that one's alone, since others may still have it."""
        untaught = self.untaught()
        return not untaught or peer in untaught

    def untaught(self) -> list[MemberId]:
        """The peer with which this catalog was compared, until all is known that it had forgotten then."""
        if not self.compared:
            return []
        covered = self._catalog.known.union(self._own_state().purged)
        return [peer for peer, one in self.compared.items() if not covered.contains_all(one)]

    def lagging(self) -> set[MemberId]:
        """Connected peers that are stale towards this member, by what they have told."""
        purged, met = self._own_state().purged, self.met()
        return {p for p, link in met.items() if not link.known.union(link.purged or EMPTY).contains_all(purged)}

    def stale_towards(self) -> list[MemberId]:
        """Connected peers that have forgotten deletions which this catalog does not know, though it knows anything."""
        purged = {peer: link.purged for peer, link in self._links.items() if link.purged}
        if not purged or not self._catalog.known:
            return []
        known, compared = self._catalog.known.union(self._own_state().purged), self.compared
        return [p for p, one in purged.items() if not known.union(compared.get(p, EMPTY)).contains_all(one)]

    def _open_or_close(self, peer: MemberId, now_ms: int, out: list[Effect]) -> None:
        """Records cross a link while neither side has to find out first what the other has forgotten."""
        link = self._links[peer]
        opens = link.purged is not None and not link.barred and not self._own_state().compares
        opens = opens and peer not in self.stale_towards()
        if opens and not link.open:
            link.open = True
            self._opened(peer, out)
        elif link.open and not opens:
            link.close()
            self._closed(peer, now_ms)

    # -- runs

    def _greeting(self, peer: MemberId, *, answered: bool) -> Meet:
        state, kept = self._own_state(), self._catalog.peer(peer) or Peer(peer)
        known = shortened(self._catalog.known) if not state.doubts else EMPTY
        return Meet(
            replica=self._catalog.replica,
            life=life_of(self._catalog),
            session=self.run.number,
            mark=self.run.mark,
            last=kept.told_session,
            last_mark=kept.told_mark,
            begun=state.begun,
            known=known.encode(),
            whole=known == self._catalog.known,
            purged=state.purged.encode(),
            answered=answered,
            complete=state.complete,
            founds=state.founds,
        )

    def _judge(self, peer: MemberId, meet: Meet, before: Known | None, now_ms: int) -> Judged | None:
        """None where the peer waits for no answer."""
        shown, last = Run(meet.session, meet.mark), Run(meet.last, meet.last_mark)
        kept = self._catalog.peer(peer) or Peer(peer)
        confirmed, offered = Run(kept.session, kept.session_mark), Run(kept.next_session, kept.next_session_mark)
        remembered = Remembered(kept.life, confirmed, offered)
        same = meet.life == remembered.life and meet.whole and before is not None and before.whole
        lacks = same and lacks_what_it_told(before, shown.number, set_of(meet.known))
        put_back = meet.begun and (lacks or not follows(remembered, meet.life, shown, last))
        after = remembered if put_back else remember(remembered, meet.life, shown, last)
        if after != remembered:
            row = msgspec.structs.replace(
                kept,
                life=after.life,
                status=kept.status if kept.life in (0, after.life) else b"",
                session=after.confirmed.number,
                session_mark=after.confirmed.mark,
                next_session=after.offered.number,
                next_session_mark=after.offered.mark,
            )
            self._catalog.commit(None, [SetPeer(row)], now_ms=now_ms)
        if meet.answered:
            return None
        knows = not is_ahead(remembered, meet.life, last)
        return Judged(
            session=shown.number, mark=shown.mark, put_back=put_back, life=remembered.life, knows=knows, of=meet.life
        )

    def _take_judgement(self, peer: MemberId, judged: Judged, now_ms: int) -> bool:
        if Run(judged.session, judged.mark) != self.run:
            return True  # of an earlier run
        self.life_remembered = max(self.life_remembered, judged.life)
        if judged.put_back:
            self.approved.discard(peer)
            return False
        kept = self._catalog.peer(peer) or Peer(peer)
        if (kept.told_session, kept.told_mark) != (self.run.number, self.run.mark):
            row = msgspec.structs.replace(kept, told_session=self.run.number, told_mark=self.run.mark)
            self._catalog.commit(None, [SetPeer(row)], now_ms=now_ms)
        if judged.knows:
            self.approved.add(peer)
        return True
