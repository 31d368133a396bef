"""What a scan has still to look at or to decide, and what it found blocked. Bounded; in memory alone: after a crash the
scan at the start finds all of it again."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import NamedTuple

from replicad.core.view import NodeId
from replicad.engine.scan_moves import Place
from replicad.files.changes import Listing

HINTS_MAX = 100_000
"""Hints waiting: some 20 MB. Where there are more, the whole folder is scanned, which costs less than they would."""
OPEN_MAX = 100_000
"""Open places: a burst of deletions. What is found beyond stays as it is until the scan that follows."""
DUE_MAX = 100_000
"""Places to be looked at again later: files written to a moment ago, or that cannot be read. Some 20 MB."""
BLOCKED_MAX = 10_000
"""Blocked paths that are listed; the rest is tried again all the same. So many are one fault of the whole disk."""


class Why(NamedTuple):
    """Why a place is looked at."""

    by_scan: bool
    """Found by a scan, not seen as it happened: stamped by the times of the file, decided at the scan's end."""
    in_walk: bool = False
    """A walk has listed it; what is beneath it is on the walk's way."""


@dataclass
class Walk:
    """A directory and all beneath it are listed. `full`: by a scan, else because the directory is new here."""

    path: bytes
    full: bool
    listings: Generator[Listing, None, None] | None = None


@dataclass
class ScanState:
    places: dict[Place, Why] = field(default_factory=dict)
    """To be looked at, in this order."""
    open: dict[Place, Why] = field(default_factory=dict)
    """Looked at, and not to be decided before everything has been."""
    doomed: deque[NodeId] = field(default_factory=deque)
    """Directories that are gone, too large to be entered as gone in one go."""
    due: dict[Place, tuple[int, Why]] = field(default_factory=dict)
    """To be looked at again, from a time on."""
    first_due_ms: int | None = None
    """Not after the first of them."""
    hints: dict[tuple[bytes, bytes], int] = field(default_factory=dict)
    """(directory, name), with the directory's inode where that was told."""
    lost: dict[tuple[bytes, bytes], int] = field(default_factory=dict)
    """Hints whose directory was not there: it was moved, of which the watch is about to tell, or removed."""
    walks: dict[tuple[bytes, bool], Walk] = field(default_factory=dict)
    missed: dict[bytes, bool] = field(default_factory=dict)
    """Directories that a walk came to before it was decided what they are; to be walked when it is (True: by a scan).
    Uppermost ones only."""
    blocked: dict[bytes, tuple[str, int]] = field(default_factory=dict)
    """By path: the reason, and the scan in which it was found."""
    round: int = 0
    again: bool = True
    """The whole folder must be scanned."""
    changes: int = 0
    """How often something was entered; an open place that was looked at before the last time may be certain now."""
    opened_at: dict[Place, int] = field(default_factory=dict)
    """Of each open place: `changes` when it was looked at; -1: it is to be looked at once more."""
    ending: bool = False
    """The walk through the whole folder is over; what it found is not yet decided."""

    @property
    def walking(self) -> bool:
        """Whether a scan is on its way: what is missing may yet turn up."""
        return any(walk.full for walk in self.walks.values())

    def ripe(self, why: Why) -> bool:
        return not why.by_scan or not self.walking

    @property
    def scan_left(self) -> bool:
        """Whether something that a scan has found is still to be looked at or decided."""
        looked_at = any(why.by_scan for why in self.places.values())
        return self.walking or looked_at or bool(self.doomed) or any(why.by_scan for why in self.open.values())

    def begin_scan(self) -> None:
        self.again, self.ending = False, False
        self.round += 1
        self.walk(b"", full=True)

    def add(self, place: Place, why: Why) -> None:
        """To be looked at. Who saw it happen knows more of when than a scan; who must walk, walks."""
        held = self.places.get(place)
        if held is not None:
            why = Why(why.by_scan and held.by_scan, why.in_walk and held.in_walk)
        self.places[place] = why

    def leave_open(self, place: Place, why: Why) -> None:
        """To be decided later. The walk that found it goes on without it."""
        held = self.open.get(place)
        if held is None and len(self.open) >= OPEN_MAX:
            self.again = True
            return
        self.open[place] = Why(why.by_scan and (held is None or held.by_scan))
        self.opened_at[place] = self.changes

    def look_once_more(self, place: Place) -> None:
        """At an open place, before anything is decided about it: it may be back."""
        if place in self.opened_at:
            self.opened_at[place] = -1

    def close(self, place: Place) -> Why | None:
        """No longer open; why it was."""
        self.opened_at.pop(place, None)
        return self.open.pop(place, None)

    def add_hint(self, directory: bytes, name: bytes, inode: int) -> None:
        if len(self.hints) >= HINTS_MAX:
            self.again = True
        else:
            self.hints[directory, name] = inode

    def lose(self, directory: bytes, name: bytes, inode: int) -> None:
        if len(self.lost) >= HINTS_MAX:
            self.again = True
        else:
            self.lost[directory, name] = inode

    def walk(self, path: bytes, *, full: bool) -> None:
        """Begins anew where the same is on its way."""
        self.walks[path, full] = Walk(path, full)

    def miss(self, path: bytes, *, full: bool) -> None:
        above = path
        while above and above not in self.missed:
            above = above.rpartition(b"/")[0]
        at = above or path
        self.missed[at] = self.missed.get(at, False) or full

    def catch_up(self) -> None:
        """Something was decided: walk what was missed."""
        for path, full in self.missed.items():
            self.walk(path, full=full)
        self.missed.clear()

    def delay(self, place: Place, due_ms: int, why: Why, *, owed: bool = True) -> None:
        """To be looked at from then on. `owed`: where there is no room, a scan has to; else trying again is all."""
        if place not in self.due and len(self.due) >= DUE_MAX:
            self.again |= owed
            return
        self.due[place] = (due_ms, why)
        self.first_due_ms = due_ms if self.first_due_ms is None else min(self.first_due_ms, due_ms)

    def wake_all(self) -> None:
        """What waits for a time is looked at now."""
        for place, (_, why) in self.due.items():
            self.add(place, why)
        self.due.clear()
        self.first_due_ms = None

    def wake(self, now_ms: int) -> None:
        """What is due is looked at."""
        if self.first_due_ms is None or self.first_due_ms > now_ms:
            return
        for place in [place for place, (due_ms, _) in self.due.items() if due_ms <= now_ms]:
            self.add(place, self.due.pop(place)[1])
        self.first_due_ms = min((due_ms for due_ms, _ in self.due.values()), default=None)

    def block(self, path: bytes, reason: str) -> None:
        if path in self.blocked or len(self.blocked) < BLOCKED_MAX:
            self.blocked[path] = (reason, self.round)

    def start_over(self) -> None:
        """Nothing that was found and not yet entered counts; the blocked stay listed."""
        blocked, current = self.blocked, self.round
        self.__init__()  # type: ignore[misc]
        self.blocked, self.round = blocked, current

    def prune_blocked(self) -> None:
        """A scan has come to its end: what it did not find blocked is so no more."""
        self.blocked = {path: found for path, found in self.blocked.items() if found[1] >= self.round}
