from __future__ import annotations

import pytest

from replicad.core.backfill import ENTRIES_MAX, Backfill, Profile
from replicad.core.cnset import EMPTY, CNSet

A, B, C = "a" * 64, "b" * 64, "c" * 64
PROFILE = Profile(jitter=0.0)


def cns(first: int, last: int | None = None, replica: int = 7) -> CNSet:
    return CNSet.span(replica, first, last or first)


def array(profile: Profile = PROFILE) -> Backfill:
    return Backfill(profile, lambda: 0.5)


def lacking(*gaps: CNSet, now_ms: int = 0) -> Backfill:
    backfill = array()
    for gap in gaps:
        backfill.lack(gap, cns(1_000), now_ms)
    return backfill


@pytest.mark.requirement("P8")
def test_a_gap_becomes_one_backfill_entry_that_is_due_after_a_delay() -> None:
    backfill = array()
    backfill.lack(cns(1, 9), cns(1, 3), 1_000)
    backfill.lack(cns(1, 9), cns(1, 3), 2_000)
    (row,) = backfill.rows()
    assert row.cns == cns(4, 9)
    assert row.since_ms == 1_000
    assert backfill.next_due_ms() == 1_000 + PROFILE.gap_delay_ms
    assert backfill.begin({A: cns(1, 9)}, cns(1, 3), 1_000) == []


def test_a_new_replica_asks_at_once() -> None:
    backfill = array()
    backfill.lack(cns(1, 9), EMPTY, 1_000)
    (cycle,) = backfill.begin({A: cns(1, 9)}, EMPTY, 1_000)
    assert cycle.peer == A
    assert cycle.wanted is None


def test_each_gap_is_an_entry_of_its_own() -> None:
    backfill = lacking(cns(1, 3))
    backfill.lack(cns(1, 5), cns(1_000), 100)
    assert [row.cns for row in backfill.rows()] == [cns(1, 3), cns(4, 5)]


@pytest.mark.requirement("P12")
def test_whatever_brings_the_cns_clears_their_entries() -> None:
    backfill = lacking(cns(1, 3), cns(5, 6))
    backfill.clear(cns(2, 5))
    assert [row.cns for row in backfill.rows()] == [cns(1), cns(6)]
    backfill.clear(cns(1, 9))
    assert backfill.rows() == []


@pytest.mark.requirement("P11")
def test_an_entry_is_asked_from_one_peer_that_has_shown_it() -> None:
    backfill = lacking(cns(1, 3))
    (cycle,) = backfill.begin({A: cns(9), B: cns(1, 3), C: cns(1, 3)}, EMPTY, 1_000)
    assert cycle.peer in (B, C)
    assert backfill.begin({A: cns(9), B: cns(1, 3), C: cns(1, 3)}, EMPTY, 1_001) == []


@pytest.mark.requirement("L5")
def test_what_the_first_peer_lacks_is_asked_from_the_next_at_once() -> None:
    backfill = lacking(cns(1, 9))
    cycles = backfill.begin({A: cns(1, 6), B: cns(5, 9)}, EMPTY, 1_000)
    assert {cycle.peer for cycle in cycles} == {A, B}
    assert {(row.source, row.cns.show()) for row in backfill.rows()} == {(A, cns(1, 6).show()), (B, cns(7, 9).show())}


@pytest.mark.requirement("D5")
def test_what_a_series_under_way_will_bring_joins_it() -> None:
    backfill = lacking(cns(1, 3))
    backfill.begin({A: cns(1, 9)}, EMPTY, 1_000)
    backfill.lack(cns(4, 9), cns(1_000), 1_000)
    assert backfill.begin({A: cns(1, 9), B: cns(1, 9)}, EMPTY, 5_000) == []
    assert {row.source for row in backfill.rows()} == {A}


@pytest.mark.requirement("D5")
def test_one_cycle_per_peer_is_in_flight() -> None:
    backfill = lacking(cns(1, 3))
    backfill.begin({A: cns(1, 3)}, EMPTY, 1_000)
    backfill.lack(cns(4, 9), cns(1_000), 1_000)
    # A has shown only half of it: it cannot join, and A is asked already.
    assert backfill.begin({A: cns(1, 5)}, EMPTY, 5_000) == []
    waiting = backfill.rows()[1]
    assert waiting.waiting
    assert waiting.reason == "waits for a member that is being asked"


def test_a_second_source_is_asked_for_the_cns_alone_while_a_series_brings_the_rest() -> None:
    backfill = lacking(cns(1, 3))
    backfill.begin({A: cns(1, 3)}, EMPTY, 1_000)
    backfill.lack(cns(4, 4), cns(1_000), 1_000)
    (cycle,) = backfill.begin({A: cns(1, 3), B: cns(1, 4)}, EMPTY, 5_000)
    assert cycle.peer == B
    assert cycle.wanted == cns(4)


def test_a_second_attempt_is_a_series_since_only_that_brings_what_was_superseded() -> None:
    backfill = lacking(cns(1, 3))
    backfill.begin({A: cns(1, 3)}, EMPTY, 1_000)
    backfill.lack(cns(4, 4), cns(1_000), 1_000)
    sources = {A: cns(1, 3), B: cns(1, 4)}
    backfill.begin(sources, EMPTY, 5_000)
    backfill.ended(B, "", 5_000)
    (cycle,) = backfill.begin(sources, EMPTY, 6_000)
    assert cycle.peer == B
    assert cycle.wanted is None


