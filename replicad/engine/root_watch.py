"""The folder's root while the folder is at work: whether it holds, since when not, and what becomes of that (I6).

It is asked before and after each look at the disk, and at every tick. A fault is told once; while it lasts it is looked
every ROOT_CHECK_MS whether the root is there again, and now and then whether the marker alone is missing, which is
mended without an operator (engine.folder_root).

A directory that is not the folder's, or is not at its path any more, is *let go of*: nothing of its disk is held open,
so it can be unmounted, checked, and mounted again. The folder goes on without a disk (it knows what others do, and
serves its catalog), and what is at the path is opened for a moment at each look. Both, letting go and opening again,
begin with a new start of the folder (OpenAnewError), so that no handle, watch or thread of before is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from replicad.catalog.store import Catalog
from replicad.core.effects import Changed, Effect, Report
from replicad.engine.deletions import Deletions, Missing
from replicad.engine.folder_root import (
    Evidence,
    cannot_open,
    evidence,
    held,
    is_in_question,
    is_same_directory,
    mark_root,
    prepare_root,
    root_fault,
    what_failed,
)
from replicad.engine.holds import DELETIONS, ROOT, Hold, forget_lost
from replicad.errors import FileTrouble, OpenAnewError, OperatorError
from replicad.files.fs import FileSystem
from replicad.files.paths import PRIVATE
from replicad.files.root_marker import MARKER_ID_BYTES

ROOT_CHECK_MS = 2_000
"""How often it is looked whether a root that was lost is there again: two system calls."""
MOUNTED_ANEW = "its directory is there again: it is opened again in a moment"
NOTHING_THERE = (
    "there is nothing at the folder's path, as at an empty mount point: to approve would delete all of the folder on"
    " every member. Bring its disk back; or `replicad hold reject`, and what the others have comes back"
)
EVIDENCE_MS = 60_000
"""How often a directory without marker is searched for what the catalog has seen there: up to a second of look-ups."""


class RootWatch:
    """Of one folder, on its thread. `reports` are for the operator, taken by the caller."""

    def __init__(
        self,
        catalog: Catalog,
        fs: FileSystem,
        new_bytes: Callable[[int], bytes],
        deletions: Deletions,
        now_ms: int,
    ) -> None:
        self.deletions = deletions
        self._catalog = catalog
        self._fs = fs
        self._new_bytes = new_bytes
        self._checked_ms = now_ms
        self._evidence: Evidence | None = None
        self._evidence_ms: int | None = None
        self.fault = "it has not been started"
        """Why the folder must not be touched; "" while the root holds."""
        self.reports: list[Effect] = []
        self.away = is_in_question(catalog, fs)
        """It was let go of; nobody else uses it yet."""
        if self.away:
            fs.let_go()

    def begin(self, now_ms: int) -> None:
        """At the start. Raises OperatorError where the folder cannot be used at all."""
        if self.away:
            self._look_there()
            self.reports.append(Report(0, self.fault))
            return
        self.fault = self._prepare(now_ms)
        if self.fault and self._mark_again(now_ms):
            return
        self.fault = self.fault or self._held_deletions
        if self.fault:
            self.reports.append(Report(0, self.fault))

    def holds(self) -> bool:
        """Whether the root is the folder's now; a fault stays until `check` finds it mended."""
        if not self.fault:
            self.fault = root_fault(self._catalog, self._fs)
            if self.fault:
                self._evidence = self._evidence_ms = None
                self.reports += [Report(0, self.fault), Changed()]
        return not self.fault

    def check(self, now_ms: int) -> bool:
        """Look again; True when a root that was in doubt has come back. Raises OperatorError as `begin`, and where the
        folder must be opened anew."""
        self._checked_ms = now_ms
        if not self.fault:
            self.holds()
            return False
        if self.away:
            self._check_there()
            return False
        before, was_held = self.fault, self.deletions.missing is not None
        self.fault = root_fault(self._catalog, self._fs)
        if not self.fault and self.deletions.missing is not None and not self._are_back(now_ms):
            self.fault = self._held_deletions
            return False
        if not self.fault:
            what = "some of what was missing is" if was_held else "the folder's root is"
            self.fault = self._prepare(now_ms)
            self.reports += [Report(0, f"{what} there again"), Changed()]
            return not self.fault
        if is_in_question(self._catalog, self._fs):
            raise OpenAnewError(self.fault)
        if self._mark_again(now_ms):
            return True
        if self.fault != before:
            self._evidence = None
            self.reports += [Report(0, self.fault), Changed()]
        return False

    def next_due_ms(self) -> int | None:
        return self._checked_ms + ROOT_CHECK_MS if self.fault else None

    def clock_set_back(self) -> None:
        self._checked_ms, self._evidence_ms = 0, None

    # -- deletions that a scan has found

    def hold_deletions(self, missing: Missing, now_ms: int) -> None:
        """Owns its transaction."""
        self.deletions.hold(missing, now_ms)
        self._evidence_ms = now_ms
        self.fault = missing.reason
        self.reports += [Report(0, self.fault), Changed()]

    @property
    def _held_deletions(self) -> str:
        return self.deletions.missing.reason if self.deletions.missing is not None else ""

    def _are_back(self, now_ms: int) -> bool:
        """Whether some of them have turned up again: then nothing is held, until it is found again."""
        if self._evidence_ms is not None and now_ms < self._evidence_ms + EVIDENCE_MS:
            return False
        self._evidence_ms = now_ms
        if not self.deletions.are_back():
            return False
        self.deletions.let_go(now_ms)
        return True

    # -- an operator's decision

    @property
    def held(self) -> bool:
        if self._deletions_alone:
            return True
        try:
            with self._there() as there:
                return bool(self.fault) and held(self._catalog, there)
        except OSError:
            return False

    @property
    def hold(self) -> Hold | None:
        """What an operator is to decide."""
        if not self.held:
            return None
        if (missing := self._deletions_alone) is not None:
            return Hold(DELETIONS, self.fault, missing.objects - missing.gone, missing.objects, missing.names)
        if self._evidence is None:
            try:
                with self._there() as there:
                    self._evidence = evidence(self._catalog, there)
            except OSError:
                return None  # it has just gone
        return Hold(ROOT, self.fault, self._evidence.there, self._evidence.looked_for)

    def look_again(self) -> None:
        """What is to be decided upon is what is there now, not what was seen the last time."""
        self._evidence = None
        if self.away:
            self._look_there()

    def is_empty(self) -> bool:
        """Whether nothing lies in the directory that is there. What cannot be looked at counts as nothing."""
        try:
            with self._there() as there:
                return all(name == PRIVATE for name, _ in there.list_dir(b""))
        except OSError:
            return True

    def accept(self, now_ms: int) -> None:
        """The directory that is there is the folder's from now on. Raises OperatorError where it cannot be marked."""
        try:
            with self._there() as there:
                mark_root(self._catalog, there, self._new_bytes(MARKER_ID_BYTES), now_ms)
        except FileTrouble as error:
            raise OperatorError(f"the folder cannot be used: {error.path!r} {error.reason}") from error
        except OSError as error:
            raise OperatorError(f"the folder cannot be used: {what_failed(error)}") from error

    # -- what is at the path, while the disk was let go of

    @contextmanager
    def _there(self) -> Iterator[FileSystem]:
        """What is open; or, where that was let go of, what is at the path, for a moment. Raises OSError."""
        if not self.away:
            yield self._fs
            return
        there = self._fs.opened_anew()
        try:
            yield there
        finally:
            there.close()

    def _look_there(self) -> bool:
        """Say in `fault` what is there; whether it is to be opened."""
        try:
            with self._there() as there:
                self.fault = root_fault(self._catalog, there) or MOUNTED_ANEW
                return not is_in_question(self._catalog, there)
        except OSError as error:
            self.fault = cannot_open(error)
            return False

    def _check_there(self) -> None:
        before = self.fault
        if self._look_there():
            raise OpenAnewError(MOUNTED_ANEW)
        if self.fault != before:
            self._evidence = None
            self.reports += [Report(0, self.fault), Changed()]

    # -- inside

    @property
    def _deletions_alone(self) -> Missing | None:
        """What is held of deletions; not while the root itself is in question."""
        missing = self.deletions.missing
        return missing if missing is not None and self.fault == missing.reason else None

    def _prepare(self, now_ms: int) -> str:
        return prepare_root(self._catalog, self._fs, self._new_bytes(MARKER_ID_BYTES), now_ms)

    def _mark_again(self, now_ms: int) -> bool:
        """Where only the marker is missing; the fault is mended then."""
        if self._evidence_ms is not None and now_ms < self._evidence_ms + EVIDENCE_MS:
            return False
        try:
            if not is_same_directory(self._catalog, self._fs):
                return False
        except OSError:
            return False  # the fault says why
        self._evidence_ms = now_ms
        found = self._evidence = evidence(self._catalog, self._fs)
        told = f"{found.there} of {found.looked_for} entries that were looked for are at their paths"
        if not found.half:
            self.reports.append(Report(0, f"the root is the same directory, without its marker; only {told}"))
            return False
        self.accept(now_ms)
        forget_lost(self._catalog, self._fs, now_ms)
        self.fault = ""
        text = f".replicad was removed: it has been made again, as this is the same directory, and {told}"
        self.reports += [Report(0, text), Changed()]
        return True
