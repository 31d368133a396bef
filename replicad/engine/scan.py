"""The scan: what the disk shows, held against the nodes, becomes local changes in a draft (`core.local`).

Hints (a watch's, an applier's) and listings say where to look; the disk alone says what is there. Looking goes in steps
of bounded work, so that the folder's thread can do other things in between, and every step leaves the catalog right:

1. `step` looks at places: a name in a directory. What is certain is entered at once: new entries, edits, moves to a
   free name. What is not stays *open*: an entry that is missing may turn up elsewhere, one that stands where another
   did may have come from where nobody has looked yet.
2. When nothing is left to look at, and the watch has told everything up to then (the caller's affair: a marker passed
   through it), `resolve` decides what is open: moves over names that others held, swaps and chains, and only then
   deletions. What a full scan left open waits for its end: only a complete scan deletes (I6). What is moved while it
   decides is waited for (engine.scan_resolve).

A directory is watched, then listed (`files.changes.walk_and_watch`), so nothing falls between the two. Where it is
moved before that listing could be used, or before a walk comes to it, it is walked where it is then: of what is in a
directory that is watched already its move tells nothing (`ScanState.follow_moved`, `Watch.begin_walk`). One that cannot
be read, or is on another mount, says nothing about what is beneath it, and is blocked with its reason. Before and
after each step the root must be the folder's (`root_ok`); else the step is void: the caller drops the draft, calls
again when it has reason to think that the root is back, and a scan begins anew.

The applier changes disk and nodes together, in the same thread, so what it does shows no difference here: no echo.
"""

from __future__ import annotations

from collections.abc import Callable

from replicad.core.diff import PRIVATE
from replicad.core.draft import Draft
from replicad.core.effects import Effect, Report
from replicad.engine.deletions import TooMany
from replicad.engine.scan_read import LARGE_BYTES, HashOutcome, Reader
from replicad.engine.scan_resolve import Resolver
from replicad.engine.scan_state import Hint, Reread, ScanState
from replicad.engine.scan_step import NS_PER_MS, HoldsBack, Looked, Step, Waits
from replicad.files.changes import Watch
from replicad.files.fs import FileSystem
from replicad.files.paths import join, split


