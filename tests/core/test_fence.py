"""A round at one member, and a wait at the one that waits."""

from __future__ import annotations

import pytest

from replicad.core import fence
from replicad.core.cnset import EMPTY, CNSet
from replicad.core.fence import Flood, Wait, WaitResult, fence_name, split_fence
from replicad.core.messages import Fenced, FenceReply, Installed, Message, decode_message, encode_message
from replicad.errors import ProtocolError

A, B, C, D = (f"{number:064x}" for number in range(1, 5))
NAME = bytes(12)
R = {A: 11, B: 12, C: 13, D: 14}


def fenced(member: str, counter: int = 5, unread: int = 0) -> Fenced:
    entries = [(b"f", "busy")] * unread
    return Fenced(member=bytes.fromhex(member), replica=R[member], counter=counter, unread_count=unread, unread=entries)


def known(member: str, counter: int = 5) -> CNSet:
    return CNSet.span(R[member], 1, counter)


def reply(*members: str, failed: tuple[str, ...] = (), lost: tuple[str, ...] = ()) -> FenceReply:
    union = EMPTY
    for member in members:
        union = union.union(known(member))
    return FenceReply(
        fence=fence_name(NAME, 1),
        known=union.encode(),
        members=[fenced(member) for member in members],
        failed=[(bytes.fromhex(member), "slow") for member in failed],
        lost=[bytes.fromhex(member) for member in lost],
    )


def standing(member: str, missing: int = 0, blocked: int = 0) -> Installed:
    return Installed(
        member=bytes.fromhex(member), missing=missing, blocked_count=blocked, blocked=[(b"p", "full")] * blocked
    )


def a_flood(*asked: str) -> Flood:
    flood = Flood(None, asked)
    flood.own(fenced(A), known(A))
    return flood


def a_wait(*expected: str, count: int | None = None, timeout_ms: int = 1_000) -> Wait:
    wait = Wait(A, NAME, expected, count, 0, timeout_ms)
    wait.begin_round()
    return wait


def result(wait: Wait) -> WaitResult:
    assert wait.result is not None
    return wait.result


def test_a_fence_names_the_wait_and_its_round() -> None:
    assert split_fence(fence_name(b"twelve bytes", 70_000)) == (b"twelve bytes", 70_000)


def test_a_round_is_complete_when_everyone_asked_has_answered() -> None:
    flood = a_flood(B, C)
    complete = [flood.complete]
    flood.answered(B, reply(B, D))
    complete.append(flood.complete)
    flood.answered(C, reply())
    assert [*complete, flood.complete] == [False, False, True]
    assert flood.children() == [B], "c had the fence from somebody else"
    assert flood.known == known(A).union(known(B)).union(known(D))
    assert list(flood.reply(fence_name(NAME, 1)).members) == [fenced(A), fenced(B), fenced(D)]


def test_a_second_answer_and_one_that_nobody_asked_for_change_nothing() -> None:
    flood = a_flood(B)
    flood.answered(B, reply(B))
    flood.answered(B, reply(D))
    flood.answered(C, reply(C))
    assert list(flood.passed) == [A, B]


def test_a_neighbour_that_breaks_off_is_lost_with_all_who_answered_through_it() -> None:
    flood = a_flood(B, C)
    flood.answered(B, reply(B, D))
    assert set(flood.link_lost(B)) == {B, D}
    assert flood.link_lost(C) == ()
    assert flood.complete
    assert set(flood.lost) == {B, C, D}
    assert list(flood.passed) == [A]


def test_who_was_lost_on_one_way_and_answered_on_another_is_not_lost() -> None:
    flood = a_flood(B, C)
    flood.answered(B, reply(B, lost=(D,)))
    flood.answered(C, reply(C, D))
    assert flood.lost == []


def test_a_neighbour_that_comes_while_the_round_is_open_is_asked() -> None:
    flood = a_flood(B)
    assert flood.ask(C)
    assert not flood.ask(C)
    flood.answered(C, reply(C))
    assert not flood.ask(C)
    flood.replied = True
    assert not flood.ask(D)


def test_when_time_is_out_who_has_not_answered_has_failed() -> None:
    flood = Flood(B, (C,))
    flood.expire(A, "")
    assert flood.complete
    assert flood.failed == {A: fence.NOT_LOOKED, C: fence.NOT_ANSWERED}


def test_a_set_with_too_many_holes_fails_with_that_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fence, "FENCE_INTERVALS_MAX", 1)
    flood = a_flood(B)
    flood.answered(B, reply(B))
    assert flood.failed == {A: fence.TOO_MANY_HOLES, B: fence.TOO_MANY_HOLES}
    assert not flood.known


