"""A folder's inbox: many on the event loop put in, the folder's own thread takes out, one at a time.

Bounded by number and bytes: who delivers messages waits while it is full, so a flood is slowed down at the sockets that
it comes from (REQUIREMENTS D6). What answers a request of the folder's own thread (`post`) is never refused: there are
no more of these than the folder itself has asked for, and refusing one could stop the thread that would make room.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

INBOX_ITEMS_MAX = 1_024
"""Small messages of a storm; each is handled in well under a millisecond."""
INBOX_BYTES_MAX = 16 * 1_048_576
"""Pages have up to 1 MiB encoded, and some ten times that decoded; one message may overshoot."""

T = TypeVar("T")


class InboxClosedError(Exception):
    """The folder is being stopped: nothing more is taken in."""


@dataclass(slots=True)
class _Held(Generic[T]):
    item: T
    size: int
    since: float


class Inbox(Generic[T]):
    """Belongs to an event loop (`put`) and one consuming thread (`take`); `post` and `close` are for any thread."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, *, items_max: int = INBOX_ITEMS_MAX, bytes_max: int = INBOX_BYTES_MAX
    ) -> None:
        self._loop = loop
        self._items_max = items_max
        self._bytes_max = bytes_max
        self._turn = asyncio.Lock()  # first come, first served
        self._lock = threading.Lock()
        self._arrived = threading.Condition(self._lock)
        self._held: deque[_Held[T]] = deque()
        self._bytes = 0
        self._room: asyncio.Future[None] | None = None
        self._closed = False

    def __len__(self) -> int:
        return len(self._held)

    @property
    def closed(self) -> bool:
        return self._closed

    def oldest_s(self) -> float:
        """For how long the next item has waited; 0 when there is none (REQUIREMENTS D7)."""
        with self._lock:
            return time.monotonic() - self._held[0].since if self._held else 0.0

    async def put(self, item: T, size: int = 0) -> None:
        """Waits for room. On the event loop; raises InboxClosedError. `size` is what the item weighs, in bytes."""
        async with self._turn:
            while (room := self._put_or_wait(item, size)) is not None:
                await room

    def post(self, item: T, size: int = 0) -> bool:
        """At once, whatever the limits; False when closed."""
        with self._lock:
            if self._closed:
                return False
            self._append(item, size)
            return True

    def take(self, timeout_s: float | None) -> T | None:
        """The next item, for the consuming thread; None when the time is out; raises InboxClosedError."""
        with self._lock:
            self._arrived.wait_for(lambda: self._held or self._closed, timeout_s)
            if self._closed:
                raise InboxClosedError
            if not self._held:
                return None
            held = self._held.popleft()
            self._bytes -= held.size
            wake = self._room is not None and self._has_room()
        if wake:
            self._call_soon()
        return held.item

    def close(self) -> list[T]:
        """Nothing goes in or comes out any more; returns what nobody took."""
        with self._lock:
            self._closed = True
            left = [held.item for held in self._held]
            self._held.clear()
            self._bytes = 0
            self._arrived.notify_all()
        self._call_soon()
        return left

    def _put_or_wait(self, item: T, size: int) -> asyncio.Future[None] | None:
        with self._lock:
            if self._closed:
                raise InboxClosedError
            if self._has_room():
                self._append(item, size)
                return None
            self._room = self._loop.create_future()
            return self._room

    def _has_room(self) -> bool:
        return len(self._held) < self._items_max and self._bytes < self._bytes_max

    def _append(self, item: T, size: int) -> None:
        self._held.append(_Held(item, size, time.monotonic()))
        self._bytes += size
        self._arrived.notify()

    def _call_soon(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._wake)
        except RuntimeError:
            # The loop has ended, and with it everybody who could wait.
            assert self._loop.is_closed()

    def _wake(self) -> None:
        with self._lock:
            room, self._room = self._room, None
        if room is not None and not room.done():
            room.set_result(None)
