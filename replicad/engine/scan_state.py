"""What a scan has still to look at or to decide, and what it found blocked. Bounded; in memory alone: after a crash the
scan at the start finds all of it again.

Whatever waits here bears a *generation*: that of the hint, or of the order to scan, that it follows from. So it can be
told up to which hint everything was looked at and decided, also while new hints never end (`oldest`).
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

from replicad.core.view import NodeId
from replicad.engine.scan_moves import Place
from replicad.engine.scan_waiting import ByDirectory, Due, InOrder
from replicad.files.changes import Listing
from replicad.files.paths import join, split

if TYPE_CHECKING:
    from replicad.engine.scan_undo import Before

HINTS_MAX = 100_000
"""Hints waiting: some 20 MB. Where there are more, the whole folder is scanned, which costs less than they would."""
INODES_MAX = 8
"""Directories that were at one path between two looks, and in each of them something happened to the same name. Beyond
that, as well."""
OPEN_MAX = 100_000
"""Open places: a burst of deletions. What is found beyond stays as it is until the scan that follows."""
DUE_MAX = 100_000
"""Places to be looked at again later: files written to a moment ago, or that cannot be read. Some 20 MB."""
ANSWERS_MAX = 3
"""Of the watch, in a row, on which nothing is decided since something was moving. Each takes some ms; where things are
moved on all the time, there is always one that is on its way, and what was deleted would never be decided."""
BLOCKED_MAX = 10_000
"""Blocked paths that are listed; the rest is tried again all the same. So many are one fault of the whole disk."""


class Reread(IntEnum):
    """Whether a file is to be read though it looks as it did."""

    NO = 0
    IF_RECENT = 1
    """If its times are as young as a write through a mapping may be that left them alone: such a write sets them when
    it is the first to the page since that was last written to the disk."""
    YES = 2


class Why(NamedTuple):
    """Why a place is looked at."""

    by_scan: bool
    """Found by a scan, not seen as it happened: stamped by the times of the file, decided at the scan's end."""
    in_walk: bool = False
    """A walk has listed it; what is beneath it is on the walk's way."""
    since: int = 0
    """The generation."""
    inode: int = 0
    """As it was listed; 0 where it was not."""
    own: bool = False
    """The applier met something there; the watch has told nothing new of it."""
    reread: Reread = Reread.NO

    def and_also(self, other: Why) -> Why:
        """Both are reasons. Who saw it happen knows more of when than a scan; who must walk, walks."""
        by_scan, in_walk = self.by_scan and other.by_scan, self.in_walk and other.in_walk
        own, reread = self.own and other.own, max(self.reread, other.reread)
        return Why(by_scan, in_walk, min(self.since, other.since), self.inode or other.inode, own, reread)


class Hint(NamedTuple):
    inodes: tuple[int, ...]
    """Of the directories that were at this path when something was told of the name, where that was told."""
    since: int
    own: bool = False
    """It is the applier's."""
    reread: Reread = Reread.NO
    by_scan: bool = False
    """As `Why`."""
    came: bool = False
    """The last that was told of it: it came there by a rename. So it is there, or has left it since."""

    def after(self, held: Hint) -> Hint:
        """Both."""
        return Hint(
            tuple(dict.fromkeys((*held.inodes, *self.inodes))),
            min(held.since, self.since),
            held.own and self.own,
            max(held.reread, self.reread),
            held.by_scan and self.by_scan,
            self.came,
        )


class Open(NamedTuple):
    why: Why
    changes: int
    """`ScanState.changes` when it was looked at; -1: it is to be looked at once more."""
    turn: int
    """`ScanState.turn` when it was first, as it stands there now."""
    inode: int
    """Of the file or symlink that stood there; 0 for nothing, or ANYTHING."""
    seen: int
    """As `inode`, also of a directory; ANYTHING only where nothing could be seen."""


ANYTHING = -1
"""Instead of an inode: a directory stands there that has not been looked into, or what stands there was not seen."""


@dataclass
class Walk:
    """A directory and all beneath it are listed. `full`: by a scan, else because the directory is new here."""

    path: bytes
    full: bool
    since: int
    listings: Generator[Listing, None, None] | None = None


