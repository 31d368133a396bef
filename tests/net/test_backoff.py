"""How long to wait before a member is dialed again."""

import random

from hypothesis import given
from hypothesis import strategies as st

from replicad.net.dialing import Backoff


@given(st.integers(0, 2**32), st.integers(1, 60))
def test_pauses_double_up_to_their_limit_and_never_meet(seed: int, failures: int) -> None:
    backoff = Backoff(200, 30_000, random.Random(seed))
    assert backoff.next_ms() == 0
    for _ in range(failures):
        backoff.failed()
    ceiling_ms = min(30_000, 200 * 2 ** (failures - 1))
    assert ceiling_ms // 2 <= backoff.next_ms() <= ceiling_ms


def test_pauses_are_jittered() -> None:
    backoff = Backoff(200, 30_000, random.Random(1))
    for _ in range(10):
        backoff.failed()
    assert len({backoff.next_ms() for _ in range(50)}) > 20


def test_a_reset_begins_anew() -> None:
    backoff = Backoff(200, 30_000, random.Random(1))
    backoff.failed()
    backoff.reset()
    assert backoff.next_ms() == 0
