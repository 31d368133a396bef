"""The gap between check and act: a user acts at one instant of the applier's work, or the process dies there.

An *instant* is one call of the file system or one commit. `Gap.run` lets the work of a story go up to the instant
asked for, does there what was asked, and goes on to the end; then it holds what is left against the promises:

- I3: every byte the user wrote is in the tree or in a store, but for what the user replaced or deleted;
- I4: at every instant each file of the tree is a whole version that somebody made, and a path that is only replaced is
  never without one;
- I1: the disk is what the tree wants, and another look at it finds nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from replicad.core.draft import Draft
from replicad.core.effects import HashFile
from replicad.core.records import Record
from replicad.core.steps import node_path
from replicad.core.view import ROOT_NODE, STAGING_NODE
from replicad.engine.scan import Scanner
from replicad.files import changes as watched
from replicad.files.fs import FILE, OTHER, Stat
from replicad.files.hashing import hash_file
from replicad.files.paths import join
from tests.engine.rig import Author, Bodies, Crash, Rig
from tests.sim.memory_fs import MemoryFileSystem, MemoryOpenFile
from tests.sim.memory_tree import Node
from tests.sim.memory_watch import MemoryWatch

SETTLE_ROUNDS_MAX = 60
STEPS_MAX = 400


class Watched(Rig):
    """A rig with a watch and a scanner, as a folder has."""

    def start(self) -> None:
        super().start()
        self.watch = self.make_watch()
        self.scanner = Scanner(self.fs, self.watch, lambda: True, founding=lambda: False)

    def make_watch(self) -> MemoryWatch:
        return MemoryWatch(self.fs, self._take_change)

    def kill(self) -> None:
        super().kill()
        self.watch.close()

    def look(self) -> None:
        """Everything hinted at, and what a new scanner has to look at first, is looked at and entered."""
        while self.dirty:
            self.scanner.hint_path(self.dirty.pop())
        for _ in range(STEPS_MAX):
            due_ms = self.scanner.next_due_ms()
            if not self.scanner.idle or (due_ms is not None and due_ms <= self.now_ms):
                self._enter(self.scanner.step)
            elif self.scanner.unresolved:
                self._enter(self.scanner.resolve)
            else:
                return
        raise AssertionError("the scan does not come to an end")

    def heal(self) -> None:
        """Work and look until nothing changes any more, and for as long as anything is kept back."""
        for _ in range(SETTLE_ROUNDS_MAX):
            busy = self.work()
            self.look()
            if not busy and not self.catalog.pending(1) and not self.catalog.outs(2**62, 1):
                return
            if not busy:
                self.pass_quiet_time()
        raise AssertionError(f"never at rest: {self.workbench.waiting()} {self.fetching.waiting()}")

    def _enter(self, look: Callable[[Draft, int], object]) -> None:
        draft = Draft(self.catalog)
        looked = look(draft, self.now_ms * 1_000_000)
        for stat, data in self.fs.read_tree().values():
            if stat.kind == FILE:
                self.bodies.add(data)
        self.commit(draft)
        for effect in looked.effects:  # type: ignore[attr-defined]
            if isinstance(effect, HashFile):
                path = join(effect.directory, effect.name)
                found = self.fs.stat(path)
                assert found is not None
                self.scanner.hashed(effect.directory, effect.name, hash_file(self.fs, path, found))

    def _take_change(self, change: watched.Change) -> None:
        match change:
            case watched.Dirty():
                self.scanner.hint(change.directory, change.name, change.inode)
            case watched.Moved():
                self.scanner.moved(change.old, change.new)
            case _:
                self.scanner.scan()


# -- stories: what is on the disk, and what comes


@dataclass
class Story:
    """`before` is installed when the story begins; then `after` comes. `paths`: where a user may act. `always`: paths
    at which there is something at every instant; of a tuple at one of them."""

    name: str
    before: Callable[[Author], Sequence[Record]]
    after: Callable[[Author, Sequence[Record]], Sequence[Record]]
    paths: tuple[bytes, ...]
    always: tuple[tuple[bytes, ...], ...] = ()
    later: Callable[[Author, Sequence[Record]], Sequence[Record]] = lambda author, held: ()
    """What comes when all has been done that could be."""


Act = Callable[["Gap", bytes], None]


@dataclass
class Gap:
    """One run of a story."""

    story: Story
    no_exchange: bool = False
    births: bool = True
    rig: Watched = field(init=False)
    written: list[bytes] = field(default_factory=list)
    """What must be found in the end."""
    handles: dict[bytes, MemoryOpenFile] = field(default_factory=dict)
    versions: set[bytes] = field(default_factory=set)
    instant: int = -1
    armed: bool = True
    always: tuple[tuple[bytes, ...], ...] = ()
    """As of the story, until the user leaves a path empty."""
    make_rig: ClassVar[Callable[[Bodies], Watched]] = Watched

    def __post_init__(self) -> None:
        self.always = () if self.no_exchange else self.story.always
        self.rig = self.make_rig(Bodies())
        self.rig.fs.exchanges = not self.no_exchange
        if not self.births:
            hide_births(self.rig.fs)
        author = Author(self.rig.bodies)
        held = self.story.before(author)
        self.rig.take(held)
        self.rig.settle()
        self.rig.look()
        self.rig.pass_quiet_time()
        self.rig.take(self.story.after(author, held))
        self._later = self.story.later(author, held)
        for path in self.story.paths:
            stat = self.rig.fs.stat(path)
            if stat is not None and stat.kind == FILE:
                self.handles[path] = self.rig.fs.user_open(path)
        self.take_versions()

    def run(self, do: Callable[[int], None] = lambda instant: None) -> int:
        """Let the applier work to its end; `do` is called at each instant. Returns how many there were."""
        self.hook(do)
        for _ in range(4):
            self.rig.work()
        self.quiet()
        return self.instant + 1

    def hook(self, do: Callable[[int], None]) -> None:
        """Call `do` at each instant from here on; a Crash that it raises is the caller's."""

        def at_instant(*_: object) -> None:
            if not self.armed:
                return
            self.armed = False
            try:
                self.check_instant()
                self.instant += 1
                do(self.instant)
                self.take_versions()
            finally:
                self.armed = True

        rig = self.rig
        rig.fs.before_change = rig.fs.before_read = rig.before_commit = at_instant

    def quiet(self) -> None:
        """No instants any more."""
        self.rig.fs.before_change = self.rig.fs.before_read = None
        self.rig.before_commit = lambda: None

    # -- what is held against the promises

    def check_instant(self) -> None:
        tree = self.rig.fs.read_tree()
        for path, (stat, data) in tree.items():
            if stat.kind == FILE:
                assert data in self.versions, f"I4: {path!r} shows {data!r}, which nobody made"
        for any_of in self.always:
            assert any(path in tree for path in any_of), f"I4: nothing at {any_of}"

    def check_end(self) -> None:
        rig = self.rig
        for handle in self.handles.values():
            handle.close()
        for _ in range(4):
            rig.work()
            rig.look()
        rig.take(self._later)
        rig.heal()
        tree = rig.fs.read_tree()
        found = [data for path, (stat, data) in rig.fs.read_tree(private=True).items() if _is_shown(path)]
        for text in self.written:
            assert any(text in data for data in found), f"I3: {text!r} is lost"
        assert rig.disk() == rig.wanted()
        assert not rig.catalog.pending(1)
        assert not rig.catalog.intents()
        assert not rig.staging(), rig.staging()
        self._check_nodes(tree)
        self._check_rows()
        written = rig.catalog.counter
        rig.scanner.scan()
        rig.look()
        assert rig.catalog.counter == written, "an echo"

    def _check_nodes(self, tree: dict[bytes, tuple[Stat, bytes]]) -> None:
        catalog = self.rig.catalog
        rows = self.rig.database.connection.execute("SELECT id FROM node").fetchall()
        nodes = {node_path(catalog, row[0]) for row in rows if row[0] not in (ROOT_NODE, STAGING_NODE)}
        assert nodes == {path for path, (stat, _) in tree.items() if stat.kind != OTHER}

    def _check_rows(self) -> None:
        rig = self.rig
        rows = {(row.store.encode(), row.stored_name) for row in rig.rows()}
        assert len(rows) == len(rig.rows())
        lying = set()
        for path in rig.fs.read_tree(private=True):
            parts = path.split(b"/")
            if len(parts) == 3 and parts[1] in (b"ConflictAndDeleted", b"PreExisting"):
                lying.add((parts[1], parts[2]))
        assert rows == lying

    def take_versions(self) -> None:
        """Whatever is whole somewhere now may be seen from here on."""
        self.versions.update(data for stat, data in self.rig.fs.read_tree(private=True).values() if stat.kind == FILE)
        self.versions.update(self.rig.bodies.all())


