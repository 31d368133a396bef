"""The digest's repair: members that know the same and hold different records (docs/safety.md, section 7)."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import msgspec
import pytest

from replicad.catalog.changes import SetDigest
from replicad.catalog.ranges import RangeRows
from replicad.catalog.store import Catalog
from replicad.core.cnset import CNSet
from replicad.core.draft import Draft
from replicad.core.effects import Received
from replicad.core.ids import Uid
from replicad.core.messages import BackfillRequest, ContentBackfill, Message, StatusRequest, encode_message
from replicad.core.messages_repair import Differ, RangeReply, RangeRequest, RangeSums, Taken
from replicad.core.records import record
from replicad.core.view import ObjectState
from replicad.engine import comparing, repairing
from replicad.errors import ProtocolError
from tests.engine.exchange_net import Group, Member, fill, messages, pair

MINUTE_MS = 60_000
OF_REPAIR = (RangeRequest, RangeReply, Differ, Taken)


def lose(member: Member, uids: Iterable[Uid]) -> None:
    """The rows are gone from its catalog."""
    draft = Draft(member.catalog)
    for uid in uids:
        draft.drop(uid)
    member.catalog.commit(draft, now_ms=member.group.now_ms)


def double(member: Member, uid: Uid, value: int, later_ms: int = 0) -> None:
    """The CN of the object's content stands for another change here."""
    draft = Draft(member.catalog)
    held = member.held(uid)
    assert held.content is not None
    other = member.content(held.content.cn, None, value)
    other = msgspec.structs.replace(other, time_ms=held.content.time_ms + later_ms)
    member.put(draft, held, record(uid, held.kind, None, other))
    member.catalog.commit(draft, now_ms=member.group.now_ms)


def value(member: Member, uid: Uid) -> int:
    content = member.held(uid).content
    assert content is not None
    return content.size


def mended(group: Group) -> None:
    """By the statuses that come by themselves; and then it is quiet (I9)."""
    group.run(3 * MINUTE_MS)
    group.assert_equal()
    group.assert_honest()
    for member in group.members.values():
        assert member.catalog.faults() == []
    said = group.sent.copy()
    group.run(60 * MINUTE_MS)
    assert set(group.sent - said) == {"status"}


def comparisons(group: Group) -> int:
    """How many there were: each begins with a question about everything."""
    return sum(request.ranges[0][0] == b"" for request in messages(group, RangeRequest) if len(request.ranges) == 1)


def met(*names: str, objects: int = 20) -> tuple[Group, list[Uid]]:
    """Members that are all linked, or in a chain, and know the same."""
    group = Group("".join(names))
    group.connect_all()
    uids = fill(group["A"], objects)
    group.run(10_000)
    group.assert_equal()
    return group, uids


def test_nothing_is_compared_where_nothing_differs() -> None:
    group, uids = met("A", "B", "C")
    group["B"].delete(uids[0])
    group["C"].edit(uids[1], 7)
    group.run(10 * MINUTE_MS)
    assert not any(messages(group, kind) for kind in OF_REPAIR)


@pytest.mark.parametrize("loser", "AB")
def test_a_record_that_was_lost_comes_back_by_one_comparison(loser: str) -> None:
    group, uids = met("A", "B")
    lose(group[loser], uids[3:5])
    mended(group)
    assert comparisons(group) == 1
    assert [len(member.reports) for member in group.members.values()] == [1, 1]


@pytest.mark.parametrize("later_ms", [0, 5, -5])
@pytest.mark.parametrize("where", "AB")
def test_s28_of_two_changes_with_one_cn_the_later_one_stands_everywhere(where: str, later_ms: int) -> None:
    """With one stamp the greater bytes."""
    group, uids = met("A", "B")
    double(group[where], uids[0], 99, later_ms)
    assert group["A"].known == group["B"].known
    group.history.clear()  # which does not allow for it
    mended(group)
    assert value(group["A"], uids[0]) == (99 if later_ms >= 0 else 0)
    assert [len(member.reports) for member in group.members.values()] == [1, 1]


