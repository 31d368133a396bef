"""One member: a value, and what each step makes of it. Each step is a function of that value and a few others alone,
so that what was done once to a member need not be done again (`space.Moves`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
from blake3 import blake3

from replicad.catalog.changes import Change as CatalogChange
from replicad.catalog.changes import Series, SetSeries
from replicad.core.absorb import absorb
from replicad.core.cnset import EMPTY, CNSet
from replicad.core.draft import Draft
from replicad.core.effects import Fetch, FetchedItem
from replicad.core.fetching import Fetching
from replicad.core.ids import Cn, MemberId, ReplicaId, Uid
from replicad.core.messages import ContentBackfill, ContentChange, Page, unseal
from replicad.core.outbox import Mark, Outbox
from replicad.core.records import DIRECTORY, Record, content_key, open_record, place_key
from replicad.core.series import Checkpoint, Row
from replicad.core.settling import Settling, _Part
from replicad.core.view import ROOT_NODE, STAGING_NODE, Node
from replicad.engine.disposal import QUIET_MS, settle_outs
from replicad.engine.exchange_intake import Intake
from replicad.engine.exchange_pages import Pager
from replicad.engine.intents import in_staging
from replicad.engine.recovery import recover
from replicad.engine.resume import WITNESS
from replicad.engine.scan import Scanner
from replicad.engine.scan_state import Reread
from replicad.engine.scan_step import Looked
from replicad.engine.workbench import Workbench, remove_staged
from replicad.files.changes import Change, Dirty, Moved
from tests.explore import disk as disks
from tests.explore.catalog import Catalog, Stored
from tests.explore.disk import Disk

PEER: MemberId = "peer"
PEER_OF = {1: 2, 2: 1}
"""By the one's replica id the other's."""
START_MS = 1_700_000_000_000
OPERATION_MS = 1_000_000
"""From one operation of a user to the next."""
LATER_MS = 500_000
"""After an operation replicad looks, hears and installs at this very time."""
LOOKS_MAX = 1_000
QUOTA_BYTES = 1 << 30
NS_PER_MS = 1_000_000


class Part(msgspec.Struct, frozen=True):
    """Of `core.settling`."""

    replica: ReplicaId
    head: int
    clean: bool
    closed: bool
    uids: frozenset[Uid] | None
    cns: CNSet | None


class Own(msgspec.Struct, frozen=True):
    """A hint of the applier's."""

    path: bytes


Hint = Change | Own


class Member(msgspec.Struct, frozen=True):
    """`stored` and `disk` outlive a crash; the rest does not.

    `row`: as `stored.row`, or later (R3). `told`, `offers`: of the link; None while it is down. `hints`: what the watch
    has told since the last scan; `unwatched`: a scan of the whole folder is owed.
    """

    stored: Stored
    disk: Disk
    row: Row
    parts: tuple[Part, ...] = ()
    checkpoints: tuple[Checkpoint, ...] = ()
    told: CNSet | None = None
    offers: CNSet | None = None
    hints: tuple[Hint, ...] = ()
    unwatched: bool = False


class Made(msgspec.Struct, frozen=True):
    """One register, as it was made (I2)."""

    cn: Cn
    content: bool
    uid: Uid
    key: tuple[object, ...]


class Step(msgspec.Struct, frozen=True):
    """What a step came to: the member, what it sends, what it made, how often it could have been killed."""

    member: Member
    pages: tuple[Page, ...] = ()
    made: tuple[Made, ...] = ()
    faults: int = 0


class Killed(BaseException):
    """kill -9, at this very instruction."""


def now_of(operations: int) -> int:
    return START_MS + operations * OPERATION_MS + LATER_MS