def _is_shown(path: bytes) -> bool:
    return not path.startswith(b".replicad/") or path.startswith((b".replicad/Con", b".replicad/Pre"))


# -- what users do; each writes what it has written into `gap.written`


def write(gap: Gap, path: bytes) -> None:
    gap.rig.fs.user_write(path, b"<written in place>")
    gap.written[:] = [b"<written in place>"]


def write_same_size(gap: Gap, path: bytes) -> None:
    size = gap.rig.fs.read_tree()[path][0].size
    text = (b"<same size>" + b"." * 99)[:size]
    gap.rig.fs.user_write(path, text)
    gap.written[:] = [text]


def save(gap: Gap, path: bytes) -> None:
    gap.rig.fs.user_save(path, b"<saved by an editor>")
    gap.written[:] = [b"<saved by an editor>"]


def delete(gap: Gap, path: bytes) -> None:
    gap.always = ()
    gap.rig.fs.user_remove_tree(path)
    gap.written.clear()


def recreate(gap: Gap, path: bytes) -> None:
    """The new file gets the old one's inode number."""
    gap.always = ()
    gap.rig.fs.user_unlink(path)
    write(gap, path)


def make_directory(gap: Gap, path: bytes) -> None:
    gap.always = ()
    if path in gap.rig.fs.read_tree():
        gap.rig.fs.user_remove_tree(path)
    gap.rig.fs.user_mkdir(path)
    gap.rig.fs.user_write(path + b"/inside", b"<in a directory>")
    gap.written[:] = [b"<in a directory>"]


