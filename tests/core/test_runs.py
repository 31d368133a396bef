"""Whether a run of a catalog follows from what is remembered of it."""

from __future__ import annotations

from replicad.core.runs import NONE, Remembered, Run, follows, remember

ONE, TWO, THREE = (Run(number, bytes([number]) * 8) for number in (1, 2, 3))
COPY = Run(2, b"the copy")


def test_a_life_of_runs_follows_from_itself_whatever_is_lost_on_the_way() -> None:
    """Each meeting: the peer takes note, its answer may be lost, and what the member sends then may be."""
    for heard in range(8):
        remembered, last = Remembered(), NONE
        for index, run in enumerate((ONE, TWO, THREE)):
            assert follows(remembered, 1, run, last), (heard, index)
            remembered = remember(remembered, 1, run, last)
            if heard & (1 << index):
                last = run
                assert follows(remembered, 1, run, last)
                remembered = remember(remembered, 1, run, last)


def test_a_run_that_knows_only_of_one_before_the_confirmed_one_was_put_back() -> None:
    remembered = remember(remember(Remembered(), 1, ONE, NONE), 1, ONE, ONE)
    remembered = remember(remember(remembered, 1, TWO, ONE), 1, TWO, TWO)
    assert follows(remembered, 1, THREE, TWO)
    assert not follows(remembered, 1, THREE, ONE)
    assert not follows(remembered, 1, THREE, NONE)


def test_the_second_of_two_copies_does_not_follow() -> None:
    """Both go on from the first run."""
    remembered = remember(remember(Remembered(), 1, ONE, NONE), 1, ONE, ONE)
    assert follows(remembered, 1, TWO, ONE)
    remembered = remember(remember(remembered, 1, TWO, ONE), 1, TWO, TWO)
    assert not follows(remembered, 1, COPY, ONE)
    assert not follows(remembered, 1, THREE, COPY)


def test_who_was_put_back_itself_finds_fault_with_nobody() -> None:
    """The peer is further than what is remembered here."""
    remembered = remember(remember(Remembered(), 1, ONE, NONE), 1, ONE, ONE)
    assert follows(remembered, 1, THREE, TWO)


def test_the_same_run_follows_on_every_link() -> None:
    remembered = remember(Remembered(), 1, TWO, NONE)
    assert follows(remembered, 1, TWO, NONE)
    assert remember(remembered, 1, TWO, NONE) == remembered


def test_a_later_life_follows_whatever_is_remembered_and_an_earlier_one_does_not() -> None:
    remembered = remember(remember(Remembered(), 5, ONE, NONE), 5, ONE, ONE)
    assert follows(remembered, 6, TWO, NONE)
    assert not follows(remembered, 4, TWO, ONE)
    later = remember(remembered, 6, TWO, ONE)
    assert follows(later, 6, THREE, TWO)
    assert follows(later, 6, THREE, ONE), "a crash kept from it that the second run was taken note of"
    assert not follows(remember(later, 6, TWO, TWO), 6, THREE, ONE)
    assert not follows(later, 5, THREE, ONE)
