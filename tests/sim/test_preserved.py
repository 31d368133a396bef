"""The list of preserved files over a group, files brought back by others, and preserved files as sources."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest

from replicad.core.effects import Effect
from replicad.core.ids import MemberId
from replicad.core.messages import (
    Answer,
    Message,
    NoWay,
    PreservedPage,
    PreservedRequest,
    PreservedRow,
    Question,
    Restore,
    RestoreReply,
    decode_message,
    encode_message,
)
from replicad.engine import preserved, preserved_asking
from replicad.engine.folder import FolderReplica
from replicad.engine.preserved_asking import ANSWER_MS, NO_ANSWER, Failure, Listing
from replicad.errors import ProtocolError
from tests.sim.group import Group
from tests.sim.member import SimMember
from tests.sim.script import a_group, apart, assert_tree, kept, put, tree

A, B = b"a" * 32, b"b" * 32


def conflicts(group: Group, count: int) -> None:
    """So many files that b lost to a, the last of which c had installed, too."""
    apart(group)
    for number in range(count):
        put(group["b"], f"f{number}", number)
    group.run(2_000)
    for number in range(count):
        put(group["a"], f"f{number}", 1_000 + number)
    group.run(2_000)
    group.heal()


def ask(member: SimMember, wait_ms: int = 3_000) -> Listing | None:
    """What the member's operator is told."""
    tickets: list[int] = []

    def begin(replica: FolderReplica, now_ms: int) -> Sequence[Effect]:
        ticket, effects = replica.preserved.list_group(member.group.by_id, now_ms)
        tickets.append(ticket)
        return effects

    member.act(begin)
    member.group.run(wait_ms)
    found = member.running.preserved.listing(tickets[0], member.now_ms)
    if found is not None:
        member.running.preserved.forget(tickets[0])
    return found


def names(group: Group, members: Iterable[MemberId]) -> list[str]:
    return sorted(group.by_id[member].name for member in members)


def test_every_member_gives_the_same_list_with_what_each_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preserved, "PRESERVED_ROWS_MAX", 3)  # several pages
    group = a_group("abc", {f"f{number}": 500 for number in range(8)})
    conflicts(group, 8)
    for member in group.members.values():
        found = ask(member)
        assert found is not None
        assert (found.failed, found.left_off) == ({}, {})
        rows = found.rows[group["b"].id]
        assert [row.path for row in rows] == [b"f%d" % number for number in range(8)]
        assert all(row.why == "edited elsewhere meanwhile" and not row.pre_existing for row in rows)
        assert {row.replica for row in rows} == {group["b"].catalog.replica}
        assert {row.winner for row in rows} == {group["a"].catalog.replica}
        assert found.rows[group["a"].id] == []


def test_a_list_ends_where_somebody_keeps_more_than_anybody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preserved, "PRESERVED_ROWS_MAX", 3)
    monkeypatch.setattr(preserved_asking, "ROWS_MAX", 6)
    group = a_group("abc", {f"f{number}": 500 for number in range(8)})
    conflicts(group, 8)
    found = ask(group["a"])
    assert found is not None
    assert len(found.rows[group["b"].id]) == 6
    assert found.left_off[group["b"].id] == 2
    monkeypatch.setattr(preserved_asking, "ROWS_MAX", 100)
    monkeypatch.setattr(preserved_asking, "LISTED_BYTES_MAX", 150)
    found = ask(group["a"])
    assert found is not None
    told = len(found.rows[group["b"].id])
    assert 0 < told < 8, "it tells too much of too few"
    assert found.left_off[group["b"].id] == 8 - told


