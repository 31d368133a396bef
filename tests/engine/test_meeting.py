"""Members that meet: docs/safety.md, section 2."""

from __future__ import annotations

from replicad.core.effects import LinkUp, Received
from replicad.core.messages import Status
from replicad.core.messages_meeting import Judged, Meet
from replicad.engine.meeting import life_of, new_life
from tests.engine.exchange_net import Group, Member, messages, pair


def begun_again(group: Group, member: Member) -> None:
    """Its folder is stopped and started, while its links stay up: nobody hears of that."""
    member.start()
    for peer in group.members.values():
        if peer is not member and group.linked(member, peer):
            group.carry_out(member, member.exchange.handle(LinkUp(peer.id), group.now_ms))


def test_a_folder_that_is_begun_again_on_one_side_of_a_link_is_met_anew_by_the_other() -> None:
    group, a, b = pair()
    a.create("x")
    group.run(5_000)
    met = len(messages(group, Meet, "A", "B"))
    begun_again(group, b)
    group.run(1_000)
    assert len(messages(group, Meet, "A", "B")) == 2 * met, "as often as the first time"
    a.create("y")
    b.create("z")
    group.run(1_000)
    group.assert_equal()
    assert group.converged()


def test_members_that_have_met_do_not_meet_again() -> None:
    group, _, _ = pair()
    before = group.sent["meet"]
    group.run(600_000)
    assert group.sent["meet"] == before
    assert messages(group, Status)


def test_an_answer_for_an_earlier_life_is_no_answer_for_this_one() -> None:
    """What comes after it may have been meant for that life too, so the link stays closed until this one is judged."""
    group, a, b = pair()
    a.create("x")
    group.run(5_000)
    life, meetings = life_of(a.catalog), a.exchange.meetings
    a.catalog.commit(None, [new_life(a.catalog, 0, group.now_ms)], now_ms=group.now_ms)
    meetings.greet_anew(group.now_ms, [])  # lost on its way
    late = Judged(session=meetings.run.number, mark=meetings.run.mark, put_back=False, life=life, knows=True, of=life)
    group.carry_out(a, a.exchange.handle(Received(b.id, late), group.now_ms))
    a.create("y")
    group.run(30_000)
    assert group.sent["judged"] > 2, "it was asked again"
    group.assert_equal()
    assert group.converged()
