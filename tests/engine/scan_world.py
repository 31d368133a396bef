"""A member whose folder is a tree in memory, and its scanner: users act, hints arrive, everything is looked at."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from blake3 import blake3

from replicad.core.draft import Draft
from replicad.core.effects import Effect, HashFile, Report, WhoHolds
from replicad.core.ids import ROOT, Uid
from replicad.core.memory_view import MemoryView
from replicad.core.plan import node_path
from replicad.core.records import DIRECTORY, FILE, SYMLINK
from replicad.core.tree import tree_of
from replicad.core.view import ROOT_NODE, Node
from replicad.engine.scan import Scanner
from replicad.engine.scan_read import LARGE_BYTES
from replicad.engine.scan_state import Reread
from replicad.engine.scan_step import Looked
from replicad.files.changes import Change, Dirty, Marker, Moved, Overflow, RootGone, Unwatchable
from replicad.files.fs import Stat
from replicad.files.hashing import hash_file
from tests.sim.memory_fs import MemoryFileSystem
from tests.sim.memory_watch import MemoryWatch

FOLDER = b"folder, 16 bytes"
START_NS = 1_700_000_000 * 10**9
STEPS_MAX = 10_000


class World:
    """`deliver` decides what becomes of a hint: by default it reaches the scanner at once."""

    def __init__(
        self, *, founding: bool = False, replica: int = 1, births: bool = True, large_bytes: int = LARGE_BYTES
    ) -> None:
        self.now_ns = START_NS
        self.large_bytes = large_bytes
        self.births = births
        self.fs = MemoryFileSystem(lambda: self.now_ns)
        if not births:
            _hide_births(self.fs)
        self.fs.user_mkdir(b".replicad")
        self.fs.user_mkdir(b".replicad/staging")
        self.founding = founding
        self.root_there = True
        self.deliver: Callable[[Change], None] = self.take_in
        self.watch = MemoryWatch(self.fs, lambda change: self.deliver(change))
        self.view = MemoryView(FOLDER, replica)
        draft = Draft(self.view)
        root = self.fs.stat(b"")
        assert root is not None
        draft.put_node(Node(ROOT_NODE, 0, b"", DIRECTORY, root.inode, 0, 0, 0, 0, 0o755))
        self.view.apply(draft)
        self.effects: list[Effect] = []
        self.hash_large = True
        self.holders = ""
        """Who has files open for writing, in words."""
        self.scanner = self.new_scanner()

    def new_scanner(self) -> Scanner:
        """As after a restart."""
        return Scanner(
            self.fs,
            self.watch,
            lambda: self.root_there,
            founding=lambda: self.founding,
            large_bytes=self.large_bytes,
        )

    # Time and users.

    def tick(self, ms: int = 100) -> None:
        """Past the times that are too fresh to trust, unless it is shorter than that."""
        self.now_ns += ms * 1_000_000

    def write(self, path: bytes, data: bytes) -> None:
        self.fs.user_write(path, data)
        self.tick()

    def mkdir(self, path: bytes) -> None:
        self.fs.user_mkdir(path)
        self.tick()

    # The scanner's surroundings.

    def take_in(self, change: Change) -> None:
        match change:
            case Dirty():
                reread = Reread.IF_RECENT if change.closed else Reread.NO
                came = change.renamed
                self.scanner.hint(change.directory, change.name, change.inode, reread=reread, came=came)
            case Moved():
                self.scanner.moved(change.old, change.new)
            case Overflow():
                self.scanner.scan()
            case Marker() | Unwatchable() | RootGone():
                pass

    def step(self, draft: Draft | None = None) -> Looked:
        return self._commit(lambda draft: self.scanner.step(draft, self.now_ns))

    def resolve(self) -> Looked:
        return self._commit(lambda draft: self.scanner.resolve(draft, self.now_ns))

    def run(self) -> None:
        """Look at everything that is known of, and decide it; what is due later waits."""
        for _ in range(STEPS_MAX):
            if not self.scanner.idle:
                looked = self.step()
                if not looked.root_ok:
                    return
            elif self.scanner.unresolved:
                self.resolve()
            elif not self._hash():
                return
        raise AssertionError("the scan does not come to an end")

    def rescan(self) -> None:
        """A scan of the whole folder, and all that is due in the next minute."""
        self.scanner.scan()
        self.run()
        self.pass_time(1_000)

    def pass_time(self, ms: int) -> None:
        until = self.now_ns + ms * 1_000_000
        for _ in range(STEPS_MAX):
            due = self.scanner.next_due_ms()
            if due is None or due * 1_000_000 > until:
                self.now_ns = until
                return
            self.now_ns = max(self.now_ns, due * 1_000_000)
            self.step()
            self.run()
        raise AssertionError("something is due for ever")

    def _commit(self, work: Callable[[Draft], Looked]) -> Looked:
        draft = Draft(self.view)
        looked = work(draft)
        if looked.root_ok:
            if not looked.void:
                assert_names_are_unique(draft)
                self.view.apply(draft)
            for effect in looked.effects:
                report = self.scanner.held(effect.path, self.holders) if isinstance(effect, WhoHolds) else effect
                self.effects.extend([report] if report is not None else [])
        return looked

    def _hash(self) -> bool:
        asked = [effect for effect in self.effects if isinstance(effect, HashFile)]
        if not asked or not self.hash_large:
            return False
        for effect in asked:
            self.effects.remove(effect)
            self.hash_one(effect)
        return True

    def hash_one(self, effect: HashFile) -> None:
        path = effect.directory + b"/" + effect.name if effect.directory else effect.name
        stat = self.fs.stat(path)
        if stat is not None and stat.kind == FILE:
            self.scanner.hashed(effect.directory, effect.name, hash_file(self.fs, path, stat))

    # What a test asks.

    def reports(self) -> list[Report]:
        return [effect for effect in self.effects if isinstance(effect, Report)]

    def uid(self, path: bytes) -> Uid:
        """The only object at a path."""
        (uid,) = self.uids(path)
        return uid

    def uids(self, path: bytes) -> tuple[Uid, ...]:
        node = self.view.node(ROOT_NODE)
        for name in path.split(b"/") if path else ():
            assert node is not None
            node = self.view.node_at(node.id, name)
        assert node is not None, f"no node for {path!r}"
        return tuple(self.view.uids_at(node.id))

    def written(self) -> int:
        """Changes originated so far."""
        return self.view.counter

    def disk(self) -> dict[bytes, tuple[object, ...]]:
        return {
            path: _disk_entry(stat, data)
            for path, (stat, data) in self.fs.read_tree().items()
            if stat.kind in (FILE, DIRECTORY, SYMLINK)
        }

    def tree(self) -> dict[bytes, tuple[object, ...]]:
        found: dict[bytes, tuple[object, ...]] = {}
        for path, outcome in tree_of(self.view).items():
            state = self.view.object(outcome.lead)
            assert state is not None
            content = state.record.content
            assert content is not None
            if outcome.kind == FILE:
                found[path] = (FILE, content.digest, content.size, content.mode, content.mtime_ns)
            elif outcome.kind == SYMLINK:
                found[path] = (SYMLINK, content.value)
            else:
                found[path] = (DIRECTORY, content.mode)
        return dict(sorted(found.items()))

    def assert_shown(self) -> None:
        """Tree and nodes are the disk, nothing waits, and looking again originates nothing."""
        assert self.tree() == self.disk()
        self.assert_nodes_are_the_disk()
        assert not self.view.pending(10)
        written, digest = self.written(), self.view.digest
        self.rescan()
        assert (self.written(), self.view.digest) == (written, digest), "an echo"

    def assert_nodes_are_the_disk(self) -> None:
        disk = {path: (stat.kind, stat.inode) for path, (stat, _) in self.fs.read_tree().items() if stat.kind != 9}
        nodes = {
            node_path(self.view, node.id): (node.kind, node.inode)
            for node in self.view.nodes.values()
            if node.id != ROOT_NODE
        }
        assert nodes == disk
        at = {state.node for state in self.view.states.values() if state.node is not None}
        assert at == {node for node in self.view.nodes if node != ROOT_NODE}


def assert_names_are_unique(draft: Draft) -> None:
    """As the catalog demands at each commit."""
    names = [(node.parent, node.name) for node in draft.nodes.values() if node is not None]
    for name in names:
        held = [node for node in draft.nodes_in(name[0]) if node.name == name[1]]
        assert len(held) == 1, f"two nodes at {name}"


def _disk_entry(stat: Stat, data: bytes) -> tuple[object, ...]:
    if stat.kind == FILE:
        return (FILE, blake3(data).digest(), stat.size, stat.mode, stat.mtime_ns)
    return (SYMLINK, data) if stat.kind == SYMLINK else (DIRECTORY, stat.mode)


def _hide_births(fs: MemoryFileSystem) -> None:
    """A filesystem that does not tell when an entry was made."""
    made = fs.tree.make_node

    def make(kind: int, mode: int, mount: int):  # type: ignore[no-untyped-def]
        node = made(kind, mode, mount)
        node.birth_ns = 0
        return node

    fs.tree.make_node = make  # type: ignore[method-assign]


__all__ = ["ROOT", "World", "msgspec"]
