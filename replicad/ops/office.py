"""Where operations are carried out: in the running daemon, or on a home that no daemon holds.

An operation is written once (`ops.operations`) and stands on this protocol; the daemon implements it on its drivers,
`OfflineOffice` on the home itself, under its lock.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from replicad.config.home import CATALOG_DIRECTORY
from replicad.config.settings import Settings
from replicad.core.effects import Effect
from replicad.core.ids import FolderId
from replicad.errors import NoDaemonError, OperatorError
from replicad.net.addresses import Address, dialable, parse_address, reachable_at
from replicad.net.identity import Identity, load_or_create
from replicad.ops.home import Group, read_group
from replicad.ops.keeper import Keeper
from replicad.ops.requests import OfPreserved, Verify, Wait

if TYPE_CHECKING:
    from replicad.engine.abandoning import Abandoned

T = TypeVar("T")
NO_DAEMON = "no daemon answers: start it with `replicad run`"


class Office(Protocol):
    @property
    def home(self) -> Path: ...
    @property
    def settings(self) -> Settings: ...
    @property
    def identity(self) -> Identity: ...
    @property
    def group(self) -> Group | None:
        """None where the home belongs to no group yet."""

    def now_ms(self) -> int: ...
    async def enter(self, group: Group) -> None:
        """The home belongs to this group from now on."""

    async def look(self, function: Callable[[Keeper], T]) -> T:
        """Something of the hierarchy; OperatorError where there is no group yet."""

    async def act(self, function: Callable[[Keeper, int], tuple[T, Sequence[Effect]]]) -> T:
        """A change of the hierarchy; its effects are carried out."""

    async def addresses(self) -> tuple[Address, ...]:
        """At which this member can be dialed, as far as it can tell by itself."""

    async def kept_changed(self) -> None:
        """folders.toml was written: start and stop folders accordingly."""

    async def discard(self, folder: FolderId) -> None:
        """The folder is not kept here any more: its catalog goes, the user's files stay."""

    async def drain(self, name: str, *, everyone: bool, timeout_s: float) -> None:
        """Until another member has all that this one has of the folder, or (`everyone`) all have everything."""

    async def wait(self, request: Wait) -> dict[str, Any]:
        """The command `wait`."""

    async def preserved(self, request: OfPreserved) -> dict[str, Any]:
        """The commands `preserved ...`."""

    def verify(self, request: Verify) -> AsyncGenerator[dict[str, Any], None]:
        """The command `verify`: what is sent piece by piece; to be closed."""

    async def holds(self) -> list[dict[str, Any]]:
        """Folders that wait for a decision, by name."""

    async def decide(self, name: str, *, approve: bool) -> None:
        """The decision; the folder starts anew."""

    async def rejoin(self, name: str, *, primary: bool, force: bool) -> None:
        """The folder begins anew on this member."""

    async def abandon(self, name: str, path: bytes, *, force: bool) -> Abandoned:
        """Give up what nobody has, at `path` below the folder's root."""


class OfflineOffice:
    """On the home, whose lock the caller holds. `close` it."""

    def __init__(self, settings: Settings, now_ms: Callable[[], int]) -> None:
        self._settings = settings
        self._now_ms = now_ms
        self._identity: Identity | None = None
        self._group = read_group(self.home)
        self._keeper: Keeper | None = None

    @property
    def home(self) -> Path:
        return self._settings.member.home

    @property
    def settings(self) -> Settings:
        return self._settings

    @property
    def identity(self) -> Identity:
        if self._identity is None:
            self._identity = load_or_create(self.home)
        return self._identity

    @property
    def group(self) -> Group | None:
        return self._group

    def now_ms(self) -> int:
        return self._now_ms()

    async def enter(self, group: Group) -> None:
        self._group = group

    async def look(self, function: Callable[[Keeper], T]) -> T:
        return function(self._open())

    async def act(self, function: Callable[[Keeper, int], tuple[T, Sequence[Effect]]]) -> T:
        return function(self._open(), self._now_ms())[0]

    async def addresses(self) -> tuple[Address, ...]:
        member = self._settings.member
        found = await asyncio.to_thread(reachable_at, member.listen, member.advertise)
        if found or self._group is None:
            return found
        # The system chose the port: what was published by the last run is the best there is.
        own = self._open().hierarchy.reading().members.get(self.identity.member_id)
        return dialable(parse_address(text) for text in own.addresses) if own is not None else ()

    async def kept_changed(self) -> None:
        return

    async def discard(self, folder: FolderId) -> None:
        await asyncio.to_thread(remove_catalog, self.home, folder)

    async def drain(self, name: str, *, everyone: bool, timeout_s: float) -> None:
        if self._settings is None or not folder_catalog(self.home, await self._folder_id(name)).exists():
            return  # it never ran here: there is nothing that only this member has
        raise NoDaemonError("start the daemon first, so that what only this member has can go to others; or give --now")

    async def wait(self, request: Wait) -> dict[str, Any]:
        raise NoDaemonError(NO_DAEMON)

    async def holds(self) -> list[dict[str, Any]]:
        raise NoDaemonError(NO_DAEMON)

    async def decide(self, name: str, *, approve: bool) -> None:
        raise NoDaemonError(NO_DAEMON)

    async def rejoin(self, name: str, *, primary: bool, force: bool) -> None:
        raise NoDaemonError(NO_DAEMON)

    async def abandon(self, name: str, path: bytes, *, force: bool) -> Abandoned:
        raise NoDaemonError(NO_DAEMON)

    async def preserved(self, request: OfPreserved) -> dict[str, Any]:
        raise NoDaemonError("no daemon answers: start it with `replicad run`")

    def verify(self, request: Verify) -> AsyncGenerator[dict[str, Any], None]:
        raise NoDaemonError("no daemon answers: start it with `replicad run`")

    def close(self) -> None:
        if self._keeper is not None:
            self._keeper.close(self._now_ms())

    async def _folder_id(self, name: str) -> FolderId:
        info = self._open().hierarchy.reading().folders_by_name.get(name)
        return info.folder if info is not None else b""

    def _open(self) -> Keeper:
        if self._group is None:
            raise OperatorError(f"{self.home} belongs to no group yet: use `replicad init` or `replicad join`")
        if self._keeper is None:
            self._keeper = Keeper(self.home, self.identity, self._group.group_id, self._now_ms())
        return self._keeper


def folder_catalog(home: Path, folder: FolderId) -> Path:
    """The catalog's file of a folder (docs/catalog.md)."""
    return home / CATALOG_DIRECTORY / f"{folder.hex()}.db"


def remove_catalog(home: Path, folder: FolderId) -> None:
    """The file last: what is left without it would be taken for nothing. Raises OSError."""
    path = folder_catalog(home, folder)
    for name in (f"{path.name}-wal", f"{path.name}-shm", path.name):
        path.with_name(name).unlink(missing_ok=True)
