"""A folder at work: the one place where scanning, knowledge, applying and fetching meet.

`FolderReplica` only passes things on; what is decided is decided elsewhere: what a scan makes of the disk (engine.scan,
core.local), what peers are told and believed (engine.exchange), what the disk lacks and is fetched for it
(engine.installing), how one begins (engine.phases, engine.joining), when a `wait` is over
(engine.fences). Synchronous: one thread calls `start`, then `handle`; the daemon and the simulator alike.

`handle` of a Tick does the work that is waiting, a bounded piece of each kind, so that no kind starves another; while
there is more, `next_due_ms` is now. Every other event is only noted, or answered from the catalog.

Invariants between two calls:
1. Everything told to others is committed; everything committed has been offered to the exchange.
2. While the root marker does not hold, nothing is originated and nothing is done to the tree (I6): state 5.
3. In phase FOUNDING nothing is served or installed; in LEARNING and CLAIMING nothing is originated or installed.
"""

from __future__ import annotations

from collections.abc import Sequence

from replicad.catalog.changes import Change as CatalogChange
from replicad.catalog.changes import SetMeta
from replicad.catalog.store import Catalog
from replicad.core.absorb import absorb
from replicad.core.draft import Draft
from replicad.core.effects import Changed, Effect, Fetched, LinkDown, LinkUp, Received, Report, Tick
from replicad.core.fence import WAIT_BYTES
from replicad.core.ids import MemberId, Uid
from replicad.core.messages import (
    CONTENT,
    Await,
    AwaitReply,
    Fence,
    FenceReply,
    OfQuestion,
    Status,
)
from replicad.core.messages_meeting import HeldRequest, NotHeld
from replicad.core.records import Record
from replicad.core.tree import Slot
from replicad.core.want import settle
from replicad.engine.clocks import Clocks
from replicad.engine.course import Course
from replicad.engine.deletions import Deletions
from replicad.engine.digesting import STORES
from replicad.engine.disposal import QUIET_MS, settle_outs
from replicad.engine.exchange import CLOCK_BACK_MS, Exchange
from replicad.engine.exchange_link import OwnState
from replicad.engine.fences import Fences
from replicad.engine.folder_disk import LocalSide
from replicad.engine.folder_events import FileHashed, FileHeld, FolderEvent, SettingsChanged, Surroundings
from replicad.engine.height import HeightMark
from replicad.engine.holds import Hold
from replicad.engine.installing import Installing
from replicad.engine.late_claim import LateClaims
from replicad.engine.looking import Looking
from replicad.engine.phases import (
    AUTO_RECOVERY,
    IN_ERROR,
    INITIAL_SYNC,
    NORMAL,
    STALE,
    FolderState,
    Phase,
    Role,
    phase_at_start,
)
from replicad.engine.policy import take_policy
from replicad.engine.preserved import Preserved
from replicad.engine.recovery import recover
from replicad.engine.root_watch import RootWatch
from replicad.engine.scan import Scanner
from replicad.engine.settings import FolderSettings
from replicad.engine.tombstones import Tombstones
from replicad.engine.verifying import Verifying
from replicad.files.changes import Change, Dirty, Marker, Moved, Overflow, RootGone, Unwatchable
from replicad.files.fs import FileSystem

RUNNING_META = "engine.running"


