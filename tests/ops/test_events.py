"""The ring of events for operators."""

import asyncio

from replicad.ops.events import EVENTS_KEPT_MAX, EventRing


async def test_a_follower_gets_each_event_once_and_in_order() -> None:
    ring = EventRing()
    ring.add(1, 0, "one")
    ring.add(2, 4012, "two", folder="docs", path=b"x")
    lost, events = ring.after(0)
    assert lost == 0
    assert [(event.number, event.text) for event in events] == [(1, "one"), (2, "two")]
    waiting = asyncio.create_task(ring.wait_after(2))
    await asyncio.sleep(0)
    assert not waiting.done()
    ring.add(3, 0, "three")
    await asyncio.wait_for(waiting, 10)
    assert [event.text for event in ring.after(2)[1]] == ["three"]


async def test_a_follower_that_is_too_slow_learns_how_much_it_missed() -> None:
    ring = EventRing()
    for number in range(EVENTS_KEPT_MAX + 7):
        ring.add(number, 0, "x")
    lost, events = ring.after(2)
    assert (lost, len(events), events[0].number) == (5, EVENTS_KEPT_MAX, 8)


async def test_several_followers_wait_at_once_and_one_may_leave() -> None:
    ring = EventRing()
    first, second = asyncio.create_task(ring.wait_after(0)), asyncio.create_task(ring.wait_after(0))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    ring.add(1, 0, "x")
    await asyncio.wait_for(second, 10)
