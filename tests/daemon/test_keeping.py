"""The disk of the hierarchy's catalog fails: the member goes on, and the hierarchy once it can be written again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest

from replicad.core.effects import Effect
from replicad.daemon import keeping
from replicad.daemon.driver import Driver
from replicad.daemon.keeping import Keeping
from replicad.errors import CatalogDiskError, CatalogError

FULL = CatalogDiskError("the catalog x cannot be written: database or disk is full")


class Hierarchy:
    """A replica of which an event may fail."""

    def start(self, now_ms: int) -> Sequence[Effect]:
        return []

    def handle(self, event: Any, now_ms: int) -> Sequence[Effect]:
        if isinstance(event, Exception):
            raise event
        return []

    def next_due_ms(self) -> int | None:
        return None

    def close(self, now_ms: int) -> None: ...


class World:
    """`starts`: what comes of each start, None where it succeeds."""

    def __init__(self, starts: list[Exception | None], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(keeping, "AGAIN_S", 0.001)
        self.starts = starts
        self.told: list[str] = []
        self.attached: asyncio.Queue[Any] = asyncio.Queue()
        self.keeping = Keeping(lambda: cast(Any, Driver("hierarchy", self._make, lambda _: None, clock_ms=lambda: 0)))

    def _make(self) -> Hierarchy:
        error = self.starts.pop(0)
        if error is not None:
            raise error
        return Hierarchy()

    async def begin(self) -> asyncio.Task[Any]:
        await self.keeping.start()
        return asyncio.create_task(self.keeping.keep(self.attached.put_nowait, self.told.append))

    async def next_attached(self, keeps: asyncio.Task[Any]) -> Any:
        getting = asyncio.create_task(self.attached.get())
        await asyncio.wait([getting, keeps], return_when=asyncio.FIRST_COMPLETED)
        assert not keeps.done(), keeps.exception()
        return getting.result()


async def test_i10_the_hierarchy_is_tried_again_until_its_catalog_can_be_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World([None, FULL, FULL, None], monkeypatch)
    keeps = await world.begin()
    first = world.keeping.driver
    first.post(FULL)
    assert await world.next_attached(keeps) is None, "it takes part in no link"
    assert world.keeping.trouble == str(FULL)
    second = await world.next_attached(keeps)
    assert second is world.keeping.driver is not first
    assert second.running
    assert world.keeping.trouble == ""
    assert len(world.told) == 2, "it is told once that it fails, and once that it does not"
    assert str(FULL) in world.told[0]
    assert world.starts == []
    keeps.cancel()
    await asyncio.wait([keeps])
    await world.keeping.stop()
    assert not second.running


@pytest.mark.parametrize("at_once", [True, False])
async def test_what_is_no_fault_of_the_disk_ends_it(monkeypatch: pytest.MonkeyPatch, at_once: bool) -> None:
    corrupt = CatalogError("corrupt")
    world = World([None, corrupt], monkeypatch)
    keeps = await world.begin()
    world.keeping.driver.post(corrupt if at_once else FULL)
    with pytest.raises(CatalogError, match="corrupt"):
        await keeps
    await world.keeping.stop()
