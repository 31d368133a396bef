"""What waits in a scan: in order, with its lowest generation and what is due, without passing over all of it."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from replicad.engine.apply import BATCH_STEPS_MAX
from replicad.engine.asking import Question
from replicad.engine.scan_state import Hint, ScanState, Why
from replicad.engine.scan_waiting import STALE_MIN, ByDirectory, Due, InOrder
from replicad.engine.through import Through
from tests.engine.scan_world import World

FEW, MANY = 50, 500
GROWTH_MAX = 1.2


@dataclass
class Calls:
    number: int = 0


@contextmanager
def calls_counted() -> Iterator[Calls]:
    """Of functions, those in C too, and of generators: each value that one yields is a call."""
    calls = Calls()

    def count(frame: FrameType, event: str, argument: Any) -> None:
        calls.number += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        yield calls
    finally:
        sys.setprofile(before)


def assert_calls_do_not_grow(cost: Callable[[int], int]) -> None:
    few, many = cost(FEW), cost(MANY)
    assert many / MANY <= GROWTH_MAX * few / FEW, (few, many)


# -- the containers


def test_the_lowest_generation_is_that_of_a_search() -> None:
    chance = random.Random(4)
    held: InOrder[int, int] = InOrder(lambda since: since)
    model: dict[int, int] = {}
    for _ in range(5_000):
        key, since = chance.randrange(50), chance.randrange(30)
        match chance.randrange(4):
            case 0 | 1:
                held.put(key, since)
                model[key] = since
            case 2:
                assert held.take(key) == model.pop(key, None)
            case _ if model:
                key, since = held.take_first()
                assert key == next(iter(model))
                assert model.pop(key) == since
        assert list(held.items()) == list(model.items())
        assert held.oldest() == min(model.values(), default=None)


def test_what_is_beneath_a_directory_is_that_of_a_search() -> None:
    chance = random.Random(6)
    held: ByDirectory[int] = ByDirectory(lambda since: since)
    model: dict[tuple[bytes, bytes], int] = {}
    directories = [b"", b"a", b"a/b", b"a/b/c", b"a b", b"a.b", b"a0", b"a/b0", b"ab", b"b", b"b/a"]
    for turn in range(3_000):
        key = chance.choice(directories), b"%d" % chance.randrange(4)
        match chance.randrange(5):
            case 0 | 1:
                held.put(key, turn)
                model[key] = turn
            case 2:
                assert held.take(key) == model.pop(key, None)
            case 3 if model:
                key = next(iter(model))
                assert held.take_first() == (key, model.pop(key))
            case _ if chance.randrange(100) == 0:
                held.clear()
                model.clear()
        for directory in directories[1:]:
            beneath = [one for one in model.items() if (one[0][0] + b"/").startswith(directory + b"/")]
            assert dict(held.beneath(directory)) == dict(beneath)
        assert list(held.items()) == list(model.items())


def test_what_is_put_first_is_taken_first() -> None:
    held: InOrder[str, int] = InOrder(lambda since: since)
    held.put("a", 1)
    held.put_first("b", 2)
    assert [held.take_first(), held.take_first()] == [("b", 2), ("a", 1)]
    assert held.oldest() is None


def test_what_is_due_is_that_of_a_search() -> None:
    chance = random.Random(5)
    due: Due[int, str] = Due()
    model: dict[int, tuple[int, str]] = {}
    for now_ms in range(2_000):
        for _ in range(chance.randrange(4)):
            key, at_ms = chance.randrange(100), now_ms + chance.randrange(60)
            due.put(key, at_ms, f"{now_ms}")
            model[key] = at_ms, f"{now_ms}"
        first_ms = due.first_ms()
        assert not model or (first_ms is not None and first_ms <= min(at_ms for at_ms, _ in model.values()))
        ready = {key: what for key, (at_ms, what) in model.items() if at_ms <= now_ms}
        assert dict(due.take(now_ms)) == ready
        for key in ready:
            del model[key]
        assert len(due) == len(model)


def test_what_is_put_off_again_and_again_takes_no_more_room() -> None:
    due: Due[int, str] = Due()
    for at_ms in range(10_000):
        due.put(1, at_ms + 1_000_000, "")
    assert len(due._heap) <= 2 + STALE_MIN + 1


# -- in the scan


def test_asking_for_the_oldest_that_waits_costs_the_same_however_much_waits() -> None:
    def cost(number: int) -> int:
        state = ScanState(again=False)
        for index in range(1, number + 1):
            name, why = b"%d" % index, Why(by_scan=False, since=index)
            state.add((1, name), why)
            state.leave_open((2, name), why, 0, 0, None)
            state.doomed.put(index, why)
            state.add_hint(b"", name, Hint((), index))
            state.lose(b"", name, Hint((), index))
            state.walk(name, full=False, since=index)
            state.miss(name, full=False, since=index)
        with calls_counted() as calls:
            for index in range(1, number + 1):
                assert state.oldest() == index
                assert state.walks.first().since == index
                state.next_place()
                state.close((2, b"%d" % index))
                state.doomed.take_first()
                state.hints.take_first()
                state.lost.take((b"", b"%d" % index))
                state.walks.end(state.walks.first())
                state.missed.take(b"%d" % index)
        assert state.oldest() is None
        return calls.number

    assert_calls_do_not_grow(cost)


def test_a_directory_that_moves_costs_the_same_however_many_hints_wait_elsewhere() -> None:
    def cost(number: int) -> int:
        world = World()
        scanner = world.scanner
        for index in range(number):
            scanner.hint(b"%d" % index, b"x", since=1)
        with calls_counted() as calls:
            for index in range(number):
                scanner.moved(b"%d" % index, b"to/%d" % index)
        waiting = scanner._state.hints
        assert all((b"to/%d" % index, b"x") in waiting for index in range(number))
        return calls.number

    assert_calls_do_not_grow(cost)


def test_waking_what_is_due_costs_the_same_however_much_is_due_later() -> None:
    def cost(number: int) -> int:
        state = ScanState(again=False)
        why = Why(by_scan=False)
        for index in range(number):
            state.delay((1, b"%d" % index), 1_000_000, why)
        with calls_counted() as calls:
            for now_ms in range(number):
                state.delay((2, b"%d" % now_ms), now_ms, why)
                state.wake(now_ms)
                state.next_place()
        return calls.number

    assert_calls_do_not_grow(cost)


def test_what_the_applier_put_is_looked_at_as_fast_as_it_puts() -> None:
    """Each entry that it puts comes back as a hint: they must not pile up, or the next change waits behind them."""
    world = World()
    world.fs.user_mkdir(b"d")
    names = [b"%04d" % index for index in range(BATCH_STEPS_MAX)]
    for name in names:
        world.fs.user_write(b"d/" + name, b"x")
    world.tick(1_000)
    world.rescan()
    for name in names:
        world.scanner.hint(b"d", name)
    world.step()
    assert world.scanner.idle


def test_a_wait_behind_many_hints_costs_the_same_for_each() -> None:
    """While somebody waits, it is asked after each step how far the scan has come."""

    def cost(number: int) -> int:
        world = World()
        world.fs.user_mkdir(b".replicad/fence")
        world.run()
        through = Through(world.scanner, Question(world.fs, b"through"))
        for index in range(number * 10):
            world.scanner.hint(b"", b"%d" % index, since=through.next())
        wanted = through.want()
        with calls_counted() as calls:
            for _ in range(number):
                through.work(0, watched=False)
                through.changed()
        assert through.through < wanted
        world.run()
        through.work(0, watched=False)
        assert through.through == wanted
        return calls.number

    assert_calls_do_not_grow(cost)
