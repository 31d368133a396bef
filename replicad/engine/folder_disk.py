"""The disk side of a folder: the watch's changes become hints, the scanner's finds become commits.

It counts hints, so that a fence can tell when all that were taken by some moment have been looked at (engine.through),
and asks the watch whether it has told everything before the scanner decides what is missing (engine.scan: only then is
it certain that a vanished entry was not moved). Where nothing is watched, everything is looked at again and again.

What a scan found is synced before it is committed, one `syncfs` a step (I2): what is told as held here, deletions
included, must still be so after a power loss. Else the next start would take the disk, put back by some seconds, for
its user's doing: an empty or an old file for an edit, a file that is there again for a new one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

from replicad.catalog.changes import Change as CatalogChange
from replicad.catalog.changes import Manifest, PutManifest
from replicad.catalog.store import Catalog
from replicad.core.diff import OTHER_KIND, OTHER_MOUNT
from replicad.core.draft import Draft
from replicad.core.effects import Effect, Report
from replicad.core.ids import Uid
from replicad.core.manifest import encode_whole
from replicad.engine.asking import Question
from replicad.engine.awaiting import BlockedObject
from replicad.engine.deletions import Missing
from replicad.engine.polling import Polling
from replicad.engine.scan import Scanner
from replicad.engine.scan_read import HashOutcome
from replicad.engine.scan_state import Reread
from replicad.engine.scan_step import Looked
from replicad.engine.through import Through
from replicad.engine.unclaimed import HELD_BACK
from replicad.files.changes import Change, Dirty, Marker, Moved, Overflow, RootGone, Unwatchable, Watch
from replicad.files.fs import DIRECTORY, FileSystem

NS_PER_MS = 1_000_000
SYNC_RETRY_MS = 10_000
"""The system tells of a write that failed once; what it could not write then is for its next look, of everything."""


class LocalSide:
    """Of one folder. Implements `engine.looking.Disk`; the scanner's drafts are committed here.

    `commit` stores a draft and offers what it made pending; `hindrance` says why nothing may be originated now; `hold`
    is told of deletions that are too many (engine.deletions).
    """

    def __init__(
        self,
        catalog: Catalog,
        fs: FileSystem,
        watch: Watch,
        scanner: Scanner,
        *,
        commit: Callable[[Draft, Sequence[CatalogChange], set[Uid]], None],
        hindrance: Callable[[], str],
        blocked: Callable[[], Sequence[BlockedObject]],
        hold: Callable[[Missing], None],
    ) -> None:
        self._hold = hold
        self._catalog = catalog
        self._fs = fs
        self._watch = watch
        self._commit = commit
        self._hindrance = hindrance
        self._list_blocked = blocked
        self.scanner = scanner
        self._through = Through(scanner, Question(fs, b"through"))
        self._polling = Polling(fs)
        self._fence_watched = False
        self._question = Question(fs, b"scan")
        self._turn = 0
        """Of the question."""
        self._told = 0
        """The turn up to which the watch has told everything; 0: it has not been asked since the last decisions."""
        self._unsynced_until_ms = 0
        """The disk could not be synced: it is not looked at before."""
        self.overflowed = False

    # -- what the fence asks (engine.looking.Disk)

    @property
    def watched(self) -> bool:
        return self._fence_watched and not self._polling.reason

    @property
    def hindrance(self) -> str:
        return self._hindrance()

    def dirty_generation(self) -> int:
        generation = self._through.want()
        self.scanner.hurry(generation)
        return generation

    def scanned_through(self) -> int:
        return self._through.through

    def look_everywhere(self) -> None:
        self.scanner.scan(since=self._through.next())

    def unread(self) -> Sequence[tuple[bytes, str]]:
        return [(path, why) for path, why in self.scanner.blocked() if why not in (OTHER_KIND, OTHER_MOUNT)]

    def blocked(self) -> Sequence[BlockedObject]:
        return self._list_blocked()

    def unwatchable(self) -> list[tuple[bytes, str]]:
        return self._polling.refused()

    @property
    def polled(self) -> str:
        """Why everything is looked at again and again; "" where all is watched."""
        return self._polling.reason

    def prove_events(self) -> None:
        """Now and then: that events arrive."""
        if self._fence_watched:
            self._polling.ask_again()

    def clock_set_back(self) -> None:
        self.scanner.clock_set_back()
        self._polling.clock_set_back()
        self._unsynced_until_ms = 0

    # -- what it is told

    def open(self) -> None:
        """Watch the fence, and look at everything: at the start, and when the watch begins anew."""
        self._question.drop()
        self._told = 0
        self._polling.begin()
        self._watch_fence()
        self.scanner.watch_begins()
        self.look_everywhere()

    def take(self, change: Change) -> list[Effect]:
        """A change that the watch reports, but a fence's marker, which is the caller's."""
        match change:
            case Dirty(directory, name, inode, renamed, closed):
                reread = Reread.IF_RECENT if closed else Reread.NO
                since = self._through.next(renamed=renamed)
                self.scanner.hint(directory, name, inode, since=since, reread=reread, came=renamed)
            case Moved(old, new):
                self.scanner.moved(old, new)
            case Overflow():
                self.overflowed = True
                self.open()
                return [Report(0, "the system lost change events; the whole folder is looked at again")]
            case Unwatchable():
                self._polling.refuse(change)
                return self._polling_reports()
            case RootGone(reason):
                self._through.next()
                return [Report(0, f"the folder's root is gone: {reason}")]
            case Marker(name):
                self._through.answered(name)
                if self._question.answered_by(name):
                    self._told = self._turn
                self._polling.marker(name)
                return self._polling_reports()
        return []

    def hint_paths(self, paths: Sequence[bytes]) -> None:
        """The applier met something that it did not expect there."""
        for path in paths:
            self.scanner.hint_path(path, since=self._through.next())

    def read_again(self, path: bytes) -> None:
        """Though the file looks as it did."""
        self.scanner.hint_path(path, since=self._through.next(), reread=Reread.YES)

    def look_beneath(self, path: bytes) -> None:
        """At this, and all beneath it: it was held back, and is not any more."""
        since = self._through.next()
        held_back = [at for at, why in self.scanner.blocked() if why.startswith(HELD_BACK)]
        for at in [path, *(at for at in held_back if at.startswith(path + b"/") or not path)]:
            self.scanner.hint_path(at, since=since)
        with suppress(OSError):  # the hint finds what is wrong
            stat = self._fs.stat(path)
            if stat is not None and stat.kind == DIRECTORY:
                self.scanner.scan(path, since=since)

    def hashed(self, directory: bytes, name: bytes, outcome: HashOutcome) -> None:
        self._through.changed()
        self.scanner.hashed(directory, name, outcome)

    def held(self, path: bytes, holders: str) -> list[Effect]:
        report = self.scanner.held(path, holders)
        return [report] if report is not None else []

    # -- work

    def next_due_ms(self, now_ms: int) -> int | None:
        if now_ms < self._unsynced_until_ms:
            return self._unsynced_until_ms
        if not self.scanner.idle or (self.scanner.unresolved and (self._told or not self._question.asked)):
            return now_ms
        due = [self.scanner.next_due_ms(), self._question.lost_ms, self._through.due_ms(now_ms)]
        due.append(self._polling.due_ms())
        return min([at for at in due if at is not None], default=None)

    def work(self, now_ms: int) -> list[Effect]:
        """One bounded look at the disk, committed. The caller tells the exchange and the fences of it."""
        if now_ms < self._unsynced_until_ms:
            return []
        self._poll(now_ms)
        due_ms = self.scanner.next_due_ms()
        effects = self._polling_reports()
        if not self.scanner.idle or (due_ms is not None and due_ms <= now_ms):
            draft = Draft(self._catalog)
            effects += self._store(draft, self.scanner.step(draft, now_ms * NS_PER_MS), now_ms)
        if self.scanner.idle:
            told, self._told = self._told, 0  # a marker counts once, and for what was open when it was made
            if self.scanner.unresolved and (told or not self._asks(now_ms)):
                draft = Draft(self._catalog)
                looked = self.scanner.resolve(draft, now_ms * NS_PER_MS, told or None)
                effects += self._store(draft, looked, now_ms)
        if not self.scanner.unresolved:
            self._question.drop()  # nothing waits for the answer: it must not be asked again when it is lost
        self._through.work(now_ms, watched=self._answers)
        if not self.scanner.scanning:
            self._polling.ended(now_ms)
        return effects

    def _poll(self, now_ms: int) -> None:
        if self._fence_watched:
            self._polling.test(now_ms)
        if not self.scanner.scanning and self._polling.begin_poll(now_ms):
            if not self._fence_watched:
                self._watch_fence()
            self.look_everywhere()

    def _watch_fence(self) -> None:
        self._fence_watched = False
        self._fence_watched = self._watch.watch_fence()
        self.prove_events()

    def _polling_reports(self) -> list[Effect]:
        reports, self._polling.reports = self._polling.reports, []
        return reports

    def _store(self, draft: Draft, looked: Looked, now_ms: int) -> list[Effect]:
        self._through.changed()
        if looked.missing is not None:
            self._hold(looked.missing)
        if not looked.root_ok or looked.void:
            return looked.effects
        try:
            if draft.states or draft.nodes:
                self._fs.sync_all()
        except OSError as error:
            self._unsynced_until_ms = now_ms + SYNC_RETRY_MS
            self.scanner.not_entered(looked)
            why = f"what has changed cannot be synced: {error.strerror or error}; see to the folder's disk"
            return [*looked.effects, Report(0, why)]
        changes: list[CatalogChange] = [
            PutManifest(Manifest(one.digest, encode_whole(one.manifest), one.stat.size))
            for one in looked.hashed
            if one.manifest is not None
        ]
        self._commit(draft, changes, looked.touched)
        return looked.effects

    @property
    def _answers(self) -> bool:
        """Whether a marker comes back through the watch."""
        return self._fence_watched and not self._polling.silent

    def _asks(self, now_ms: int) -> bool:
        """Whether the watch is being asked if it has told everything; False where there is none to be asked."""
        if not self._answers:
            return False
        lost_ms = self._question.lost_ms
        if lost_ms is not None and now_ms < lost_ms:
            return True
        if not self._question.ask(now_ms):
            return False  # what is missing is taken as such
        self._turn = self.scanner.ask_watch()
        return True
