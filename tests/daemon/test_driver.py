"""The thread in which a replica lives: order, links, answers, and what an exception ends."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest

from replicad.core.effects import (
    Changed,
    Effect,
    Event,
    LinkDown,
    LinkUp,
    Received,
    Report,
    Send,
    Tick,
)
from replicad.core.messages import StatusRequest, decode_message
from replicad.core.turns import EVENTS_A_TICK_MAX
from replicad.daemon import driver
from replicad.daemon.driver import Driver, DriverStoppedError, Outgoing, Task
from replicad.errors import OperatorError, ProtocolError
from replicad.files.changes import Dirty, Overflow

PEER = "ab" * 32


@dataclass
class FakeLink:
    member_id: str
    number: int
    closed: str = ""

    def close(self, reason: str) -> None:
        self.closed = reason


class FakeReplica:
    """Answers each event with what `on` says, and notes what it was given."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.threads: set[int] = set()
        self.on: Callable[[Event], Sequence[Effect]] = lambda event: []
        self.due_ms: int | None = None
        self.closed = False

    def start(self, now_ms: int) -> Sequence[Effect]:
        self.threads.add(threading.get_ident())
        return [Report(0, "started")]

    def handle(self, event: Event, now_ms: int) -> Sequence[Effect]:
        self.threads.add(threading.get_ident())
        self.events.append(event)
        return self.on(event)

    def next_due_ms(self) -> int | None:
        return self.due_ms

    def close(self, now_ms: int) -> None:
        self.threads.add(threading.get_ident())
        self.closed = True


class Bench:
    """A driver with a fake replica; `carried` is what came out of it."""

    def __init__(self) -> None:
        self.replica = FakeReplica()
        self.carried: list[Task] = []
        self.clock_ms = 1_000
        self.driver = Driver("docs", lambda: self.replica, self.carried.extend, clock_ms=lambda: self.clock_ms)

    async def __aenter__(self) -> "Bench":
        self.driver.start()
        await self.driver.ready()
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert await self.driver.stop()

    async def quiet(self) -> None:
        """Everything put in so far has been handled, and its effects have been carried out."""
        await self.driver.call(lambda replica: None)


def request(number: int) -> StatusRequest:
    return StatusRequest(correlation=number, replica=1, known=[])


async def test_events_are_handled_in_order_on_one_thread_and_so_are_effects() -> None:
    async with Bench() as bench:
        bench.replica.on = lambda event: [Report(0, repr(event)), Changed()]
        events: list[Event] = [Dirty(b"", b"a"), Overflow(), Dirty(b"", b"b")]
        for event in events:
            bench.driver.post(event)
        await bench.quiet()
    assert bench.replica.events == events
    assert bench.replica.closed
    assert len(bench.replica.threads) == 1
    assert bench.carried[0] == Report(0, "started")
    expected = [effect for event in events for effect in (Report(0, repr(event)), Changed())]
    assert bench.carried[1:] == expected


