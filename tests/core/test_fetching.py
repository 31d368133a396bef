"""Which content is asked of whom, and when again: the state machine alone."""

from replicad.core.effects import Fetch, FetchedItem
from replicad.core.fetching import GUESS_AFTER, HERE, NO_SOURCE, RETRY_FIRST_MS, RETRY_LAST_MS, Fetching, Want
from replicad.core.ids import Cn, MemberId

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
