"""Members that exchange knowledge: pushes, statuses, gaps, pages and cycles (REQUIREMENTS P, D)."""

from __future__ import annotations

import msgspec
import pytest

from replicad.catalog.changes import RenewReplica
from replicad.core.backfill import Profile
from replicad.core.cnset import EMPTY, CNSet
from replicad.core.draft import Draft
from replicad.core.messages import (
    BackfillRequest,
    ContentBackfill,
    ContentChange,
    Message,
    Status,
    StatusRequest,
    set_of,
)
from replicad.core.messages_meeting import Judged, Meet
from tests.engine.exchange_net import PROMPT, Group, Member, fill, messages, pair, small_pages

# -- pushes, statuses, gaps


@pytest.mark.requirement("P1", "P3", "P4")
def test_a_change_is_pushed_at_once_to_every_member_it_concerns() -> None:
    group = Group("ABC")
    group.connect_all()
    group.run(5_000)
    group.log.clear()
    uid = group["A"].create("x", 1)
    group.run(10)
    assert group["B"].held(uid) == group["C"].held(uid) == group["A"].held(uid)
    pushes = messages(group, ContentChange)
    assert len(pushes) == 2
    assert not messages(group, BackfillRequest)


@pytest.mark.requirement("P2")
def test_every_message_of_the_exchange_carries_the_senders_cnset() -> None:
    group, a, b = pair(PROMPT)
    group.drop = lambda source, target, message: isinstance(message, ContentChange)
    a.create("x")
    group.run(5_000)
    kinds = set()
    for _, source, _, message in group.log:
        if isinstance(message, Judged):
            continue  # an answer to a Meet, and about no change
        shown = {
            Meet: lambda m: m.known,
            ContentChange: lambda m: m.known,
            ContentBackfill: lambda m: m.known,
            BackfillRequest: lambda m: m.base,
            StatusRequest: lambda m: m.known,
            Status: lambda m: m.own.known,
        }[type(message)](message)
        kinds.add(type(message))
        assert set_of(shown).count() <= group[source].known.count()
        assert shown is not None
    assert len(kinds) == 6
    assert b.known == a.known


@pytest.mark.requirement("P5", "P6", "P7")
def test_a_new_replica_asks_everyone_for_its_status_and_everyone_answers_with_its_cnset() -> None:
    group = Group("ABCD")
    group.connect("A", "B", "C")
    group["A"].create("x")
    group.run(5_000)
    group.log.clear()
    group.connect("D", "A")
    group.connect("D", "B")
    group.connect("D", "C")
    group.run(20)
    asked = messages(group, StatusRequest, "D")
    assert len(asked) == 3
    assert all(isinstance(one, StatusRequest) and set_of(one.known) == EMPTY for one in asked)
    answered = messages(group, Status, None, "D")
    assert {one.correlation for one in asked if isinstance(one, StatusRequest)} <= {
        one.correlation for one in answered if isinstance(one, Status)
    }
    assert all(set_of(one.own.known) == group["A"].known for one in answered if isinstance(one, Status))


@pytest.mark.requirement("P8", "P13")
def test_of_two_changes_the_first_is_lost_and_the_seconds_cnset_reveals_the_gap() -> None:
    group, a, b = pair(PROMPT)
    lost: list[Message] = []

    def drop_first_push(source: Member, target: Member, message: Message) -> bool:
        if isinstance(message, ContentChange) and not lost:
            lost.append(message)
            return True
        return False

    group.drop = drop_first_push
    first = a.create("first")
    second = a.create("second")
    group.run(10)
    assert len(lost) == 1
    assert b.catalog.object(first) is None
    assert b.catalog.object(second) is not None
    (entry,) = b.exchange.backfill_entries()
    assert entry.cns == CNSet.of(a.held(first).cns())
    group.run(200)
    assert b.catalog.object(first) is not None
    assert b.exchange.backfill_entries() == []
    group.assert_honest()


@pytest.mark.requirement("P11", "P20")
def test_a_backfill_request_goes_to_one_member_and_the_answer_has_its_correlation() -> None:
    group = Group("ABC", profile=PROMPT)
    group.connect_all()
    group.run(5_000)
    group.drop = lambda source, target, message: isinstance(message, ContentChange) and target.name == "C"
    group["A"].create("x")
    group.run(5_000)
    requests = [(target, message) for _, source, target, message in group.log if isinstance(message, BackfillRequest)]
    assert len(requests) == 1
    answerer, request = requests[0]
    answers = [(source, message) for _, source, _, message in group.log if isinstance(message, ContentBackfill)]
    assert [(source, message.correlation) for source, message in answers] == [(answerer, request.correlation)]
    assert group["C"].known == group["A"].known


