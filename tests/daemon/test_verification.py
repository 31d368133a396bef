"""A verification in the daemon: it ends when it is stopped or given up, and nothing of it goes on after that."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from replicad.core.effects import Report
from replicad.daemon import verification
from replicad.daemon.verification import Progress, Verification, Verified
from replicad.engine.verify import Piece
from replicad.engine.verifying import Remedy
from replicad.errors import OperatorError


class SlowWalk:
    """Pieces without end, each as long as it is let; `reading` tells of one being read."""

    def __init__(self) -> None:
        self.entries_total = self.bytes_total = 1
        self.reading, self.go_on = threading.Event(), threading.Event()
        self.closed = False
        self.last = False

    def piece(self) -> Piece:
        assert not self.closed, "read after it was closed"
        self.reading.set()
        assert self.go_on.wait(60)
        return Piece(entries=1, bytes=10, done=self.last)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def walk(monkeypatch: pytest.MonkeyPatch) -> SlowWalk:
    made = SlowWalk()
    monkeypatch.setattr(verification, "Walk", lambda *_: made)
    monkeypatch.setattr(verification, "PROGRESS_EVERY_S", 0.0)
    return made


def run(test: Callable[[Verification], Any]) -> list[Report]:
    reports: list[Report] = []

    async def main() -> None:
        nothing: Any = SimpleNamespace(reader=None)
        await test(Verification(nothing, nothing, nothing, reports.append, lambda: 0))

    asyncio.run(main())
    return reports


def test_progress_is_told_and_the_end(walk: SlowWalk) -> None:
    walk.go_on.set()

    async def test(made: Verification) -> None:
        told = []
        async for one in made.run(Remedy.REPORT):
            told.append(one)
            walk.last = len(told) == 2
        await made.stop()
        assert told[:2] == [Progress(1, 10, 1, 1), Progress(2, 20, 1, 1)]
        assert told[-1] == Verified(3, 30, 0)

    (report,) = run(test)
    assert report.text == "verified: 3 entries, 30 bytes read, 0 differences"
    assert walk.closed


def test_the_folders_end_waits_for_the_piece_that_is_read_and_for_no_other(walk: SlowWalk) -> None:
    async def test(made: Verification) -> None:
        async def follow() -> None:
            async for _ in made.run(Remedy.REPORT):
                pass

        following = asyncio.ensure_future(follow())
        await asyncio.to_thread(walk.reading.wait, 60)
        stopping = asyncio.ensure_future(made.stop())
        await asyncio.wait([stopping], timeout=0.05)
        waited = not stopping.done()
        walk.go_on.set()
        await stopping
        assert waited, "a thread was reading"
        with pytest.raises(OperatorError, match="stopped"):
            await following

    assert run(test) == []
    assert walk.closed


def test_who_gives_up_in_the_middle_of_a_piece_leaves_nothing_behind(walk: SlowWalk) -> None:
    async def test(made: Verification) -> None:
        async def follow() -> None:
            async for _ in made.run(Remedy.REPORT):
                pass

        following = asyncio.ensure_future(follow())
        await asyncio.to_thread(walk.reading.wait, 60)
        following.cancel()
        walk.go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await following
        await made.stop()

    run(test)
    assert walk.closed


def test_the_thread_that_reads_has_the_lowest_priority(walk: SlowWalk) -> None:
    found: list[int] = []

    def piece() -> Piece:
        found.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        return Piece(done=True)

    walk.piece = piece  # type: ignore[method-assign]

    async def test(made: Verification) -> None:
        async for _ in made.run(Remedy.REPORT):
            pass
        await made.stop()

    run(test)
    assert found == [19]
