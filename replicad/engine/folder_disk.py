"""The disk side of a folder: the watch's changes become hints, the scanner's finds become commits.

It counts hints, so that a fence can tell when all that were taken by some moment have been looked at, and it passes
markers of its own through the watch before the scanner decides what is missing (engine.scan: only then is it certain
that a vanished entry was not moved). Where nothing is watched, everything is looked at again and again instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from replicad.catalog.changes import Change as CatalogChange
from replicad.catalog.changes import Manifest, PutManifest
from replicad.catalog.store import Catalog
from replicad.core.diff import OTHER_KIND, OTHER_MOUNT
from replicad.core.draft import Draft
from replicad.core.effects import Effect, Report
from replicad.core.ids import Uid
from replicad.core.manifest import encode_whole
from replicad.engine.awaiting import BlockedObject
from replicad.engine.looking import FENCE_PATH
from replicad.engine.scan import Scanner
from replicad.engine.scan_read import HashOutcome
from replicad.engine.scan_step import Looked
from replicad.files.changes import Change, Dirty, Marker, Moved, Overflow, RootGone, Unwatchable, Watch
from replicad.files.fs import FileSystem

NS_PER_MS = 1_000_000
POLL_INTERVAL_MS = 10_000
"""How often everything is looked at where a part of the folder cannot be watched."""
UNWATCHABLE_MAX = 1_000
"""Directories listed as not watched; one that is not listed is polled with the rest all the same."""
MARKER_MAX_MS = 5_000
"""A marker that has not come by then was lost: another one is made."""


class LocalSide:
    """Of one folder. Implements `engine.looking.Disk`; the scanner's drafts are committed here.

    `commit` stores a draft and offers what it made pending; `hindrance` says why nothing may be originated now.
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
    ) -> None:
        self._catalog = catalog
        self._fs = fs
        self._watch = watch
        self._commit = commit
        self._hindrance = hindrance
        self._list_blocked = blocked
        self.scanner = scanner
        self._generation = 0
        self._through = 0
        self._oldest_known = False
        self._unwatchable: dict[bytes, str] = {}
        self._fence_watched = False
        self._polled_ms = 0
        self._marker = b""
        self._marker_ms = 0
        self._marker_turn = 0
        self._markers = 0
        self._told = 0
        """The turn up to which the watch has told everything; 0: it has not been asked since the last decisions."""
        self.overflowed = False

    # -- what the fence asks (engine.looking.Disk)

    @property
    def watched(self) -> bool:
        return self._fence_watched and not self._unwatchable

    @property
    def hindrance(self) -> str:
        return self._hindrance()

    def dirty_generation(self) -> int:
        return self._generation

    def scanned_through(self) -> int:
        if self._through < self._generation and not self._oldest_known:
            self._oldest_known = True  # until the next event: it costs a look at all that waits
            oldest = self.scanner.oldest()
            self._through = max(self._through, self._generation if oldest is None else oldest - 1)
        return self._through

    def look_everywhere(self) -> None:
        self.scanner.scan(since=self._next_generation())

    def unread(self) -> Sequence[tuple[bytes, str]]:
        return [(path, why) for path, why in self.scanner.blocked() if why not in (OTHER_KIND, OTHER_MOUNT)]

    def blocked(self) -> Sequence[BlockedObject]:
        return self._list_blocked()

    def unwatchable(self) -> list[tuple[bytes, str]]:
        return sorted(self._unwatchable.items())

    # -- what it is told

    def open(self) -> None:
        """Watch the fence, and look at everything: at the start, and when the watch begins anew."""
        self._unwatchable.clear()
        self._marker, self._told = b"", 0
        self._fence_watched = self._watch.watch_fence()
        self.look_everywhere()

    def take(self, change: Change) -> list[Effect]:
        """A change that the watch reports, but a fence's marker, which is the caller's."""
        match change:
            case Dirty(directory, name, inode):
                self.scanner.hint(directory, name, inode, since=self._next_generation())
            case Moved(old, new):
                self.scanner.moved(old, new)
            case Overflow():
                self.overflowed = True
                self.open()
                return [Report(0, "the system lost change events; the whole folder is looked at again")]
            case Unwatchable(path, reason):
                if len(self._unwatchable) < UNWATCHABLE_MAX:
                    self._unwatchable[path] = reason
                return [Report(0, f"not watched, and looked at every {POLL_INTERVAL_MS // 1000} s: {reason}", path)]
            case RootGone(reason):
                self._next_generation()
                return [Report(0, f"the folder's root is gone: {reason}")]
            case Marker(name) if name == self._marker:
                self._marker = b""
                self._remove_marker(name)
                self._told = self._marker_turn
        return []

    def hint_paths(self, paths: Sequence[bytes]) -> None:
        """The applier met something that it did not expect there."""
        for path in paths:
            self.scanner.hint_path(path, since=self._next_generation())

    def _next_generation(self) -> int:
        self._generation += 1
        self._oldest_known = False
        return self._generation

    def hashed(self, directory: bytes, name: bytes, outcome: HashOutcome) -> None:
        self._oldest_known = False
        self.scanner.hashed(directory, name, outcome)

    # -- work

    def next_due_ms(self, now_ms: int) -> int | None:
        if not self.scanner.idle or (self.scanner.unresolved and (self._told or not self._marker)):
            return now_ms
        due = [at for at in (self.scanner.next_due_ms(),) if at is not None]
        if self._marker:
            due.append(self._marker_ms + MARKER_MAX_MS)
        if not self.watched:
            due.append(self._polled_ms + POLL_INTERVAL_MS)
        return min(due, default=None)

    def work(self, now_ms: int) -> list[Effect]:
        """One bounded look at the disk, committed. The caller tells the exchange and the fences of it."""
        if not self.watched and now_ms >= self._polled_ms + POLL_INTERVAL_MS and not self.scanner.scanning:
            self._polled_ms = now_ms
            self.look_everywhere()
        due_ms = self.scanner.next_due_ms()
        effects: list[Effect] = []
        self._oldest_known = False
        if not self.scanner.idle or (due_ms is not None and due_ms <= now_ms):
            draft = Draft(self._catalog)
            effects = self._store(draft, self.scanner.step(draft, now_ms * NS_PER_MS))
        if self.scanner.idle:
            told, self._told = self._told, 0  # a marker counts once, and for what was open when it was made
            if self.scanner.unresolved and (told or not self._pass_marker(now_ms)):
                draft = Draft(self._catalog)
                effects += self._store(draft, self.scanner.resolve(draft, now_ms * NS_PER_MS, told or None))
        return effects

    def _store(self, draft: Draft, looked: Looked) -> list[Effect]:
        if not looked.root_ok:
            return []
        changes: list[CatalogChange] = [
            PutManifest(Manifest(one.digest, encode_whole(one.manifest), one.stat.size))
            for one in looked.hashed
            if one.manifest is not None
        ]
        self._commit(draft, changes, looked.touched)
        return looked.effects

    def _pass_marker(self, now_ms: int) -> bool:
        """Make a marker that the watch will report; False where there is none to wait for."""
        if not self._fence_watched:
            return False
        if self._marker and now_ms < self._marker_ms + MARKER_MAX_MS:
            return True
        self._remove_marker(self._marker)
        self._markers += 1
        name = b"scan-%d" % self._markers
        try:
            self._fs.create(FENCE_PATH + b"/" + name).close()
        except FileExistsError:
            self._remove_marker(name)
            return self._pass_marker(now_ms)
        except OSError:
            return False  # no space for an empty file, or the directory is gone: what is missing is taken as such
        self._marker, self._marker_ms, self._marker_turn = name, now_ms, self.scanner.ask_watch()
        return True

    def _remove_marker(self, name: bytes) -> None:
        if name:
            try:
                self._fs.unlink(FENCE_PATH + b"/" + name)
            except OSError:
                pass  # removed with its directory, or left to the next start (engine.looking)
