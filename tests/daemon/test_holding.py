"""Asking who holds files: everyone is answered, by as few looks as possible."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from replicad.daemon import holding
from replicad.daemon.holding import Holding


def test_everyone_is_answered_and_those_who_ask_meanwhile_share_the_next_look() -> None:
    looks: list[Sequence[bytes]] = []
    told: list[tuple[bytes, str]] = []

    async def run() -> None:
        async def look(paths: Sequence[bytes]) -> dict[bytes, str]:
            looks.append(paths)
            if len(looks) == 1:
                assert not desk.ask(b"b"), "a second look at the same time"
                assert not desk.ask(b"c")
            return {b"a": "pid 1 (vim)", b"c": "pid 2 (vim)"}

        desk = Holding(look, lambda path, who: told.append((path, who)))
        assert desk.ask(b"a")
        await asyncio.gather(desk.work(), desk.work())

    asyncio.run(run())
    assert looks == [[b"a"], [b"b", b"c"]]
    assert told == [(b"a", "pid 1 (vim)"), (b"b", ""), (b"c", "pid 2 (vim)")]


def test_i8_who_asks_when_too_many_wait_is_answered_that_nothing_is_known(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(holding, "ASKED_MAX", 1)
    told: list[tuple[bytes, str]] = []

    async def look(paths: Sequence[bytes]) -> dict[bytes, str]:
        return {}

    desk = Holding(look, lambda path, who: told.append((path, who)))
    assert desk.ask(b"a")
    assert not desk.ask(b"b")
    assert told == [(b"b", "")]
