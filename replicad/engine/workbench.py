"""The workbench: from pending objects to batches of steps.

Pending objects wait in the catalog, not here (I8): the workbench holds a window of them, plans each on the committed
state (core.plan), gathers steps that do not touch each other into a batch, and gives it to the applier. What must wait
is parked with its reason: for another object's step, until something was done; for trouble, until a delay that doubles
has passed. Parked objects never stop the others (I10).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec

from replicad.catalog.store import Catalog
from replicad.core.draft import Draft
from replicad.core.fetching import Fetching, Want
from replicad.core.ids import Uid
from replicad.core.plan import STAGING_PATH, Context, First, NeedContent, Step, StepKind, Wait, node_path, plan
from replicad.core.records import DIRECTORY
from replicad.core.view import Node, NodeId
from replicad.core.want import settle
from replicad.engine import acts
from replicad.engine.apply import BATCH_STEPS_MAX, Applied, Applier, staged_name
from replicad.files.fs import FileSystem

WINDOW_MAX = 20_000
"""Pending objects held here at a time: 4 MB; the rest waits in the catalog."""
PLANS_A_ROUND = 2_048
"""Objects planned in one go: bounds the time for which the folder's thread does nothing else (some 100 ms)."""
RETRY_FIRST_MS, RETRY_LAST_MS = 250, 60_000
"""Delay after trouble with one file, doubling: an editor's lock is soon gone, a read-only disk is not."""
FRESH_RETRY_MS = 30
"""A file that was written to within acts.FRESH_NS is looked at again after this."""


class Parked(msgspec.Struct):
    """`until_ms` None: until something else was done."""

    reason: str
    until_ms: int | None
    failures: int = 0
    path: bytes = b""


class Round(msgspec.Struct):
    """What one call of `work` came to."""

    applied: Applied = msgspec.field(default_factory=Applied)
    stale: list[bytes] = msgspec.field(default_factory=list)
    missing_parents: set[Uid] = msgspec.field(default_factory=set)
    more: bool = False
    """There is more to plan at once."""
    idle: int = 0
    """Objects that turned out to be as wanted: that was stored."""


