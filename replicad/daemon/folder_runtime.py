"""One folder at work in the daemon: its driver, its watch, its fetches, its content for others.

The folder's thread decides (engine.folder); what it wants done by others is carried out here: messages go to the
sender, content comes by the fetcher, large files are hashed in threads, reports become events.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from replicad.catalog.changes import SetReplicaOwner
from replicad.catalog.store import Catalog
from replicad.config.written import KeptFolder
from replicad.core.collection import Circle
from replicad.core.effects import Changed, Fetch, FoundingOver, HashFile, Report, Returned, WhoHolds
from replicad.core.ids import FolderId, MemberId, ReplicaId
from replicad.daemon import counting
from replicad.daemon.driver import Driver, DriverStoppedError, Outgoing, Task
from replicad.daemon.gathered import Gathered
from replicad.daemon.holding import Holding
from replicad.daemon.marks import read_mark, write_mark
from replicad.daemon.verification import Told, Verification
from replicad.engine.acts import trouble
from replicad.engine.fetcher import Content, Fetcher
from replicad.engine.folder import FolderReplica
from replicad.engine.folder_events import FileHashed, FileHeld, SettingsChanged, Surroundings
from replicad.engine.folder_root import cannot_open, knows_root
from replicad.engine.folder_status import FolderStatus, Look, count, look
from replicad.engine.nearby import Nearby
from replicad.engine.phases import Role
from replicad.engine.readers import Readers
from replicad.engine.scan_read import HashOutcome
from replicad.engine.serving import ContentShelf, FolderContent
from replicad.engine.settings import FolderSettings
from replicad.engine.verifying import Remedy
from replicad.errors import FileTrouble, OperatorError
from replicad.files.fs import FILE, FileSystem
from replicad.files.hashing import BeingWritten, hash_file
from replicad.files.holders import FileId, find_holders, in_words
from replicad.files.paths import join
from replicad.files.real_fs import RealFileSystem
from replicad.files.watch import Watcher
from replicad.ops.folders import check_apart
from replicad.ops.keeper import new_replica_id
from replicad.ops.office import folder_catalog

FETCHES_AT_ONCE_MAX = 16
"""Of one folder: each holds some 3 MiB; the engine asks one member for three at a time."""


@dataclass(frozen=True, slots=True)
class FolderPlace:
    """What a folder is and how it is kept here."""

    folder: FolderId
    name: str
    path: Path
    role: Role
    settings: FolderSettings
    others: tuple[KeptFolder, ...] = ()
    """That are kept here, too."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What the folders of a daemon have in common."""

    home: Path
    own: MemberId
    content: Content
    shelf: ContentShelf
    threads: Executor
    send: Callable[[FolderId, Outgoing], None]
    report: Callable[[str, Report], None]
    changed: Callable[[FolderId], None]
    may_send: Callable[[MemberId, FolderId], bool]
    may_receive: Callable[[MemberId, FolderId], bool]
    circle: Callable[[FolderId], Circle | None]
    founding_over: Callable[[FolderId], Coroutine[Any, Any, None]]
    returned: Callable[[], Coroutine[Any, Any, None]]
    clock_ms: Callable[[], int]


@dataclass(frozen=True, slots=True)
class _Opened:
    """What stands on the folder's disk and catalog beside its thread."""

    fs: RealFileSystem
    readers: Readers
    content: FolderContent
    fetcher: Fetcher

    def close(self) -> None:
        """Blocking; the folder's thread has ended."""
        self.readers.close()
        self.content.close()
        self.fs.close()


