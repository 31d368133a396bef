from __future__ import annotations

import msgspec
import pytest

from replicad.core.cnset import EMPTY, CNSet
from replicad.core.ids import Cn
from replicad.core.messages import MemberStatus
from replicad.core.status_board import (
    RELAYED_AGAIN_MS,
    STATUS_DELAY_MS,
    STATUS_INTERVAL_MIN_MS,
    STATUS_INTERVALS_MAX,
    STATUS_PERIOD_JITTER,
    STATUS_PERIOD_MS,
    Known,
    StatusBoard,
    open_status,
    shortened,
    widened,
)
from replicad.errors import ProtocolError

OWN, A, B, C = (letter * 64 for letter in "0abc")


def status(
    member: str, serial: int = 1, *, session: int = 1, head: int = 0, connected: tuple[str, ...] = ()
) -> MemberStatus:
    return MemberStatus(
        member=bytes.fromhex(member),
        session=session,
        serial=serial,
        replica=7,
        head=head,
        known=CNSet.span(7, 1, head).encode(),
        missing=[],
        not_wanted=[],
        purged=[],
        digest=bytes(16),
        state=4,
        complete=True,
        scanned=True,
        pending_files=0,
        pending_bytes=0,
        oldest_ms=None,
        time_ms=0,
        connected=[bytes.fromhex(one) for one in connected],
    )


def known(member: str, serial: int = 1, *, direct: bool = False, now_ms: int = 0, **rest: object) -> Known:
    return open_status(status(member, serial, **rest), direct=direct, received_ms=now_ms)  # type: ignore[arg-type]


def board(*peers: str) -> StatusBoard:
    made = StatusBoard(OWN, lambda: 0.5)
    for peer in peers:
        made.link_up(peer, 0)
    return made


def test_a_change_is_due_soon_and_at_most_once_a_second() -> None:
    made = board(A)
    made.mark(5_000)
    assert made.next_due_ms() == 5_000 + STATUS_DELAY_MS
    assert made.due(5_199) == []
    assert made.due(5_200) == [(A, False)]
    made.sent(A, 5_200)
    made.mark(5_300)
    assert made.next_due_ms() == 5_200 + STATUS_INTERVAL_MIN_MS


@pytest.mark.requirement("P15")
def test_every_minute_more_or_less_a_status_is_due_whatever_happens() -> None:
    low, high = (
        STATUS_PERIOD_MS * (1 - STATUS_PERIOD_JITTER),
        STATUS_PERIOD_MS * (1 + STATUS_PERIOD_JITTER),
    )
    for draw in (0.0, 0.3, 0.999):
        made = StatusBoard(OWN, lambda draw=draw: draw)  # type: ignore[misc]
        made.link_up(A, 0)
        due_ms = made.next_due_ms()
        assert due_ms is not None
        assert low <= due_ms <= high
        assert made.due(due_ms) == [(A, True)]


def test_the_newer_of_two_that_were_heard_counts() -> None:
    made = board(A)
    made.take(A, [known(C, 5)], 0)
    made.take(A, [known(C, 4, head=9)], 0)
    found = made.member(C)
    assert found is not None
    assert found.version == (1, 5)
    made.take(A, [known(C, 1, session=2)], 0)
    assert made.members()[C].version == (2, 1)


def test_the_members_own_word_counts_whatever_was_heard_of_it() -> None:
    """A catalog that was put back may have a lower session number."""
    made = board(A, C)
    made.take(A, [known(C, 50, session=9)], 0)
    made.take(C, [known(C, 1, session=3, direct=True)], 0)
    made.take(A, [known(C, 60, session=9)], 0)
    assert made.members()[C].version == (3, 1)


def test_of_what_a_member_says_itself_an_overtaken_one_does_not_come_back() -> None:
    made = board(C)
    made.take(C, [known(C, 2, direct=True)], 0)
    made.take(C, [known(C, 1, direct=True)], 0)
    assert made.members()[C].version == (1, 2)


def test_nobody_tells_this_member_what_it_is() -> None:
    made = board(A)
    assert made.take(A, [known(OWN, 99)], 0) == []
    assert made.members() == {}


def test_what_is_heard_goes_to_those_who_cannot_hear_it_themselves_and_once() -> None:
    made = board(A, B, C)
    made.take(B, [known(B, direct=True, connected=(OWN, A))], 0)
    made.take(C, [known(C, direct=True, connected=(OWN,))], 0)
    made.take(A, [known(A, direct=True, connected=(OWN, B))], 0)
    assert [one.member for one in made.relay(A, 0)] == [bytes.fromhex(C)]
    assert made.relay(A, 0) == []
    assert [one.member for one in made.relay(C, 0)] == [bytes.fromhex(A), bytes.fromhex(B)]


def test_what_a_peer_told_is_not_told_back() -> None:
    made = board(A, B)
    made.take(A, [known(C)], 0)
    assert made.relay(A, 0) == []
    assert [one.member for one in made.relay(B, 0)] == [bytes.fromhex(C)]


def test_news_of_a_member_is_soon_due_to_those_who_lack_it_and_a_mere_sign_of_life_is_not() -> None:
    made = board(A, B)
    made.take(A, [known(A, 1, direct=True)], 1_000)
    assert made.due(1_200) == [(B, False)]
    made.relay(B, 1_200)
    made.sent(B, 1_200)
    made.take(A, [known(A, 2, direct=True)], 5_000)
    assert made.due(6_000) == []
    assert not made.has_to_relay(B, 1_200 + RELAYED_AGAIN_MS - 1)
    assert made.has_to_relay(B, 1_200 + RELAYED_AGAIN_MS), "so that it is seen to be there"
    made.take(A, [known(A, 3, direct=True, head=1)], 7_000)
    assert made.due(7_200) == [(B, False)]
    assert made.has_to_relay(B, 7_200)


def test_a_shortened_set_is_a_part_of_it_and_keeps_the_longest_intervals() -> None:
    whole = CNSet.of(Cn(7, counter) for counter in range(1, 99, 2)).union(CNSet.span(8, 1, 1_000))
    part = shortened(whole, 5)
    assert part.interval_count() == 5
    assert whole.contains_all(part)
    assert part.intervals(8) == ((1, 1_000),)
    assert shortened(part, 5) is part
    assert CNSet.decode(part.encode()) == part


def test_a_widened_set_contains_it_and_fills_the_smallest_holes() -> None:
    whole = CNSet.of(Cn(7, counter) for counter in (1, 3, 10, 12, 100)).union(CNSet.span(8, 5, 6))
    wide = widened(whole, 4)
    assert wide.contains_all(whole)
    assert wide.intervals(7) == ((1, 3), (10, 12), (100, 100))
    assert widened(whole, 1).interval_count() == 2
    assert CNSet.decode(wide.encode()) == wide
    assert widened(EMPTY) == EMPTY


@pytest.mark.parametrize(
    "changes",
    [
        {"member": b"short"},
        {"digest": bytes(15)},
        {"replica": 0},
        {"serial": -1},
        {"state": 6},
        {"connected": [b"x"]},
        {"known": [[7, 5, 4]]},
        {"missing": CNSet.of(Cn(7, counter) for counter in range(1, 2 * STATUS_INTERVALS_MAX + 4, 2)).encode()},
    ],
)
def test_a_malformed_status_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ProtocolError):
        open_status(msgspec.structs.replace(status(A), **changes), direct=True, received_ms=0)
