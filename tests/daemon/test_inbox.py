"""The inbox between the event loop and a folder's thread."""

import asyncio

import pytest

from replicad.daemon.inbox import Inbox, InboxClosedError


async def in_thread(inbox: Inbox[int]) -> int | None:
    return await asyncio.to_thread(inbox.take, 10.0)


async def settled() -> None:
    """Every task that can go on has gone on."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_items_come_out_in_the_order_in_which_they_went_in() -> None:
    inbox: Inbox[int] = Inbox(asyncio.get_running_loop())
    await inbox.put(1)
    assert inbox.post(2)
    await inbox.put(3)
    assert [await in_thread(inbox) for _ in range(3)] == [1, 2, 3]
    assert inbox.take(0) is None


@pytest.mark.requirement("D6")
async def test_who_puts_into_a_full_inbox_waits_and_is_served_in_turn() -> None:
    inbox: Inbox[int] = Inbox(asyncio.get_running_loop(), items_max=2)
    done: list[int] = []

    async def put(item: int) -> None:
        await inbox.put(item)
        done.append(item)

    async with asyncio.TaskGroup() as group:
        for item in range(6):
            group.create_task(put(item))
        await settled()
        assert done == [0, 1]
        assert len(inbox) == 2
        assert [await in_thread(inbox) for _ in range(6)] == list(range(6))
    assert done == list(range(6))


async def test_bytes_are_limited_too() -> None:
    inbox: Inbox[int] = Inbox(asyncio.get_running_loop(), bytes_max=100)
    await inbox.put(1, 100)
    waiting = asyncio.create_task(inbox.put(2, 1))
    await settled()
    assert not waiting.done()
    assert await in_thread(inbox) == 1
    await waiting


async def test_an_answer_is_taken_in_however_full_it_is() -> None:
    inbox: Inbox[int] = Inbox(asyncio.get_running_loop(), items_max=1)
    await inbox.put(1)
    assert inbox.post(2)
    assert len(inbox) == 2


async def test_one_who_gives_up_waiting_does_not_keep_the_others_out() -> None:
    inbox: Inbox[int] = Inbox(asyncio.get_running_loop(), items_max=1)
    await inbox.put(1)
    first, second = asyncio.create_task(inbox.put(2)), asyncio.create_task(inbox.put(3))
    await settled()
    first.cancel()
    await settled()
    assert await in_thread(inbox) == 1
    await second
    assert await in_thread(inbox) == 3


async def test_closing_wakes_both_sides_and_gives_back_what_is_left() -> None:
    inbox: Inbox[int] = Inbox(asyncio.get_running_loop(), items_max=1)
    empty: Inbox[int] = Inbox(asyncio.get_running_loop())
    await inbox.put(1)
    waiting = asyncio.create_task(inbox.put(2))
    taking = asyncio.create_task(asyncio.to_thread(empty.take, None))
    await settled()
    assert inbox.close() == [1]
    assert empty.close() == []
    with pytest.raises(InboxClosedError):
        await waiting
    with pytest.raises(InboxClosedError):
        await inbox.put(3)
    assert not inbox.post(4)
    with pytest.raises(InboxClosedError):
        await taking
