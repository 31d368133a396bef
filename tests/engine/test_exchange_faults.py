"""Faults: of the catalogs, and of peers."""

from __future__ import annotations

import msgspec
import pytest

from replicad.catalog.changes import RenewReplica
from replicad.core.cnset import EMPTY, CNSet
from replicad.core.draft import Draft
from replicad.core.effects import LinkUp, Received, Send
from replicad.core.messages import (
    ContentChange,
    HierarchyChange,
    Status,
    StatusRequest,
    WireRecord,
    seal,
)
from replicad.core.messages_meeting import Meet
from replicad.errors import CatalogError, ProtocolError
from tests.engine.exchange_net import Group, Member, fill, messages, pair, small_pages

# -- faults


def test_s28_equal_sets_with_unequal_digests_are_reported_once() -> None:
    group, a, b = pair()
    uid = a.create("x")
    group.run(5_000)
    draft = Draft(b.catalog)
    draft.drop(uid)
    b.catalog.commit(draft, now_ms=group.now_ms)
    group.run(300_000)
    assert len(a.reports) == len(b.reports) == 1
    assert "different records" in a.reports[0].text


def test_s27_a_member_that_was_put_back_is_told_so_and_takes_nothing_that_it_would_make_again() -> None:
    group, a, b = pair()
    a.create("one")
    backup = a.database.copy()
    a.create("two")
    group.run(5_000)
    group.crash("A", restart=False)
    a.database.fill_from(backup)
    a.start()
    group.connect_all()
    group.run(5_000)
    assert [a.exchange.put_back] == [True]
    assert len(a.reports) == 1
    assert a.known.count() == 1
    a.catalog.commit(None, [RenewReplica(4_711)], now_ms=group.now_ms)
    assert not a.exchange.put_back
    group.carry_out(a, a.exchange.synchronize(group.now_ms))
    group.run(5_000)
    assert a.known == b.known
    assert len({cn for cn in group.history if cn.replica == a.replica}) == 2