@pytest.mark.requirement("P12")
def test_a_push_that_comes_late_clears_the_entry_and_nothing_is_asked() -> None:
    group, a, b = pair()
    held_back: list[Message] = []

    def delay_first(source: Member, target: Member, message: Message) -> bool:
        if isinstance(message, ContentChange) and not held_back:
            held_back.append(message)
            return True
        return False

    group.drop = delay_first
    a.create("first")
    a.create("second")
    group.run(20)
    assert len(b.exchange.backfill_entries()) == 1
    group.deliver("A", "B", held_back[0])
    assert b.exchange.backfill_entries() == []
    group.run(5_000)
    assert not messages(group, BackfillRequest)
    assert b.known == a.known


@pytest.mark.requirement("P15")
def test_when_every_push_and_prompt_status_is_lost_the_periodic_status_reveals_the_gap() -> None:
    group, a, b = pair(PROMPT)
    group.drop = lambda source, target, message: True
    a.create("x")
    group.run(10_000)
    group.drop = lambda source, target, message: False
    assert b.known == EMPTY
    took_ms = group.run_until(lambda: b.known == a.known)
    assert took_ms <= 80_000


@pytest.mark.requirement("P16")
def test_synchronizing_asks_for_statuses_tells_its_own_and_asks_for_what_is_missing_at_once() -> None:
    group, a, b = pair(Profile(gap_delay_ms=1_000_000, jitter=0.0))
    b.create("so that nothing is asked at once")
    group.drop = lambda source, target, message: isinstance(message, ContentChange)
    a.create("x")
    group.run(5_000)
    assert len(b.exchange.backfill_entries()) == 1
    group.log.clear()
    group.carry_out(b, b.exchange.synchronize(group.now_ms))
    group.run(50)
    assert messages(group, StatusRequest, "B")
    assert messages(group, Status, "B")
    assert b.known == a.known


@pytest.mark.requirement("P16")
def test_synchronizing_the_member_that_has_the_data_makes_the_other_ask_for_it() -> None:
    group, a, b = pair(PROMPT)
    group.drop = lambda source, target, message: isinstance(message, ContentChange | Status)
    a.create("x")
    group.run(5_000)
    assert b.exchange.backfill_entries() == []
    group.drop = lambda source, target, message: False
    group.carry_out(a, a.exchange.synchronize(group.now_ms))
    group.run(200)
    assert b.known == a.known


# -- pages and cycles


@pytest.mark.requirement("D3")
def test_at_most_512_records_come_in_a_page_and_the_requester_asks_for_the_next() -> None:
    group = Group("AB")
    fill(group["A"], 1_300)
    group.connect_all()
    group.run_until(lambda: group["B"].known == group["A"].known)
    pages = [one for one in messages(group, ContentBackfill, "A") if isinstance(one, ContentBackfill)]
    assert [len(page.records) for page in pages] == [512, 512, 276]
    assert len(messages(group, BackfillRequest, "B")) == 3
    assert [page.known is not None for page in pages] == [False, False, True]
    assert [page.end for page in pages] == [512, 1_024, 1_300]


@pytest.mark.requirement("D5")
def test_a_second_request_joins_the_cycle_in_flight() -> None:
    group = Group("AB")
    group.latency_ms = (300, 300)
    fill(group["A"], 2_000)
    group.connect_all()
    for _ in range(20):
        group.run(100)
        group.carry_out(group["B"], group["B"].exchange.synchronize(group.now_ms))
    group.run_until(lambda: group["B"].known == group["A"].known)
    assert len(messages(group, BackfillRequest, "B")) == 4
    assert group.page_records["A", "B"] == 2_000


@pytest.mark.requirement("P19")
def test_a_page_has_at_most_a_mebibyte_and_always_one_record() -> None:
    group = Group("AB")
    a = group["A"]
    draft = Draft(a.catalog)
    for index in range(40):
        uid = a.add_object(draft, f"big{index}")
        state = draft.object(uid)
        assert state is not None
        content = state.record.content
        assert content is not None
        large = msgspec.structs.replace(content, value=bytes(60_000))
        raw = msgspec.msgpack.encode(large)
        draft.put(
            msgspec.structs.replace(state, record=msgspec.structs.replace(state.record, content=large, content_raw=raw))
        )
    a.commit(draft)
    group.connect_all()
    group.run_until(lambda: group["B"].known == a.known)
    pages = [one for one in messages(group, ContentBackfill, "A") if isinstance(one, ContentBackfill)]
    assert [len(page.records) for page in pages] == [17, 17, 6]


