"""Any user, any order of events: the tree shows the disk, objects follow their entries, and nothing comes back."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replicad.files.changes import Change
from replicad.files.fs import DIRECTORY
from tests.core.make import Choose, by_hypothesis, by_seed
from tests.engine.scan_world import World

NAMES = (b"a", b"b", b"c")


class _User:
    """Acts at random on a world's disk. What the watch tells waits in `told`."""

    def __init__(self, choose: Choose, world: World) -> None:
        self.choose = choose
        self.world = world
        self.told: list[Change] = []
        world.deliver = self.told.append

    def paths(self, kind: int | None = None) -> list[bytes]:
        return [path for path, (stat, _) in self.world.fs.read_tree().items() if kind in (None, stat.kind)]

    def pick(self, paths: list[bytes]) -> bytes | None:
        return paths[self.choose(len(paths))] if paths else None

    def name(self) -> bytes:
        """Of an entry that may or may not be there."""
        directories = [b"", *self.paths(DIRECTORY)]
        parent = directories[self.choose(len(directories))]
        name = NAMES[self.choose(len(NAMES))]
        return parent + b"/" + name if parent else name

    def act(self) -> None:
        """One act, and a moment of time: sometimes none that a disk's clock would notice."""
        try:
            self._act(self.choose(11))
        except OSError:
            return  # the system refused: a name that is taken, a directory into itself
        self.world.tick((0, 1, 5, 100)[self.choose(4)])

    def _act(self, what: int) -> None:
        fs, path, other = self.world.fs, self.name(), self.pick(self.paths())
        data = b"%d" % self.choose(4)
        if what == 0:
            fs.user_mkdir(path)
        elif what == 1:
            fs.user_write(path, data)
        elif what == 2:
            fs.user_save(path, data)
        elif what == 3:
            fs.user_symlink(path, data)
        elif other is None:
            return
        elif what in (4, 5):
            fs.user_rename(other, path)
        elif what == 6:
            second = self.pick(self.paths())
            assert second is not None
            fs.user_exchange(other, second)
        elif what == 7:
            fs.user_remove_tree(other)
        elif what == 8:
            fs.user_chmod(other, 0o600 + self.choose(3))
        elif what == 9:
            fs.user_link(other, path)
        else:
            fs.user_set_mtime(other, self.world.now_ns - self.choose(3))

    def deliver(self, *, lossy: bool) -> None:
        """What the watch told: in any order, some twice, some not at all."""
        told = list(self.told)
        self.told.clear()
        if lossy:
            told = [change for change in told if self.choose(4)]
            told += [change for change in told if self.choose(4) == 0]
        for index in range(len(told) - 1, 0, -1):
            if self.choose(2):
                other = self.choose(index + 1)
                told[index], told[other] = told[other], told[index]
        for change in told:
            self.world.take_in(change)


def _chaos(choose: Choose) -> None:
    world = World(births=choose(3) > 0, founding=choose(4) == 0)
    user = _User(choose, world)
    for _ in range(2 + choose(8)):
        for _ in range(choose(8)):
            user.act()
        what = choose(6)
        user.deliver(lossy=choose(2) == 0)
        if what == 0:
            world.scanner.scan()
        elif what == 1:
            world.scanner = world.new_scanner()
        for _ in range(choose(6)):
            if not world.scanner.idle:
                world.step()
            elif world.scanner.unresolved and choose(2):
                world.resolve()
            if choose(3) == 0:
                user.act()
        if choose(2):
            world.run()
    world.tick()
    world.founding = False
    user.deliver(lossy=True)
    world.deliver = world.take_in
    world.rescan()
    world.assert_shown()


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_whatever_happened_after_a_full_scan_the_tree_is_the_disk_and_nothing_echoes(data: st.DataObject) -> None:
    _chaos(by_hypothesis(data))


@pytest.mark.parametrize("first", range(0, 400, 100))
def test_whatever_happened_by_seeds(first: int) -> None:
    for seed in range(first, first + 100):
        _chaos(by_seed(seed))


