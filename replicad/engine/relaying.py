"""Questions about what is preserved that go through this member, to one that the asker has no link with.

*Theory of operation.* The asker writes the whole way into a Question (core.routes); each member on it passes it on to
the next one. The answer goes back from hand to hand, by what each noted when it passed the question on: from whom it
came, to whom it went. So nothing floods, nothing can go in circles, and nothing is passed back that was not asked for.

A way runs over the folder's own channel, so whoever is on it keeps the folder and is in its replica list: names and
reasons are told to nobody else. Each takes a question only from a member that may send in the folder, which is its
neighbour on the way, and only if the asker may, too. That the asker is who it is said to be is believed of those on the
way: each of them might ask the same for itself, and nothing that can be asked takes anything away.

Invariants:
1. A question that is noted ends with one answer, with NoWay when a link breaks, or in silence when the asker's time is
   out.
2. At most PASSED_MAX are noted, so at most as many answers, each of a message's size, are on their way through here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from replicad.core.effects import Effect, Send
from replicad.core.ids import MemberId
from replicad.core.messages import LINK_LOST, NO_LINK, TOO_MANY, Answer, NoWay, Question, encode_message
from replicad.errors import ProtocolError

PASSED_MAX, PASSED_NEIGHBOUR_MAX = 64, 16
"""Questions under way through this member; from one neighbour, so that none takes the places of the others. An answer
has 2 MiB at the most."""
BUDGET_MAX_MS = 600_000
"""An asker waits no longer for anything (engine.preserved_asking)."""

Key = tuple[bytes, int]
"""(asker, its correlation)."""


@dataclass(frozen=True, slots=True)
class _Passed:
    back: MemberId
    on: MemberId
    due_ms: int


class Relaying:
    """Of one folder. `links`: the members that this one is linked with now."""

    def __init__(
        self, own: MemberId, may_send: Callable[[MemberId], bool], links: Callable[[], Collection[MemberId]]
    ) -> None:
        self._own = bytes.fromhex(own)
        self._may_send = may_send
        self._links = links
        self._passed: dict[Key, _Passed] = {}

    @property
    def under_way(self) -> int:
        return len(self._passed)

    def arrived(self, peer: MemberId, question: Question) -> bool:
        """Whether a neighbour's question is for this member. Raises ProtocolError where it should not be here."""
        route = question.route
        if self._own not in route or route.index(self._own) == 0:
            raise ProtocolError("a question came to a member that it does not lead to")
        if route[route.index(self._own) - 1].hex() != peer:
            raise ProtocolError("a question came from a member that it does not come by")
        return route[-1] == self._own

    def pass_on(self, peer: MemberId, question: Question, now_ms: int) -> list[Effect]:
        """`peer` has sent it, and it is for another."""
        route = question.route
        if not self._may_send(route[0].hex()):
            return []  # as if it had asked us
        key = route[0], question.correlation
        on = route[route.index(self._own) + 1].hex()
        self._expire(now_ms)
        if on not in self._links():
            return [self._no_way(peer, key, NO_LINK)]
        from_peer = sum(passed.back == peer for passed in self._passed.values())
        if key in self._passed or len(self._passed) >= PASSED_MAX or from_peer >= PASSED_NEIGHBOUR_MAX:
            return [self._no_way(peer, key, TOO_MANY)]
        due_ms = now_ms + max(0, min(question.budget_ms, BUDGET_MAX_MS))
        self._passed[key] = _Passed(peer, on, due_ms)
        return [Send(on, question)]

    def pass_back(self, peer: MemberId, answer: Answer) -> list[Effect]:
        """What nobody has asked `peer` through this member is dropped."""
        key = answer.asker, answer.correlation
        passed = self._passed.get(key)
        if passed is None or passed.on != peer:
            return []
        del self._passed[key]
        return [Send(passed.back, answer)]

    def link_down(self, peer: MemberId) -> list[Effect]:
        out: list[Effect] = []
        for key, passed in list(self._passed.items()):
            if peer in (passed.on, passed.back):
                del self._passed[key]
            if peer == passed.on:
                out.append(self._no_way(passed.back, key, LINK_LOST))
        return out

    def clock_set_back(self, back_ms: int) -> None:
        self._passed = {
            key: _Passed(passed.back, passed.on, passed.due_ms - back_ms) for key, passed in self._passed.items()
        }

    def _expire(self, now_ms: int) -> None:
        """The asker has given up by now. Looked for only where another wants a place: a note takes 200 bytes."""
        for key, passed in list(self._passed.items()):
            if now_ms >= passed.due_ms:
                del self._passed[key]

    def _no_way(self, back: MemberId, key: Key, why: int) -> Send:
        told = encode_message(NoWay(member=self._own, why=why))
        return Send(back, Answer(asker=key[0], correlation=key[1], answered=told))
