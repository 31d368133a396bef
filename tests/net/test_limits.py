"""Failures are counted where they come from, in bounded memory."""

import pytest

from replicad.net.limits import FAILURES_OF_ALL, FAILURES_PER_SOURCE, REFILL_PER_SOURCE_MS, SOURCES_MAX, FailureLimit
from replicad.net.refusal import Code, Refused


def exhaust(limit: FailureLimit, source: str, now_ms: int = 0) -> None:
    for _ in range(FAILURES_PER_SOURCE):
        limit.check(source, now_ms)
        limit.failed(source, now_ms)


def test_a_source_that_failed_too_often_waits_and_others_do_not() -> None:
    limit = FailureLimit()
    exhaust(limit, "192.0.2.1")
    with pytest.raises(Refused) as caught:
        limit.check("192.0.2.1", 0)
    assert caught.value.code == Code.LIMIT
    limit.check("192.0.2.2", 0)


def test_a_source_is_let_in_again_with_time() -> None:
    limit = FailureLimit()
    exhaust(limit, "192.0.2.1")
    limit.check("192.0.2.1", REFILL_PER_SOURCE_MS)
    limit.failed("192.0.2.1", REFILL_PER_SOURCE_MS)
    with pytest.raises(Refused):
        limit.check("192.0.2.1", REFILL_PER_SOURCE_MS)


def test_all_addresses_of_one_host_are_one_source() -> None:
    limit = FailureLimit()
    exhaust(limit, "2001:db8::1")
    with pytest.raises(Refused):
        limit.check("2001:db8::ffff:1", 0)
    limit.check("2001:db8:0:1::1", 0)


def test_many_sources_together_are_limited_and_remembered_in_bounded_memory() -> None:
    limit = FailureLimit()
    for number in range(FAILURES_OF_ALL):
        limit.check(f"10.0.{number // 256}.{number % 256}", 0)
        limit.failed(f"10.0.{number // 256}.{number % 256}", 0)
    with pytest.raises(Refused):
        limit.check("192.0.2.1", 0)
    for number in range(2 * SOURCES_MAX):
        limit.failed(f"10.{number // 65536}.{number // 256 % 256}.{number % 256}", 0)
    assert len(limit._sources) == SOURCES_MAX
