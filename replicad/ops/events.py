"""Events for operators: the last of them in memory, to be followed over the API.

The ring is bounded and so is every follower: a follower keeps no queue, only the number of the event it has read up
to. Who is slower than the ring learns how many events it has missed; nobody is waited for.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

EVENTS_KEPT_MAX = 1_000
"""Some 200 KB; older ones are in the log."""


@dataclass(frozen=True, slots=True)
class OperatorEvent:
    """`number` counts from 1 for each run of the daemon. `code`: of the documents (4012, 4302, ...), or 0."""

    number: int
    time_ms: int
    code: int
    text: str
    folder: str | None = None
    path: bytes = b""


class EventRing:
    """Lives on the event loop; `on_event` is called for each event (the log)."""

    def __init__(self, on_event: Callable[[OperatorEvent], None] | None = None) -> None:
        self._on_event = on_event
        self._events: deque[OperatorEvent] = deque(maxlen=EVENTS_KEPT_MAX)
        self._newest = 0
        self._news: asyncio.Future[None] | None = None

    @property
    def newest(self) -> int:
        """The number of the newest event; 0 while there is none."""
        return self._newest

    def add(self, time_ms: int, code: int, text: str, *, folder: str | None = None, path: bytes = b"") -> OperatorEvent:
        self._newest += 1
        event = OperatorEvent(self._newest, time_ms, code, text, folder, path)
        self._events.append(event)
        if self._news is not None:
            self._news.set_result(None)
            self._news = None
        if self._on_event is not None:
            self._on_event(event)
        return event

    def after(self, number: int) -> tuple[int, list[OperatorEvent]]:
        """How many events after `number` are lost to the asker, and those that are still here."""
        found = [event for event in self._events if event.number > number]
        return max(0, self._newest - number - len(found)), found

    async def wait_after(self, number: int) -> None:
        """Until there is an event after `number`."""
        while self._newest <= number:
            if self._news is None:
                self._news = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._news)
