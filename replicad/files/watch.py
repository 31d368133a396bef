"""The watch over a folder on a disk: inotify, by watchdog's `InotifyFD` with a callback of our own.

watchdog's own observers pair moves by a linear search and drop their queue when it overflows: a burst of 20,000 files
lost 15,000. `InotifyFD` alone (it is private: the version is pinned) reads the kernel's queue and hands each event to
its callback; here that goes through `WatchNodes`, which knows the paths, and out again by the batch that one read
brought, each value once: a burst of writes to one file is one `Dirty`.

- Directories are watched through handles (`/proc/self/fd/N`), so depth and symlinks do not matter.
- `.replicad` is not watched, but for `.replicad/fence`, by the same inotify instance: its queue keeps the order of
  everything that happened in the folder, so what came before a marker is told before it.
- A file is told of when it is created, at writes (IN_MODIFY, coalesced by the kernel and by batch, so that one held
  open for long is seen), and when it is closed after writing. A write through mmap shows at the closing alone.
- What is mounted in the folder, or unmounted, is told by files.mounts, in a thread of its own, as a change of the entry
  that it covers. A mount over the root, or the root's own unmounting, shows when the root's path is looked at.
- When the kernel's queue overflows, the instance is thrown away with all its watches, and a new one begins: that
  leaves nothing half-known, while removing the watches one by one would fill the queue again. Markers on their way are
  lost with it.

Threads: one reader, and one for the mounts. `watch_directory` and the other methods may be called from any, but not
from a callback, nor with a lock held that the callback takes: what a call finds out is told in its own thread before it
returns.
"""

import errno
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from watchdog.observers.inotify_c import (
    CallbackId,
    InotifyConstants,
    InotifyEvent,
    InotifyFD,
    Mask,
    WatchDescriptor,
    inotify_rm_watch,
)

from replicad.files.changes import Change, Dirty, Marker, Overflow, RootGone, Unwatchable, Watched
from replicad.files.mounts import MountWatch, SystemTable, Table
from replicad.files.paths import split
from replicad.files.real_fs import RealFileSystem
from replicad.files.root_marker import FENCE
from replicad.files.watch_nodes import WatchNodes
from replicad.files.watch_places import WatchPlaces

_CALLBACK = CallbackId(0)
_MASK = Mask(
    InotifyConstants.IN_MODIFY
    | InotifyConstants.IN_ATTRIB
    | InotifyConstants.IN_CLOSE_WRITE
    | InotifyConstants.IN_MOVED_FROM
    | InotifyConstants.IN_MOVED_TO
    | InotifyConstants.IN_CREATE
    | InotifyConstants.IN_DELETE
    | InotifyConstants.IN_DELETE_SELF
    | InotifyConstants.IN_MOVE_SELF
    | InotifyConstants.IN_ONLYDIR
    | InotifyConstants.IN_EXCL_UNLINK
)
_FENCE_MASK = Mask(InotifyConstants.IN_CREATE | InotifyConstants.IN_MOVED_TO | InotifyConstants.IN_ONLYDIR)


class _Reader(InotifyFD):
    """One inotify instance and the thread that reads it, until it is stopped or its queue overflows."""

    def __init__(self, callback: "_Callback", name: str) -> None:
        self._resources_open = True
        super().__init__()
        self.name = name
        self._callback = callback

    def run(self) -> None:
        try:
            while self.should_keep_running():
                for event in self.read_events():
                    self.handle_event(event)
                self._callback.on_batch_end()
        finally:
            # InotifyFD leaves its descriptors open when it is stopped before its first read.
            with self._lock:
                self._closed = True
                self._close_resources()

    def watch(self, handle: int, mask: Mask) -> int:
        """Watch the directory behind an open handle; the number of its watch, the same for the same directory."""
        with self._lock:
            if self._closed:
                raise OSError(errno.EBADF, "the watch is closed")
            watch = self._get_or_create_watch(b"/proc/self/fd/%d" % handle, mask)
            if watch.wd == -1:
                # InotifyFD takes EACCES for success, and keeps the -1.
                del self._watch_for_wd[watch.wd]
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            watch.callbacks[_CALLBACK] = self._callback
            return watch.wd

    def unwatch(self, watch: int) -> None:
        with self._lock:
            wd = WatchDescriptor(watch)
            self._watch_for_wd.pop(wd, None)
            if not self._closed:
                inotify_rm_watch(self._inotify_fd, wd)  # EINVAL where the directory has gone meanwhile

    def close(self) -> None:
        with self._lock:
            self._watch_for_wd.clear()  # they go with the instance; one by one would take seconds
        super().close()

    def _close_resources(self) -> None:
        if self._resources_open:
            self._resources_open = False
            super()._close_resources()