class _Rows:
    """Of `engine.exchange_memory.Memory` what the intake asks for: how far the one peer was read."""

    def __init__(self, row: Row) -> None:
        self.live = row

    def row(self, peer: MemberId, replica: ReplicaId) -> Row:
        return self.live

    def set_row(self, peer: MemberId, replica: ReplicaId, row: Row) -> None:
        self.live = row

    def row_changes(self, *more: tuple[MemberId, ReplicaId, Row]) -> list[CatalogChange]:
        return [SetSeries(Series(peer, replica, row.position, row.head)) for peer, replica, row in more]

    def rows_stored(self) -> None:
        """Nothing waits but the live one."""


class Living:
    """A member at work on one step; `kill_at`: before which mutating call or commit (or after that) it is killed."""

    def __init__(self, value: Member, operations: int, kill_at: int | None = None) -> None:
        self.now_ms = now_of(operations)
        self.disk_ns = (self.now_ms - 1_000) * NS_PER_MS
        """What is done now to the disk looks as if it had been done a moment ago: too old to be in doubt."""
        self.value = value
        self.catalog = Catalog(value.stored)
        self.fs = disks.build(value.disk, lambda: self.disk_ns)
        self.hints: list[Hint] = list(value.hints)
        self.watch = disks.watch(self.fs, self.hints.append)
        self.unwatched = value.unwatched
        self.rows = _Rows(value.row)
        self.settling = _settling(value.parts)
        self.told, self.offers = value.told, value.offers
        self.intake = Intake(self.catalog, absorb, self.rows, self.settling)  # type: ignore[arg-type]
        self.intake.meet(PEER)
        for checkpoint in value.checkpoints:
            self.intake._coverage[PEER].note(checkpoint)
        self.pages: list[Page] = []
        self.made: list[Made] = []
        self.faults = 0
        self.kill_at = kill_at
        self.catalog.committed = self._take_down
        self.catalog.at_commit = lambda draft: self._fault()
        self.fs.before_change = lambda method, paths: self._fault()

    def done(self) -> Step:
        self.fs.before_change = None
        parts = tuple(
            Part(
                one.replica, one.head, one.clean, one.closed, None if one.uids is None else frozenset(one.uids), one.cns
            )
            for one in self.settling._parts.get(PEER, ())
        )
        member = Member(
            self.catalog.take_down(),
            disks.take_down(self.fs),
            self.rows.live,
            parts,
            tuple(self.intake._coverage[PEER]._waiting),
            self.told,
            self.offers,
            _merged(self.hints),
            self.unwatched,
        )
        return Step(member, tuple(self.pages), tuple(self.made), self.faults)

    def _fault(self) -> None:
        if self.kill_at is not None and self.faults == self.kill_at:
            raise Killed
        self.faults += 1

    def _take_down(self, draft: Draft) -> None:
        """What this commit originates."""
        for state in draft.states.values():
            held = state.record
            for place_raw, content_raw in (
                (held.place_raw, held.content_raw),
                (state.base_place_raw, state.base_content_raw),
            ):
                if place_raw or content_raw:
                    self._note(open_record(held.uid, held.kind, place_raw, content_raw), draft.replica)

    def _note(self, one: Record, replica: ReplicaId) -> None:
        for content, register in ((False, one.place), (True, one.content)):
            if register is not None and register.replica == replica and register.counter > self.catalog.counter:
                key = content_key(one) if content else place_key(one)
                self.made.append(Made(register.cn, content, one.uid, tuple(key)))

    # -- looking

    def scan(self) -> None:
        """Everything that the watch has told of, to its end; everything, where a whole scan is owed."""
        scanner = Scanner(self.fs, self.watch, lambda: True, founding=lambda: False)
        if not self.unwatched:
            scanner._state.again = scanner._unwatched = False
        waiting, self.hints[:] = list(self.hints), []
        for change in waiting:
            if isinstance(change, Dirty):
                reread = Reread.IF_RECENT if change.closed else Reread.NO
                scanner.hint(change.directory, change.name, change.inode, reread=reread)
            elif isinstance(change, Moved):
                scanner.moved(change.old, change.new)
            elif isinstance(change, Own):
                scanner.hint_path(change.path)
            else:
                raise AssertionError(change)
        for _ in range(LOOKS_MAX):
            if not scanner.idle:
                self._look(scanner.step)
            elif scanner.unresolved:
                self._look(scanner.resolve)
            else:
                break
        assert scanner.at_rest, "a scan comes to its end"
        assert not scanner.blocked()
        self.unwatched = False

    def _look(self, work: Callable[[Draft, int], Looked]) -> None:
        draft = Draft(self.catalog)
        before = Mark(self.catalog.head, self.catalog.known)
        looked = work(draft, self.now_ms * NS_PER_MS)
        assert looked.root_ok
        self.catalog.commit(draft, now_ms=self.now_ms)
        self._push(before)

    def _push(self, before: Mark) -> None:
        outbox = Outbox()
        outbox.told = self.told
        added = self.catalog.known.minus(before.known)
        push = outbox.committed(before, self.catalog.head, added, self.now_ms)
        if push is not None:
            self.pages += self._pager().pushed(ContentChange, 0, push)

    def _pager(self) -> Pager:
        return Pager(self.catalog, self.settling, lambda: EMPTY)  # type: ignore[arg-type]  # nothing is forgotten here

    # -- the link

    def link_up(self, known: CNSet) -> None:
        self.told = self.offers = known

    def link_down(self) -> None:
        self.told = self.offers = None
        self.intake.part(PEER)
        self.intake.meet(PEER)
        self.catalog.row = self.rows.live

    def asked(self, base: CNSet, after: int) -> None:
        """The next page of a series, for the peer."""
        self._hear(base)
        page = self._pager().series(ContentBackfill, 0, after, base, 512)
        self.pages.append(page)

    def heard(self, replica: ReplicaId, head: int, known: CNSet) -> None:
        """The peer's status."""
        self._hear(known)
        assert self.offers is not None
        self.offers = self.offers.union(known)
        self.intake.cover(PEER, replica, head, known)

    def take(self, page: Page) -> None:
        assert self.offers is not None
        records = [unseal(wire) for wire in page.records]
        shown = CNSet.decode(page.known) if page.known is not None else None
        self.intake.take(PEER, page, records, shown, self.offers, self.now_ms)
        self._hear(CNSet.of(cn for record in records for cn in record.cns()))
        if shown is not None:
            self._hear(shown)
            self.offers = self.offers.union(shown)

    def _hear(self, cns: CNSet) -> None:
        assert self.told is not None
        self.told = self.told.union(cns)

    def expire(self) -> None:
        """The peer is silent for half a minute."""
        self.settling = Settling()

    # -- installing

    def install(self, bodies: Sequence[bytes]) -> None:
        """One step of the workbench; content that can be had is fetched for it."""
        fetching = Fetching(QUOTA_BYTES)
        bench = Workbench(self.catalog, self.fs, fetching, self.settling.settled)  # type: ignore[arg-type]
        bench._applier.holding = bool(self.catalog.intents())
        for _ in range(LOOKS_MAX):
            done = bench.work(self.now_ms)
            remove_staged(self.fs, done.stale)
            for path in done.applied.dirty:
                self.hints.append(Own(path))
            if done.applied.done or not (self._fetch(fetching, bench, bodies) or done.more):
                break
        self._clean_up()

    def _fetch(self, fetching: Fetching, bench: Workbench, bodies: Sequence[bytes]) -> bool:
        by_digest = {blake3(body).digest(): body for body in bodies}
        ready: list[Uid] = []
        for fetch in fetching.requests(self.now_ms, lambda cn: [PEER], lambda: [PEER], lambda digest: False):
            items = [self._bring(fetch, number, by_digest) for number in range(len(fetch.items))]
            ready += fetching.finish(fetch.ticket, items, self.now_ms)
        bench.offer(ready)
        return bool(ready)

    def _bring(self, fetch: Fetch, number: int, by_digest: dict[bytes, bytes]) -> FetchedItem:
        item = fetch.items[number]
        body = by_digest.get(item.digest)
        if body is None:
            return FetchedItem(item.uid, item.digest, item.staged, "nobody has it now")
        remove_staged(self.fs, [item.staged])
        with self.fs.create(in_staging(item.staged)) as file:
            file.write_at(0, body)
        return FetchedItem(item.uid, item.digest, item.staged)

    def _clean_up(self) -> None:
        """Quiet time passes; what was fetched and not put is let go."""
        settle_outs(self.catalog, self.fs, self.now_ms + QUIET_MS)  # type: ignore[arg-type]
        held = {node.name for node in self.catalog.nodes_in(STAGING_NODE)} | {WITNESS.rpartition(b"/")[2]}
        for name, stat in self.fs.list_dir(b".replicad/staging"):
            if name not in held and name.startswith(b"new-"):
                (self.fs.remove_dir if stat.kind == DIRECTORY else self.fs.unlink)(in_staging(name))

    # -- the end, and the next beginning

    def crash(self) -> Step:
        """kill -9, and a start: what is durable is there, the link is down."""
        self.fs.crash()
        self.watch.close()
        counted = self.faults
        stored = self.catalog.take_down()
        value = Member(stored, disks.take_down(self.fs), stored.row, unwatched=True)
        again = Living(value, 0)
        again.now_ms, again.disk_ns = self.now_ms, self.disk_ns
        again.fs.before_change = None
        recover(again.catalog, again.fs, self.now_ms)  # type: ignore[arg-type]
        again._clean_up()
        again.hints.clear()
        if stored.row.position < stored.row.head:
            again.settling.unfinished(PEER, PEER_OF[stored.replica], stored.row.head, self.now_ms)
        found = again.done()
        return Step(found.member, (), (*self.made, *found.made), counted)