def test_a_page_that_cannot_be_stored_moves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full for a moment: what was read so far is what was stored (I2)."""
    small_pages(monkeypatch, 10, waiting=10)
    group = Group("AB")
    fill(group["A"], 50)
    a, b = group["A"], group["B"]
    group.connect_all()
    group.run_until(lambda: b.catalog.head >= 20)

    def fail(*args: object, **rest: object) -> int:
        raise CatalogError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(b.catalog, "commit", fail)
        with pytest.raises(CatalogError):
            group.run_until(lambda: b.catalog.head >= 30)
    assert b.catalog.head == 20
    group.assert_honest()
    group.run_until(lambda: b.known == a.known)
    group.assert_honest()
    group.assert_equal()


# -- what a peer sends is validated


def page(member: Member, records: list[WireRecord], **changes: object) -> ContentChange:
    values: dict[str, object] = {
        "correlation": 1,
        "replica": member.replica,
        "begin": 0,
        "end": 1,
        "head": 1,
        "records": records,
        "known": None,
        "settled": True,
    }
    return ContentChange(**{**values, **changes})  # type: ignore[arg-type]


def good_and_bad(group: Group, member: Member) -> tuple[WireRecord, WireRecord]:
    uid = member.create("good")
    good = seal(member.held(uid))
    return good, WireRecord(good.uid, good.kind, b"\xc1", b"")


def test_one_malformed_record_refuses_the_whole_page_and_nothing_of_it_is_taken() -> None:
    group, a, b = pair()
    group.drop = lambda source, target, message: True
    good, bad = good_and_bad(group, a)
    with pytest.raises(ProtocolError):
        b.exchange.handle(Received(a.id, page(a, [good, bad])), group.now_ms)
    assert b.known == EMPTY
    assert b.catalog.head == 0


@pytest.mark.parametrize("kind", [ContentChange, HierarchyChange])
def test_a_page_or_record_of_the_other_channel_is_refused(kind: type[ContentChange] | type[HierarchyChange]) -> None:
    group, a, b = pair()
    group.drop = lambda source, target, message: True
    good, _ = good_and_bad(group, a)
    wire = good if kind is HierarchyChange else WireRecord(good.uid, 4, good.place, good.content)
    values = msgspec.structs.asdict(page(a, [wire]))
    with pytest.raises(ProtocolError):
        b.exchange.handle(Received(a.id, kind(**values)), group.now_ms)
    assert b.catalog.head == 0


def test_a_record_of_a_kind_of_later_versions_is_stored_and_passed_on() -> None:
    group = Group("ABC")
    group.connect("A", "B")
    group.connect("B", "C")
    group.run(5_000)
    group.drop = lambda source, target, message: source.name == "A"
    good, _ = good_and_bad(group, group["A"])
    group.deliver("A", "B", page(group["A"], [WireRecord(good.uid, 9, good.place, good.content)]))
    group.run(5_000)
    state = group["C"].catalog.object(good.uid)
    assert state is not None
    assert state.record.kind == 9


def test_a_member_that_tells_anothers_status_as_its_own_is_refused() -> None:
    group = Group("ABC")
    group.connect_all()
    group.run(5_000)
    stolen = messages(group, Status, "C", "B")[-1]
    with pytest.raises(ProtocolError):
        group["B"].exchange.handle(Received(group["A"].id, stolen), group.now_ms)


def test_a_peer_that_changes_its_replica_id_again_and_again_is_refused() -> None:
    group, a, b = pair()

    def tell(replica: int) -> None:
        message = StatusRequest(correlation=1, replica=replica, known=[])
        b.exchange.handle(Received(a.id, message), group.now_ms)

    for replica in range(1, 16):
        tell(replica)
    with pytest.raises(ProtocolError):
        tell(99)


def test_what_was_under_way_when_a_bad_message_came_goes_out_with_the_next_call() -> None:
    group, a, b = pair()
    draft = Draft(b.catalog)
    b.add_object(draft, "stored, and not yet told of")
    b.catalog.commit(draft, now_ms=group.now_ms)
    with pytest.raises(ProtocolError):
        b.exchange.handle(Received(a.id, page(a, [WireRecord(b"x", 1, b"", b"")])), group.now_ms)
    assert b.exchange.next_due_ms() == 0
    group.carry_out(b, b.exchange.after_commit(group.now_ms))
    group.run(50)
    assert a.known == b.known


def test_a_message_without_a_link_is_dropped() -> None:
    group, a, b = pair()
    uid = a.create("x")
    group.cut("A", "B")
    wire = seal(a.held(uid))
    assert b.exchange.handle(Received(a.id, page(a, [wire])), group.now_ms) == []
    assert b.catalog.object(uid) is None


def test_a_second_link_up_begins_a_new_session() -> None:
    group, a, b = pair()
    a.create("x")
    group.run(5_000)
    effects = b.exchange.handle(LinkUp(a.id), group.now_ms)
    assert any(isinstance(getattr(effect, "message", None), Meet) for effect in effects)
    assert b.exchange.connected() == [a.id]


def test_i7_a_page_that_was_long_on_its_way_does_not_bring_back_what_was_collected() -> None:
    """What is known and not held was forgotten here."""
    group, a, b = pair()
    uid = a.create("x")
    group.run(5_000)
    wire = seal(a.held(uid))
    draft = Draft(b.catalog)
    draft.drop(uid)
    b.catalog.commit(draft, now_ms=group.now_ms)
    b.exchange.handle(Received(a.id, page(a, [wire])), group.now_ms)
    assert b.catalog.object(uid) is None


def test_what_a_peer_knows_is_not_taken_over_from_one_that_has_forgotten_what_is_not_known_here() -> None:
    """(S22) What is known there, and forgotten, would count as known here."""
    group, a, b = pair()
    uid = a.create("x")
    group.run(5_000)
    forgotten = CNSet.span(99, 1, 3)
    shown = a.known.union(forgotten)
    stale = page(a, [], begin=0, end=9, head=9, known=shown.encode(), purged=forgotten.encode())
    b.exchange.handle(Received(a.id, stale), group.now_ms)
    assert not b.known.contains_all(forgotten)
    assert b.exchange.meetings.stale_towards() == [a.id]
    later = page(a, [seal(a.held(uid))], begin=9, end=10, head=10)
    assert not any(isinstance(effect, Send) for effect in b.exchange.handle(Received(a.id, later), group.now_ms))
