"""`wait` never returns early, nor waits for what came after it: histories made to fool it, then random ones."""

from __future__ import annotations

import random

import pytest

from replicad.core.fence import LOOK_ONCE_MS, RETRY_LAST_MS, WaitResult
from replicad.core.messages import Await, AwaitReply, Fence, FenceReply, Message
from replicad.engine import awaiting, looking
from replicad.engine.fences import OPEN_MAX, TOO_MANY
from tests.engine.fence_net import FenceMember, FenceNet

MESH = "ab ac bc"


def a_net(names: str = "abc", links: str = MESH) -> FenceNet:
    net = FenceNet(names, links)
    net.settle_all()
    return net


def done(member: FenceMember, ticket: int) -> bool:
    member.net.deliver()
    found = member.result(ticket)
    return found is not None and found.done


def outcome(member: FenceMember, ticket: int) -> WaitResult:
    found = member.result(ticket)
    assert found is not None, "the wait goes on"
    return found


def test_a_wait_ends_when_what_was_written_before_it_is_installed_on_all() -> None:
    net = a_net()
    a, b, c = net["a"], net["b"], net["c"]
    number = b.user("write", "f", 1)
    ticket = a.wait(a, b, c)
    assert not done(a, ticket), "nobody has looked"
    for member in (a, b, c):
        member.scan()
    assert not done(a, ticket), "the others do not know it"
    a.learn(b)
    c.learn(b)
    a.install()
    assert not done(a, ticket), "c has not installed it"
    c.install()
    assert done(a, ticket)
    net.assert_installed([number], [a, b, c])
    assert outcome(a, ticket).exit_status == 0


def test_a_member_alone_waits_for_its_own_disk() -> None:
    net = FenceNet("a")
    a = net["a"]
    a.user("write", "f", 1)
    ticket = a.wait(a)
    assert not done(a, ticket)
    a.scan()
    assert done(a, ticket)


def test_a_quiet_group_passes_at_once_and_says_little() -> None:
    net = a_net()
    net.sent.clear()
    ticket = net["a"].wait(*net.members.values())
    assert done(net["a"], ticket)
    kinds = [type(message) for _, _, message in net.sent]
    # Of the four Awaits two say that the wait is over.
    assert {kind: kinds.count(kind) for kind in kinds} == {Fence: 2, FenceReply: 2, Await: 4, AwaitReply: 2}


def test_a_hint_that_has_not_been_looked_at_holds_the_fence() -> None:
    net = a_net("a", "")
    a = net["a"]
    a.user("write", "f", 1)
    a.user("write", "g", 1)
    ticket = a.wait(a)
    net.deliver()
    a.scan(keep=1)
    assert not done(a, ticket)
    a.scan()
    assert done(a, ticket)


def test_hints_that_come_after_the_marker_do_not_hold_it() -> None:
    net = a_net("a", "")
    a = net["a"]
    ticket = a.wait(a)
    a.user("write", "f", 1)
    net.deliver()
    a.report_markers()
    a.disk.scanned = a.disk.generation - 1
    a.progress()
    # The marker was reported after the write's hint, so that hint counts too; the next one does not.
    assert not done(a, ticket)
    a.user("write", "g", 1)
    a.scan(keep=1)
    assert done(a, ticket)


def test_the_marker_is_made_when_the_wait_begins_and_removed_when_seen() -> None:
    net = a_net("a", "")
    a = net["a"]
    a.markers_come = False
    ticket = a.wait(a)
    assert len(a.fs.list_dir(looking.FENCE_PATH)) == 1
    assert not done(a, ticket)
    a.report_markers()
    assert a.fs.list_dir(looking.FENCE_PATH) == []
    assert done(a, ticket)


def test_a_marker_that_does_not_come_is_replaced_by_a_look_at_everything() -> None:
    net = a_net("a", "")
    a = net["a"]
    a.markers_come = False
    ticket = a.wait(a)
    net.pass_time(looking.MARKER_MAX_MS - 1)
    assert a.disk.looks == 0
    net.pass_time(1)
    assert a.disk.looks == 1
    assert not done(a, ticket)
    a.scan()
    assert done(a, ticket)