def test_the_target_is_what_all_knew_without_what_they_made_later() -> None:
    wait = a_wait(A, B)
    flood = Flood(None, (B,))
    flood.own(fenced(A, counter=3), known(A, 3))
    flood.answered(
        B,
        FenceReply(
            fence=fence_name(NAME, 1),
            known=known(A, 9).union(known(B, 5)).union(known(C, 7)).encode(),
            members=[fenced(B)],
            failed=[],
            lost=[],
        ),
    )
    assert wait.collected(flood, 0) == known(A, 3).union(known(B, 5)).union(known(C, 7))


def test_a_member_counts_as_of_its_first_passing_with_nothing_unread() -> None:
    wait = a_wait(A)
    for counter, unread, expected in ((3, 1, 3), (5, 0, 5), (9, 0, 5)):
        flood = Flood(None, ())
        flood.own(fenced(A, counter, unread), known(A, counter))
        assert wait.collected(flood, 0) == known(A, expected)
        wait.begin_round()


def test_a_wait_is_done_when_everyone_expected_passed_and_has_installed() -> None:
    wait = a_wait(A, B)
    flood = a_flood(B)
    flood.answered(B, reply(B))
    wait.collected(flood, 0)
    wait.told(standing(A))
    assert not wait.step(1)
    assert wait.result is None
    wait.told(standing(B, missing=1))
    wait.step(2)
    assert wait.result is None
    wait.told(standing(B))
    wait.step(3)
    assert result(wait).done


@pytest.mark.parametrize(
    "answer", [reply(B, failed=(C,)), reply(B, lost=(C,))], ids=["one could not pass", "one was lost"]
)
def test_a_round_in_which_somebody_failed_or_was_lost_is_repeated(answer: FenceReply) -> None:
    wait = a_wait(A, B)
    flood = a_flood(B)
    flood.answered(B, answer)
    wait.collected(flood, 0)
    for member in (A, B):
        wait.told(standing(member))
    assert not wait.step(0)
    assert wait.result is None
    assert wait.next_due_ms() == fence.RETRY_FIRST_MS
    assert wait.step(fence.RETRY_FIRST_MS), "the next round begins"


def test_a_member_that_strays_after_the_round_must_be_asked_again() -> None:
    wait = a_wait(A, B)
    flood = a_flood(B)
    flood.answered(B, reply(B))
    wait.collected(flood, 0)
    for member in (A, B):
        wait.told(standing(member))
    wait.strayed([B], 0)
    wait.step(0)
    assert wait.result is None


def test_standings_of_an_earlier_round_do_not_count() -> None:
    wait = a_wait(A, B)
    for _ in range(2):
        flood = a_flood(B)
        flood.answered(B, reply(B))
        wait.collected(flood, 0)
        wait.told(standing(A))
        assert wait.result is None
        wait.step(0)
        wait.begin_round()
        wait.told(standing(B))


def test_the_statuses_of_a_wait_that_is_not_done() -> None:
    assert WaitResult(True).exit_status == 0
    assert WaitResult(False, missing=((B, "x"),), behind=((C, "y"),)).exit_status == 1
    assert WaitResult(False, short=1).exit_status == 1
    assert WaitResult(False, blocked_count=1, behind=((C, "y"),)).exit_status == 1
    assert WaitResult(False, behind=((C, "y"),)).exit_status == 4


def test_blocked_objects_are_counted_over_all_members_and_named() -> None:
    wait = a_wait(A, B)
    flood = Flood(None, (B,))
    flood.own(fenced(A, unread=2), known(A))
    flood.answered(B, reply(B))
    wait.collected(flood, 0)
    wait.told(standing(A))
    wait.told(standing(B, missing=3, blocked=1))
    wait.step(1_000)
    assert result(wait).blocked_count == 3
    assert set(result(wait).blocked) == {(A, b"f", "busy"), (B, b"p", "full")}
    assert result(wait).behind == ((B, "3 changes are not installed yet"),)


@pytest.mark.parametrize(
    "message",
    [
        reply(B, failed=(C,), lost=(D,)),
        Fenced(member=b"short", replica=1, counter=1, unread_count=0, unread=[]),
    ],
)
def test_messages_of_a_fence_are_checked(message: Message | Fenced) -> None:
    if isinstance(message, Fenced):
        bad = FenceReply(fence=fence_name(NAME, 1), known=[], members=[message], failed=[], lost=[])
        with pytest.raises(ProtocolError):
            decode_message(encode_message(bad))
    else:
        assert decode_message(encode_message(message)) == message
