"""What is preserved, listed and brought back through members in between (engine.relaying), in a whole group."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from replicad.core.effects import Effect
from replicad.core.messages import Answer, Message, Question, RestoreReply
from replicad.engine import relaying
from replicad.engine.folder import FolderReplica
from replicad.engine.preserved_asking import (
    ANSWER_MS,
    LINK_BROKE,
    LIST_MS,
    LISTS_MAX,
    MAYBE,
    NO_ANSWER,
    NOT_CONNECTED,
    Failure,
)
from tests.sim.group import Group
from tests.sim.member import SimMember
from tests.sim.script import a_group, assert_tree, tree
from tests.sim.test_preserved import ask, conflicts

CHAIN = "ab bc cd"


def a_chain() -> Group:
    """a - b - c - d. What b has lost is the number of each file."""
    group = a_group("abcd", {f"f{number}": 500 for number in range(4)}, pairs=CHAIN)
    conflicts(group, 4)
    return group


def lost_by(group: Group, name: str) -> list[int]:
    return [row.preserved_id for row in group[name].catalog.preserved(100)]


def restore(asker: SimMember, keeper: SimMember, number: int, wait_ms: int = 3_000) -> RestoreReply | Failure | None:
    tickets: list[int] = []

    def begin(replica: FolderReplica, now_ms: int) -> Sequence[Effect]:
        ticket, effects = replica.preserved.restore_at(keeper.id, number, b"", asker.group.by_id, now_ms)
        tickets.append(ticket)
        return effects

    asker.act(begin)
    asker.group.run(wait_ms)
    return asker.running.preserved.restored(tickets[0], asker.now_ms)


def test_both_ends_of_a_chain_list_what_each_member_keeps() -> None:
    group = a_chain()
    rows = {name: lost_by(group, name) for name in "abcd"}
    assert rows["b"]
    for asker in group.members.values():
        found = ask(asker)
        assert found is not None
        assert (found.failed, found.left_off) == ({}, {})
        assert {one.name: [row.number for row in found.rows[one.id]] for one in group.members.values()} == rows
    before = group.network.messages["question"]
    ask(group["d"])
    assert group.network.messages["question"] - before == 1 + 2 + 3, "one for each member and link on its way"


def test_a_file_is_brought_back_over_the_whole_chain_once() -> None:
    group = a_chain()
    b, d = group["b"], group["d"]
    number = lost_by(group, "b")[0]
    assert restore(d, b, number) == RestoreReply(path=b"f0 (restored)", reason="")
    again = restore(d, b, number)
    assert isinstance(again, RestoreReply)
    assert (again.path, "no preserved file has the number" in again.reason) == (b"", True)
    group.heal()
    assert_tree(group, {"f0": 1_000, "f1": 1_001, "f2": 1_002, "f3": 1_003, "f0 (restored)": 0})
    group.check()


def test_who_is_gone_or_behind_one_that_is_gone_is_named() -> None:
    group = a_chain()
    a, c, d = (group[name] for name in "acd")
    d.stop()
    group.run(10_000)  # that it is gone goes round
    found = ask(a)
    assert found is not None
    assert found.failed == {d.id: Failure(NOT_CONNECTED)}
    c.stop()
    group.run(10_000)
    found = ask(a)
    assert found is not None
    assert found.failed == {c.id: Failure(NOT_CONNECTED), d.id: Failure(NOT_CONNECTED)}
    assert restore(a, d, 1) == Failure(NOT_CONNECTED)


def test_one_that_has_just_gone_is_named_at_once_by_who_sees_it() -> None:
    """No status has told of it yet: the way leads there, and its last member says that it ends."""
    group = a_chain()
    a, c, d = (group[name] for name in "acd")
    group.network.on_message = lambda source, target, message: isinstance(message, Question | Answer)  # no status
    d.stop()
    group.run(5_000)
    found = ask(a, 1_000)
    assert found is not None
    assert found.failed == {d.id: Failure(NOT_CONNECTED, (group["b"].id, c.id))}


def test_one_that_does_not_answer_is_named_and_one_that_goes_meanwhile_too() -> None:
    group = a_chain()
    a, b, c, d = (group[name] for name in "abcd")
    silent = True

    def lost(source: SimMember, target: SimMember, message: Message) -> bool:
        return not (silent and target is d and isinstance(message, Question))

    group.network.on_message = lost
    found = ask(a, ANSWER_MS + 2_000)
    assert found is not None
    assert found.failed == {d.id: Failure(NO_ANSWER % 10, (b.id, c.id))}
    number = lost_by(group, "b")[0]
    group.network.on_message = lambda source, target, message: not (source is b and isinstance(message, Answer))
    assert restore(d, b, number) is None
    group.network.reset("b", "c")
    group.run(5_000)
    assert restore(d, d, number) is not None  # its own is another matter
    replica = d.running.preserved
    (ticket,) = (one for one in replica._asking._inquiries)
    assert replica.restored(ticket, d.now_ms) == Failure(LINK_BROKE + MAYBE, (c.id,))
    group.network.on_message = lambda source, target, message: True
    group.heal()
    assert tree(d)["f0 (restored)"] == 0, "it was brought back all the same, once"
    assert sum("restored" in path for path in tree(d)) == 1


def test_another_way_is_taken_where_one_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    group = a_group("abcd", {"f0": 500}, pairs="ab ac bd cd")
    conflicts(group, 1)
    a, d = group["a"], group["d"]
    first: list[SimMember] = []

    def lost(source: SimMember, target: SimMember, message: Message) -> bool:
        if isinstance(message, Question) and target is d and not first:
            first.append(source)
            group.network.reset(source.name, "d")  # it breaks under the question
            return False
        return True

    group.network.on_message = lost
    found = ask(a, 6_000)
    assert found is not None
    assert first
    assert found.failed == {}
    assert d.id in found.rows


def test_i11_nobody_passes_on_for_whom_nothing_is_accepted_from() -> None:
    group = a_chain()
    b, c, d = (group[name] for name in "bcd")
    number = lost_by(group, "b")[0]
    c.barred.add("d")
    assert restore(d, b, number, 20_000) is None
    c.barred.clear()
    b.barred.add("d")  # the end of the way judges the asker, not its neighbour alone
    assert restore(d, b, number, 20_000) is None
    found = ask(d, ANSWER_MS + 3_000)
    assert found is not None
    assert b.id in found.failed
    assert b.id not in found.rows
    b.barred.clear()
    b.barred.add("c")  # nor does an asker's good name help a neighbour
    assert restore(d, b, number, 20_000) is None
    assert "f0 (restored)" not in tree(b)


def test_a_relay_keeps_a_bounded_number_of_questions_and_none_after_they_are_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(relaying, "PASSED_NEIGHBOUR_MAX", 2)
    group = a_chain()
    a, b, d = (group[name] for name in "abd")
    group.network.on_message = lambda source, target, message: not (source is d and isinstance(message, Answer))
    most = 0

    def look(member: SimMember) -> None:
        nonlocal most
        most = max(most, b.running.preserved._relaying.under_way)

    group.on_handled = look
    found = [restore(a, d, 1, 500) for _ in range(4)]
    assert most == 2
    assert [isinstance(one, Failure) for one in found] == [False, False, True, True], "those beyond it are told so"
    group.network.reset("b", "c")
    group.run(10_000)
    assert b.running.preserved._relaying.under_way == 0


@pytest.mark.parametrize("seed", range(6))
def test_whatever_links_do_a_list_ends_and_accounts_for_every_member(seed: int) -> None:
    names, pairs = "abcdef", "ab bc cd de ef fa be"
    group = a_group(names, {f"f{number}": 500 for number in range(3)}, pairs=pairs, seed=seed)
    conflicts(group, 3)
    rng = random.Random(seed)
    tickets: list[tuple[SimMember, int, int]] = []
    for _ in range(30):
        asker = group[rng.choice(names)]

        def begin(replica: FolderReplica, now_ms: int, asker: SimMember = asker) -> Sequence[Effect]:
            ticket, effects = replica.preserved.list_group(group.by_id, now_ms)
            tickets.append((asker, ticket, now_ms))
            return effects

        if sum(one is asker for one, _, _ in tickets) < LISTS_MAX:
            asker.act(begin)
        one, other = rng.choice(group.network.pairs)
        group.network.reset(one, other)
        group.run(rng.choice((5, 50, 500)))
    group.run(LIST_MS)
    for asker, ticket, begun_ms in tickets:
        found = asker.running.preserved.listing(ticket, asker.now_ms)
        assert found is not None, f"{asker.name} still waits for what it asked at {begun_ms}"
        for member in group.members.values():
            told = [row.number for row in found.rows.get(member.id, [])]
            assert told == lost_by(group, member.name) or member.id in found.failed
    for member in group.members.values():
        assert member.running.preserved.next_due_ms(member.now_ms, disk=False) is None