class FolderReplica:
    """Of one folder of one member."""

    def __init__(
        self,
        catalog: Catalog,
        fs: FileSystem,
        own: MemberId,
        role: Role,
        settings: FolderSettings,
        around: Surroundings,
        *,
        now_ms: int,
    ) -> None:
        """Commits the phase and the exchange's session; `start` does the rest."""
        self.catalog = catalog
        self.fs = fs
        self.settings = settings
        self._own = own
        self._around = around
        self._now_ms = now_ms
        self.height = HeightMark(catalog, around.height, around.note_height, now_ms)
        phase = phase_at_start(catalog, role, now_ms)
        deletions = Deletions(catalog, fs, lambda: self.settings.scan_deletions_max)
        self.root = RootWatch(catalog, fs, around.new_bytes, deletions, now_ms)
        self._unclean = False
        self._scanned_ms = now_ms
        self._reports: list[Effect] = []
        self.exchange = Exchange(
            catalog,
            own,
            CONTENT,
            absorb=self._absorb,
            own_state=self._own_state,
            may_send=around.may_send,
            may_receive=around.may_receive,
            draw=around.draw,
            now_ms=now_ms,
            serves=lambda: self.course.serves,
            founds=lambda peer: (circle := around.circle()) is None or circle.founds(peer),
        )
        self.installing = Installing(catalog, fs, self.exchange, settings.quota_bytes)
        self.tombstones = Tombstones(
            catalog, self.exchange, around.circle, lambda: self.settings.tombstone_lifetime_ms, now_ms
        )
        self.course = Course(
            phase,
            catalog,
            fs,
            own,
            self.exchange,
            self.tombstones,
            self.root,
            around,
            self.height,
            entered=lambda: self.installing.workbench.offer(catalog.pending(1)),
            claimed=lambda: self.disk.look_everywhere(),
            now_ms=now_ms,
        )
        self.clocks = Clocks(catalog, self.exchange)
        self._watch = around.watch(around.on_change)
        self.disk = self._make_disk()
        self.late_claims = LateClaims(
            catalog,
            fs,
            self.course.unclaimed,
            root_ok=self.root.holds,
            commit=self._commit_local,
            look_again=self.disk.look_beneath,
        )
        self.preserved = Preserved(
            catalog,
            fs,
            own,
            around,
            self.exchange,
            hindrance=self._hindrance,
            brought=lambda path: self.disk.hint_paths([path]),
        )
        self.fences: Fences | None = None
        self.verifying: Verifying | None = None

    def _make_disk(self) -> LocalSide:
        scanner = Scanner(
            self.fs,
            self._watch,
            self.root.holds,
            founding=lambda: self.phase is Phase.FOUNDING,
            large_bytes=self._around.large_bytes,
            too_many=self.root.deletions.too_many,
            holds_back=self.course.unclaimed.holds_back,
            waits=lambda draft, now_ms: self.late_claims.waits(draft, now_ms),
        )
        return LocalSide(
            self.catalog,
            self.fs,
            self._watch,
            scanner,
            commit=self._commit_local,
            hindrance=self._hindrance,
            blocked=self.installing.blocked,
            hold=lambda missing: self.root.hold_deletions(missing, self._now_ms),
        )

    # -- what the driver calls

    def start(self, now_ms: int) -> list[Effect]:
        """Finish what the last run left, then look at everything. Raises OperatorError, CatalogError, OSError."""
        self._now_ms = now_ms
        self._unclean = self.catalog.meta(RUNNING_META) is not None
        out = self.course.start(now_ms)
        self.root.begin(now_ms)
        out += self._take_root_reports()
        if not self.root.fault:
            out += self._recover(now_ms)
        self.fences = Fences(
            self._own, self.catalog, self.disk, self.fs, new_id=lambda: self._around.new_bytes(WAIT_BYTES)
        )
        self.verifying = Verifying(
            self.catalog,
            self.fs,
            self.disk,
            Looking(self._own, self.catalog, self.disk, self.fs, lambda: self._around.new_bytes(WAIT_BYTES)),
            self._commit_local,
            lambda cn: bool(self.exchange.peers_with(cn)),
        )
        self.catalog.commit(None, [SetMeta(RUNNING_META, b"1")], now_ms=now_ms)
        if not self.root.fault:
            self.disk.open()
        return [*out, *self._take_policy(now_ms), Changed()]

    def _recover(self, now_ms: int) -> list[Effect]:
        """Before the first look at a root: what a crash cut off, and what lies in staging."""
        recovered = recover(self.catalog, self.fs, now_ms)
        self.disk.hint_paths(recovered.dirty)
        if not recovered.strays:
            return []
        return [Report(0, f"{recovered.strays} files found in staging after a crash were preserved")]

    def handle(self, event: FolderEvent, now_ms: int) -> list[Effect]:
        """Raises PeerError: the peer's link is to be closed, nothing of its message was taken."""
        assert self.fences is not None, "an event before the start"
        if now_ms < self._now_ms - CLOCK_BACK_MS:
            self._clock_set_back(self._now_ms - now_ms, now_ms)
        self._now_ms = now_ms
        out, self._reports = self._reports, []
        match event:
            case Received(_, Fence() | FenceReply() | Await() | AwaitReply()):
                out += self.fences.handle(event, now_ms)
            case Received(_, HeldRequest() | NotHeld()):
                out += self.course.handle(event, now_ms)
            case Received(_, message) if isinstance(message, OfQuestion):
                out += self.preserved.handle(event, now_ms)
            case Received(peer, message):
                out += self.exchange.handle(event, now_ms)
                if isinstance(message, Status):
                    self.installing.fetching.status_changed(peer, now_ms)
                out += self._after_exchange(now_ms)
            case LinkUp() | LinkDown():
                out += self.exchange.handle(event, now_ms)
                out += self.fences.handle(event, now_ms)
                out += self.preserved.handle(event, now_ms)
                self.course.woken(now_ms)
                self.installing.fetching.linked(now_ms)
            case Fetched():
                self.installing.fetched(event, now_ms)
            case FileHashed(directory, _, outcome) if directory in STORES:
                self.preserved.hashed(outcome, now_ms)
            case FileHashed(directory, name, outcome):
                self.disk.hashed(directory, name, outcome)
            case FileHeld(path, holders):
                out += self.disk.held(path, holders)
            case SettingsChanged(settings):
                self.settings = settings
                self.installing.fetching.set_quota(settings.quota_bytes)
                self.preserved.recheck()
                out += self._take_policy(now_ms)
            case Tick():
                out += self._work(now_ms)
            case Dirty() | Moved() | Overflow() | Marker() | Unwatchable() | RootGone():
                out += self._take_change(event, now_ms)
        return out

    def next_due_ms(self) -> int | None:
        """When a Tick is due at the latest; not after now while there is work."""
        now_ms = self._now_ms
        assert self.fences is not None
        if self._reports:
            return now_ms
        due = [self.exchange.next_due_ms(), self.fences.next_due_ms()]
        if self.verifying is not None:
            due.append(self.verifying.next_due_ms())
        due.append(self._disk_due_ms(now_ms))
        if self._may_apply():
            due += [self.installing.fetching.next_due_ms(), self.tombstones.next_due_ms()]
        due += [self.course.next_due_ms(now_ms), self.height.next_due_ms()]
        due.append(self.installing.missing_parents.next_due_ms())
        return min([at for at in due if at is not None], default=None)

    def close(self, now_ms: int) -> None:
        """A clean end: the next start need not doubt what it finds."""
        self._watch.close()
        self.preserved.close()
        self.exchange.close(now_ms)
        if not self.root.fault:
            self.catalog.commit(None, [SetMeta(RUNNING_META, None)], now_ms=now_ms)
        self.height.note(now_ms, at_once=True)
        self.catalog.close()

    # -- what the status shows

    @property
    def phase(self) -> Phase:
        return self.course.phase

    @property
    def state(self) -> FolderState:
        if self.root.fault:
            return FolderState(IN_ERROR, self.root.fault)
        if self.course.why or not self.course.takes_part:
            return FolderState(AUTO_RECOVERY if self.course.why else INITIAL_SYNC, self.course.waits_for)
        if self.disk.overflowed or (self._unclean and not self.disk.scanner.full_scans):
            return FolderState(AUTO_RECOVERY)
        return FolderState(NORMAL)

    def blocked(self) -> list[tuple[bytes, str]]:
        """Every path that is not replicating, each with one reason, by path."""
        found = {path: why for _, path, why in self.installing.blocked()}
        found.update(self.disk.scanner.blocked())
        return sorted(found.items())

    @property
    def held(self) -> bool:
        """Whether `hold` is not None; costs little."""
        return self.root.held

    @property
    def hold(self) -> Hold | None:
        """What waits for an operator's word."""
        return self.root.hold

    # -- events

    def _take_change(self, change: Change, now_ms: int) -> list[Effect]:
        assert self.fences is not None
        out = self.disk.take(change)
        if isinstance(change, Marker):
            out += self.fences.marker_seen(change.name, now_ms)
            if self.verifying is not None:
                self.verifying.marker_seen(change.name)
        if isinstance(change, RootGone) and not self.root.holds():
            out += self._take_root_reports()
        if isinstance(change, Overflow):
            out += self.fences.overflowed(now_ms)
        return out

    def _after_exchange(self, now_ms: int) -> list[Effect]:
        assert self.fences is not None
        out = self.course.after_exchange(now_ms)
        return [*out, *self.fences.progress(now_ms)]

    def _clock_set_back(self, back_ms: int, now_ms: int) -> None:
        """What waits for a time would wait for as long as the clock was ahead."""
        assert self.fences is not None
        self.exchange.clock_set_back(back_ms)
        self.fences.clock_set_back(back_ms)
        self.preserved.clock_set_back(back_ms)
        self.disk.clock_set_back()
        self.installing.clock_set_back(now_ms)
        self.root.clock_set_back()
        self._scanned_ms = min(self._scanned_ms, now_ms)
        self.tombstones.clock_set_back(now_ms)
        self.course.clock_set_back(now_ms)
        self.height.clock_set_back(now_ms)
        self.late_claims.clock_set_back()

    # -- work

    def _work(self, now_ms: int) -> list[Effect]:
        """What is due. The disk is left alone where nothing wants it, the look at the root with it."""
        out: list[Effect] = []
        if _is_due(self.exchange.next_due_ms(), now_ms):
            out += self.exchange.handle(Tick(), now_ms)
        if _is_due(self._disk_due_ms(now_ms), now_ms):
            out += self._check_root(now_ms)
            if self._may_scan():
                out += self._scan(now_ms)
        out += self.course.work(now_ms)
        if self._may_apply():
            out += self._apply(now_ms)
            out += self.tombstones.work(now_ms)
        if not self.root.fault:
            settle_outs(self.catalog, self.fs, now_ms)
        out += self.preserved.work(self.settings, now_ms, disk=not self.root.fault)
        out += self.installing.missing_parents.work(now_ms)
        assert self.fences is not None
        if _is_due(self.fences.next_due_ms(), now_ms):
            out += self.fences.handle(Tick(), now_ms)
        out += self._reports
        self._reports = []
        self.height.note(now_ms)
        return out

    def _check_root(self, now_ms: int) -> list[Effect]:
        out: list[Effect] = []
        if self.root.check(now_ms):
            out += self._recover(now_ms)
            self.disk.open()
        return [*out, *self._take_root_reports()]

    def _disk_due_ms(self, now_ms: int) -> int | None:
        """When the disk is to be looked at, or changed."""
        due = [self.root.next_due_ms(), self.preserved.next_due_ms(now_ms, disk=not self.root.fault)]
        if not self.root.fault and (out_ms := self.catalog.first_out_ms()) is not None:
            due.append(out_ms if out_ms <= now_ms + QUIET_MS else now_ms)
        if self._may_scan():
            due += [self.disk.next_due_ms(now_ms), self.late_claims.next_due_ms(now_ms)]
            if self.settings.scan_interval_ms and not self.disk.scanner.scanning:
                due.append(self._scanned_ms + self.settings.scan_interval_ms)
        if self._may_apply():
            due.append(self.installing.workbench.next_due_ms(now_ms))
        return min((at for at in due if at is not None), default=None)

    def _scan(self, now_ms: int) -> list[Effect]:
        assert self.fences is not None
        interval_ms = self.settings.scan_interval_ms
        if interval_ms and now_ms >= self._scanned_ms + interval_ms and not self.disk.scanner.scanning:
            self.disk.look_everywhere()
            self.disk.prove_events()
        scans, head = self.disk.scanner.full_scans, self.catalog.head
        out = self.disk.work(now_ms)
        if self.disk.scanner.full_scans != scans:
            self._scanned_ms = now_ms
            self.disk.overflowed = False
            out.append(Changed())
            self.course.scanned(now_ms)
            self.root.deletions.scanned(now_ms)
        if self.catalog.head != head or self.disk.scanner.full_scans != scans:
            out += self.exchange.after_commit(now_ms)
        if self.late_claims.next_due_ms(now_ms) is not None:
            out += [*self.late_claims.work(now_ms), *self.exchange.after_commit(now_ms)]
        return [*out, *self.fences.progress(now_ms)]

    def _apply(self, now_ms: int) -> list[Effect]:
        assert self.fences is not None
        out: list[Effect] = []
        if self.installing.work(self.disk, self.clocks, now_ms):
            out += self.exchange.after_commit(now_ms)
            out += self.fences.progress(now_ms)
        return [*out, *self.installing.requests(now_ms)]

    def _take_policy(self, now_ms: int) -> list[Effect]:
        """Losers of names may stand elsewhere from now on."""
        if not take_policy(self.catalog, self.settings.siblings, self.installing.offer, now_ms):
            return []
        return [Changed(), *self.exchange.after_commit(now_ms)]

    # -- what the parts call

    def _absorb(self, draft: Draft, records: Sequence[Record]) -> None:
        absorb(draft, records)
        self.installing.offer(draft)
        self._reports += self.clocks.look(records, self._now_ms)

    def commit_own(self, draft: Draft, slots: Sequence[Slot], touched: Sequence[Uid], now_ms: int) -> None:
        """A change of this member's own that no look at the disk has found; the caller tells the exchange."""
        settle(draft, slots, touched)
        self._now_ms = now_ms
        self._commit_local(draft, (), set(touched))

    def _commit_local(self, draft: Draft, changes: Sequence[CatalogChange], touched: set[Uid]) -> None:
        self.installing.offer(draft)
        self.catalog.commit(draft, changes, now_ms=self._now_ms)
        for uid in sorted(touched):  # a set's order is another one in each process
            self.installing.workbench.retry(uid)

    def _own_state(self) -> OwnState:
        files, size, oldest_ms = self.catalog.pending_tally()
        taking_part = self.course.takes_part
        return OwnState(
            self.state.state,
            complete=(taking_part or self.course.why == STALE) and not self.root.fault,
            begun=taking_part,
            compares=self.course.compares,
            owes=self.course.rejoining.owes or self.installing.missing_parents.unsure(self._now_ms),
            founds=self.course.latecomer.unsettled,
            doubts=self.course.compares and self.course.why != STALE,
            scanned=self.phase is not Phase.FOUNDING,
            serves=self.course.serves,
            missing=self.catalog.not_installed(),
            purged=self.tombstones.purged,
            pending_files=files,
            pending_bytes=size,
            oldest_ms=max(0, self._now_ms - oldest_ms) if oldest_ms is not None else None,
        )

    def _may_scan(self) -> bool:
        taking_part = self.phase in (Phase.FOUNDING, Phase.TAKING_PART)
        return taking_part and not (self.root.fault or self.exchange.put_back or self.course.cautious)

    def _may_apply(self) -> bool:
        return not self.root.fault and self.course.takes_part

    def _hindrance(self) -> str:
        if self.root.fault:
            return self.root.fault
        if not self.course.takes_part:
            return "it is still beginning to take part"
        return "its catalog was put back" if self.exchange.put_back else ""

    def _take_root_reports(self) -> list[Effect]:
        reports, self.root.reports = self.root.reports, []
        return reports


def _is_due(due_ms: int | None, now_ms: int) -> bool:
    return due_ms is not None and due_ms <= now_ms
