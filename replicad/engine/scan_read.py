"""Reading what a file or symlink contains, for the scan: what may be believed, what must be read later, what cannot be.

A version counts if the file was the same before and after it was read. A file that is being written is tried again
after 1 s, doubling to 60 s, and from the third time on it is reported as blocked (4302); a file that is open but rests
is read like any other. A file whose times are too fresh to trust is read at once and once more when they are not (a
large one only then). A large file is hashed by others (`HashFile`), so that it does not hold up the folder's thread;
its digest counts if the file still is as it was when it was read.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from replicad.core.diff import trusted_from
from replicad.core.effects import Effect, HashFile, Report
from replicad.core.records import SYMLINK
from replicad.engine.acts import trouble
from replicad.engine.scan_moves import Place
from replicad.errors import FileTrouble
from replicad.files.fs import FileSystem, Stat
from replicad.files.hashing import BeingWritten, Hashed, hash_file
from replicad.files.paths import split

NS_PER_MS = 1_000_000
LARGE_BYTES = 8 * 1_048_576
"""Hashed elsewhere from here on: up to here a file takes the folder's thread less than some 10 ms."""
HASHING_MAX = 32
"""Large files in hashing at a time: more than the threads that do it; the rest waits here as places, 100 bytes each."""
BUSY_FIRST_MS, BUSY_LAST_MS = 1_000, 60_000
BUSY_REPORTED_AT = 3
"""From this try on a file that is being written is blocked, and said to be."""
TROUBLED_RETRY_MS = 60_000
"""A file that cannot be read is tried again after this, though no event told that the cause is gone."""
FILE_BEING_WRITTEN = 4302
"""REQUIREMENTS R6: DFSR's number for a sharing violation."""

HashOutcome = Hashed | BeingWritten | FileTrouble


@dataclass(frozen=True, slots=True)
class Read:
    """`trusted_ms`: when to look again, because the times were too fresh; None where they can be trusted."""

    digest: bytes = b""
    value: bytes = b""
    hashed: Hashed | None = None
    trusted_ms: int | None = None


@dataclass(frozen=True, slots=True)
class NotNow:
    """Nothing is known yet. `due_ms`: when to look again (None: when the hash comes); `reason`: why it is blocked.

    `gone`: nothing is at the path since it was looked at.
    """

    due_ms: int | None = None
    reason: str = ""
    report: Report | None = None
    gone: bool = False


class _Busy(msgspec.Struct):
    tries: int
    tried_ms: int
    since: int


