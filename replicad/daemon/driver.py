"""A driver: the thread in which one replica lives, a folder's or the hierarchy's.

The replica is synchronous and knows no threads; everything that reaches it comes through the inbox, one at a time, and
everything it wants done goes to the event loop as effects, in order. Rules:

1. The replica, and the catalog that it owns, are made, used and closed by this thread alone.
2. Effects of one event are handed over before the next event is handled, so they are carried out in their order.
3. What is sent to a peer goes out on the link that the replica knew of when it decided to send it. RACE: a link ends
   and another comes up while `LinkDown` and `LinkUp` wait in the inbox; what the replica sends meanwhile belongs to the
   old link's session and must not appear in the new one.
4. What is due is done though events never end (`core.turns`).
5. An exception that gets here ends this replica and no other (I10). `failure` keeps it.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from replicad.core.effects import Effect, LinkDown, LinkUp, Received, Send, Tick
from replicad.core.ids import MemberId
from replicad.core.messages import encode_message
from replicad.core.turns import Turns
from replicad.daemon.inbox import Inbox, InboxClosedError
from replicad.errors import PeerError, ReplicadError

WAKE_MAX_S = 30.0
"""A replica that waits is told the time so often, whether anything is due or not: a clock that was set is noticed."""
STOP_S = 20.0
"""For the event in work when the daemon is stopped: a hung disk must not keep the daemon from ending (I12)."""

Result = TypeVar("Result")


Event = Any
"""What the replica takes: of core.effects, or its own (engine.folder_events.FolderEvent)."""


class Replica(Protocol):
    """What a driver drives (see core.effects)."""

    def start(self, now_ms: int) -> Sequence[Effect]: ...
    def handle(self, event: Event, now_ms: int) -> Sequence[Effect]: ...
    def next_due_ms(self) -> int | None: ...
    def close(self, now_ms: int) -> None: ...


R = TypeVar("R", bound=Replica)


class PeerLink(Protocol):
    """What a driver needs of a link (net.link.Link)."""

    @property
    def member_id(self) -> MemberId: ...
    def close(self, reason: str) -> None:
        """On the event loop."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message, encoded, bound to the link that it may go out on."""

    link: PeerLink
    payload: bytes


Task = Outgoing | Effect
"""What is carried out on the event loop; every `Send` has become an `Outgoing`, or nothing where there is no link."""
Carry = Callable[[Sequence[Task]], None]


class DriverStoppedError(ReplicadError):
    """The replica does not run: it has been stopped, or has failed."""


@dataclass(frozen=True, slots=True)
class _Up:
    link: PeerLink


@dataclass(frozen=True, slots=True)
class _Down:
    link: PeerLink


@dataclass(frozen=True, slots=True)
class _From:
    link: PeerLink
    event: Received


@dataclass(frozen=True, slots=True)
class _Pull:
    """Events that are gathered outside until the replica comes to them (the watch's)."""

    events: Callable[[], Sequence[Event]]


@dataclass(frozen=True, slots=True)
class _Call:
    function: Callable[[Any], object]
    answer: concurrent.futures.Future[Any]


@dataclass(frozen=True, slots=True)
class _Until:
    condition: Callable[[Any], object]
    answer: concurrent.futures.Future[Any]


_Item = Event | _Up | _Down | _From | _Pull | _Call | _Until


