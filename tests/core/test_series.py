"""The knowledge rule on a small model: one sender, one receiver, pages lost, doubled and in any order."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from replicad.core.cnset import EMPTY, CNSet
from replicad.core.ids import Cn
from replicad.core.series import CHECKPOINTS_MAX, Checkpoint, Coverage, Row, covered, take

SENDER = 77
OBJECTS = 6


@dataclass(frozen=True)
class Page:
    begin: int
    end: int
    head: int
    records: tuple[tuple[int, Cn], ...]
    """(object, its newest CN)."""
    shown: CNSet | None


@dataclass
class Sender:
    newest: dict[int, tuple[Cn, int]] = field(default_factory=dict)
    """Per object its CN and position: superseded CNs have no record."""
    known: CNSet = EMPTY
    head: int = 0
    history: dict[Cn, int] = field(default_factory=dict)
    """Which object each CN changed."""
    marks: list[tuple[int, CNSet]] = field(default_factory=lambda: [(0, EMPTY)])

    def write(self, thing: int) -> None:
        self.head += 1
        cn = Cn(SENDER, self.head)
        self.newest[thing] = (cn, self.head)
        self.known = self.known.add((cn,))
        self.history[cn] = thing
        self.marks.append((self.head, self.known))

    def page(self, after: int, base: CNSet, limit: int, begin: int | None = None) -> Page:
        later = sorted((position, thing, cn) for thing, (cn, position) in self.newest.items() if position > after)
        records: list[tuple[int, Cn]] = []
        end = after
        for position, thing, cn in later:
            if cn not in base:
                if len(records) == limit:
                    break
                records.append((thing, cn))
            end = position
        else:
            end = self.head
        shown = self.known if end == self.head else None
        return Page(after if begin is None else begin, end, self.head, tuple(records), shown)


@dataclass
class Receiver:
    held: dict[int, Cn] = field(default_factory=dict)
    known: CNSet = EMPTY
    row: Row = field(default_factory=Row)
    coverage: Coverage = field(default_factory=Coverage)

    def take(self, page: Page) -> None:
        for thing, cn in page.records:
            self.held[thing] = max(cn, self.held.get(thing, cn))
        taken = take(self.row, page.begin, page.end, page.head, page.shown is not None)
        self.row = taken.row
        self.known = self.known.add(cn for _, cn in page.records)
        if taken.learn and page.shown is not None:
            self.known = self.known.union(page.shown)
        elif page.shown is not None:
            self.coverage.note(Checkpoint(SENDER, page.head, page.shown, page.shown.minus(self.known)))
        checkpoint = self.coverage.learned(self.known)
        if checkpoint is not None:
            self.row = covered(self.row, checkpoint.head)

    def assert_honest(self, sender: Sender) -> None:
        for cn, thing in sender.history.items():
            if cn in self.known:
                assert thing in self.held, f"{cn} is claimed, and its object was never received"
                assert self.held[thing] >= cn, f"{cn} is claimed, and an older version is held"


def run(seed: int, writes: int = 40) -> tuple[Sender, Receiver]:
    rng = random.Random(seed)
    sender, receiver = Sender(), Receiver()
    told = EMPTY
    bag: list[Page] = []
    while sender.head < writes:
        match rng.randrange(6):
            case 0 | 1:
                sender.write(rng.randrange(OBJECTS))
            case 2:
                base = receiver.known if rng.random() < 0.7 else told
                bag.append(sender.page(receiver.row.position, base, rng.randrange(1, 4)))
            case 3 if sender.head:
                after, known_then = rng.choice(sender.marks[-4:])
                begin = 0 if told.contains_all(known_then) else after
                bag.append(sender.page(after, told, 512, begin))
            case 4:
                told = receiver.known
            case _ if bag:
                page = bag[rng.randrange(len(bag))] if rng.random() < 0.4 else bag.pop(rng.randrange(len(bag)))
                receiver.take(page)
                receiver.assert_honest(sender)
                assert receiver.row.position <= receiver.row.head
    return sender, receiver


@pytest.mark.parametrize("block", range(10))
def test_i2_whatever_arrives_in_whatever_order_nothing_is_claimed_that_is_not_held(block: int) -> None:
    for seed in range(block * 100, block * 100 + 100):
        run(seed)


@pytest.mark.parametrize("seed", range(50))
def test_a_series_brings_everything_superseded_changes_included(seed: int) -> None:
    sender, receiver = run(seed)
    for _ in range(200):
        if receiver.known == sender.known:
            break
        receiver.take(sender.page(receiver.row.position, receiver.known, 2))
        receiver.assert_honest(sender)
    assert receiver.known == sender.known
    assert {thing: cn for thing, (cn, _) in sender.newest.items()} == receiver.held


def test_s18_the_set_is_taken_at_the_end_of_a_series_alone() -> None:
    assert take(Row(), 0, 10, 20, has_set=False).learn is False
    assert take(Row(10, 20), 10, 20, 20, has_set=True).learn is True


def test_a_page_that_begins_after_what_was_read_moves_nothing_and_its_set_is_not_taken() -> None:
    taken = take(Row(5, 9), 6, 12, 12, has_set=True)
    assert taken.row == Row(5, 9)
    assert not taken.contiguous
    assert not taken.learn


def test_s31_a_page_of_a_lower_head_moves_nothing_and_its_set_is_not_taken() -> None:
    taken = take(Row(5, 9), 5, 8, 8, has_set=True)
    assert taken.row == Row(5, 9)
    assert not taken.learn


def test_a_page_that_overlaps_what_was_read_moves_on_and_never_back() -> None:
    assert take(Row(5, 9), 0, 7, 9, has_set=False).row == Row(7, 9)
    assert take(Row(5, 9), 0, 3, 12, has_set=False).row == Row(5, 12)


def test_what_covers_no_positions_moves_nothing() -> None:
    assert take(Row(5, 9), 0, 0, 0, has_set=False).row == Row(5, 9)
    assert take(Row(), 0, 0, 0, has_set=False).row == Row()


def test_a_head_below_the_last_one_covers_nothing() -> None:
    assert covered(Row(5, 9), 8) == Row(5, 9)
    assert covered(Row(5, 9), 9) == Row(9, 9)


def _point(head: int, *counters: int) -> Checkpoint:
    cns = CNSet.of(Cn(5, counter) for counter in counters)
    return Checkpoint(SENDER, head, cns, cns)


def test_a_head_is_covered_when_the_last_of_what_it_lacked_is_known() -> None:
    coverage = Coverage()
    coverage.note(_point(3, 1))
    coverage.note(_point(4, 1, 2))
    coverage.note(_point(5, 3))
    assert coverage.learned(CNSet.span(5, 2, 2)) is None
    found = coverage.learned(CNSet.span(5, 1, 2))
    assert found is not None
    assert found.head == 4
    assert len(coverage) == 1


def test_i8_checkpoints_are_bounded_and_the_oldest_ones_stay() -> None:
    coverage = Coverage()
    for head in range(1, 1_000):
        coverage.note(_point(head, head))
    assert len(coverage) == CHECKPOINTS_MAX
    first = coverage.learned(CNSet.span(5, 1, 1))
    assert first is not None
    assert first.head == 1
    last = coverage.learned(CNSet.span(5, 999, 999))
    assert last is not None
    assert last.head == 999


def test_a_new_replica_id_ends_what_was_waited_for_under_the_old_one() -> None:
    coverage = Coverage()
    coverage.note(_point(3, 1))
    coverage.note(Checkpoint(SENDER + 1, 1, CNSet.span(5, 2, 2), CNSet.span(5, 2, 2)))
    assert coverage.learned(CNSet.span(5, 1, 1)) is None
    assert len(coverage) == 1