class Reader:
    """Reads for one scanner. Holds what is in hashing, and which files were found being written; of each the generation
    (engine.scan_state)."""

    def __init__(self, fs: FileSystem) -> None:
        self._fs = fs
        self._hashing: dict[bytes, dict[Place, int]] = {}
        """By the path that was told to those who hash: the places that wait for it. A directory may be renamed
        meanwhile, of which nobody is told for what is in it; a place stays the same."""
        self._hashed: dict[Place, tuple[bytes, HashOutcome]] = {}
        """Answers, until the place is looked at, with the path at which the file was read."""
        self._to_hash: dict[Place, int] = {}
        self._busy: dict[Place, _Busy] = {}
        self._fresh: dict[Place, int] = {}
        """Large files that are read once their times can be trusted."""

    @property
    def hashing(self) -> bool:
        """Whether digests of large files are still to come."""
        return bool(self._hashing or self._to_hash)

    @property
    def unsettled(self) -> bool:
        """Whether a file is being written that has not been reported as blocked yet, or is to be read in a moment."""
        return bool(self._fresh) or any(busy.tries < BUSY_REPORTED_AT for busy in self._busy.values())

    def oldest(self) -> int | None:
        """The lowest generation of what is still to be read: what makes it `hashing` or `unsettled`."""
        busy = (one.since for one in self._busy.values() if one.tries < BUSY_REPORTED_AT)
        waiting = (*self._hashing.values(), self._to_hash, self._fresh)
        return min([*busy, *(since for one in waiting for since in one.values())], default=None)

    def take_hash(self, path: bytes, outcome: HashOutcome) -> list[tuple[Place, int]]:
        """The answer to a `HashFile`; the places that must be looked at now, each with its generation: those that wait
        for it, and those that waited for room. None where nobody had asked."""
        waiting = self._hashing.pop(path, {})
        for place in waiting:
            if len(self._hashed) >= HASHING_MAX:
                self._hashed.clear()  # of files that were moved or removed meanwhile: hashed anew if they turn up
            self._hashed[place] = (path, outcome)
        free = max(HASHING_MAX - len(self._hashing), 0)
        freed = list(self._to_hash.items())[:free]
        for place, _ in freed:
            del self._to_hash[place]
        return [*waiting.items(), *freed]

    def may_try(self, place: Place, now_ms: int) -> int | None:
        """For a file that was being written and of which there is news: when to look, None for at once."""
        busy = self._busy.get(place)
        due_ms = busy.tried_ms + BUSY_FIRST_MS if busy is not None else now_ms
        return due_ms if due_ms > now_ms else None

    def start_over(self) -> None:
        """All is to be looked at anew; answers that are on their way still come."""
        self._busy.clear()
        self._fresh.clear()
        self._to_hash.clear()
        self._hashed.clear()

    def forget(self, place: Place) -> None:
        """There is nothing to be read here (any more)."""
        self._busy.pop(place, None)
        self._fresh.pop(place, None)
        self._hashed.pop(place, None)

    def read(
        self, place: Place, path: bytes, stat: Stat, now_ns: int, since: int, effects: list[Effect]
    ) -> Read | NotNow:
        """What is there now, which looked like `stat`. `since`: the generation of what asks for it."""
        since = min(since, self._fresh.pop(place, since))
        trusted_ns = trusted_from(stat, now_ns)
        trusted_ms = -(-trusted_ns // NS_PER_MS) if trusted_ns > now_ns else None
        try:
            if stat.kind == SYMLINK:
                self.forget(place)
                return Read(value=self._fs.read_link(path), trusted_ms=trusted_ms)
            if stat.size > LARGE_BYTES:
                return self._read_large(place, path, stat, now_ns // NS_PER_MS, trusted_ms, since, effects)
            return self._judge(place, path, hash_file(self._fs, path, stat), now_ns // NS_PER_MS, trusted_ms, since)
        except FileNotFoundError:
            self.forget(place)
            return NotNow(gone=True)
        except FileTrouble as error:
            return self._troubled(place, error, now_ns)
        except OSError as error:
            return self._troubled(place, trouble(path, error), now_ns)

    def _read_large(
        self,
        place: Place,
        path: bytes,
        stat: Stat,
        now_ms: int,
        trusted_ms: int | None,
        since: int,
        effects: list[Effect],
    ) -> Read | NotNow:
        read_at, outcome = self._hashed.pop(place, (path, None))
        if isinstance(outcome, Hashed) and _same(outcome.stat, stat):
            return self._judge(place, path, outcome, now_ms, None, since)
        if read_at == path:  # else what was read there, if anything, was another file
            if isinstance(outcome, FileTrouble):
                raise outcome
            if outcome is not None:
                return self._judge(place, path, BeingWritten(path), now_ms, None, since)
        waiting = self._hashing.get(path)
        if waiting is not None:
            waiting[place] = min(waiting.get(place, since), since)
            return NotNow()
        if trusted_ms is not None:
            self._fresh[place] = since
            return NotNow(trusted_ms)
        if len(self._hashing) >= HASHING_MAX:
            self._to_hash[place] = min(self._to_hash.get(place, since), since)
            return NotNow()
        self._hashing[path] = {place: since}
        effects.append(HashFile(*split(path)))
        return NotNow()

    def _judge(
        self, place: Place, path: bytes, outcome: Hashed | BeingWritten, now_ms: int, trusted_ms: int | None, since: int
    ) -> Read | NotNow:
        if isinstance(outcome, Hashed):
            self.forget(place)
            return Read(outcome.digest, hashed=outcome, trusted_ms=trusted_ms)
        busy = self._busy.get(place)
        tries = busy.tries + 1 if busy is not None else 1
        self._busy[place] = _Busy(tries, now_ms, since if busy is None else min(since, busy.since))
        due_ms = now_ms + min(BUSY_LAST_MS, BUSY_FIRST_MS << min(tries - 1, 10))
        if tries < BUSY_REPORTED_AT:
            return NotNow(due_ms)
        reason = f"it is being written: it changed each of the {tries} times it was read; it is tried again"
        report = Report(FILE_BEING_WRITTEN, reason, path) if tries == BUSY_REPORTED_AT else None
        return NotNow(due_ms, reason, report)

    def _troubled(self, place: Place, error: FileTrouble, now_ns: int) -> NotNow:
        self.forget(place)
        return NotNow(now_ns // NS_PER_MS + TROUBLED_RETRY_MS, error.reason)


def _same(one: Stat, other: Stat) -> bool:
    return (one.inode, one.size, one.mtime_ns, one.ctime_ns) == (
        other.inode,
        other.size,
        other.mtime_ns,
        other.ctime_ns,
    )