def test_a_polled_folder_is_looked_at_whole() -> None:
    net = a_net("a", "")
    a = net["a"]
    a.disk.watched = False
    ticket = a.wait(a)
    assert a.fs.list_dir(looking.FENCE_PATH) == []
    assert a.disk.looks == 1
    assert not done(a, ticket)
    a.scan()
    assert done(a, ticket)


def test_where_no_marker_can_be_made_everything_is_looked_at() -> None:
    net = a_net("a", "")
    a = net["a"]
    a.fs.remove_dir(looking.FENCE_PATH)
    ticket = a.wait(a)
    assert a.disk.looks == 1
    assert not done(a, ticket)
    a.scan()
    assert done(a, ticket)


def test_an_overflow_may_have_lost_the_marker_so_its_scan_counts() -> None:
    net = a_net("a", "")
    a = net["a"]
    a.markers_come = False
    ticket = a.wait(a)
    a.user("write", "f", 1)
    a.overflow()
    a.scan(keep=1)
    assert not done(a, ticket)
    a.scan()
    assert done(a, ticket)


def test_markers_of_an_earlier_run_are_removed_at_the_start() -> None:
    net = a_net("a", "")
    a = net["a"]
    a.markers_come = False
    a.wait(a)
    a.start()
    assert a.fs.list_dir(looking.FENCE_PATH) == []


def test_while_nothing_may_be_originated_nobody_passes() -> None:
    net = a_net("ab", "ab")
    a, b = net["a"], net["b"]
    b.disk.hindrance = "the root marker is missing"
    ticket = a.wait(a, b, timeout_ms=1_000)
    b.scan()
    assert not done(a, ticket)
    net.pass_time(1_000)
    found = outcome(a, ticket)
    assert found.exit_status == 4
    assert found.behind == ((b.id, "the root marker is missing"),)


# -- what is waited for


def test_a_change_between_fence_and_await_is_not_waited_for() -> None:
    net = a_net()
    a, b, c = net["a"], net["b"], net["c"]
    before = b.user("write", "f", 1)
    ticket = a.wait(a, b, c)
    for member in (a, b, c):
        member.scan()
    net.deliver()
    b.user("write", "f", 2)
    b.user("write", "late", 1)
    b.scan()
    a.learn(b)
    a.install()
    assert not done(a, ticket), "c has not even the first"
    c.learn(b)
    c.install()
    assert done(a, ticket)
    net.assert_installed([before], [a, b, c])


def test_what_came_later_is_not_waited_for_where_all_of_the_target_was_installed_before() -> None:
    net = a_net()
    a, b, c = net["a"], net["b"], net["c"]
    b.user("write", "f", 1)
    ticket = a.wait(a, b, c)
    b.scan()
    net.deliver()
    a.learn(b)
    a.install()
    c.learn(b)
    c.install()
    b.user("write", "late", 1)
    b.scan()
    a.learn(b)
    c.learn(b)
    for member in (a, c):
        member.scan()
    assert done(a, ticket), "`late` is pending on a and c, but was written after the wait began"


def test_a_change_known_only_as_superseded_by_a_pending_one_is_waited_for() -> None:
    """The trap: c never sees b's version as a record, only a's later one, whose vector does not name it."""
    net = a_net()
    a, b, c = net["a"], net["b"], net["c"]
    b.user("write", "f", 1)
    net.settle_all()
    number = b.user("write", "f", 2)
    b.scan()
    ticket = b.wait(a, b, c)
    for member in (a, b, c):
        member.scan()
    net.deliver()
    net.now_ms += 1_000
    a.user("write", "f", 3)  # later, together with b's: it wins, and its vector does not contain b's
    a.scan()
    a.learn(b)
    c.learn(a)
    assert c.catalog.known.contains_all(b.catalog.known)
    b.learn(a)
    b.install()
    assert not done(b, ticket), "c's disk shows neither b's version nor one that superseded it"
    c.install()
    assert done(b, ticket)
    net.assert_installed([number], [a, b, c])


def test_a_version_superseded_in_the_causal_way_is_waited_for() -> None:
    net = a_net("ab", "ab")
    a, b = net["a"], net["b"]
    a.user("write", "f", 1)
    net.settle_all()
    number = a.user("write", "f", 2)
    ticket = b.wait(a, b)
    a.scan()
    b.scan()
    net.deliver()
    a.user("write", "f", 3)
    a.scan()
    b.learn(a)
    assert not done(b, ticket)
    b.install()
    assert done(b, ticket)
    net.assert_installed([number], [a, b])