class _Entries:
    """Follows entries over renames as their user does, by a number each."""

    def __init__(self, choose: Choose, world: World) -> None:
        self.choose = choose
        self.world = world
        self.at: dict[bytes, int] = {}
        self.made = 0
        self.seen: dict[int, tuple[int, bytes]] = {}
        """Where they were when they were last looked at."""

    def act(self) -> None:
        fs = self.world.fs
        directories = [b"", *(path for path in self.at if self._is_directory(path))]
        others = list(self.at)
        parent = directories[self.choose(len(directories))]
        what = self.choose(7)
        if what < 2 or not others:
            self.made += 1  # a name never used before: one that comes free may look like an editor's save
            path = self._join(parent, b"n%d" % self.made)
            fs.user_mkdir(path) if what == 0 else fs.user_write(path, b"x" * self.made)
            self.at[path] = self.made
        else:
            self._change(what, others[self.choose(len(others))], others[self.choose(len(others))], parent)
        self.world.tick(1 + self.choose(50))

    def _change(self, what: int, one: bytes, other: bytes, parent: bytes) -> None:
        fs = self.world.fs
        if what in (2, 3):
            target = self._join(parent, one.rpartition(b"/")[2])
            if target not in self.at and not self._within(parent, one):
                fs.user_rename(one, target)
                self._carry({one: target})
        elif what == 4:
            if not self._within(one, other) and not self._within(other, one):
                fs.user_exchange(one, other)
                self._carry({one: other, other: one})
        elif what == 5:
            fs.user_remove_tree(one)
            self.at = {path: number for path, number in self.at.items() if not self._within(path, one)}
        elif not self._is_directory(one):
            fs.user_write(one, b"y" * (1 + self.choose(5)))

    def _carry(self, places: dict[bytes, bytes]) -> None:
        moved = {}
        for path, number in self.at.items():
            top = next((place for place in places if self._within(path, place)), None)
            moved[path if top is None else places[top] + path[len(top) :]] = number
        self.at = moved

    def looked_at(self) -> set[int]:
        """Files that cannot be followed: a new file stands where they stood, as after an editor's save with a backup,
        or one that itself cannot be followed."""
        now = {self._place(path): number for path, number in self.at.items() if not self._is_directory(path)}
        lost: set[int] = set()
        for _ in self.seen:
            strange = {place for place, number in now.items() if number not in self.seen or number in lost}
            lost |= {number for number, place in self.seen.items() if place in strange and now[place] != number}
        self.seen = {number: self._place(path) for path, number in self.at.items()}
        return lost

    def _place(self, path: bytes) -> tuple[int, bytes]:
        parent, _, name = path.rpartition(b"/")
        return self.at[parent] if parent else 0, name

    def _is_directory(self, path: bytes) -> bool:
        stat = self.world.fs.stat(path)
        assert stat is not None
        return stat.kind == DIRECTORY

    def _join(self, parent: bytes, name: bytes) -> bytes:
        return parent + b"/" + name if parent else name

    def _within(self, path: bytes, top: bytes) -> bool:
        return path == top or path.startswith(top + b"/")


def _identity(choose: Choose) -> None:
    """On a disk that tells when an entry was made; what is done without that is in test_scan_moves."""
    world = World()
    user = _User(choose, world)
    entries = _Entries(choose, world)
    held: dict[int, bytes] = {}
    for _ in range(1 + choose(5)):
        for _ in range(1 + choose(8)):
            entries.act()
        if choose(3) == 0:
            user.told.clear()  # stopped meanwhile
            world.scanner = world.new_scanner()
        else:
            user.deliver(lossy=False)
        world.run()
        assert world.tree() == world.disk()
        for number in entries.looked_at():
            held.pop(number, None)
        for path, number in entries.at.items():
            assert held.setdefault(number, world.uid(path)) == world.uid(path), (
                f"{path!r} is another object than before"
            )
    world.deliver = world.take_in
    world.tick()
    world.assert_shown()


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_objects_follow_their_entries_through_renames_swaps_and_moves(data: st.DataObject) -> None:
    _identity(by_hypothesis(data))


@pytest.mark.parametrize("first", range(0, 400, 100))
def test_objects_follow_their_entries_by_seeds(first: int) -> None:
    for seed in range(first, first + 100):
        _identity(by_seed(seed))
