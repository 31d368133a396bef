"""The hierarchy's thread of a running member: made, and made anew where the disk of its catalog has failed.

A member whose home refuses writes goes on with what needs none: its links stay, what it knows of the group holds, and
each folder works until its own catalog refuses a write. Only what has to be durable in the hierarchy's catalog waits:
changes of the group, joiners, and new links, each of which has a number that must never come twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NoReturn

from replicad.daemon.driver import Driver
from replicad.errors import CatalogDiskError
from replicad.ops.keeper import Keeper

AGAIN_S = 10.0
"""Until a catalog that could not be written is tried again."""


class Keeping:
    """On the event loop. `driver` is another one after each failure; `trouble` says why there is none that runs."""

    def __init__(self, make: Callable[[], Driver[Keeper]]) -> None:
        self._make = make
        self.driver = make()
        self.trouble = ""

    async def start(self) -> None:
        """Where it fails `driver.failure` says why."""
        self.driver.start()
        await self.driver.ready()

    async def stop(self) -> None:
        await self.driver.stop()

    async def keep(self, attached: Callable[[Driver[Keeper] | None], None], tell: Callable[[str], None]) -> NoReturn:
        """Raises what ends the hierarchy for good, which a disk does not. `attached` is told which driver takes part in
        the links; `tell` is for operators."""
        while True:
            failure = await self.driver.ended()
            if not isinstance(failure, CatalogDiskError):
                raise failure or AssertionError("the hierarchy's thread has ended by itself")
            self.trouble = str(failure)
            attached(None)
            tell(f"nothing of the group can be changed here, which is tried again every {AGAIN_S:.0f} s: {failure}")
            while self.trouble:
                await asyncio.sleep(AGAIN_S)
                await self._try_again()
            if self.driver.running:
                attached(self.driver)
                tell("the group can be changed here again")

    async def _try_again(self) -> None:
        driver = self._make()
        driver.start()
        try:
            await driver.ready()
        except BaseException:
            await driver.stop()
            raise
        if driver.running or not isinstance(driver.failure, CatalogDiskError):
            self.driver, self.trouble = driver, ""
