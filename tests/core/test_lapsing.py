"""When a member may write another as lapsed."""

from __future__ import annotations

import pytest

from replicad.core.lapsing import CLOCKS_AGREE_MS, CONTACT_MS, FRESH_MS, Contact, Lapsing

LIMIT_MS = 10 * CONTACT_MS
START_MS = 100 * CONTACT_MS
ONE, TWO, THREE, AWAY = "one", "two", "three", "away"


def contact(member: str, told_ms: int = 1_000, off_ms: int = 0) -> Contact:
    return Contact(member, told_ms, off_ms)


def looked(members: int, contacts: list[Contact], seen_ms: int = START_MS - LIMIT_MS) -> list[str]:
    """For as long as it takes, `away` having been seen last at `seen_ms`."""
    lapsing = Lapsing()
    assert lapsing.look(members, contacts, {AWAY: seen_ms}, LIMIT_MS, START_MS) == []
    return lapsing.look(members, contacts, {AWAY: seen_ms}, LIMIT_MS, START_MS + CONTACT_MS)


@pytest.mark.parametrize(
    ("members", "contacts", "may"),
    [
        (2, [], False),
        (3, [], False),
        (3, [contact(ONE)], True),
        (4, [contact(ONE)], False),
        (4, [contact(ONE), contact(TWO)], True),
        (5, [contact(ONE), contact(TWO)], True),
        (3, [contact(ONE, off_ms=CLOCKS_AGREE_MS)], False),
        (3, [contact(ONE, off_ms=-CLOCKS_AGREE_MS)], False),
        (3, [contact(ONE, off_ms=1 - CLOCKS_AGREE_MS)], True),
        (3, [contact(ONE, told_ms=FRESH_MS + 1)], False),
        (5, [contact(ONE), contact(TWO, off_ms=CLOCKS_AGREE_MS), contact(THREE)], True),
    ],
)
def test_more_than_half_with_itself_must_be_in_contact_and_agree(
    members: int, contacts: list[Contact], may: bool
) -> None:
    assert looked(members, contacts) == ([AWAY] if may else [])


def test_who_was_seen_within_the_limit_has_not_lapsed() -> None:
    assert looked(3, [contact(ONE)], START_MS + CONTACT_MS - LIMIT_MS) == []
    assert looked(3, [contact(ONE)], START_MS + CONTACT_MS - LIMIT_MS - 1) == [AWAY]


def test_the_hour_begins_anew_when_the_contact_was_lost_between() -> None:
    lapsing = Lapsing()
    seen = {AWAY: 0}
    for now_ms in range(START_MS, START_MS + CONTACT_MS, CONTACT_MS // 4):
        assert lapsing.look(3, [contact(ONE)], seen, LIMIT_MS, now_ms) == []
    assert lapsing.look(3, [], seen, LIMIT_MS, START_MS + CONTACT_MS) == []
    assert lapsing.look(3, [contact(ONE)], seen, LIMIT_MS, START_MS + CONTACT_MS + 1) == []
    assert lapsing.look(3, [contact(ONE)], seen, LIMIT_MS, START_MS + 2 * CONTACT_MS) == []
    assert lapsing.look(3, [contact(ONE)], seen, LIMIT_MS, START_MS + 2 * CONTACT_MS + 1) == [AWAY]


def test_a_clock_that_was_set_back_makes_it_wait_anew() -> None:
    lapsing = Lapsing()
    lapsing.look(3, [contact(ONE)], {AWAY: 0}, LIMIT_MS, START_MS + 2 * CONTACT_MS)
    assert lapsing.look(3, [contact(ONE)], {AWAY: 0}, LIMIT_MS, START_MS) == []
    assert lapsing.look(3, [contact(ONE)], {AWAY: 0}, LIMIT_MS, START_MS + CONTACT_MS) == [AWAY]
