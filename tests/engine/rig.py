"""A member without a network: real catalog, applier and workbench on a tree in memory, records given by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from blake3 import blake3

from replicad.catalog.changes import Preserved
from replicad.catalog.database import MemoryDatabase
from replicad.catalog.store import Catalog
from replicad.core.absorb import absorb
from replicad.core.draft import Draft
from replicad.core.effects import Fetch, FetchedItem
from replicad.core.fetching import Fetching
from replicad.core.ids import Cn, Uid
from replicad.core.records import DIRECTORY, FILE, SYMLINK, Content, Place, Record, record, vector_after
from replicad.core.steps import STAGING_PATH
from replicad.core.tree import tree_of
from replicad.core.view import ROOT_NODE, STAGING_NODE, Node
from replicad.engine.disposal import settle_out
from replicad.engine.recovery import recover
from replicad.engine.workbench import Round, Workbench, remove_staged
from tests.sim.memory_fs import MemoryFileSystem

FOLDER = bytes(16)
START_MS = 10_000_000
ROUNDS_MAX = 200
ROUND_MS = 1_000
QUOTA_BYTES = 1 << 30
PRIVATE_DIRS = (
    b".replicad",
    b".replicad/staging",
    b".replicad/fence",
    b".replicad/ConflictAndDeleted",
    b".replicad/PreExisting",
)

Look = dict[bytes, tuple[int, int, bytes]]
"""(kind, mode, content or target) by path; the mode of files and directories."""


class Crash(BaseException):
    """The process is gone."""


class Bodies:
    """Contents by digest, as others hold them."""

    def __init__(self) -> None:
        self._bodies: dict[bytes, bytes] = {}

    def add(self, body: bytes) -> bytes:
        digest = blake3(body).digest()
        self._bodies[digest] = body
        return digest

    def all(self) -> Iterable[bytes]:
        return self._bodies.values()

    def __getitem__(self, digest: bytes) -> bytes:
        return self._bodies[digest]


class Rig:
    """`tick_ns`: how far the clock goes with each look at it; by default it stands still within a round."""

    def __init__(self, bodies: Bodies | None = None, *, quota_bytes: int = QUOTA_BYTES, tick_ns: int = 0) -> None:
        self.now_ms = START_MS
        self._ticks = 0
        self._tick_ns = tick_ns
        self.quota_bytes = quota_bytes
        self.bodies = bodies if bodies is not None else Bodies()
        self.database = MemoryDatabase()
        self.fs = self.make_fs()
        for path in PRIVATE_DIRS:
            self.fs.make_dir(path, 0o700)
        self.settled: Callable[[Uid], bool] = lambda uid: True
        self.peers: Callable[[Cn], Sequence[str]] = lambda cn: ["peer"]
        self.dirty: list[bytes] = []
        self.before_commit: Callable[[], None] = lambda: None
        self.start()

    def make_fs(self) -> MemoryFileSystem:
        return MemoryFileSystem(self.now_ns)

    def now_ns(self) -> int:
        self._ticks += self._tick_ns
        return self.now_ms * 1_000_000 + self._ticks

    def start(self) -> None:
        """As the daemon does it: what the last run left is finished first."""
        self.catalog = Catalog.open(self.database, FOLDER, lambda: 99)
        self._watch_commits()
        if self.catalog.node(ROOT_NODE) is None:
            draft = Draft(self.catalog)
            for number, name in ((ROOT_NODE, b""), (STAGING_NODE, b".replicad/staging")):
                stat = self.fs.stat(name)
                assert stat is not None
                draft.put_node(Node(number, 0, name, DIRECTORY, stat.inode, 0, 0, 0, stat.birth_ns, stat.mode))
            self.catalog.commit(draft, now_ms=self.now_ms)
        self.fetching = Fetching(self.quota_bytes)
        self.workbench = Workbench(self.catalog, self.fs, self.fetching, lambda uid: self.settled(uid))
        self.recovered = recover(self.catalog, self.fs, self.now_ms)
        self.dirty.extend(self.recovered.dirty)

    def _watch_commits(self) -> None:
        commit = self.catalog.commit

        def watched(draft: Draft | None, changes: Sequence[object] = (), *, now_ms: int) -> int:
            self.before_commit()
            head = commit(draft, changes, now_ms=now_ms)  # type: ignore[arg-type]
            self.before_commit()
            return head

        self.catalog.commit = watched  # type: ignore[method-assign]

    def kill(self) -> None:
        """kill -9: nothing runs until `start`."""
        self.before_commit = lambda: None
        self.fs.before_change = self.fs.before_read = None
        self.fs.crash()

    def crash(self) -> None:
        self.kill()
        self.start()

    # -- what comes from others

    def take(self, records: Iterable[Record]) -> None:
        """Records as they come from a peer."""
        draft = Draft(self.catalog)
        absorb(draft, list(records))
        self.commit(draft)

    def commit(self, draft: Draft) -> None:
        """As the folder does it, whoever made the draft."""
        stale: list[bytes] = []
        for uid, state in draft.states.items():
            want, content = self.fetching.wanted(uid), state.record.content
            if want is not None and (not state.pending or content is None or content.digest != want.digest):
                stale.extend(self.fetching.forget(uid))
        self.workbench.offer(uid for uid, state in draft.states.items() if state.pending)
        remove_staged(self.fs, stale)
        touched = list(draft.states)
        self.catalog.commit(draft, now_ms=self.now_ms)
        for uid in touched:
            self.workbench.retry(uid)

    # -- work

    def fetch(self, fetch: Fetch) -> list[FetchedItem]:
        """Carried out at once, as engine.fetcher does it with small files."""
        items = []
        for item in fetch.items:
            remove_staged(self.fs, [item.staged])
            try:
                with self.fs.create(STAGING_PATH + b"/" + item.staged) as file:
                    file.write_at(0, self.bodies[item.digest])
                items.append(FetchedItem(item.uid, item.digest, item.staged))
            except OSError as error:
                items.append(FetchedItem(item.uid, item.digest, item.staged, str(error)))
        return items

    def bring(self) -> int:
        """All content that is asked for now; how many requests that were."""
        fetches = self.fetching.requests(self.now_ms, self.peers)
        for fetch in fetches:
            items = self.fetch(fetch)
            self.workbench.offer(self.fetching.finish(fetch.ticket, items, self.now_ms))
        return len(fetches)

    def step(self) -> Round:
        """One round of the workbench."""
        done = self.workbench.work(self.now_ms)
        remove_staged(self.fs, done.stale)
        self.dirty.extend(done.applied.dirty)
        return done

    def work(self) -> bool:
        """A second passes; whether anything was done, asked for, or waits to be done."""
        self.now_ms += ROUND_MS
        fetched = self.bring()
        done = self.step()
        return bool(fetched or done.applied.done or done.more or self.fetching.next_due_ms() is not None)

    def settle(self) -> None:
        """Work until nothing more can be done."""
        for _ in range(ROUNDS_MAX):
            if not self.work() and not self.work():
                return
        raise AssertionError(f"never at rest: {self.workbench.waiting()} {self.fetching.waiting()}")

    def pass_quiet_time(self) -> None:
        """What came out of the tree is looked at again, as the folder does it."""
        self.settle_outs(10_000)

    def settle_outs(self, passed_ms: int) -> None:
        self.now_ms += passed_ms
        for out in self.catalog.outs(self.now_ms, 10_000):
            changes = settle_out(self.fs, out, self.catalog.new_id(), "ConflictAndDeleted", self.now_ms)
            self.catalog.commit(None, changes, now_ms=self.now_ms)

    # -- what a test asks

    def disk(self) -> Look:
        return {
            path: (stat.kind, 0 if stat.kind not in (FILE, DIRECTORY) else stat.mode, data)
            for path, (stat, data) in self.fs.read_tree().items()
        }

    def wanted(self) -> Look:
        """What the tree says the disk should be."""
        tree = {}
        for path, outcome in tree_of(self.catalog).items():
            state = self.catalog.object(outcome.lead)
            assert state is not None
            content = state.record.content
            assert content is not None
            data = self.bodies[content.digest] if outcome.kind == FILE else content.value
            mode = content.mode if outcome.kind in (FILE, DIRECTORY) else 0
            tree[path] = (outcome.kind, mode, data)
        return dict(sorted(tree.items()))

    def lead(self, path: bytes) -> Uid:
        """The object that the tree shows at a path."""
        return tree_of(self.catalog)[path].lead

    def all_uids(self) -> list[Uid]:
        return [row[0] for row in self.database.connection.execute("SELECT uid FROM object ORDER BY uid")]

    def stored(self, store: str = "ConflictAndDeleted") -> list[bytes]:
        """Contents in a store, sorted."""
        prefix = b".replicad/" + store.encode() + b"/"
        found = self.fs.read_tree(private=True)
        return sorted(
            data for path, (stat, data) in found.items() if path.startswith(prefix) and stat.kind != DIRECTORY
        )

    def rows(self) -> list[Preserved]:
        """The list of preserved files."""
        return list(self.catalog.preserved(10_000))

    def staging(self) -> list[bytes]:
        """Names in staging, without the witness."""
        return [name for name, _ in self.fs.list_dir(STAGING_PATH) if name != b"witness"]


class Author:
    """Makes records as another member would, each having seen the one before it."""

    def __init__(self, bodies: Bodies, replica: int = 7, time_ms: int = 1_000) -> None:
        self.bodies = bodies
        self.replica = replica
        self.time_ms = time_ms
        self.counter = 0

    def directory(self, name: bytes, parent: Uid = b"", mode: int = 0o755) -> Record:
        content = self._content(None, mode=mode)
        return record(self._uid(), DIRECTORY, self._place(None, parent, name), content)

    def file(self, name: bytes, body: bytes, parent: Uid = b"", mode: int = 0o644, mtime_ns: int = 5) -> Record:
        content = self._content(None, mode=mode, mtime_ns=mtime_ns, body=body)
        return record(self._uid(), FILE, self._place(None, parent, name), content)

    def symlink(self, name: bytes, target: bytes, parent: Uid = b"") -> Record:
        content = self._content(None, value=target)
        return record(self._uid(), SYMLINK, self._place(None, parent, name), content)

    def edit(self, held: Record, body: bytes, mode: int = 0o644, mtime_ns: int = 6) -> Record:
        self._next()
        return record(held.uid, FILE, held.place, self._content(held.content, mode=mode, mtime_ns=mtime_ns, body=body))

    def meta(self, held: Record, mode: int, mtime_ns: int = 0) -> Record:
        """Another mode and mtime, the same bytes."""
        assert held.content is not None
        self._next()
        body = self.bodies[held.content.digest] if held.kind == FILE else b""
        content = self._content(held.content, mode=mode, mtime_ns=mtime_ns, body=body if held.kind == FILE else None)
        return record(held.uid, held.kind, held.place, content)

    def retarget(self, held: Record, target: bytes) -> Record:
        self._next()
        return record(held.uid, held.kind, held.place, self._content(held.content, value=target))

    def move(self, held: Record, name: bytes, parent: Uid = b"") -> Record:
        self._next()
        return record(held.uid, held.kind, self._place(held.place, parent, name), held.content)

    def delete(self, held: Record) -> Record:
        assert held.content is not None
        self._next()
        content = Content(
            self.replica, self.counter, self.time_ms, vector_after(held.content), held.content.stamp, 0, 0, 0, b"", b""
        )
        return record(held.uid, held.kind, held.place, content)

    def _next(self) -> None:
        self.counter += 1
        self.time_ms += 1_000

    def _uid(self) -> Uid:
        return self.replica.to_bytes(8, "big") + self.counter.to_bytes(8, "big")

    def _place(self, held: Place | None, parent: Uid, name: bytes) -> Place:
        prior = (held.parent, held.name) if held is not None else (parent, name)
        return Place(self.replica, self.counter, self.time_ms, vector_after(held), parent, name, *prior)

    def _content(
        self,
        held: Content | None,
        *,
        mode: int = 0,
        mtime_ns: int = 0,
        body: bytes | None = None,
        value: bytes = b"",
    ) -> Content:
        if held is None:
            self._next()
        digest = self.bodies.add(body) if body is not None else b""
        size = len(body) if body is not None else 0
        return Content(
            self.replica, self.counter, self.time_ms, vector_after(held), None, mode, mtime_ns, size, digest, value
        )
