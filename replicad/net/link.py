"""A link: the one standing connection between this member and another, once its hello is done.

Three tasks live as long as the link: one reads and hands up, one writes what is queued, one pings. Rules:

1. `on_message` is awaited before the next frame is read: who is slow above holds the socket, TCP holds the sender,
   and the sender's queue (8 MiB) holds whoever sends there. Nothing is dropped on the way.
2. A link is dead when it was listened to for `dead_ms` without a frame. The time in which we did not listen, because
   rule 1 held us, does not count; and pings leave meanwhile, so that our own slowness does not look like death.
3. One bad frame ends this link, with its reason, and nothing else.
4. Frames of one link arrive in the order in which they were queued, each once. What was queued and not sent when a
   link ends is lost; the exchange above is state-based, and starts anew on the next link.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from replicad.core.ids import MemberId
from replicad.errors import PeerError, ProtocolError
from replicad.net.connection import Connection, LinkClosedError
from replicad.net.roundtrip import RoundTrips
from replicad.net.sendqueue import SendQueue
from replicad.net.settings import NetSettings
from replicad.net.wire import (
    CONTROL,
    Control,
    Deny,
    Ping,
    Pong,
    Session,
    Want,
    decode_control,
    decode_frame,
    encode_control,
    encode_frame,
)


@dataclass(frozen=True, slots=True)
class LinkInfo:
    """What the hello told, and how the connection came about."""

    member_id: MemberId
    version: int
    features: frozenset[str]
    """Those that both offered."""
    software: str
    """The peer's version of replicad."""
    session: Session
    peer_session: Session
    peer_boot: bytes
    serial: int
    dialed: bool
    """By us."""
    address: str
    """Of the peer: as we dialed it, or where it came from."""


class LinkEvents(Protocol):
    """What a link calls. An exception that is no PeerError is a bug and ends the network."""

    async def on_link_up(self, link: Link) -> None:
        """Before the first message of this link."""

    async def on_message(self, link: Link, channel: bytes, payload: bytes) -> None:
        """One at a time, in the order sent. A PeerError closes this link.

        It is cancelled when the link ends meanwhile: hand the message on whole, or not at all.
        """

    async def on_link_down(self, link: Link, reason: str) -> None:
        """After the last message of this link, and before `on_link_up` of the pair's next one."""


Asked = Callable[["Link", Want | Deny], None]


class Link:
    """`send` and `try_send` from any task of the loop; the rest is the network's."""

    def __init__(
        self, connection: Connection, info: LinkInfo, *, events: LinkEvents, asked: Asked, settings: NetSettings
    ) -> None:
        self.info = info
        self.round_trips = RoundTrips()
        self.ended = asyncio.Event()
        """`on_link_down` has returned."""
        self._connection = connection
        self._events = events
        self._asked = asked
        self._settings = settings
        self._queue = SendQueue(settings.send_queue_bytes)
        self._reason: str | None = None
        self._aborted = False
        self._ending = asyncio.Event()
        self._heard = asyncio.Event()
        self._answered = 0
        """The newest of our pings that the peer answered; `_heard` is set when it changes, and at the end."""

    @property
    def member_id(self) -> MemberId:
        return self.info.member_id

    @property
    def rtt_ms(self) -> float | None:
        return self.round_trips.rtt_ms

    @property
    def clock_offset_ms(self) -> float | None:
        """The peer's wall clock minus ours."""
        return self.round_trips.clock_offset_ms

    @property
    def ending(self) -> bool:
        """It takes no more messages; `ended` follows."""
        return self._ending.is_set()

    @property
    def queued_bytes(self) -> int:
        return self._queue.queued_bytes

    async def send(self, channel: bytes, payload: bytes) -> None:
        """Queue a message of at most wire.PAYLOAD_BYTES_MAX; waits while the queue is full. LinkClosedError."""
        await self._queue.put(encode_frame(channel, payload))

    def try_send(self, channel: bytes, payload: bytes) -> bool:
        """As `send`, but False where it would wait. LinkClosedError."""
        return self._queue.try_put(encode_frame(channel, payload))

    def send_control(self, message: Want | Deny) -> None:
        """LinkClosedError."""
        self._queue.put_control(encode_control(message))

    def close(self, reason: str) -> None:
        """End the link in good order, soon; `run` returns the first reason given."""
        self._reason = self._reason or reason
        self._queue.close(self._reason)
        self._ending.set()
        self._heard.set()

    def abort(self, reason: str) -> None:
        """End it without another word: nothing that arrives from now on is handed up."""
        self._aborted = True
        self.close(reason)

    async def probe(self) -> bool:
        """Whether the peer answers on this link within `probe_ms`."""
        try:
            number = self._ping()
            async with asyncio.timeout(self._settings.probe_ms / 1000):
                while self._answered < number and not self.ending:
                    self._heard.clear()
                    await self._heard.wait()
        except (LinkClosedError, TimeoutError):
            return False
        return not self._ending.is_set()

    async def run(self) -> str:
        """Until the link ends; the reason. PeerError from a handler is one, other exceptions of it come out."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read())
                tasks.create_task(self._write())
                tasks.create_task(self._keep_alive())
                # In the body: where a task fails while its group only waits for the tasks, early Python 3.11 leaves
                # this task marked as cancelled, and no time-out of it works any more.
                await self._wait_for_end()
        except* PeerError as group:
            self.close(_first(group))
        finally:
            if self._reason is None:
                self.abort("stopped")  # cancelled, or a bug
            await self.hang_up()
        assert self._reason is not None
        return self._reason

    async def hang_up(self) -> None:
        """The connection's end; part of `run`."""
        if self._aborted:
            await self._connection.hang_up()
        else:
            await self._connection.close(self._reason or "")

    async def _wait_for_end(self) -> None:
        await self._ending.wait()
        raise LinkClosedError(self._reason or "")

    async def _read(self) -> None:
        await self._events.on_link_up(self)
        while True:
            channel, payload = decode_frame(await self._connection.receive(self._settings.dead_ms))
            if self._aborted:
                raise LinkClosedError(self._reason or "")
            if channel == CONTROL:
                self._on_control(decode_control(payload))
            else:
                await self._events.on_message(self, channel, payload)

    def _on_control(self, message: Control) -> None:
        match message:
            case Ping():
                self._queue.put_control(encode_control(Pong(message.number, _wall_ms())))
            case Pong():
                if self.round_trips.pong(message.number, message.time_ms, _monotonic_ms()):
                    self._answered = message.number
                    self._heard.set()
            case Want() | Deny():
                self._asked(self, message)
            case _:
                raise ProtocolError("a hello came after the hello")

    async def _write(self) -> None:
        while True:
            frame, counted = await self._queue.get()
            await self._connection.send(frame, self._settings.stall_ms)
            if counted:
                self._queue.sent(frame)

    async def _keep_alive(self) -> None:
        while True:
            self._ping()
            await asyncio.sleep(self._settings.ping_ms / 1000)

    def _ping(self) -> int:
        wall_ms = _wall_ms()
        number = self.round_trips.ping(_monotonic_ms(), wall_ms)
        self._queue.put_control(encode_control(Ping(number, wall_ms)))
        return number


def _first(group: BaseExceptionGroup[BaseException]) -> str:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error)


def _monotonic_ms() -> float:
    return time.monotonic() * 1000


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000
