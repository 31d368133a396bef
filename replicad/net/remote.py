"""One other member, as it is reached from here: its addresses, the loop that dials it, and what came of that."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import aiohttp

from replicad.core.ids import MemberId
from replicad.errors import PeerError
from replicad.net.addresses import Address, dialable
from replicad.net.dialing import Backoff, Dialer
from replicad.net.pairs import Offer, Pairs
from replicad.net.race import NobodyError
from replicad.net.refusal import Code, Refused
from replicad.net.settings import NetSettings

Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
"""Runs a coroutine to its end in the network's TaskGroup."""


@dataclass(frozen=True, slots=True)
class DialState:
    """For operators: how reaching the member goes. `error` is that of the last attempt, empty after a success."""

    addresses: tuple[Address, ...]
    direct: Address | None
    """Where it was last reached by us."""
    failures: int
    next_attempt_ms: int
    """From now; 0 while it is connected, or is being dialed."""
    error: str


class Remote:
    """`run` dials whenever there is no link and an address; everything else is called from the same loop."""

    def __init__(
        self,
        member_id: MemberId,
        certificate_der: bytes,
        dialer: Dialer,
        pairs: Pairs,
        settings: NetSettings,
        source: random.Random,
        spawn: Spawn,
        refused: Callable[[MemberId, Refused], None],
    ) -> None:
        self.member_id = member_id
        self.certificate_der = certificate_der
        self._spawn = spawn
        self._refused = refused
        self._dialer = dialer
        self._pairs = pairs
        self._settings = settings
        self._backoff = Backoff(settings.dial_min_ms, settings.dial_max_ms, source)
        self._addresses: tuple[Address, ...] = ()
        self._direct: Address | None = None
        self._reaching: asyncio.Task[None] | None = None
        self._reach_after = 0.0
        self._error = ""
        self._told = ""
        """The refusal that was last reported since there was a link."""
        self._due = 0.0
        self._link_began = 0.0
        self._scope: asyncio.Timeout | None = None
        """Of the attempt under way, as long as it may be ended."""
        self._changed = asyncio.Event()
        self._linked = asyncio.Event()

    @cached_property
    def session(self) -> aiohttp.ClientSession:
        """For requests to this member; only ever connected to it."""
        return self._dialer.session()

    def set_addresses(self, addresses: Sequence[Address]) -> None:
        """Addresses that were not known are tried at once."""
        usable = dialable(addresses)
        if set(usable) - set(self._addresses):
            self._backoff.reset()
            self._due = self._reach_after = 0.0
        if self._direct not in usable:
            self._direct = None
        self._addresses = usable
        self._changed.set()

    def state(self) -> DialState:
        remaining_s = 0.0 if self._linked.is_set() else max(0.0, self._due - _now())
        return DialState(self._addresses, self._direct, self._backoff.failures, round(remaining_s * 1000), self._error)

    def on_link_up(self) -> None:
        self._link_began = _now()
        self._error = self._told = ""
        self._linked.set()
        self._changed.set()
        if self._scope:
            self._scope.reschedule(_now())
            self._scope = None

    def on_link_down(self, reason: str) -> None:
        """A link that was cut short counts as a failed attempt; one that was steady is sought again at once."""
        self._linked.clear()
        if _now() - self._link_began >= self._settings.steady_ms / 1000:
            self._backoff.reset()
        self._put_off(reason)

    async def close(self) -> None:
        if self._reaching:
            self._reaching.cancel()
            await asyncio.wait([self._reaching])
        if "session" in self.__dict__:
            await self.session.close()

    async def run(self) -> None:
        """Dial, for ever."""
        while True:
            await self._until_due()
            await self._attempt()

    async def _until_due(self) -> None:
        while True:
            self._changed.clear()
            wanted = bool(self._addresses) and not self._linked.is_set()
            if wanted and self._due <= _now():
                return
            try:
                async with asyncio.timeout_at(self._due if wanted else None):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def direct(self) -> Address | None:
        """Where requests of ours go; None where it cannot be dialed.

        While a link stands that the other dialed, callers are not made to wait for addresses that may not answer: None
        at first, and the addresses are tried meanwhile.
        """
        if self._direct is not None or not self._addresses or _now() < self._reach_after:
            return self._direct
        if self._reaching is None or self._reaching.done():
            self._reaching = self._spawn(self._reach())
        if not self._linked.is_set():
            await asyncio.wait([self._reaching])
        return self._direct

    def direct_failed(self, address: Address) -> None:
        if self._direct == address:
            self._direct = None
            self._reach_after = _now() + self._settings.dial_min_ms / 1000

    async def _reach(self) -> None:
        try:
            self._direct = await self._dialer.reach(self.session, self._addresses)
        except PeerError:
            self._reach_after = _now() + self._settings.reprobe_ms / 1000

    async def _attempt(self) -> None:
        """One attempt; ended without harm when a link comes up by the other's dialing."""
        try:
            async with asyncio.timeout(None) as self._scope:
                offer, address = await self._introduce()
        except TimeoutError:
            return  # `on_link_up` ended it
        except PeerError as error:
            self._failed(error)
            return
        finally:
            self._scope = None
        try:
            await self._pairs.settle(offer)
        except PeerError as error:
            await offer.connection.hang_up()
            self._failed(error)
        except BaseException:
            await offer.connection.hang_up()
            raise
        else:
            self._direct = address

    async def _introduce(self) -> tuple[Offer, Address]:
        connection, address = await self._dialer.connect(self._addresses)
        try:
            return await self._pairs.introduce(self.member_id, connection), address
        except BaseException:
            await connection.hang_up()
            raise

    def _failed(self, error: PeerError) -> None:
        refusal = error.refusal if isinstance(error, NobodyError) else error if isinstance(error, Refused) else None
        self._put_off(str(error))
        if refusal and refusal.code != Code.DUPLICATE and str(refusal) != self._told:
            self._told = str(refusal)
            self._refused(self.member_id, refusal)

    def _put_off(self, error: str) -> None:
        self._error = error
        self._backoff.failed()
        self._due = _now() + self._backoff.next_ms() / 1000
        self._changed.set()


def _now() -> float:
    return asyncio.get_running_loop().time()
