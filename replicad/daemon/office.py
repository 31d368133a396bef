"""Operations in the running daemon (ops.office.Office), and what its API says of its health."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from replicad import __version__
from replicad.config.settings import Settings
from replicad.config.written import read_kept
from replicad.core.effects import Effect
from replicad.core.ids import FolderId, MemberId
from replicad.daemon.clock import wall_ms
from replicad.daemon.driver import DriverStoppedError
from replicad.daemon.member import MemberAtWork
from replicad.daemon.preserved import Around, preserved
from replicad.daemon.verification import verification_json
from replicad.daemon.waiting import wait
from replicad.engine.abandoning import Abandoned, abandon_path
from replicad.engine.verifying import Remedy
from replicad.errors import OperatorError, TimeOutError
from replicad.net.addresses import Address
from replicad.net.identity import Identity
from replicad.ops.home import Group
from replicad.ops.keeper import Keeper
from replicad.ops.office import remove_catalog
from replicad.ops.requests import OfPreserved, Verify, Wait
from replicad.ops.status import FolderRow, MemberRow, Snapshot, status_json

STARTING = "the daemon is starting: try again"
START_S = 30.0
"""For an operation that comes while the daemon is starting."""

T = TypeVar("T")


class DaemonOffice:
    """`member` is there once the home belongs to a group."""

    def __init__(self, settings: Settings, identity: Identity, group: Group | None) -> None:
        self._settings = settings
        self._identity = identity
        self._group = group
        self._member: MemberAtWork | None = None
        self.api_addresses: Sequence[Address] = ()
        """Where the operator API listens, once it does."""
        self.trouble = ""
        """Why the member does not run, though it should; it is tried again."""
        self._used = asyncio.Event()
        self._began = time.monotonic()
        self.entered = asyncio.Event()
        """The home belongs to a group."""
        if group is not None:
            self.entered.set()

    @property
    def home(self) -> Path:
        return self._settings.member.home

    @property
    def settings(self) -> Settings:
        return self._settings

    @property
    def identity(self) -> Identity:
        return self._identity

    @property
    def group(self) -> Group | None:
        return self._group

    def now_ms(self) -> int:
        return wall_ms()

    def use(self, settings: Settings, member: MemberAtWork) -> None:
        """The member that is about to run."""
        self._settings = settings
        self._member = member
        self._used.set()

    def pause(self, trouble: str) -> None:
        """The member has ended, and is to be tried again."""
        self._member, self.trouble = None, trouble
        self._used.clear()

    # -- ops.office.Office

    async def enter(self, group: Group) -> None:
        self._group = group
        self.entered.set()

    async def look(self, function: Callable[[Keeper], T]) -> T:
        with _while_changeable(member := await self._running()):
            return await member.keeper.call(function)

    async def act(self, function: Callable[[Keeper, int], tuple[T, Sequence[Effect]]]) -> T:
        with _while_changeable(member := await self._running()):
            return await member.keeper.act(function)

    async def addresses(self) -> tuple[Address, ...]:
        return await (await self._running()).addresses()

    async def kept_changed(self) -> None:
        await (await self._running()).reconcile()

    async def discard(self, folder: FolderId) -> None:
        await asyncio.to_thread(remove_catalog, self.home, folder)

    async def drain(self, name: str, *, everyone: bool, timeout_s: float) -> None:
        member = await self._running()
        runtime = member.folders.running().get(name)
        if runtime is None:
            raise OperatorError(f"the folder {name} does not run, so it cannot be drained: see `replicad status`")
        others = self._members_of(member, runtime.place.folder) - {self._identity.member_id}
        if not others:
            return
        request = Wait(name, None if everyone else 2, timeout_s)
        result = await self._wait(member, request)
        if not result["done"]:
            raise TimeOutError(f"not everything has been replicated: {result['text']}; --now does not wait for it")

    async def wait(self, request: Wait) -> dict[str, Any]:
        return await self._wait(await self._running(), request)

    async def preserved(self, request: OfPreserved) -> dict[str, Any]:
        member = await self._running()
        around = Around(
            self._identity.member_id,
            lambda: member.book.reading,
            member.folders.names,
            member.folders.running,
            member.book.name_of,
        )
        return await preserved(request, around)

    async def verify(self, request: Verify) -> AsyncGenerator[dict[str, Any], None]:
        member = await self._running()
        runtime = member.folders.running().get(request.name)
        if runtime is None:
            if request.name not in member.folders.names():
                raise OperatorError(f"the folder {request.name} is not kept here")
            raise OperatorError(f"the folder {request.name} does not run: see `replicad status`")
        async with aclosing(runtime.verify(Remedy(request.remedy))) as told:
            yield {"progress": {"entries": 0, "bytes": 0, "entries_total": None, "bytes_total": None}}
            async for one in told:
                yield verification_json(one)

    async def holds(self) -> list[dict[str, Any]]:
        return await (await self._running()).folders.holds()

    async def decide(self, name: str, *, approve: bool) -> None:
        await (await self._running()).folders.decide(name, approve=approve)

    async def rejoin(self, name: str, *, primary: bool, force: bool) -> None:
        await (await self._running()).folders.rejoin(name, primary=primary, force=force)

    async def abandon(self, name: str, path: bytes, *, force: bool) -> Abandoned:
        member = await self._running()
        runtime = member.folders.running().get(name)
        if runtime is None:
            raise OperatorError(f"the folder {name} does not run: see `replicad status`")
        others = self._members_of(member, runtime.place.folder) - {self._identity.member_id}
        names = {other: member.book.name_of(other) for other in others}
        told = member.book.reading.replica_owners.items()
        owners = {replica: owner for (folder, replica), owner in told if folder == runtime.place.folder}
        return await runtime.driver.act(
            lambda replica, now_ms: abandon_path(replica, path, names, owners, force=force, now_ms=now_ms)
        )

    # -- ops.api.Health

    def not_ready(self) -> str:
        if self._group is None:
            return "this home belongs to no group yet"
        if self._member is None or not self._member.started.is_set():
            return self.trouble or STARTING
        return self._member.trouble or self._member.folders.not_ready()

    async def status(self) -> dict[str, Any]:
        group = self._group
        member = self._member if self._member is not None and self._member.started.is_set() else None
        try:
            replica = await member.keeper.call(lambda keeper: keeper.hierarchy.replica) if member is not None else None
        except DriverStoppedError:
            replica = None
            member = member if member is not None and member.trouble else None  # else all is ending
        return status_json(
            Snapshot(
                member=self._identity.member_id,
                name=member.name if member is not None else self._settings.member.name,
                version=__version__,
                replica=replica,
                uptime_s=time.monotonic() - self._began,
                addresses=[str(address) for address in member.network.addresses] if member is not None else [],
                api=[str(address) for address in self.api_addresses],
                group=(group.group_id.hex(), group.name) if group is not None else None,
                members=self._member_rows(member) if member is not None else [],
                folders=await member.folders.rows() if member is not None else await self._idle_rows(),
                trouble=member.trouble if member is not None else self.trouble,
                lapsed_ms=_lapsed_ms(member, self._identity.member_id) if member is not None else None,
            )
        )

    # -- inside

    async def _idle_rows(self) -> list[FolderRow]:
        """What is kept here, while no member runs."""
        try:
            kept = await asyncio.to_thread(read_kept, self.home)
        except OperatorError:
            return []  # told when the member starts
        return [FolderRow(None, folder.name, str(folder.path), None, self.trouble) for folder in kept]

    def _member_rows(self, member: MemberAtWork) -> list[MemberRow]:
        rows = []
        for other, known in member.book.others().items():
            link = member.network.link(other)
            state = member.network.dial_state(other)
            seen_ms = wall_ms() if link is not None else member.last_seen_ms(other)
            # Who dialed in came from a port that leads nowhere: what it publishes is more use.
            dialed = link is not None and link.info.dialed
            address = link.info.address if link is not None and dialed else next(iter(known.addresses), None)
            rows.append(
                MemberRow(
                    other,
                    known.name,
                    connected=link is not None,
                    address=address,
                    rtt_ms=link.rtt_ms if link is not None else None,
                    last_seen_ms=seen_ms,
                    error=state.error if state is not None and link is None else "",
                    lapsed_ms=_lapsed_ms(member, other),
                )
            )
        return rows

    async def _running(self) -> MemberAtWork:
        """The member, once it is up; OperatorError where there is none."""
        if self._group is None:
            raise OperatorError(f"{self.home} belongs to no group yet: use `replicad init` or `replicad join`")
        if self._member is None and self.trouble:
            raise OperatorError(f"the member does not run: {self.trouble}")
        try:
            async with asyncio.timeout(START_S):
                await self._used.wait()
                assert self._member is not None
                await self._member.started.wait()
        except TimeoutError as error:
            raise OperatorError(self.trouble or STARTING) from error
        return self._member

    async def _wait(self, member: MemberAtWork, request: Wait) -> dict[str, Any]:
        return await wait(
            request,
            member.folders.names,
            member.folders.running,
            lambda folder: self._members_of(member, folder),
            member.book.name_of,
        )

    def _members_of(self, member: MemberAtWork, folder: FolderId) -> frozenset[MemberId]:
        info = member.book.reading.folders.get(folder)
        return frozenset(info.members) if info is not None else frozenset()


@contextmanager
def _while_changeable(member: MemberAtWork) -> Iterator[None]:
    """What the hierarchy is asked while its catalog cannot be written is refused with that reason."""
    try:
        yield
    except DriverStoppedError as error:
        raise OperatorError(member.trouble or str(error)) from error


def _lapsed_ms(member: MemberAtWork, one: MemberId) -> int | None:
    entry = member.book.reading.lapsed.get(one)
    return entry.time_ms if entry is not None else None
