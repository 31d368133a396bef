"""One verification of one folder (engine.verify): a thread that reads, the folder's thread that judges, and progress.

The reading thread has the lowest priority, and does one bounded piece after the other: so an interruption, or the
folder's end, waits for one piece at most. Suspects are judged in batches, each after one look at all that the watch has
told.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import msgspec

from replicad.core.effects import Effect, Report
from replicad.daemon.driver import Driver
from replicad.engine.folder import FolderReplica
from replicad.engine.readers import Readers
from replicad.engine.verify import CONTENT, TEXTS, Piece, Suspect, Walk
from replicad.engine.verifying import Difference, Remedy, Verifying
from replicad.errors import OperatorError
from replicad.files.linux import lower_priority
from replicad.files.real_fs import RealFileSystem
from replicad.ops.text import path_json

SUSPECTS_MAX = 512
"""Judged in one go, on the folder's thread: 50 µs each."""
JUDGED_EVERY_S = 5.0
"""Differences are told while a long verification runs."""
PROGRESS_EVERY_S = 0.5
THROUGH_S = 300.0
"""For the folder to have looked at what was changed up to now: a burst of 100,000 files takes so long."""
REPORTS_MAX = 100
"""Events of single files that one verification makes; one more tells how many there were."""


class Progress(msgspec.Struct, frozen=True):
    """`*_total`: as the catalog counts, what is live; some of it may not be here yet."""

    entries: int
    bytes: int
    entries_total: int
    bytes_total: int


class Verified(msgspec.Struct, frozen=True):
    """The end: all of it was read."""

    entries: int
    bytes: int
    differences: int


Told = Progress | Difference | Verified
T = TypeVar("T")


class Verification:
    """`run` once, `stop` from anywhere; on the event loop."""

    def __init__(
        self,
        driver: Driver[FolderReplica],
        readers: Readers,
        fs: RealFileSystem,
        report: Callable[[Report], None],
        clock_ms: Callable[[], int],
    ) -> None:
        self._driver = driver
        self._clock_ms = clock_ms
        self._readers = readers
        self._fs = fs
        self._report = report
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, "replicad-verify", initializer=lower_priority)
        self._reading = asyncio.Lock()
        """Held while the thread works."""
        self._stopped = False
        self._entries = self._bytes = self._differences = self._reported = 0

    async def stop(self) -> None:
        """Nothing is read any more when it returns."""
        self._stopped = True
        async with self._reading:
            self._thread.shutdown(wait=False)

    async def run(self, remedy: Remedy) -> AsyncGenerator[Told, None]:
        """Raises OperatorError, CatalogError, DriverStoppedError."""
        walk = await self._in_thread(lambda: Walk(self._readers.reader, self._fs))
        suspects: list[Suspect] = []
        told_s = judged_s = self._loop.time()
        try:
            piece = Piece()
            while not piece.done:
                piece = await self._in_thread(walk.piece)
                self._entries, self._bytes = self._entries + piece.entries, self._bytes + piece.bytes
                suspects += piece.suspects
                now_s = self._loop.time()
                late = piece.done or len(suspects) >= SUSPECTS_MAX or now_s >= judged_s + JUDGED_EVERY_S
                if suspects and late:
                    for difference in await self._judge(suspects, remedy):
                        yield difference
                    suspects, judged_s = [], self._loop.time()
                if now_s >= told_s + PROGRESS_EVERY_S:
                    told_s = now_s
                    yield Progress(self._entries, self._bytes, walk.entries_total, walk.bytes_total)
            self._report_end()
            yield Verified(self._entries, self._bytes, self._differences)
        finally:
            async with self._reading:
                walk.close()

    async def _in_thread(self, work: Callable[[], T]) -> T:
        async with self._reading:
            if self._stopped:
                raise OperatorError("the verification was stopped: the folder is being closed")
            running = self._loop.run_in_executor(self._thread, work)
            try:
                return await asyncio.shield(running)
            except asyncio.CancelledError:
                await asyncio.wait([running])  # the thread must not be at work when the lock is given back
                raise

    async def _judge(self, suspects: list[Suspect], remedy: Remedy) -> list[Difference]:
        """Once the folder has looked at all that has been told up to now."""
        clock_ms = self._clock_ms
        try:
            await self._driver.call(lambda replica: _part(replica).begin(clock_ms()))
            async with asyncio.timeout(THROUGH_S):
                hindrance = await self._driver.until(lambda replica: _part(replica).through(clock_ms()))
        except TimeoutError as error:
            raise OperatorError(
                f"the folder has not looked at all changes within {THROUGH_S:g} s: try again"
            ) from error
        finally:
            self._driver.command(lambda replica: _part(replica).end())
        if hindrance:
            raise OperatorError(f"the folder cannot be verified any further: {hindrance}")
        differences: list[Difference] = []
        for start in range(0, len(suspects), SUSPECTS_MAX):
            some = suspects[start : start + SUSPECTS_MAX]
            differences += await self._driver.act(partial(_judge, suspects=some, remedy=remedy))
        for difference in differences:
            self._note(difference)
        return differences

    def _note(self, difference: Difference) -> None:
        self._differences += 1
        if difference.kind == CONTENT and self._reported < REPORTS_MAX:
            self._reported += 1
            self._report(Report(0, f"verified: {TEXTS[CONTENT]}; {difference.action}", difference.path))

    def _report_end(self) -> None:
        text = f"verified: {self._entries} entries, {self._bytes} bytes read, {self._differences} differences"
        self._report(Report(0, text))


def verification_json(told: Told) -> dict[str, Any]:
    """As the API sends it."""
    match told:
        case Progress():
            return {"progress": msgspec.structs.asdict(told)}
        case Verified():
            return {"result": msgspec.structs.asdict(told)}
        case Difference(path, kind, action, reason):
            text = f"{TEXTS[kind]}: {reason}" if reason else TEXTS[kind]
            return {"difference": {"path": path_json(path), "kind": kind, "text": text, "action": action}}


def _part(replica: FolderReplica) -> Verifying:
    assert replica.verifying is not None, "a folder that was not started"
    return replica.verifying


def _judge(
    replica: FolderReplica, now_ms: int, suspects: Sequence[Suspect], remedy: Remedy
) -> tuple[list[Difference], Sequence[Effect]]:
    return _part(replica).judge(suspects, remedy), replica.exchange.after_commit(now_ms)
