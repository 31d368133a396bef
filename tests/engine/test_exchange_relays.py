"""What relays pass on, and how quiet a group is (I9)."""

from __future__ import annotations

import msgspec
import pytest

from replicad.core.backfill import Profile
from replicad.core.cnset import EMPTY, CNSet
from replicad.core.draft import Draft
from replicad.core.effects import Received
from replicad.core.ids import Cn
from replicad.core.messages import (
    BackfillRequest,
    ContentChange,
    MemberStatus,
    Status,
    set_of,
)
from replicad.core.status_board import STATUS_INTERVALS_MAX
from tests.engine.exchange_net import PROMPT, Group, fill, messages, pair

# -- relays and quiet


@pytest.mark.requirement("P4")
def test_in_a_full_mesh_a_change_crosses_each_link_of_its_author_once_and_no_other() -> None:
    group = Group("ABCDEF")
    group.latency_ms = (1, 40)
    group.connect_all()
    group.run(5_000)
    group.page_records.clear()
    for round_ in range(10):
        for member in group.members.values():
            member.create(f"{member.name}{round_}")
        group.run(1_500)
    group.run(20_000)
    group.assert_equal()
    assert set(group.page_records.values()) == {10}
    assert len(group.page_records) == 30
    assert not messages(group, BackfillRequest)


def test_a_member_passes_on_at_once_what_those_it_is_connected_to_cannot_get_themselves() -> None:
    group = Group("ABCD")
    for one, other in ("AB", "BC", "CD"):
        group.connect(one, other)
    group.run(5_000)
    group.page_records.clear()
    group["A"].create("x")
    took_ms = group.run_until(group.converged)
    assert took_ms <= 30
    group.run(20_000)
    assert group.page_records == {("A", "B"): 1, ("B", "C"): 1, ("C", "D"): 1}


def test_a_relay_passes_on_what_the_link_between_two_others_lost() -> None:
    group = Group("ABC", profile=Profile(gap_delay_ms=1_000_000))
    group.connect_all()
    group["B"].create("so that nothing is asked at once")
    group.run(5_000)
    group.drop = lambda source, target, message: {source.name, target.name} == {"A", "C"}
    group["A"].create("x")
    assert 1_000 <= group.run_until(group.converged) <= 2_600


def test_everyone_hears_of_everyones_state_through_relays() -> None:
    group = Group("ABCD")
    for one, other in ("AB", "BC", "CD"):
        group.connect(one, other)
    group["A"].create("x")
    group.run(10_000)
    for member in group.members.values():
        statuses = member.exchange.statuses()
        assert set(statuses) == {other.id for other in group.members.values()} - {member.id}
        assert all(status.known == group["A"].known for status in statuses.values())


def test_statuses_of_members_that_are_away_survive_a_restart() -> None:
    group = Group("ABC")
    group.connect("A", "B")
    group.connect("B", "C")
    group["C"].create("x")
    group.run(30_000)
    group.cut("B", "C")
    group.run(30_000)
    group.crash("A")
    statuses = group["A"].exchange.statuses()
    assert {status.known for status in statuses.values()} == {group["C"].known}
    assert set(statuses) == {group["B"].id, group["C"].id}


@pytest.mark.parametrize("mesh", [True, False])
def test_i9_a_converged_group_exchanges_periodic_statuses_and_nothing_else(mesh: bool) -> None:
    group = Group("ABCD")
    if mesh:
        group.connect_all()
    else:
        for one, other in ("AB", "BC", "CD"):
            group.connect(one, other)
    for member in group.members.values():
        fill(member, 20)
    group.run(60_000)
    group.assert_equal()
    group.sent.clear()
    heads = {name: member.catalog.head for name, member in group.members.items()}
    group.run(3_600_000)
    assert set(group.sent) == {"status"}
    directions = 12 if mesh else 6
    assert 45 * directions <= group.sent["status"] <= 80 * directions
    assert heads == {name: member.catalog.head for name, member in group.members.items()}


def test_a_quiet_member_writes_nothing_to_its_catalog() -> None:
    group, a, b = pair()
    fill(a, 5)
    group.run(60_000)
    before = b.database.connection.total_changes
    group.run(3_600_000)
    assert b.database.connection.total_changes == before


def test_a_slow_peer_is_not_sent_more_than_a_page_that_it_has_not_told_of() -> None:
    group, a, b = pair()
    group.latency_ms = (60_000, 60_000)
    for index in range(2_000):
        a.create(f"f{index}")
    assert group.page_records["A", "B"] == 512
    group.latency_ms = (1, 5)
    group.run_until(lambda: b.known == a.known)
    assert group.page_records["A", "B"] <= 2_600