def test_s28_a_difference_crosses_a_relay() -> None:
    """A and C never meet; B holds what A does, then what C does."""
    group = Group("ABC")
    group.connect("A", "B")
    group.connect("B", "C")
    uids = fill(group["A"], 20)
    group.run(10_000)
    group.assert_equal()
    double(group["C"], uids[0], 99, 5)
    lose(group["A"], uids[5:6])
    group.history.clear()
    mended(group)
    assert value(group["A"], uids[0]) == 99
    assert comparisons(group) <= 4


def test_s28_four_of_whom_two_hold_the_other_change_are_mended_by_few_comparisons() -> None:
    group, uids = met("A", "B", "C", "D")
    for name in "CD":
        double(group[name], uids[0], 99, 5)
    lose(group["B"], uids[7:8])
    group.history.clear()
    mended(group)
    assert {value(member, uids[0]) for member in group.members.values()} == {99}
    assert comparisons(group) <= 6


def test_a_deletion_that_one_has_lost_wins_against_what_it_had_seen() -> None:
    group, uids = met("A", "B")
    a, b = group["A"], group["B"]
    before = b.held(uids[0])
    a.delete(uids[0])
    group.run(5_000)
    draft = Draft(b.catalog)
    b.put(draft, b.held(uids[0]), before)
    b.catalog.commit(draft, now_ms=group.now_ms)
    group.run(3 * MINUTE_MS)
    held = b.held(uids[0]).content
    assert held is not None
    assert held.gone
    mended(group)


@pytest.mark.parametrize("where", "AB")
def test_a_digest_that_is_not_that_of_the_rows_is_counted_anew(where: str) -> None:
    group, _ = met("A", "B")
    member = group[where]
    member.catalog.commit(None, [SetDigest(4_711)], now_ms=group.now_ms)
    mended(group)
    assert comparisons(group) == 1
    assert sum("counted anew" in report.text for report in member.reports) == 1


def test_gone_and_forgotten_is_no_difference() -> None:
    group, uids = met("A", "B")
    group["A"].delete(uids[0])
    group.run(5_000)
    lose(group["B"], uids[:1])
    group.run(10 * MINUTE_MS)
    assert not any(messages(group, kind) for kind in OF_REPAIR)


def test_one_difference_in_ten_thousand_objects_costs_less_than_six_kilobytes() -> None:
    group = Group("AB")
    uids = fill(group["A"], 10_000)
    draft = Draft(group["B"].catalog)
    for state in group["A"].catalog.objects(uids):
        draft.put(ObjectState(state.record))
    draft.learn(group["A"].known)
    group["B"].commit(draft)
    group.connect_all()
    group.run(10_000)
    group.assert_equal()
    lose(group["B"], uids[4_321:4_322])
    told = len(group.log)
    group.run_until(lambda: group["A"].catalog.digest == group["B"].catalog.digest)
    group.run(5_000)
    kinds = (*OF_REPAIR, BackfillRequest, ContentBackfill, StatusRequest)
    sent = [encode_message(message) for _, _, _, message in group.log[told:] if isinstance(message, kinds)]
    assert 1_000 < sum(map(len, sent)) < 6_000
    assert len(sent) <= 15
    group.assert_equal()


def test_all_that_one_holds_and_the_other_does_not_is_told_in_pieces() -> None:
    group, uids = met("A", "B", objects=1_500)
    lose(group["B"], uids)
    mended(group)
    assert comparisons(group) == 1
    assert max(len(differ.uids) for differ in messages(group, Differ)) == 512


