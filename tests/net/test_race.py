"""Several addresses at once: the first that works wins, and the others leave nothing behind."""

import asyncio

import pytest

from replicad.errors import PeerError
from replicad.net.race import NobodyError, race


class Field:
    """Candidates are names; what each does is told by its first letter: (g)ood, (b)ad, (h)angs, (s)low to let go."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.ended: list[str] = []
        self.discarded: list[str] = []
        self.two_started = asyncio.Event()

    async def attempt(self, name: str) -> str:
        self.started.append(name)
        if len(self.started) == 2:
            self.two_started.set()
        try:
            if name.startswith("b"):
                raise PeerError(f"{name} is bad")
            if name.startswith("h"):
                await asyncio.Event().wait()
            if name.startswith("s"):
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    return name  # had succeeded when it was told to stop
            return name
        finally:
            self.ended.append(name)

    async def discard(self, name: str) -> None:
        self.discarded.append(name)


async def test_the_first_that_works_wins_and_the_others_are_ended() -> None:
    field = Field()
    async with asyncio.timeout(2):
        assert await race(["hang", "bad", "good", "never"], field.attempt, field.discard, stagger_s=0.01) == "good"
    assert field.started == ["hang", "bad", "good"]
    assert sorted(field.ended) == ["bad", "good", "hang"]


async def test_a_failure_starts_the_next_at_once() -> None:
    field = Field()
    async with asyncio.timeout(5):
        assert await race(["bad", "good"], field.attempt, field.discard, stagger_s=60) == "good"


async def test_a_result_that_comes_too_late_is_discarded() -> None:
    field = Field()
    assert await race(["slow", "good"], field.attempt, field.discard, stagger_s=0.01) == "good"
    assert field.discarded == ["slow"]


async def test_when_none_works_all_reasons_are_told() -> None:
    field = Field()
    with pytest.raises(NobodyError, match="bad1 is bad; bad2: bad2 is bad") as caught:
        await race(["bad1", "bad2"], field.attempt, field.discard)
    assert len(caught.value.errors) == 2
    with pytest.raises(NobodyError, match="no address"):
        await race([], field.attempt, field.discard)


async def test_a_bug_of_ours_is_not_taken_for_a_peers_fault() -> None:
    async def attempt(name: str) -> str:
        if name == "hang":
            await asyncio.Event().wait()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await race(["hang", "bug"], attempt, Field().discard, stagger_s=0.01)


async def test_being_cancelled_ends_every_attempt() -> None:
    field = Field()
    task = asyncio.create_task(race(["hang1", "hang2"], field.attempt, field.discard, stagger_s=0))
    await field.two_started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(field.ended) == ["hang1", "hang2"]