def test_who_goes_away_or_does_not_answer_is_named_and_holds_nobody_up() -> None:
    group = a_group("abc", {"f0": 500})
    conflicts(group, 1)
    a, b, c = (group[name] for name in "abc")
    group.network.on_message = lambda source, target, message: not (target is b and isinstance(message, Question))
    tickets: list[int] = []

    def begin(replica: FolderReplica, now_ms: int) -> Sequence[Effect]:
        ticket, effects = replica.preserved.list_group([b.id, c.id], now_ms)
        tickets.append(ticket)
        return effects

    a.act(begin)
    group.run(ANSWER_MS // 2)
    assert a.running.preserved.listing(tickets[0], a.now_ms) is None
    group.run(ANSWER_MS)
    found = a.running.preserved.listing(tickets[0], a.now_ms)
    assert found is not None
    assert found.failed == {b.id: Failure(NO_ANSWER % 10)}
    assert names(group, found.rows) == ["a", "c"]


def test_another_member_brings_back_what_it_keeps_and_says_why_not() -> None:
    group = a_group("abc", {"f0": 500})
    conflicts(group, 1)
    b, c = group["b"], group["c"]
    found = ask(c)
    assert found is not None
    (row,) = found.rows[b.id]

    def restore(number: int) -> RestoreReply:
        tickets: list[int] = []

        def begin(replica: FolderReplica, now_ms: int) -> Sequence[Effect]:
            ticket, effects = replica.preserved.restore_at(b.id, number, b"", [], now_ms)
            tickets.append(ticket)
            return effects

        c.act(begin)
        group.run(3_000)
        reply = c.running.preserved.restored(tickets[0], c.now_ms)
        assert isinstance(reply, RestoreReply)
        return reply

    assert restore(row.number).path == b"f0 (restored)"
    again = restore(row.number)
    assert (again.path, "no preserved file has the number" in again.reason) == (b"", True)
    group.heal()
    assert_tree(group, {"f0": 1_000, "f0 (restored)": 0})


def test_i11_whom_nothing_is_accepted_from_is_told_nothing_and_restores_nothing() -> None:
    group = a_group("abc", {"f0": 500})
    conflicts(group, 1)
    b, c = group["b"], group["c"]
    (row,) = b.catalog.preserved(10)
    b.barred.add("c")
    c.act(lambda replica, now_ms: replica.preserved.restore_at(b.id, row.preserved_id, b"", [], now_ms)[1])
    found = ask(c, ANSWER_MS + 3_000)
    assert found is not None
    assert b.id not in found.rows
    assert b.id in found.failed
    assert 0 in kept(b)
    assert tree(b) == {"f0": 1_000}


def test_a_preserved_file_whose_content_was_not_known_is_a_source_once_it_was_read() -> None:
    """It comes up again, in the tree of nobody, and was found in the store after a crash."""
    group = a_group("abc")
    apart(group)
    put(group["a"], "n", 101)
    group.run(1_000)
    put(group["b"], "n", 102)
    group.run(1_000)
    group.heal()
    a = group["a"]
    assert (kept(a), tree(a)) == ([101], {"n": 102})
    for member in group.members.values():
        member.stop()
        member.database.connection.execute("DELETE FROM preserved")
        member.database.connection.commit()
    group.start_all()
    group.set_siblings(True)
    group.heal()
    assert sorted(data for data in tree(group["c"]).values() if data) == [101, 102]
    group.check()


@pytest.mark.parametrize(
    "message",
    [
        PreservedPage(rows=[], more=True, files=1),
        PreservedPage(rows=[], more=False, files=-1),
        Restore(number=1, to=b"x" * 65_537),
        Restore(number=2**63, to=b""),
        RestoreReply(path=b"x" * 65_537, reason=""),
        NoWay(member=b"short", why=0),
        Answer(asker=b"short", correlation=1, answered=b""),
        Answer(asker=A, correlation=-1, answered=b""),
        Question(route=[A], correlation=1, budget_ms=1, asked=b""),
        Question(route=[A, b"short"], correlation=1, budget_ms=1, asked=b""),
        Question(route=[A, B, A], correlation=1, budget_ms=1, asked=b""),
        Question(route=[bytes([n]) * 32 for n in range(33)], correlation=1, budget_ms=1, asked=b""),
        Question(route=[A, B], correlation=2**63, budget_ms=1, asked=b""),
        Question(route=[A, B], correlation=1, budget_ms=1, asked=bytes(70_000)),
    ],
)
def test_i8_messages_out_of_their_limits_are_refused(message: Message) -> None:
    with pytest.raises(ProtocolError):
        decode_message(encode_message(message))


@pytest.mark.parametrize(
    "message",
    [
        PreservedPage(rows=[], more=False, files=0),
        PreservedRequest(after=-5),
        NoWay(member=b"m" * 32, why=77),
        Question(route=[bytes([n]) * 32 for n in range(32)], correlation=1, budget_ms=-1, asked=b"anything"),
    ],
)
def test_messages_at_their_limits_are_taken(message: Message) -> None:
    assert decode_message(encode_message(message)) == message


def test_i8_rows_out_of_their_limits_are_refused() -> None:
    def row(**changes: object) -> PreservedRow:
        fields = {
            "number": 1, "pre_existing": False, "path": b"f", "kind": 1, "size": 1, "digest": b"", "replica": 1,
            "winner": 0, "when_ms": 1, "why": "w",
        }  # fmt: skip
        return PreservedRow(**{**fields, **changes})  # type: ignore[arg-type]

    for rows in (
        [row(digest=b"short")],
        [row(size=-1)],
        [row(number=2), row(number=1)],
        [row(path=b"x" * 65_537)],
        [row(why="x" * 501)],
        [row(number=number) for number in range(501)],
    ):
        with pytest.raises(ProtocolError):
            decode_message(encode_message(PreservedPage(rows=rows, more=False, files=1)))
