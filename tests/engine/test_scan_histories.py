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
