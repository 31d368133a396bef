"""What is moved in the moment in which a scan decides what is gone is told of a moment later, and stays what it is."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from replicad.core.draft import Draft
from replicad.core.plan import STAGING_PATH
from replicad.core.records import DIRECTORY, FILE
from replicad.core.view import STAGING_NODE, Node
from replicad.engine.scan_read import LARGE_BYTES
from replicad.engine.scan_state import ANSWERS_MAX
from replicad.engine.scan_step import Looked
from replicad.files.changes import Change, Dirty
from replicad.files.paths import join
from tests.engine.scan_world import World

SEEDS = 60


class Told(World):
    """The watch tells of what happens when it is asked for it (`tell`)."""

    def __init__(self) -> None:
        super().__init__()
        for path in (b"d", b"e"):
            self.mkdir(path)
        for path in (b"d/x", b"e/y", b"f", b"g"):
            self.write(path, b"content of " + path)
        self.run()
        self.late: list[Change] = []
        self.deliver = lambda change: self.late.append(change)

    def tell(self) -> None:
        """And look, until nothing is left to look at."""
        self.tick()
        for change in self.late:
            self.take_in(change)
        self.late.clear()
        while not self.scanner.idle:
            self.step()

    def decide(self, turn: int) -> Looked:
        return self._commit(lambda draft: self.scanner.resolve(draft, self.now_ns, turn))

    def answer(self) -> Looked:
        """The watch tells all, and something is decided on that."""
        turn = self.scanner.ask_watch()
        self.tell()
        return self.decide(turn)

    def end(self) -> None:
        """As the watch goes on answering."""
        for _ in range(10):
            self.answer()
            self.tell()
            if not self.scanner.unresolved:
                self.deliver = self.take_in
                self.run()
                self.assert_shown()
                return
        raise AssertionError("something is never decided")


def when(world: Told, by: str, looked_at: bytes, act: Callable[[], None], times: int = 1) -> None:
    """Just before this is looked at in this way for so many times."""
    looks = 0

    def hook(method: str, paths: tuple[bytes, ...]) -> None:
        nonlocal looks
        looks += (method, paths) == (by, (looked_at,))
        if looks == times:
            world.fs.before_read = None
            act()

    world.fs.before_read = hook


def replaced(world: Told) -> int:
    """`e` stands where `d` did, and `d` is in it, of which the watch has told."""
    world.fs.user_rename(b"d", b"e/in")
    world.fs.user_rename(b"e", b"d")
    world.fs.user_mkdir(b"d/new")
    world.fs.user_write(b"d/new/z", b"in what is new there")
    world.tell()
    return world.scanner.ask_watch()


@pytest.mark.parametrize("away", [0, 1, 2])
def test_a_directory_that_goes_on_in_the_moment_in_which_another_takes_its_name_stays_itself(away: int) -> None:
    """Seed 593: it is not where it was told to have come, or nobody can look there, since that goes away as well."""
    world = Told()
    uids = [world.uid(path) for path in (b"d", b"d/x", b"e", b"e/y")]
    turn = replaced(world)
    world.fs.user_rename(b"d/in", b"far")
    if away:
        when(world, "stat", b"d/in", lambda: world.fs.user_rename(b"d", b"there"), away)
    assert world.decide(turn).void, "it was decided that it is gone"
    world.end()
    e = b"there" if away else b"d"
    assert [world.uid(path) for path in (b"far", b"far/x", e, e + b"/y")] == uids


def test_what_was_found_on_the_way_to_a_decision_that_is_taken_back_is_found_again() -> None:
    """The watch told of none of it: it is found by the walk through a directory whose move is being decided."""
    world = Told()
    uid, there = world.uid(b"d"), world.fs.stat(b"e")
    assert there is not None
    world.watch.overflow()
    world.fs.user_rename(b"d", b"e/in")
    world.fs.user_rename(b"e", b"d")
    world.fs.user_write(b"d/untold", b"at a name that was free")
    world.fs.user_mkdir(b"d/new")
    world.fs.user_write(b"d/new/z", b"in what is new there")
    world.tell()
    world.take_in(Dirty(b"d", b"came", there.inode, renamed=True))
    world.tell()
    turn = world.scanner.ask_watch()
    world.fs.user_rename(b"d/in", b"far")
    assert world.decide(turn).void
    assert b"d/untold" not in world.tree(), "it was entered"
    world.end()
    assert {b"d/untold", b"d/new/z"} <= world.tree().keys()
    assert world.uid(b"far") == uid


def test_a_large_file_on_the_way_to_a_decision_that_is_taken_back_is_not_waited_for_when_it_is_gone() -> None:
    """Its times were too fresh to read it, in a directory that the dropped draft alone had: a `wait` had no end."""
    world = Told()
    there = world.fs.stat(b"e")
    assert there is not None
    world.watch.overflow()
    world.fs.user_rename(b"d", b"e/in")
    world.fs.user_rename(b"e", b"d")
    world.fs.user_mkdir(b"d/new")
    world.tell()
    world.take_in(Dirty(b"d", b"came", there.inode, renamed=True))
    world.tell()
    turn = world.scanner.ask_watch()
    world.fs.user_rename(b"d/in", b"far")
    world.fs.user_write(b"d/new/large", bytes(LARGE_BYTES + 1))
    assert world.decide(turn).void
    world.fs.user_remove_tree(b"d/new")
    world.end()
    assert world.scanner.at_rest


def test_what_is_exchanged_with_what_was_known_in_the_moment_of_a_decision_stays_itself() -> None:
    """Seed 265: a directory that stood at its place is looked at again, and is another one by then."""
    world = Told()
    uids = [world.uid(path) for path in (b"e", b"g")]
    world.fs.user_unlink(b"e/y")
    world.fs.user_mkdir(b"e/y")
    world.write(b"e/y/z", b"in a directory at a file's name")
    world.tell()
    turn = world.scanner.ask_watch()
    when(world, "stat", b"e/y/z", lambda: world.fs.user_exchange(b"e", b"g"))
    assert world.decide(turn).void, "something was decided"
    world.end()
    assert [world.uid(path) for path in (b"g", b"e")] == uids


def test_what_has_left_the_name_to_which_it_was_told_to_have_come_is_on_its_way() -> None:
    """The watch was asked before it went on; it tells of that with its next answer."""
    world = Told()
    uid = world.uid(b"f")
    world.fs.user_rename(b"f", b"a")
    early, world.late = world.late, []
    turn = world.scanner.ask_watch()
    world.fs.user_rename(b"a", b"b")
    late, world.late = world.late, early
    world.tell()
    assert world.decide(turn).void, "it was decided that it is gone"
    world.late = late
    world.end()
    assert world.uid(b"b") == uid


def test_a_deletion_does_not_wait_for_what_is_on_its_way_for_ever() -> None:
    """Something is moved on between any question and its answer."""
    world = Told()
    world.fs.user_unlink(b"f")
    answers = 0
    for number in range(ANSWERS_MAX + 1):
        world.fs.user_rename(b"g" if not number else b"b%d" % number, b"a%d" % number)
        early, world.late = world.late, []
        turn = world.scanner.ask_watch()
        world.fs.user_rename(b"a%d" % number, b"b%d" % (number + 1))
        late, world.late = world.late, early
        world.tell()
        world.late = late
        answers += 1
        if not world.decide(turn).void:
            break
    assert answers == ANSWERS_MAX + 1
    assert b"f" not in world.tree()


def test_with_a_directory_goes_nothing_that_was_seen_elsewhere_since_the_watch_was_asked() -> None:
    """Seed 118: what was moved out of it stands at the name of another one, and was told of again."""
    world = Told()
    uid = world.uid(b"d/x")
    world.fs.user_rename(b"d/x", b"g")
    world.fs.user_rmdir(b"d")
    world.tell()
    turn = world.scanner.ask_watch()
    world.take_in(Dirty(b"", b"g"))
    world.tell()
    draft = Draft(world.view)
    world.scanner.resolve(draft, world.now_ns, turn)
    assert not draft.states, "half of the move was decided"
    world.end()
    assert world.uid(b"g") == uid


def test_what_comes_to_the_name_of_a_file_that_was_being_written_is_looked_at_before_anything_is_decided() -> None:
    """Seed 132: other news of such a file waits for a moment."""
    world = Told()
    uid = world.uid(b"f")

    def hook(method: str, paths: tuple[bytes, ...]) -> None:
        if method == "read_at" and paths == (b"g",):
            with world.fs.user_open(b"g") as file:
                file.write_at(file.stat().size, b"more")

    world.fs.before_read = hook
    world.fs.user_write(b"g", b"written to")
    world.tell()
    world.fs.before_read = None
    world.fs.user_rename(b"f", b"g")
    for change in world.late:
        world.take_in(change)
    world.late.clear()
    while not world.scanner.idle:
        world.step()
    world.answer()
    world.end()
    assert world.uid(b"g") == uid


def test_a_file_that_takes_a_name_is_itself_though_it_has_the_number_of_the_one_that_stood_there() -> None:
    """Seed 101: numbers are given out again at once; the time of birth tells."""
    world = Told()
    world.fs.user_unlink(b"f")
    early, world.late = world.late, []
    world.write(b"h", b"made with the number of the other one")
    world.tell()
    uid, there = world.uid(b"h"), world.fs.stat(b"h")
    was = next(node for node in world.view.nodes.values() if node.name == b"f")
    assert there is not None
    assert there.inode == was.inode, "the number is another one, and this shows nothing"
    world.fs.user_rename(b"h", b"f")
    world.late = early + world.late
    world.tell()
    world.end()
    assert world.uid(b"f") == uid


def test_what_another_directory_has_taken_the_name_of_is_gone_by_the_first_answer() -> None:
    """Nothing is on its way; of what was in it nothing is looked for in the limbo."""
    world = Told()
    uids = [world.uid(path) for path in (b"e", b"e/y")]
    draft, staging = Draft(world.view), world.fs.stat(STAGING_PATH)
    assert staging is not None
    draft.put_node(Node(STAGING_NODE, 0, STAGING_PATH, DIRECTORY, staging.inode, 0, 0, 0, staging.birth_ns, 0o755))
    world.view.apply(draft)
    world.fs.user_remove_tree(b"d")
    world.fs.user_rename(b"e", b"d")
    world.tell()
    assert not world.decide(world.scanner.ask_watch()).void, "it was put off"
    assert [world.uid(path) for path in (b"d", b"d/y")] == uids


@pytest.mark.parametrize("above", [False, True])
def test_what_a_walk_found_in_a_directory_that_is_moved_before_it_is_decided_what_it_is_is_found_again(
    above: bool,
) -> None:
    """Torture, seeds 7008 and 7009. It is watched, and all in it, so nobody else walks where it is then."""
    world = Told()
    world.fs.user_mkdir(b"e/in")
    world.end()
    world.deliver = world.late.append
    world.watch.overflow()
    world.fs.user_rename(b"d", b"was d")
    world.fs.user_rename(b"e", b"d")
    world.fs.user_write(b"d/in/new", b"nobody has told of it")
    world.tell()
    moved = (b"d/in", b"in") if above else (b"d", b"z")
    world.fs.user_rename(*moved)
    world.end()


def test_a_directory_that_is_moved_from_where_a_walk_is_going_to_where_it_has_been_is_walked() -> None:
    """The second walk of all: what is watched is not looked into for having been moved."""
    world = Told()
    world.fs.user_mkdir(b"a")
    world.end()
    world.deliver = lambda change: None  # lost, so that all is scanned again
    world.fs.user_write(b"e/new", b"nobody has told of it")
    world.deliver = world.late.append
    world.scanner.scan()
    when(world, "list_dir", b"d", lambda: world.fs.user_rename(b"e", b"a/e"))
    world.end()


def test_what_is_not_where_its_walk_comes_to_its_end_is_walked_where_it_has_gone() -> None:
    """It was missed by another walk, and is watched; the watch has not told yet that it is elsewhere."""
    world = Told()
    world.watch.overflow()
    world.fs.user_rename(b"d", b"was d")
    world.fs.user_rename(b"e", b"d")
    world.fs.user_write(b"d/new", b"nobody has told of it")
    world.answer()
    world.fs.user_rename(b"d", b"z")
    while not world.scanner.idle:
        world.step()
    world.end()


def test_what_is_told_of_one_name_in_two_directories_that_change_places_is_looked_at_in_both() -> None:
    """By their inodes: the path at which it was told is another thing's in the catalog, as the first has come there by
    a move that has not been looked at yet."""
    world = Told()
    world.fs.user_exchange(b"e", b"f")
    world.fs.user_write(b"f/n", b"in what was e")
    world.fs.user_write(b"d/n", b"in d")
    world.fs.user_exchange(b"d", b"f")
    world.end()


class Busy:
    """A user who moves directories about while a scan is on its way, of which the watch tells later."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(f"busy {seed}")
        self.world = Told()
        self.written = 0
        for _ in range(40):
            self._act()
        self.world.end()

    def run(self) -> None:
        rng, world = self.rng, self.world
        world.deliver = world.late.append
        if rng.random() < 0.7:
            world.deliver = lambda change: None
            for _ in range(rng.randrange(10)):
                self._act()
            world.deliver = world.late.append
            world.watch.overflow()
        for _ in range(rng.randrange(10, 60)):
            if rng.random() < 0.35:
                self._act()
            if rng.random() < 0.4:
                self._hear(rng.randrange(1, 30))
            if rng.random() < 0.6 and not world.scanner.idle:
                world.step()
        world.end()

    def _hear(self, count: int) -> None:
        for change in self.world.late[:count]:
            self.world.take_in(change)
        del self.world.late[:count]

    def _act(self) -> None:
        fs, rng = self.world.fs, self.rng
        entries = {path: stat for path, (stat, _) in fs.read_tree().items() if not path.startswith(b".replicad")}
        directories = [b"", *(path for path, stat in entries.items() if stat.kind == DIRECTORY)]
        some, other = (rng.choice(list(entries) or [b"d"]) for _ in "12")
        new = join(rng.choice(directories), rng.choice((b"a", b"b", b"c", b"d", b"e")))
        self.written += 1
        try:
            act = rng.random()
            if act < 0.15:
                fs.user_mkdir(new)
            elif act < 0.35:
                fs.user_write(new, b"%d" % self.written)
            elif act < 0.65:
                fs.user_exchange(some, other)
            elif act < 0.9 and new not in entries:
                fs.user_rename(some, new)
            elif entries and entries[some].kind == FILE:
                fs.user_unlink(some)
        except OSError:
            pass  # the system refuses it
        self.world.tick(rng.choice((0, 1, 100)))


@pytest.mark.parametrize("seed", range(SEEDS))
def test_all_is_found_whatever_is_moved_while_a_scan_is_on_its_way(seed: int) -> None:
    Busy(seed).run()
