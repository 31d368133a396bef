"""Try several addresses as RFC 8305 (happy eyeballs) does: each a moment after the last, the first to work wins.

It differs in what counts as working: not an open TCP connection, which anyone may accept, but whatever the caller
tries, TLS with the expected member included.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

from replicad.errors import PeerError
from replicad.net.refusal import Refused

C = TypeVar("C")
R = TypeVar("R")

STAGGER_S = 0.25
"""RFC 8305's recommended delay between attempts."""


class NobodyError(PeerError):
    """No candidate worked; the text names each with its reason, `errors` has them."""

    def __init__(self, errors: Sequence[tuple[object, PeerError]]) -> None:
        super().__init__("; ".join(f"{candidate}: {error}" for candidate, error in errors) or "no address is known")
        self.errors = tuple(error for _, error in errors)

    @property
    def refusal(self) -> Refused | None:
        """The first refusal among the errors: somebody answered, and said no."""
        return next((error for error in self.errors if isinstance(error, Refused)), None)


async def race(
    candidates: Sequence[C],
    attempt: Callable[[C], Awaitable[R]],
    discard: Callable[[R], Awaitable[None]],
    *,
    stagger_s: float = STAGGER_S,
) -> R:
    """The first result. PeerError from `attempt` means that candidate does not work; NobodyError: none does.

    The other attempts are cancelled and have ended when this returns; a result that came too late is given to
    `discard`. One failure starts the next candidate at once.
    """
    waiting = deque(candidates)
    running: dict[asyncio.Future[R], C] = {}
    errors: list[tuple[C, PeerError]] = []
    try:
        while waiting or running:
            if waiting:
                candidate = waiting.popleft()
                running[asyncio.ensure_future(attempt(candidate))] = candidate
            done, _ = await asyncio.wait(
                running, timeout=stagger_s if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                candidate = running[task]
                error = task.exception()
                if error is None:
                    del running[task]
                    return task.result()
                if not isinstance(error, PeerError):
                    raise error
                del running[task]
                errors.append((candidate, error))
    finally:
        await _end(list(running), discard)
    raise NobodyError(errors)


async def _end(running: list[asyncio.Future[R]], discard: Callable[[R], Awaitable[None]]) -> None:
    await end_tasks(running)
    for task in running:
        if not task.cancelled() and task.exception() is None:
            await discard(task.result())


async def end_tasks(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Cancel all and see them end. Who is cancelled meanwhile stays until they have: no task is left to itself."""
    ending = set(tasks)
    for task in ending:
        # A second cancellation would cut short what the task does to end well.
        if not (isinstance(task, asyncio.Task) and task.cancelling()):
            task.cancel()
    cancelled: asyncio.CancelledError | None = None
    while ending:
        try:
            _, ending = await asyncio.wait(ending)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled:
        raise cancelled
