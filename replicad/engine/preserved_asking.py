"""The asker's side of questions about what is preserved: whom to ask, by which way, and what comes of it.

A *list* asks every member of the folder, page by page; a *restore* asks one to bring a file back. A member that is
linked is asked directly, another through others (core.routes, engine.relaying). Where a way turns out to be broken, the
next one is tried with the edge left out; nobody is asked to bring a file back again if it may have heard it before.

A list is bounded as a whole, however many members the group has: in rows, in bytes of paths and reasons, in time. The
members are asked in turn, a page each, at most UNDER_WAY_MAX at a time, so that many files on one do not keep out a few
on another; what does not fit is counted as left off. Every member is named that did not tell all that it keeps.

Whatever comes from a member that cannot be read is that member's fault: it is named, and the link that it came over,
which may be a relay's, stays.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from replicad.core.effects import Effect, Send
from replicad.core.ids import MemberId
from replicad.core.messages import (
    LINK_LOST,
    NO_LINK,
    TOO_MANY,
    Answer,
    Asked,
    NoWay,
    PreservedPage,
    PreservedRequest,
    PreservedRow,
    Question,
    Restore,
    RestoreReply,
    decode_message,
    encode_message,
)
from replicad.core.routes import Edge, Route, routes
from replicad.errors import OperatorError, ProtocolError

ROWS_MAX = 20_000
"""Of one member in one list: 10 MB, and more than anybody reads."""
LISTED_ROWS_MAX = 40_000
"""Of all members in one list: the answer has some 20 MB, and what it is made of some 100."""
LISTED_BYTES_MAX = 32 * 1_048_576
"""Of the paths and reasons in one list: rows may have 64 KiB each."""
UNDER_WAY_MAX = 8
"""Pages asked for at a time, for all lists: 16 MiB of answers, and half of what a relay takes from one neighbour."""
ASKED_MAX = 64
"""Questions under way; an operator has a few."""
LISTS_MAX = 4
"""Of those: each may hold the rows of a whole list."""
ANSWER_MS = 10_000
"""In which a member sends a page."""
LIST_MS = 40_000
"""In which a list is made: who asks for it waits for a minute."""
RESTORE_MS = 600_000
"""In which a member has brought a file back: it may copy gigabytes."""
TRIES_MAX = 4
"""Ways tried to one member for one page."""
CORRELATION_BYTES = 6
"""Of the random number that correlations count from: an answer to an earlier run of the daemon is not taken for one."""

NOT_CONNECTED = "it is not connected"
NO_ANSWER = "no answer within %d s"
LINK_BROKE = "the link to it broke"
NOT_READABLE = "its answer cannot be read"
TOO_BUSY = "too many questions are on their way there"
TIME_OUT = "the time was out before all of it was told"
MAYBE = ": it may have been brought back all the same"


class Failure(NamedTuple):
    """`through`: those in between, where it was asked through others."""

    reason: str
    through: Route = ()


@dataclass
class Listing:
    """What a list came to. `left_off`: members that keep more than is listed, and how many files (None: not known)."""

    rows: dict[MemberId, list[PreservedRow]] = field(default_factory=dict)
    failed: dict[MemberId, Failure] = field(default_factory=dict)
    left_off: dict[MemberId, int | None] = field(default_factory=dict)


@dataclass(slots=True)
class _Turn:
    """One thing to ask one member."""

    member: MemberId
    asked: Asked
    tries: int = 0


@dataclass
class _Inquiry:
    members: tuple[MemberId, ...]
    due_ms: int
    waiting: deque[_Turn]
    lists: bool = False
    """It is a list; else a restore."""
    ways: dict[MemberId, Route] | None = None
    """None: to be looked for anew."""
    rows_left: int = 0
    bytes_left: int = 0
    broken: set[Edge] = field(default_factory=set)
    listing: Listing = field(default_factory=Listing)
    reply: RestoreReply | None = None
    failure: Failure | None = None

    @property
    def full(self) -> bool:
        return self.rows_left <= 0 or self.bytes_left <= 0


@dataclass(frozen=True, slots=True)
class _Sent:
    ticket: int
    turn: _Turn
    route: Route
    due_ms: int


class Asking:
    """Of one folder. `links()` gives a function from a member to its links: by its status, or this member's now."""

    def __init__(
        self,
        own: MemberId,
        links: Callable[[], Callable[[MemberId], Iterable[MemberId]]],
        new_bytes: Callable[[int], bytes],
    ) -> None:
        self._own = own
        self._links = links
        self._new_bytes = new_bytes
        self._inquiries: dict[int, _Inquiry] = {}
        self._sent: dict[int, _Sent] = {}
        """By correlation."""
        self._last = 0
        """Ticket or correlation: of one row of numbers."""

    # -- the operator's side

    def list_all(
        self,
        members: Iterable[MemberId],
        own_rows: Callable[[int, int], PreservedPage],
        now_ms: int,
        *,
        rows_max: int | None = None,
    ) -> tuple[int, list[Effect]]:
        """Ask these, and this member (`own_rows(rows, bytes)`), which has half of the list at the most.

        Raises OperatorError.
        """
        others = tuple(sorted({*members} - {self._own}))
        rows_left = min(rows_max or LISTED_ROWS_MAX, LISTED_ROWS_MAX)
        if sum(inquiry.lists for inquiry in self._inquiries.values()) >= LISTS_MAX:
            raise OperatorError("too many lists of preserved files are being made: try again")
        turns = deque(_Turn(member, PreservedRequest(after=0)) for member in others)
        inquiry = _Inquiry(
            others, now_ms + LIST_MS, turns, lists=True, rows_left=rows_left, bytes_left=LISTED_BYTES_MAX
        )
        ticket = self._begin(inquiry)
        own = own_rows(min(ROWS_MAX, max(1, rows_left // 2)), LISTED_BYTES_MAX // 2)
        self._take_rows(inquiry, self._own, own)
        return ticket, self.work(now_ms)

    def listing(self, ticket: int, now_ms: int) -> Listing | None:
        """None while somebody's answer is under way. Then `forget` it."""
        self._expire(now_ms)
        return None if self._open(ticket) else self._inquiries[ticket].listing

    def restore_at(
        self, member: MemberId, number: int, to: bytes, members: Iterable[MemberId], now_ms: int
    ) -> tuple[int, list[Effect]]:
        """Have another member bring back one of its own. `members`: through whom it may be asked."""
        others = tuple(sorted({*members, member} - {self._own}))
        turn = _Turn(member, Restore(number=number, to=to))
        return self._begin(_Inquiry(others, now_ms + RESTORE_MS, deque([turn]))), self.work(now_ms)

    def restored(self, ticket: int, now_ms: int) -> RestoreReply | Failure | None:
        """None while it is under way. Then `forget` it."""
        self._expire(now_ms)
        inquiry = self._inquiries[ticket]
        return inquiry.reply or inquiry.failure

    def forget(self, ticket: int) -> None:
        self._inquiries.pop(ticket, None)
        self._sent = {number: sent for number, sent in self._sent.items() if sent.ticket != ticket}

    # -- the replica's side

    def answered(self, peer: MemberId, answer: Answer, now_ms: int) -> list[Effect]:
        """What is not waited for, or comes from another than was asked, is dropped."""
        sent = self._sent.get(answer.correlation)
        if sent is None or sent.route[1] != peer:
            return []
        del self._sent[answer.correlation]
        inquiry = self._inquiries[sent.ticket]
        try:
            told = decode_message(answer.answered)
        except ProtocolError:
            told = None
        match told, sent.turn.asked:
            case NoWay(), _:
                at = told.member.hex()
                place = sent.route.index(at) if at in sent.route[:-1] else 0
                inquiry.broken.add((sent.route[place], sent.route[place + 1]))
                self._no_way(inquiry, sent, told.why)
            case PreservedPage(), PreservedRequest(after=after) if not told.rows or told.rows[0].number > after:
                self._take_page(inquiry, sent.turn, told)
            case RestoreReply(), Restore():
                inquiry.reply = told
            case _:
                maybe = MAYBE if isinstance(sent.turn.asked, Restore) else ""
                self._fail(inquiry, sent.turn, Failure(NOT_READABLE + maybe, sent.route[1:-1]))
        return self.work(now_ms)

    def link_down(self, peer: MemberId, now_ms: int) -> list[Effect]:
        """A link has ended; there may be a new one by now."""
        for inquiry in self._inquiries.values():
            inquiry.ways = None
        for number, sent in list(self._sent.items()):
            if sent.route[1] == peer:
                del self._sent[number]
                self._no_way(self._inquiries[sent.ticket], sent, LINK_LOST)
        return self.work(now_ms)

    def work(self, now_ms: int) -> list[Effect]:
        """Ask whom it is the turn of."""
        self._expire(now_ms)
        out: list[Effect] = []
        for ticket, inquiry in self._inquiries.items():
            while inquiry.waiting and (self._pages < UNDER_WAY_MAX or isinstance(inquiry.waiting[0].asked, Restore)):
                out += self._send(ticket, inquiry, inquiry.waiting.popleft(), now_ms)
        return out

    def next_due_ms(self) -> int | None:
        due = [sent.due_ms for sent in self._sent.values()]
        due += [inquiry.due_ms for inquiry in self._inquiries.values() if inquiry.waiting]
        return min(due, default=None)

    def clock_set_back(self, back_ms: int) -> None:
        for inquiry in self._inquiries.values():
            inquiry.due_ms -= back_ms
        self._sent = {
            number: _Sent(sent.ticket, sent.turn, sent.route, sent.due_ms - back_ms)
            for number, sent in self._sent.items()
        }

    # -- inside

    def _begin(self, inquiry: _Inquiry) -> int:
        if len(self._inquiries) >= ASKED_MAX:
            raise OperatorError("too many questions about preserved files are under way: try again")
        if not self._last:
            self._last = int.from_bytes(self._new_bytes(CORRELATION_BYTES), "big")
        self._last += 1
        self._inquiries[self._last] = inquiry
        return self._last

    def _open(self, ticket: int) -> bool:
        return bool(self._inquiries[ticket].waiting) or any(sent.ticket == ticket for sent in self._sent.values())

    @property
    def _pages(self) -> int:
        return sum(isinstance(sent.turn.asked, PreservedRequest) for sent in self._sent.values())

    def _way(self, inquiry: _Inquiry, member: MemberId) -> Route | None:
        if inquiry.ways is None:
            inquiry.ways = routes(self._own, inquiry.members, self._links(), inquiry.broken)
        return inquiry.ways.get(member)

    def _send(self, ticket: int, inquiry: _Inquiry, turn: _Turn, now_ms: int) -> list[Effect]:
        route = self._way(inquiry, turn.member)
        if route is None:
            self._fail(inquiry, turn, Failure(NOT_CONNECTED))
            return []
        budget_ms = RESTORE_MS if isinstance(turn.asked, Restore) else ANSWER_MS
        due_ms = min(now_ms + budget_ms, inquiry.due_ms)
        self._last += 1
        self._sent[self._last] = _Sent(ticket, turn, route, due_ms)
        question = Question(
            route=[bytes.fromhex(member) for member in route],
            correlation=self._last,
            budget_ms=due_ms - now_ms,
            asked=encode_message(turn.asked),
        )
        return [Send(route[1], question)]

    def _take_page(self, inquiry: _Inquiry, turn: _Turn, page: PreservedPage) -> None:
        if self._take_rows(inquiry, turn.member, page):
            inquiry.waiting.append(_Turn(turn.member, PreservedRequest(after=page.rows[-1].number)))
        if inquiry.full:
            self._cut_off(inquiry)

    def _take_rows(self, inquiry: _Inquiry, member: MemberId, page: PreservedPage) -> bool:
        """What of it has room; returns whether the member is to be asked for more."""
        rows = inquiry.listing.rows.setdefault(member, [])
        taken = 0
        for row in page.rows:
            if inquiry.full or len(rows) >= ROWS_MAX:
                break
            rows.append(row)
            taken += 1
            inquiry.rows_left -= 1
            inquiry.bytes_left -= len(row.path) + len(row.why)
        if taken == len(page.rows) and not page.more:
            return False
        if member != self._own and not inquiry.full and len(rows) < ROWS_MAX:
            return True
        inquiry.listing.left_off[member] = max(1, page.files - len(rows))
        return False

    def _cut_off(self, inquiry: _Inquiry) -> None:
        """The list is full: nobody is asked any more, and who has more to tell is named."""
        for turn in inquiry.waiting:
            inquiry.listing.left_off.setdefault(turn.member, None)
        inquiry.waiting.clear()

    def _no_way(self, inquiry: _Inquiry, sent: _Sent, why: int) -> None:
        """The way taken has proved broken. Another one is tried, unless what was asked might be done twice."""
        inquiry.ways = None
        turn = sent.turn
        turn.tries += 1
        heard = isinstance(turn.asked, Restore) and why not in (NO_LINK, TOO_MANY)
        if not heard and turn.tries < TRIES_MAX and self._way(inquiry, turn.member) is not None:
            inquiry.waiting.appendleft(turn)
            return
        reason = NOT_CONNECTED if why == NO_LINK else TOO_BUSY if why == TOO_MANY else LINK_BROKE
        self._fail(inquiry, turn, Failure(reason + MAYBE if heard else reason, sent.route[1:-1]))

    def _fail(self, inquiry: _Inquiry, turn: _Turn, failure: Failure) -> None:
        if isinstance(turn.asked, Restore):
            inquiry.failure = failure
        else:
            inquiry.listing.failed[turn.member] = failure

    def _expire(self, now_ms: int) -> None:
        for number, sent in list(self._sent.items()):
            if now_ms < sent.due_ms:
                continue
            del self._sent[number]
            inquiry, through = self._inquiries[sent.ticket], sent.route[1:-1]
            if isinstance(sent.turn.asked, Restore):
                reason = NO_ANSWER % (RESTORE_MS // 1000) + MAYBE
            else:
                reason = NO_ANSWER % (ANSWER_MS // 1000) if now_ms < inquiry.due_ms else TIME_OUT
            self._fail(inquiry, sent.turn, Failure(reason, through))
        for inquiry in self._inquiries.values():
            while inquiry.waiting and now_ms >= inquiry.due_ms:
                self._fail(inquiry, inquiry.waiting.popleft(), Failure(TIME_OUT))
