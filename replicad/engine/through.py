"""How far the scanner has come: all hints up to a number were looked at, and what they told of was read and decided.

Each hint has the next *generation*, and what follows from it bears the same (engine.scan_state). When nothing of the
generations up to g is left, everything was looked at that stood where those hints said. What was renamed just before
the look stood elsewhere by then, and was told of again, later. So two things are added:

1. a hint of something renamed within the folder bears the lowest generation that is not through: it may be what an
   earlier hint was about;
2. whether nothing is left is asked twice, with a marker passed through the watch between: what had been renamed before
   the first time has been told by the second. If something was, it begins again.

Where all the time something in the folder is being renamed, a fence waits until the disk is at rest for a moment.
"""

from __future__ import annotations

from replicad.engine.asking import Question
from replicad.engine.scan import Scanner


class Through:
    """Counts hints and says up to which one the scanner is through, for whoever has asked (`want`)."""

    def __init__(self, scanner: Scanner, question: Question) -> None:
        self._scanner = scanner
        self._question = question
        self._generation = 0
        self.through = 0
        self._wanted = 0
        self._stale = False
        """Something has changed since it was last asked what is left."""
        self._reached = 0
        """When the question was asked."""
        self._renamed = False
        """Something renamed has been told since then."""

    def next(self, *, renamed: bool = False) -> int:
        """The generation of a new hint."""
        self._generation += 1
        self._stale = True
        self._renamed |= renamed
        return self.through + 1 if renamed else self._generation

    def want(self) -> int:
        """Somebody waits for all hints so far: the generation that must be through."""
        self._wanted = self._generation
        self._stale = True
        return self._generation

    def changed(self) -> None:
        """Something was looked at, read or decided."""
        self._stale = True

    def answered(self, name: bytes) -> None:
        """A marker was told of."""
        if self._question.answered_by(name):
            self._stale = True
            if not self._renamed:
                self.through = max(self.through, min(self._reached, self._now_reached()))

    def due_ms(self, now_ms: int) -> int | None:
        if self.through >= self._wanted:
            return None
        return self._question.lost_ms if self._question.asked else now_ms if self._stale else None

    def work(self, now_ms: int, *, watched: bool) -> None:
        """`watched`: markers come back; else there is nobody to ask."""
        lost_ms = self._question.lost_ms
        if self.through >= self._wanted or (lost_ms is not None and now_ms < lost_ms) or not (self._stale or lost_ms):
            return
        self._stale = False
        reached = self._now_reached()
        if reached <= self.through:
            self._question.drop()
            return
        self._reached, self._renamed = reached, False
        if not watched or not self._question.ask(now_ms):
            self.through = reached

    def _now_reached(self) -> int:
        oldest = self._scanner.oldest()
        return self._generation if oldest is None else oldest - 1
