"""Which folders run: those that are kept here, are in the group, and have this member in their replica list.

`reconcile` brings what runs in step with folders.toml, the declared folders and the hierarchy. A folder that cannot be
opened (its disk is not there yet) is tried again; one that failed by a bug of ours stays in state 5 until a restart,
with the traceback in the log. Nothing of one folder touches another (I10).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from replicad.catalog.store import fault_of
from replicad.config.written import KeptFolder, read_kept, write_kept
from replicad.core.hierarchy_entries import CREATED, DECLARED
from replicad.core.hierarchy_model import SIBLING, FolderInfo, Reading
from replicad.core.ids import FolderId, MemberId
from replicad.daemon.driver import DriverStoppedError
from replicad.daemon.folder_runtime import FolderPlace, FolderRuntime, Shared
from replicad.daemon.router import Router
from replicad.engine.asked import rejoin
from replicad.engine.deciding import decide
from replicad.engine.folder import FolderReplica
from replicad.engine.folder_status import FolderStatus
from replicad.engine.phases import NORMAL, Role
from replicad.engine.settings import FolderSettings
from replicad.errors import CatalogDiskError, OpenAnewError, OperatorError, ReplicadError
from replicad.ops.keeper import new_replica_id
from replicad.ops.office import folder_catalog
from replicad.ops.status import FolderRow
from replicad.ops.text import path_json

RETRY_S = 10.0
"""Until a folder that could not be opened is tried again."""
RETRY_SLACK_S = 0.1
"""So that it is due when it is asked for."""
OPEN_S = 5.0
"""For which the other folders wait for one that is being opened."""
BUSY_S = 2.0
"""A folder's thread that is busy for longer is shown as it was when it last answered."""
JUST_STOPPED = "it has just stopped, and why is being looked into"

log = logging.getLogger("replicad.folders")


@dataclass(slots=True)
class _Kept:
    """One folder that is kept here, whether it runs or not. `reason` says why not."""

    kept: KeptFolder
    folder: FolderId | None = None
    runtime: FolderRuntime | None = None
    resting: FolderRuntime | None = None
    """One that has ended, as its catalog cannot be written, and still serves what it has."""
    reason: str = ""
    failed: bool = False
    """By a bug of ours: not to be tried again."""
    began_s: float = 0.0
    """By the loop's clock, when it was started last."""
    again_s: float = 0.0
    """Not to be tried again before, by the loop's clock: whatever else changes meanwhile asks for it too."""
    told: str = ""
    """The failure that operators were last told of."""
    status: FolderStatus | None = None