class Driver(Generic[R]):
    """Made and used on the event loop; `make` runs on the new thread, `carry` on the loop."""

    def __init__(self, name: str, make: Callable[[], R], carry: Carry, *, clock_ms: Callable[[], int]) -> None:
        self.name = name
        self._make = make
        self._carry = carry
        self._clock_ms = clock_ms
        self._loop = asyncio.get_running_loop()
        self._inbox: Inbox[_Item] = Inbox(self._loop)
        self._links: dict[MemberId, PeerLink] = {}
        self._conditions: list[_Until] = []
        self._ready = self._loop.create_future()
        self._ended = self._loop.create_future()
        self._thread = threading.Thread(target=self._main, name=f"replica {name}", daemon=True)
        self.failure: BaseException | None = None
        self.handled = 0
        """Events handled so far (REQUIREMENTS D7)."""

    # -- on the event loop

    def start(self) -> None:
        self._thread.start()

    async def ready(self) -> None:
        """Until the replica has started, or has failed to."""
        await asyncio.shield(self._ready)

    async def ended(self) -> BaseException | None:
        """Until the thread is done; why, where it failed."""
        await asyncio.shield(self._ended)
        return self.failure

    @property
    def started(self) -> bool:
        """The replica has been made and started, or has failed to be."""
        return self._ready.done()

    @property
    def waiting(self) -> int:
        """Events in the inbox."""
        return len(self._inbox)

    @property
    def oldest_s(self) -> float:
        return self._inbox.oldest_s()

    @property
    def running(self) -> bool:
        return not self._inbox.closed

    def post(self, event: Event) -> None:
        """Never waits, never refused while it runs: answers to what the replica asked for, and hints."""
        self._inbox.post(event)

    def pull(self, events: Callable[[], Sequence[Event]]) -> None:
        """Handle what `events` returns on the replica's thread, when it comes to it. From any thread."""
        self._inbox.post(_Pull(events))

    def link_up(self, link: PeerLink) -> None:
        self._inbox.post(_Up(link))

    def link_down(self, link: PeerLink) -> None:
        self._inbox.post(_Down(link))

    async def deliver(self, link: PeerLink, event: Received, size: int) -> None:
        """A message of a peer; waits while the inbox is full. It vanishes where the replica does not run."""
        try:
            await self._inbox.put(_From(link, event), size)
        except InboxClosedError:
            return

    def received(self, link: PeerLink, event: Received) -> None:
        """As `deliver`, for a few that were set aside: without waiting."""
        self._inbox.post(_From(link, event))

    async def call(self, function: Callable[[R], Result]) -> Result:
        """What `function` returns or raises, called with the replica on its thread, between two events.

        A ReplicadError is the caller's; anything else is a bug, and ends the replica too.
        """
        answer: concurrent.futures.Future[Result] = concurrent.futures.Future()
        if not self._inbox.post(_Call(function, answer)):
            raise DriverStoppedError(f"{self.name} does not run")
        return await asyncio.wrap_future(answer)

    def command(self, function: Callable[[R], None]) -> None:
        """As `call`, and nobody waits for it."""
        self._inbox.post(_Call(function, concurrent.futures.Future()))

    def fail(self, error: BaseException) -> None:
        """Something that works for the replica has met a bug: it ends as if its own thread had."""

        def fail(replica: R) -> None:
            raise error

        self.command(fail)

    async def until(self, condition: Callable[[R], Result | None]) -> Result:
        """What `condition` returns, once that is not None: asked on the replica's thread after each event."""
        answer: concurrent.futures.Future[Result] = concurrent.futures.Future()
        if not self._inbox.post(_Until(condition, answer)):
            raise DriverStoppedError(f"{self.name} does not run")
        return await asyncio.wrap_future(answer)

    async def act(self, function: Callable[[R, int], tuple[Result, Sequence[Effect]]]) -> Result:
        """As `call`; `function` is given the time, and the effects it returns are carried out."""

        def change(replica: R) -> Result:
            result, effects = function(replica, self._clock_ms())
            self._hand_over(effects)
            return result

        return await self.call(change)

    async def stop(self) -> bool:
        """Ends the thread after the event in work; False where that takes longer than STOP_S."""
        self._close_inbox()
        if not self._thread.is_alive() and not self._ended.done():
            self._ended.set_result(None)  # it was never started
        try:
            async with asyncio.timeout(STOP_S):
                await self.ended()
        except TimeoutError:
            return False
        return True

    def _close_inbox(self) -> None:
        for item in self._inbox.close():
            if isinstance(item, _Call | _Until):
                self._refuse(item)

    def _refuse(self, item: _Call | _Until) -> None:
        if not item.answer.done():
            item.answer.set_exception(DriverStoppedError(f"{self.name} does not run"))

    # -- on the replica's thread

    def _main(self) -> None:
        try:
            replica = self._make()
            try:
                self._hand_over(replica.start(self._clock_ms()))
                self._on_loop(self._set_ready)
                self._run(replica)
            finally:
                replica.close(self._clock_ms())
        except BaseException as error:  # noqa: BLE001  (rule 5)
            self.failure = error
        finally:
            self._close_inbox()
            for waiting in self._conditions:
                self._refuse(waiting)
            self._on_loop(self._set_ended)

    def _run(self, replica: R) -> None:
        turns = Turns()
        while not self._inbox.closed:
            wait_s = self._wait_s(replica)
            try:
                item = None if turns.work_first and not wait_s else self._inbox.take(wait_s)
            except InboxClosedError:
                return
            self._handle(replica, item if item is not None else Tick())
            turns.took(tick=item is None)
            self.handled += 1
            self._conditions = [one for one in self._conditions if not self._settled(replica, one)]

    def _wait_s(self, replica: R) -> float:
        due_ms = replica.next_due_ms()
        if due_ms is None:
            return WAKE_MAX_S
        return min(WAKE_MAX_S, max(0.0, (due_ms - self._clock_ms()) / 1000))

    def _handle(self, replica: R, item: _Item) -> None:
        match item:
            case _Call():
                self._answer(replica, item)
            case _Until():
                self._conditions.append(item)
            case _Pull(events):
                for event in events():
                    self._hand_over(replica.handle(event, self._clock_ms()))
            case _Up(link):
                self._links[link.member_id] = link
                self._hand_over(replica.handle(LinkUp(link.member_id), self._clock_ms()))
            case _Down(link):
                if self._links.get(link.member_id) is link:
                    del self._links[link.member_id]
                    self._hand_over(replica.handle(LinkDown(link.member_id), self._clock_ms()))
            case _From(link, event):
                if self._links.get(link.member_id) is link:
                    self._take(replica, link, event)
            case _:
                self._hand_over(replica.handle(item, self._clock_ms()))

    def _take(self, replica: R, link: PeerLink, event: Received) -> None:
        """A peer's fault ends its link, and nothing else (I10)."""
        try:
            effects = replica.handle(event, self._clock_ms())
        except PeerError as error:
            reason = str(error)
            self._on_loop(lambda: link.close(reason))
        else:
            self._hand_over(effects)

    def _answer(self, replica: R, call: _Call) -> None:
        if not call.answer.set_running_or_notify_cancel():
            return
        try:
            result = call.function(replica)
        except ReplicadError as error:
            call.answer.set_exception(error)
        except BaseException as error:
            call.answer.set_exception(error)
            raise
        else:
            call.answer.set_result(result)

    def _settled(self, replica: R, waiting: _Until) -> bool:
        """Whether nobody needs to be asked about it any more. An exception of the condition is a bug of ours."""
        if waiting.answer.done():
            return True  # who waited has gone
        result = waiting.condition(replica)
        if result is None or not waiting.answer.set_running_or_notify_cancel():
            return False
        waiting.answer.set_result(result)
        return True

    def _hand_over(self, effects: Sequence[Effect]) -> None:
        tasks: list[Task] = []
        for effect in effects:
            if isinstance(effect, Send):
                link = self._links.get(effect.peer)
                if link is not None:
                    tasks.append(Outgoing(link, encode_message(effect.message)))
            else:
                tasks.append(effect)
        if tasks:
            self._on_loop(lambda: self._carry(tasks))

    def _on_loop(self, callback: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:
            # The loop has ended: STOP_S was over, and nobody listens any more.
            assert self._loop.is_closed()

    def _set_ready(self) -> None:
        if not self._ready.done():
            self._ready.set_result(None)

    def _set_ended(self) -> None:
        self._set_ready()
        if not self._ended.done():
            self._ended.set_result(None)
