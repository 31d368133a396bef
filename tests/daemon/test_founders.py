"""The end of a founding is written into the hierarchy once, when it is due."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from replicad.core.founding import QUIET_MS, Seen
from replicad.daemon.founders import Founders, all_caught_up
from replicad.engine.contacts import Standing

FOLDER = bytes(range(16))
EQUAL = Standing(scanned=True, members=(Seen(scanned=True, agrees=True),))


class World:
    """A folder that says how it stands, and a hierarchy that remembers what is written."""

    def __init__(self) -> None:
        self.now_ms = 0
        self.standing = EQUAL
        self.written: list[bytes] = []
        runtime = SimpleNamespace(driver=self, place=SimpleNamespace(folder=FOLDER))
        self.founders = Founders(
            cast(Any, lambda: {"docs": runtime}), cast(Any, self.reading), lambda: cast(Any, self), lambda: self.now_ms
        )

    async def call(self, _function: object) -> Standing:
        return self.standing

    async def act(self, function: Any) -> None:
        hierarchy = SimpleNamespace(end_founding=lambda folder, now_ms: self.written.append(folder) or [])
        function(SimpleNamespace(hierarchy=hierarchy), self.now_ms)

    def reading(self) -> object:
        founded = object() if self.written else None
        return SimpleNamespace(folders={FOLDER: SimpleNamespace(founded=founded)})


async def test_it_is_written_once_when_the_hour_is_over() -> None:
    world = World()
    for now_ms in (0, QUIET_MS - 1):
        world.now_ms = now_ms
        await world.founders.check()
    assert world.written == []
    for now_ms in (QUIET_MS, QUIET_MS + 1, 3 * QUIET_MS):
        world.now_ms = now_ms
        await world.founders.check()
    assert world.written == [FOLDER]


async def test_a_member_in_its_first_scan_holds_it_off() -> None:
    world = World()
    world.standing = Standing(scanned=True, members=(Seen(scanned=False, agrees=False),))
    for now_ms in (0, QUIET_MS, 5 * QUIET_MS):
        world.now_ms = now_ms
        await world.founders.check()
    assert world.written == []


async def test_a_member_is_written_living_when_none_of_its_folders_has_to_catch_up() -> None:
    """A folder in which nobody is in contact says neither."""

    async def asked(*answers: bool | None) -> bool:
        return await all_caught_up(cast(Any, [SimpleNamespace(driver=_Answers(answer)) for answer in answers]))

    assert await asked(True, None, True)
    assert not await asked(True, False, None)


class _Answers:
    def __init__(self, answer: bool | None) -> None:
        self._answer = answer

    async def call(self, _function: object) -> bool | None:
        return self._answer
