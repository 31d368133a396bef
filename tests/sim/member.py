"""A simulated member: the real folder replica, its disk and catalog in memory, and what would be threads around it.

What outlives a crash: the tree, the database at its last commit. What does not: the replica, the watch, what was being
fetched or hashed. Events reach the replica one at a time, as in the daemon's driver; handling one takes a little time.
"""

from __future__ import annotations

import asyncio
import atexit
import errno
import hashlib
import os
import random
import weakref
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from replicad.catalog.changes import Change as CatalogChange
from replicad.catalog.database import MemoryDatabase
from replicad.catalog.store import Catalog, Reader
from replicad.core.collection import Circle
from replicad.core.draft import Draft
from replicad.core.effects import Changed, Effect, Fetch, FoundingOver, HashFile, Report, Returned, Send, Tick, WhoHolds
from replicad.core.ids import FolderId, MemberId, Uid
from replicad.core.turns import Turns
from replicad.engine.acts import trouble
from replicad.engine.fetcher import Fetcher
from replicad.engine.folder import FolderReplica
from replicad.engine.folder_events import FileHashed, FileHeld, FolderEvent, SettingsChanged, Surroundings
from replicad.engine.folder_root import knows_root
from replicad.engine.height import Height
from replicad.engine.nearby import Nearby
from replicad.engine.phases import Role
from replicad.engine.scan_read import HashOutcome
from replicad.engine.serving import FolderContent
from replicad.errors import CatalogDiskError, FileTrouble, OpenAnewError, OperatorError, PeerError
from replicad.files.changes import Change, Overflow
from replicad.files.fs import FILE
from replicad.files.hashing import BeingWritten, hash_file
from replicad.files.paths import join
from replicad.net.content_wire import SmallFile
from replicad.net.refusal import Code, Refused
from tests.sim.memory_fs import MemoryFileSystem, TornWriteError
from tests.sim.memory_watch import MemoryWatch
from tests.sim.network import Session

if TYPE_CHECKING:
    from tests.sim.ailing import Ailing
    from tests.sim.group import Group
    from tests.sim.hierarchy import SimKeeper

FOLDER: FolderId = b"simulated folder"
LARGE_BYTES = 3_000
"""In a simulation a file is hashed by others from here on."""
HANDLE_MS = (0, 0, 0, 1, 1, 2)
"""What handling one event takes."""
NS_PER_MS = 1_000_000
SPIN_WINDOW_MS = 10_000
SPIN_TICKS_MAX = 2_000
"""Ticks in that time: a member with a full day's work has some hundred."""


class SimulatedCrash(BaseException):
    """kill -9, at this very instruction."""


