"""Which content is asked of whom, and when again: the state machine alone."""

import random

import pytest

from replicad.core.effects import Fetch, FetchedItem
from replicad.core.fetching import (
    GUESS_AFTER,
    HERE,
    NO_SOURCE,
    RETRY_FIRST_MS,
    RETRY_GONE_LAST_MS,
    RETRY_LAST_MS,
    TICKETS_PER_PEER_MAX,
    Fetching,
    Want,
)
from replicad.core.ids import Cn, MemberId, Uid
from replicad.core.manifest import SMALL_FILE_BYTES

UID = b"u" * 16
DIGEST = b"d" * 32
ONE, OTHER = "1" * 64, "2" * 64


def fetching() -> Fetching:
    made = Fetching(1_000_000)
    made.want(Want(UID, DIGEST, 10, Cn(1, 1), b"staged"))
    return made


def sources(*members: MemberId) -> list[MemberId]:
    return list(members)


def refuse(made: Fetching, fetch: Fetch, now_ms: int) -> None:
    item = FetchedItem(UID, DIGEST, b"staged", "the source no longer has it", gone=True)
    assert made.finish(fetch.ticket, [item], now_ms) == []


def test_a_source_that_refused_is_asked_again_after_the_delay_where_nobody_else_is_left() -> None:
    """A file that is moved while it is asked for is refused, and nothing need ever be told of its owner again."""
    made = fetching()
    now_ms, delays = 1_000, []
    for _ in range(4):
        (fetch,) = made.requests(now_ms, lambda cn: sources(ONE))
        refuse(made, fetch, now_ms)
        assert made.requests(now_ms, lambda cn: sources(ONE)) == []
        due_ms = made.next_due_ms()
        assert due_ms is not None
        delays.append(due_ms - now_ms)
        now_ms = due_ms
    assert delays == [RETRY_FIRST_MS << turn for turn in range(4)]


def test_where_a_member_shows_a_content_that_it_refuses_it_is_asked_for_every_few_seconds() -> None:
    """New times or a new name above it make a file look changed for a moment, and nothing is told of them."""
    made = fetching()
    now_ms = 0
    for _ in range(20):
        (fetch,) = made.requests(now_ms, lambda cn: sources(ONE), both)
        refuse(made, fetch, now_ms)
        due_ms = made.next_due_ms()
        assert due_ms is not None
        assert due_ms - now_ms <= RETRY_GONE_LAST_MS
        now_ms = due_ms


def test_another_source_is_asked_before_the_one_that_refused() -> None:
    made = fetching()
    (fetch,) = made.requests(0, lambda cn: sources(ONE, OTHER))
    assert fetch.peer == ONE
    refuse(made, fetch, 0)
    (fetch,) = made.requests(RETRY_FIRST_MS, lambda cn: sources(ONE, OTHER))
    assert fetch.peer == OTHER


def nobody(cn: Cn) -> list[MemberId]:
    return []


def both() -> list[MemberId]:
    return sources(ONE, OTHER)


def test_what_is_preserved_here_is_asked_of_nobody() -> None:
    made = fetching()
    (fetch,) = made.requests(0, lambda cn: sources(ONE), both, lambda digest: digest == DIGEST)
    assert fetch.peer == HERE


def test_what_is_preserved_here_and_cannot_be_read_is_asked_of_others() -> None:
    """Whatever the trouble is: a full disk says so again, and a preserved file that was changed is no source."""
    made = fetching()
    (fetch,) = made.requests(0, lambda cn: sources(ONE), both, lambda digest: True)
    made.finish(fetch.ticket, [FetchedItem(UID, DIGEST, b"staged", "what the source sent is not this content")], 0)
    (fetch,) = made.requests(RETRY_FIRST_MS, lambda cn: sources(ONE), both, lambda digest: True)
    assert fetch.peer == ONE


def test_what_is_preserved_here_later_is_found_when_it_is_tried_again() -> None:
    made = fetching()
    assert made.requests(0, nobody, both, lambda digest: False) == []
    (fetch,) = made.requests(RETRY_FIRST_MS, nobody, both, lambda digest: True)
    assert fetch.peer == HERE


def test_where_nobody_shows_that_it_has_a_content_the_connected_are_asked_in_turn() -> None:
    """One may have preserved it, and not be able to install it. Those who show it come first; it takes a few tries."""
    made = fetching()
    now_ms, asked = 0, []
    for turn in range(2 * GUESS_AFTER):
        for fetch in made.requests(now_ms, nobody, both):
            asked.append((turn, fetch.peer))
            refuse(made, fetch, now_ms)
        assert made.waiting() == [(UID, NO_SOURCE)]
        now_ms += RETRY_LAST_MS
    assert asked == [(GUESS_AFTER, ONE), (GUESS_AFTER + 1, OTHER)]
    (fetch,) = made.requests(now_ms, lambda cn: sources(OTHER), both)
    assert fetch.peer == OTHER


# -- what a round costs, where much waits: sources that are looked up are counted, never time

LARGE = SMALL_FILE_BYTES + 1


def many(count: int) -> Fetching:
    """Large files, each a request of its own."""
    made = Fetching(2**60)
    for number in range(1, count + 1):
        made.want(Want(b"%016d" % number, DIGEST, LARGE, Cn(1, number), b"%d" % number))
    return made


