"""Questions that go through a member (engine.relaying)."""

from __future__ import annotations

import pytest

from replicad.core.effects import Effect, Send
from replicad.core.messages import (
    LINK_LOST,
    NO_LINK,
    TOO_MANY,
    Answer,
    NoWay,
    Question,
    decode_message,
)
from replicad.engine.relaying import BUDGET_MAX_MS, PASSED_MAX, PASSED_NEIGHBOUR_MAX, Relaying
from replicad.errors import ProtocolError

A, B, C, D, E = (bytes([number]) * 32 for number in range(1, 6))


def question(*route: bytes, correlation: int = 1, budget_ms: int = 1_000) -> Question:
    return Question(route=list(route), correlation=correlation, budget_ms=budget_ms, asked=b"asked")


def answer(asker: bytes, correlation: int = 1) -> Answer:
    return Answer(asker=asker, correlation=correlation, answered=b"answered")


class World:
    """B, between A and C."""

    def __init__(self, *links: bytes) -> None:
        self.links = {one.hex() for one in links or (A, C)}
        self.barred: set[str] = set()
        self.relaying = Relaying(B.hex(), lambda member: member not in self.barred, lambda: self.links)

    def passed(self, asked: Question, now_ms: int = 0) -> list[Effect]:
        peer = asked.route[asked.route.index(B) - 1].hex()
        assert not self.relaying.arrived(peer, asked)
        return self.relaying.pass_on(peer, asked, now_ms)


def no_way(effects: list[Effect]) -> list[tuple[str, int, int]]:
    """(to whom, correlation, why) of what is told; all is NoWay of B's."""
    found = []
    for effect in effects:
        assert isinstance(effect, Send)
        assert isinstance(effect.message, Answer)
        told = decode_message(effect.message.answered)
        assert isinstance(told, NoWay)
        assert told.member == B
        found.append((effect.peer, effect.message.correlation, told.why))
    return found


def test_a_question_goes_on_as_it_came_and_its_answer_back_once() -> None:
    world = World()
    asked = question(A, B, C)
    assert world.passed(asked) == [Send(C.hex(), asked)]
    assert world.relaying.pass_back(C.hex(), answer(A)) == [Send(A.hex(), answer(A))]
    assert world.relaying.pass_back(C.hex(), answer(A)) == [], "nobody waits for it any more"
    assert world.relaying.under_way == 0


def test_i11_what_was_not_asked_for_or_comes_from_another_is_not_passed_back() -> None:
    world = World(A, C, D)
    world.passed(question(A, B, C))
    assert world.relaying.pass_back(D.hex(), answer(A)) == []
    assert world.relaying.pass_back(C.hex(), answer(A, correlation=2)) == []
    assert world.relaying.pass_back(C.hex(), answer(D)) == []
    assert world.relaying.under_way == 1


def test_i11_a_question_comes_by_its_own_way_or_its_neighbour_is_at_fault() -> None:
    world = World(A, C, D)
    for peer, asked in ((D, question(A, B, C)), (A, question(A, C)), (A, question(B, A))):
        with pytest.raises(ProtocolError):
            world.relaying.arrived(peer.hex(), asked)
    assert world.relaying.arrived(A.hex(), question(A, B))


def test_i11_for_whom_nothing_is_accepted_from_nothing_is_passed_on() -> None:
    world = World(A, C, D)
    world.barred.add(D.hex())
    assert world.passed(question(D, A, B, C)) == []
    assert world.relaying.under_way == 0


def test_who_is_not_linked_is_told_of_at_once() -> None:
    world = World(A)
    assert no_way(world.passed(question(A, B, C))) == [(A.hex(), 1, NO_LINK)]
    assert world.relaying.under_way == 0


def test_a_link_that_breaks_ends_what_was_asked_over_it() -> None:
    world = World(A, C, D)
    world.passed(question(A, B, C, correlation=1))
    world.passed(question(A, B, D, correlation=2))
    world.passed(question(D, B, C, correlation=3))
    assert no_way(world.relaying.link_down(D.hex())) == [(A.hex(), 2, LINK_LOST)]
    assert no_way(world.relaying.link_down(C.hex())) == [(A.hex(), 1, LINK_LOST)]
    assert world.relaying.under_way == 0


def test_no_neighbour_takes_all_places_and_there_are_so_many_in_all() -> None:
    links = [bytes([number]) * 32 for number in range(10, 20)]
    world = World(C, *links)
    for number in range(PASSED_NEIGHBOUR_MAX):
        assert world.passed(question(links[0], B, C, correlation=number))
    assert no_way(world.passed(question(links[0], B, C, correlation=99))) == [(links[0].hex(), 99, TOO_MANY)]
    assert world.passed(question(links[1], B, C))[0].peer == C.hex()  # type: ignore[union-attr]
    for link in links[2:]:
        for number in range(PASSED_NEIGHBOUR_MAX):
            world.passed(question(link, B, C, correlation=number))
    assert world.relaying.under_way == PASSED_MAX
    assert no_way(world.passed(question(links[1], B, C, correlation=5))) == [(links[1].hex(), 5, TOO_MANY)]


def test_one_that_is_under_way_is_not_taken_over_by_another() -> None:
    world = World(A, C, D)
    world.passed(question(A, B, C))
    assert no_way(world.passed(question(A, D, B, C))) == [(D.hex(), 1, TOO_MANY)]
    assert world.relaying.pass_back(C.hex(), answer(A)) == [Send(A.hex(), answer(A))]


def test_the_askers_time_frees_the_places_however_long_it_says_that_it_waits() -> None:
    world = World(A, C)
    for number in range(PASSED_NEIGHBOUR_MAX):
        world.passed(question(A, B, C, correlation=number, budget_ms=2**60 if number else 500))
    later = question(A, B, C, correlation=100, budget_ms=2**60)
    assert no_way(world.passed(later, 499)) == [(A.hex(), 100, TOO_MANY)]
    assert world.passed(later, 500) == [Send(C.hex(), later)]
    world.relaying.clock_set_back(100_000)
    assert no_way(world.passed(question(A, B, C, correlation=101), BUDGET_MAX_MS - 100_001)) == [
        (A.hex(), 101, TOO_MANY)
    ]
    assert world.passed(question(A, B, C, correlation=102), BUDGET_MAX_MS - 100_000)[0].peer == C.hex()  # type: ignore[union-attr]