class Folders:
    """On the event loop."""

    def __init__(
        self,
        shared: Shared,
        router: Router,
        tasks: asyncio.TaskGroup,
        reading: Callable[[], Reading],
        retry_later: Callable[[float], None],
        event: Callable[[str, str], None],
    ) -> None:
        """`retry_later` has `reconcile` called after so many seconds; `event(folder, text)` tells operators."""
        self._shared = shared
        self._router = router
        self._tasks = tasks
        self._reading = reading
        self._retry_later = retry_later
        self._event = event
        self._folders: dict[str, _Kept] = {}
        self._turn = asyncio.Lock()  # one reconciliation at a time

    # -- what runs

    async def reconcile(self) -> None:
        """Start and stop. Raises OperatorError where folders.toml cannot be used."""
        async with self._turn:
            await self._reconcile()

    async def _reconcile(self) -> None:
        wanted = {kept.name: kept for kept in await asyncio.to_thread(read_kept, self._shared.home)}
        reading = self._reading()
        for name, one in list(self._folders.items()):
            if wanted.get(name) is None or wanted[name].path != one.kept.path:
                await self._stop(one)
                del self._folders[name]
        for name, kept in sorted(wanted.items()):
            one = self._folders.setdefault(name, _Kept(kept))
            one.kept = kept
            await self._bring_about(one, reading)

    async def stop(self) -> None:
        """All of them, at the daemon's end."""
        await asyncio.gather(*(self._stop(one) for one in self._folders.values()))

    def running(self) -> dict[str, FolderRuntime]:
        return {name: one.runtime for name, one in self._folders.items() if one.runtime is not None}

    def names(self) -> list[str]:
        """Of the folders that are kept here."""
        return sorted(self._folders)

    def not_ready(self) -> str:
        """Why not every folder is in state 4, as last seen; empty when all are."""
        for name, one in sorted(self._folders.items()):
            if one.runtime is None:
                return f"folder {name}: {one.reason or 'not started yet'}"
            look = one.status.look if one.status is not None else None
            if look is None or look.state != NORMAL:
                reason = look.reason if look is not None else ""
                return f"folder {name}: {reason or 'not in state 4 yet'}"
        return ""

    # -- an operator's decisions

    async def holds(self) -> list[dict[str, Any]]:
        """Folders that wait for one (ops.office)."""
        found = []
        for name, runtime in sorted(self.running().items()):
            try:
                hold = await runtime.driver.call(lambda replica: replica.hold)
            except DriverStoppedError:
                continue  # it ends just now, or is opened anew: whether it waits is known again then
            if hold is not None:
                missing = [path_json(path) for path in hold.missing]
                facts = {**msgspec.structs.asdict(hold), "missing": missing}
                found.append({"folder": name, "path": str(runtime.place.path), **facts})
        return found

    async def decide(self, name: str, *, approve: bool) -> None:
        """Raises OperatorError where nothing waits."""
        now_ms = self._shared.clock_ms()
        text = f"an operator has {'approved' if approve else 'rejected'} what is at the folder's path"
        await self._begin_anew(name, lambda replica: decide(replica, approve=approve, now_ms=now_ms), text)

    async def rejoin(self, name: str, *, primary: bool, force: bool) -> None:
        """Raises OperatorError where it makes no sense."""
        now_ms, new = self._shared.clock_ms(), new_replica_id()
        text = f"an operator has it rejoin{', with the disk of this member as what counts' if primary else ''}"
        await self._begin_anew(
            name, lambda replica: rejoin(replica, new, primary=primary, force=force, now_ms=now_ms), text
        )

    async def _begin_anew(self, name: str, change: Callable[[FolderReplica], None], text: str) -> None:
        """Once `change` is committed the folder starts anew, so that nothing of before counts."""
        async with self._turn:
            one = self._folders.get(name)
            if one is None or one.runtime is None:
                raise OperatorError(f"the folder {name} does not run: see `replicad status`")
            await one.runtime.driver.call(change)
            self._event(name, text)
            await self._stop(one)
            await self._reconcile()

    # -- what is shown

    async def rows(self) -> list[FolderRow]:
        return list(await asyncio.gather(*(self._row(one) for one in self._folders.values())))

    async def look(self, folder: FolderId) -> None:
        """Something of this folder has changed: `not_ready` is to know it."""
        for one in self._folders.values():
            if one.folder == folder:
                await self._row(one)

    async def _row(self, one: _Kept) -> FolderRow:
        runtime, reason = one.runtime, one.reason
        if runtime is not None:
            try:
                async with asyncio.timeout(BUSY_S):
                    one.status = await runtime.status(self._others(runtime.place.folder))
            except TimeoutError:
                pass  # it is busy with one long step: what it last said is shown
            except DriverStoppedError:
                # RACE: it ends just now, which `_attend` has not been told yet.
                one.status, reason = None, _first_words(runtime.driver.failure)
            except ReplicadError as error:
                one.status, reason = None, str(error)
        return FolderRow(one.folder, one.kept.name, str(one.kept.path), one.status, reason)

    def _others(self, folder: FolderId) -> list[MemberId]:
        info = self._reading().folders.get(folder)
        return [member for member in info.members if member != self._shared.own] if info is not None else []

    # -- one folder

    async def _bring_about(self, one: _Kept, reading: Reading) -> None:
        info = reading.folders_by_name.get(one.kept.name)
        if info is None or self._shared.own not in info.members:
            await self._stop(one)
            one.reason = (
                "the group does not know this folder (yet)"
                if info is None
                else "this member is not in the folder's replica list: leave it, and join it again"
            )
            return
        one.folder = info.folder
        if one.runtime is not None:
            self._router.set_peers(info.folder, frozenset(info.members))
            one.runtime.set(_settings(one.kept, reading))
        elif not one.failed and asyncio.get_running_loop().time() >= one.again_s:
            if one.resting is not None and await one.resting.lies_elsewhere():
                await self._end_rest(one)  # nothing of a disk that is in question is kept open
            await self._start(one, info)

    async def _start(self, one: _Kept, info: FolderInfo) -> None:
        settings = _settings(one.kept, self._reading())
        others = tuple(other.kept for other in self._folders.values() if other is not one)
        place = FolderPlace(info.folder, info.name, one.kept.path, self._role(one.kept, info), settings, others)
        runtime = FolderRuntime(place, self._shared, self._tasks)
        one.runtime = runtime
        one.began_s = asyncio.get_running_loop().time()
        runtime.start()
        opening = self._tasks.create_task(self._attend(one, runtime))
        ready = self._tasks.create_task(runtime.driver.ready())
        # A disk that hangs holds up its own folder: it goes on being opened while the others are.
        await asyncio.wait([ready, opening], timeout=OPEN_S, return_when=asyncio.FIRST_COMPLETED)

    async def _attend(self, one: _Kept, runtime: FolderRuntime) -> None:
        """From its start until the folder's thread ends."""
        await runtime.driver.ready()
        if runtime.driver.running and one.runtime is runtime:
            one.reason = one.told = ""
            await self._end_rest(one)
            if not one.kept.begun:
                await self._note_begun(one)
            info = self._reading().folders.get(runtime.place.folder)
            self._router.add(runtime.place.folder, runtime.driver, frozenset(info.members if info is not None else ()))
        await runtime.driver.ended()
        if one.runtime is runtime:
            one.runtime = one.status = None
            one.reason = _first_words(runtime.driver.failure)
            self._router.remove(runtime.place.folder)
            await self._failed(one, runtime)

    async def _failed(self, one: _Kept, runtime: FolderRuntime) -> None:
        failure = runtime.driver.failure
        rests = isinstance(failure, CatalogDiskError)
        if rests and await runtime.rest():
            await self._end_rest(one)
            one.resting = runtime
        else:
            await runtime.stop()
        if not rests:
            await self._end_rest(one)
        if not isinstance(failure, ReplicadError | OSError):
            # A file that is broken where nobody notices it as it is read looks like a bug of ours.
            catalog = folder_catalog(self._shared.home, runtime.place.folder)
            failure = await asyncio.to_thread(fault_of, catalog) or failure
        if isinstance(failure, ReplicadError | OSError):
            # A disk that is full, read-only or gone, a mistake: it may be mended.
            now_s = asyncio.get_running_loop().time()
            # Opened anew at once, but not again and again, where its disk comes and goes.
            at_once = isinstance(failure, OpenAnewError) and now_s >= one.began_s + RETRY_S
            one.again_s = now_s if at_once else now_s + RETRY_S
            self._retry_later(0.0 if at_once else RETRY_S + RETRY_SLACK_S)
            reason = _first_words(failure)
        else:
            one.failed = True
            reason = f"a bug in replicad: {failure!r}"
        if one.failed:
            log.error("folder %s has stopped: %s", one.kept.name, reason, exc_info=failure)
        one.reason = reason
        info = self._reading().folders.get(runtime.place.folder)
        if info is not None and one.runtime is None:
            self._router.stopped(runtime.place.folder, frozenset(info.members), reason)
        if reason != one.told:
            one.told = reason
            what = "is opened anew" if isinstance(failure, OpenAnewError) else "has stopped"
            self._event(one.kept.name, f"the folder {what}: {reason}")

    async def _end_rest(self, one: _Kept) -> None:
        resting, one.resting = one.resting, None
        if resting is not None:
            await resting.stop()

    async def _stop(self, one: _Kept) -> None:
        await self._end_rest(one)
        runtime, one.runtime, one.status = one.runtime, None, None
        if runtime is None:
            return
        self._router.remove(runtime.place.folder)
        if not await runtime.stop():
            self._event(one.kept.name, "the folder's thread did not end in time: its disk may hang")

    def _role(self, kept: KeptFolder, info: FolderInfo) -> Role:
        """How this member begins; what it began as before is kept in its catalog and counts more."""
        own = info.members[self._shared.own]
        alone = len(info.members) == 1
        founding = info.founded is None or bytes.fromhex(self._shared.own) in info.founded.founders
        if alone or (own.how in (CREATED, DECLARED) and founding and not kept.begun):
            return Role.FOUNDER
        # Also where a catalog was lost (rule 11): it ran here before, and the others know more.
        if kept.begun:
            return Role.RETURNER
        return Role.MERGER if kept.merge else Role.JOINER

    async def _note_begun(self, one: _Kept) -> None:
        """Where the home cannot be written now, the next start tries again."""
        one.kept = replace(one.kept, begun=True)
        try:
            kept = [other if other.name != one.kept.name else one.kept for other in read_kept(self._shared.home)]
            await asyncio.to_thread(write_kept, self._shared.home, kept)
        except (OSError, OperatorError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            self._event(one.kept.name, f"cannot write into the home {self._shared.home}: {why}")


def _settings(kept: KeptFolder, reading: Reading) -> FolderSettings:
    """This member's own, and what holds for the folder on every member."""
    info = reading.folders_by_name.get(kept.name)
    siblings = info is not None and reading.conflicts(info.folder) == SIBLING
    return msgspec.structs.replace(kept.settings, siblings=siblings)


def _first_words(failure: BaseException | None) -> str:
    """Why a folder's thread has ended, as far as its failure tells by itself."""
    if isinstance(failure, OSError):
        return f"the disk failed: {failure}"
    if isinstance(failure, ReplicadError):
        return str(failure)
    return "it is being stopped" if failure is None else JUST_STOPPED