class FolderRuntime:
    """`start`, then `driver.ready`; `stop` once. On the event loop."""

    def __init__(self, place: FolderPlace, shared: Shared, tasks: asyncio.TaskGroup) -> None:
        self.place = place
        self._shared = shared
        self._tasks = tasks
        self._fetches = asyncio.Semaphore(FETCHES_AT_ONCE_MAX)
        self._running: set[asyncio.Task[None]] = set()
        self._opened: _Opened | None = None
        self._loop = asyncio.get_running_loop()
        self.driver: Driver[FolderReplica] = Driver(
            f"folder {place.name}", self._make, self._carry_out, clock_ms=shared.clock_ms
        )
        self._gathered = Gathered(lambda: self.driver.pull(self._gathered.take))
        self._verification: Verification | None = None
        self._holding = Holding(self._who_holds, lambda path, who: self.driver.post(FileHeld(path, who)))

    @property
    def open(self) -> bool:
        """The folder's thread has begun its work."""
        return self.driver.started and self.driver.running

    def start(self) -> None:
        self.driver.start()

    def set(self, settings: FolderSettings) -> None:
        """They hold from the folder's next event on."""
        if settings != self.place.settings:
            self.place = replace(self.place, settings=settings)
            self.driver.post(SettingsChanged(settings))

    async def rest(self) -> bool:
        """Its thread has ended, as its catalog cannot be written: end all that works for it, and go on serving what is
        on the disk to others, as far as the catalog can be read, until `stop`. Whether there is anything to serve."""
        await self._end_work()
        return self._opened is not None

    async def lies_elsewhere(self) -> bool:
        """Whether the folder's path leads to another directory than the one that is open here."""
        return self._opened is None or not await asyncio.to_thread(_is_in_place, self._opened.fs)

    async def _end_work(self) -> None:
        if self._verification is not None:
            await self._verification.stop()
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)

    async def stop(self) -> bool:
        """False where the folder's thread did not end in time."""
        self._leave_shelf()
        await self._end_work()
        opened, self._opened = self._opened, None
        if opened is not None:
            # Before the catalog is closed: who still reads from it keeps its log from being cut back.
            await asyncio.to_thread(opened.readers.close)
        ended = await self.driver.stop()
        # RACE: it was stopped while it was being opened: what its thread had just opened is here only now.
        self._leave_shelf()
        late, self._opened = self._opened, None
        for one in (opened, late):
            if ended and one is not None:
                await asyncio.to_thread(one.close)
        return ended

    async def status(self, others: Collection[MemberId]) -> FolderStatus:
        """What the status shows; `others` are the other members of the replica list. Raises ReplicadError."""
        now_ms = self._shared.clock_ms()
        seen = await self.driver.call(lambda replica: look(replica, others, now_ms))
        return await self._loop.run_in_executor(self._shared.threads, self._count, seen)

    async def verify(self, remedy: Remedy) -> AsyncGenerator[Told, None]:
        """Read all of it again (engine.verify); what is told ends with a `Verified`. To be closed by who asks.

        Raises OperatorError, and what the folder raises.
        """
        opened, name = self._opened, self.place.name
        if opened is None or not self.open:
            raise OperatorError(f"the folder {name} is not open here: see `replicad status`")
        if self._verification is not None:
            raise OperatorError(f"the folder {name} is being verified already")
        self._verification = Verification(
            self.driver, opened.readers, opened.fs, self._report_verified, self._shared.clock_ms
        )
        try:
            async for told in self._verification.run(remedy):
                yield told
        finally:
            await self._verification.stop()
            self._verification = None

    def _report_verified(self, report: Report) -> None:
        self._shared.report(self.place.name, report)

    def _count(self, seen: Look) -> FolderStatus:
        opened = self._opened
        if opened is None:
            raise DriverStoppedError(f"the folder {self.place.name} does not run")
        with opened.readers.reader(fresh=True) as reader:
            return count(seen, reader)

    # -- on the folder's thread

    def _make(self) -> FolderReplica:
        place, shared = self.place, self._shared
        check_apart(place.path, place.others, shared.home)  # a link may lead elsewhere than when it was declared
        fs, failure = _open(place.path)
        try:
            path = folder_catalog(shared.home, place.folder)
            catalog = Catalog.open(path, place.folder, new_replica_id)
            try:
                counting.check_undoubted(catalog, path)
                counting.check_before_use(catalog, path)
                if failure is not None and not knows_root(catalog):
                    raise OperatorError(cannot_open(failure)) from failure
                replica = FolderReplica(
                    catalog, fs, shared.own, place.role, place.settings, self._around(fs), now_ms=shared.clock_ms()
                )
            except BaseException:
                catalog.close()
                raise
        except BaseException:
            fs.close()
            raise
        readers = Readers(catalog.reader, self._sweep_later)
        self._loop.call_soon_threadsafe(self._open_for_others, fs, readers)
        return replica

    def _around(self, fs: RealFileSystem) -> Surroundings:
        folder, shared = self.place.folder, self._shared
        return Surroundings(
            may_send=lambda member: shared.may_send(member, folder),
            may_receive=lambda member: shared.may_receive(member, folder),
            watch=lambda on_change: Watcher(fs, on_change),
            on_change=self._gathered.on_change,
            circle=lambda: shared.circle(folder),
            height=lambda: read_mark(shared.home, folder),
            note_height=lambda commits: write_mark(shared.home, folder, commits),
            draw=random.SystemRandom().random,
            new_replica=new_replica_id,
            new_bytes=os.urandom,
        )

    # -- on the event loop

    def _open_for_others(self, fs: RealFileSystem, readers: Readers) -> None:
        shared, folder = self._shared, self.place.folder
        content = FolderContent(fs, readers)
        nearby = Nearby(content, shared.content, shared.threads)
        fetcher = Fetcher(folder, fs, nearby, content.manifest_of, shared.threads)
        self._opened = _Opened(fs, readers, content, fetcher)
        shared.shelf.add(folder, content)
        self._spawn(self._count_anew(readers))

    def _leave_shelf(self) -> None:
        if self._opened is not None:
            self._shared.shelf.remove(self.place.folder, self._opened.content)

    def _sweep_later(self, seconds: float) -> None:
        """From any thread."""

        def sweep() -> None:
            if self._opened is not None:
                self._shared.threads.submit(self._opened.readers.sweep)

        self._loop.call_soon_threadsafe(self._loop.call_later, seconds, sweep)

    def _carry_out(self, tasks: Sequence[Task]) -> None:
        opened = self._opened
        if opened is None:
            return  # it is being stopped: nothing that it still wants is waited for
        for task in tasks:
            match task:
                case Outgoing():
                    self._shared.send(self.place.folder, task)
                case Fetch():
                    self._spawn(self._fetch(opened, task))
                case HashFile():
                    self._spawn(self._hash(opened, task))
                case WhoHolds(path):
                    if self._holding.ask(path):
                        self._spawn(self._holding.work())
                case Report():
                    self._shared.report(self.place.name, task)
                case Changed():
                    self._shared.changed(self.place.folder)
                case FoundingOver():
                    self._spawn(self._shared.founding_over(self.place.folder))
                case Returned():
                    self._spawn(self._shared.returned())
                case _:
                    raise AssertionError(f"an effect that nobody carries out: {task}")

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        async def guarded() -> None:
            try:
                await work
            except Exception as error:  # noqa: BLE001  (I10: a bug here ends this folder, not the daemon)
                self.driver.fail(error)

        task = self._tasks.create_task(guarded())
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _count_anew(self, readers: Readers) -> None:
        """As long as the folder runs: it ends where its catalog does not add up."""
        wait_s = counting.FIRST_S
        while True:
            await asyncio.sleep(wait_s)
            wait_s = counting.AGAIN_S
            fault = await self._loop.run_in_executor(self._shared.threads, counting.first_fault, readers)
            if fault:
                now_ms = self._shared.clock_ms()
                await self.driver.call(lambda replica: counting.doubt(replica, fault, now_ms))  # noqa: B023
                path = folder_catalog(self._shared.home, self.place.folder)
                # On its thread, as if it had met the fault itself.
                self.driver.pull(lambda: counting.refuse(path, fault))  # noqa: B023
                return

    async def _fetch(self, opened: _Opened, wanted: Fetch) -> None:
        async with self._fetches:
            self.driver.post(await opened.fetcher.fetch(wanted))

    async def _hash(self, opened: _Opened, wanted: HashFile) -> None:
        path = join(wanted.directory, wanted.name)
        outcome = await self._loop.run_in_executor(self._shared.threads, hash_now, opened.fs, path)
        self.driver.post(FileHashed(wanted.directory, wanted.name, outcome))

    async def _who_holds(self, paths: Sequence[bytes]) -> dict[bytes, str]:
        opened = self._opened
        if opened is None:
            return {}  # it is being stopped
        return await self._loop.run_in_executor(self._shared.threads, holders_now, opened.fs, paths)


