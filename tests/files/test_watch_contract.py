"""One suite for the watch on a disk and the one over the tree in memory: what `replicad.files.changes` promises."""

import threading
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from replicad.files.changes import Change, Dirty, Marker, Moved, Watch, walk_and_watch
from replicad.files.paths import join
from replicad.files.real_fs import RealFileSystem
from replicad.files.watch import Watcher
from tests.files.worlds import World, memory_world, real_world
from tests.sim.memory_watch import MemoryWatch

SETTLED_WITHIN_S = 20


@dataclass
class Eye:
    """A watch, and what it told."""

    world: World
    told: list[Change] = field(default_factory=list)
    come: threading.Condition = field(default_factory=threading.Condition)
    markers: int = 0
    watch: Watch = field(init=False)

    def on_change(self, change: Change) -> None:
        with self.come:
            self.told.append(change)
            self.come.notify_all()

    def settle(self) -> list[Change]:
        """Everything told of what happened up to now, and not returned before."""
        self.markers += 1
        marker = Marker(b"m%d" % self.markers)
        self.world.fs.create(b".replicad/fence/" + marker.name).close()
        with self.come:
            assert self.come.wait_for(lambda: marker in self.told, SETTLED_WITHIN_S)
            at = self.told.index(marker)
            before, self.told = self.told[:at], self.told[at + 1 :]
        self.world.fs.unlink(b".replicad/fence/" + marker.name)
        return before

    def paths(self) -> set[bytes]:
        """The paths told as dirty, of what happened up to now."""
        return {join(change.directory, change.name) for change in self.settle() if isinstance(change, Dirty)}

    def walk(self, path: bytes = b"") -> list[bytes]:
        return [listing.path for listing in walk_and_watch(self.watch, self.world.fs, path)]

    def told_of(self, act: Callable[[], object]) -> set[bytes]:
        self.settle()
        act()
        return self.paths()


