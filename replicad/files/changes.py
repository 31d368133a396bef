"""What a watch reports. Events are hints about where to look; the disk is the truth.

The watch on a real disk (`watch`) and the feed of the tree in memory (tests/sim) report these same values, at the same
grain: per directory entry, after the fact, in the order in which the changes happened.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from replicad.files.fs import DIRECTORY, FileSystem, Stat
from replicad.files.paths import PRIVATE, join


@dataclass(frozen=True, slots=True)
class Dirty:
    """Something about the entry `name` of `directory` changed: it came, went, was written to, or its mode or times
    changed. A rename is two of these; of what lies beneath a renamed directory nothing is said. Where something is
    mounted on it or unmounted, that is told so, too, but in no order with other changes and markers.

    `inode` is the directory's own (0: not known); where the directory is by the time of the look, `Watch.where` knows.
    Whoever finds another directory there, or none, before the look or after it, has not looked at what this tells of,
    and looks again when more has been told.

    `renamed`: it came to this name from another one that is watched, so what had been told of it before was told there.

    `closed`: the last one who had it open for writing has closed it. He may have written through a mapping, of which
    nothing else told, and which need not have left another mtime than at the last look.
    """

    directory: bytes
    name: bytes
    inode: int = 0
    renamed: bool = False
    closed: bool = False


@dataclass(frozen=True, slots=True)
class Moved:
    """The watched directory that was at `old` is at `new`. It has been told by two `Dirty`, too.

    For those who keep paths: each `Dirty` told of `old` or beneath it, and not looked at yet, must be looked at beneath
    `new` as well (as well: two directories that are exchanged are two of these, one after the other).
    """

    old: bytes
    new: bytes


@dataclass(frozen=True, slots=True)
class Overflow:
    """Changes were lost. Everything must be scanned and watched anew from the root."""


@dataclass(frozen=True, slots=True)
class Marker:
    """`name` was created in `.replicad/fence/`. All changes made before that have been reported."""

    name: bytes


@dataclass(frozen=True, slots=True)
class Unwatchable:
    """Neither the directory `path` nor anything beneath it is watched; `reason` says why and what to do."""

    path: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class RootGone:
    """The root was moved, removed or unmounted: nothing more will be reported of it."""

    reason: str


Change = Dirty | Moved | Overflow | Marker | Unwatchable | RootGone


class Watched(NamedTuple):
    """A watched directory, wherever it is moved."""

    watch: int
    inode: int


class Watch(Protocol):
    """A watch over a folder's tree. `Change` values go to the callback that it was made with; the callback must only
    take them in, from whatever thread it is called.

    Who adds watches: the watch itself adds none but the fence's. The caller watches a directory, *then* lists it
    (`walk_and_watch` does so for a whole subtree), so that nothing between the two is missed. It does so for the root
    at the start and after `Overflow`, and for each directory that an entry told of by `Dirty` turns out to be while
    `is_watched` denies it. A directory that is renamed inside the watched tree stays watched, with all beneath it,
    whose changes are told under the new path; one moved anywhere else is not watched any more.
    """

    def watch_directory(self, path: bytes, parent: "Watched | None" = None) -> "Watched | None":
        """Watch one directory whose parent is watched (or the root). Again is no error, and corrects its path.

        None where it cannot be, which has then been told by `Unwatchable`; FileNotFoundError or NotADirectoryError
        where it is not there (any more), or something above it has been moved since, or its parent is not `parent`.
        """

    def begin_walk(self) -> None:
        """All is walked, from the root: what was walked before does not count as walked until it is met on the way. Who
        is moved past the walk is then looked into where he turns up."""

    def walked(self, directory: "Watched") -> None:
        """Everything beneath is watched, or was told to be unwatchable; nothing was missing on the way."""

    def is_watched(self, path: bytes) -> bool:
        """This directory is watched, and all beneath it was, once, since the last walk through everything began."""

    def where(self, inode: int) -> bytes | None:
        """The path, as far as has been told, of the watched directory with this inode; None where it is not watched
        (any more): if it is in the folder, it is walked or about to be."""

    def watch_fence(self) -> bool:
        """Watch `.replicad/fence/`, by the same queue as all else. Again after it was removed and made anew."""

    def close(self) -> None:
        """No callback runs after this has returned. Not to be called from a callback."""


@dataclass(frozen=True, slots=True)
class Listing:
    """One directory, listed to its end, or the error that kept it from being so (`entries` is empty then)."""

    path: bytes
    entries: list[tuple[bytes, Stat]]
    watched: bool
    error: OSError | None = None


@dataclass
class _Visit:
    """A directory on the way from the top to where the walk is."""

    watched: Watched | None
    waiting: list[bytes]
    complete: bool


def walk_and_watch(watch: Watch, fs: FileSystem, path: bytes) -> Generator[Listing, None, None]:
    """A directory and all beneath it, from the top down, each watched before it is listed.

    Not entered: `.replicad` of the root, what lies on another mount than `path`, and what is gone by the time its turn
    comes (its parent's watch tells of that). Beneath a directory that cannot be watched nothing is watched (a watch
    there would not notice that its own path changes), but it is listed all the same.

    A directory counts as walked when everything listed in it was found again in that very directory, and walked. If
    something was not, it may have been deleted, or a directory above it renamed under the walk; the events will tell,
    and who then asks whether the renamed one is watched must hear no.
    """
    top = fs.stat(path)
    if top is None:
        return
    if not path:
        watch.begin_walk()
    above: list[_Visit] = []
    waiting = [path]
    while above or waiting:
        if not waiting:
            done = above.pop()
            if done.complete and done.watched:
                watch.walked(done.watched)
            if above:
                above[-1].complete &= done.complete
                waiting = above[-1].waiting
            continue
        directory = waiting.pop()
        found = _watch_and_list(watch, fs, directory, above[-1] if above else None)
        if found is None:
            if above:
                above[-1].complete = False
            continue
        watched, listing = found
        yield listing
        waiting = [
            join(directory, name)
            for name, stat in reversed(listing.entries)
            if stat.kind == DIRECTORY and stat.mount == top.mount and (directory or name != PRIVATE)
        ]
        above.append(_Visit(watched, waiting, complete=listing.error is None))


def _watch_and_list(
    watch: Watch, fs: FileSystem, path: bytes, above: _Visit | None
) -> tuple[Watched | None, Listing] | None:
    """None where it is not there any more, or another directory than the one that was watched is."""
    watched: Watched | None = None
    try:
        if above is None or above.watched is not None:
            watched = watch.watch_directory(path, above.watched if above else None)
        stat, entries = fs.read_dir(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return watched, Listing(path, [], watched is not None, error)
    if watched is not None and stat.inode != watched.inode:
        return None
    return watched, Listing(path, entries, watched is not None)
