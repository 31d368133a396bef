"""What users wrote and took off: all that may be concluded afterwards stands here, and nothing else is.

Contents are unique, so a content is a fact: *written* once, on one member, at one path.

- **I3.** It is live or preserved somewhere, unless a user *took off* a copy of it: overwrote or deleted the file while
  it held that content, on any member. That alone excuses: a version that lost to another must be preserved by whoever
  had it on its disk, if only for an instant, since what comes out of the tree is looked at.
- **I7.** It is in no tree if the user who took it off *had been shown to replicad* before: the file had lain there,
  unchanged, for `SEEN_S` with the daemon up (`takes_off`, `seen`), or it was written on another member: then replicad
  had put it there, and noted so before it did. Excused are
  - contents of files of which a user changed mode or mtime, anywhere: a version of its own with the same bytes;
  - files that were renamed and whose old name another file took before replicad had surely looked: no disk tells that
    from an editor that keeps a backup, and a backup is a copy, of which whoever deletes the original has seen nothing.
- **I4.** What a reader finds is a content that was written whole, or a state that its author made on the way
  (`passing`): empty after a truncation, the first of two pieces.

What could not be told: between the look at a path and the act on it replicad may replace what is there. The inode tells
that it did (`acts`), but not what was taken off instead: so many missing contents cannot be concluded from
(`untold`).
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.torture.contents import FILE, key_of

SEEN_S = 8.0
"""Within so much time a daemon that is up has looked at a change, on a machine that others use too."""
WHOLE_WRITE_BYTES = 4_096
"""More than a page is not written in one piece: a reader may see a beginning of it."""
LINES_SHOWN_MAX = 30


class Entry(NamedTuple):
    """Of the history."""

    at_s: float
    member: str
    what: str
    paths: tuple[bytes, ...]
    keys: tuple[str, ...] = ()

    def show(self) -> str:
        paths = " ".join(repr(path)[1:] for path in self.paths)
        return f"{self.at_s:9.3f} {self.member:<4} {self.what} {paths} {' '.join(key[:12] for key in self.keys)}"


class Left(NamedTuple):
    """A content that a rename took away from a path."""

    key: str
    at_s: float


@dataclass
class Ledger:
    began_s: float = field(default_factory=time.monotonic)
    written: dict[str, str] = field(default_factory=dict)
    """By key: where, for people."""
    authors: dict[str, str] = field(default_factory=dict)
    """By key: on which member; "" for what all had before they met."""
    passing: set[str] = field(default_factory=set)
    taken_off: dict[str, str] = field(default_factory=dict)
    condemned: dict[str, str] = field(default_factory=dict)
    """Taken off by a user whose member had seen them."""
    affirmed: set[str] = field(default_factory=set)
    copied: set[str] = field(default_factory=set)
    """That may be an editor's backup."""
    untold: list[str] = field(default_factory=list)
    strange: list[str] = field(default_factory=list)
    """Contents met on a disk that nobody wrote."""
    history: list[Entry] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    _left: dict[tuple[str, bytes], list[Left]] = field(default_factory=dict)
    _beginnings: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.passing.add(key_of(FILE, b""))

    def now_s(self) -> float:
        return time.monotonic() - self.began_s

    def note(self, member: str, what: str, *paths: bytes, keys: tuple[str, ...] = ()) -> None:
        self.history.append(Entry(self.now_s(), member, what, paths, keys))

    # -- what users do

    def wrote(self, member: str, path: bytes, kind: str, data: bytes) -> None:
        key = key_of(kind, data)
        assert key not in self.written, "contents are unique"
        self.authors[key] = member
        self.written[key] = f"written on {member} at {path!r}, {len(data)} bytes"
        if kind == FILE and len(data) > WHOLE_WRITE_BYTES:
            self._beginnings.append(data)
        self.note(member, "wrote", path, keys=(key,))

    def passes(self, data: bytes) -> None:
        self.passing.add(key_of(FILE, data))

    def takes_off(self, member: str, path: bytes, kind: str, data: bytes, *, seen: bool) -> None:
        key = key_of(kind, data)
        self.taken_off[key] = member
        seen = seen or self.authors.get(key, member) not in (member, "")
        if seen:
            self.condemned.setdefault(key, f"{member} at {path!r}, {self.now_s():.1f} s")
        self.note(member, "took off (seen)" if seen else "took off", path, keys=(key,))

    def cannot_tell(self, member: str, path: bytes) -> None:
        """Something else than what was looked at was taken off `path`."""
        self.untold.append(f"{self.now_s():.1f} s {member} {path!r}")
        self.note(member, "took off what replicad had just put at", path)

    def affirms(self, member: str, path: bytes, kind: str, data: bytes) -> None:
        key = key_of(kind, data)
        self.affirmed.add(key)
        self.note(member, "set mode or mtime of", path, keys=(key,))

    def copies(self, kind: str, data: bytes) -> None:
        """There may be two objects of this content from here on."""
        self.copied.add(key_of(kind, data))

    def leaves(self, member: str, path: bytes, kind: str, data: bytes) -> None:
        """By a rename."""
        self._left.setdefault((member, path), []).append(Left(key_of(kind, data), self.now_s()))

    def arrives(self, member: str, path: bytes, up_for_s: float) -> None:
        """A file takes this name."""
        left = self._left.pop((member, path), [])
        looked_s = self.now_s() - SEEN_S if up_for_s > SEEN_S else 0.0
        self.copied |= {one.key for one in left if one.at_s > looked_s}

    def all_have(self) -> None:
        """Copies of one disk, made by hand: all that was written so far is on every member."""
        self.authors = dict.fromkeys(self.authors, "")

    # -- what is found

    def meets(self, member: str, path: bytes, kind: str, data: bytes) -> None:
        """I4: a reader's look at a file."""
        if not self.is_known(kind, data):
            self.strange.append(f"{self.now_s():.1f} s {member} {path!r}: {len(data)} bytes, {data[:80]!r}")
            self.note(member, "shows what nobody wrote", path, keys=(key_of(kind, data),))

    def is_known(self, kind: str, data: bytes) -> bool:
        key = key_of(kind, data)
        if key in self.written or key in self.passing:
            return True
        return kind == FILE and any(whole.startswith(data) for whole in self._beginnings)

    def about(self, *, keys: set[str], paths: set[bytes] = frozenset()) -> list[str]:  # type: ignore[assignment]
        """The history of contents and paths, and of the paths at which those contents were."""
        found = paths | {path for entry in self.history if keys & set(entry.keys) for path in entry.paths}
        lines = [
            entry.show()
            for entry in self.history
            if keys & set(entry.keys) or any(_touches(path, found) for path in entry.paths)
        ]
        left_off = len(lines) - LINES_SHOWN_MAX
        return lines if left_off <= 0 else [f"({left_off} earlier lines)", *lines[-LINES_SHOWN_MAX:]]


def _touches(path: bytes, found: set[bytes]) -> bool:
    return any(path == one or one.startswith(path + b"/") for one in found)
