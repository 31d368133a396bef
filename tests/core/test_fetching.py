"""Which content is asked of whom, and when again: the state machine alone."""

from replicad.core.effects import Fetch, FetchedItem
from replicad.core.fetching import RETRY_FIRST_MS, Fetching, Want
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
