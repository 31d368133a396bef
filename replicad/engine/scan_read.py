"""Reading what a file or symlink contains, for the scan: what may be believed, what must be read later, what cannot be.

A version counts if the file was the same before and after it was read. A file that is being written is tried again
after 1 s, doubling to 60 s, or sooner when it has rested for a moment; from the third time on it is blocked, with who
holds it open where the system tells (`WhoHolds`), and reported (4302). A file that is open but rests is read like any
other. A file whose times are too fresh to trust is read at once, twice in a row (files.hashing), and once more when
they are not; a large one only then, and if they never are, it is being written. A large file is hashed by others
(`HashFile`), so that it does not hold up the folder's thread; its digest counts if the file still is as it was when it
was read. A file that changes again and again is not read each time (engine.scan_pace).

So what is told to others was there at one instant, as far as size and times tell, and nothing else is: who fetches it
checks the digest, and a file that has changed since it was read is not served as what it was.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from replicad.core.diff import trusted_from
from replicad.core.effects import Effect, HashFile, Report, WhoHolds
from replicad.core.records import SYMLINK
from replicad.engine.acts import trouble
from replicad.engine.scan_moves import Place
from replicad.engine.scan_pace import Pace
from replicad.engine.scan_state import Why
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
REST_FIRST_MS, REST_LAST_MS = 100, 1_000
"""After a rest of so long, doubling with each try, a file that was being written is tried before its time: events tell
of it at every write, and reading a large one costs much more than a look."""
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
    gone: bool = False


class _Busy(msgspec.Struct):
    path: bytes
    since: int
    tries: int = 0
    tried_ms: int = 0
    looked_ms: int = 0
    reported: bool = False
    holders: str = ""

    @property
    def due_ms(self) -> int:
        return self.tried_ms + min(BUSY_LAST_MS, BUSY_FIRST_MS << min(self.tries - 1, 10))

    @property
    def reason(self) -> str:
        """Empty while it is not blocked."""
        if self.tries < BUSY_REPORTED_AT:
            return ""
        who = f"; {self.holders} has it open" if self.holders else ""
        return f"it is being written: it changed each of the {self.tries} times it was read{who}; it is tried again"

    def may_read_ms(self, stat: Stat, now_ms: int) -> int:
        """When it may be read: in its turn, or when it has rested."""
        changed_ms = max(stat.mtime_ns, stat.ctime_ns) // NS_PER_MS
        if changed_ms > now_ms:
            return self.due_ms  # by another clock, or set
        return min(self.due_ms, changed_ms + min(REST_LAST_MS, REST_FIRST_MS << min(self.tries - 1, 10)))


class _Fresh(msgspec.Struct, frozen=True):
    """A large file whose times could not be trusted, each time it was looked at since `from_ms`."""

    since: int
    from_ms: int


class Reader:
    """Reads for one scanner. Holds what is in hashing, and which files were found being written; of each the generation
    (engine.scan_state)."""

    def __init__(self, fs: FileSystem, large_bytes: int) -> None:
        self._fs = fs
        self._large_bytes = large_bytes
        self._hashing: dict[bytes, dict[Place, Why]] = {}
        """By the path that was told to those who hash: the places that wait for it. A directory may be renamed
        meanwhile, of which nobody is told for what is in it; a place stays the same."""
        self._hashed: dict[Place, tuple[bytes, HashOutcome]] = {}
        """Answers, until the place is looked at, with the path at which the file was read."""
        self._to_hash: dict[Place, Why] = {}
        self._busy: dict[Place, _Busy] = {}
        self._fresh: dict[Place, _Fresh] = {}
        """Large files that are read once their times can be trusted."""
        self._pace = Pace()

    @property
    def hashing(self) -> bool:
        """Whether digests of large files are still to come."""
        return bool(self._hashing or self._to_hash)

    @property
    def unsettled(self) -> bool:
        """Whether a file is being written that has not been reported as blocked yet, or is to be read in a moment."""
        return (
            bool(self._fresh) or self._pace.holds or any(busy.tries < BUSY_REPORTED_AT for busy in self._busy.values())
        )

    def oldest(self) -> int | None:
        """The lowest generation of what is still to be read: what makes it `hashing` or `unsettled`."""
        busy = (one.since for one in self._busy.values() if one.tries < BUSY_REPORTED_AT)
        fresh = (one.since for one in self._fresh.values())
        waiting = (*self._hashing.values(), self._to_hash)
        paced = self._pace.oldest()
        held = () if paced is None else (paced,)
        return min([*busy, *fresh, *held, *(why.since for one in waiting for why in one.values())], default=None)

    def take_hash(self, path: bytes, outcome: HashOutcome) -> list[tuple[Place, Why]]:
        """The answer to a `HashFile`; the places that must be looked at now, each for the reason for which it was to be
        read: those that wait for it, and those that waited for room. None where nobody had asked."""
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

    def has_hash(self, place: Place) -> bool:
        """A hash has come for what is here; it may be of a file that looks as it did."""
        return place in self._hashed

    def may_look(self, place: Place, now_ms: int, since: int) -> int | None:
        """For a file that was being written, and of which there is news of the generation `since`: when to look."""
        busy = self._busy.get(place)
        if busy is None:
            return None
        busy.since = min(busy.since, since)
        due_ms = busy.looked_ms + REST_FIRST_MS
        return due_ms if due_ms > now_ms else None

    def hurry(self, generation: int) -> dict[Place, int]:
        """Somebody waits for all up to this generation: what is held back of that, to be looked at now, each with its
        generation."""
        return self._pace.hurry(generation)

    def clock_set_back(self) -> None:
        """When something was read is in the future."""
        self._pace.forget_times()

    def take_holders(self, path: bytes, holders: str) -> tuple[str, Report | None]:
        """The answer to a `WhoHolds`: why the file is blocked, and what is to be reported; nothing where it is not."""
        reason, report = "", None
        for busy in self._busy.values():
            if busy.path == path and busy.tries >= BUSY_REPORTED_AT:
                busy.holders = holders
                reason = busy.reason
                if not busy.reported:
                    busy.reported, report = True, Report(FILE_BEING_WRITTEN, reason, path)
        return reason, report

    def start_over(self) -> None:
        """All is to be looked at anew; answers that are on their way still come."""
        self._busy.clear()
        self._fresh.clear()
        self._pace.start_over()
        self._to_hash.clear()
        self._hashed.clear()

    def forget(self, place: Place) -> None:
        """There is nothing to be read here (any more)."""
        self._busy.pop(place, None)
        self._fresh.pop(place, None)
        self._hashed.pop(place, None)
        self._pace.release(place)

    def read(
        self, place: Place, path: bytes, stat: Stat, now_ns: int, why: Why, effects: list[Effect]
    ) -> Read | NotNow:
        """What is there now, which looked like `stat`. `why` it is looked at."""
        now_ms = now_ns // NS_PER_MS
        fresh = self._fresh.pop(place, _Fresh(why.since, now_ms))
        held = self._pace.release(place)
        since = min(why.since, fresh.since, why.since if held is None else held)
        why = Why(why.by_scan, since=since, reread=why.reread)
        busy = self._busy.get(place)
        if busy is not None and place not in self._hashed and busy.may_read_ms(stat, now_ms) > now_ms:
            busy.looked_ms = now_ms
            return NotNow(busy.may_read_ms(stat, now_ms), busy.reason)
        if stat.size <= self._large_bytes and (due_ms := self._pace.hold(place, stat, since, now_ms)) is not None:
            return NotNow(due_ms)
        found = self._read_now(place, path, stat, now_ns, why, fresh.from_ms, effects)
        if isinstance(found, Read):
            self._pace.note(place, stat, now_ms)
        return found

    def _read_now(
        self, place: Place, path: bytes, stat: Stat, now_ns: int, why: Why, from_ms: int, effects: list[Effect]
    ) -> Read | NotNow:
        now_ms = now_ns // NS_PER_MS
        trusted_ns = trusted_from(stat, now_ns)
        trusted_ms = -(-trusted_ns // NS_PER_MS) if trusted_ns > now_ns else None
        try:
            if stat.kind == SYMLINK:
                self.forget(place)
                return Read(value=self._fs.read_link(path), trusted_ms=trusted_ms)
            if stat.size > self._large_bytes:
                return self._read_large(place, path, stat, now_ms, trusted_ms, from_ms, why, effects)
            outcome = hash_file(self._fs, path, stat, twice=trusted_ms is not None)
            return self._judge(place, path, outcome, now_ms, trusted_ms, why.since, effects)
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
        from_ms: int,
        why: Why,
        effects: list[Effect],
    ) -> Read | NotNow:
        since = why.since
        read_at, outcome = self._hashed.pop(place, (path, None))
        if isinstance(outcome, Hashed) and _same(outcome.stat, stat):
            return self._judge(place, path, outcome, now_ms, None, since, effects)
        if read_at == path:  # else what was read there, if anything, was another file
            if isinstance(outcome, FileTrouble):
                raise outcome
            if outcome is not None:
                return self._judge(place, path, BeingWritten(path), now_ms, None, since, effects)
        waiting = self._hashing.get(path)
        if waiting is not None:
            waiting[place] = why.and_also(waiting.get(place, why))
            return NotNow()
        if trusted_ms is not None:
            if place in self._busy or now_ms - from_ms >= BUSY_FIRST_MS:
                return self._judge(place, path, BeingWritten(path), now_ms, None, since, effects)
            self._fresh[place] = _Fresh(since, from_ms)
            return NotNow(trusted_ms)
        if len(self._hashing) >= HASHING_MAX:
            self._to_hash[place] = why.and_also(self._to_hash.get(place, why))
            return NotNow()
        self._hashing[path] = {place: why}
        effects.append(HashFile(*split(path)))
        return NotNow()

    def _judge(
        self,
        place: Place,
        path: bytes,
        outcome: Hashed | BeingWritten,
        now_ms: int,
        trusted_ms: int | None,
        since: int,
        effects: list[Effect],
    ) -> Read | NotNow:
        if isinstance(outcome, Hashed):
            self.forget(place)
            return Read(outcome.digest, hashed=outcome, trusted_ms=trusted_ms)
        busy = self._busy.setdefault(place, _Busy(path, since))
        busy.path, busy.since = path, min(since, busy.since)
        busy.tries += 1
        busy.tried_ms = busy.looked_ms = now_ms
        if busy.reason:
            effects.append(WhoHolds(path))
        return NotNow(busy.due_ms, busy.reason)

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
