from __future__ import annotations

import pytest

from replicad.core import outbox as core_outbox
from replicad.core.cnset import EMPTY, CNSet
from replicad.core.ids import Cn, Uid
from replicad.core.outbox import (
    FORWARD_DELAY_MS,
    FORWARD_LATEST_MS,
    NOTES_MAX,
    SETTLE_DELAY_MS,
    WAITING_MAX,
    Mark,
    Outbox,
    Push,
)

X = bytes(16)


def all_settled(uid: Uid) -> bool:
    return True


def nothing_settled(uid: Uid) -> bool:
    return False


def cns(first: int, last: int | None = None) -> CNSet:
    return CNSet.span(7, first, last or first)


def mark(head: int) -> Mark:
    """A catalog that made `head` changes, each of another object."""
    return Mark(head, CNSet.span(7, 1, head))


def push(
    outbox: Outbox,
    before: Mark,
    after: Mark,
    now_ms: int,
    *,
    elsewhere: bool = False,
    unsettled: frozenset[Uid] = frozenset(),
) -> Push | None:
    added = after.known.minus(before.known)
    return outbox.committed(before, after.head, added, now_ms, elsewhere=elsewhere, unsettled=unsettled)


def test_nothing_is_pushed_to_a_peer_that_has_not_told_what_it_knows() -> None:
    outbox = Outbox()
    assert push(outbox, mark(0), mark(1), 0) is None


def test_a_push_begins_at_0_when_the_peer_has_told_that_it_knows_all_before() -> None:
    outbox = Outbox()
    outbox.hear(cns(1, 5), 0)
    assert push(outbox, mark(5), mark(6), 0) == Push(5, 0, cns(1, 5))


def test_what_was_sent_and_not_told_of_is_neither_a_base_nor_a_beginning() -> None:
    outbox = Outbox()
    outbox.hear(cns(1, 5), 0)
    push(outbox, mark(5), mark(6), 0)
    assert push(outbox, mark(6), mark(7), 0) == Push(6, 6, cns(1, 5))
    outbox.hear(cns(1, 7), 0)
    assert push(outbox, mark(7), mark(8), 0) == Push(7, 0, cns(1, 7))


def test_what_the_peer_knows_already_is_not_pushed() -> None:
    outbox = Outbox()
    outbox.hear(cns(1, 6), 0)
    assert push(outbox, mark(5), mark(6), 0) is None


def test_a_peer_that_is_behind_gets_no_more_pushes_until_it_tells_that_it_has_them() -> None:
    outbox = Outbox()
    outbox.hear(EMPTY, 0)
    head = 0
    while push(outbox, mark(head), mark(head + 100), 0) is not None:
        head += 100
    assert head == 500
    assert outbox.waiting <= WAITING_MAX
    outbox.hear(cns(1, 100), 0)
    assert push(outbox, mark(head), mark(head + 100), 0) is not None


def test_more_than_a_page_at_once_is_not_pushed() -> None:
    outbox = Outbox()
    outbox.hear(EMPTY, 0)
    assert push(outbox, mark(0), mark(WAITING_MAX + 1), 0) is None
    assert push(outbox, mark(0), mark(WAITING_MAX), 0) is not None


def test_a_change_that_the_peer_should_get_elsewhere_waits_and_is_not_sent_when_it_does() -> None:
    outbox = Outbox()
    outbox.hear(cns(1, 5), 0)
    assert push(outbox, mark(5), mark(6), 0, elsewhere=True) is None
    outbox.hear(cns(1, 6), 300)
    assert outbox.due(6, FORWARD_LATEST_MS, all_settled) is None
    assert outbox.next_due_ms() is None


def test_a_status_after_the_delay_that_still_lacks_it_makes_it_go() -> None:
    outbox = Outbox()
    outbox.hear(cns(1, 5), 0)
    push(outbox, mark(5), mark(6), 0, elsewhere=True)
    outbox.hear(cns(1, 5), FORWARD_DELAY_MS - 1)
    assert outbox.due(6, FORWARD_DELAY_MS, all_settled) is None
    outbox.hear(cns(1, 5), FORWARD_DELAY_MS)
    assert outbox.due(6, FORWARD_DELAY_MS, all_settled) == Push(5, 5, cns(1, 5))


def test_without_a_status_it_goes_after_the_latest_time() -> None:
    outbox = Outbox()
    outbox.hear(cns(1, 5), 0)
    push(outbox, mark(5), mark(6), 0, elsewhere=True)
    assert outbox.next_due_ms() == FORWARD_LATEST_MS
    assert outbox.due(6, FORWARD_LATEST_MS - 1, all_settled) is None
    assert outbox.due(6, FORWARD_LATEST_MS, all_settled) == Push(5, 5, cns(1, 5))
    assert outbox.due(6, FORWARD_LATEST_MS, all_settled) is None


def test_a_change_that_is_not_settled_waits_until_it_is() -> None:
    outbox = Outbox()
    outbox.hear(EMPTY, 0)
    assert push(outbox, mark(0), mark(1), 0, unsettled=frozenset((X,))) is None
    assert outbox.due(1, 10, nothing_settled) is None
    assert outbox.due(1, 20, all_settled) == Push(0, 0, EMPTY)


def test_a_change_that_does_not_settle_is_passed_on_as_it_is() -> None:
    outbox = Outbox()
    outbox.hear(EMPTY, 0)
    push(outbox, mark(0), mark(1), 0, unsettled=frozenset((X,)))
    assert outbox.next_due_ms() == SETTLE_DELAY_MS
    assert outbox.due(1, SETTLE_DELAY_MS, nothing_settled) == Push(0, 0, EMPTY)


@pytest.mark.parametrize("elsewhere", [True, False])
def test_i8_notes_are_bounded_and_nothing_is_forgotten(elsewhere: bool) -> None:
    outbox = Outbox()
    outbox.hear(EMPTY, 0)
    for head in range(3 * NOTES_MAX):
        push(outbox, mark(head), mark(head + 1), head, elsewhere=elsewhere)
    assert max(len(outbox._sent), len(outbox._held)) <= NOTES_MAX
    if elsewhere:
        assert outbox.due(3 * NOTES_MAX, 2 * FORWARD_LATEST_MS, all_settled) == Push(0, 0, EMPTY)
    else:
        assert outbox.waiting == 3 * NOTES_MAX


def test_i8_what_a_peer_tells_is_bounded_and_understates_beyond(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core_outbox, "TOLD_INTERVALS_MAX", 10)
    outbox = Outbox()
    for block in range(20):
        outbox.hear(CNSet.of(Cn(block + 1, counter) for counter in (1, 3, 5, 7)), 0)
        assert outbox.told is not None
        assert outbox.told.interval_count() <= 10
    assert outbox.told is not None
    assert Cn(20, 7) in outbox.told