def test_an_attempt_without_a_page_for_half_a_minute_has_failed() -> None:
    backfill = lacking(cns(1, 3))
    backfill.begin({A: cns(1, 3)}, EMPTY, 1_000)
    backfill.progressed(A, 20_000)
    assert backfill.silent(49_999) == []
    assert backfill.next_due_ms() == 50_000
    assert backfill.silent(50_000) == [A]


def test_after_a_failure_the_one_with_fewer_failures_is_asked() -> None:
    backfill = lacking(cns(1, 3))
    (first,) = backfill.begin({A: cns(1, 3), B: cns(1, 3)}, EMPTY, 1_000)
    backfill.ended(first.peer, "no page came", 1_000)
    (second,) = backfill.begin({A: cns(1, 3), B: cns(1, 3)}, EMPTY, 2_000)
    assert second.peer != first.peer
    backfill.ended(second.peer, "no page came", 2_000)
    backfill.met(first.peer)
    (third,) = backfill.begin({A: cns(1, 3), B: cns(1, 3)}, EMPTY, 3_000)
    assert third.peer == first.peer


def test_retries_double_from_a_fifth_of_a_second_to_a_minute() -> None:
    backfill = lacking(cns(1, 3))
    now_ms, delays = 1_000, []
    for _ in range(12):
        assert backfill.begin({A: cns(1, 3)}, EMPTY, now_ms)
        backfill.ended(A, "no page came", now_ms)
        due_ms = backfill.next_due_ms()
        assert due_ms is not None
        delays.append(due_ms - now_ms)
        now_ms = due_ms
    assert delays == [200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 51_200, 60_000, 60_000, 60_000]


def test_a_delay_is_shortened_by_at_most_the_jitter() -> None:
    for draw, delay_ms in ((0.0, 500), (0.5, 375), (0.999, 250)):
        backfill = Backfill(Profile(jitter=0.5), lambda draw=draw: draw)  # type: ignore[misc]
        backfill.lack(cns(1), cns(9), 0)
        assert backfill.next_due_ms() == delay_ms


@pytest.mark.requirement("P18")
def test_entries_that_fail_again_and_again_do_not_stop_the_others() -> None:
    """Fifty that nobody answers and one that could be had: Exchange asked for the same fifty for ever."""
    backfill = array(Profile(jitter=0.0, outstanding_max=50))
    for number in range(60):
        backfill.lack(cns(2 * number + 1), cns(1_000), 0)
    last = cns(119)
    dead = {A: cns(1, 118)}
    backfill.begin(dead, EMPTY, 1_000)
    rows = backfill.rows()
    assert sum(row.source is not None for row in rows) == 50
    assert rows[-1].reason == "waits for its turn"
    backfill.ended(A, "no page came", 31_000)
    sources = {**dead, B: last}
    cycles = backfill.begin(sources, EMPTY, 31_100)
    assert B in {cycle.peer for cycle in cycles}


def test_what_nobody_connected_has_shown_waits_without_a_timer_and_says_so() -> None:
    backfill = lacking(cns(1, 3))
    assert backfill.begin({A: cns(9)}, EMPTY, 1_000) == []
    assert backfill.next_due_ms() is None
    assert backfill.rows()[0].reason == "no connected member has it"
    assert backfill.begin({A: cns(1, 9)}, EMPTY, 1_001)


@pytest.mark.requirement("P14")
def test_the_array_can_be_listed_with_ages_attempts_sources_and_reasons() -> None:
    backfill = lacking(cns(1, 3), cns(5), now_ms=100)
    backfill.begin({A: cns(1, 3)}, EMPTY, 1_000)
    backfill.ended(A, "the link was lost", 2_000)
    first, second = backfill.rows()
    assert (first.cns, first.since_ms, first.attempts, first.source) == (cns(1, 3), 100, 1, None)
    assert (first.reason, first.next_attempt_ms) == ("the link was lost", 2_200)
    assert (second.cns, second.waiting, second.reason) == (cns(5), True, "no connected member has it")


@pytest.mark.requirement("P16")
def test_synchronizing_makes_every_entry_due() -> None:
    backfill = lacking(cns(1, 3))
    backfill.begin({A: cns(1, 3)}, EMPTY, 1_000)
    backfill.ended(A, "no page came", 1_000)
    backfill.expire(1_001)
    assert backfill.begin({A: cns(1, 3)}, EMPTY, 1_001)


def test_i8_the_array_has_a_limit_beyond_which_gaps_are_joined() -> None:
    backfill = array()
    for number in range(ENTRIES_MAX + 500):
        backfill.lack(cns(2 * number + 1), cns(2), 0)
    assert len(backfill) == ENTRIES_MAX
    backfill.begin({A: cns(1, 10_000)}, EMPTY, 1_000)
    whole = EMPTY
    for row in backfill.rows():
        whole = whole.union(row.cns)
    assert whole.count() == ENTRIES_MAX + 500


def test_i8_what_a_liar_shows_is_bounded_and_is_seen_again_when_there_is_room() -> None:
    backfill = array()
    whole = EMPTY
    for replica in range(1, 5):
        whole = CNSet({replica: tuple((counter, counter) for counter in range(1, 120_001, 2))})
        backfill.lack(whole, cns(1_000), 0)
    assert len(backfill) == 3
    backfill.clear(CNSet.span(1, 1, 120_000))
    backfill.lack(whole, cns(1_000), 0)
    assert len(backfill) == 3
