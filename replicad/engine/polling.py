"""What of a folder cannot be watched, and how often the folder is looked at instead.

Three things make a folder be polled: a directory that the system refuses to watch (no inotify watches left, no right to
read it), a watch that cannot be made at all, and a filesystem whose events never arrive. The last shows in a test: a
file made in `.replicad/fence` must come back through the watch. Each is told once, and ends by itself: every poll tries
again to watch what was refused, and asks again for an event.
"""

from __future__ import annotations

from replicad.core.effects import Changed, Effect, Report
from replicad.engine.asking import Question
from replicad.files.changes import Unwatchable
from replicad.files.fs import FileSystem

POLL_INTERVAL_MS = 10_000
"""How often everything is looked at where a part of the folder cannot be watched."""
POLL_REST = 5
"""A look that takes long is followed by a rest so many times as long: polling takes a sixth of the folder's thread."""
UNWATCHABLE_MAX = 1_000
"""Directories listed as not watched; one that is not listed is polled with the rest all the same."""
LOST_MAX = 2
"""Markers in a row that do not come back until events count as not arriving: one may be late on a busy machine."""
SILENT = "events of this filesystem do not arrive"


class Polling:
    """Of one folder, on its thread. `reports` are for the operator, taken by the caller."""

    def __init__(self, fs: FileSystem) -> None:
        self._test = Question(fs, b"events")
        self._to_test = False
        self._lost = 0
        self._refused: dict[bytes, str] = {}
        self._refused_since: dict[bytes, str] = {}
        """Since the last poll began: what is refused still."""
        self._told: set[str] = set()
        self._begun_ms: int | None = None
        self._due_ms = 0
        self.silent = False
        self.reports: list[Effect] = []

    @property
    def reason(self) -> str:
        """Why the folder is polled; "" where every directory is watched and events arrive."""
        if self.silent:
            return SILENT
        if not self._refused:
            return ""
        count, first = len(self._refused), next(iter(self._refused.values()))
        most = " or more" if count == UNWATCHABLE_MAX else ""
        return f"1 directory {first}" if count == 1 else f"{count}{most} directories, of which the first {first}"

    def refused(self) -> list[tuple[bytes, str]]:
        return sorted(self._refused.items())

    # -- what it is told

    def begin(self) -> None:
        """The watch begins (anew)."""
        self._refused.clear()
        self._refused_since.clear()
        self._test.drop()
        self._lost = 0
        self._to_test = False

    def refuse(self, change: Unwatchable) -> None:
        for table in (self._refused, self._refused_since):
            if len(table) < UNWATCHABLE_MAX:
                table[change.path] = change.reason
        if change.reason not in self._told:
            self._told.add(change.reason)
            text = f"{change.reason}; the folder is looked at every {POLL_INTERVAL_MS // 1000} s or more instead"
            self.reports += [Report(0, text, change.path), Changed()]

    def marker(self, name: bytes) -> None:
        if self._test.answered_by(name):
            self._lost = 0
            self._set_silent(silent=False)

    # -- work

    def due_ms(self) -> int | None:
        """When `test` or `begin_poll` has something to do."""
        if self._to_test:
            return 0
        due = [self._test.lost_ms]
        if self.reason and self._begun_ms is None:
            due.append(self._due_ms)
        return min((at for at in due if at is not None), default=None)

    def test(self, now_ms: int) -> None:
        """Ask for an event, and judge one that does not come."""
        lost_ms = self._test.lost_ms
        if lost_ms is not None and now_ms >= lost_ms:
            self._lost += 1
            self._test.drop()
            self._to_test = self._lost < LOST_MAX
            self._set_silent(silent=self.silent or not self._to_test)
        if self._to_test:
            self._to_test = False
            self._test.ask(now_ms)  # where none can be made (no space, read-only) nothing is concluded

    def ask_again(self) -> None:
        """Events are to be proved (once more); only where the fence is watched."""
        self._to_test = not self._test.asked

    def begin_poll(self, now_ms: int) -> bool:
        """Whether everything is to be looked at now. What the last poll found to be watched counts as watched."""
        if not self.reason or self._begun_ms is not None or now_ms < self._due_ms:
            return False
        self._refused, self._refused_since = self._refused_since, {}
        if self.silent:
            self._to_test = not self._test.asked
        if not self.reason:
            self._told.clear()
            self.reports += [Report(0, "everything is watched again"), Changed()]
            return False
        self._begun_ms = now_ms
        return True

    def ended(self, now_ms: int) -> None:
        """No scan runs: if one was a poll, it has ended."""
        if self._begun_ms is not None:
            took_ms = max(0, now_ms - self._begun_ms)
            self._due_ms = now_ms + max(POLL_INTERVAL_MS, POLL_REST * took_ms)
            self._begun_ms = None

    def clock_set_back(self) -> None:
        self._due_ms = 0

    def _set_silent(self, *, silent: bool) -> None:
        if silent == self.silent:
            return
        self.silent = silent
        text = f"{SILENT}; the folder is looked at every {POLL_INTERVAL_MS // 1000} s or more instead"
        self.reports += [Report(0, text if silent else "events of the folder's filesystem arrive"), Changed()]
