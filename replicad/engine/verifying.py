"""The folder's part in a verification (engine.verify): which suspects are differences, and what is done about them.

What differs in size, times, mode or presence goes the ordinary way of a change that nobody told of: it is looked at
now, as the next scan would. What differs in content alone does not: it may be the user's, or the disk's fault, and only
an operator can tell. It is reported and left as it is, or
- *taken*: read again by the scan, and entered as an edit made now;
- *mended*: fetched again from a member that has it, and put in its place by an exchange; what was there is preserved.
  Where no member in contact has it, it is left as it is.
Either way nothing is lost. RACE: between the last look and the act somebody may edit the file: then the act finds other
times and does nothing, as with any act, or the scan finds the edit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from enum import Enum

import msgspec

from replicad.catalog.changes import Change
from replicad.catalog.store import Catalog
from replicad.core.diff import Sight, look
from replicad.core.distrust import distrust
from replicad.core.draft import Draft
from replicad.core.ids import Cn, Uid
from replicad.core.steps import node_path
from replicad.core.view import ROOT_NODE, Node
from replicad.engine.folder_disk import LocalSide
from replicad.engine.looking import Look, Looking
from replicad.engine.renames import trouble
from replicad.engine.verify import CONTENT, UNREADABLE, Suspect, expected, has_other_content, kind_of
from replicad.errors import OperatorError
from replicad.files.fs import FileSystem
from replicad.files.paths import join


class Remedy(Enum):
    """What is to be done about content that differs."""

    REPORT = "report"
    TAKE = "take"
    MEND = "mend"


LOOKED_AT, REPORTED, TAKEN, FETCHED, NOT_TO_BE_HAD = "looked at", "reported", "taken", "fetched", "not to be had"
"""What became of a difference."""


class Difference(msgspec.Struct, frozen=True):
    path: bytes
    kind: str
    action: str
    reason: str = ""
    """Why it cannot be read."""


class Verifying:
    """Of one folder, on its thread. `commit` stores a draft and offers what it made pending; `has_it`: whether a member
    in contact has the content of this CN."""

    def __init__(
        self,
        catalog: Catalog,
        fs: FileSystem,
        disk: LocalSide,
        looking: Looking,
        commit: Callable[[Draft, Sequence[Change], set[Uid]], None],
        has_it: Callable[[Cn], bool],
    ) -> None:
        self._catalog = catalog
        self._fs = fs
        self._disk = disk
        self._looking = looking
        self._commit = commit
        self._has_it = has_it
        self._look: Look | None = None

    def begin(self, now_ms: int) -> None:
        """Everything that has been changed on the disk up to now is to be looked at; `through` says when it was.

        Raises OperatorError where nothing is looked at now.
        """
        self.end()
        if self._disk.hindrance:
            raise OperatorError(f"the folder cannot be verified now: {self._disk.hindrance}")
        self._look = self._looking.begin(now_ms)

    def marker_seen(self, name: bytes) -> None:
        if self._look is not None and self._look.marker == name:
            self._looking.marker_seen(self._look)

    def through(self, now_ms: int) -> str | None:
        """Empty: it was; None: not yet; else why it is not to be expected."""
        if self._look is None or self._disk.hindrance:
            return self._disk.hindrance or "it was given up"
        self._looking.overdue(self._look, now_ms)
        return "" if self._looking.result(self._look) is not None else None

    def next_due_ms(self) -> int | None:
        return self._look.next_due_ms() if self._look is not None else None

    def end(self) -> None:
        """Nobody waits any more."""
        if self._look is not None:
            self._looking.end(self._look)
            self._look = None

    def judge(self, suspects: Sequence[Suspect], remedy: Remedy) -> list[Difference]:
        """Those of them that differ still, and what is done about each. Owns its transactions."""
        blocked = {path for path, _ in self._disk.scanner.blocked()}
        return [difference for one in suspects for difference in self._judge(one, remedy, blocked)]

    def _judge(self, suspect: Suspect, remedy: Remedy, blocked: set[bytes]) -> Iterator[Difference]:
        """One or none."""
        catalog = self._catalog
        node = catalog.node(suspect.node.id) if suspect.node is not None else None
        if suspect.node is not None and node is None:
            return  # that it went has been entered by now
        parent = node.parent if node is not None else suspect.parent
        if parent != ROOT_NODE and catalog.node(parent) is None:
            return
        name = node.name if node is not None else suspect.name
        path = join(node_path(catalog, parent) if parent != ROOT_NODE else b"", name)
        try:
            root, stat = self._fs.stat(b""), self._fs.stat(path)
        except OSError as error:
            yield Difference(path, UNREADABLE, LOOKED_AT, trouble(path, error).reason)
            return
        assert root is not None, "an open root has a stat"
        node = node or catalog.node_at(parent, name)
        sight = look(node, stat, root.mount)
        if sight is Sight.SAME and suspect.kind == CONTENT and node is not None:
            yield from self._other_content(path, node, suspect, remedy)
        elif sight is Sight.SAME and suspect.kind == UNREADABLE:
            yield Difference(path, UNREADABLE, REPORTED, suspect.reason)
        elif (kind := kind_of(sight, node)) and path not in blocked:
            self._disk.hint_paths([path])
            yield Difference(path, kind, LOOKED_AT)

    def _other_content(self, path: bytes, node: Node, suspect: Suspect, remedy: Remedy) -> Iterator[Difference]:
        before, content = suspect.node, expected(self._catalog, node)
        assert before is not None
        if (before.inode, before.size, before.mtime_ns, before.ctime_ns) != (
            node.inode,
            node.size,
            node.mtime_ns,
            node.ctime_ns,
        ):
            return  # it was read since
        if content is not None and has_other_content(node, content, suspect.found):
            yield Difference(path, CONTENT, self._remedy(path, node, suspect.found, remedy))

    def _remedy(self, path: bytes, node: Node, found: bytes, remedy: Remedy) -> str:
        if remedy is Remedy.TAKE:
            self._disk.read_again(path)
            return TAKEN
        if remedy is Remedy.MEND:
            return self._mend(node, found)
        return REPORTED

    def _mend(self, node: Node, found: bytes) -> str:
        states = self._catalog.objects(self._catalog.uids_at(node.id))
        wanted = [state.record.content for state in states if state.record.content is not None]
        if not any(self._has_it(content.cn) for content in wanted if content.gone is None):
            return NOT_TO_BE_HAD
        draft = Draft(self._catalog)
        uids = distrust(draft, node, found)
        self._commit(draft, [], set(uids))
        return FETCHED
