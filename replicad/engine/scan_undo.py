"""Taking a decision back: what a scan still had to do before it, and what it looked at on the way.

The draft of such a decision is dropped. What was looked at in it is looked at again, and what was walked is walked
again, since that counts as done no more; what was read is known to those who read, whom nothing is taken from.
"""

from __future__ import annotations

from replicad.core.view import NodeId
from replicad.engine.scan_moves import Place
from replicad.engine.scan_state import Hint, Open, ScanState, Why


class Before:
    """How the state is now, when nothing is left to look at. Copied: some ms for 100,000 open places, of each of which
    the disk is asked before that."""

    def __init__(self, state: ScanState, first_new: NodeId) -> None:
        """`first_new`: nodes from here on are the draft's own."""
        self._first_new = first_new
        self._open, self._open_seen = state.open.copy(), state.open_seen
        self._due, self._blocked, self._came = state.due.copy(), state.blocked.copy(), state.came.copy()
        self._blocked_in_doubt, self._changes = state.blocked_in_doubt, state.changes
        self._looked: dict[Place, Why] = {}
        self._walked: dict[tuple[bytes, bool], int] = {}
        self._hinted: list[tuple[bytes, bytes, Hint]] = []
        state.before = self

    def open(self, place: Place) -> Open | None:
        """How it was open."""
        return self._open.get(place)

    def looked(self, place: Place, why: Why) -> None:
        self._looked[place] = why

    def walked(self, path: bytes, full: bool, since: int) -> None:
        since = min(since, self._walked.get((path, full), since))
        self._walked[path, full] = since

    def hinted(self, directory: bytes, name: bytes, hint: Hint) -> None:
        self._hinted.append((directory, name, hint))

    def restore(self, state: ScanState) -> list[Place]:
        """Returns places in directories that the draft alone had: there is nothing to be read there any more."""
        state.before = None
        waiting = [(place, why) for place, why in state.places.items()] + list(self._looked.items())
        state.places.clear()
        state.places_scanned = 0
        state.open, state.open_seen = self._open, self._open_seen
        state.due, state.blocked, state.came = self._due, self._blocked, self._came
        state.blocked_in_doubt, state.changes = self._blocked_in_doubt, self._changes
        for directory, name, hint in self._hinted:
            state.add_hint(directory, name, hint)
        for (path, full), since in self._walked.items():
            state.walk(path, full=full, since=since)
        for place, why in waiting:
            if place[0] < self._first_new:
                # What was not open may have been held back since some generation, which nobody knows any more. What is
                # open and shows the same is open since it was.
                since = why.since if place in state.open else 0
                state.add(place, Why(why.by_scan, since=since, own=True, reread=why.reread))
        return [place for place, _ in waiting if place[0] >= self._first_new]