def done(fetch: Fetch) -> list[FetchedItem]:
    return [FetchedItem(one.uid, one.digest, one.staged) for one in fetch.items]


@pytest.mark.parametrize("having", [sources(ONE), sources(ONE, OTHER)], ids=["one source", "two sources"])
def test_a_request_that_ends_costs_the_same_however_many_wait(having: list[MemberId]) -> None:
    looked_up: list[Cn] = []

    def look_up(cn: Cn) -> list[MemberId]:
        looked_up.append(cn)
        return having

    for count in (50, 2_000):
        made = many(count)
        under_way = made.requests(0, look_up, both)
        assert len(under_way) == TICKETS_PER_PEER_MAX * len(having)
        looked_up.clear()
        for turn in range(20):
            made.finish(under_way[turn].ticket, done(under_way[turn]), turn)
            under_way += made.requests(turn, look_up, both)
        assert len(looked_up) == 20, "the one that is asked for next, and no other"


def test_an_event_that_changes_nothing_looks_nothing_up() -> None:
    made = many(100)
    assert len(made.requests(0, lambda cn: sources(ONE))) == TICKETS_PER_PEER_MAX
    assert made.next_due_ms() is None

    def none(cn: Cn) -> list[MemberId]:
        raise AssertionError("looked up")

    assert made.requests(1, none) == []
    made.status_changed(ONE, 1)
    assert made.requests(1, none) == [], "who is asked already has told of itself"


def test_what_failed_and_waits_for_a_source_that_is_busy_is_not_due() -> None:
    made = many(TICKETS_PER_PEER_MAX + 2)
    under_way = made.requests(0, lambda cn: sources(ONE))
    made.finish(under_way[0].ticket, [], 0)
    assert len(made.requests(0, lambda cn: sources(ONE))) == 1, "in the place of the one that broke off"
    assert made.next_due_ms() == RETRY_FIRST_MS
    assert made.requests(RETRY_FIRST_MS, lambda cn: sources(ONE)) == []
    assert made.next_due_ms() is None
    assert [reason for _, reason in made.waiting()] == ["the transfer broke off"]


def test_what_is_wanted_first_is_asked_for_first_though_all_had_to_wait() -> None:
    made = many(40)
    under_way = made.requests(0, lambda cn: sources(ONE))
    order = list(under_way)
    made.linked(1)  # others may be asked: none can
    for turn in range(37):
        made.finish(order[turn].ticket, done(order[turn]), turn)
        order += made.requests(turn, lambda cn: sources(ONE))
    assert [fetch.items[0].uid for fetch in order] == [b"%016d" % number for number in range(1, 41)]


def test_another_source_that_has_it_now_is_asked_though_the_first_is_busy() -> None:
    made = many(TICKETS_PER_PEER_MAX + 1)
    assert len(made.requests(0, lambda cn: sources(ONE))) == TICKETS_PER_PEER_MAX
    made.status_changed(OTHER, 1)
    (fetch,) = made.requests(1, lambda cn: sources(ONE, OTHER))
    assert fetch.peer == OTHER


@pytest.mark.parametrize("seed", range(40))
def test_nothing_waits_that_somebody_with_room_could_be_asked_for(seed: int) -> None:
    """Against a plain count of what is under way, over random histories."""
    draw = random.Random(seed)
    made, now_ms, under_way = Fetching(2**60), 0, list[Fetch]()
    members = [digit * 64 for digit in "123"]
    having = {number: draw.sample(members, draw.randrange(4)) for number in range(1, 200)}
    wanted: set[Uid] = set()
    for _ in range(300):
        now_ms += draw.choice((0, 0, 10, 1_000))
        match draw.randrange(8):
            case 0 | 1 | 2:
                number = draw.randrange(1, 200)
                uid = b"%016d" % number
                made.want(Want(uid, DIGEST, LARGE, Cn(1, number), b"%d" % number))
                wanted.add(uid)
            case 3 | 4 | 5 if under_way:
                fetch = under_way.pop(draw.randrange(len(under_way)))
                failed = draw.randrange(3)
                items = done(fetch)
                if failed == 0:
                    items = []
                elif failed == 1:
                    items = [FetchedItem(one.uid, one.digest, one.staged, "gone", gone=True) for one in fetch.items]
                for uid in made.finish(fetch.ticket, items, now_ms):
                    made.forget(uid)
                    wanted.discard(uid)
            case 6:
                number, member = draw.randrange(1, 200), draw.choice(members)
                having[number] = sorted({*having[number], member})
                made.status_changed(member, now_ms)
            case 7:
                made.linked(now_ms)
        under_way += made.requests(now_ms, lambda cn: having[cn.counter], lambda: members)
        asked = [(fetch.peer, one.uid) for fetch in under_way for one in fetch.items]
        free = [one for one in members if sum(peer == one for peer, _ in asked) < TICKETS_PER_PEER_MAX]
        for uid in wanted - {uid for _, uid in asked}:
            want = made.wanted(uid)
            assert want is not None
            could = set(having[int(uid)]) & set(free) - want.refused
            assert not could or want.next_ms > now_ms, (uid, could)
        due_ms = made.next_due_ms()
        assert due_ms is None or due_ms > now_ms, "it spins"