class _Callback:
    """What a reader calls; it knows its reader's generation, so that one that was retired is not heard any more."""

    def __init__(self, watcher: "Watcher", generation: int) -> None:
        self._watcher = watcher
        self._generation = generation

    def on_event(self, event: InotifyEvent) -> None:
        self._watcher.take_event(self._generation, event)

    def on_watch_deleted(self, wd: WatchDescriptor) -> None:
        self._watcher.take_watch_gone(self._generation, wd)

    def on_queue_overflow(self) -> None:
        self._watcher.take_overflow(self._generation)

    def on_batch_end(self) -> None:
        self._watcher.tell()


class Watcher:
    """`Watch` on a real disk. Watches from its making until `close`."""

    def __init__(
        self,
        fs: RealFileSystem,
        on_change: Callable[[Change], None],
        open_table: Callable[[], Table] = SystemTable,
    ) -> None:
        """`open_table`: of the mounts; given by tests alone."""
        self._fs = fs
        self._on_change = on_change
        self._lock = threading.Lock()
        self._telling = threading.Lock()
        """Held while changes are told, so that they are told in order; taken before `_lock`."""
        self._forget_everything()
        self._fence: int | None = None
        self._changes: list[Change] = []
        self._generation = 0
        self._reader: _Reader | None = None
        self._no_reader = OSError(errno.EBADF, "the watch is closed")
        self._retired: list[_Reader] = []
        self._closed = False
        self._in_place = True
        """Whether the root's path led to the root when the mounts had changed."""
        with self._lock:
            self._start_reader()
        self._mounts = self._watch_mounts(open_table)

    def watch_directory(self, path: bytes, parent: Watched | None = None) -> Watched | None:
        try:
            with self._placing():
                return self._places.watch_directory(path, parent)
        except (FileNotFoundError, NotADirectoryError):
            raise
        except OSError as error:
            self._refused(path, error)
            return None

    def begin_walk(self) -> None:
        with self._lock:
            self._nodes.begin_walk()

    def walked(self, directory: Watched) -> None:
        with self._lock:
            self._nodes.walked(directory.watch)

    def is_watched(self, path: bytes) -> bool:
        with self._placing():
            node = self._places.find(path)
            return node is not None and self._nodes.is_walked(node)

    def where(self, inode: int) -> bytes | None:
        with self._lock:
            return self._nodes.where(inode)

    def watch_fence(self) -> bool:
        try:
            handle = self._fs.open_directory(FENCE)
            try:
                with self._lock:
                    self._fence = self._running().watch(handle, _FENCE_MASK)
            finally:
                os.close(handle)
        except (FileNotFoundError, NotADirectoryError):
            raise
        except OSError as error:
            self._refused(FENCE, error)
            return False
        return True

    def close(self) -> None:
        if self._mounts is not None:
            self._mounts.close()
            self._mounts = None
        with self._lock:
            self._closed = True
            self._generation += 1
            self._changes.clear()
            readers = [*self._retired, *([self._reader] if self._reader is not None else [])]
            self._retired, self._reader = [], None
            self._no_reader = OSError(errno.EBADF, "the watch is closed")
        for reader in readers:
            reader.stop()
            reader.join()

    # The system, for `WatchPlaces`; with the lock held.

    def open(self, path: bytes) -> int:
        return self._fs.open_directory(path)

    def close_handle(self, handle: int) -> None:
        os.close(handle)

    def identify(self, handle: int) -> tuple[int, int]:
        return os.fstat(handle).st_ino, os.stat("..", dir_fd=handle).st_ino

    def inode_at(self, path: bytes) -> int | None:
        found = self._fs.stat(path)
        return found.inode if found is not None else None

    def add_watch(self, handle: int) -> int:
        return self._running().watch(handle, _MASK)

    # From the reader's thread.

    def take_event(self, generation: int, event: InotifyEvent) -> None:
        with self._lock:
            if generation != self._generation:
                return
            if event.wd == self._fence:
                if event.name:
                    self._changes.append(Marker(event.name))
                return
            self._nodes.on_event(event.wd, event.mask, event.cookie, event.name)
            self._after_nodes()

    def take_watch_gone(self, generation: int, watch: int) -> None:
        with self._lock:
            if generation != self._generation:
                return
            if watch == self._fence:
                self._fence = None
            self._nodes.on_watch_gone(watch)

    def take_overflow(self, generation: int) -> None:
        with self._lock:
            if generation != self._generation or self._reader is None:
                return
            # 1. Whatever the new instance brings comes after this; so a marker never hides what was lost.
            self._changes.append(Overflow())
            overflown, self._reader = self._reader, None
            self._retired = [reader for reader in self._retired if reader.is_alive()]
            self._retired.append(overflown)
            self._forget_everything()
            had_fence, self._fence = self._fence is not None, None
            self._generation += 1
        overflown.stop()  # ends this very thread, once it is out of its batch
        with self._lock:
            if not self._closed and self._reader is None:
                self._start_reader()
        if had_fence:
            try:
                self.watch_fence()
            except (FileNotFoundError, NotADirectoryError):
                pass  # it was removed, which the scan that follows finds

    def tell(self) -> None:
        """Hand over what a batch brought, in order, whichever reader brought it. After `close` there is nothing."""
        with self._telling:
            with self._lock:
                changes, self._changes = dict.fromkeys(self._changes), []
            for change in changes:
                self._on_change(change)

    # From the mounts' thread.

    def take_mounts(self, changed: Sequence[bytes]) -> None:
        """The table of mounts is another one; these places of the folder are concerned."""
        was_in_place, self._in_place = self._in_place, self._fs.root_in_place()
        with self._lock:
            if was_in_place and not self._in_place:
                self._changes.append(RootGone("the folder's path leads elsewhere since a change of the mounts"))
            self._changes.extend(Dirty(*split(path)) for path in changed)
        self.tell()

    @contextmanager
    def _placing(self) -> Iterator[None]:
        """With the lock held; what was found to have moved is told afterwards."""
        try:
            with self._lock:
                try:
                    yield
                finally:
                    self._after_nodes()
                    is_told = not self._changes
        finally:
            if not is_told:
                self.tell()

    # With the lock held.

    def _forget_everything(self) -> None:
        self._nodes = WatchNodes()
        self._places = WatchPlaces(self._nodes, self)

    def _start_reader(self) -> None:
        self._generation += 1
        callback = _Callback(self, self._generation)
        try:
            reader = _Reader(callback, f"replicad-watch-{self._generation}")
        except OSError as error:
            self._no_reader = error
            return
        reader.start()
        self._reader = reader

    def _running(self) -> _Reader:
        if self._reader is None and not self._closed:
            self._start_reader()  # what kept it from being made may be over
        if self._reader is None:
            raise OSError(self._no_reader.errno, self._no_reader.strerror)
        return self._reader

    def _after_nodes(self) -> None:
        nodes = self._nodes
        if nodes.changes:
            self._changes.extend(nodes.changes)
            nodes.changes.clear()
        if nodes.unwatch:
            for watch in nodes.unwatch:
                if self._reader is not None:
                    self._reader.unwatch(watch)
            nodes.unwatch.clear()

    # Without it.

    def _watch_mounts(self, open_table: Callable[[], Table]) -> MountWatch | None:
        """None where the system does not tell: then they are found by full scans."""
        try:
            return MountWatch(self._fs.current_path, self.take_mounts, open_table())
        except OSError:
            return None

    def _refused(self, path: bytes, error: OSError) -> None:
        if not self._closed:
            self._on_change(Unwatchable(path, _reason(error)))


def _reason(error: OSError) -> str:
    """Why there is no watch; where a limit is reached, which one, what it is, and how to raise it."""
    if error.errno == errno.ENOSPC:
        setting = "max_user_watches"
        return (
            f"cannot be watched: all inotify watches are used; raise the sysctl fs.inotify.{setting} ({_now(setting)})"
        )
    if error.errno == errno.EMFILE:
        setting = "max_user_instances"
        return (
            "cannot be watched: all inotify instances are used, or all files this process may open; raise the sysctl "
            f"fs.inotify.{setting} ({_now(setting)}), or ulimit -n"
        )
    return f"cannot be watched: {error.strerror}"


def _now(setting: str) -> str:
    try:
        with open(f"/proc/sys/fs/inotify/{setting}", encoding="ascii") as file:
            return f"now {file.read().strip()}"
    except OSError:
        return "now unknown"