class SimMember:
    """`start` to begin with. `offset_ms`: its clock less the true time."""

    def __init__(self, group: Group, name: str, role: Role = Role.FOUNDER, offset_ms: int = 0) -> None:
        self.group = group
        self.name = name
        self.id: MemberId = hashlib.sha256(name.encode()).hexdigest()
        self.role = role
        self.offset_ms = offset_ms
        self.rng = random.Random(f"{group.seed} {name}")
        self.fs = MemoryFileSystem(self._now_ns)
        self.database = MemoryDatabase()
        weakref.finalize(self, self.database.close)
        self.settings = group.settings
        self.sessions: dict[str, Session] = {}
        self.watch_delay_ms = (0, 30)
        self.fault_in: int | None = None
        """Mutating calls and commits until it is killed."""
        self.kill_before: Callable[[str, tuple[bytes, ...]], bool] | None = None
        """Whether it is killed before this call (method, paths) that changes the disk, or a "commit"."""
        self.barred: set[str] = set()
        """Names of members from whom nothing is accepted, and to whom nothing is given."""
        self.on_failure: Callable[[Exception], bool] = lambda error: False
        """Whether this may end it, as the daemon ends a folder."""
        self.height: Height | None = None
        """The mark in its home."""
        self.lapsed: set[str] = set()
        """Names of members that have lapsed, as far as its hierarchy says."""
        self.keeper: SimKeeper | None = None
        """Its hierarchy, where the group has one (tests.sim.hierarchy); it says who has lapsed."""
        self.ailing: Ailing | None = None
        """What is wrong with its disks, where anything ever is (tests.sim.ailing)."""
        self.racing: Callable[[], None] | None = None
        """Called before each call to the disk: a user who is faster."""
        self.replica: FolderReplica | None = None
        self.life = 0
        self.begun_ms = 0
        """When its folder was started last."""
        """Which run of the daemon this is; what belongs to an earlier one is void."""
        self.reports: list[Report] = []
        self.refusal = ""
        """Why it did not start."""
        self._inbox: deque[FolderEvent] = deque()
        self._turns = Turns()
        self._told: deque[Change] = deque()
        self._wake_ms: int | None = None
        self._due: tuple[int | None] | None = None
        """What the replica said last of when it is due; None: it may say something else by now."""
        self._busy_ms = 0
        self.fetching = 0
        self.hashing = 0
        self._replicas = 0
        self._spinning_since_ms = 0
        self._ticks = 0

    # -- its life

    @property
    def up(self) -> bool:
        return self.replica is not None

    @property
    def running(self) -> FolderReplica:
        assert self.replica is not None, f"{self.name} is down"
        return self.replica

    @property
    def catalog(self) -> Catalog:
        return self.running.catalog

    def start(self) -> None:
        assert self.replica is None
        if self.group.membership is not None and not self.group.membership.begins(self):
            return
        self.life += 1
        self.begun_ms = self.group.clock.now_ms
        self.refusal = ""
        self.group.clock.note("start", self.name)
        self._guarded(self._start)
        self.group.network.connect_all()

    def _start(self) -> None:
        catalog = Catalog.open(self.database, FOLDER, self._new_replica)
        self._hook(catalog)
        self.fs.before_change, self.fs.before_read = self._before_change, self._before_read
        watch = MemoryWatch(self.fs, self._on_change)
        around = Surroundings(
            may_send=self._is_member,
            may_receive=self._is_member,
            watch=lambda on_change: watch,
            on_change=self._on_change,
            draw=self.rng.random,
            circle=self._circle,
            height=lambda: self.height,
            note_height=lambda commits: setattr(self, "height", Height(commits)),
            new_replica=self._new_replica,
            new_bytes=self.rng.randbytes,
            large_bytes=LARGE_BYTES,
        )
        self.watch = watch
        self._open_root(catalog)
        if self.ailing is not None:
            self.ailing.watch_begins(watch)
        replica = FolderReplica(catalog, self.fs, self.id, self.role, self.settings, around, now_ms=self.now_ms)
        try:
            effects = replica.start(self.now_ms)
        except OperatorError as error:
            self.refusal = str(error)
            watch.close()
            if self.ailing is not None:
                raise
            return
        self.replica = replica
        if self.keeper is not None and not self.keeper.up:
            self.keeper.start()
        self.content = FolderContent(self.fs, _Readers(catalog))  # type: ignore[arg-type]
        nearby = Nearby(self.content, _Source(self), _Inline())
        self._fetcher = Fetcher(FOLDER, self.fs, nearby, self.content.manifest_of, _Inline())
        self._carry_out(effects)
        self._schedule()

    def _open_root(self, catalog: Catalog) -> None:
        """As daemon.folder_runtime does it."""
        self.fs.is_open = True
        if not self.fs.in_place:
            if not knows_root(catalog):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            self.fs.let_go()

    def stop(self) -> None:
        """SIGTERM: a clean end."""
        replica = self.running
        self._guarded(lambda: replica.close(self.now_ms))
        if self.replica is not None:
            self._forget("stop")

    def crash(self) -> None:
        """kill -9 between two instructions."""
        if self.replica is not None:
            self._forget("crash")

    def stop_folder(self) -> None:
        """The folder is not kept here any more; the daemon goes on."""
        replica = self.running
        self._guarded(lambda: replica.close(self.now_ms))
        if self.replica is not None:
            self._forget("folder stops", daemon=False)

    def _forget(self, how: str, *, daemon: bool = True) -> None:
        self.group.clock.note(how, self.name)
        if self.keeper is not None and daemon:
            self.keeper.crash()
        self.life += 1
        self.replica = None
        self.fault_in = None
        self.fs.before_change = self.fs.before_read = None
        self.fs.crash()
        self.watch.close()
        self._inbox.clear()
        self._turns = Turns()
        self._told.clear()
        self._wake_ms = None
        self.fetching = self.hashing = 0
        if daemon:
            self.group.network.gone(self)
        else:
            self.sessions.clear()

    def _guarded(self, act: Callable[[], None]) -> None:
        self._due = None
        try:
            act()
        except SimulatedCrash:
            self.group.counts["crash at a write"] += 1
            self._forget("killed")
            self.group.killed(self)
        except Exception as error:
            if self.ailing is not None and isinstance(error, OSError | OperatorError | CatalogDiskError):
                self._forget("fails")
                self.ailing.failed(error)
            elif isinstance(error, OpenAnewError):
                self._forget("opened anew")
                self.group.clock.after(0, lambda: self.start() if not self.up else None)
            elif self.on_failure(error):
                self._forget("failed")
            else:
                raise
        finally:
            self._due = None

    # -- time and faults

    @property
    def now_ms(self) -> int:
        return self.group.clock.now_ms + self.offset_ms

    def _now_ns(self) -> int:
        return self.now_ms * NS_PER_MS

    def _new_replica(self) -> int:
        self._replicas += 1
        digest = hashlib.sha256(f"{self.group.seed} {self.name} {self._replicas}".encode()).digest()
        return int.from_bytes(digest[:8], "big")

    def set_clock(self, offset_ms: int) -> None:
        self.group.clock.note("clock", self.name, offset_ms)
        back = offset_ms < self.offset_ms
        self.offset_ms = offset_ms
        if back:
            self.post(Tick())  # as the driver does when it wakes
        self._schedule()

    def take_settings(self) -> None:
        """What the group has by now, as the hierarchy would bring it."""
        self.group.clock.note("settings", self.name)
        self.settings = self.group.settings
        self.post(SettingsChanged(self.settings))

    def _is_member(self, peer: MemberId) -> bool:
        if self.group.membership is not None:
            return self.group.membership.lists(self, peer)
        return self.group.by_id[peer].name not in self.barred

    def _circle(self) -> Circle | None:
        if self.group.membership is not None:
            return self.group.membership.circle(self)
        everybody = {member.id: member.name for member in self.group.members.values()}
        lapsed = self.lapsed_ids()
        living = frozenset(member for member in everybody if member not in lapsed)
        alone = len(everybody) == 1
        heard = self.keeper is None or (self.keeper.up and self.keeper.running.heard)
        return Circle(self.id in living, living - {self.id}, alone=alone, founded=self.group.founded, heard=heard)

    def waits_for(self, other: SimMember) -> bool:
        """With forgetting a deletion, as far as it knows who there is."""
        if self.group.membership is not None:
            circle = self.group.membership.circle(self)
            return other is self or (circle is not None and other.id in circle.others)
        return other.id not in self.lapsed_ids() and other.id not in self.group.twinned

    def lapsed_ids(self) -> set[MemberId]:
        told = self.keeper.lapsed if self.keeper is not None else set()
        return told | {member.id for member in self.group.members.values() if member.name in self.lapsed}

    def put_catalog_back(self, backup: MemoryDatabase | None, *, home: bool = True) -> None:
        """While it is stopped, the catalog becomes what the backup holds; None: it is lost. `home`: all of the home
        with it, and so the mark that would tell."""
        assert not self.up
        self.height = None if home else self.height
        weakref.finalize(self, self.database.close)
        if backup is None:
            self.role = Role.RETURNER  # as the daemon has it, which remembers outside the catalog that it ran before
        self.database = backup.copy() if backup is not None else MemoryDatabase()

    def _fault_point(self, method: str, *paths: bytes) -> None:
        if self.kill_before is not None and self.kill_before(method, paths):
            self.kill_before = None
            raise SimulatedCrash
        if self.fault_in is None:
            return
        self.fault_in -= 1
        if self.fault_in < 0:
            self.fault_in = None
            if method == "write_at":
                raise TornWriteError(self.rng.randrange(64), SimulatedCrash())
            raise SimulatedCrash

    def _before_change(self, method: str, paths: tuple[bytes, ...]) -> None:
        if self.racing is not None:
            self.racing()
        self._fault_point(method, *paths)
        if self.ailing is not None:
            self.ailing.before_change(method, paths)

    def _before_read(self, method: str, paths: tuple[bytes, ...]) -> None:
        if self.racing is not None:
            self.racing()
        if self.ailing is not None:
            self.ailing.before_read(method, paths)

    def _hook(self, catalog: Catalog) -> None:
        """Killed before a commit or after it; the ledger takes down each one that came about."""
        commit = catalog.commit

        def hooked(draft: Draft | None, changes: Sequence[CatalogChange] = (), *, now_ms: int) -> int:
            self._fault_point("commit")
            if self.ailing is not None:
                self.ailing.before_commit()
            before = self.group.ledger.before(catalog, draft)
            head = commit(draft, changes, now_ms=now_ms)
            self.group.ledger.committed(self, catalog, draft, before)
            self._fault_point("committed")
            return head

        catalog.commit = hooked  # type: ignore[method-assign]

    # -- the replica's thread

    def post(self, event: FolderEvent) -> None:
        if self.replica is not None:
            self._inbox.append(event)
            self._schedule()

    def _schedule(self) -> None:
        """Wake when there is something to do, as its own clock says."""
        if self.replica is None:
            return
        now_ms = self.group.clock.now_ms
        if self._inbox:
            at_ms = now_ms
        else:
            due_ms = self._due_ms(self.replica)
            if due_ms is None:
                return
            at_ms = due_ms - self.offset_ms
        at_ms = max(at_ms, now_ms, self._busy_ms)
        if self._wake_ms is None or at_ms < self._wake_ms:
            self._wake_ms = at_ms
            life = self.life
            self.group.clock.at(at_ms, lambda: self._wake(life, at_ms))

    def _wake(self, life: int, at_ms: int) -> None:
        if life != self.life or self._wake_ms != at_ms:
            return
        self._wake_ms = None
        replica = self.running
        if self._inbox and not (self._turns.work_first and self._is_due(replica)):
            self._turns.took(tick=False)
            self._handle(self._inbox.popleft())
        elif self._is_due(replica):
            self._turns.took(tick=True)
            self._handle(Tick())
            self._check_spinning(life)
        if self.replica is not None and self._has_looked(self.replica):
            self.group.ledger.looked(self)
        self.group.on_handled(self)
        if life == self.life:
            self._busy_ms = self.group.clock.now_ms + self.rng.choice(HANDLE_MS) * self.group.slowness(self)
            self._schedule()

    def _has_looked(self, replica: FolderReplica) -> bool:
        """At all that happened on its disk."""
        return self.quiet and replica.disk.watched and replica.disk.scanner.at_rest and not self.watch.deaf

    def _is_due(self, replica: FolderReplica) -> bool:
        due_ms = self._due_ms(replica)
        return due_ms is not None and due_ms <= self.now_ms

    def _due_ms(self, replica: FolderReplica) -> int | None:
        if self._due is None:
            self._due = (replica.next_due_ms(),)
        return self._due[0]

    def forget_due(self) -> None:
        """To be called when something was done to the replica but by `post` and `act`."""
        self._due = None

    def _check_spinning(self, life: int) -> None:
        """Work that is due and never done."""
        if life != self.life or self._spinning_since_ms + SPIN_WINDOW_MS < self.group.clock.now_ms:
            self._spinning_since_ms, self._ticks = self.group.clock.now_ms, 0
        self._ticks += 1
        assert self._ticks < SPIN_TICKS_MAX, f"{self.name} spins: {self.group.busy(self)}"

    def _handle(self, event: FolderEvent) -> None:
        self.group.counts["events handled"] += 1
        self._guarded(lambda: self._handle_now(event))

    def _handle_now(self, event: FolderEvent) -> None:
        try:
            effects = self.running.handle(event, self.now_ms)
        except PeerError as error:
            self.group.refused(self, event, error)
            return
        self._carry_out(effects)

    def act(self, function: Callable[[FolderReplica, int], Sequence[Effect]]) -> None:
        """A command of the operator's, between two events."""
        self._guarded(lambda: self._carry_out(function(self.running, self.now_ms)))
        self._schedule()

    def _carry_out(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(peer, message):
                    self.group.network.send(self, self.group.reached(self, peer), message)
                case Fetch():
                    self._begin_fetch(effect)
                case HashFile():
                    self._begin_hash(effect)
                case WhoHolds(path):
                    self.post(FileHeld(path, self.ailing.holders(path) if self.ailing is not None else ""))
                case Report():
                    self.reports.append(effect)
                    self.group.clock.note("report", self.name, effect.text)
                case Changed():
                    pass
                case FoundingOver():
                    self.group.founded = True
                    if self.group.membership is not None:
                        self.group.membership.end_founding(self)
                case Returned():
                    assert self.keeper is not None, "it has lapsed, and there is no hierarchy that says so"
                    self.keeper.return_living()
                case _:
                    raise AssertionError(f"an effect that nobody carries out: {effect}")

    # -- the watch

    def _on_change(self, change: Change) -> None:
        """As daemon.gathered: in order, each value once in a row; the replica comes to it after a while."""
        if not self._told:
            life = self.life
            self.group.clock.after(self.rng.randint(*self.watch_delay_ms), lambda: self._tell(life))
        if not self._told or self._told[-1] != change:
            self._told.append(change)

    def _tell(self, life: int) -> None:
        if life == self.life and self.replica is not None:
            self._inbox.extend(self._told)
            self._told.clear()
            self._schedule()

    def overflow(self) -> None:
        """The system's queue runs over: what it held is lost."""
        if self.replica is not None:
            self._told.clear()
            self.watch.overflow()
            assert any(isinstance(change, Overflow) for change in self._told)

    @property
    def quiet(self) -> bool:
        """Nothing is on its way to the replica."""
        return not (self._inbox or self._told or self.fetching or self.hashing)

    # -- what threads do

    def _begin_hash(self, wanted: HashFile) -> None:
        life = self.life
        self.hashing += 1
        self.group.clock.after(self.rng.randrange(1, 300), lambda: self._end_hash(life, wanted))

    def _end_hash(self, life: int, wanted: HashFile) -> None:
        if life == self.life:
            self.hashing -= 1
            outcome = _hash_now(self.fs, join(wanted.directory, wanted.name))
            self.post(FileHashed(wanted.directory, wanted.name, outcome))

    def _begin_fetch(self, wanted: Fetch) -> None:
        life = self.life
        self.fetching += 1
        delay_ms = self.rng.randint(*self.group.network.weather.fetch_delay_ms) * self.group.slowness(self)
        self.group.clock.after(delay_ms, lambda: self._end_fetch(life, wanted))

    def _end_fetch(self, life: int, wanted: Fetch) -> None:
        if life == self.life:
            self.fetching -= 1
            self._guarded(lambda: self.post(_loop().run_until_complete(self._fetcher.fetch(wanted))))

    def serve(self, uid: Uid, digest: bytes, offset: int, length: int) -> bytes | None:
        found = self.content.read_range(uid, digest, offset, length)
        if found is not None:
            self.group.served.append((self.name, digest))
        return found

    def serve_manifest(self, uid: Uid, digest: bytes, page: bytes | None) -> bytes | None:
        return self.content.manifest(uid, digest, page)


class _Source:
    """engine.fetcher.Content: the members' content, as far as the network lets it through."""

    def __init__(self, asker: SimMember) -> None:
        self._asker = asker

    def _reach(self, member_id: MemberId) -> SimMember:
        source = self._asker.group.reached(self._asker, member_id)
        lost = self._asker.rng.random() < self._asker.group.network.weather.fetch_loss
        if lost or not source.up or not self._asker.group.network.connected(self._asker.name, source.name):
            raise PeerError("the connection for content broke")
        return source

    async def files(
        self, member_id: MemberId, folder: FolderId, items: Sequence[SmallFile]
    ) -> AsyncGenerator[tuple[int, bytes | bytearray | None], None]:
        for index, item in enumerate(items):
            yield index, self._reach(member_id).serve(item.uid, item.digest, 0, item.size)

    async def manifest(
        self, member_id: MemberId, folder: FolderId, uid: Uid, digest: bytes, pages: Sequence[bytes] = ()
    ) -> list[bytes]:
        found = [self._reach(member_id).serve_manifest(uid, digest, page) for page in (pages or (None,))]
        return [_there(one) for one in found]

    async def ranges(
        self, member_id: MemberId, folder: FolderId, uid: Uid, digest: bytes, ranges: Sequence[tuple[int, int]]
    ) -> AsyncGenerator[tuple[int, bytes | bytearray], None]:
        for offset, length in ranges:
            yield offset, _there(self._reach(member_id).serve(uid, digest, offset, length))


def _there(found: bytes | None) -> bytes:
    if found is None:
        raise Refused(Code.GONE, "the source no longer has it")
    return found


class _Inline(Executor):
    """Threads of a machine on which everything happens in its turn."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(function(*arguments, **named))
        except SimulatedCrash:
            raise
        except BaseException as error:  # noqa: BLE001  (as an executor does)
            future.set_exception(error)
        return future


class _Readers:
    """engine.readers.Readers on a catalog in memory."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    @contextmanager
    def reader(self, *, fresh: bool = False) -> Iterator[Reader]:
        yield self._catalog.reader()


def _hash_now(fs: MemoryFileSystem, path: bytes) -> HashOutcome:
    """As daemon.folder_runtime.hash_now."""
    try:
        stat = fs.stat(path)
        return hash_file(fs, path, stat) if stat is not None and stat.kind == FILE else BeingWritten(path)
    except FileNotFoundError:
        return BeingWritten(path)
    except OSError as error:
        return trouble(path, error)
    except FileTrouble as error:
        return error


class _Loop(asyncio.SelectorEventLoop):
    """What is handed to an executor is done when it is handed over: nobody has to be woken for it."""

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        done = executor.submit(func, *args)
        future = self.create_future()
        if (error := done.exception()) is not None:
            future.set_exception(error)
        else:
            future.set_result(done.result())
        return future


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """One for all: nothing ever waits on it."""
    loop = _Loop()
    atexit.register(loop.close)
    return loop
