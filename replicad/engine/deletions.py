"""Many deletions that a scan has found, and nobody saw happen: they wait for an operator's word (I6, engine.holds).

A disk that was emptied while the daemon was stopped, or half restored, is not told from one that its user tidied up. So
what a scan finds gone is held where it is more than `scan_deletions_max` objects and a quarter of the folder, or all of
a folder of more than SMALL_FOLDER. Nothing of that scan is entered; the folder is in state 5, and says what is missing.
What the watch has told of goes through, however much it is; where nothing is watched (polling), nothing is told.

Should any of what is missing turn up again, all is looked at again. *Approved*, deletions go through until the next
scan of everything has ended. Both words, and what is held, are in the catalog: a restart changes nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from replicad.catalog.changes import SetMeta
from replicad.catalog.store import Catalog
from replicad.core.draft import Draft
from replicad.core.records import DIRECTORY
from replicad.core.view import ROOT_NODE, Node, NodeId
from replicad.files.fs import FileSystem
from replicad.files.paths import PRIVATE

HELD_META = "safety.deletions"
APPROVED = b"approved"
SMALL_FOLDER = 10
SHARE = 4
"""One in so many objects of the folder."""
NAMES_MAX = 100
"""Of the uppermost entries that are missing: shown, and looked for again."""
COUNTED_MAX = 1_000_000
"""Entries counted beneath those that are missing: a second of the folder's thread for each 200,000."""
REASON = (
    "{gone:,} of {objects:,} objects are missing, and nobody saw them being deleted: they were deleted while nothing"
    " was watched, or the disk has lost them"
)


class Missing(msgspec.Struct, frozen=True, array_like=True):
    """`names`: paths of the uppermost entries, at most NAMES_MAX. `objects`: how many the folder has."""

    gone: int
    objects: int
    names: list[bytes]

    @property
    def reason(self) -> str:
        return REASON.format(gone=self.gone, objects=self.objects)


TooMany = Callable[[Draft, Sequence[tuple[Node, bytes]], int], Missing | int]
"""As `Deletions.too_many`."""
_decoder = msgspec.msgpack.Decoder(Missing)


class Deletions:
    """Of one folder, on its thread. `at_most`: the setting `scan_deletions_max`."""

    def __init__(self, catalog: Catalog, fs: FileSystem, at_most: Callable[[], int]) -> None:
        self._catalog = catalog
        self._fs = fs
        self._at_most = at_most
        stored = catalog.meta(HELD_META)
        self._approved = stored == APPROVED
        self.missing: Missing | None = _decoder.decode(stored) if stored and not self._approved else None
        """What is held."""

    @property
    def names(self) -> tuple[bytes, ...]:
        """Of what is held, to be shown."""
        return tuple(self.missing.names) if self.missing is not None else ()

    def too_many(self, draft: Draft, gone: Sequence[tuple[Node, bytes]], before: int) -> Missing | int:
        """What is to be held, if it is; else how much goes. `gone`: entries that a scan finds nowhere, and their paths,
        none beneath another; `before`: how much of this scan's has gone already."""
        if self._approved or not gone:
            return 0
        objects = self._catalog.counts()[0]
        count = before + sum(self._count(draft, node) for node, _ in gone)
        many = count > self._at_most() and SHARE * count > objects
        if many or (count > SMALL_FOLDER and self._is_all(draft, {node.id for node, _ in gone})):
            return Missing(count, max(objects, count), [path for _, path in gone[:NAMES_MAX]])
        return count - before

    def hold(self, missing: Missing, now_ms: int) -> None:
        """Owns its transaction."""
        self.missing = missing
        self._catalog.commit(None, [SetMeta(HELD_META, msgspec.msgpack.encode(missing))], now_ms=now_ms)

    def are_back(self) -> bool:
        """Whether anything of what is held is at its path again."""
        assert self.missing is not None, "nothing is held"
        for path in self.missing.names:
            try:
                if self._fs.stat(path) is not None:
                    return True
            except OSError:
                continue  # what cannot be seen is not back
        return False

    def let_go(self, now_ms: int, *, approved: bool = False) -> None:
        """Nothing is held any more. Owns its transaction."""
        self.missing, self._approved = None, approved
        self._catalog.commit(None, [SetMeta(HELD_META, APPROVED if approved else None)], now_ms=now_ms)

    def scanned(self, now_ms: int) -> None:
        """All was looked at: an approval was for what that found. Owns its transaction."""
        if self._approved:
            self.let_go(now_ms)

    def _count(self, draft: Draft, top: Node) -> int:
        count, waiting = 0, [top]
        while waiting and count < COUNTED_MAX:
            node = waiting.pop()
            count += 1
            if node.kind == DIRECTORY:
                waiting.extend(draft.nodes_in(node.id, COUNTED_MAX))
        return count

    def _is_all(self, draft: Draft, gone: set[NodeId]) -> bool:
        top = draft.nodes_in(ROOT_NODE, len(gone) + 2)
        return all(node.id in gone or node.name == PRIVATE for node in top)
