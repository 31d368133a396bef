"""What a file costs must not grow with its directory: look-ups are counted, never time.

`reads` are statements that ask the catalog, `rows` what they answer: a whole directory read for each batch shows in the
rows, a question for each file in the statements.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from replicad.catalog.lookups import Lookups
from replicad.catalog.store import Catalog
from replicad.core.draft import Draft
from replicad.core.view import ROOT_NODE, Node
from replicad.engine import scan_resolve
from replicad.engine.scan_step import Looked
from tests.engine.rig import Author, Bodies, Rig
from tests.engine.scan_world import FOLDER, World

FEW, MANY = 200, 2_000
GROWTH_MAX = 1.2
READS_A_FILE_MAX = 0.7
"""At MANY files; one question that is asked file by file makes it more than 1."""
PAGE = 512


@dataclass
class Count:
    reads: int = 0
    rows: int = 0


@contextmanager
def counted() -> Iterator[Count]:
    count = Count()
    rows_of = Lookups._rows

    def counting(self: Lookups, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        found = rows_of(self, sql, *parameters)
        count.reads += 1
        count.rows += len(found)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Lookups, "_rows", counting)
        yield count


def assert_cost_does_not_grow(cost: Callable[[int], Count], rows_growth_max: float = GROWTH_MAX) -> None:
    few, many = cost(FEW), cost(MANY)
    assert many.reads / MANY <= GROWTH_MAX * few.reads / FEW, (few, many)
    assert many.rows / MANY <= rows_growth_max * few.rows / FEW, (few, many)
    assert many.reads / MANY <= READS_A_FILE_MAX, many


# -- what comes from others


class Received:
    """A member that is sent a directory of `files` files, a page at a time."""

    def __init__(self, files: int) -> None:
        self.author = Author(Bodies())
        self.rig = Rig(self.author.bodies)
        self.directory = self.author.directory(b"d")
        self.files = [self.author.file(b"%06d" % index, b"x", self.directory.uid) for index in range(files)]

    def install(self) -> None:
        records = [self.directory, *self.files]
        for start in range(0, len(records), PAGE):
            self.rig.take(records[start : start + PAGE])
        self.rig.settle()
        assert len(self.rig.disk()) == len(records)

    def remove(self) -> None:
        records = [self.author.delete(held) for held in (self.directory, *self.files)]
        for start in range(0, len(records), PAGE):
            self.rig.take(records[start : start + PAGE])
        self.rig.settle()
        assert self.rig.disk() == {}


def test_installing_a_file_costs_the_same_in_a_larger_directory() -> None:
    def cost(files: int) -> Count:
        received = Received(files)
        with counted() as count:
            received.install()
        return count

    assert_cost_does_not_grow(cost)


def test_removing_a_file_costs_the_same_in_a_larger_directory() -> None:
    def cost(files: int) -> Count:
        received = Received(files)
        received.install()
        with counted() as count:
            received.remove()
        return count

    # For each batch of 512 as many children of the directory are read; FEW are less than a batch.
    assert_cost_does_not_grow(cost, rows_growth_max=1.5)


# -- what the disk shows


class ScannedWorld(World):
    """Over a catalog."""

    def __init__(self, files: int) -> None:
        super().__init__()
        self.catalog = Catalog.open(None, FOLDER, lambda: 1)
        self.view = self.catalog  # type: ignore[assignment]
        draft = Draft(self.catalog)
        root = self.fs.stat(b"")
        assert root is not None
        draft.put_node(Node(ROOT_NODE, 0, b"", root.kind, root.inode, 0, 0, 0, 0, 0o755))
        self.catalog.commit(draft, now_ms=1)
        self.names = [b"d/%06d" % index for index in range(files)]

    def _commit(self, work: Callable[[Draft], Looked]) -> Looked:
        """Without the checks, which look at everything."""
        draft = Draft(self.catalog)
        looked = work(draft)
        self.catalog.commit(draft, now_ms=1)
        return looked

    def write_all(self) -> None:
        self.fs.user_mkdir(b"d")
        for name in self.names:
            self.fs.user_write(name, b"x")
        self.tick()

    def remove_all(self) -> None:
        for name in self.names:
            self.fs.user_unlink(name)
        self.tick()


def test_scanning_a_new_file_costs_the_same_in_a_larger_directory() -> None:
    def cost(files: int) -> Count:
        world = ScannedWorld(files)
        world.deliver = lambda change: None
        world.write_all()
        with counted() as count:
            world.rescan()
        assert world.catalog.counts()[0] == files + 1
        return count

    assert_cost_does_not_grow(cost)


def test_a_new_file_that_the_watch_tells_of_costs_the_same_in_a_larger_directory() -> None:
    def cost(files: int) -> Count:
        world = ScannedWorld(files)
        world.rescan()
        world.write_all()
        with counted() as count:
            world.run()
        assert world.catalog.counts()[0] == files + 1
        return count

    assert_cost_does_not_grow(cost)


@pytest.mark.parametrize("watched", [True, False])
def test_a_file_that_is_gone_costs_the_same_in_a_larger_directory(
    watched: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan_resolve, "PIECE_NODES", 256)  # so that many go in several pieces

    def cost(files: int) -> Count:
        world = ScannedWorld(files)
        world.write_all()
        world.rescan()
        if not watched:
            world.deliver = lambda change: None
        world.remove_all()
        with counted() as count:
            world.run() if watched else world.rescan()
        assert world.catalog.counts()[0] == 1
        return count

    assert_cost_does_not_grow(cost)


def test_a_file_that_is_gone_is_looked_at_as_often_however_many_are() -> None:
    """Not all that is gone again after each piece."""
    looks: list[float] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan_resolve, "PIECE_NODES", 64)
        for files in (FEW, MANY):
            world = ScannedWorld(files)
            world.write_all()
            world.rescan()
            world.remove_all()
            counted_looks = 0

            def look(method: str, paths: tuple[bytes, ...]) -> None:
                nonlocal counted_looks
                counted_looks += 1

            world.fs.before_read = look
            world.run()
            world.fs.before_read = None
            looks.append(counted_looks / files)
    assert looks[1] <= GROWTH_MAX * looks[0], looks