def test_a_series_that_broke_goes_on_where_it_was_after_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    small_pages(monkeypatch, 10, waiting=10)
    group = Group("AB")
    fill(group["A"], 100)
    group.connect_all()
    group.run_until(lambda: group["B"].catalog.head >= 50)
    read = group["B"].catalog.series(group["A"].id)[0].position
    group.crash("B")
    group.log.clear()
    group.connect_all()
    group.run_until(lambda: group["B"].known == group["A"].known)
    first = messages(group, BackfillRequest, "B")[0]
    assert isinstance(first, BackfillRequest)
    assert first.after == read >= 50
    group.assert_honest()


def test_nothing_is_sent_again_to_a_member_that_comes_back() -> None:
    group, a, b = pair()
    fill(a, 100)
    group.run(5_000)
    group.crash("B")
    group.crash("A")
    group.page_records.clear()
    group.connect_all()
    group.run(5_000)
    a.create("one more")
    group.run(5_000)
    assert group.page_records == {("A", "B"): 1}
    assert not b.exchange.backfill_entries()


def test_a_new_replica_id_costs_no_transfer() -> None:
    """The sender's catalog goes on under a new id: R3 makes up for the positions that count from 0 again."""
    group, a, b = pair()
    fill(a, 100)
    group.run(5_000)
    group.cut("A", "B")
    a.catalog.commit(None, [RenewReplica(12_345)], now_ms=group.now_ms)
    group.page_records.clear()
    group.connect_all()
    group.run(5_000)
    uid = a.create("under the new id")
    group.run(5_000)
    assert group.page_records == {("A", "B"): 1}
    assert b.held(uid) == a.held(uid)
    assert b.exchange.settled(uid)
    b.exchange.close(group.now_ms)
    assert {row.replica: row.position for row in b.catalog.series(a.id)}[12_345] == a.catalog.head


def test_a_peer_that_never_answers_is_left_for_another_after_half_a_minute() -> None:
    group = Group("ABC", profile=PROMPT)
    group.connect("A", "B")
    fill(group["A"], 600)
    group.run(5_000)
    mute: list[str] = []

    def drop(source: Member, target: Member, message: Message) -> bool:
        if isinstance(message, BackfillRequest) and not mute:
            mute.append(target.name)
        return isinstance(message, BackfillRequest) and target.name == mute[0]

    group.drop = drop
    group.connect("A", "C")
    group.connect("B", "C")
    took_ms = group.run_until(lambda: group["C"].known == group["A"].known)
    assert 30_000 <= took_ms <= 32_000


def test_a_lost_link_is_a_failed_attempt_and_another_member_is_asked_at_once() -> None:
    group = Group("ABC", profile=PROMPT)
    group.connect("A", "B")
    fill(group["A"], 600)
    group.run(5_000)
    group.drop = lambda source, target, message: isinstance(message, ContentBackfill)
    group.connect("A", "C")
    group.connect("B", "C")
    group.run_until(lambda: bool(messages(group, BackfillRequest, "C")))
    asked = next(target for _, source, target, message in group.log if isinstance(message, BackfillRequest))
    group.drop = lambda source, target, message: False
    group.cut("C", asked)
    assert group["C"].exchange.backfill_entries()[0].reason == "the link was lost"
    assert group.run_until(lambda: group["C"].known == group["A"].known) <= 1_000


def test_an_object_is_asked_for_by_uid_whatever_the_cnsets_say() -> None:
    group, a, b = pair()
    uid = a.create("x")
    group.run(5_000)
    draft = Draft(b.catalog)
    draft.drop(uid)  # a fault: the record is lost, its CN is still known
    b.catalog.commit(draft, now_ms=group.now_ms)
    group.carry_out(b, b.exchange.ask_for([uid], group.now_ms))
    group.run(50)
    assert b.held(uid) == a.held(uid)


def test_asking_by_uid_goes_from_one_peer_to_the_next() -> None:
    group = Group("ABCD")
    group.connect_all()
    group["B"].create("y")
    group.run(5_000)
    group.log.clear()
    for _ in range(3):
        group.carry_out(group["A"], group["A"].exchange.ask_for([bytes(16)], group.now_ms))
        group.run(100)
    asked = [target for _, source, target, message in group.log if isinstance(message, BackfillRequest)]
    assert sorted(asked) == ["B", "C", "D"]
