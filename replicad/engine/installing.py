"""What the records demand of the disk, of one folder: planned and carried out (engine.workbench), the contents fetched
for it (core.fetching), and directories asked for that nobody here knows (engine.missing_parents).

Whatever a commit makes pending is offered here before it; what it makes superfluous is not fetched any more.
"""

from __future__ import annotations

from collections.abc import Sequence

from replicad.catalog.store import Catalog
from replicad.core.draft import Draft
from replicad.core.effects import Effect, Fetched
from replicad.core.fetching import Fetching
from replicad.core.ids import Uid
from replicad.core.plan import node_path
from replicad.core.tree import wanted_path
from replicad.engine.awaiting import BlockedObject
from replicad.engine.clocks import Clocks
from replicad.engine.exchange import Exchange
from replicad.engine.fetched import take_fetched
from replicad.engine.folder_disk import LocalSide
from replicad.engine.missing_parents import MissingParents
from replicad.engine.workbench import Workbench, remove_staged
from replicad.files.fs import FileSystem


class Installing:
    """Used by the thread that owns the catalog."""

    def __init__(self, catalog: Catalog, fs: FileSystem, exchange: Exchange, quota_bytes: int) -> None:
        self._catalog = catalog
        self._fs = fs
        self._exchange = exchange
        self._settlings = 0
        self.missing_parents = MissingParents(exchange)
        self.fetching = Fetching(quota_bytes)
        self.workbench = Workbench(catalog, fs, self.fetching, exchange.settled)

    def offer(self, draft: Draft) -> None:
        """What a draft, about to be committed, makes pending; and what it makes superfluous of what is fetched."""
        stale: list[bytes] = []
        for uid, state in draft.states.items():
            want = self.fetching.wanted(uid)
            content = state.record.content
            if want is not None and (not state.pending or content is None or content.digest != want.digest):
                stale.extend(self.fetching.forget(uid))
        self.workbench.offer(uid for uid, state in draft.states.items() if state.pending)
        remove_staged(self._fs, stale)

    def fetched(self, event: Fetched, now_ms: int) -> None:
        take_fetched(event, self._catalog, self._fs, self.fetching, self.workbench, now_ms)

    def work(self, disk: LocalSide, clocks: Clocks, now_ms: int) -> bool:
        """One batch, if it is time; whether what is installed has changed."""
        if self._exchange.settlings != self._settlings:
            self._settlings = self._exchange.settlings
            self.workbench.release()
        due_ms = self.workbench.next_due_ms(now_ms)
        if due_ms is None or due_ms > now_ms:
            return False
        done = self.workbench.work(now_ms)
        remove_staged(self._fs, done.stale)
        disk.hint_paths(done.applied.dirty)
        self.missing_parents.found(done.missing_parents, now_ms)
        clocks.installed(done.applied.done, now_ms)
        return bool(done.applied.done) or done.idle

    def requests(self, now_ms: int) -> Sequence[Effect]:
        """What is to be fetched now, and from whom."""
        exchange, catalog = self._exchange, self._catalog
        return self.fetching.requests(
            now_ms, exchange.peers_with, exchange.connected, lambda digest: bool(catalog.kept(digest, 1))
        )

    def clock_set_back(self, now_ms: int) -> None:
        self.workbench.clock_set_back()
        self.fetching.linked(now_ms)
        self.missing_parents.clock_set_back()

    def blocked(self) -> Sequence[BlockedObject]:
        """Objects that wait, each with its path and the reason."""
        found: dict[Uid, str] = dict(self.fetching.waiting())
        found.update(self.workbench.waiting())
        # What has been superseded while it waited is forgotten when its turn comes: it hinders nothing any more.
        pending = {state.record.uid for state in self._catalog.objects(list(found)) if state.pending}
        return [(uid, self._path_of(uid), why) for uid, why in sorted(found.items()) if uid in pending]

    def _path_of(self, uid: Uid) -> bytes:
        """Where it is wanted, or else where it is."""
        wanted = wanted_path(self._catalog, uid)
        state = self._catalog.object(uid)
        if wanted is None and state is not None and state.node is not None:
            return node_path(self._catalog, state.node)
        return wanted or b""
