"""What waits to be sent is bounded, in order, and let go when the link ends."""

import asyncio

import pytest

from replicad.net.connection import LinkClosedError
from replicad.net.sendqueue import LANE_MAX, SendQueue


async def drain(queue: SendQueue, count: int) -> list[bytes]:
    frames = []
    for _ in range(count):
        frame, counted = await queue.get()
        frames.append(frame)
        if counted:
            queue.sent(frame)
    return frames


async def test_frames_leave_in_the_order_in_which_their_turn_came() -> None:
    queue = SendQueue(bytes_max=10)
    assert queue.try_put(b"a" * 8)
    waiting = [asyncio.create_task(queue.put(name * 8)) for name in (b"b", b"c", b"d")]
    await asyncio.sleep(0)
    assert [frame[:1] for frame in await drain(queue, 4)] == [b"a", b"b", b"c", b"d"]
    await asyncio.gather(*waiting)


async def test_nobody_overtakes_those_who_wait() -> None:
    queue = SendQueue(bytes_max=10)
    queue.try_put(b"a" * 8)
    waiting = asyncio.create_task(queue.put(b"b" * 8))
    await asyncio.sleep(0)
    assert not queue.try_put(b"c"), "it would fit, and it would overtake"
    assert [frame[:1] for frame in await drain(queue, 2)] == [b"a", b"b"]
    await waiting


async def test_bytes_count_until_the_system_has_them() -> None:
    queue = SendQueue(bytes_max=10)
    queue.try_put(b"a" * 8)
    frame, _ = await queue.get()
    assert queue.queued_bytes == 8
    assert not queue.try_put(b"b" * 8)
    queue.sent(frame)
    assert queue.queued_bytes == 0
    assert queue.try_put(b"b" * 8)


async def test_a_frame_longer_than_the_queue_goes_alone() -> None:
    queue = SendQueue(bytes_max=10)
    assert queue.try_put(b"a" * 50)
    assert not queue.try_put(b"b")


async def test_control_goes_first_and_is_bounded() -> None:
    queue = SendQueue(bytes_max=10)
    queue.try_put(b"frame")
    for _ in range(LANE_MAX):
        queue.put_control(b"control")
    with pytest.raises(LinkClosedError, match="does not read"):
        queue.put_control(b"control")
    assert (await drain(queue, LANE_MAX + 1))[-1] == b"frame"


async def test_the_end_wakes_all_who_wait() -> None:
    queue = SendQueue(bytes_max=10)
    queue.try_put(b"a" * 10)
    waiting = [asyncio.create_task(queue.put(b"b" * 10)) for _ in range(3)]
    await asyncio.sleep(0)
    queue.close("the end")
    for result in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(result, LinkClosedError)
        assert str(result) == "the end"
    assert queue.queued_bytes == 0
    for late in (queue.try_put, queue.put_control):
        with pytest.raises(LinkClosedError, match="the end"):
            late(b"late")


async def test_one_who_gives_up_waiting_gives_up_its_place() -> None:
    queue = SendQueue(bytes_max=10)
    queue.try_put(b"a" * 10)
    gone, stays = asyncio.create_task(queue.put(b"g" * 10)), asyncio.create_task(queue.put(b"s" * 10))
    await asyncio.sleep(0)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert [frame[:1] for frame in await drain(queue, 2)] == [b"a", b"s"]
    await stays