@pytest.mark.requirement("D8")
def test_ten_thousand_statuses_leave_nothing_behind_but_the_last_one() -> None:
    group, a, b = pair()
    fill(a, 3)
    group.run(5_000)
    last = messages(group, Status, "A", "B")[-1]
    assert isinstance(last, Status)
    for serial in range(10_000):
        own = msgspec.structs.replace(last.own, serial=last.own.serial + serial + 1)
        b.exchange.handle(Received(a.id, msgspec.structs.replace(last, own=own)), group.now_ms)
    assert b.exchange.statuses()[a.id].status.serial == last.own.serial + 10_000
    assert not b.exchange.backfill_entries()
    group.sent.clear()
    group.run(30_000)
    assert group.sent.total() <= 2


# -- what is served, and when


def test_before_a_founders_first_scan_ends_nothing_is_served_or_shown_and_all_is_taken() -> None:
    group = Group("AB", profile=PROMPT)
    a, b = group["A"], group["B"]
    a.serves = False
    group.connect_all()
    found = a.create("found by the scan")
    theirs = b.create("of B")
    group.run(60_000)
    assert b.catalog.object(found) is None
    assert a.held(theirs) == b.held(theirs)
    assert b.exchange.statuses()[a.id].known == EMPTY
    assert b.exchange.backfill_entries() == []
    a.serves = True
    group.carry_out(a, a.exchange.after_commit(group.now_ms))
    assert group.run_until(lambda: b.known == a.known) <= 1_500
    group.assert_equal()


def test_a_status_that_shows_a_part_covers_nothing_and_proves_no_fault() -> None:
    group, a, b = pair()
    a.create("x")
    group.run(5_000)
    last = messages(group, Status, "A", "B")[-1]
    group.drop = lambda source, target, message: True
    for name in ("lost", "lost too"):
        a.create(name)
    part = msgspec.structs.replace(last.own, serial=10_000, head=3, digest=b"")
    group.deliver("A", "B", msgspec.structs.replace(last, own=part))
    a.create("later")
    group.deliver("A", "B", messages(group, ContentChange, "A", "B")[-1])
    group.assert_honest()
    assert b.reports == []
    assert b.known.count() == 2


@pytest.mark.requirement("P2")
def test_a_set_with_very_many_holes_is_shown_in_part_and_taken_whole() -> None:
    group = Group("AB", profile=PROMPT)
    a, b = group["A"], group["B"]
    draft = Draft(a.catalog)
    draft.learn(CNSet.of(Cn(99, counter) for counter in range(1, 12_001, 2)))
    a.catalog.commit(draft, now_ms=group.now_ms)
    a.create("x")
    group.connect_all()
    group.run(5_000)
    shown = messages(group, Status, "A", "B")[-1].own
    assert shown.digest == b""
    assert set_of(shown.known).interval_count() == STATUS_INTERVALS_MAX
    assert b.known == a.known
    assert a.known.interval_count() == 6_001
    assert b.exchange.backfill_entries() == []


def test_peers_that_have_installed_a_change_are_known_by_their_statuses() -> None:
    group = Group("ABC")
    group.connect_all()
    group.run(5_000)
    cn = Cn(group["A"].replica, 1)
    group["B"].complete = True
    group["A"].create("x")
    assert group["C"].exchange.peers_with(cn) == []
    group.run(3_000)
    assert group["C"].exchange.peers_with(cn) == sorted((group["A"].id, group["B"].id))
    group.cut("B", "C")
    assert group["C"].exchange.peers_with(cn) == [group["A"].id]


def test_what_nobody_shows_any_more_since_catalogs_were_put_back_is_not_waited_for() -> None:
    group = Group("ABC")
    group.connect("A", "B")
    group.connect("B", "C")
    group.run(5_000)
    group.drop = lambda source, target, message: target.name == "C" and not isinstance(message, Status)
    group["A"].create("x")
    group.run(5_000)
    lost = group["A"].known
    assert [entry.cns for entry in group["C"].exchange.backfill_entries()] == [lost]
    told = messages(group, Status, "B", "C")[-1]
    of_a = group["C"].exchange.statuses()[group["A"].id].status

    def without(status: MemberStatus, number: int) -> MemberStatus:
        less = set_of(status.known).minus(lost)
        return msgspec.structs.replace(status, known=less.encode(), serial=status.serial + number)

    group.deliver("B", "C", msgspec.structs.replace(told, own=without(told.own, 1_000), heard=[]))
    assert [entry.cns for entry in group["C"].exchange.backfill_entries()] == [lost], "A has it, as far as is known"
    group.deliver("B", "C", msgspec.structs.replace(told, own=without(told.own, 1_001), heard=[without(of_a, 1_000)]))
    assert group["C"].exchange.backfill_entries() == []
