"""The staging quota: watermarks, and never a standstill."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicad.core.staging_quota import StagingQuota


def names(quota: StagingQuota, *sizes: int) -> list[bool]:
    """Which of contents with these sizes are taken, one after the other, while others move."""
    return [quota.take(b"%d" % number, size, anything_moves=True) for number, size in enumerate(sizes)]


def is_closed(quota: StagingQuota) -> bool:
    return quota.is_closed


def test_contents_are_taken_up_to_the_quota() -> None:
    quota = StagingQuota(100)
    assert names(quota, 40, 40, 30, 10) == [True, True, False, True]
    assert quota.used_bytes == 90
    assert not quota.is_closed


def test_above_the_high_watermark_nothing_is_taken_until_the_low_one() -> None:
    quota = StagingQuota(100)
    assert names(quota, 30, 31, 30) == [True, True, True]
    assert is_closed(quota)
    assert not quota.take(b"small", 1, anything_moves=True)
    quota.release(b"0")
    assert quota.used_bytes == 61
    assert not quota.take(b"small", 1, anything_moves=True)
    quota.release(b"2")
    assert quota.used_bytes == 31
    assert not is_closed(quota)
    assert quota.take(b"small", 1, anything_moves=True)


def test_the_low_watermark_itself_opens() -> None:
    quota = StagingQuota(100)
    names(quota, 60, 31)
    assert is_closed(quota)
    quota.release(b"1")
    assert not is_closed(quota)


@pytest.mark.parametrize("quota_bytes", [0, 1, 100])
def test_a_content_larger_than_the_quota_passes_alone(quota_bytes: int) -> None:
    quota = StagingQuota(quota_bytes)
    assert quota.take(b"huge", 1000, anything_moves=True)
    assert not quota.take(b"next", 1, anything_moves=True)
    quota.release(b"huge")
    assert quota.take(b"next", 1, anything_moves=True)
    assert not quota.take(b"huge", 1000, anything_moves=True)


def test_when_all_that_is_held_waits_one_more_is_taken() -> None:
    quota = StagingQuota(100)
    names(quota, 50, 50)
    assert not quota.take(b"awaited", 80, anything_moves=True)
    assert quota.take(b"awaited", 80, anything_moves=False)
    assert not quota.take(b"another", 1, anything_moves=True)


def test_what_was_found_at_the_start_counts_even_beyond_the_quota() -> None:
    quota = StagingQuota(100)
    quota.hold(b"found", 300)
    quota.hold(b"found", 250)
    assert (quota.used_bytes, quota.is_closed, quota.holds(b"found")) == (250, True, True)
    quota.release(b"found")
    assert (quota.used_bytes, quota.is_closed) == (0, False)


def test_releasing_twice_or_the_unknown_changes_nothing() -> None:
    quota = StagingQuota(100)
    names(quota, 10)
    quota.release(b"0")
    quota.release(b"0")
    quota.release(b"unknown")
    assert quota.used_bytes == 0


def test_taking_twice_is_our_own_bug() -> None:
    quota = StagingQuota(100)
    names(quota, 10)
    with pytest.raises(ValueError, match="held already"):
        quota.take(b"0", 10, anything_moves=True)
    with pytest.raises(ValueError, match="negative"):
        StagingQuota(-1)


@given(st.integers(0, 200), st.lists(st.integers(0, 400), max_size=30), st.randoms(use_true_random=False))
def test_all_contents_pass_whatever_the_quota_and_the_order_of_their_ends(
    quota_bytes: int, sizes: list[int], randomness: object
) -> None:
    """Each content is taken when there is room, moves, and ends; more than the quota is used only by one alone."""
    quota = StagingQuota(quota_bytes)
    waiting = {b"%d" % number: size for number, size in enumerate(sizes)}
    moving: dict[bytes, int] = {}
    while waiting or moving:
        for name, size in list(waiting.items()):
            if quota.take(name, size, anything_moves=bool(moving)):
                moving[name] = waiting.pop(name)
        assert moving, "nothing moves although something waits"
        assert quota.used_bytes == sum(moving.values())
        assert quota.used_bytes <= quota_bytes or len([size for size in moving.values() if size]) == 1
        ended = randomness.choice(list(moving))  # type: ignore[attr-defined]
        del moving[ended]
        quota.release(ended)
    assert quota.used_bytes == 0


@given(st.integers(0, 200), st.lists(st.integers(1, 100), min_size=1, max_size=10))
def test_contents_that_wait_for_the_last_one_never_block_it(quota_bytes: int, sizes: list[int]) -> None:
    """A chain in which each can only be installed after the next: the worst order there is."""
    quota = StagingQuota(quota_bytes)
    for number, size in enumerate(sizes):
        assert quota.take(b"%d" % number, size, anything_moves=False)
    for number in reversed(range(len(sizes))):
        quota.release(b"%d" % number)
    assert quota.used_bytes == 0