class Scanner:
    """Of one folder; used by the thread that owns its catalog. Begins with a scan of the whole folder."""

    def __init__(
        self,
        fs: FileSystem,
        watch: Watch,
        root_ok: Callable[[], bool],
        *,
        founding: Callable[[], bool],
        large_bytes: int = LARGE_BYTES,
        too_many: TooMany = lambda draft, gone, before: 0,
        holds_back: HoldsBack = lambda draft, place, stat, now_ms: "",
        waits: Waits = lambda draft, now_ms: False,
    ) -> None:
        """`founding`: whether what appears now is an original (rule 6). `large_bytes`: a file of more is hashed by
        others. `too_many`: whether what a scan finds gone is held (engine.deletions). `holds_back`: why what
        appears was there before (engine.unclaimed); `waits`: whether nothing may be decided to be gone before some of
        that has been looked at."""
        self._too_many = too_many
        self._fs = fs
        self._watch = watch
        self._root_ok = root_ok
        self._founding = founding
        self._holds_back = holds_back
        self._waits = waits
        self._reader = Reader(fs, large_bytes)
        self._state = ScanState()
        self._full_scans = 0
        self._unwatched = True
        """Until a whole scan has ended since the watch began: what it had not reached was changed nobody knows when."""
        self._unwatched_before = True
        """Before the last one ended."""

    # What is asked of it.

    @property
    def idle(self) -> bool:
        """Nothing is left to look at now; what is open waits for `resolve`."""
        state = self._state
        return not (state.places or state.hints or state.walks or state.again)

    @property
    def unresolved(self) -> bool:
        """Something is open that can be decided once the watch has told everything up to now."""
        state = self._state
        return bool(state.doomed or state.lost or state.any_to_ripen)

    @property
    def at_rest(self) -> bool:
        """All that was hinted at has been looked at, read and decided, but for what is blocked."""
        return self.idle and not self.unresolved and not self._reader.hashing and not self._reader.unsettled

    def oldest(self) -> int | None:
        """The lowest generation of what is not looked at, read and decided yet; None where all is, as in `at_rest`.

        What is blocked does not count, nor what is only looked at once more.
        """
        found = (self._state.oldest(), self._reader.oldest())
        return min((since for since in found if since is not None), default=None)

    @property
    def scanning(self) -> bool:
        """A scan of the whole folder is to be made, runs, or has found what is not decided or hashed yet."""
        state = self._state
        return state.again or state.walking or state.ending

    @property
    def full_scans(self) -> int:
        """How many scans of the whole folder came to their end since the start."""
        return self._full_scans

    def blocked(self) -> list[tuple[bytes, str]]:
        """Paths that are not replicated from here, each with its reason, by path."""
        return sorted((path, reason) for path, (reason, _) in self._state.blocked.items())

    def next_due_ms(self) -> int | None:
        """When something must be looked at again though nothing has told of it."""
        return self._state.due.first_ms()

    # What it is told.

    def clock_set_back(self) -> None:
        """The times at which something was to be looked at again lie too far ahead."""
        self._reader.clock_set_back()
        self._state.wake_all()

    def hurry(self, generation: int) -> None:
        """Somebody waits for everything up to this generation: nothing of that is held back (engine.scan_pace)."""
        for place, since in self._reader.hurry(generation).items():
            self._state.hasten(place, since)

    def hint(
        self,
        directory: bytes,
        name: bytes,
        inode: int = 0,
        *,
        since: int = 0,
        own: bool = False,
        reread: Reread = Reread.NO,
        by_scan: bool = False,
        came: bool = False,
    ) -> None:
        """Something about this entry may have changed. `inode`: of the directory, 0 where it is not known. `since`: the
        hint's generation. `own`: it is the applier's, not the watch's. `by_scan`: nobody saw when it changed.
        `came`: something came there by a rename."""
        if name and (directory or name) != PRIVATE and directory.partition(b"/")[0] != PRIVATE:
            inodes = (inode,) if inode else ()
            self._state.add_hint(directory, name, Hint(inodes, since, own, reread, by_scan, came))

    def hint_path(self, path: bytes, *, since: int = 0, reread: Reread = Reread.NO) -> None:
        """As `hint`, for a path at which the applier met something, or that is to be read. It knows as little as a scan
        of when that was changed, where it was before the watch: after a crash, or a stop."""
        if path:
            self.hint(*split(path), since=since, own=True, reread=reread, by_scan=self._unwatched)

    def watch_begins(self) -> None:
        """(Anew.) What changed up to now was not watched; a scan of the whole folder is the caller's affair."""
        self._unwatched = True

    def ask_watch(self) -> int:
        """The watch is being asked whether it has told everything; the turn, for `resolve` once it has."""
        return self._state.ask()

    def moved(self, old: bytes, new: bytes) -> None:
        """The watch has told that a directory was moved: what it told under its old path is to be found there."""
        lost = [(entry, hint) for entry, (hint, _) in self._state.lost.beneath(old)]
        for (directory, name), hint in [*self._state.hints.beneath(old), *lost]:
            self._state.add_hint(new + directory[len(old) :], name, hint._replace(own=False))
        self._state.move_blocked(old, new)
        self._state.follow_moved(old, new)

    def hashed(self, directory: bytes, name: bytes, outcome: HashOutcome) -> None:
        """The answer to a `HashFile`."""
        for place, why in self._reader.take_hash(join(directory, name), outcome):
            self._state.add(place, why)

    def held(self, path: bytes, holders: str) -> Report | None:
        """The answer to a `WhoHolds`; what operators are to be told."""
        reason, report = self._reader.take_holders(path, holders)
        if reason:
            self._state.block(path, reason)
        return report

    def scan(self, path: bytes = b"", *, since: int = 0) -> None:
        """Look at a directory and all beneath it; the whole folder by default. Begins anew where one is running."""
        if path:
            self._state.walk(path, full=True, since=since)
        else:
            self._state.scan_again(since)

    # Looking.

    def step(self, draft: Draft, now_ns: int) -> Looked:
        """Look at some of what waits. The draft is laid over the catalog as it is; raises nothing of the disk's."""
        if self._state.again and not self._state.walking:
            self._state.begin_scan()
        return self._guarded(draft, now_ns, Step.run)

    def resolve(self, draft: Draft, now_ns: int, told: int | None = None) -> Looked:
        """Decide what is open. To be called when `idle`, and the watch has told all that it knew at the turn `told`
        (None: now); what was left open since then waits for the next.

        It may leave more to look at, and more to decide: large deletions go in pieces, and what was moved just now has
        to be told of first (`Looked.void`).
        """
        if self._waits(draft, now_ns // NS_PER_MS):
            return Looked(void=True)
        turn = told if told is not None else self.ask_watch()
        state = self._state
        if told is not None and told <= state.astray and not state.doomed and state.wait_for_another():
            return Looked(void=True)
        state.told(turn)
        try:
            looked = self._guarded(
                draft, now_ns, lambda step: Resolver(step, turn, self._too_many, asks=told is not None).run()
            )
            if not looked.void:
                state.put_off = 0
            return looked
        finally:
            state.turn = state.asked
            state.before = None
            state.doubt_blocked()

    def _guarded(self, draft: Draft, now_ns: int, work: Callable[[Step], None]) -> Looked:
        """Only where the root is the folder's, before and after."""
        effects: list[Effect] = []
        if self._root_ok():
            parts = (self._state, self._reader, self._fs, self._watch, self._founding)
            step = Step(*parts, draft, now_ns, self._holds_back)
            work(step)
            looked, effects = step.looked, step.looked.effects
            if looked.missing is not None:
                self.start_over()
                return Looked(root_ok=False, effects=looked.effects, missing=looked.missing)
            if not looked.void:
                step.finish()
            if self._root_ok():
                looked.ended = self._end_scan()
                return looked
        self.start_over()
        return Looked(root_ok=False, effects=effects)

    def start_over(self) -> None:
        """What was found and is not entered is to be found once more, by a scan of the whole folder."""
        self._state.start_over()
        self._reader.start_over()

    def not_entered(self, looked: Looked) -> None:
        """What a step found could not be committed: it is to be found again, and a scan that ended with it has not."""
        if looked.ended:
            self._full_scans -= 1
            self._unwatched = self._unwatched_before
        self.start_over()

    def _end_scan(self) -> bool:
        """A scan has ended when everything it found is decided."""
        if not self._state.ending or self._state.scan_left or self._reader.hashing:
            return False
        self._state.ending = False
        self._unwatched_before = self._unwatched
        self._unwatched &= self._state.again
        self._state.prune_blocked()
        self._full_scans += 1
        return True
