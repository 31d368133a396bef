"""Rule 7: what an unfinished series has brought, and how that ends."""

from __future__ import annotations

from collections.abc import Iterable

from replicad.core import settling
from replicad.core.cnset import EMPTY, CNSet
from replicad.core.ids import Uid
from replicad.core.settling import PARTS_MAX, SENDER_SILENT_MS, UNSETTLED_MAX_MS, Settling

A, B, C = "a" * 64, "b" * 64, "c" * 64
REPLICA = 7
X, Y, Z = (bytes([number]) * 16 for number in (1, 2, 3))


def cns(first: int, last: int | None = None) -> CNSet:
    return CNSet.span(REPLICA, first, last or first)


def bring(
    machine: Settling,
    sender: str,
    uids: Iterable[Uid],
    needed: CNSet,
    *,
    head: int = 10,
    clean: bool = True,
    now_ms: int = 0,
    replica: int = REPLICA,
) -> None:
    machine.brought(sender, replica, head, uids, needed, clean, now_ms)


def test_what_an_unfinished_series_brought_is_unsettled_and_nothing_else() -> None:
    machine = Settling()
    bring(machine, C, [X, Y], cns(1, 2))
    assert not machine.settled(X)
    assert not machine.settled(Y)
    assert machine.settled(Z)
    assert machine.any_unsettled


def test_it_ends_when_the_series_completes() -> None:
    machine = Settling()
    bring(machine, C, [X], cns(1))
    bring(machine, C, [Y], cns(2), head=12)
    machine.completed(C, REPLICA, 12, cns(1, 5))
    assert machine.settled(X)
    assert machine.settled(Y)
    assert not machine.any_unsettled


def test_a_series_complete_up_to_a_head_ends_what_came_up_to_it() -> None:
    machine = Settling()
    bring(machine, C, [X], cns(1), head=10)
    bring(machine, C, [Y], cns(2), head=12)
    machine.completed(C, REPLICA, 11, cns(1))
    assert machine.settled(X)
    assert not machine.settled(Y)


def test_a_series_with_a_page_that_was_unsettled_at_its_sender_does_not_end_by_completing() -> None:
    machine = Settling()
    bring(machine, C, [X], cns(1))
    bring(machine, C, [Y], cns(2), clean=False)
    machine.completed(C, REPLICA, 10, cns(1, 2))
    assert not machine.settled(X)
    assert not machine.settled(Y)


def test_a_later_series_of_the_same_sender_does_not_end_an_unclean_one_but_ends_itself() -> None:
    machine = Settling()
    bring(machine, C, [X], cns(1), clean=False)
    machine.completed(C, REPLICA, 10, cns(1))
    bring(machine, C, [Y], cns(2), head=12)
    machine.completed(C, REPLICA, 12, cns(1, 2))
    assert not machine.settled(X)
    assert machine.settled(Y)


def test_another_peer_whose_series_completes_and_contains_it_ends_it() -> None:
    machine = Settling()
    bring(machine, C, [X], cns(1, 4), clean=False)
    machine.completed(B, REPLICA + 1, 3, cns(1, 3))
    assert not machine.settled(X)
    machine.completed(B, REPLICA + 1, 4, cns(1, 4))
    assert machine.settled(X)


def test_another_peer_whose_own_series_was_unclean_ends_nothing() -> None:
    machine = Settling()
    bring(machine, C, [X], cns(1))
    bring(machine, B, [Y], cns(2), clean=False, replica=REPLICA + 1)
    machine.completed(B, REPLICA + 1, 10, cns(1, 9))
    assert not machine.settled(X)
    assert not machine.settled(Y)


def test_it_ends_when_the_sender_is_silent_for_half_a_minute() -> None:
    machine = Settling()
    bring(machine, C, [X], cns(1))
    machine.record_came(C, 20_000)
    machine.expire(20_000 + SENDER_SILENT_MS - 1)
    assert not machine.settled(X)
    assert machine.next_due_ms() == 20_000 + SENDER_SILENT_MS
    machine.expire(20_000 + SENDER_SILENT_MS)
    assert machine.settled(X)
    assert machine.next_due_ms() is None


def test_it_ends_after_five_minutes_whatever_the_sender_does() -> None:
    machine = Settling()
    bring(machine, C, [X], cns(1))
    for now_ms in range(0, UNSETTLED_MAX_MS, 10_000):
        machine.record_came(C, now_ms)
        machine.expire(now_ms)
        assert not machine.settled(X)
    machine.expire(UNSETTLED_MAX_MS)
    assert machine.settled(X)


def test_an_object_that_two_series_brought_is_settled_when_both_have_ended() -> None:
    machine = Settling()
    bring(machine, B, [X], cns(1, 50), replica=REPLICA + 1)
    bring(machine, C, [X], cns(1))
    machine.completed(C, REPLICA, 10, cns(1))
    assert not machine.settled(X)
    machine.completed(B, REPLICA + 1, 10, cns(1, 50))
    assert machine.settled(X)


def test_after_a_start_an_unfinished_series_counts_as_one_that_brought_everything() -> None:
    machine = Settling()
    machine.unfinished(C, REPLICA, 10, 0)
    assert not machine.settled(Z)
    machine.completed(C, REPLICA, 9, cns(1))
    assert not machine.settled(Z)
    machine.completed(B, REPLICA + 1, 9, cns(1, 1_000))
    assert not machine.settled(Z)
    machine.completed(C, REPLICA, 10, cns(1))
    assert machine.settled(Z)


def test_i8_too_many_objects_count_as_everything_until_they_settle() -> None:
    machine = Settling()
    limit = settling.UIDS_MAX
    for block in range(0, limit + 2_000, 1_000):
        bring(machine, C, [number.to_bytes(16, "big") for number in range(block, block + 1_000)], cns(1), head=block)
    assert len(machine._uids) <= limit
    assert not machine.settled(Z)
    machine.completed(C, REPLICA, limit + 2_000, cns(1))
    assert machine.settled(Z)
    assert not machine._uids
    assert not machine._everything


def test_i8_parts_of_one_sender_are_bounded() -> None:
    machine = Settling()
    for number in range(1, 10 * PARTS_MAX):
        bring(machine, C, [number.to_bytes(16, "big")], EMPTY, head=number, clean=False)
        if number % 2:
            machine.completed(C, REPLICA, number, EMPTY)
    assert len(machine._parts[C]) <= PARTS_MAX
    machine.expire(UNSETTLED_MAX_MS)
    assert not machine._uids
    assert not machine.any_unsettled


def test_i8_open_parts_beyond_the_limit_are_joined_and_none_settles_early() -> None:
    machine = Settling()
    for number in range(1, 2 * PARTS_MAX):
        bring(machine, C, [number.to_bytes(16, "big")], EMPTY, head=number)
    assert len(machine._parts[C]) == PARTS_MAX
    assert not any(machine.settled(number.to_bytes(16, "big")) for number in range(1, 2 * PARTS_MAX))
    machine.completed(C, REPLICA, 2 * PARTS_MAX, EMPTY)
    assert not machine.any_unsettled
