"""A member at work in its group: hierarchy, network, folders, put together and kept in step.

    hierarchy (its own thread)  --Changed-->  reconcile: members -> network, folders -> drivers, group.json
    network  --links, messages-->  router  -->  hierarchy and folders  --Send-->  sender  -->  links

Everything here is on the event loop; nothing here decides what replication means.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from replicad import __version__
from replicad.config.settings import Settings
from replicad.config.written import KeptFolder, read_kept, write_kept
from replicad.core.collection import Circle, circle_of
from replicad.core.effects import Changed, Report
from replicad.core.hierarchy_model import Reading
from replicad.core.ids import FolderId, MemberId
from replicad.core.naming import join_key_from_secret
from replicad.daemon.clock import wall_ms
from replicad.daemon.declared import declare, kept_as_declared
from replicad.daemon.driver import Driver, DriverStoppedError, Outgoing, Task
from replicad.daemon.folder_runtime import FolderRuntime, Shared, take_owners
from replicad.daemon.folders import Folders
from replicad.daemon.founders import Founders, all_caught_up
from replicad.daemon.keeping import Keeping
from replicad.daemon.members import MemberBook, parsed, usable
from replicad.daemon.router import HIERARCHY_CHANNEL, Router
from replicad.daemon.seeds import SeedFinder
from replicad.daemon.sender import Sender
from replicad.engine.serving import ContentShelf
from replicad.errors import CatalogDiskError, CatalogError, OperatorError, PeerError, ReplicadError
from replicad.net.addresses import Address, reachable_at
from replicad.net.identity import Identity
from replicad.net.join import JoinDesk, Joiner
from replicad.net.joining import Joined
from replicad.net.link import Link
from replicad.net.network import PeerNetwork
from replicad.net.pairs import Myself
from replicad.net.refusal import Refused
from replicad.net.settings import NetSettings
from replicad.net.token import Invitation
from replicad.net.wire import Session
from replicad.ops.events import EventRing
from replicad.ops.home import Group
from replicad.ops.joining import acquaintances, admit, joiner_payload, open_answer
from replicad.ops.keeper import Keeper, reading_of

ADDRESSES_CHECK_S = 30.0
"""How often it is looked whether this member's own addresses have changed."""
AGAIN_S = 10.0
"""Until work in the background that an operator has to help is tried again."""
DISK_THREADS = 4
"""For fetching, hashing and looking up: they mostly wait for a disk, or run without the interpreter's lock."""

log = logging.getLogger("replicad")


