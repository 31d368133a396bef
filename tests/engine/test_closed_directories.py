"""Directories whose mode forbids changes in them (0555, as in archives), worked by a member that is not root.

Its owner may open such a directory for a moment. Whatever an act does meanwhile, move it, exchange it, remove it, the
directory has its mode back afterwards: else the scan takes the open one for a change that its user made, and the
directory that was being deleted lives again (I7).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from replicad.core.records import Record
from replicad.core.view import ROOT_NODE, Node
from tests.engine.rig import Author, Crash, Rig

CLOSED = 0o555
Story = tuple[Callable[[Author], Sequence[Record]], Callable[[Author, Sequence[Record]], Sequence[Record]]]


def one_in_another(author: Author) -> list[Record]:
    outer = author.directory(b"outer", mode=CLOSED)
    inner = author.directory(b"inner", outer.uid, mode=CLOSED)
    file = author.file(b"f", b"in it", inner.uid)
    return [outer, inner, file, author.directory(b"other"), author.symlink(b"link", b"target", inner.uid)]


def two(author: Author) -> list[Record]:
    """Closed, and not, in directories that are the same."""
    one, other = author.directory(b"one", mode=CLOSED), author.directory(b"other", mode=CLOSED)
    closed, opened = author.directory(b"closed", one.uid, mode=CLOSED), author.directory(b"open", other.uid, mode=0o755)
    return [one, other, closed, opened, author.file(b"f", b"1", closed.uid), author.file(b"g", b"2", opened.uid)]


def file_in_closed(author: Author) -> list[Record]:
    outer = author.directory(b"outer", mode=CLOSED)
    return [outer, author.file(b"f", b"in it", outer.uid)]


def make_file_a_directory(author: Author, held: Sequence[Record]) -> list[Record]:
    made = author.directory(b"f", held[0].uid, mode=CLOSED)
    return [author.delete(held[1]), made, author.file(b"x", b"in it", made.uid)]


def make_directory_a_file(author: Author, held: Sequence[Record]) -> list[Record]:
    gone = [author.delete(one) for one in reversed(held[1:3])]
    return [*gone, author.delete(held[4]), author.file(b"inner", b"in place of it", held[0].uid)]


def nest(author: Author, held: Sequence[Record]) -> list[Record]:
    """`mv outer t; mkdir outer; mv t outer/it`: the old one is lifted out into staging."""
    made = author.directory(b"outer", mode=CLOSED)
    return [author.move(held[0], b"it", made.uid), made]


STORIES: dict[str, Story] = {
    "delete": (one_in_another, lambda author, held: [author.delete(one) for one in reversed(held)]),
    "move": (one_in_another, lambda author, held: [author.move(held[1], b"moved", held[3].uid)]),
    "move to the top": (one_in_another, lambda author, held: [author.move(held[1], b"moved")]),
    "swap": (
        two,
        lambda author, held: [
            author.move(held[2], b"open", held[1].uid),
            author.move(held[3], b"closed", held[0].uid),
        ],
    ),
    "edit": (file_in_closed, lambda author, held: [author.edit(held[1], b"edited")]),
    "rename a file": (file_in_closed, lambda author, held: [author.move(held[1], b"g", held[0].uid)]),
    "new file": (file_in_closed, lambda author, held: [author.file(b"g", b"new", held[0].uid)]),
    "a file becomes a directory": (file_in_closed, make_file_a_directory),
    "a directory becomes a file": (one_in_another, make_directory_a_file),
    "nest": (one_in_another, nest),
}
REPLACE_A_FILE = ("edit", "a file becomes a directory")


def _begin(name: str) -> tuple[Rig, Sequence[Record]]:
    """What was there before is installed; what comes is not."""
    before, after = STORIES[name]
    rig = Rig()
    rig.fs.modes_bind = True
    author = Author(rig.bodies)
    held = before(author)
    rig.take(held)
    rig.settle()
    assert rig.disk() == rig.wanted()
    return rig, after(author, held)


def _check(rig: Rig) -> None:
    rig.settle()
    assert rig.disk() == rig.wanted()
    assert not rig.dirty, "the applier met a change that nobody made"
    assert not rig.workbench.waiting()
    for path, (stat, _) in rig.fs.read_tree().items():
        node = next(node for node in _nodes(rig) if node.inode == stat.inode)
        assert node.mode == stat.mode, f"{path!r}: the scan will take this for a change of its mode"


def _nodes(rig: Rig) -> list[Node]:
    found: list[Node] = []
    waiting = [ROOT_NODE]
    while waiting:
        children = rig.catalog.nodes_in(waiting.pop())
        found += children
        waiting += [child.id for child in children]
    return found


@pytest.mark.parametrize("exchanges", [True, False])
@pytest.mark.parametrize("name", STORIES)
def test_i7_a_directory_is_as_closed_as_before_when_something_in_it_was_changed(name: str, exchanges: bool) -> None:
    rig, records = _begin(name)
    rig.fs.exchanges = exchanges
    rig.take(records)
    _check(rig)


@pytest.mark.parametrize(
    ("name", "exchanges"),
    # A file that had left its name for the moment of an exchange by two renames has another ctime: for the scan.
    [(name, True) for name in STORIES] + [(name, False) for name in STORIES if name not in REPLACE_A_FILE],
)
def test_i12_a_crash_leaves_no_directory_open(name: str, exchanges: bool) -> None:
    for chosen in range(400):
        rig, records = _begin(name)
        rig.fs.exchanges = exchanges
        rig.take(records)
        if not _crash_at(rig, chosen):
            assert chosen > 5, "no instants: nothing was done"
            return
        rig.start()
        _check(rig)
    raise AssertionError("it never comes to an end")


def _crash_at(rig: Rig, chosen: int) -> bool:
    countdown = chosen

    def count(*_: object) -> None:
        nonlocal countdown
        countdown -= 1
        if countdown < 0:
            raise Crash

    rig.fs.before_change = rig.before_commit = count
    try:
        rig.settle()
    except Crash:
        rig.kill()
        return True
    rig.kill()
    return False
