"""A folder whose catalog cannot be written has ended, and what is on its disk is still served to the others."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from replicad.core.ids import Uid
from replicad.daemon.clock import wall_ms
from replicad.daemon.folder_runtime import FolderPlace, FolderRuntime, Shared
from replicad.daemon.folders import Folders
from replicad.engine.folder import FolderReplica
from replicad.engine.phases import Role
from replicad.engine.serving import ContentShelf
from replicad.engine.settings import FolderSettings
from replicad.errors import CatalogDiskError
from replicad.ops.office import folder_catalog

FOLDER = bytes(range(16))
OWN = "ab" * 32
FULL = CatalogDiskError("the catalog x cannot be written: database or disk is full")


class World:
    def __init__(self, base: Path, tasks: asyncio.TaskGroup, threads: ThreadPoolExecutor) -> None:
        self.root, home = base / "docs", base / "home"
        self.root.mkdir()
        folder_catalog(home, FOLDER).parent.mkdir(parents=True)
        self.shelf = ContentShelf(lambda member, folder: True)
        self.tasks = tasks
        nobody: Any = None
        self.shared = Shared(
            home=home, own=OWN, content=nobody, shelf=self.shelf, threads=threads,
            send=lambda folder, outgoing: None, report=lambda name, report: None, changed=lambda folder: None,
            may_send=lambda member, folder: True, may_receive=lambda member, folder: True, circle=lambda folder: None,
            founding_over=nobody, returned=nobody, clock_ms=wall_ms,
        )  # fmt: skip

    async def runtime(self) -> FolderRuntime:
        place = FolderPlace(FOLDER, "docs", self.root, Role.FOUNDER, FolderSettings())
        runtime = FolderRuntime(place, self.shared, self.tasks)
        runtime.start()
        await runtime.driver.ready()
        assert runtime.driver.running, runtime.driver.failure
        return runtime

    def served(self, uid: Uid, data: bytes) -> bytes | None:
        return self.shelf.open_small(FOLDER, uid, blake3(data).digest())


def uid_of(replica: FolderReplica) -> Uid | None:
    """The one file's, once it is known."""
    found = [state.record.uid for node in replica.catalog.nodes_after(2, 100) if node.name == b"f"
             for state in replica.catalog.objects(replica.catalog.uids_at(node.id))]  # fmt: skip
    return found[0] if found and replica.disk.scanner.full_scans else None


async def ends(runtime: FolderRuntime, error: Exception = FULL) -> None:
    def fail() -> Sequence[Any]:
        raise error

    runtime.driver.pull(fail)
    assert await runtime.driver.ended() is error


async def test_i10_what_a_folder_has_is_served_while_its_catalog_cannot_be_written(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as threads:
        async with asyncio.TaskGroup() as tasks:
            world = World(tmp_path, tasks, threads)
            (world.root / "f").write_bytes(b"content")
            runtime = await world.runtime()
            uid = await runtime.driver.until(uid_of)
            await ends(runtime)
            assert await runtime.rest()
            assert world.served(uid, b"content") == b"content"
            assert not await runtime.lies_elsewhere()

            again = await world.runtime()
            await runtime.stop()
            assert world.served(uid, b"content") == b"content", "what it left to the next one is not taken off it"
            await again.stop()
            assert world.served(uid, b"content") is None


async def test_i6_a_folder_that_rests_is_told_from_one_whose_disk_is_away(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as threads:
        async with asyncio.TaskGroup() as tasks:
            world = World(tmp_path, tasks, threads)
            runtime = await world.runtime()
            await ends(runtime)
            await runtime.rest()
            world.root.rename(world.root.with_name("away"))
            assert await runtime.lies_elsewhere()
            await runtime.stop()


@pytest.mark.parametrize(("error", "rests"), [(FULL, True), (OSError("the folder's disk"), False)])
async def test_only_where_the_catalog_cannot_be_written_a_folder_rests(
    tmp_path: Path, error: Exception, rests: bool
) -> None:
    with ThreadPoolExecutor(2) as threads:
        async with asyncio.TaskGroup() as tasks:
            world = World(tmp_path, tasks, threads)
            (world.root / "f").write_bytes(b"content")
            nothing: Any = None
            folders = Folders(world.shared, _Router(), tasks, nothing, lambda seconds: None, lambda name, text: None)  # type: ignore[arg-type]
            runtime = await world.runtime()
            uid = await runtime.driver.until(uid_of)
            one: Any = _Kept(runtime)
            folders._reading = lambda: _Reading()  # type: ignore[assignment,return-value]
            attending = asyncio.create_task(folders._attend(one, runtime))
            await ends(runtime, error)
            await attending
            assert (one.resting is runtime) is rests
            assert (world.served(uid, b"content") == b"content") is rests
            await folders._stop(one)
            assert world.served(uid, b"content") is None


class _Router:
    def add(self, *_: object) -> None: ...
    def remove(self, *_: object) -> None: ...
    def stopped(self, *_: object) -> None: ...


class _Reading:
    folders: dict[bytes, Any] = {}  # noqa: RUF012


class _Kept:
    """daemon.folders._Kept of a folder that runs."""

    def __init__(self, runtime: FolderRuntime) -> None:
        self.runtime: FolderRuntime | None = runtime
        self.resting: FolderRuntime | None = None
        self.kept = type("Kept", (), {"name": "docs", "begun": True})
        self.reason = self.told = ""
        self.failed = False
        self.again_s = self.began_s = 0.0
        self.status = None
