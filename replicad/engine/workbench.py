"""The workbench: from pending objects to batches of steps.

Pending objects wait in the catalog, not here (I8). The workbench walks through them in the order in which they became
pending (the *sweep*), a few at a time, plans each (engine.planner), and gives batches of steps to the applier. Objects
of which it is told (`offer`) come first. What has to wait is remembered with its reason, as long as there is room:

- for another object, by that object's UID: woken when something was done about it;
- for the end of a series (rule 7): asked for now and then;
- for something else to happen: woken when something was done;
- after trouble, or where the disk was not as believed: until a delay that doubles has passed;
- for content: core.fetching tells when it is there. Where that takes no more, the sweep stands still.

Where there is no room, and so that nothing is forgotten, the sweep begins again: after everything that waits has been
looked at in vain, ever more rarely. So neither one object that cannot be had nor 100,000 stop the others (I10, P18).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from functools import partial

import msgspec

from replicad.catalog.store import Catalog
from replicad.core.draft import Draft
from replicad.core.fetching import Fetching, Want
from replicad.core.ids import Uid
from replicad.core.steps import NeedContent, StepKind, node_path
from replicad.core.want import settle
from replicad.engine import acts
from replicad.engine.apply import BATCH_STEPS_MAX, Applied, Applier, staged_name
from replicad.engine.collecting import no_room_to_keep
from replicad.engine.intents import in_staging
from replicad.engine.planner import PLANS_A_ROUND, Planned, Planner
from replicad.engine.waiting import Waiting
from replicad.errors import FileTrouble
from replicad.files.fs import FileSystem

WINDOW_MAX = 20_000
"""Objects that are ready to be planned: 4 MB; the rest waits in the catalog."""
FRESH_RETRY_MS = 30
"""A file that was written to within acts.FRESH_NS is looked at again after this."""
SWEEP_REST_MS_PER_OBJECT = 1
"""How long the next sweep waits for each object that the last one planned in vain: it costs some 100 µs."""
SWEEP_REST_OFF_MS = 50
"""By how much each step done since shortens that rest."""
MISSING_PARENTS_MAX = 512
"""Asked for at a time (rule 10)."""
SURPRISED = "it changed here while it was to be replaced; it is looked at again"


class Round(msgspec.Struct):
    """What one call of `work` came to."""

    applied: Applied = msgspec.field(default_factory=Applied)
    stale: list[bytes] = msgspec.field(default_factory=list)
    """Names in staging that are no longer needed, to be removed if they are there."""
    missing_parents: set[Uid] = msgspec.field(default_factory=set)
    """Directories that are not known, and that something waits for."""
    idle: bool = False
    """The comparison with the disk was stored anew, though nothing was done to it: what is installed has changed."""
    more: bool = False
    """There is more to plan at once."""


class Workbench:
    """Of one folder; used by the thread that owns its catalog."""

    def __init__(self, catalog: Catalog, fs: FileSystem, fetching: Fetching, settled: Callable[[Uid], bool]) -> None:
        self._catalog = catalog
        self._fs = fs
        self._fetching = fetching
        self._settled = settled
        self._applier = Applier(catalog, fs)
        self._ready: dict[Uid, None] = {}
        self._starved: dict[Uid, None] = {}
        """To be planned when core.fetching takes more."""
        self._waiting = Waiting()
        self._cursor: tuple[int, Uid] = (0, b"")
        self._at_end = False
        self._end_commit = -1
        """The last commit when the sweep found nothing more."""
        self._again = False
        """Something was not looked at, or forgotten, since the sweep began."""
        self._in_vain = 0
        self._next_sweep_ms = 0

    # -- what it is told

    def offer(self, uids: Iterable[Uid]) -> None:
        """These objects are pending, or their content is staged, or what they waited for may have come."""
        for uid in uids:
            self._wake(uid)
            if not self._waiting.troubled(uid):
                self._make_ready(uid)

    def release(self) -> None:
        """A series has ended: what it brought may be settled."""
        self._waiting.ask_at_once()

    def retry(self, uid: Uid) -> None:
        """The disk at this object was looked at again: whatever the trouble was, try, unless that was tried often."""
        if uid in self._waiting and not self._waiting.may_hurry(uid):
            return
        self._wake(uid)
        if uid in self._waiting:
            self._make_ready(uid)

    def clock_set_back(self) -> None:
        """The times for which objects wait lie too far ahead."""
        for uid in self._waiting.timed():
            self._make_ready(uid)
        self._waiting.clock_set_back()
        self._next_sweep_ms = 0

    # -- what is asked of it

    def waiting(self) -> list[tuple[Uid, str]]:
        """Objects that cannot be installed for now, with a reason for operators; as many as are remembered."""
        return self._waiting.reasons()

    def next_due_ms(self, now_ms: int) -> int | None:
        if self._ready or (self._starved and self._fetching.room > 0) or self._is_news():
            return now_ms
        due = [self._waiting.next_due_ms(now_ms), self._next_sweep_ms if self._again else None]
        return min([at for at in due if at is not None], default=None)

    def _is_news(self) -> bool:
        """Whether anything was committed since the sweep found nothing more, and there is anything to be found."""
        waiting = self._catalog.pending_objects or self._applier.holding
        return bool(waiting) and self._end_commit != self._catalog.commits

    def work(self, now_ms: int) -> Round:
        """Plan one round and carry out one batch. Raises CatalogError."""
        done = Round()
        if self._applier.holding:
            self._take_in(self._applier.finish_held(now_ms), done, now_ms)
        self._fill(now_ms)
        if self._ready:
            self._work_on_ready(done, now_ms)
        if done.applied.done:
            self._next_sweep_ms -= SWEEP_REST_OFF_MS * len(done.applied.done)
            self._waiting.progress(now_ms)
        done.missing_parents = self._waiting.missing(MISSING_PARENTS_MAX)
        done.more = bool(self._ready) or self._is_news()
        return done

    def _work_on_ready(self, done: Round, now_ms: int) -> None:
        held, waiting = self._applier.held(), self._waiting
        stopped = (waiting.troubled, waiting.hopeless)
        no_room = partial(no_room_to_keep, self._fs)
        planner = Planner(self._catalog, self._settled, self._fetching, held, *stopped, BATCH_STEPS_MAX, no_room)
        planned = planner.gather(self._ready)
        self._take_planned(planned, done, now_ms)
        if planned.steps:
            applied = self._applier.run(planned.steps, now_ms)
            self._take_in(applied, done, now_ms)
            self._hold_back(planned, applied, now_ms)
            self._go_on(planned.accepted)

    def _hold_back(self, planned: Planned, applied: Applied, now_ms: int) -> None:
        """What had a step planned about another object, which failed, waits as that one does: it would be planned again
        at once, and again, for as long as the disk stays as it is."""
        failed = dict.fromkeys(applied.surprised, SURPRISED)
        failed |= {uid: error.reason for uid, error in applied.troubles}
        for uid, step in zip(planned.accepted, planned.steps, strict=True):
            if uid != step.uid and step.uid in failed:
                self._waiting.wait_after_trouble(uid, failed[step.uid], now_ms)

    # -- ready

    def _make_ready(self, uid: Uid) -> None:
        self._waiting.forget(uid)
        self._starved.pop(uid, None)
        if len(self._ready) < WINDOW_MAX:
            self._ready[uid] = None
        else:
            self._again = True

    def _wake(self, uid: Uid) -> None:
        """Something was done about this object: those that waited for it may go on."""
        for other in self._waiting.waiters(uid):
            self._make_ready(other)

    def _fill(self, now_ms: int) -> None:
        for uid in self._waiting.due(now_ms, self._settled):
            self._make_ready(uid)
        if self._fetching.room > 0:
            for uid in list(self._starved):
                self._make_ready(uid)
        if not self._ready and not self._starved:
            self._sweep(now_ms)

    def _sweep(self, now_ms: int) -> None:
        """The next objects in the order of pending. What is being fetched or remembered is not planned again; what is
        whole in staging is, as it may have come when there was no room to make it ready."""
        if self._at_end and self._again and now_ms >= self._next_sweep_ms:
            self._cursor, self._at_end, self._again, self._in_vain = (0, b""), False, False, 0
        while self._catalog.pending_objects and (rows := self._catalog.pending_after(*self._cursor, PLANS_A_ROUND)):
            self._cursor, self._at_end = rows[-1], False
            found = [uid for _, uid in rows if uid not in self._waiting and not self._fetching.awaited(uid)]
            if found:
                self._ready.update(dict.fromkeys(found))
                return
        if not self._at_end:
            self._next_sweep_ms = now_ms + SWEEP_REST_MS_PER_OBJECT * self._in_vain
        self._at_end, self._end_commit = True, self._catalog.commits

    # -- what a round came to

    def _take_planned(self, planned: Planned, done: Round, now_ms: int) -> None:
        for uid in planned.seen:
            self._ready.pop(uid, None)
        self._in_vain += len(planned.seen) - len(planned.accepted)
        for need in planned.needs:
            done.stale.extend(self._want(need))
        self._starved.update(dict.fromkeys(planned.starved))
        for uid, wait in planned.waits.items():
            if wait.missing_parent:
                room = self._waiting.wait_for(uid, wait.missing_parent, wait.reason, missing=True)
            elif wait.unsettled is not None:
                room = self._waiting.wait_until_settled(uid, wait.unsettled)
            elif wait.retry_ms:
                room = self._waiting.wait_until(uid, now_ms + wait.retry_ms, wait.reason)
            else:
                room = self._waiting.wait(uid, wait.reason)
            self._again |= not room
        for uid, blocker in planned.blocked.items():
            self._again |= not self._waiting.wait_for(uid, blocker)
        for uid in (*planned.waits, *planned.blocked, *planned.starved):
            done.stale.extend(self._fetching.park(uid))
        self._settle_idle(planned.idle, done, now_ms)
        for uid in planned.later:
            self._make_ready(uid)

    def _settle_idle(self, idle: list[Uid], done: Round, now_ms: int) -> None:
        """The comparison is made again, and stored."""
        if not idle:
            return
        draft = Draft(self._catalog)
        settle(draft, (), idle)
        for uid in idle:
            state = draft.object(uid)
            if state is not None and state.pending:
                self._waiting.wait(uid, "it is compared with the disk again")
        before = self._catalog.commits
        self._catalog.commit(draft, now_ms=now_ms)
        done.idle = self._catalog.commits != before

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
        return self._fetching.want(Want(need.uid, content.digest, content.size, content.cn, staged, local))

    def _take_in(self, applied: Applied, done: Round, now_ms: int) -> None:
        """What came of a batch; a round may have two, one of acts that had been cut off."""
        for step in applied.done:
            self._waiting.succeeded(step.uid)
            if step.kind == StepKind.PUT and step.node is None:
                self._fetching.forget(step.lead)  # what was staged is in the tree now
        for uid in applied.unstaged:
            self._fetching.drop_staged(uid)
        for uid in applied.surprised:
            self._waiting.wait_after_trouble(uid, SURPRISED, now_ms)
        for uid, error in applied.troubles:
            done.stale.extend(self._fetching.park(uid))
            self._waiting.wait_after_trouble(uid, error.reason, now_ms)
        for uid in applied.fresh:
            self._waiting.wait_until(uid, now_ms + FRESH_RETRY_MS)
        for uid in applied.installed:
            done.stale.extend(self._fetching.forget(uid))
        self._go_on({*applied.touched, *(uid for step in applied.done for uid in step.winners)})
        done.applied.extend(applied)

    def _go_on(self, uids: Collection[Uid]) -> None:
        """Something was done about these, or on their behalf."""
        for uid in sorted(uids):  # a set's order is another one in each process
            self._wake(uid)
        for state in self._catalog.objects(uids):
            if state.pending and state.record.uid not in self._waiting:
                self._make_ready(state.record.uid)


def remove_staged(fs: FileSystem, names: Iterable[bytes]) -> list[FileTrouble]:
    """Delete half-fetched or superseded contents of ours from staging. What the disk does not let go of lies there
    until the next start, and is returned."""
    troubles: list[FileTrouble] = []
    for name in names:
        try:
            fs.unlink(in_staging(name))
        except FileNotFoundError:
            continue
        except OSError as error:
            troubles.append(acts.trouble(in_staging(name), error))
    return troubles
