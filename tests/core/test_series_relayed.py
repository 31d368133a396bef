"""The knowledge rules R1 to R3 among members that pass on what they have: pages and statuses are lost, come twice,
late, and in any order, and a CN is claimed only by who holds what was made at it, or what supersedes that.

`test_series` has one sender that tells of its own changes alone. Here each member's set has changes of the others, too,
which it may know without a record of them, since they were superseded before it heard.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replicad.core.cnset import EMPTY, CNSet
from replicad.core.ids import Cn
from replicad.core.series import Checkpoint, Coverage, Row, covered, take
from tests.core.make import Choose, by_hypothesis, by_seed

MEMBERS = (1, 2, 3)
OBJECTS = 4
EVENTS_MAX = 60
ROUNDS_MAX = 200

Version = tuple[int, Cn]
"""Of an object; the greater wins: (logical time, CN)."""


@dataclass(frozen=True)
class Page:
    """`records` None: a status, which shows what its sender knew at `head`."""

    sender: int
    begin: int
    end: int
    head: int
    records: tuple[tuple[int, Version], ...] | None
    shown: CNSet | None


@dataclass
class Member:
    replica: int
    counter: int = 0
    head: int = 0
    known: CNSet = EMPTY
    held: dict[int, tuple[Version, int]] = field(default_factory=dict)
    """Per object the version and its position."""
    rows: dict[int, Row] = field(default_factory=dict)
    coverage: dict[int, Coverage] = field(default_factory=lambda: {one: Coverage() for one in MEMBERS})
    marks: list[tuple[int, CNSet]] = field(default_factory=lambda: [(0, EMPTY)])

    def store(self, thing: int, version: Version) -> None:
        self.head += 1
        self.held[thing] = version, self.head
        self.known = self.known.add([version[1]])
        self.marks.append((self.head, self.known))

    def page(self, after: int, base: CNSet, limit: int, begin: int | None = None) -> Page:
        records: list[tuple[int, Version]] = []
        end = after
        for thing, (version, position) in sorted(self.held.items(), key=lambda item: item[1][1]):
            if position <= after:
                continue
            if version[1] not in base:
                if len(records) == limit:
                    break
                records.append((thing, version))
            end = position
        else:
            end = self.head
        shown = self.known if end == self.head else None
        return Page(self.replica, after if begin is None else begin, end, self.head, tuple(records), shown)

    def status(self) -> Page:
        return Page(self.replica, 0, 0, self.head, None, self.known)

    def take(self, page: Page) -> None:
        row = self.rows.get(page.sender, Row())
        if page.records is None:
            self._cover(page)
            return
        for thing, version in page.records:
            if thing not in self.held or version > self.held[thing][0]:
                self.store(thing, version)
            self.known = self.known.add([version[1]])
        taken = take(row, page.begin, page.end, page.head, page.shown is not None)
        self.rows[page.sender] = taken.row
        if taken.learn and page.shown is not None:
            self.known = self.known.union(page.shown)
        elif page.shown is not None:
            self._cover(page)
        for sender, coverage in self.coverage.items():
            if (checkpoint := coverage.learned(self.known)) is not None:
                self.rows[sender] = covered(self.rows.get(sender, Row()), checkpoint.head)

    def _cover(self, page: Page) -> None:
        assert page.shown is not None
        lacking = page.shown.minus(self.known)
        if lacking:
            self.coverage[page.sender].note(Checkpoint(page.sender, page.head, page.shown, lacking))
        else:
            self.rows[page.sender] = covered(self.rows.get(page.sender, Row()), page.head)


class Group:
    def __init__(self) -> None:
        self.members = {one: Member(one) for one in MEMBERS}
        self.made: dict[Cn, tuple[int, Version]] = {}
        self.bags: dict[tuple[int, int], list[Page]] = {}
        """What is on its way, by (sender, receiver)."""
        self.told: dict[tuple[int, int], CNSet] = {}
        """What the sender has heard that the receiver knows."""

    def write(self, replica: int, thing: int) -> None:
        member = self.members[replica]
        member.counter += 1
        last = member.held[thing][0][0] if thing in member.held else 0
        version = last + 1, Cn(replica, member.counter)
        self.made[version[1]] = thing, version
        member.store(thing, version)

    def send(self, sender: int, receiver: int, choose: Choose) -> None:
        """An answer (its base is what the receiver knows now, or knew), a push, or a status."""
        own, other = self.members[sender], self.members[receiver]
        told = self.told.get((sender, receiver), EMPTY)
        match choose(4):
            case 0 | 1:
                after = other.rows.get(sender, Row()).position
                page = own.page(after, other.known if choose(2) else told, 1 + choose(3))
            case 2:
                after, known_then = own.marks[-1 - choose(min(len(own.marks), 4))]
                page = own.page(after, told, OBJECTS, 0 if told.contains_all(known_then) else after)
            case _:
                page = own.status()
        self.bags.setdefault((sender, receiver), []).append(page)

    def deliver(self, sender: int, receiver: int, choose: Choose) -> None:
        """Any page that is on its way; it may come again."""
        bag = self.bags.get((sender, receiver), [])
        if bag:
            at = choose(len(bag))
            page = bag[at] if choose(3) == 0 else bag.pop(at)
            self.members[receiver].take(page)
            self.check(receiver)

    def check(self, replica: int) -> None:
        """I2, and the invariant of a row."""
        member = self.members[replica]
        for cn, (thing, version) in self.made.items():
            if cn in member.known:
                assert thing in member.held, f"{cn} is claimed, and its object was never received"
                assert member.held[thing][0] >= version, f"{cn} is claimed, and an older version is held"
        for row in member.rows.values():
            assert row.position <= row.head

    def finish(self) -> None:
        """Everyone reads everyone to the end."""
        for _ in range(ROUNDS_MAX):
            if len({tuple(map(str, member.known.items())) for member in self.members.values()}) == 1:
                break
            for sender in MEMBERS:
                for receiver in MEMBERS:
                    own, other = self.members[sender], self.members[receiver]
                    if sender != receiver and own.known.minus(other.known):
                        other.take(own.page(other.rows.get(sender, Row()).position, other.known, 2))
                        self.check(receiver)
        held = [{thing: one[0] for thing, one in member.held.items()} for member in self.members.values()]
        assert held[0] == held[1] == held[2]
        assert all(member.known == CNSet.of(self.made) for member in self.members.values())


def play(choose: Choose) -> Group:
    group = Group()
    for _ in range(choose(EVENTS_MAX)):
        sender = MEMBERS[choose(3)]
        receiver = MEMBERS[(sender + choose(2)) % 3]
        match choose(8):
            case 0 | 1 | 2:
                group.write(sender, choose(OBJECTS))
            case 3 | 4:
                group.send(sender, receiver, choose)
            case 5:
                group.told[sender, receiver] = group.members[receiver].known
            case _:
                group.deliver(sender, receiver, choose)
    return group


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_i2_what_is_passed_on_lost_doubled_and_reordered_is_claimed_only_if_held(data: st.DataObject) -> None:
    play(by_hypothesis(data)).finish()


@pytest.mark.parametrize("block", range(4))
def test_i2_seeded_histories_claim_what_is_held_and_end_with_everything(block: int) -> None:
    for seed in range(block * 1_000, block * 1_000 + 1_000):
        play(by_seed(seed)).finish()
