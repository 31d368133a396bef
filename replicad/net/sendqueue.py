"""Frames on their way out of one link: bounded by bytes, in order, with a lane of its own for the link's messages.

Who has more to send than fits waits its turn; turns are taken in the order in which they were asked for. The lane is
short: its messages answer something that the peer sent, and a peer that makes us answer without reading is cut off.
"""

from __future__ import annotations

import asyncio
from collections import deque

from replicad.net.connection import LinkClosedError

LANE_MAX = 256
"""Answers under way: more than a peer may ask for at once (net.content_client), pings come in by one."""


class SendQueue:
    """One consumer (`get`, then `sent`), any number of producers. Bytes count until the system has them."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._frames: deque[bytes] = deque()
        self._lane: deque[bytes] = deque()
        self._turns: deque[tuple[bytes, asyncio.Future[bool]]] = deque()
        self._filled = asyncio.Event()
        self._closed: str | None = None
        self.queued_bytes = 0

    async def put(self, frame: bytes) -> None:
        """Waits while the queue is full; LinkClosedError when the link ends before the frame has a place.

        Cancelled, it may have queued the frame or not.
        """
        if self.try_put(frame):
            return
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        entry = (frame, turn)
        self._turns.append(entry)
        try:
            placed = await turn
        except asyncio.CancelledError:
            if entry in self._turns:
                self._turns.remove(entry)
            raise
        if not placed:
            self._check_open()

    def try_put(self, frame: bytes) -> bool:
        """False where it does not fit now, or others wait; LinkClosedError when the link has ended."""
        self._check_open()
        if self._turns or not self._fits(len(frame)):
            return False
        self._place(frame)
        return True

    def put_control(self, frame: bytes) -> None:
        """Ahead of everything; LinkClosedError where the peer makes us say too much."""
        self._check_open()
        if len(self._lane) >= LANE_MAX:
            raise LinkClosedError("the peer asks and does not read the answers")
        self._lane.append(frame)
        self._filled.set()

    async def get(self) -> tuple[bytes, bool]:
        """The next frame, and whether it counts for `sent`."""
        while not self._lane and not self._frames:
            self._filled.clear()
            await self._filled.wait()
        return (self._lane.popleft(), False) if self._lane else (self._frames.popleft(), True)

    def sent(self, frame: bytes) -> None:
        """The system has the frame: its place is free."""
        self.queued_bytes = max(0, self.queued_bytes - len(frame))
        while self._turns and self._fits(len(self._turns[0][0])):
            waiting, turn = self._turns.popleft()
            if not turn.done():
                self._place(waiting)
                turn.set_result(True)

    def close(self, reason: str) -> None:
        """Drop everything, and wake all who wait with LinkClosedError."""
        self._closed = self._closed or reason
        self._frames.clear()
        self._lane.clear()
        self.queued_bytes = 0
        while self._turns:
            _, turn = self._turns.popleft()
            if not turn.done():
                turn.set_result(False)

    def _place(self, frame: bytes) -> None:
        self.queued_bytes += len(frame)
        self._frames.append(frame)
        self._filled.set()

    def _fits(self, size: int) -> bool:
        return self.queued_bytes == 0 or self.queued_bytes + size <= self._bytes_max

    def _check_open(self) -> None:
        if self._closed is not None:
            raise LinkClosedError(self._closed)
