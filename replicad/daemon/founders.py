"""What folders are asked before the hierarchy is written: the end of a founding (core.founding), looked for every
CHECK_S; and whether a member that has lapsed may be written living again (engine.returning)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from replicad.core.founding import Founding
from replicad.core.hierarchy_model import Reading
from replicad.core.ids import FolderId
from replicad.daemon.driver import Driver
from replicad.daemon.folder_runtime import FolderRuntime
from replicad.engine.contacts import Standing, caught_up, standing
from replicad.errors import ReplicadError
from replicad.ops.keeper import Keeper

CHECK_S = 30.0
"""A founding's periods are an hour and a day."""


class Founders:
    """On the event loop; `watch` runs until it is cancelled."""

    def __init__(
        self,
        running: Callable[[], dict[str, FolderRuntime]],
        reading: Callable[[], Reading],
        keeper: Callable[[], Driver[Keeper]],
        clock_ms: Callable[[], int],
    ) -> None:
        self._running = running
        self._reading = reading
        self._keeper = keeper
        self._clock_ms = clock_ms
        self._foundings: dict[FolderId, Founding] = {}

    async def watch(self) -> None:
        while True:
            await self.check()
            await asyncio.sleep(CHECK_S)

    async def check(self) -> None:
        for runtime in list(self._running().values()):
            try:
                seen = await runtime.driver.call(standing)
                await self._end(runtime.place.folder, seen)
            except ReplicadError:
                continue  # the folder, or the daemon, is stopping; it is looked at again when it runs

    async def _end(self, folder: FolderId, seen: Standing) -> None:
        info = self._reading().folders.get(folder)
        if info is None or info.founded is not None:
            self._foundings.pop(folder, None)
            return
        founding = self._foundings.setdefault(folder, Founding())
        if founding.look(seen.scanned, seen.members, self._clock_ms()):
            await self._keeper().act(lambda keeper, now_ms: (None, keeper.hierarchy.end_founding(folder, now_ms)))


async def all_caught_up(running: Iterable[FolderRuntime]) -> bool:
    """Whether no folder is stale towards anybody in contact. Raises ReplicadError where one does not answer."""
    return False not in [await one.driver.call(caught_up) for one in running]