def _merged(hints: Sequence[Hint]) -> tuple[Hint, ...]:
    """The scanner takes two that are equal for one, unless a directory was moved between them."""
    if any(isinstance(hint, Moved) for hint in hints):
        return tuple(hints)
    return tuple(dict.fromkeys(hints))


def _settling(parts: Sequence[Part]) -> Settling:
    made = Settling()
    for one in parts:
        part = _Part(one.replica, one.head, one.clean, START_MS)
        made._parts.setdefault(PEER, []).append(part)
        made._last_record_ms[PEER] = START_MS
        if one.uids is None:
            made._hold_everything(part)
        else:
            made._extend(part, set(one.uids), one.cns if one.cns is not None else EMPTY)
        part.closed = one.closed
    return made


def newborn(replica: ReplicaId) -> Member:
    """With an empty folder that was looked at."""
    fs = disks.build(disks.Disk(disks.Entry(DIRECTORY, 2, 0o755, 0, 0, 1, b"", False, False, ()), (), 2), lambda: 1)
    for path in (b".replicad", b".replicad/staging", *(b".replicad/" + store.encode() for store in _STORES)):
        fs.make_dir(path, 0o700)
    fs.create(WITNESS).close()
    stored = Stored(replica, 0, 0, EMPTY, 0, (), (), (), (), (), Row())
    catalog = Catalog(stored)
    draft = Draft(catalog)
    for number, name in ((ROOT_NODE, b""), (STAGING_NODE, b".replicad/staging")):
        stat = fs.stat(name)
        assert stat is not None
        draft.put_node(Node(number, 0, name, DIRECTORY, stat.inode, 0, 0, 0, stat.birth_ns, stat.mode))
    catalog.commit(draft, now_ms=START_MS)
    member = Member(catalog.take_down(), disks.take_down(fs), Row(), told=EMPTY, offers=EMPTY, unwatched=True)
    living = Living(member, 0)
    living.scan()
    return living.done().member


_STORES = ("fence", "ConflictAndDeleted", "PreExisting")