def test_reading_leaves_room_for_other_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """So many rows a step, and then a pause; what changes meanwhile does no harm."""
    monkeypatch.setattr(comparing, "ROWS_A_STEP", 50)
    group, uids = met("A", "B", objects=1_000)
    lose(group["B"], uids[10:12])
    looked: list[int] = []
    read = Catalog.range_sums

    def noted(catalog: Catalog, after: Uid, upto: Uid, limit: int) -> RangeRows:
        looked.append(group.now_ms)
        return read(catalog, after, upto, limit)

    monkeypatch.setattr(Catalog, "range_sums", noted)
    group.run_until(lambda: bool(looked))
    for number in range(5):
        group.run(repairing.PACE_MS)
        group["A"].edit(uids[number], 5)
    group.run_until(lambda: group["A"].catalog.digest == group["B"].catalog.digest)
    assert len(looked) > 40
    assert max(looked.count(at_ms) for at_ms in looked) <= 2, "two members, one step each"
    mended(group)


def test_there_is_one_comparison_a_minute_and_fewer_where_they_mend_nothing() -> None:
    """B may not send: what it lacks it gets, what it alone holds nobody takes."""
    group, uids = met("A", "B")
    a, b = group["A"], group["B"]
    for _ in range(3):
        group.run_until(lambda: a.catalog.digest == b.catalog.digest)
        lose(b, uids[:1])
        group.run(2_000)
    group.run(3 * MINUTE_MS)
    group.assert_equal()
    begun = [at_ms for at_ms, _, _, message in group.log if isinstance(message, RangeRequest)]
    assert len(begun) >= 3
    assert all(later - earlier >= MINUTE_MS for earlier, later in pairwise(begun))
    before = comparisons(group)
    lose(a, uids[1:2])
    a.barred_senders = {b.id}
    group.run(4 * 60 * MINUTE_MS)
    assert 5 < comparisons(group) - before < 12
    assert a.catalog.object(uids[1]) is None


def test_a_peer_that_never_answers_is_not_waited_for_for_ever() -> None:
    group, uids = met("A", "B", "C")
    silent: list[Member] = []

    def drop(source: Member, target: Member, message: Message) -> bool:
        if isinstance(message, RangeRequest) and not silent:
            silent.append(target)
        return isinstance(message, RangeReply) and source in silent

    group.drop = drop
    lose(min(group.members.values(), key=lambda member: member.id), uids[:2])
    group.run(10 * MINUTE_MS)
    group.assert_equal()
    assert comparisons(group) >= 2, "another one was asked"


def test_a_lost_link_ends_a_comparison() -> None:
    group, uids = met("A", "B")
    group.drop = lambda source, target, message: isinstance(message, RangeReply)
    lose(group["B"], uids[:2])
    group.run_until(lambda: bool(messages(group, RangeRequest)))
    group.cut("A", "B")
    group.drop = lambda source, target, message: False
    group.run(1_000)
    group.connect_all()
    mended(group)


def test_an_answer_that_is_none_ends_the_link() -> None:
    group, uids = met("A", "B")
    group.drop = lambda source, target, message: isinstance(message, RangeReply)
    lose(group["B"], uids[:2])
    group.run_until(lambda: bool(messages(group, RangeRequest)))
    asked = messages(group, RangeRequest)[-1]
    strange = RangeReply(correlation=asked.correlation, ranges=[RangeSums(pieces=[], objects=[])] * 2)
    with pytest.raises(ProtocolError):
        group["A"].exchange.handle(Received(group["B"].id, strange), group.now_ms)
    group.deliver("B", "A", msgspec.structs.replace(strange, correlation=asked.correlation + 1))
    group.drop = lambda source, target, message: False
    mended(group)


def test_what_nobody_asked_for_does_nothing() -> None:
    group, a, b = pair()
    uid = a.create("x")
    group.run(5_000)
    head = b.catalog.head
    group.deliver("A", "B", RangeReply(correlation=1, ranges=[]))
    group.deliver("A", "B", Taken(correlation=1, changed=True))
    group.deliver("A", "B", Differ(correlation=1, uids=[uid, bytes(16)]))
    group.run(5_000)
    assert messages(group, Taken, "B") == [Taken(correlation=1, changed=False)]
    assert b.catalog.head == head
    assert b.known == CNSet.of(group.history)