def _open(path: Path) -> tuple[RealFileSystem, OSError | None]:
    """The folder's disk; where it is not there, as one that was let go of (engine.root_watch)."""
    try:
        return RealFileSystem(path), None
    except OSError as error:
        return RealFileSystem.absent(path), error


def _is_in_place(fs: FileSystem) -> bool:
    try:
        return fs.root_in_place()
    except OSError:
        return False


def take_owners(replica: FolderReplica, owners: Mapping[ReplicaId, MemberId], now_ms: int) -> ReplicaId:
    """Note whose the replica ids are that the catalog has seen; its own one. On the folder's thread."""
    catalog = replica.catalog
    unknown = [one for one, owner in catalog.replicas().items() if owner is None and one in owners]
    if unknown:
        catalog.commit(None, [SetReplicaOwner(one, owners[one]) for one in unknown], now_ms=now_ms)
    return catalog.replica


def holders_now(fs: RealFileSystem, paths: Sequence[bytes]) -> dict[bytes, str]:
    """Who has these files open for writing, in words; blocking. Those of which nothing is known are left out."""
    wanted: dict[bytes, FileId] = {}
    for path in paths:
        try:
            found = fs.identify(path)
        except OSError:
            continue  # it cannot be looked at: its scan says why
        if found is not None:
            wanted[path] = found
    return {path: in_words(found) for path, found in find_holders(wanted).items() if found}


def hash_now(fs: FileSystem, path: bytes) -> HashOutcome:
    """A file as it is now; blocking. What is no file any more counts as being written: it is looked at again."""
    try:
        stat = fs.stat(path)
        if stat is None or stat.kind != FILE:
            return BeingWritten(path)
        return hash_file(fs, path, stat)
    except FileNotFoundError:
        return BeingWritten(path)
    except OSError as error:
        return trouble(path, error)
    except FileTrouble as error:
        return error