def test_an_object_that_is_changed_on_and_on_is_done_when_the_version_awaited_was_installed() -> None:
    net = a_net("ab", "ab")
    a, b = net["a"], net["b"]
    a.user("write", "f", 1)
    ticket = a.wait(a, b)
    a.scan()
    b.scan()
    b.learn(a)
    assert not done(a, ticket)
    b.install()
    a.user("write", "f", 2)
    a.scan()
    b.learn(a)
    assert b.catalog.pending(1), "it is pending again"
    assert done(a, ticket)


@pytest.mark.parametrize("kind", ["rename", "delete"])
def test_a_rename_and_a_deletion_are_waited_for(kind: str) -> None:
    net = a_net("ab", "ab")
    a, b = net["a"], net["b"]
    a.user("write", "f", 1)
    net.settle_all()
    number = a.user(kind, "f", "g")
    ticket = a.wait(a, b)
    a.scan()
    b.scan()
    b.learn(a)
    assert not done(a, ticket)
    assert b.disk_shows() == {"f": 1}
    b.install()
    assert done(a, ticket)
    assert b.disk_shows() == ({"g": 1} if kind == "rename" else {})
    net.assert_installed([number], [a, b])


def test_the_hidden_loser_of_a_conflict_is_as_wanted() -> None:
    net = a_net("ab", "ab")
    a, b = net["a"], net["b"]
    a.user("write", "f", 1)
    b.user("write", "f", 2)
    ticket = a.wait(a, b)
    a.scan()
    net.now_ms += 1_000
    b.scan()
    b.learn(a)
    assert not done(a, ticket)
    a.learn(b)
    assert not done(a, ticket), "a's loser is on its disk still"
    a.install()
    assert a.disk_shows() == b.disk_shows() == {"f": 2}
    assert done(a, ticket)


def test_more_pending_objects_than_can_be_remembered_are_waited_for_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(awaiting, "AWAITED_MAX", 3)
    monkeypatch.setattr(awaiting, "COMMITS_BETWEEN_COUNTS", 1)
    net = a_net("ab", "ab")
    a, b = net["a"], net["b"]
    numbers = [a.user("write", f"f{n}", n) for n in range(10)]
    ticket = a.wait(a, b)
    a.scan()
    b.scan()
    b.learn(a)
    for _ in range(9):
        b.install(1)
        assert not done(a, ticket)
    b.install(1)
    assert done(a, ticket)
    net.assert_installed(numbers, [a, b])


