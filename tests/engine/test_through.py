"""Up to which hint a scanner is through: also where new hints never end, and never before what was renamed is found."""

from __future__ import annotations

from replicad.engine.asking import Question
from replicad.engine.through import Through
from tests.engine.scan_world import World


class Bench:
    """A world whose hints are counted, and whose watch answers when the test says so."""

    def __init__(self) -> None:
        self.world = World()
        self.world.fs.user_mkdir(b".replicad/fence")
        self.question = Question(self.world.fs, b"through")
        self.through = Through(self.world.scanner, self.question)
        self.world.run()

    def hint(self, name: bytes, *, renamed: bool = False) -> None:
        self.world.scanner.hint(b"", name, since=self.through.next(renamed=renamed))

    def ask(self) -> None:
        self.through.work(0, watched=True)

    def answer(self) -> None:
        (name,) = [name for name, _ in self.world.fs.list_dir(b".replicad/fence")]
        self.through.answered(name)


def test_it_is_through_once_nothing_is_left_and_the_watch_has_told_everything() -> None:
    bench = Bench()
    bench.hint(b"a")
    wanted = bench.through.want()
    bench.ask()
    assert not bench.question.asked, "something is left"
    bench.world.run()
    bench.through.changed()
    bench.ask()
    assert bench.through.through < wanted
    bench.answer()
    assert bench.through.through == wanted
    assert bench.through.due_ms(0) is None


def test_hints_that_came_later_are_not_waited_for() -> None:
    bench = Bench()
    bench.hint(b"a")
    wanted = bench.through.want()
    bench.world.run()
    bench.hint(b"b")
    bench.ask()
    bench.answer()
    assert bench.through.through == wanted


def test_what_was_renamed_may_be_what_an_earlier_hint_told_of() -> None:
    """`a` was hinted at, and was `b` when it was looked for: until `b` has been looked at nobody has read it."""
    bench = Bench()
    bench.hint(b"a")
    wanted = bench.through.want()
    bench.world.run()
    bench.hint(b"b", renamed=True)
    bench.ask()
    assert not bench.question.asked
    bench.world.run()
    bench.through.changed()
    bench.ask()
    bench.answer()
    assert bench.through.through >= wanted


def test_what_was_renamed_and_is_not_told_yet_is_waited_for() -> None:
    """The rename was made before the question: it is told before the answer, and all begins again."""
    bench = Bench()
    bench.hint(b"a")
    wanted = bench.through.want()
    bench.world.run()
    bench.ask()
    bench.hint(b"b", renamed=True)
    bench.world.run()
    bench.answer()
    assert bench.through.through < wanted
    bench.ask()
    bench.answer()
    assert bench.through.through >= wanted


def test_a_marker_that_is_lost_is_made_anew() -> None:
    bench = Bench()
    bench.hint(b"a")
    wanted = bench.through.want()
    bench.world.run()
    bench.ask()
    lost_ms = bench.through.due_ms(0)
    assert lost_ms is not None
    bench.through.work(lost_ms, watched=True)
    bench.answer()
    assert bench.through.through == wanted
