"""Messages on their way from replicas to links, each link with a line of its own.

A link takes a message at once while its queue has room (net.sendqueue); what does not fit waits here, in order, and
holds up no other link (REQUIREMENTS R11). A line is bounded: beyond it messages to that peer are dropped, which the
exchange, being state-based, mends by itself; the replicas' own limits (core.outbox) keep it from coming to that.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

from replicad.net.connection import LinkClosedError

LINE_BYTES_MAX = 16 * 1_048_576
"""Some answers of the greatest length, from several folders at once."""


class SendingLink(Protocol):
    """net.link.Link."""

    async def send(self, channel: bytes, payload: bytes) -> None: ...
    def try_send(self, channel: bytes, payload: bytes) -> bool: ...


class _Line:
    def __init__(self) -> None:
        self.waiting: deque[tuple[bytes, bytes]] = deque()
        self.bytes = 0


class Sender:
    """On the event loop; `tasks` runs what waits."""

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self._tasks = tasks
        self._lines: dict[SendingLink, _Line] = {}
        self.dropped = 0
        """Messages that found their line full."""

    def send(self, link: SendingLink, channel: bytes, payload: bytes) -> None:
        """Never waits. To a link that has ended, nothing is sent."""
        line = self._lines.get(link)
        if line is None:
            try:
                if link.try_send(channel, payload):
                    return
            except LinkClosedError:
                return
            line = self._lines[link] = _Line()
            self._tasks.create_task(self._drain(link, line))
        elif line.bytes + len(payload) > LINE_BYTES_MAX:
            self.dropped += 1
            return
        line.waiting.append((channel, payload))
        line.bytes += len(payload)

    async def _drain(self, link: SendingLink, line: _Line) -> None:
        try:
            while line.waiting:
                channel, payload = line.waiting[0]
                await link.send(channel, payload)
                line.waiting.popleft()
                line.bytes -= len(payload)
        except LinkClosedError:
            return  # with it goes what waited for it
        finally:
            del self._lines[link]
