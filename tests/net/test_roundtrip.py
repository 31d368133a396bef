"""What pings tell about the way and the clock."""

import pytest

from replicad.net.roundtrip import PINGS_OPEN_MAX, RoundTrips


def exchange(trips: RoundTrips, at_ms: float, *, there_ms: float, back_ms: float, offset_ms: int) -> None:
    """One ping at monotonic `at_ms` and the same wall clock, answered by a peer whose clock is `offset_ms` ahead."""
    number = trips.ping(at_ms, int(at_ms))
    assert trips.pong(number, int(at_ms + there_ms + offset_ms), at_ms + there_ms + back_ms)


def test_nothing_is_known_before_the_first_answer() -> None:
    trips = RoundTrips()
    trips.ping(0, 0)
    assert trips.rtt_ms is None
    assert trips.clock_offset_ms is None


def test_a_round_trip_and_the_clocks_difference_are_measured() -> None:
    trips = RoundTrips()
    exchange(trips, 1_000, there_ms=20, back_ms=20, offset_ms=5_000)
    assert trips.rtt_ms == 40
    assert trips.clock_offset_ms == 5_000


def test_a_round_trip_is_smoothed() -> None:
    trips = RoundTrips()
    exchange(trips, 0, there_ms=20, back_ms=20, offset_ms=0)
    exchange(trips, 100, there_ms=60, back_ms=60, offset_ms=0)
    assert trips.rtt_ms == 50


def test_the_clock_is_taken_from_the_quickest_of_the_last_answers() -> None:
    trips = RoundTrips()
    exchange(trips, 0, there_ms=5, back_ms=5, offset_ms=1_000)
    for number in range(1, 8):
        exchange(trips, number * 10_000, there_ms=900, back_ms=10, offset_ms=1_000)
    assert trips.clock_offset_ms == 1_000
    exchange(trips, 80_000, there_ms=900, back_ms=10, offset_ms=1_000)
    assert trips.clock_offset_ms == pytest.approx(1_445)


def test_an_answer_to_no_ping_changes_nothing() -> None:
    trips = RoundTrips()
    exchange(trips, 0, there_ms=5, back_ms=5, offset_ms=0)
    assert not trips.pong(1, 10**12, 500)
    assert not trips.pong(99, 10**12, 500)
    assert trips.rtt_ms == 10
    assert trips.clock_offset_ms == 0


def test_unanswered_pings_are_forgotten() -> None:
    trips = RoundTrips()
    numbers = [trips.ping(at, at) for at in range(3 * PINGS_OPEN_MAX)]
    assert len(trips._open) == PINGS_OPEN_MAX
    assert not trips.pong(numbers[0], 0, 1_000)
    assert trips.pong(numbers[-1], 0, 1_000)
