"""Which folders run: one that cannot be opened is tried again in its own time, and is told of once."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from replicad.catalog.store import Catalog
from replicad.config.written import KeptFolder, write_kept
from replicad.core.hierarchy_entries import CREATED
from replicad.daemon import folders
from replicad.daemon.driver import DriverStoppedError
from replicad.daemon.folders import JUST_STOPPED, Folders
from replicad.errors import OperatorError
from replicad.ops.office import folder_catalog

OWN = "ab" * 32
NAMES = ("docs", "media")


class Driver:
    """Of a folder whose disk is away: its thread ends at once."""

    error: BaseException = OperatorError("cannot open it: no such directory")

    def __init__(self) -> None:
        self.running = False
        self.failure: BaseException | None = self.error

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


Told = list[tuple[str, str]]


def two_folders(
    home: Path, tasks: asyncio.TaskGroup, monkeypatch: pytest.MonkeyPatch
) -> tuple[Folders, asyncio.Queue[None], Told]:
    """They, what asks for a reconciliation, and what operators are told."""
    started.clear()
    monkeypatch.setattr(folders, "FolderRuntime", Runtime)
    monkeypatch.setattr(folders, "RETRY_S", 0.05)
    monkeypatch.setattr(folders, "RETRY_SLACK_S", 0.01)
    write_kept(home, [KeptFolder(name, home / name) for name in NAMES])
    infos = {
        name: SimpleNamespace(
            folder=name.encode(), name=name, members={OWN: SimpleNamespace(how=CREATED, writable=True)}, founded=None
        )
        for name in NAMES
    }
    reading: Any = SimpleNamespace(folders_by_name=infos, folders={}, conflicts=lambda folder: "")
    told: Told = []
    loop = asyncio.get_running_loop()
    asked: asyncio.Queue[None] = asyncio.Queue()
    shared: Any = SimpleNamespace(home=home, own=OWN, clock_ms=lambda: 0)
    found = Folders(
        shared, SimpleNamespace(remove=lambda folder: None), tasks, lambda: reading,  # type: ignore[arg-type]
        lambda seconds: loop.call_later(seconds, asked.put_nowait, None) and None,
        lambda name, text: told.append((name, text)),
    )  # fmt: skip
    return found, asked, told


async def test_folders_that_cannot_be_opened_are_tried_once_in_their_time_whatever_else_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each failure asks for another reconciliation: if each of these tried all of them, tries would double for ever."""
    async with asyncio.TaskGroup() as tasks:
        all_of_them, asked, told = two_folders(tmp_path, tasks, monkeypatch)
        for _ in range(5):
            await all_of_them.reconcile()
        assert started == list(NAMES)
        for _ in range(3):
            await asked.get()
            await all_of_them.reconcile()
    assert 2 < len(started) <= 6, "in each of the times that came, each was tried once at the most"
    assert {name for name, _ in told} == set(NAMES)
    assert len(told) == 2, "the same reason is told once"


async def test_a_bug_that_a_broken_catalog_brought_about_is_the_catalogs_and_the_folder_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Driver, "error", AssertionError("a node that is not there"))
    folder_catalog(tmp_path, b"").parent.mkdir()
    for name in NAMES:
        Catalog.open(folder_catalog(tmp_path, name.encode()), name.encode(), lambda: 7).close()
    broken = folder_catalog(tmp_path, b"docs")
    broken.write_bytes(broken.read_bytes()[:8192])
    async with asyncio.TaskGroup() as tasks:
        all_of_them, asked, told = two_folders(tmp_path, tasks, monkeypatch)
        await all_of_them.reconcile()
        async with asyncio.timeout(5):
            await asked.get()
        await all_of_them.reconcile()
    assert started == ["docs", "media", "docs"], "what is a bug is not tried again"
    reasons = dict(told)
    assert reasons["docs"].startswith(f"the folder has stopped: the catalog {broken} cannot be used: ")
    assert reasons["media"] == "the folder has stopped: a bug in replicad: AssertionError('a node that is not there')"
    assert len(told) == 2


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (OperatorError("cannot open it"), "cannot open it"),
        (OSError(28, "No space left on device"), "the disk failed: [Errno 28] No space left on device"),
        (KeyError("bug"), JUST_STOPPED),
    ],
)
async def test_a_status_that_is_asked_for_in_the_moment_a_folder_ends_tells_what_ended_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException, reason: str
) -> None:
    class Ending(Driver):
        """Its thread has ended; those who attend to it have not been told."""

        error = failure

        async def ended(self) -> BaseException | None:
            await asyncio.Event().wait()
            return None

    async def refuse(runtime: Runtime, others: object) -> None:
        raise DriverStoppedError("folder docs does not run")

    monkeypatch.setattr(f"{__name__}.Driver", Ending)
    monkeypatch.setattr(Runtime, "status", refuse, raising=False)

    def attending() -> set[asyncio.Task[Any]]:
        return {task for task in asyncio.all_tasks() if "_attend" in repr(task.get_coro())}

    async with asyncio.TaskGroup() as tasks:
        found, _, _ = two_folders(tmp_path, tasks, monkeypatch)
        await found.reconcile()
        assert [row.reason for row in await found.rows()] == [reason, reason]
        for task in attending():
            task.cancel()
