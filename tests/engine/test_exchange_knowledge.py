"""Knowledge is honest, and half of a change is not taken for the whole: SCENARIOS S18, S24, S25, S31."""

from __future__ import annotations

import pytest

from replicad.core.cnset import EMPTY
from replicad.core.draft import Draft
from replicad.core.ids import Cn, Uid
from replicad.core.messages import (
    BackfillRequest,
    ContentBackfill,
    ContentChange,
    Message,
    Status,
)
from replicad.core.settling import SENDER_SILENT_MS, UNSETTLED_MAX_MS
from tests.engine.exchange_net import PROMPT, Group, Member, fill, messages, pair, small_pages

# -- honest knowledge


@pytest.mark.requirement("P2")
def test_s18_the_trap_no_member_claims_what_it_does_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """B holds X only as (B,1), which superseded (A,1), and is gone after the first of two pages; C has it still."""
    small_pages(monkeypatch, 1, waiting=1)
    group = Group("ABCD")
    a, b, c, d = (group[name] for name in "ABCD")
    group.connect("A", "C")
    x = a.create("x", 1)
    group.run(5_000)
    group.cut("A", "C")
    group.connect("A", "B")
    group.run(5_000)
    group.crash("A", restart=False)
    first = b.create("first", 2)
    b.edit(x, 3)  # behind it, in B's order
    assert b.known.contains_all(a.known)
    pages = 0

    def one_page(source: Member, target: Member, message: Message) -> bool:
        nonlocal pages
        pages += isinstance(message, ContentBackfill)
        return isinstance(message, ContentChange) or (isinstance(message, ContentBackfill) and pages > 1)

    group.drop = one_page
    group.connect("B", "D")
    group.run_until(lambda: d.catalog.object(first) is not None)
    group.crash("D")
    group.crash("B", restart=False)
    group.assert_honest()
    group.drop = lambda source, target, message: False
    group.connect("C", "D")
    group.run_until(lambda: d.catalog.object(x) is not None)
    assert d.held(x) == c.held(x)
    group.assert_honest()


