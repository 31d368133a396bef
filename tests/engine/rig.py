"""A member without a network: real catalog, applier and workbench on a tree in memory, records given by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from replicad.catalog.database import MemoryDatabase
from replicad.catalog.store import Catalog
from replicad.core.absorb import absorb
from replicad.core.draft import Draft
from replicad.core.effects import FetchedItem
from replicad.core.fetching import Fetching
from replicad.core.ids import Cn
from replicad.core.plan import STAGING_PATH
from replicad.core.records import DIRECTORY, FILE, Record
from replicad.core.tree import tree_of
from replicad.core.view import ROOT_NODE, STAGING_NODE, Node
from replicad.engine.recovery import recover
from replicad.engine.workbench import Workbench, remove_staged
from tests.sim.memory_fs import MemoryFileSystem

FOLDER = bytes(16)
START_MS = 10_000_000
ROUNDS_MAX = 200


class Crash(BaseException):
    """The process is gone."""


class Rig:
    def __init__(self) -> None:
        self.now_ms = START_MS
        self.database = MemoryDatabase()
        self.fs = MemoryFileSystem(lambda: self.now_ms * 1_000_000)
        for path in (b".replicad", b".replicad/staging", b".replicad/ConflictAndDeleted", b".replicad/PreExisting"):
            self.fs.make_dir(path, 0o700)
        self.settled: Callable[[bytes], bool] = lambda uid: True
        self.dirty: list[bytes] = []
        self.start()

    def start(self) -> None:
        """As the daemon does it: what the last run left is finished first."""
        self.catalog = Catalog.open(self.database, FOLDER, lambda: 99)
        if self.catalog.node(ROOT_NODE) is None:
            draft = Draft(self.catalog)
            for number, name in ((ROOT_NODE, b""), (STAGING_NODE, b".replicad/staging")):
                draft.put_node(Node(number, 0, name, DIRECTORY, number, 0, 0, 0, 0, 0o755))
            self.catalog.commit(draft, now_ms=self.now_ms)
        self.fetching = Fetching(1 << 30)
        self.workbench = Workbench(self.catalog, self.fs, self.fetching, lambda uid: self.settled(uid))
        self.dirty.extend(recover(self.catalog, self.fs, self.now_ms).dirty)

    def crash(self) -> None:
        self.fs.before_change = None
        self.fs.crash()
        self.start()

    def take(self, records: Iterable[Record]) -> None:
        """Records as they come from a peer."""
        draft = Draft(self.catalog)
        absorb(draft, list(records))
        self.catalog.commit(draft, now_ms=self.now_ms)
        self.workbench.offer(uid for uid, state in draft.states.items() if state.pending)

    def work(self) -> bool:
        """One round, with all content that is asked for brought at once; whether anything was done or asked for."""
        self.now_ms += 1_000
        for fetch in self.fetching.requests(self.now_ms, lambda cn: ["peer"]):
            items = []
            for item in fetch.items:
                remove_staged(self.fs, [item.staged])
                with self.fs.create(STAGING_PATH + b"/" + item.staged) as file:
                    file.write_at(0, bytes(item.digest[:1]) * item.size)
                items.append(FetchedItem(item.uid, item.digest, item.staged))
            self.workbench.offer(self.fetching.finish(fetch.ticket, items, self.now_ms))
        done = self.workbench.work(self.now_ms)
        remove_staged(self.fs, done.stale)
        self.dirty.extend(done.applied.dirty)
        return bool(done.applied.done) or done.more or self.fetching.next_due_ms() is not None

    def settle(self) -> None:
        """Work until nothing more can be done."""
        for _ in range(ROUNDS_MAX):
            if not self.work() and not self.work():
                return
        raise AssertionError(f"never at rest: {self.workbench.waiting()}")

    def disk(self) -> dict[bytes, tuple[int, int, bytes]]:
        """(kind, mode, content or target) by path."""
        return {
            path: (stat.kind, 0 if stat.kind not in (FILE, DIRECTORY) else stat.mode, data)
            for path, (stat, data) in self.fs.read_tree().items()
        }

    def wanted(self) -> dict[bytes, tuple[int, int, bytes]]:
        """What the tree says the disk should be."""
        tree = {}
        for path, outcome in tree_of(self.catalog).items():
            state = self.catalog.object(outcome.lead)
            assert state is not None
            content = state.record.content
            assert content is not None
            data = bytes(content.digest[:1]) * content.size if outcome.kind == FILE else content.value
            mode = content.mode if outcome.kind in (FILE, DIRECTORY) else 0
            tree[path] = (outcome.kind, mode, data)
        return dict(sorted(tree.items()))

    def preserved(self) -> list[bytes]:
        """Contents in ConflictAndDeleted, sorted."""
        found = self.fs.read_tree(private=True)
        return sorted(data for path, (stat, data) in found.items() if path.startswith(b".replicad/ConflictAndDeleted/"))

    def cn_of(self, uid: bytes) -> Cn:
        state = self.catalog.object(uid)
        assert state is not None
        assert state.record.content is not None
        return state.record.content.cn
