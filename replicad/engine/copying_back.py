"""Large preserved files that are copied back into the tree (engine.restoring), a step at a time.

Between two steps the folder does its other work. The file is read through one handle: that it is deleted or collected
meanwhile does not matter. What hinders the folder ends the copy; a crash leaves a part of it in staging, which the next
start removes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from replicad.catalog.store import Catalog
from replicad.core.effects import Effect
from replicad.engine.restoring import STEP_BYTES, Copy, cannot, find, must_copy
from replicad.errors import OperatorError
from replicad.files.fs import FileSystem

COPIES_MAX = 16
"""Waiting or under way: each holds two open files."""

Told = Callable[[bytes, str], list[Effect]]
"""(path, reason): where it is now, or empty and why it is not."""


@dataclass(frozen=True, slots=True)
class _Job:
    number: int
    to: bytes
    path: bytes
    copy: Copy
    told: Told


class CopyingBack:
    """Of one folder; on the thread that owns its catalog. `hindrance` says why nothing may be done to the tree now."""

    def __init__(self, catalog: Catalog, fs: FileSystem, hindrance: Callable[[], str]) -> None:
        self._catalog = catalog
        self._fs = fs
        self._hindrance = hindrance
        self._jobs: deque[_Job] = deque()

    @property
    def under_way(self) -> bool:
        return bool(self._jobs)

    def begin(self, number: int, to: bytes, told: Told, now_ms: int) -> bool:
        """False where it takes no copy, or a small one: `restore` does it at once. `told` is called once, by `work`.

        Raises OperatorError.
        """
        if self._hindrance():
            return False  # `restore` says so
        row, stat = find(self._catalog, self._fs, number, now_ms)
        if not must_copy(row, stat) or stat.size <= STEP_BYTES:
            return False
        if any(job.number == number for job in self._jobs):
            raise OperatorError("it is being brought back already")
        if len(self._jobs) >= COPIES_MAX:
            raise OperatorError("too many files are being brought back: try again")
        try:
            copy = Copy(self._fs, row, stat)
        except OSError as error:
            raise cannot(to or row.path, error) from error
        self._jobs.append(_Job(number, to, row.path, copy, told))
        return True

    def work(self) -> list[Effect]:
        """One step of the first; what is to be told at its end."""
        if not self._jobs:
            return []
        job, path, reason = self._jobs[0], b"", self._hindrance()
        try:
            if not reason and not job.copy.step():
                return []
            path = job.copy.bring(job.to) if not reason else b""
        except OperatorError as error:
            reason = str(error)
        except OSError as error:
            reason = str(cannot(job.to or job.path, error))
        self._jobs.popleft().copy.close()
        return job.told(path, reason)

    def close(self) -> None:
        """The folder ends: what is under way is not brought back."""
        while self._jobs:
            self._jobs.popleft().copy.close()
