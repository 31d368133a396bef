"""How often a place is read that changes again and again: all members are told of each version, fetch and install it.

The first versions are read at once, so that whoever saves a file, and his editor's formatter after him, waits for
nothing. From then on there is one version in an interval, which doubles from PACE_FIRST_MS to PACE_LAST_MS for as long
as the place goes on changing; what is there at its end is read. So the last version is read PACE_LAST_MS after it was
written, at the latest. A place that has not changed for PACE_REST_MS begins anew. It is a place that is paced, not an
inode: a file that is replaced all the time, or made and removed, is one, too.

It is looked at whenever something tells of it, as that costs little, and a deletion or a move is not held back.

A place that is held back counts as not read (`oldest`), by the lowest generation that told of it (engine.scan_state);
when somebody waits for that (`hurry`), it is read at once.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from replicad.engine.scan_moves import Place
from replicad.engine.scan_waiting import InOrder
from replicad.files.fs import Stat

PACE_FREE = 3
"""Versions that are read at once: a file is made, written to, and its mode set."""
PACE_FIRST_MS, PACE_LAST_MS = 20, 1_000
PACE_REST_MS = 2_000
PLACES_MAX = 100_000
"""Places that are remembered, for PACE_REST_MS each; of the oldest beyond, some 20 MB, the next change is the first."""

Look = tuple[int, int, int, int]


class _Recent(NamedTuple):
    look: Look
    read_ms: int
    versions: int
    """Read in a row."""

    @property
    def due_ms(self) -> int:
        if self.versions < PACE_FREE:
            return self.read_ms
        return self.read_ms + min(PACE_LAST_MS, PACE_FIRST_MS << min(self.versions - PACE_FREE, 10))


class Pace:
    """Of one scanner."""

    def __init__(self) -> None:
        self._recent: OrderedDict[Place, _Recent] = OrderedDict()
        """By rising `read_ms`."""
        self._held: InOrder[Place, int] = InOrder(lambda since: since)
        """Places that have changed and are read later; the lowest generation of each."""
        self._urgent = -1

    @property
    def holds(self) -> bool:
        """Whether anything is to be read later."""
        return bool(self._held)

    def oldest(self) -> int | None:
        return self._held.oldest()

    def hold(self, place: Place, stat: Stat, since: int, now_ms: int) -> int | None:
        """What looks like `stat` is to be read; None if it may be now, else when."""
        recent = self._recent.get(place)
        if recent is None or since <= self._urgent or recent.look == _look(stat):
            return None
        due_ms = recent.due_ms if recent.read_ms <= now_ms else now_ms
        if due_ms <= now_ms:
            return None
        held = self._held.get(place)
        self._held.put(place, since if held is None else min(since, held))
        return due_ms

    def release(self, place: Place) -> int | None:
        """It is looked at, or there is nothing to be read here any more; since when it was held back."""
        return self._held.take(place)

    def note(self, place: Place, stat: Stat, now_ms: int) -> None:
        """It has been read."""
        recent, look = self._recent.get(place), _look(stat)
        if recent is not None and recent.look == look:
            return  # once more, since its times were too fresh
        rested = recent is None or not recent.read_ms <= now_ms < recent.read_ms + PACE_REST_MS
        self._recent[place] = _Recent(look, now_ms, 1 if rested or recent is None else recent.versions + 1)
        self._recent.move_to_end(place)
        self._forget_rested(now_ms)

    def hurry(self, generation: int) -> dict[Place, int]:
        """Somebody waits for everything up to this generation: what is held back of that, to be looked at now.

        All places begin anew: he waits until a version is installed elsewhere, and what is written to faster than it is
        fetched cannot be; so there are several soon, of which each may be the one.
        """
        self._urgent = max(self._urgent, generation)
        self._recent.clear()
        return {place: since for place, since in self._held.items() if since <= generation}

    def forget_times(self) -> None:
        """The next change of each place is its first."""
        self._recent.clear()

    def start_over(self) -> None:
        """All is to be looked at anew."""
        self._held.clear()

    def _forget_rested(self, now_ms: int) -> None:
        while self._recent:
            place, first = next(iter(self._recent.items()))
            if now_ms < first.read_ms + PACE_REST_MS and len(self._recent) <= PLACES_MAX:
                return
            del self._recent[place]


def _look(stat: Stat) -> Look:
    return stat.inode, stat.size, stat.mtime_ns, stat.ctime_ns