def test_with_too_many_to_remember_a_new_version_of_one_does_not_end_it_early(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(awaiting, "AWAITED_MAX", 1)
    monkeypatch.setattr(awaiting, "COMMITS_BETWEEN_COUNTS", 1)
    net = a_net("ab", "ab")
    a, b = net["a"], net["b"]
    numbers = [a.user("write", f"f{n}", n) for n in range(3)]
    ticket = a.wait(a, b)
    a.scan()
    b.scan()
    b.learn(a)
    for n in range(3):
        a.user("write", f"f{n}", 10 + n)
    a.scan()
    b.learn(a)  # new records, new positions; not one is installed
    assert not done(a, ticket)
    b.install()
    assert done(a, ticket)
    net.assert_installed(numbers, [a, b])


def test_many_objects_are_looked_up_in_bounded_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(awaiting, "CHECKED_A_CALL", 2)
    net = a_net("ab", "ab")
    a, b = net["a"], net["b"]
    for n in range(9):
        a.user("write", f"f{n}", n)
    ticket = a.wait(a, b)
    a.scan()
    b.scan()
    b.learn(a)
    b.install()
    net.pass_time(100)  # only timers from here on: the rest is looked up without another commit
    assert done(a, ticket)


# -- who is reached


def test_a_member_reached_through_another_counts() -> None:
    net = a_net("abc", "ab bc")
    a, b, c = net["a"], net["b"], net["c"]
    number = c.user("write", "f", 1)
    ticket = a.wait(a, b, c)
    for member in (a, b, c):
        member.scan()
    b.learn(c)
    b.install()
    a.learn(b)
    assert not done(a, ticket)
    a.install()
    assert done(a, ticket)
    assert outcome(a, ticket).members == tuple(sorted(m.id for m in (a, b, c)))
    net.assert_installed([number], [a, b, c])


def test_a_ring_is_flooded_once() -> None:
    net = a_net("abcdef", "ab bc cd de ef fa")
    net.sent.clear()
    ticket = net["a"].wait(*net.members.values())
    assert done(net["a"], ticket)
    assert len(outcome(net["a"], ticket).members) == 6
    assert sum(isinstance(message, Fence) for _, _, message in net.sent) <= 7


def test_a_forwarder_that_is_lost_takes_the_members_behind_it_along() -> None:
    net = a_net("abc", "ab bc")
    a, b, c = net["a"], net["b"], net["c"]
    c.markers_come = False
    ticket = a.wait(a, b, c, timeout_ms=5_000)
    net.deliver()
    net.cut("a", "b")
    net.pass_time(5_000)
    found = outcome(a, ticket)
    assert found.exit_status == 1
    assert {member for member, _ in found.missing} == {b.id, c.id}


def test_a_forwarder_that_comes_back_is_asked_again() -> None:
    net = a_net("abc", "ab bc")
    a, b, c = net["a"], net["b"], net["c"]
    number = c.user("write", "f", 1)
    ticket = a.wait(a, b, c)
    net.deliver()
    net.cut("a", "b")
    net.pass_time(3_000)
    net.link("a", "b")
    net.pass_time(RETRY_LAST_MS)
    assert not done(a, ticket)
    net.settle_all()
    net.pass_time(RETRY_LAST_MS)
    assert done(a, ticket)
    net.assert_installed([number], [a, b, c])


def test_a_forwarder_lost_after_it_answered_is_not_taken_for_done() -> None:
    net = a_net("abcd", "ab bc ad")
    a, b, c, d = net.members.values()
    d.markers_come = False  # the round stays open
    ticket = a.wait(a, b, c, d)
    net.deliver()
    net.cut("a", "b")  # b has answered, for c too
    d.report_markers()
    net.pass_time(500)
    assert not done(a, ticket)
    net.link("a", "b")
    net.pass_time(500)
    assert done(a, ticket)


def test_the_link_behind_a_forwarder_breaks_while_the_round_is_open() -> None:
    net = a_net("abcd", "ab bc ad")
    a, b, c, d = net.members.values()
    d.markers_come = False
    ticket = a.wait(a, b, c, d, timeout_ms=5_000)
    net.deliver()
    net.cut("b", "c")
    d.report_markers()
    net.pass_time(5_000)
    assert outcome(a, ticket).exit_status == 1
    assert [member for member, _ in outcome(a, ticket).missing] == [c.id]


def test_another_way_round_is_found_in_the_next_round() -> None:
    net = a_net("abcd", "ab ac bd cd")
    a, b, c, d = net.members.values()
    d.markers_come = False
    ticket = a.wait(a, b, c, d)
    net.deliver()
    for one, other in (("b", "d"), ("c", "d")):
        net.cut(one, other)
        net.pass_time(300)
        net.link(one, other)
    d.report_markers()
    net.pass_time(RETRY_LAST_MS)
    assert done(a, ticket)


def test_a_member_that_restarts_in_the_middle_is_asked_again() -> None:
    net = a_net()
    a, b, c = net["a"], net["b"], net["c"]
    number = a.user("write", "f", 1)
    ticket = a.wait(a, b, c)
    for member in (a, b, c):
        member.scan()
    net.deliver()
    b.learn(a)
    net.restart("b")
    b.install()
    assert not done(a, ticket), "it has not looked since it started, and c lacks it"
    b.scan()
    c.learn(a)
    c.install()
    net.pass_time(RETRY_LAST_MS)
    assert done(a, ticket)
    net.assert_installed([number], [a, b, c])


def test_the_waiting_members_own_restart_forgets_the_wait_and_leaves_nothing_behind() -> None:
    net = a_net()
    a, b = net["a"], net["b"]
    b.markers_come = False
    a.wait(*net.members.values())
    net.deliver()
    assert len(b.fs.list_dir(looking.FENCE_PATH)) == 1
    net.restart("a")
    net.deliver()
    assert b.fs.list_dir(looking.FENCE_PATH) == []


def test_a_member_that_connects_during_the_wait_adds_what_is_on_its_disk() -> None:
    net = a_net("abc", MESH)
    a, b, c = net["a"], net["b"], net["c"]
    net.cut("a", "c")
    net.cut("b", "c")
    number = c.user("write", "f", 1)
    ticket = a.wait(a, b, c)
    net.pass_time(1_000)
    assert a.result(ticket) is None
    net.link("a", "c")
    assert not done(a, ticket)
    net.link("b", "c")
    c.scan()
    assert not done(a, ticket)
    net.settle_all()
    net.pass_time(RETRY_LAST_MS)
    assert done(a, ticket)
    net.assert_installed([number], [a, b, c])


def test_what_a_member_wrote_after_it_had_passed_does_not_come_in_with_a_late_one() -> None:
    net = a_net("abc", "ab")
    a, b, c = net["a"], net["b"], net["c"]
    b.user("write", "f", 1)
    ticket = a.wait(a, b, c)
    for member in (a, b):
        member.scan()
    a.learn(b)
    a.install()
    net.deliver()
    b.user("write", "late", 1)
    b.scan()
    a.learn(b)  # a knows it now, has not installed it, and tells so in the next round
    net.link("a", "c")
    c.scan()
    c.learn(a)
    c.install()
    net.pass_time(RETRY_LAST_MS)
    assert a.catalog.pending(1)
    assert done(a, ticket)


def test_an_answer_to_an_earlier_rounds_await_is_not_taken_for_one_to_this() -> None:
    net = a_net("abc", "ab")
    a, b, c = net["a"], net["b"], net["c"]
    a.user("write", "g", 1)
    a.scan()
    ticket = a.wait(a, b, c)  # in the first round c is missing, and b has not installed g
    net.deliver()
    number = c.user("write", "f", 1)
    held: list[Message] = []

    def hold(source: FenceMember, target: FenceMember, message: Message) -> bool:
        if isinstance(message, Await) and target is b:
            held.append(message)
        return isinstance(message, Await) and target is b

    net.drop = hold
    net.link("a", "c")
    c.scan()
    net.deliver()
    assert held, "b was to be told the new target"
    b.learn(a)
    b.install()  # all of the first round's target
    for one, other in ((a, c), (c, a)):
        one.learn(other)
        one.install()
    assert not done(a, ticket), "b has neither heard of f nor of the new target"
    net.drop = lambda source, target, message: False
    net.settle_all()
    net.cut("a", "b")
    net.link("a", "b")
    net.pass_time(RETRY_LAST_MS)
    assert done(a, ticket)
    net.assert_installed([number], [a, b, c])


def test_two_waits_at_once_end_each_for_itself() -> None:
    net = a_net()
    a, b, c = net["a"], net["b"], net["c"]
    first = a.user("write", "f", 1)
    one = a.wait(a, b, c)
    a.scan()
    b.scan()
    c.scan()
    net.deliver()
    second = b.user("write", "g", 1)
    other = c.wait(a, b, c)
    third = c.wait(a, b, c)
    b.learn(a)
    c.learn(a)
    b.install()
    c.install()
    assert done(a, one), "g was not there when it began"
    assert not done(c, other)
    assert not done(c, third)
    net.settle_all()
    assert done(c, other)
    assert done(c, third)
    net.assert_installed([first, second], [a, b, c])


def test_more_waits_than_a_member_takes_part_in_are_refused_with_a_reason() -> None:
    net = a_net("ab", "ab")
    a, b = net["a"], net["b"]
    b.markers_come = False
    for _ in range(OPEN_MAX):
        a.wait(a, b, timeout_ms=5_000)
    net.deliver()
    a.markers_come = False
    last = a.wait(a, b, timeout_ms=0)
    a.report_markers()
    net.pass_time(2 * LOOK_ONCE_MS)
    assert outcome(a, last).behind == ((b.id, TOO_MANY),)


# -- how it ends


def test_missing_members_are_named_and_the_status_is_1() -> None:
    net = a_net("abc", "ab")
    a, b, c = net["a"], net["b"], net["c"]
    ticket = a.wait(a, b, c, timeout_ms=3_000)
    net.pass_time(2_999)
    assert a.result(ticket) is None
    net.pass_time(1)
    assert outcome(a, ticket).missing == ((c.id, "not connected"),)
    assert outcome(a, ticket).exit_status == 1


def test_a_number_of_members_suffices_where_it_was_asked_for() -> None:
    net = a_net("abc", "ab")
    a, b, c = net["a"], net["b"], net["c"]
    ticket = a.wait(a, b, c, count=2)
    assert done(a, ticket)
    more = a.wait(a, b, c, count=4, timeout_ms=1_000)
    net.pass_time(1_000)
    assert outcome(a, more).short == 1
    assert outcome(a, more).exit_status == 1


def test_with_a_number_those_reached_beyond_it_count_too() -> None:
    net = a_net()
    a, b, c = net["a"], net["b"], net["c"]
    a.user("write", "f", 1)
    ticket = a.wait(a, b, c, count=2)
    for member in (a, b, c):
        member.scan()
    b.learn(a)
    b.install()
    assert not done(a, ticket), "c is reachable and has not installed it"
    c.learn(a)
    c.install()
    assert done(a, ticket)


def test_blocked_objects_are_named_and_the_status_is_1_unless_they_heal() -> None:
    net = a_net("ab", "ab")
    a, b = net["a"], net["b"]
    a.user("write", "f", 1)
    tickets = [a.wait(a, b, timeout_ms=3_000), a.wait(a, b, timeout_ms=10_000)]
    a.scan()
    b.scan()
    b.learn(a)
    uid = b.catalog.pending(1)[0]
    b.disk.stuck = [(uid, b"f", "no space left on the disk")]
    net.pass_time(3_000)
    found = outcome(a, tickets[0])
    assert found.blocked == ((b.id, b"f", "no space left on the disk"),)
    assert found.blocked_count == 1
    assert found.behind == ()
    assert found.exit_status == 1
    b.disk.stuck = []
    b.install()
    assert done(a, tickets[1])


def test_what_cannot_be_read_is_blocked_and_counts_again_when_it_heals() -> None:
    net = a_net("ab", "ab")
    a, b = net["a"], net["b"]
    number = b.user("write", "log", 1)
    b.disk.busy = [(b"log", "it is being written to")]
    b.disk.scanned = b.disk.generation  # looked at, and not to be read
    a.scan()
    tickets = [a.wait(a, b, timeout_ms=1_000), a.wait(a, b)]
    net.pass_time(1_000)
    assert outcome(a, tickets[0]).blocked == ((b.id, b"log", "it is being written to"),)
    assert outcome(a, tickets[0]).exit_status == 1
    b.disk.busy = []
    b.scan()
    net.pass_time(RETRY_LAST_MS)
    assert not done(a, tickets[1])
    a.learn(b)
    a.install()
    assert done(a, tickets[1])
    net.assert_installed([number], [a, b])


def test_when_time_runs_out_what_is_missing_is_named_and_the_status_is_4() -> None:
    net = a_net("ab", "ab")
    a, b = net["a"], net["b"]
    a.user("write", "f", 1)
    ticket = a.wait(a, b, timeout_ms=1_000)
    a.scan()
    b.scan()
    net.pass_time(1_000)
    assert outcome(a, ticket).exit_status == 4
    assert outcome(a, ticket).behind == ((b.id, "1 changes are not installed yet"),)


def test_a_member_that_is_still_looking_is_behind_not_missing() -> None:
    net = a_net("ab", "ab")
    a, b = net["a"], net["b"]
    b.user("write", "f", 1)
    ticket = a.wait(a, b, timeout_ms=1_000)
    net.pass_time(1_000)
    assert outcome(a, ticket).exit_status == 4
    assert [member for member, _ in outcome(a, ticket).behind] == [b.id]


def test_a_timeout_of_nothing_looks_once() -> None:
    net = a_net("ab", "ab")
    a, b = net["a"], net["b"]
    a.user("write", "f", 1)
    a.scan()
    b.scan()
    ticket = a.wait(a, b, timeout_ms=0)
    net.deliver()
    assert outcome(a, ticket).exit_status == 4
    b.learn(a)
    b.install()
    again = a.wait(a, b, timeout_ms=0)
    net.deliver()
    assert outcome(a, again).exit_status == 0


def test_looking_once_ends_though_a_member_does_not_answer() -> None:
    net = a_net("ab", "ab")
    a, b = net["a"], net["b"]
    b.markers_come = False
    ticket = a.wait(a, b, timeout_ms=0)
    net.pass_time(2 * LOOK_ONCE_MS)
    assert outcome(a, ticket).exit_status == 4


def test_a_wait_that_is_over_leaves_nothing_open() -> None:
    net = a_net()
    a = net["a"]
    for _ in range(3 * OPEN_MAX):
        ticket = a.wait(*net.members.values(), timeout_ms=1_000)
        assert done(a, ticket)
        a.fences.cancel(ticket)
        net.pass_time(1_000)
    assert all(member.fences.next_due_ms() is None for member in net.members.values())


# -- random histories


@pytest.mark.parametrize("seed", range(100))
def test_in_random_histories_no_wait_ends_early_and_each_one_ends(seed: int) -> None:
    """Acts of users, looks, pages, series, installs, restarts, links cut and mended, in any order, with waits begun in
    between; whenever one says that it is done, everything that was on a disk when it began is on every disk."""
    rng = random.Random(seed)
    names = "abcd"[: rng.randint(2, 4)]
    pairs = [one + other for one in names for other in names if one < other]
    net = FenceNet(names, " ".join(pair for pair in pairs if rng.random() < 0.7))
    waits: dict[tuple[FenceMember, int], dict[int, FenceMember]] = {}
    acts: dict[int, FenceMember] = {}

    def check() -> None:
        for (member, ticket), before in list(waits.items()):
            found = member.result(ticket)
            if found is not None:
                if found.done:
                    reached = [net.by_id[id_] for id_ in found.members]
                    net.assert_installed([act for act, actor in before.items() if actor in reached], reached)
                member.fences.cancel(ticket)
                del waits[member, ticket]

    for _ in range(150):
        member = net[rng.choice(names)]
        match rng.randrange(12):
            case 0 | 1 | 2:
                kind = rng.choice(["write", "write", "delete", "rename"])
                name, value = f"f{rng.randrange(4)}", rng.randrange(9) if kind == "write" else f"f{rng.randrange(4)}"
                acts[member.user(kind, name, value)] = member
            case 3 | 4:
                member.scan(keep=rng.choice([0, 0, 1]))
            case 5 | 6 if member.links:
                other = net.by_id[rng.choice(list(member.links))]
                uids = [state.record.uid for state in other.states()]
                member.learn(other, rng.sample(uids, len(uids) // 2) if rng.random() < 0.5 else None)
            case 7 | 8:
                member.install(rng.randrange(4))
            case 9:
                ticket = member.wait(*net.members.values(), count=rng.choice([None, None, 2]))
                waits[member, ticket] = dict(acts)
            case 10:
                pair = rng.choice(pairs)
                one, other = net[pair[0]], net[pair[1]]
                net.cut(*pair) if other.id in one.links else net.link(*pair)
            case 11 if rng.random() < 0.3:
                for key in [key for key in waits if key[0] is member]:
                    del waits[key]
                net.restart(member.name)
        member.markers_come = rng.random() < 0.9
        if rng.random() < 0.5:
            net.deliver()
        if rng.random() < 0.3:
            net.pass_time(rng.choice([1, 100, 1_000]))
        check()
    for member in net.members.values():
        member.markers_come = True
    for pair in pairs:
        if net[pair[1]].id not in net[pair[0]].links:
            net.link(*pair)
    for _ in range(5):
        net.settle_all()
        net.pass_time(RETRY_LAST_MS)
        check()
    assert not waits, "everything is installed, and a wait goes on"


def test_a_wait_that_is_over_gives_its_places_back_at_once() -> None:
    """No time passes here: their budgets would keep the places of more waits than a member takes part in."""
    net = a_net("abc", "ab bc")
    a, b, c = net["a"], net["b"], net["c"]
    for number in range(OPEN_MAX + 10):
        ticket = a.wait(a, b, c)
        for member in (a, b, c):
            member.scan()
        assert done(a, ticket), f"wait {number}: {a.result(ticket)}"