class Workbench:
    """Of one folder; used by the thread that owns its catalog."""

    def __init__(self, catalog: Catalog, fs: FileSystem, fetching: Fetching, settled: Callable[[Uid], bool]) -> None:
        self._catalog = catalog
        self._fs = fs
        self._fetching = fetching
        self._settled = settled
        self._applier = Applier(catalog, fs)
        self._ready: dict[Uid, None] = {}
        self._parked: dict[Uid, Parked] = {}
        self._beyond = True
        """There may be pending objects in the catalog that are not in the window."""
        self._progress = False
        """Something was done since those that wait for others were last offered."""

    def offer(self, uids: Iterable[Uid]) -> None:
        """These objects are pending, or their content is staged, or what they waited for may have come."""
        for uid in uids:
            if len(self._ready) >= WINDOW_MAX:
                self._beyond = True
                return
            parked = self._parked.get(uid)
            if parked is None or not parked.failures:
                self._parked.pop(uid, None)
                self._ready[uid] = None

    def release(self) -> None:
        """Something that many may have waited for has happened: a series ended, a directory came, staging has room."""
        self.offer([uid for uid, parked in self._parked.items() if parked.until_ms is None])

    def retry(self, uid: Uid) -> None:
        """The disk at this object was looked at again: whatever the trouble was, try."""
        if uid in self._parked:
            del self._parked[uid]
            self._ready[uid] = None

    def waiting(self) -> list[tuple[Uid, str]]:
        """Parked objects with a reason for operators."""
        return [(uid, parked.reason) for uid, parked in self._parked.items() if parked.reason]

    def next_due_ms(self, now_ms: int) -> int | None:
        if self._ready or self._beyond:
            return now_ms
        due = [parked.until_ms for parked in self._parked.values() if parked.until_ms is not None]
        return min(due) if due else None

    def work(self, now_ms: int) -> Round:
        """Plan one round and carry out one batch. Raises what `Applier.run` raises."""
        self._wake(now_ms)
        self._refill()
        planner = _Planner(self._catalog, self._settled, self._fetching)
        batch = planner.gather(list(self._ready))
        done = Round(missing_parents=planner.missing_parents)
        for uid in planner.seen:
            self._ready.pop(uid, None)
        for need in planner.needs:
            done.stale.extend(self._want(need))
        self._settle_idle(planner.idle, now_ms)
        done.idle = len(planner.idle)
        for uid, wait in planner.waits.items():
            self._parked[uid] = Parked(wait.reason, None)
        self.offer(planner.later)
        if batch:
            done.applied = self._applier.run(batch, now_ms)
            self._take_in(done, planner.planned, now_ms)
        done.more = bool(self._ready or self._beyond) and (bool(done.applied.done) or not planner.stuck)
        self._progress |= bool(done.applied.done)
        if not self._ready and self._progress:
            self._progress = False
            self.release()
            done.more = bool(self._ready)
        return done

    def _wake(self, now_ms: int) -> None:
        for uid, parked in list(self._parked.items()):
            if parked.until_ms is not None and parked.until_ms <= now_ms:
                self._ready[uid] = None

    def _refill(self) -> None:
        if self._ready or not self._beyond:
            return
        limit = WINDOW_MAX + len(self._parked)
        found = self._catalog.pending(limit)
        self._beyond = len(found) >= limit
        for uid in found:
            if uid not in self._parked and self._fetching.wanted(uid) is None:
                self._ready[uid] = None

    def _settle_idle(self, idle: list[Uid], now_ms: int) -> None:
        """Pending by the catalog, but as the tree wants it: the comparison is made again, and stored."""
        if not idle:
            return
        draft = Draft(self._catalog)
        settle(draft, (), idle)
        still = [uid for uid in idle if (state := draft.object(uid)) is not None and state.pending]
        for uid in still:
            self._parked[uid] = Parked("it is compared with the disk again", now_ms + RETRY_LAST_MS)
        self._catalog.commit(draft, now_ms=now_ms)

    def _want(self, need: NeedContent) -> list[bytes]:
        content = need.content
        staged = staged_name(need.uid, content.digest)
        local: tuple[tuple[bytes, bytes], ...] = ()
        if need.node is not None:
            for state in self._catalog.objects(self._catalog.uids_at(need.node)):
                base = state.base_content
                if base is not None and base.size:
                    local = ((node_path(self._catalog, need.node), base.digest),)
                    break
        want = Want(need.uid, content.digest, content.size, content.cn, staged, local)
        return self._fetching.want(want)

    def _take_in(self, done: Round, planned: Sequence[Uid], now_ms: int) -> None:
        """`planned`: the objects for whose sake the steps of the batch were planned."""
        applied = done.applied
        for step in applied.done:
            self._parked.pop(step.uid, None)
            if step.kind == StepKind.PUT and step.node is None:
                self._fetching.forget(step.lead)  # what was staged is in the tree now
        for uid, error in applied.troubles:
            done.stale.extend(self._fetching.park(uid))
            held = self._parked.get(uid)
            failures = held.failures + 1 if held is not None else 1
            delay_ms = min(RETRY_LAST_MS, RETRY_FIRST_MS << min(failures - 1, 10))
            self._parked[uid] = Parked(error.reason, now_ms + delay_ms, failures, error.path)
        for uid in applied.fresh:
            self._parked[uid] = Parked("", now_ms + FRESH_RETRY_MS)
        pending = [state.record.uid for state in self._catalog.objects({*applied.touched, *planned}) if state.pending]
        for uid in pending:
            if uid not in self._parked and uid not in applied.touched and applied.dirty:
                # Where the disk was not as believed the scan looks; then it is tried again, whether or not the scan
                # finds anything: what surprised may be gone by then.
                self._parked[uid] = Parked("", now_ms + RETRY_FIRST_MS)
        self.offer(uid for uid in pending if uid not in self._parked)