@pytest.fixture(params=["real", "memory"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[World, None, None]:
    if request.param == "memory":
        made = memory_world()
    else:
        root = tmp_path / "root"
        root.mkdir()
        made = real_world(root)
    made.make_dirs(b".replicad/fence")
    yield made
    made.fs.close()


@pytest.fixture
def eye(world: World) -> Generator[Eye, None, None]:
    """Watching an empty folder."""
    made = Eye(world)
    if isinstance(world.fs, RealFileSystem):
        made.watch = Watcher(world.fs, made.on_change)
    else:
        made.watch = MemoryWatch(world.memory(), made.on_change)
    assert made.watch.watch_fence()
    assert made.walk() == [b""]
    yield made
    made.watch.close()


def test_all_that_happens_to_an_entry_is_told(eye: Eye) -> None:
    fs, world = eye.world.fs, eye.world
    acts: list[tuple[Callable[[], object], set[bytes]]] = [
        (lambda: world.write(b"f", b"1"), {b"f"}),
        (lambda: write_into(world, b"f"), {b"f"}),
        (lambda: fs.set_mode(b"f", 0o640), {b"f"}),
        (lambda: fs.set_mtime(b"f", 5), {b"f"}),
        (lambda: world.make_link(b"f", b"g"), {b"g"}),
        (lambda: fs.rename(b"f", b"h"), {b"f", b"h"}),
        (lambda: world.user_rename(b"h", b"g2"), {b"h", b"g2"}),
        (lambda: fs.make_symlink(b"l", b"g"), {b"l"}),
        (lambda: fs.exchange(b"l", b"g"), {b"l", b"g"}),
        (lambda: fs.unlink(b"l"), {b"l"}),
        (lambda: fs.make_dir(b"d", 0o755), {b"d"}),
        (lambda: fs.set_mode(b"d", 0o700), {b"d"}),
        (lambda: fs.set_mtime(b"d", 5), {b"d"}),
        (lambda: fs.rename(b"d", b"e"), {b"d", b"e"}),
        (lambda: fs.remove_dir(b"e"), {b"e"}),
        (lambda: world.make_fifo(b"p"), {b"p"}),
    ]
    for act, paths in acts:
        told = eye.told_of(act)
        # A link changes the ctime of its other names: the real watch may tell of them, too.
        assert told - {b"f", b"g"} <= paths, paths
        assert told >= paths


def write_into(world: World, path: bytes) -> None:
    with world.fs.open_write(path) as file:
        file.write_at(0, b"x")


def test_reading_is_not_told(eye: Eye) -> None:
    eye.world.write(b"f", b"1")
    eye.settle()
    eye.world.read(b"f")
    eye.world.fs.list_dir(b"")
    assert eye.settle() == []


def test_a_file_held_open_is_told_at_each_write_and_at_the_closing(eye: Eye) -> None:
    file = eye.world.fs.create(b"f")
    assert eye.paths() == {b"f"}
    for offset in range(3):
        file.write_at(offset, b"x")
        assert eye.paths() == {b"f"}
    file.close()
    assert eye.paths() == {b"f"}


def test_dirty_names_its_directory_by_inode_too(eye: Eye) -> None:
    eye.world.fs.make_dir(b"d", 0o755)
    eye.walk(b"d")
    eye.settle()
    eye.world.write(b"d/f", b"1")
    inode = eye.world.there(b"d").inode
    assert set(eye.settle()) == {Dirty(b"d", b"f", inode), Dirty(b"d", b"f", inode, closed=True)}


def test_that_a_file_was_closed_after_writing_is_told(eye: Eye) -> None:
    """Whether anything was written or not: through a mapping nothing else would tell."""
    eye.world.write(b"f", b"1")
    eye.walk(b"")
    eye.settle()
    with eye.world.fs.open_read(b"f"):
        pass
    assert eye.settle() == []
    with eye.world.fs.open_write(b"f"):
        pass
    assert [(change.name, change.closed) for change in eye.settle() if isinstance(change, Dirty)] == [(b"f", True)]


def test_dirty_tells_what_was_renamed_within_the_folder(eye: Eye) -> None:
    """And of nothing else: what comes out of staging or from outside had no name that was watched."""
    world = eye.world
    world.fs.make_dir(b"d", 0o755)
    world.fs.make_dir(b".replicad/staging", 0o700)
    eye.walk(b"d")
    world.write(b"f", b"1")
    world.write(b".replicad/staging/s", b"2")
    eye.settle()

    def renamed() -> set[bytes]:
        return {join(one.directory, one.name) for one in eye.settle() if isinstance(one, Dirty) and one.renamed}

    world.user_rename(b"f", b"d/g")
    assert renamed() == {b"d/g"}
    world.fs.rename(b".replicad/staging/s", b"d/s")
    assert renamed() == set()
    world.fs.rename(b"d/s", b".replicad/staging/s")
    world.write(b"d/h", b"3")
    assert renamed() == set()


def test_a_directory_is_silent_until_it_is_watched_and_listed_after_that(eye: Eye) -> None:
    world = eye.world
    world.make_dirs(b"d/e")
    assert eye.paths() == {b"d"}
    assert not eye.watch.is_watched(b"d")
    world.write(b"d/e/before", b"1")
    assert eye.paths() == set()
    listings = list(walk_and_watch(eye.watch, world.fs, b"d"))
    assert [(listing.path, [name for name, _ in listing.entries]) for listing in listings] == [
        (b"d", [b"e"]),
        (b"d/e", [b"before"]),
    ]
    assert all(listing.watched and listing.error is None for listing in listings)
    world.write(b"d/e/after", b"1")
    assert eye.paths() == {b"d/e/after"}
    assert eye.watch.is_watched(b"d")
    assert eye.watch.is_watched(b"d/e")


def test_a_directory_whose_parent_is_not_watched_is_refused(eye: Eye) -> None:
    eye.world.make_dirs(b"a/b")
    for path in (b"a/b", b"nothing", b"a/nothing"):
        with pytest.raises(FileNotFoundError):
            eye.watch.watch_directory(path)
    eye.world.write(b"f", b"")
    with pytest.raises(NotADirectoryError):
        eye.watch.watch_directory(b"f")


def test_a_walk_that_was_not_finished_leaves_its_top_unwatched_to_whoever_asks(eye: Eye) -> None:
    eye.world.make_dirs(b"a/b")
    walk = walk_and_watch(eye.watch, eye.world.fs, b"a")
    assert next(walk).path == b"a"
    walk.close()
    assert not eye.watch.is_watched(b"a")
    eye.walk(b"a")
    assert eye.watch.is_watched(b"a")


def test_a_walk_through_everything_counts_as_walked_what_it_has_met(eye: Eye) -> None:
    """Who moves past it while it goes on is looked into where he turns up."""
    eye.world.make_dirs(b"a/b")
    eye.walk()
    assert eye.watch.is_watched(b"a/b")
    walk = walk_and_watch(eye.watch, eye.world.fs, b"")
    assert next(walk).path == b""
    assert not eye.watch.is_watched(b"a/b")
    walk.close()
    eye.walk()
    assert eye.watch.is_watched(b"a/b")


def test_private_things_are_not_told_but_for_their_coming_and_going(eye: Eye) -> None:
    fs = eye.world.fs
    eye.settle()
    fs.make_dir(b".replicad/staging", 0o700)
    eye.world.write(b".replicad/staging/f", b"1")
    assert b".replicad/staging" not in eye.walk()
    eye.world.write(b".replicad/staging/g", b"1")
    assert eye.settle() == []
    assert not eye.watch.is_watched(b".replicad")
    assert eye.told_of(lambda: fs.rename(b".replicad/staging/f", b"f")) == {b"f"}
    fs.make_dir(b"d", 0o755)
    eye.world.make_dirs(b"d/.replicad")
    assert b"d/.replicad" in eye.walk()


def test_a_renamed_directory_stays_watched_and_is_told_under_its_new_path(eye: Eye) -> None:
    world = eye.world
    world.make_dirs(b"a/b/c")
    world.make_dirs(b"z")
    eye.walk()
    eye.settle()
    world.fs.rename(b"a/b", b"z/y")
    world.write(b"z/y/c/f", b"1")
    changes = eye.settle()
    assert {join(change.directory, change.name) for change in changes if isinstance(change, Dirty)} == {
        b"a/b",
        b"z/y",
        b"z/y/c/f",
    }
    assert [change for change in changes if isinstance(change, Moved)] == [Moved(b"a/b", b"z/y")]
    assert eye.watch.is_watched(b"z/y/c")
    assert not eye.watch.is_watched(b"a/b")
    world.fs.rename(b"z", b"a/w")
    world.write(b"a/w/y/c/g", b"1")
    assert eye.paths() >= {b"z", b"a/w", b"a/w/y/c/g"}


def test_a_watched_directory_is_found_by_its_inode_wherever_it_is(eye: Eye) -> None:
    world = eye.world
    world.make_dirs(b"a/b")
    eye.walk()
    inode = world.there(b"a/b").inode
    assert eye.watch.where(inode) == b"a/b"
    world.fs.rename(b"a", b"c")
    eye.settle()
    assert eye.watch.where(inode) == b"c/b"
    world.fs.remove_dir(b"c/b")
    eye.settle()
    assert eye.watch.where(inode) is None
    assert eye.watch.where(world.there(b"").inode) == b""


def test_no_event_and_no_watch_per_descendant_of_a_renamed_directory(eye: Eye) -> None:
    for number in range(200):
        eye.world.make_dirs(b"a%d" % number)
        eye.world.write(b"a%d/f" % number, b"")
    eye.world.make_dirs(b"top")
    for number in range(200):
        eye.world.fs.rename(b"a%d" % number, b"top/a%d" % number)
    eye.walk()
    eye.settle()
    eye.world.fs.rename(b"top", b"other")
    assert len(eye.settle()) == 3  # two entries and the move
    assert eye.watch.is_watched(b"other/a7")


def test_exchanged_directories_are_told_under_their_new_paths(eye: Eye) -> None:
    world = eye.world
    for path in (b"a", b"b", b"a/sub", b"b/sub"):
        world.make_dirs(path)
        world.write(path + b"/in-" + path.replace(b"/", b"-"), b"")
    eye.walk()
    eye.settle()
    world.fs.exchange(b"a", b"b")
    write_into(world, b"b/sub/in-a-sub")
    changes = eye.settle()
    assert {change for change in changes if isinstance(change, Moved)} == {Moved(b"a", b"b"), Moved(b"b", b"a")}
    assert told(changes) >= {b"a", b"b", b"b/sub/in-a-sub"}
    write_into(world, b"a/in-b")
    write_into(world, b"a/sub/in-b-sub")
    assert eye.paths() == {b"a/in-b", b"a/sub/in-b-sub"}
    assert eye.watch.is_watched(b"a/sub")
    assert eye.watch.is_watched(b"b/sub")


def told(changes: Iterable[Change]) -> set[bytes]:
    return {join(change.directory, change.name) for change in changes if isinstance(change, Dirty)}


def test_a_directory_exchanged_with_a_file_is_followed(eye: Eye) -> None:
    world = eye.world
    world.make_dirs(b"d/e")
    world.write(b"f", b"1")
    eye.walk()
    eye.settle()
    world.fs.exchange(b"d", b"f")
    world.write(b"f/e/x", b"1")
    assert eye.paths() == {b"d", b"f", b"f/e/x"}


def test_a_directory_renamed_over_an_empty_one_takes_its_place(eye: Eye) -> None:
    world = eye.world
    world.make_dirs(b"a/b")
    world.make_dirs(b"empty")
    eye.walk()
    eye.settle()
    world.user_rename(b"a", b"empty")
    world.write(b"empty/b/f", b"1")
    assert eye.paths() == {b"a", b"empty", b"empty/b/f"}
    assert eye.watch.is_watched(b"empty/b")


def test_a_directory_that_left_is_not_told_of_and_is_walked_when_it_returns(eye: Eye) -> None:
    world = eye.world
    world.make_dirs(b"d/e")
    world.make_dirs(b".replicad/PreExisting")
    eye.walk()
    eye.settle()
    world.fs.rename(b"d", b".replicad/PreExisting/d")
    assert eye.paths() == {b"d"}
    world.write(b".replicad/PreExisting/d/e/f", b"1")
    assert eye.paths() == set()
    world.fs.rename(b".replicad/PreExisting/d", b"back")
    assert eye.paths() == {b"back"}
    assert not eye.watch.is_watched(b"back")
    assert eye.walk(b"back") == [b"back", b"back/e"]
    world.write(b"back/e/g", b"1")
    assert eye.paths() == {b"back/e/g"}


def test_a_directory_made_anew_under_an_old_name_is_not_taken_for_the_old_one(eye: Eye) -> None:
    world = eye.world
    world.make_dirs(b"d")
    eye.walk()
    world.fs.remove_dir(b"d")
    world.make_dirs(b"d")
    eye.settle()
    assert not eye.watch.is_watched(b"d")
    world.write(b"d/f", b"1")
    assert eye.paths() == set()
    assert eye.walk(b"d") == [b"d"]
    world.write(b"d/g", b"1")
    assert eye.paths() == {b"d/g"}


def test_a_watched_directory_moved_into_one_that_is_not_leaves_and_is_found_by_the_walk(eye: Eye) -> None:
    world = eye.world
    world.make_dirs(b"d/e")
    eye.walk()
    world.make_dirs(b"new")
    world.fs.rename(b"d", b"new/d")
    eye.settle()
    assert not eye.watch.is_watched(b"new")
    assert eye.walk(b"new") == [b"new", b"new/d", b"new/d/e"]
    world.write(b"new/d/e/f", b"1")
    assert eye.paths() == {b"new/d/e/f"}


def test_everything_before_a_marker_has_been_told(eye: Eye) -> None:
    world = eye.world
    world.make_dirs(b"d")
    eye.walk()
    eye.settle()
    for number in range(300):
        path = b"d/f%d" % number
        world.write(path, b"1")
        assert path in eye.paths()


def test_a_fence_that_was_removed_is_watched_again_on_demand(eye: Eye) -> None:
    fs = eye.world.fs
    eye.settle()
    fs.remove_dir(b".replicad/fence")
    fs.remove_dir(b".replicad")
    eye.world.make_dirs(b".replicad/fence")
    assert eye.watch.watch_fence()
    assert eye.paths() == {b".replicad"}


def test_a_watch_that_is_closed_tells_nothing(eye: Eye) -> None:
    eye.settle()
    eye.watch.close()
    eye.world.write(b"f", b"1")
    assert eye.told == []