class MemberAtWork:
    """`run` until it is cancelled. Made on the event loop; the home's lock is held."""

    def __init__(
        self, settings: Settings, identity: Identity, group: Group, secret: bytes | None, events: EventRing
    ) -> None:
        """`secret` is that of a declared group."""
        self.settings = settings
        self.identity = identity
        self._secret = secret
        self._group = group
        self._events = events
        self._changed = asyncio.Event()
        self._changed_folders = asyncio.Event()
        self._folder_changed: set[FolderId] = set()
        self._last_seen: dict[MemberId, int] = {}
        self._returning = asyncio.Lock()
        self._heard = False
        self.started = asyncio.Event()
        """Everything is up."""
        self.keeping: Keeping
        self.book: MemberBook
        self.network: PeerNetwork
        self.router: Router
        self.folders: Folders

    @property
    def keeper(self) -> Driver[Keeper]:
        """Of the hierarchy; it may have ended, and there may be another one later."""
        return self.keeping.driver

    @property
    def trouble(self) -> str:
        """Why nothing of the group can be changed here, while the folders go on."""
        return self.keeping.trouble

    @property
    def home(self) -> Path:
        return self.settings.member.home

    @property
    def name(self) -> str:
        return self.settings.member.name or self._group.member_name

    async def run(self) -> None:
        """Raises OperatorError where it cannot begin; what else it raises is a bug."""
        home, identity, group = self.home, self.identity, self._group
        limit_ms = self.settings.member.offline_limit_ms
        with ThreadPoolExecutor(DISK_THREADS, "replicad-disk") as threads:
            async with asyncio.TaskGroup() as tasks:
                self._sender = Sender(tasks)
                self.keeping = Keeping(
                    lambda: Driver(
                        "hierarchy",
                        lambda: Keeper(home, identity, group.group_id, wall_ms(), offline_limit_ms=limit_ms),
                        self._carry_out,
                        clock_ms=wall_ms,
                    )
                )
                await self.keeping.start()
                try:
                    await self._run(tasks, threads)
                except DriverStoppedError as error:
                    raise self.keeper.failure or error from error  # it has ended while the member was beginning
                finally:
                    await self.keeping.stop()

    async def _run(self, tasks: asyncio.TaskGroup, threads: ThreadPoolExecutor) -> None:
        if not self.keeper.running:
            failure = self.keeper.failure
            if isinstance(failure, CatalogDiskError):
                raise failure
            raise OperatorError(str(failure))
        reading = await self.keeper.call(lambda keeper: keeper.hierarchy.reading())
        self.book = MemberBook(self.home, self._group, self.identity.member_id, reading)
        self.router = Router(
            self.identity.member_id, self._open_session, self.book.is_removed, self._on_link, self._on_refusal
        )
        shelf = ContentShelf(self._in_folder)
        async with PeerNetwork(
            self.identity,
            Myself(self.identity.member_id, self._group.group_id, os.urandom(16), __version__),
            self.router,
            NetSettings(self.settings.member.listen, self._port_before(reading)),
            desk=await self._desk(),
            source=shelf,
        ) as self.network:
            self.folders = Folders(
                self._shared(shelf, threads), self.router, tasks, lambda: self.book.reading, self._retry, self._event
            )
            self.router.add(HIERARCHY_CHANNEL, self.keeper, None)
            self.book.use(self.network)
            await self._declare()
            try:
                await self._work(tasks)
            finally:
                await self.folders.stop()

    def _port_before(self, reading: Reading) -> int:
        """What others were told the last time, where it was no more than where this member listened; else 0."""
        own = reading.members.get(self.identity.member_id)
        told = parsed(own.addresses) if own is not None and not self.settings.member.advertise else []
        return told[0].port if told else 0

    async def _work(self, tasks: asyncio.TaskGroup) -> None:
        """Until it is cancelled, or the hierarchy's thread ends."""
        self._changed.set()
        try:
            await self.reconcile()
        except (OperatorError, CatalogDiskError) as error:
            self._event("", str(error))  # and it is tried again
        works = [self._reconcile_on_change, self._follow_addresses, self._follow_folders]
        works.append(Founders(self.folders.running, lambda: self.book.reading, lambda: self.keeper, wall_ms).watch)
        if self._secret is not None and self.settings.group is not None:
            finder, seeds = self._seed_finder(), self.settings.group.seeds
            works.append(lambda: finder.run(seeds))
        background = [tasks.create_task(self._again_and_again(work)) for work in works]
        self.started.set()
        try:
            await self.keeping.keep(self._attach_hierarchy, lambda text: self._event("", text))
        finally:
            for task in background:
                task.cancel()

    def _attach_hierarchy(self, keeper: Driver[Keeper] | None) -> None:
        """The links stay either way."""
        if keeper is None:
            self.router.remove(HIERARCHY_CHANNEL)
        else:
            self.router.add(HIERARCHY_CHANNEL, keeper, None)
            self._changed.set()

    async def _again_and_again(self, work: Callable[[], Awaitable[None]]) -> None:
        """What the world does to it (a full disk, a file that cannot be written) is told, and tried again."""
        while True:
            try:
                await work()
            except* (OperatorError, CatalogError) as group:
                self._event("", "; ".join(str(error) for error in group.exceptions))
            except* DriverStoppedError:
                pass  # the hierarchy's disk fails, which was told, or the daemon is stopping
            await asyncio.sleep(AGAIN_S)

    # -- what the hierarchy says

    async def reconcile(self) -> None:
        """Bring network and folders in step with the hierarchy and with what is kept here."""
        if not self.trouble:  # else what it has said last holds
            reading, heard = await self.keeper.call(lambda keeper: (keeper.hierarchy.reading(), keeper.hierarchy.heard))
            await self.book.update(reading)
            self._heard = heard
            await self._forget_removed_folders()
        await self.folders.reconcile()
        await self._bind_replicas()

    async def _reconcile_on_change(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            await self.reconcile()

    async def _forget_removed_folders(self) -> None:
        """A folder that was taken out of the group is not kept any more; one that is only not known yet is."""
        kept = await asyncio.to_thread(read_kept, self.home)
        gone = await self.keeper.call(
            lambda keeper: {one.name for one in kept if not one.declared and keeper.was_removed(one.name)}
        )
        if gone:
            await asyncio.to_thread(write_kept, self.home, [one for one in kept if one.name not in gone])
            for name in sorted(gone):
                self._event(name, "the folder was taken out of the group; its files stay where they are")

    async def _bind_replicas(self) -> None:
        """Every replica id of this member is signed by it."""
        for runtime in self.folders.running().values():
            if runtime.open:
                await self._bind_replica(runtime)

    async def _bind_replica(self, runtime: FolderRuntime) -> None:
        """Both ways: its own replica id is told to the group, and the owners of others to the folder."""
        folder = runtime.place.folder
        owners = {replica: owner for (of, replica), owner in self.book.reading.replica_owners.items() if of == folder}
        try:
            replica = await runtime.driver.call(lambda running: take_owners(running, owners, wall_ms()))
        except (DriverStoppedError, CatalogDiskError):
            return  # it was stopped meanwhile, or stops at its next write, and says why
        if owners.get(replica) != self.identity.member_id:
            await self.keeper.act(lambda keeper, now_ms: (None, keeper.hierarchy.bind_replica(folder, replica, now_ms)))

    async def _declare(self) -> None:
        """What the configuration declares, where it is not so yet."""
        declared = self.settings.folders
        kept, detached = kept_as_declared(declared, await asyncio.to_thread(read_kept, self.home))
        addresses = await self._published()
        try:
            await self.keeper.act(
                lambda keeper, now_ms: (
                    None,
                    declare(
                        keeper, self.identity, self._group.group_id, self.name, addresses, declared, detached, now_ms
                    ),
                )
            )
        except OperatorError as error:
            self._event("", str(error))
        await asyncio.to_thread(_write_if_other, self.home, kept)

    async def addresses(self) -> tuple[Address, ...]:
        """All at which this member can be dialed, the advertised ones first."""
        member = self.settings.member
        listen = Address(member.listen.host, self.network.addresses[0].port)
        return await asyncio.to_thread(reachable_at, listen, member.advertise)

    async def _published(self) -> list[str]:
        """What the others are told: the advertised ones, where there are any, and nothing else."""
        advertised = self.settings.member.advertise
        return [str(address) for address in advertised or await self.addresses()]

    async def _follow_addresses(self) -> None:
        own = self.identity.member_id
        while True:
            addresses = await self._published()
            known = self.book.reading.members.get(own)
            if known is not None and addresses and list(known.addresses) != addresses:
                await self._publish(addresses)
            await asyncio.sleep(ADDRESSES_CHECK_S)

    async def _publish(self, addresses: list[str]) -> None:
        own = self.identity.member_id
        await self.keeper.act(lambda keeper, now_ms: (None, keeper.hierarchy.set_addresses(own, addresses, now_ms)))

    # -- joining

    async def _desk(self) -> JoinDesk:
        declared = self.settings.group
        key = None
        if self._secret is not None and declared is not None:
            key = await asyncio.to_thread(join_key_from_secret, self._secret, declared.name)
        self._secret_key = key
        return JoinDesk(
            self.identity,
            self._group.group_id,
            invitations=_Books(self),
            admit=self._admit,
            now_ms=wall_ms,
            secret_key=key,
        )

    async def _admit(self, joiner: Joiner) -> bytes:
        payload = await self.keeper.act(lambda keeper, now_ms: admit(keeper, joiner, self._group.name, now_ms))
        await self.reconcile()  # so that the joiner is let in when it dials next
        self._event("", f"member {self.book.name_of(joiner.member_id)} joined from {joiner.source}")
        return payload

    def _seed_finder(self) -> SeedFinder:
        assert self._secret_key is not None
        return SeedFinder(
            self.identity,
            self._group.group_id,
            self._secret_key,
            lambda: joiner_payload(self.name, self.book.own_addresses()),
            self._met,
            lambda member: member in self.book.reading.members,
            lambda text: self._event("", text),
        )

    async def _met(self, joined: Joined) -> None:
        """A seed has answered: what it tells of members is enough to link with them; the rest is replicated."""
        _, records = open_answer(joined, self._group.group_id)
        reading = reading_of(self._group.group_id, records)
        await self.book.meet(usable(acquaintances(joined, reading, self.identity.member_id)))

    # -- what parts call

    def _shared(self, shelf: ContentShelf, threads: ThreadPoolExecutor) -> Shared:
        return Shared(
            home=self.home,
            own=self.identity.member_id,
            content=self.network.content,
            shelf=shelf,
            threads=threads,
            send=self._send,
            report=lambda folder, report: self._report(folder, report),
            changed=self._note_folder,
            may_send=self._may_write,
            may_receive=self._in_folder,
            circle=self._circle,
            founding_over=self._end_founding,
            returned=self._return_living,
            clock_ms=wall_ms,
        )

    async def _end_founding(self, folder: FolderId) -> None:
        """Asked again by the folder, should it not come about now."""
        with suppress(DriverStoppedError):
            await self.keeper.act(lambda keeper, now_ms: (None, keeper.hierarchy.end_founding(folder, now_ms)))

    async def _return_living(self) -> None:
        """This member has lapsed and is back, once all its folders have caught up; asked again by the folder."""
        if self._returning.locked():
            return
        with suppress(ReplicadError):  # a folder, or the daemon, is stopping
            async with self._returning:
                if await all_caught_up(self.folders.running().values()):
                    await self.keeper.act(lambda keeper, now_ms: (None, keeper.hierarchy.return_living(now_ms)))

    def _carry_out(self, tasks: Sequence[Task]) -> None:
        for task in tasks:
            match task:
                case Outgoing():
                    self._send(HIERARCHY_CHANNEL, task)
                case Changed():
                    self._changed.set()
                case Report():
                    self._report("", task)
                case _:
                    raise AssertionError(f"nothing that the hierarchy wants done: {task}")

    def _send(self, channel: FolderId, outgoing: Outgoing) -> None:
        link = outgoing.link
        assert isinstance(link, Link)
        self._sender.send(link, channel, outgoing.payload)

    def _report(self, folder: str, report: Report) -> None:
        self._event(folder, report.text, report.code, report.path)

    def _event(self, folder: str, text: str, code: int = 0, path: bytes = b"") -> None:
        self._events.add(wall_ms(), code, text, folder=folder or None, path=path)

    def _retry(self, seconds: float) -> None:
        asyncio.get_running_loop().call_later(seconds, self._changed.set)

    def _note_folder(self, folder: FolderId) -> None:
        self._folder_changed.add(folder)
        self._changed_folders.set()

    async def _follow_folders(self) -> None:
        while True:
            await self._changed_folders.wait()
            self._changed_folders.clear()
            changed, self._folder_changed = self._folder_changed, set()
            for folder in changed:
                await self.folders.look(folder)
            await self._bind_replicas()

    async def _open_session(self, member: MemberId) -> Session:
        """Without a session there is no link; the peer is not to blame, and tries again."""
        try:
            return await self.keeper.call(lambda keeper: keeper.open_session(member, wall_ms()))
        except (CatalogError, DriverStoppedError) as error:
            raise PeerError(f"no session can be opened here: {error}") from error

    def _on_link(self, link: Link, ended: str | None) -> None:
        name = self.book.name_of(link.member_id)
        self._last_seen[link.member_id] = wall_ms()
        if ended is None:
            self.book.saw(link)
            self._event("", f"connected to {name} at {link.info.address}")
        else:
            self._event("", f"the link to {name} ended: {ended}")

    def last_seen_ms(self, member: MemberId) -> int | None:
        """When a link to it last came up or ended, in this run."""
        return self._last_seen.get(member)

    def _on_refusal(self, member: MemberId, refusal: Refused) -> None:
        self._event("", f"{self.book.name_of(member)} refuses this member: {refusal}")

    # -- asked on replicas' threads too: they only read what is replaced whole

    def _in_folder(self, member: MemberId, folder: FolderId) -> bool:
        info = self.book.reading.folders.get(folder)
        return info is not None and member in info.members

    def _circle(self, folder: FolderId) -> Circle | None:
        return circle_of(self.book.reading, folder, self.identity.member_id, heard=self._heard)

    def _may_write(self, member: MemberId, folder: FolderId) -> bool:
        info = self.book.reading.folders.get(folder)
        entry = info.members.get(member) if info is not None else None
        return entry is not None and entry.writable


class _Books:
    """net.token.Invitations, kept in the hierarchy's catalog."""

    def __init__(self, member: MemberAtWork) -> None:
        self._member = member

    async def find(self, token_id: bytes) -> Invitation | None:
        return await self._member.keeper.call(lambda keeper: keeper.find_invitation(token_id))

    async def take(self, token_id: bytes, member_id: MemberId, now_ms: int) -> None:
        await self._member.keeper.call(lambda keeper: keeper.take_invitation(token_id, member_id, now_ms))


def _write_if_other(home: Path, kept: list[KeptFolder]) -> None:
    """Raises OperatorError."""
    if sorted(kept, key=lambda one: one.name) == list(read_kept(home)):
        return
    try:
        write_kept(home, kept)
    except OSError as error:
        raise OperatorError(f"cannot write into {home}: {error.strerror}") from error
