"""The asker's side of questions about what is preserved (engine.preserved_asking): ways, turns, bounds, ends."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable

import pytest

from replicad.core.effects import Effect, Send
from replicad.core.messages import (
    LINK_LOST,
    NO_LINK,
    TOO_MANY,
    Answer,
    Message,
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
from replicad.engine import preserved_asking
from replicad.engine.preserved_asking import (
    ANSWER_MS,
    ASKED_MAX,
    LINK_BROKE,
    LIST_MS,
    LISTED_BYTES_MAX,
    LISTED_ROWS_MAX,
    LISTS_MAX,
    MAYBE,
    NO_ANSWER,
    NOT_CONNECTED,
    NOT_READABLE,
    RESTORE_MS,
    ROWS_MAX,
    TIME_OUT,
    TOO_BUSY,
    UNDER_WAY_MAX,
    Asking,
    Failure,
    Listing,
)
from replicad.errors import OperatorError

PAGE = 500


def member(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def row(number: int, path: bytes = b"path") -> PreservedRow:
    return PreservedRow(
        number=number, pre_existing=False, path=path, kind=1, size=1, digest=b"", replica=0, winner=0, when_ms=1, why=""
    )


class Keeper:
    """A member that keeps so many files."""

    def __init__(self, files: int, path: bytes = b"path") -> None:
        self.files = files
        self.path = path

    def page(self, after: int, rows_max: int = PAGE) -> PreservedPage:
        last = min(self.files, after + rows_max)
        rows = [row(number, self.path) for number in range(after + 1, last + 1)]
        return PreservedPage(rows=rows, more=last < self.files, files=self.files)


class World:
    """`pairs`: links as members tell of them. The asker is `a`."""

    def __init__(self, pairs: str, keepers: dict[str, Keeper] | None = None) -> None:
        self.links: dict[str, set[str]] = {}
        for pair in pairs.split():
            one, other = map(member, pair)
            self.links.setdefault(one, set()).add(other)
            self.links.setdefault(other, set()).add(one)
        self.names = {member(name): name for pair in pairs.split() for name in pair}
        self.keepers = keepers or {}
        self.asking = Asking(
            member("a"), lambda: lambda one: self.links.get(one, set()), lambda count: bytes(count - 1) + b"\x07"
        )
        self.now_ms = 0
        self.sent: list[tuple[str, Question]] = []
        """(the route's names, the question), still to be answered."""
        self.asked = 0
        self.most_under_way = 0

    def take(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            assert isinstance(effect, Send)
            question = effect.message
            assert isinstance(question, Question)
            route = [one.hex() for one in question.route]
            assert effect.peer == route[1]
            self.sent.append(("".join(self.names[one] for one in route), question))
            self.asked += 1
        self.most_under_way = max(self.most_under_way, len(self.sent))

    def list_all(self, names: str, own: int = 0, **more: int) -> int:
        ticket, effects = self.asking.list_all(
            map(member, names), lambda rows, size: Keeper(own).page(0, rows), self.now_ms, **more
        )
        self.take(effects)
        return ticket

    def restore(self, name: str, through: str = "") -> int:
        ticket, effects = self.asking.restore_at(member(name), 5, b"", map(member, through), self.now_ms)
        self.take(effects)
        return ticket

    def answer(self, way: str, message: Message | bytes, by: str = "") -> None:
        """To the question that went this way."""
        at = next(at for at, (route, _) in enumerate(self.sent) if route == way)
        _, question = self.sent.pop(at)
        told = message if isinstance(message, bytes) else encode_message(message)
        back = Answer(asker=question.route[0], correlation=question.correlation, answered=told)
        self.take(self.asking.answered(member(by or way[1]), back, self.now_ms))

    def no_way(self, way: str, at: str, why: int) -> None:
        self.answer(way, NoWay(member=bytes.fromhex(member(at)), why=why))

    def serve(self) -> None:
        """Everybody answers."""
        while self.sent:
            way, question = self.sent[0]
            asked = decode_message(question.asked)
            assert isinstance(asked, PreservedRequest)
            self.answer(way, self.keepers[way[-1]].page(asked.after))

    def listing(self, ticket: int) -> Listing | None:
        return self.asking.listing(ticket, self.now_ms)

    def listed(self, ticket: int) -> Listing:
        found = self.listing(ticket)
        assert found is not None
        return found


def many(count: int) -> str:
    return "".join(chr(0x100 + number) for number in range(count))


# -- bounds


def test_a_list_over_many_members_is_bounded_as_a_whole_and_tells_what_it_left_off() -> None:
    names = many(120)
    world = World(" ".join(f"a{name}" for name in names), {name: Keeper(2_000) for name in names})
    ticket = world.list_all(names, own=3 * ROWS_MAX)
    world.serve()
    found = world.listed(ticket)
    rows = {one: len(rows) for one, rows in found.rows.items()}
    assert sum(rows.values()) == LISTED_ROWS_MAX
    assert rows.pop(member("a")) == LISTED_ROWS_MAX // 2, "it leaves room for the others"
    assert found.left_off[member("a")] == 3 * ROWS_MAX - LISTED_ROWS_MAX // 2
    assert max(rows.values()) <= PAGE, "none has a second page before each had its first"
    assert world.asked <= LISTED_ROWS_MAX // 2 // PAGE + UNDER_WAY_MAX
    assert world.most_under_way == UNDER_WAY_MAX
    assert found.failed == {}
    assert set(found.left_off) == {member(one) for one in ("a", *names)}, "all of them keep more"
    for one, left in found.left_off.items():
        assert left is None or left == (3 * ROWS_MAX if one == member("a") else 2_000) - len(found.rows[one])
    assert None in found.left_off.values(), "some were not asked any more"


def test_long_paths_end_a_list_before_its_number_of_rows_does() -> None:
    names = many(4)
    world = World(" ".join(f"a{name}" for name in names), {name: Keeper(20_000, bytes(2_000)) for name in names})
    ticket = world.list_all(names)
    world.serve()
    found = world.listed(ticket)
    told = sum(len(one.path) for rows in found.rows.values() for one in rows)
    assert LISTED_BYTES_MAX <= told < LISTED_BYTES_MAX + 2_000
    assert set(found.left_off) == {member(name) for name in names}


def test_who_keeps_much_does_not_keep_out_who_keeps_little() -> None:
    world = World("ab ac ad", {"b": Keeper(15_000), "c": Keeper(700), "d": Keeper(2_000)})
    ticket = world.list_all("abcd", rows_max=4_000)
    world.serve()
    found = world.listed(ticket)
    assert len(found.rows[member("c")]) == 700
    assert sum(len(rows) for rows in found.rows.values()) == 4_000
    assert set(found.left_off) == {member("b"), member("d")}


def test_one_member_has_so_many_rows_however_much_room_there_is() -> None:
    world = World("ab", {"b": Keeper(ROWS_MAX + 1)})
    ticket = world.list_all("ab")
    world.serve()
    found = world.listed(ticket)
    assert (len(found.rows[member("b")]), found.left_off) == (ROWS_MAX, {member("b"): 1})


def test_the_pages_under_way_are_counted_over_all_lists_and_a_restore_goes_past_them() -> None:
    names = many(20)
    world = World(" ".join(f"a{name}" for name in names))
    world.list_all(names)
    world.list_all(names)
    assert len(world.sent) == UNDER_WAY_MAX
    world.restore(names[0])
    assert len(world.sent) == UNDER_WAY_MAX + 1


def test_an_operator_has_so_many_questions() -> None:
    world = World("ab")
    tickets = [world.restore("b") for _ in range(ASKED_MAX)]
    with pytest.raises(OperatorError, match="too many"):
        world.restore("b")
    world.asking.forget(tickets[0])
    world.restore("b")


def test_an_operator_has_so_few_lists_at_a_time_that_they_have_room_in_memory() -> None:
    world = World("ab")
    tickets = [world.list_all("ab") for _ in range(LISTS_MAX)]
    with pytest.raises(OperatorError, match="too many lists"):
        world.list_all("ab")
    world.asking.forget(tickets[0])
    world.list_all("ab")


# -- ways


def test_who_is_not_linked_is_asked_through_others_and_who_is_not_reached_is_named() -> None:
    world = World("ab bc de", {"b": Keeper(1), "c": Keeper(2)})
    ticket = world.list_all("abcde")
    assert sorted(route for route, _ in world.sent) == ["ab", "abc"]
    world.serve()
    found = world.listed(ticket)
    assert [len(found.rows[member(name)]) for name in "bc"] == [1, 2]
    assert found.failed == {member(name): Failure(NOT_CONNECTED) for name in "de"}


def test_another_way_is_tried_where_one_is_broken_and_none_without_end() -> None:
    world = World("ab ac bd cd", {"b": Keeper(1), "c": Keeper(1), "d": Keeper(2)})
    ticket = world.list_all("abcd")
    tried = [route for route, _ in world.sent if route[-1] == "d"]
    world.no_way(tried[0], tried[0][1], NO_LINK)
    other = [route for route, _ in world.sent if route[-1] == "d"]
    assert {*tried, *other} == {"abd", "acd"}
    world.no_way(other[0], other[0][1], LINK_LOST)
    world.serve()
    assert world.listed(ticket).failed == {member("d"): Failure(LINK_BROKE, (member(other[0][1]),))}


def test_a_relay_that_has_no_place_is_gone_round_or_named() -> None:
    world = World("ab bc", {"b": Keeper(1)})
    ticket = world.list_all("abc")
    world.no_way("abc", "b", TOO_MANY)
    world.serve()
    assert world.listed(ticket).failed == {member("c"): Failure(TOO_BUSY, (member("b"),))}


def test_a_member_that_blames_one_that_is_not_on_the_way_is_gone_round() -> None:
    world = World("ab bc ad dc", {"b": Keeper(1), "c": Keeper(1), "d": Keeper(1)})
    ticket = world.list_all("abcd")
    way = next(route for route, _ in world.sent if route[-1] == "c")
    world.no_way(way, "x", NO_LINK)
    assert [route for route, _ in world.sent if route[-1] == "c"] == ["abc" if way == "adc" else "adc"]
    world.serve()
    assert world.listed(ticket).failed == {}


def test_a_lost_link_is_gone_round_or_named() -> None:
    world = World("ab bc ad dc", {"b": Keeper(1), "c": Keeper(1), "d": Keeper(1)})
    ticket = world.list_all("abcd")
    via = next(route for route, _ in world.sent if route[-1] == "c")[1]
    world.links[member("a")].discard(member(via))
    world.sent = [(route, question) for route, question in world.sent if route[1] != via]
    world.take(world.asking.link_down(member(via), world.now_ms))
    other = "d" if via == "b" else "b"
    assert sorted(route for route, _ in world.sent) == sorted([f"a{other}", f"a{other}c", f"a{other}c{via}"])
    world.serve()
    assert world.listed(ticket).failed == {}


def test_a_link_that_is_made_anew_is_asked_over_again_and_not_without_end() -> None:
    world = World("ab", {"b": Keeper(1)})
    ticket = world.list_all("ab")
    for left in (1, 1, 1, 0):
        world.sent.clear()
        world.take(world.asking.link_down(member("b"), world.now_ms))
        assert len(world.sent) == left
    assert world.listed(ticket).failed == {member("b"): Failure(LINK_BROKE)}


def test_an_answer_from_another_than_was_asked_is_none() -> None:
    world = World("ab ac", {"b": Keeper(1), "c": Keeper(1)})
    ticket = world.list_all("abc")
    world.answer("ab", Keeper(9).page(0), by="c")
    world.serve()
    assert world.listing(ticket) is None, "b's answer is still waited for"


# -- ends


@pytest.mark.parametrize("answer", [b"nonsense", RestoreReply(path=b"x", reason=""), PreservedRequest(after=0)])
def test_an_answer_that_cannot_be_read_is_its_members_fault_and_not_the_relays(answer: Message | bytes) -> None:
    world = World("ab bc", {"b": Keeper(1)})
    ticket = world.list_all("abc")
    world.answer("abc", answer)  # it raises nothing that would end the link with b
    world.serve()
    assert world.listed(ticket).failed == {member("c"): Failure(NOT_READABLE, (member("b"),))}


def test_a_member_that_tells_the_same_again_is_not_asked_for_ever() -> None:
    world = World("ab")
    ticket = world.list_all("ab")
    page = PreservedPage(rows=[row(1), row(2)], more=True, files=9)
    world.answer("ab", page)
    world.answer("ab", page)
    assert world.listed(ticket).failed == {member("b"): Failure(NOT_READABLE)}


def test_a_member_that_does_not_answer_is_named_with_those_in_between() -> None:
    world = World("ab bc", {"b": Keeper(1)})
    ticket = world.list_all("abc")
    world.answer("ab", Keeper(1).page(0))
    world.now_ms = ANSWER_MS - 1
    assert world.listing(ticket) is None
    world.now_ms = ANSWER_MS
    assert world.listed(ticket).failed == {member("c"): Failure(NO_ANSWER % 10, (member("b"),))}


def test_a_list_ends_however_many_do_not_answer_and_names_them_all() -> None:
    names = many(100)
    world = World(" ".join(f"a{name}" for name in names))
    ticket = world.list_all(names)
    while world.listing(ticket) is None:
        due_ms = world.asking.next_due_ms()
        assert due_ms is not None
        assert world.now_ms < due_ms <= LIST_MS
        world.now_ms = due_ms
        world.take(world.asking.work(world.now_ms))
    assert world.now_ms == LIST_MS
    found = world.listed(ticket)
    assert set(found.failed) == {member(name) for name in names}
    assert {failure.reason for failure in found.failed.values()} == {NO_ANSWER % 10, TIME_OUT}


def test_a_clock_that_is_set_back_makes_nobody_wait_longer() -> None:
    world = World("ab")
    world.now_ms = 1_000_000
    ticket = world.list_all("ab")
    world.asking.clock_set_back(900_000)
    world.now_ms = 100_000 + ANSWER_MS
    assert set(world.listed(ticket).failed) == {member("b")}


def test_what_nobody_waits_for_any_more_is_dropped() -> None:
    world = World("ab")
    ticket = world.list_all("ab")
    world.asking.forget(ticket)
    world.answer("ab", Keeper(1).page(0))
    assert world.asking.next_due_ms() is None


# -- one file


def test_a_file_is_brought_back_through_others() -> None:
    world = World("ab bc")
    ticket = world.restore("c", "abc")
    assert world.asking.restored(ticket, world.now_ms) is None
    world.answer("abc", RestoreReply(path=b"f", reason=""))
    assert world.asking.restored(ticket, world.now_ms) == RestoreReply(path=b"f", reason="")


def test_who_may_have_heard_it_is_not_asked_again_to_bring_a_file_back() -> None:
    world = World("ab bd ac cd")
    ticket = world.restore("d", "abcd")
    way = world.sent[0][0]
    world.no_way(way, way[1], NO_LINK)  # it did not hear of it
    assert {way, world.sent[0][0]} == {"abd", "acd"}
    other = world.sent[0][0]
    world.no_way(other, other[1], LINK_LOST)
    assert world.sent == []
    failure = world.asking.restored(ticket, world.now_ms)
    assert failure == Failure(LINK_BROKE + MAYBE, (member(other[1]),))


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (lambda world: world.take(world.asking.link_down(member("b"), 0)), LINK_BROKE + MAYBE),
        (lambda world: setattr(world, "now_ms", RESTORE_MS), NO_ANSWER % 600 + MAYBE),
        (lambda world: world.answer("ab", Keeper(1).page(0)), NOT_READABLE + MAYBE),
        (lambda world: world.no_way("ab", "b", TOO_MANY), TOO_BUSY),
    ],
)
def test_why_a_file_was_not_brought_back_is_told(end: Callable[[World], None], reason: str) -> None:
    world = World("ab")
    ticket = world.restore("b")
    end(world)
    assert world.asking.restored(ticket, world.now_ms) == Failure(reason)


def test_who_is_not_reached_brings_nothing_back() -> None:
    world = World("ab cd")
    ticket = world.restore("c", "abcd")
    assert world.sent == []
    assert world.asking.restored(ticket, world.now_ms) == Failure(NOT_CONNECTED)


def test_a_restore_names_the_file_to_its_keeper_alone() -> None:
    world = World("ab")
    world.restore("b")
    assert decode_message(world.sent[0][1].asked) == Restore(number=5, to=b"")
    assert preserved_asking.CORRELATION_BYTES <= 7, "a correlation is below 2^63"