def test_s31_a_delayed_push_does_not_make_a_member_claim_what_it_never_got(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three writes, two series, two pushes: X has moved on in C's order when the delayed push of Y arrives."""
    small_pages(monkeypatch, 1)
    group = Group("AC", profile=PROMPT)
    a, c = group["A"], group["C"]
    group.connect_all()
    group.run(5_000)
    pushes: list[Message] = []

    def drop(source: Member, target: Member, message: Message) -> bool:
        if isinstance(message, ContentChange):
            pushes.append(message)
            return True
        return isinstance(message, ContentBackfill) and len(messages(group, ContentBackfill)) > 1

    group.drop = drop
    x = c.create("x", 1)
    c.create("y", 2)
    c.create("z", 3)
    c.edit(x, 4)
    group.run_until(lambda: a.catalog.head > 0)
    assert a.catalog.object(x) is None
    group.deliver("C", "A", pushes[1])
    group.assert_honest()
    assert Cn(c.replica, 1) not in a.known
    group.drop = lambda source, target, message: False
    group.run_until(lambda: a.known == c.known)
    group.assert_equal()


def test_s25_a_removed_member_is_refused_at_the_door_and_what_others_pass_on_is_taken() -> None:
    group = Group("ABR", profile=PROMPT)
    a, b, r = (group[name] for name in "ABR")
    group.connect_all()
    group.run(5_000)
    a.barred.add(r.id)  # A has heard of the removal; B has not
    last = r.create("last", 1)
    group.deliver("R", "A", next(message for message in messages(group, ContentChange, "R", "A")))
    assert a.catalog.object(last) is None
    group.run(10_000)
    b.barred.add(r.id)
    assert a.held(last) == b.held(last)
    assert a.known == b.known
    assert a.exchange.backfill_entries() == []


def test_what_a_member_shows_that_may_not_send_opens_no_backfill_entries() -> None:
    group, a, b = pair(PROMPT)
    b.barred.add(a.id)
    a.create("x")
    group.run(100_000)
    assert b.exchange.backfill_entries() == []
    assert b.known == EMPTY
    assert not messages(group, BackfillRequest, "B")


def test_nothing_is_served_to_a_member_that_may_not_receive() -> None:
    group, a, b = pair(PROMPT)
    a.barred.add(b.id)
    a.create("x")
    group.log.clear()
    request = BackfillRequest(correlation=1, replica=a.replica, after=0, base=[], records_max=512, wanted=None, uids=[])
    group.deliver("B", "A", request)
    group.run(100_000)
    assert not messages(group, ContentBackfill, "A")
    assert not messages(group, ContentChange, "A")
    assert not messages(group, Status, "A")


# -- settled


def swap(member: Member, one: Uid, other: Uid) -> None:
    draft = Draft(member.catalog)
    names = [member.held(uid).place for uid in (one, other)]
    assert names[0] is not None
    assert names[1] is not None
    member.rename_in(draft, one, names[1].name.decode())
    member.rename_in(draft, other, names[0].name.decode())
    member.commit(draft)


def test_half_of_a_swap_is_unsettled_until_the_other_half_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    group, a, b = pair(PROMPT)
    one, other = fill(a, 2)
    group.run(5_000)
    small_pages(monkeypatch, 1, waiting=1)
    swap(a, one, other)
    group.run_until(lambda: not b.exchange.settled(one) or not b.exchange.settled(other))
    assert b.held(one) != a.held(one) or b.held(other) != a.held(other)
    group.run_until(lambda: b.known == a.known)
    assert b.exchange.settled(one)
    assert b.exchange.settled(other)


def test_a_push_that_is_complete_is_a_finished_series() -> None:
    group, a, b = pair()
    one, other = fill(a, 2)
    group.run(5_000)
    swap(a, one, other)
    group.run_until(lambda: b.held(one) == a.held(one))
    assert b.held(other) == a.held(other)
    assert not b.exchange.any_unsettled


def test_in_a_full_mesh_a_push_settles_when_what_its_sender_knew_has_come() -> None:
    """B's change is still on its way to C when A, which has it, makes one: that one waits for B's, and no longer."""
    group = Group("ABC")
    group.connect_all()
    group.run(5_000)
    late: list[Message] = []

    def hold_back(source: Member, target: Member, message: Message) -> bool:
        if isinstance(message, ContentChange) and (source.name, target.name) == ("B", "C"):
            late.append(message)
            return True
        return False

    group.drop = hold_back
    group["B"].create("b")
    group.run(10)
    mine = group["A"].create("a")
    group.run(10)
    c = group["C"]
    assert c.catalog.object(mine) is not None
    assert not c.exchange.settled(mine)
    group.deliver("B", "C", late[0])
    assert c.exchange.settled(mine)
    assert not c.exchange.any_unsettled


def test_s24_a_sender_that_is_gone_in_the_middle_of_its_series_leaves_nobody_unsettled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """C sends A the first of two pages and is gone; A passes on what it has; both go on editing every 10 s."""
    group = Group("ABC", profile=PROMPT)
    a, b, c = (group[name] for name in "ABC")
    group.connect("A", "B")
    busy = {"A": a.create("of A"), "B": b.create("of B")}
    z = a.create("z")
    group.run(5_000)
    group.connect("A", "C")
    group.run(5_000)
    group.cut("A", "C")
    small_pages(monkeypatch, 1, waiting=1)
    c.rename(z, "z2")
    other = c.create("other")
    answers = 0

    def one_page(source: Member, target: Member, message: Message) -> bool:
        nonlocal answers
        answers += isinstance(message, ContentBackfill) and source is c
        return source is c and (isinstance(message, ContentChange) or answers > 1)

    group.drop = one_page
    group.connect("A", "C")
    group.run_until(lambda: a.held(z) == c.held(z))
    group.crash("C", restart=False)
    assert not a.exchange.settled(z)
    began_ms = group.now_ms
    settled_ms: dict[str, int] = {}
    while group.now_ms < began_ms + 1_800_000:
        if group.now_ms == began_ms + 5_000:
            b.delete(z)
        for name, uid in busy.items():
            group[name].edit(uid, group.now_ms)
        for name in busy:
            assert group[name].exchange.settled(busy[name]), "what a member itself writes is settled there"
            if name not in settled_ms and group[name].exchange.settled(z):
                settled_ms[name] = group.now_ms - began_ms
        group.run(5_000)
    assert settled_ms["A"] <= SENDER_SILENT_MS + 5_000
    assert settled_ms["B"] <= UNSETTLED_MAX_MS + 10_000
    assert not a.exchange.any_unsettled
    assert not b.exchange.any_unsettled
    content = a.held(z).content
    assert content is not None
    assert content.gone is not None
    assert a.catalog.object(other) is None


def test_a_page_says_that_what_it_holds_is_not_settled_at_its_sender(monkeypatch: pytest.MonkeyPatch) -> None:
    group = Group("ABC", profile=PROMPT)
    fill(group["C"], 4)
    small_pages(monkeypatch, 1, waiting=0)
    group.connect("A", "C")
    group.drop = lambda source, target, message: (
        isinstance(message, ContentBackfill) and source.name == "C" and len(messages(group, ContentBackfill, "C")) > 1
    )
    group.run_until(lambda: group["A"].catalog.head == 1)
    group.connect("A", "B")
    group.run_until(lambda: group["B"].catalog.head == 1)
    (page,) = messages(group, ContentBackfill, "A", "B")
    assert isinstance(page, ContentBackfill)
    assert not page.settled
    assert not group["B"].exchange.settled(group["B"].held(group["B"].catalog.children(b"")[0]).uid)


def test_after_a_start_a_series_that_broke_counts_as_unsettled(monkeypatch: pytest.MonkeyPatch) -> None:
    small_pages(monkeypatch, 10, waiting=10)
    group = Group("AB")
    fill(group["A"], 100)
    group.connect_all()
    group.run_until(lambda: group["B"].catalog.head >= 50)
    group.crash("B")
    assert group["B"].exchange.any_unsettled
    group.connect_all()
    group.run_until(lambda: group["B"].known == group["A"].known)
    assert not group["B"].exchange.any_unsettled