class _Planner:
    """One round: plans objects, those first that others wait for, and gathers independent steps."""

    def __init__(self, catalog: Catalog, settled: Callable[[Uid], bool], fetching: Fetching) -> None:
        self._catalog = catalog
        self._context = Context(settled, fetching.staged)
        self._fetching = fetching
        self._entries: set[NodeId | tuple[NodeId, bytes]] = set()
        self.seen: dict[Uid, None] = {}
        self.steps: list[Step] = []
        self.planned: list[Uid] = []
        """For whom each of `steps` is."""
        self.needs: list[NeedContent] = []
        self.idle: list[Uid] = []
        self.waits: dict[Uid, Wait] = {}
        self.later: list[Uid] = []
        self.missing_parents: set[Uid] = set()
        self._closed = False
        self.stuck = False
        """Nothing was planned but what must wait for others."""

    def gather(self, ready: list[Uid]) -> list[Step]:
        for uid in ready:
            if self._closed or len(self.seen) >= PLANS_A_ROUND:
                break
            self._resolve(uid)
        self.stuck = not self.steps and not self.needs and not self.idle
        return self.steps

    def _resolve(self, uid: Uid) -> None:
        worklist: list[tuple[Uid, frozenset[Uid]]] = [(uid, frozenset())]
        while worklist and not self._closed:
            at, visiting = worklist.pop()
            if at in self.seen:
                continue
            self.seen[at] = None
            found = plan(self._catalog, at, msgspec.structs.replace(self._context, visiting=visiting))
            if isinstance(found, Step):
                self._accept(at, found)
            elif isinstance(found, First):
                first = [other for other in found.uids if other not in self.seen]
                if first:
                    worklist.extend((other, visiting | {at}) for other in first[:PLANS_A_ROUND])
                    self.later.append(at)
                else:
                    self.waits[at] = Wait()
            elif isinstance(found, NeedContent):
                self._need(at, found)
            elif isinstance(found, Wait):
                self.waits[at] = found
                if found.missing_parent:
                    self.missing_parents.add(found.missing_parent)
            else:
                self.idle.append(at)

    def _need(self, at: Uid, found: NeedContent) -> None:
        if self._fetching.full and self._fetching.wanted(found.uid) is None:
            self.waits[at] = Wait()
        else:
            self.needs.append(found)

    def _accept(self, at: Uid, step: Step) -> None:
        """Steps of a batch touch different entries; one that moves a directory ends the batch, as paths change."""
        entries: set[NodeId | tuple[NodeId, bytes]] = set()
        for node_id in (step.node, step.occupant):
            node = self._catalog.node(node_id) if node_id is not None else None
            if node is not None:
                entries.update((node.id, (node.parent, node.name)))
        if step.slot is not None:
            entries.add((step.parent, step.name))
        if entries & self._entries:
            self.later.append(at)
            return
        self._entries |= entries
        self.steps.append(step)
        self.planned.append(at)
        self._closed = len(self.steps) >= BATCH_STEPS_MAX or self._moves_directory(step)

    def _moves_directory(self, step: Step) -> bool:
        if step.kind not in (StepKind.MOVE, StepKind.SWAP, StepKind.LIFT, StepKind.PUT):
            return False
        moved: list[Node | None] = [self._catalog.node(n) for n in (step.node, step.occupant) if n is not None]
        return any(node is not None and node.kind == DIRECTORY for node in moved)


def remove_staged(fs: FileSystem, names: Iterable[bytes]) -> None:
    """Delete half-fetched or superseded contents of ours from staging. Raises FileTrouble."""
    for name in names:
        at = STAGING_PATH + b"/" + name
        try:
            fs.unlink(at)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise acts.trouble(at, error) from error
