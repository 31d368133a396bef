"""What is planned, told by what the disk comes to."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from itertools import permutations

import pytest

from replicad.core.records import Record
from replicad.engine import workbench
from tests.engine.rig import Author, Rig

PATIENCE_S = 60
"""Longer than anything waits for a content that nobody has: core.fetching.HOPELESS_FAILURES and a round."""


def test_what_is_wanted_at_the_name_of_what_it_lies_in_does_not_wait_for_itself() -> None:
    """`x` and `a/b` both become `a`, which is deleted: the two merge there, and the one in it must get out first."""
    rig = Rig()
    author = Author(rig.bodies)
    other, deleted = author.directory(b"x"), author.directory(b"a")
    inner, file = author.directory(b"b", deleted.uid), author.file(b"f", b"1", other.uid)
    rig.take([other, deleted, inner, file])
    rig.settle()
    rig.take([author.delete(deleted), author.move(other, b"a"), author.move(inner, b"a")])
    rig.settle()
    assert rig.disk() == rig.wanted()
    assert not rig.catalog.pending(1)


@pytest.mark.parametrize("order", list(permutations(range(4))), ids=str)
def test_i9_who_is_as_wanted_is_not_lifted_for_ever_for_one_that_waits_for_another(order: Sequence[int]) -> None:
    """`b/a` becomes `b`, and what two members called `b` comes into `c`, which is two levels beneath `b/a`."""
    rig = Rig()
    author = Author(rig.bodies)
    one, other, taken = author.directory(b"b"), author.directory(b"b"), author.directory(b"c")
    inner = author.directory(b"a", one.uid)
    innermost = author.directory(b"a", inner.uid)
    rig.take([one, other, taken, inner, innermost])
    rig.settle()
    moves = [
        author.move(inner, b"b"),
        author.move(taken, b"a", innermost.uid),
        author.move(one, b"b", taken.uid),
        author.move(other, b"b", taken.uid),
    ]
    rig.take([moves[place] for place in order])
    rig.settle()
    assert rig.disk() == rig.wanted()
    assert set(rig.disk()) == {b"b", b"b/a", b"b/a/a", b"b/a/a/b"}


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
def test_i9_directories_that_become_one_beneath_themselves_do_not_wait_for_each_other(order: Sequence[int]) -> None:
    """`z` and `z/b` both become `a` in what is `z/b/b/b`, and `z/b/b` becomes `z`."""
    rig = Rig()
    author = Author(rig.bodies)
    outer = author.directory(b"z")
    inner = author.directory(b"b", outer.uid)
    rising = author.directory(b"b", inner.uid)
    target = author.directory(b"b", rising.uid)
    rig.take([outer, inner, rising, target])
    rig.settle()
    moves = [author.move(rising, b"z"), author.move(outer, b"a", target.uid), author.move(inner, b"a", target.uid)]
    rig.take([moves[place] for place in order])
    rig.settle()
    assert rig.disk() == rig.wanted()
    assert set(rig.disk()) == {b"z", b"z/b", b"z/b/a"}


def test_i9_what_waits_for_a_step_about_another_object_rests_where_that_step_fails() -> None:
    """The same, where a user has moved what must get out first, and nobody has looked at the disk yet."""
    rig = Rig()
    author = Author(rig.bodies)
    other, deleted = author.directory(b"x"), author.directory(b"a")
    inner, file = author.directory(b"b", deleted.uid), author.file(b"f", b"1", other.uid)
    rig.take([other, deleted, inner, file])
    rig.settle()
    rig.take([author.delete(deleted), author.move(other, b"a"), author.move(inner, b"a")])
    rig.fs.user_rename(b"a/b", b"a/q")
    for _ in range(12):
        rig.work()
        due_ms = rig.workbench.next_due_ms(rig.now_ms)
    assert due_ms is not None
    assert due_ms > rig.now_ms, "it is planned again and again"


# -- an entry goes, and another is wanted in its place (I4)

Change = Callable[[Author, Record], Sequence[Record]]


def delete(author: Author, held: Record) -> Sequence[Record]:
    return [author.delete(held), author.file(b"f", b"new")]


def move(author: Author, held: Record) -> Sequence[Record]:
    return [author.move(held, b"g"), author.file(b"f", b"new")]


def move_later(author: Author, held: Record) -> Sequence[Record]:
    """The same; the new one is planned first."""
    return move(author, held)[::-1]


def hide(author: Author, held: Record) -> Sequence[Record]:
    """The new one wins the name."""
    return [author.file(b"f", b"new")]


CHANGES = (delete, move, move_later, hide)


def _one_file() -> tuple[Rig, Author, Record]:
    rig = Rig()
    author = Author(rig.bodies)
    held = author.file(b"f", b"old")
    rig.take([held])
    rig.settle()
    return rig, author, held


@pytest.mark.parametrize("change", CHANGES)
def test_i4_the_old_version_stays_until_the_content_of_the_new_one_is_there(change: Change) -> None:
    rig, author, held = _one_file()
    rig.peers = lambda cn: []
    rig.take(change(author, held))
    for _ in range(5):
        rig.work()
        assert rig.disk()[b"f"][2] == b"old"
    rig.peers = lambda cn: ["peer"]
    rig.fetching.linked(rig.now_ms)
    rig.fs.before_read = lambda *_: _check_there(rig)
    rig.settle()
    assert rig.disk() == rig.wanted()
    assert not rig.dirty


def _check_there(rig: Rig) -> None:
    assert b"f" in rig.fs.read_tree(), "the path is empty"


@pytest.mark.parametrize("change", CHANGES)
def test_i7_nothing_waits_for_ever_for_a_content_that_nobody_has(change: Change) -> None:
    rig, author, held = _one_file()
    rig.peers = lambda cn: []
    rig.take(change(author, held))
    _wait_until(rig, lambda: b"f" not in rig.disk())
    if change in (move, move_later):
        assert rig.disk()[b"g"][2] == b"old"
    rig.peers = lambda cn: ["peer"]
    rig.fetching.linked(rig.now_ms)
    rig.settle()
    assert rig.disk() == rig.wanted()


def _wait_until(rig: Rig, done: Callable[[], bool]) -> None:
    for _ in range(PATIENCE_S):
        rig.work()
        if done():
            return
    raise AssertionError(f"it waits for ever: {rig.workbench.waiting()} {rig.fetching.waiting()}")


@pytest.mark.parametrize("change", CHANGES)
def test_i10_nothing_waits_for_ever_for_what_cannot_be_exchanged(change: Change) -> None:
    rig, author, held = _one_file()

    def refuse(method: str, paths: tuple[bytes, ...]) -> None:
        if method == "exchange":
            raise OSError(errno.EIO, "as the test wants it")

    rig.fs.before_change = refuse
    rig.take(change(author, held))
    _wait_until(rig, lambda: rig.disk() == rig.wanted())
    assert not rig.catalog.pending(1)


@pytest.mark.parametrize("change", CHANGES)
def test_what_goes_waits_for_the_end_of_the_series_that_brings_what_comes(change: Change) -> None:
    """Rule 7: what an unfinished series brought replaces nothing."""
    rig, author, held = _one_file()
    records = change(author, held)
    rig.settled = lambda uid: uid == held.uid
    rig.take(records)
    for _ in range(5):
        rig.work()
    assert rig.disk() == {b"f": (1, 0o644, b"old")}
    rig.settled = lambda uid: True
    rig.workbench.release()
    rig.settle()
    assert rig.disk() == rig.wanted()


def test_i10_a_content_that_arrives_while_there_is_no_room_to_plan_it_is_installed_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """100,000 files in one go: while so many objects are ready to be planned that no more are remembered, contents come
    in. Those are whole, are asked for no more, and only the sweep finds them again."""
    monkeypatch.setattr(workbench, "WINDOW_MAX", 20)
    rig = Rig()
    author = Author(rig.bodies)
    rig.take([author.file(b"a%02d" % number, b"a%d" % number) for number in range(20)])
    rig.step()  # all of them are to be fetched
    rig.take([author.file(b"b%02d" % number, b"b%d" % number) for number in range(20)])
    for _ in range(100):
        rig.work()
    assert rig.disk() == rig.wanted()
    assert not rig.catalog.pending(1)


def test_what_a_batch_has_woken_is_planned_in_one_order_whatever_the_hashes_of_python_are() -> None:
    """A set of UIDs is in another order in each process, and a simulated history would be another one."""
    bench = Rig().workbench
    blockers = [bytes([number]) * 16 for number in range(1, 17)]
    for uid in blockers:
        bench._waiting.wait_for(b"waits" + uid, uid)
    bench._go_on(set(blockers))
    assert list(bench._ready) == [b"waits" + uid for uid in blockers]