def change_mode(gap: Gap, path: bytes) -> None:
    gap.rig.fs.user_chmod(path, 0o700)


def touch(gap: Gap, path: bytes) -> None:
    gap.rig.fs.user_set_mtime(path, 777_000_000_000)


def append(gap: Gap, path: bytes) -> None:
    """Through a handle that was opened before the story began, unless a user has deleted that file since."""
    handle = gap.handles[path]
    handle.write_at(handle.stat().size, b"<appended>")
    if handle.stat().links:
        gap.written[:] = [b"<appended>"]


def rename_away(gap: Gap, path: bytes) -> None:
    gap.always = ()
    gap.rig.fs.user_rename(path, b"away")


def rename_over(gap: Gap, path: bytes) -> None:
    gap.rig.fs.user_write(b"other", b"<another file>")
    gap.rig.fs.user_rename(b"other", path)
    gap.written[:] = [b"<another file>"]


def write_inside(gap: Gap, path: bytes) -> None:
    gap.rig.fs.user_write(path + b"/new", b"<new in it>")
    gap.written[:] = [b"<new in it>"]


def replace_directory(gap: Gap, path: bytes) -> None:
    """Another directory of the same name."""
    gap.always = ()
    gap.rig.fs.user_rename(path, b"away")
    gap.rig.fs.user_mkdir(path)
    gap.rig.fs.user_write(path + b"/new", b"<new in it>")
    gap.written[:] = [b"<new in it>"]


def hide_births(fs: MemoryFileSystem) -> None:
    """A filesystem that does not tell when an entry was made."""
    made = fs.tree.make_node

    def make(kind: int, mode: int, mount: int) -> Node:
        node = made(kind, mode, mount)
        node.birth_ns = 0
        return node

    fs.tree.make_node = make  # type: ignore[method-assign]


ON_FILES: tuple[Act, ...] = (
    write,
    write_same_size,
    save,
    delete,
    recreate,
    make_directory,
    change_mode,
    touch,
    append,
    rename_away,
    rename_over,
)
ON_DIRECTORIES: tuple[Act, ...] = (
    write_inside,
    delete,
    change_mode,
    rename_away,
    replace_directory,
)

__all__ = ["ON_DIRECTORIES", "ON_FILES", "Crash", "Gap", "Story"]