class Walks:
    """Those on their way, by (path, full): what is new is walked before a scan goes on. There may be thousands."""

    def __init__(self) -> None:
        self._new: InOrder[bytes, Walk] = InOrder(lambda walk: walk.since)
        self._full: InOrder[bytes, Walk] = InOrder(lambda walk: walk.since)

    def __bool__(self) -> bool:
        return bool(self._new or self._full)

    @property
    def any_full(self) -> bool:
        return bool(self._full)

    def __iter__(self) -> Iterator[Walk]:
        yield from self._new.values()
        yield from self._full.values()

    def begin(self, path: bytes, *, full: bool, since: int) -> None:
        """Begins anew where the same is on its way."""
        kind = self._full if full else self._new
        held = kind.get(path)
        kind.put(path, Walk(path, full, since if held is None else min(since, held.since)))

    def first(self) -> Walk:
        kind = self._new or self._full
        return kind[next(iter(kind))]

    def end(self, walk: Walk) -> None:
        (self._full if walk.full else self._new).take(walk.path)

    def oldest(self) -> list[int | None]:
        return [self._new.oldest(), self._full.oldest()]


def _since(one: Why | Hint) -> int:
    return one.since


@dataclass
class ScanState:
    places: InOrder[Place, Why] = field(default_factory=lambda: InOrder(_since))
    """To be looked at, in this order."""
    places_scanned: int = 0
    """How many of these a scan has found."""
    open: InOrder[Place, Open] = field(default_factory=lambda: InOrder(lambda held: held.why.since))
    """Looked at, and not to be decided before everything has been."""
    open_seen: int = 0
    """How many of these were not found by a scan, but seen as it happened."""
    doomed: InOrder[NodeId, Why] = field(default_factory=lambda: InOrder(_since))
    """Entries that are gone, and too many to be entered as gone in one go; so are those in a large directory."""
    due: Due[Place, Why] = field(default_factory=Due)
    """To be looked at again, from a time on."""
    hints: ByDirectory[Hint] = field(default_factory=lambda: ByDirectory(_since))
    """By (directory, name)."""
    lost: ByDirectory[tuple[Hint, int]] = field(default_factory=lambda: ByDirectory(lambda held: held[0].since))
    """Hints whose directory was not there: it was moved, of which the watch is about to tell, or removed; the turn."""
    walks: Walks = field(default_factory=Walks)
    missed: InOrder[bytes, tuple[bool, int]] = field(default_factory=lambda: InOrder(lambda held: held[1]))
    """Directories that a walk came to before it was decided what they are; to be walked when it is (True: by a scan),
    and the generation. Uppermost ones only."""
    blocked: dict[bytes, tuple[str, int]] = field(default_factory=dict)
    """By path: the reason, and the scan in which it was found."""
    blocked_in_doubt: bool = False
    """A directory has gone since; of what was blocked in it nothing is told."""
    round: int = 0
    again: bool = True
    """The whole folder must be scanned."""
    again_since: int = 0
    gone_by_scan: int = 0
    """How many entries this scan of everything has found gone."""
    """The generation of that."""
    generation: int = 0
    """The latest that a hint or an order to scan had."""
    turn: int = 0
    """How often the watch was asked whether it had told everything. What is open since an earlier turn than that of an
    answer can be decided on it."""
    asked: int = 0
    """The latest turn. (`turn` is an earlier one while something is decided.)"""
    came: dict[Place, None] = field(default_factory=dict)
    """Not looked at since it was told that something has come there by a rename."""
    astray: int = 0
    """The latest turn in which something was not where it had been told to have come, nor that it has left there: the
    watch is about to tell where it is. An answer of that turn or an earlier one does not tell."""
    put_off: int = 0
    """Answers in a row on which nothing was decided."""
    before: Before | None = None
    """While a decision is tried that may be taken back."""
    changes: int = 0
    """How often something was entered that says which entry is where; an open place that was looked at before the last
    time may be certain now."""
    ending: bool = False
    """The walk through the whole folder is over; what it found is not yet decided."""

    @property
    def walking(self) -> bool:
        """Whether a scan is on its way: what is missing may yet turn up."""
        return self.walks.any_full

    def ripe(self, held: Open, turn: int) -> bool:
        """Whether an open place can be decided when the watch has told everything up to `turn`."""
        return held.turn < turn and not (held.why.by_scan and self.walking)

    @property
    def any_to_ripen(self) -> bool:
        """Whether anything that is open would be `ripe` if the watch had told everything. Counted, not searched: it is
        asked at every turn."""
        return bool(self.open_seen if self.walking else self.open)

    def unripe_inodes(self, turn: int) -> set[int]:
        """What stands at places that can not, as far as was seen."""
        return {held.inode for held in self.open.values() if not self.ripe(held, turn)} - {0}

    def oldest(self) -> int | None:
        """The lowest generation of anything that is still to be looked at or decided; None where nothing is."""
        waiting = (self.places, self.open, self.doomed, self.hints, self.lost, self.missed)
        found = [one.oldest() for one in waiting] + self.walks.oldest()
        if self.again:
            found.append(self.again_since)
        return min((since for since in found if since is not None), default=None)

    @property
    def scan_left(self) -> bool:
        """Whether something that a scan has found is still to be looked at or decided."""
        return self.walking or self.places_scanned > 0 or bool(self.doomed) or self.open_seen < len(self.open)

    def scan_again(self, since: int) -> None:
        self.again_since = min(self.again_since, since) if self.again else since
        self.again = True
        self.generation = max(self.generation, since)

    def begin_scan(self) -> None:
        self.again, self.ending, self.gone_by_scan = False, False, 0
        self.round += 1
        self.walk(b"", full=True, since=self.again_since)

    def add(self, place: Place, why: Why) -> None:
        """To be looked at."""
        held = self.places.get(place)
        why = why if held is None else why.and_also(held)
        self.places_scanned += why.by_scan - (held is not None and held.by_scan)
        self.places.put(place, why)

    def next_place(self) -> tuple[Place, Why]:
        """It is being looked at."""
        place, why = self.places.take_first()
        self.places_scanned -= why.by_scan
        return place, why

    def ask(self) -> int:
        """The watch is being asked whether it has told everything."""
        self.turn += 1
        self.asked = self.turn
        return self.turn

    def told_of(self, place: Place, came: bool) -> None:
        """Something has told of it; `came` as in `Hint`."""
        if not came:
            self.came.pop(place, None)
        elif len(self.came) < HINTS_MAX:
            self.came[place] = None

    def was_seen(self, place: Place, stands: bool) -> None:
        """It was looked at."""
        if place in self.came:
            del self.came[place]
            if not stands:
                self.astray = self.asked

    def wait_for_another(self) -> bool:
        """Whether a decision is put off until the watch has answered once more."""
        if self.put_off >= ANSWERS_MAX:
            return False
        self.put_off += 1
        return True

    def leave_open(self, place: Place, why: Why, inode: int, seen: int, before: Open | None) -> None:
        """To be decided later. The walk that found it goes on without it. `inode` and `seen`: of what stands there, as
        `Open`. `before`: how it was open until it was looked at again.

        Where the applier alone asked for another look, and that shows the same (nothing, too), it has been open since
        `before`: the applier tries again and again, and nothing would ever be decided.
        """
        held = self.open.get(place)
        if held is None and len(self.open) >= OPEN_MAX:
            self.scan_again(why.since)
            return
        why = why if held is None else why.and_also(held.why)
        self.open_seen += (not why.by_scan) - (held is not None and not held.why.by_scan)
        same = why.own and before is not None and before.seen == seen
        turn = before.turn if before is not None and same else self.turn
        self.open.put(place, Open(Why(why.by_scan, since=why.since), self.changes, turn, inode, seen))

    def hold_back(self, place: Place, turn: int) -> None:
        """Not to be decided when the watch has told everything up to `turn`, but with a later answer."""
        held = self.open[place]
        self.open.put(place, held._replace(turn=max(held.turn, turn)))

    def look_once_more(self, place: Place) -> None:
        """At an open place, before anything is decided about it: it may be back."""
        held = self.open.get(place)
        if held is not None:
            self.open.put(place, held._replace(changes=-1))

    def close(self, place: Place) -> Why | None:
        """No longer open; why it was."""
        held = self.open.take(place)
        if held is None:
            return None
        self.open_seen -= not held.why.by_scan
        return held.why

    def add_hint(self, directory: bytes, name: bytes, hint: Hint) -> None:
        self.generation = max(self.generation, hint.since)
        if self.before is not None:
            self.before.hinted(directory, name, hint)
        held = self.hints.get((directory, name))
        both = hint.after(held) if held is not None else hint
        if len(both.inodes) > INODES_MAX or (held is None and len(self.hints) >= HINTS_MAX):
            self.scan_again(hint.since)
        else:
            self.hints.put((directory, name), both)

    def lose(self, directory: bytes, name: bytes, hint: Hint) -> None:
        held = self.lost.get((directory, name))
        both = hint.after(held[0]) if held is not None else hint
        if len(both.inodes) > INODES_MAX or (held is None and len(self.lost) >= HINTS_MAX):
            self.scan_again(hint.since)
        else:
            self.lost.put((directory, name), (both, self.turn))

    def told(self, turn: int) -> None:
        """The watch has told everything up to `turn`: the directories of these were not moved, but are gone."""
        for directory, name in [entry for entry, held in self.lost.items() if held[1] < turn]:
            self.lost.take((directory, name))
            self.blocked.pop(join(directory, name), None)

    def walk(self, path: bytes, *, full: bool, since: int) -> None:
        """Begins anew where the same is on its way."""
        if self.before is not None:
            self.before.walked(path, full, since)
        self.walks.begin(path, full=full, since=since)

    def miss(self, path: bytes, *, full: bool, since: int) -> None:
        above = path
        while above and above not in self.missed:
            above = above.rpartition(b"/")[0]
        at = above or path
        was_full, was_since = self.missed.get(at) or (False, since)
        self.missed.put(at, (was_full or full, min(was_since, since)))

    def meet_again(self, path: bytes, *, full: bool) -> None:
        """A walk has come to what was missed; one that a scan missed waits for a walk by a scan."""
        missed = self.missed.get(path)
        if missed is not None and (full or not missed[0]):
            self.missed.take(path)

    def give_up(self, path: bytes) -> None:
        """What was missed there waits for no decision: it cannot be seen, which is said of it, and is walked when it
        can."""
        for missed in [missed for missed in self.missed if missed == path or missed.startswith(path + b"/")]:
            self.missed.take(missed)

    def catch_up(self) -> None:
        """Something was decided: walk what was missed."""
        for path, (full, since) in self.missed.items():
            self.walk(path, full=full, since=since)
        self.missed.clear()

    def follow_moved(self, old: bytes, new: bytes) -> None:
        """A directory was moved: what is to be walked there, or above it, is to be walked where it is now as well. It
        is watched, and all beneath it, so nobody else would; and who was on the way to it does not find it any more."""
        walks = [(walk.path, walk.full, walk.since) for walk in self.walks]
        missed = [(path, *held) for path, held in self.missed.items()]
        for again, waiting in ((self.walk, walks), (self.miss, missed)):
            for path, full, since in waiting:
                if path == old or path.startswith(old + b"/"):
                    again(new + path[len(old) :], full=full, since=since)
                elif not path or old.startswith(path + b"/"):
                    again(new, full=full, since=since)

    def delay(self, place: Place, due_ms: int, why: Why, *, owed: bool = True) -> None:
        """To be looked at from then on. `owed`: where there is no room, a scan has to; else trying again is all."""
        if place not in self.due and len(self.due) >= DUE_MAX:
            if owed:
                self.scan_again(why.since)
            return
        self.due.put(place, due_ms, why)

    def hasten(self, place: Place, since: int) -> None:
        """What waits for a time is looked at now. (Where it does not, it is being looked at, or a scan is owed.)"""
        why = self.due.take_one(place)
        if why is not None:
            self.add(place, why._replace(since=since))

    def wake_all(self) -> None:
        """What waits for a time is looked at now."""
        for place, why in self.due.take_all():
            self.add(place, why._replace(since=self.generation))

    def wake(self, now_ms: int) -> None:
        """What is due is looked at: for its own sake, whatever hint it once followed from. Whether that still counts,
        `Reader.oldest` knows."""
        for place, why in self.due.take(now_ms):
            self.add(place, why._replace(since=self.generation))

    def block(self, path: bytes, reason: str) -> None:
        if path in self.blocked or len(self.blocked) < BLOCKED_MAX:
            self.blocked[path] = (reason, self.round)

    def move_blocked(self, old: bytes, new: bytes) -> None:
        """A directory was moved, and with it what is blocked in it, of which nothing is told."""
        for path in [path for path in self.blocked if path.startswith(old + b"/")]:
            self.blocked[new + path[len(old) :]] = self.blocked.pop(path)

    def doubt_blocked(self) -> None:
        """Look at everything that is blocked, where something may have gone with its directory."""
        if self.blocked_in_doubt:
            self.blocked_in_doubt = False
            for path in self.blocked:
                if path:
                    self.add_hint(*split(path), Hint((), self.generation, own=True))

    def start_over(self) -> None:
        """Nothing that was found and not yet entered counts; the blocked stay listed."""
        blocked, current, generation, asked = self.blocked, self.round, self.generation, self.asked
        self.__init__()  # type: ignore[misc]
        self.blocked, self.round, self.generation, self.turn, self.asked = blocked, current, generation, asked, asked

    def prune_blocked(self) -> None:
        """A scan has come to its end: what it did not find blocked is so no more."""
        self.blocked = {path: found for path, found in self.blocked.items() if found[1] >= self.round}
