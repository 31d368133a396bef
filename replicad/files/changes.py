"""What a watch reports. Events are hints about where to look; the disk is the truth.

The watch on a real disk (`watch`) and the feed of the tree in memory (tests/sim) report these same values, at the same
grain: per directory entry, after the fact, in the order in which the changes happened.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from replicad.files.fs import DIRECTORY, FileSystem, Stat
from replicad.files.paths import PRIVATE, join


@dataclass(frozen=True, slots=True)
class Dirty:
    """Something about the entry `name` of `directory` changed: it came, went, was written to, or its mode or times
    changed. A rename is two of these; of what lies beneath a renamed directory nothing is said."""

    directory: bytes
    name: bytes


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


Change = Dirty | Overflow | Marker | Unwatchable | RootGone


class Watch(Protocol):
    """A watch over a folder's tree. `Change` values go to the callback that it was made with; the callback must only
    take them in, from whatever thread it is called.

    Who adds watches: the watch itself adds none but the fence's. The caller watches a directory, *then* lists it
    (`walk_and_watch` does so for a whole subtree), so that nothing between the two is missed. It does so for the root
    at the start and after `Overflow`, and for each directory that an entry told of by `Dirty` turns out to be while
    `is_watched` denies it. A directory that is renamed inside the watched tree stays watched, with all beneath it,
    whose changes are told under the new path; one moved anywhere else is not watched any more.
    """

    def watch_directory(self, path: bytes) -> bool:
        """Watch one directory whose parent is watched (or the root). Again is no error, and corrects its path.

        False where it cannot be, which has then been told by `Unwatchable`; FileNotFoundError or NotADirectoryError
        where it is not there (any more).
        """

    def is_watched(self, path: bytes) -> bool: ...

    def watch_fence(self) -> bool:
        """Watch `.replicad/fence/`, by the same queue as all else. Again after it was removed and made anew."""

    def close(self) -> None:
        """No callback runs after this has returned."""


@dataclass(frozen=True, slots=True)
class Listing:
    """One directory, listed to its end, or the error that kept it from being so (`entries` is empty then)."""

    path: bytes
    entries: list[tuple[bytes, Stat]]
    watched: bool
    error: OSError | None = None


def walk_and_watch(watch: Watch, fs: FileSystem, path: bytes) -> Iterator[Listing]:
    """A directory and all beneath it, from the top down, each watched before it is listed.

    Not entered: `.replicad` of the root, what lies on another mount than `path`, and what is gone by the time its turn
    comes (its parent's watch tells of that). Beneath a directory that cannot be watched nothing is watched (a watch
    there would not notice that its own path changes), but it is listed all the same.
    """
    top = fs.stat(path)
    if top is None:
        return
    waiting = [(path, True)]
    while waiting:
        directory, parent_watched = waiting.pop()
        try:
            watched = parent_watched and watch.watch_directory(directory)
            entries = fs.list_dir(directory)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            yield Listing(directory, [], watched=False, error=error)
            continue
        yield Listing(directory, entries, watched)
        waiting.extend(
            (join(directory, name), watched)
            for name, stat in reversed(entries)
            if stat.kind == DIRECTORY and stat.mount == top.mount and (directory or name != PRIVATE)
        )