async def test_a_replica_is_told_the_time_now_and_then_though_nothing_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that was set back would else be noticed when something else happens."""
    monkeypatch.setattr(driver, "WAKE_MAX_S", 0.01)
    async with Bench() as bench:
        ticked = asyncio.Event()
        loop = asyncio.get_running_loop()

        def on(event: Event) -> Sequence[Effect]:
            loop.call_soon_threadsafe(ticked.set)
            return []

        bench.replica.on = on
        bench.replica.due_ms = bench.clock_ms + 60_000
        await bench.quiet()
        await asyncio.wait_for(ticked.wait(), 5)
    assert set(bench.replica.events) == {Tick()}


async def test_what_is_sent_goes_out_on_the_link_that_the_replica_knew_of() -> None:
    old, new = FakeLink(PEER, 1), FakeLink(PEER, 2)
    async with Bench() as bench:
        bench.replica.on = lambda event: [Send(PEER, request(len(bench.replica.events)))]
        bench.driver.post(Overflow())  # no link yet: dropped
        bench.driver.link_up(old)
        bench.driver.link_down(old)  # the replica may still send when it is told: there is no link any more
        bench.driver.link_up(new)
        await bench.quiet()
    sent = [task for task in bench.carried if isinstance(task, Outgoing)]
    assert [(task.link, decode_message(task.payload)) for task in sent] == [(old, request(2)), (new, request(4))]
    assert bench.replica.events == [Overflow(), LinkUp(PEER), LinkDown(PEER), LinkUp(PEER)]


async def test_a_message_of_a_link_that_is_gone_is_not_handled() -> None:
    old, new = FakeLink(PEER, 1), FakeLink(PEER, 2)
    async with Bench() as bench:
        bench.driver.link_up(new)
        await bench.driver.deliver(old, Received(PEER, request(1)), 10)
        await bench.driver.deliver(new, Received(PEER, request(2)), 10)
        bench.driver.link_down(old)  # late, and not this link's
        await bench.quiet()
    assert bench.replica.events == [LinkUp(PEER), Received(PEER, request(2))]


async def test_the_replica_is_ticked_when_it_is_due_and_not_before() -> None:
    async with Bench() as bench:
        ticked = asyncio.Event()
        loop = asyncio.get_running_loop()

        def on(event: Event) -> Sequence[Effect]:
            bench.replica.due_ms = None
            if isinstance(event, Tick):
                loop.call_soon_threadsafe(ticked.set)
            return []

        bench.replica.on = on
        await bench.quiet()
        assert bench.replica.events == []
        bench.replica.due_ms = bench.clock_ms
        await bench.quiet()
        await asyncio.wait_for(ticked.wait(), 10)
    assert bench.replica.events == [Tick()]


async def test_what_is_due_is_done_though_events_never_end() -> None:
    """A folder that many write to would else never look at its disk."""
    async with Bench() as bench:
        bench.replica.due_ms = bench.clock_ms + 1
        ticked = asyncio.Event()
        loop = asyncio.get_running_loop()

        def on(event: Event) -> Sequence[Effect]:
            if isinstance(event, Tick):
                bench.replica.due_ms = None
                loop.call_soon_threadsafe(ticked.set)
            elif not ticked.is_set() and len(bench.replica.events) < 10 * EVENTS_A_TICK_MAX:
                bench.driver.post(event)
                bench.clock_ms += 1
            return []

        bench.replica.on = on
        bench.driver.post(Overflow())
        await asyncio.wait_for(ticked.wait(), 10)
    assert bench.replica.events.index(Tick()) == EVENTS_A_TICK_MAX


async def test_a_call_runs_between_events_on_the_replicas_thread() -> None:
    async with Bench() as bench:
        bench.driver.post(Overflow())
        seen = await bench.driver.call(lambda replica: (threading.get_ident(), list(replica.events)))
        assert seen == (next(iter(bench.replica.threads)), [Overflow()])


async def test_a_refusal_is_the_callers_and_the_replica_goes_on() -> None:
    def refuse(replica: FakeReplica) -> None:
        raise OperatorError("no")

    async with Bench() as bench:
        with pytest.raises(OperatorError, match="no"):
            await bench.driver.call(refuse)
        await bench.quiet()


async def test_i10_an_exception_ends_this_replica_with_its_reason() -> None:
    bench = Bench()

    def on(event: Event) -> Sequence[Effect]:
        raise ZeroDivisionError("a bug")

    bench.replica.on = on
    bench.driver.start()
    await bench.driver.ready()
    bench.driver.post(Overflow())
    waiting = asyncio.create_task(bench.driver.call(lambda replica: None))
    failure = await asyncio.wait_for(bench.driver.ended(), 10)
    assert isinstance(failure, ZeroDivisionError)
    assert bench.replica.closed
    with pytest.raises(DriverStoppedError):
        await waiting
    with pytest.raises(DriverStoppedError):
        await bench.driver.call(lambda replica: None)
    await bench.driver.deliver(FakeLink(PEER, 1), Received(PEER, request(1)), 1)  # nobody is there: no error
    assert not bench.driver.running
    assert await bench.driver.stop()


async def test_a_replica_that_cannot_be_made_has_failed() -> None:
    def make() -> FakeReplica:
        raise OperatorError("the catalog is corrupt")

    driver = Driver("docs", make, lambda tasks: None, clock_ms=lambda: 0)
    driver.start()
    await asyncio.wait_for(driver.ready(), 10)
    assert str(await driver.ended()) == "the catalog is corrupt"


async def test_i10_a_peers_fault_ends_its_link_and_nothing_else() -> None:
    link = FakeLink(PEER, 1)

    def on(event: Event) -> Sequence[Effect]:
        if isinstance(event, Received):
            raise ProtocolError("a page is malformed")
        return []

    async with Bench() as bench:
        bench.replica.on = on
        bench.driver.link_up(link)
        await bench.driver.deliver(link, Received(PEER, request(1)), 10)
        await bench.quiet()
        assert link.closed == "a page is malformed"


async def test_a_condition_is_asked_after_each_event_until_it_holds() -> None:
    async with Bench() as bench:
        waiting = asyncio.create_task(bench.driver.until(lambda replica: len(replica.events) >= 2 or None))
        left: asyncio.Task[None] = asyncio.create_task(bench.driver.until(lambda replica: None))
        bench.driver.post(Overflow())
        await bench.quiet()
        assert not waiting.done()
        left.cancel()
        bench.driver.post(Overflow())
        assert await asyncio.wait_for(waiting, 10) is True


async def test_who_waits_for_a_replica_that_ends_is_told() -> None:
    bench = Bench()
    async with bench:
        waiting: asyncio.Task[None] = asyncio.create_task(bench.driver.until(lambda replica: None))
        await bench.quiet()
    with pytest.raises(DriverStoppedError):
        await waiting


async def test_the_effects_of_a_change_are_carried_out() -> None:
    async with Bench() as bench:
        assert await bench.driver.act(lambda replica, now_ms: (now_ms, [Changed()])) == bench.clock_ms
        await bench.quiet()
    assert bench.carried[-1] == Changed()


async def test_what_is_gathered_outside_is_handled_when_its_turn_comes() -> None:
    gathered: list[Event] = []
    async with Bench() as bench:
        gathered.append(Overflow())
        bench.driver.pull(lambda: tuple(gathered))
        gathered.append(Dirty(b"", b"a"))
        await bench.quiet()
    assert bench.replica.events[0] == Overflow()


async def test_a_driver_that_never_started_can_be_stopped() -> None:
    assert await Bench().driver.stop()
