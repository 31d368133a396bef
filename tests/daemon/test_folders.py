"""Which folders run: one that cannot be opened is tried again in its own time, and is told of once."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from replicad.config.written import KeptFolder, write_kept
from replicad.core.hierarchy_entries import CREATED
from replicad.daemon import folders
from replicad.daemon.folders import Folders
from replicad.errors import OperatorError

OWN = "ab" * 32
NAMES = ("docs", "media")


class Driver:
    """Of a folder whose disk is away: its thread ends at once."""

    def __init__(self) -> None:
        self.running = False
        self.failure: BaseException | None = OperatorError("cannot open it: no such directory")

    async def ready(self) -> None: ...
    async def ended(self) -> BaseException | None:
        return self.failure


class Runtime:
    def __init__(self, place: Any, shared: Any, tasks: asyncio.TaskGroup) -> None:
        self.place, self.driver = place, Driver()

    def start(self) -> None:
        started.append(self.place.name)

    async def stop(self) -> bool:
        return True


started: list[str] = []


async def test_folders_that_cannot_be_opened_are_tried_once_in_their_time_whatever_else_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each failure asks for another reconciliation: if each of these tried all of them, tries would double for ever."""
    started.clear()
    monkeypatch.setattr(folders, "FolderRuntime", Runtime)
    monkeypatch.setattr(folders, "RETRY_S", 0.05)
    monkeypatch.setattr(folders, "RETRY_SLACK_S", 0.01)
    write_kept(tmp_path, [KeptFolder(name, tmp_path / name) for name in NAMES])
    infos = {
        name: SimpleNamespace(
            folder=name.encode(), name=name, members={OWN: SimpleNamespace(how=CREATED, writable=True)}, founded=None
        )
        for name in NAMES
    }
    reading: Any = SimpleNamespace(folders_by_name=infos, folders={}, conflicts=lambda folder: "")
    told: list[tuple[str, str]] = []
    loop = asyncio.get_running_loop()
    asked: asyncio.Queue[None] = asyncio.Queue()
    shared: Any = SimpleNamespace(home=tmp_path, own=OWN, clock_ms=lambda: 0)
    async with asyncio.TaskGroup() as tasks:
        all_of_them = Folders(
            shared, SimpleNamespace(remove=lambda folder: None), tasks, lambda: reading,  # type: ignore[arg-type]
            lambda seconds: loop.call_later(seconds, asked.put_nowait, None) and None,
            lambda name, text: told.append((name, text)),
        )  # fmt: skip
        for _ in range(5):
            await all_of_them.reconcile()
        assert started == list(NAMES)
        for _ in range(3):
            await asked.get()
            await all_of_them.reconcile()
    assert 2 < len(started) <= 6, "in each of the times that came, each was tried once at the most"
    assert {name for name, _ in told} == set(NAMES)
    assert len(told) == 2, "the same reason is told once"
