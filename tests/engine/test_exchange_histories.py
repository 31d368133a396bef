"""Random histories of a group: its network loses, doubles, delays and reorders, links are cut, members crash.

I2 is asserted all the while, for every change ever made and every member; after healing the members hold the same
records (I1), nothing waits and nothing is unsettled. Each seed is one history, the same at every run.
"""

from __future__ import annotations

import random
from collections import Counter

import pytest

from replicad.core.ids import Uid
from tests.engine.exchange_net import Group, Member, small_pages

PERIOD_MS = 80_000
"""The longest time between two periodic statuses."""


class History:
    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.names = "ABCDE"[: self.rng.randrange(2, 6)]
        self.group = Group(self.names, seed)
        self.group.loss = self.rng.choice([0.0, 0.0, 0.1, 0.4])
        self.group.doubling = self.rng.choice([0.0, 0.3])
        self.group.ordered = self.rng.random() < 0.4
        self.group.latency_ms = self.rng.choice([(1, 5), (1, 500), (20, 3_000)])
        self.uids: list[Uid] = []
        self.done: Counter[str] = Counter()

    def run(self, steps: int) -> None:
        if self.rng.random() < 0.5:
            self.group.connect_all()
        for step in range(steps):
            self.one(step)
            self.group.run(self.rng.choice([0, 1, 10, 100, 1_000, 5_000]))
            if step % 5 == 0:
                self.group.assert_honest()
        self.group.assert_honest()

    def one(self, step: int) -> None:
        kinds = ("create", "edit", "rename", "delete", "cut", "connect", "crash")
        (kind,) = self.rng.choices(kinds, (20, 25, 15, 5, 10, 15, 5))
        member = self.group[self.rng.choice(self.names)]
        if kind == "create":
            self.uids.append(member.create(f"f{step}", step))
        elif kind == "crash":
            self.group.crash(member.name)
        elif kind in ("cut", "connect"):
            getattr(self.group, kind)(*self.rng.sample(self.names, 2))
        elif whole := self.whole(member):
            uid = self.rng.choice(whole)
            if kind == "edit":
                member.edit(uid, step)
            elif kind == "rename":
                member.rename(uid, f"r{step}")
            else:
                member.delete(uid)
        else:
            return
        self.done[kind] += 1

    def whole(self, member: Member) -> list[Uid]:
        """Objects of which the member holds both registers."""
        states = {state.record.uid: state.record for state in member.catalog.objects(self.uids)}
        return [uid for uid in self.uids if uid in states and states[uid].place and states[uid].content]

    def heal(self) -> None:
        self.group.loss = self.group.doubling = 0.0
        self.group.connect_all()
        self.group.run_until(self.group.converged, 4 * PERIOD_MS)
        self.group.run(2 * PERIOD_MS)
        self.group.assert_equal()
        self.group.assert_honest()
        self.group.run(300_000)
        for member in self.group.members.values():
            assert not member.exchange.any_unsettled
            assert not member.exchange.backfill_entries()
            assert not member.reports
            member.exchange.close(self.group.now_ms)
            for other in self.group.members.values():
                rows = {row.replica: row.position for row in member.catalog.series(other.id)}
                assert other is member or rows[other.replica] == other.catalog.head, "a series is not at its end"


@pytest.mark.parametrize("seed", range(40))
def test_i1_i2_whatever_the_network_does_members_are_honest_and_become_equal(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if seed % 2:
        small_pages(monkeypatch, records=2, waiting=4)
    history = History(seed)
    history.run(steps=80)
    history.heal()


def test_one_seed_is_one_history() -> None:
    traces = []
    for _ in range(2):
        history = History(3)
        history.run(steps=60)
        traces.append([(at_ms, source, target, message) for at_ms, source, target, message in history.group.log])
    assert traces[0] == traces[1]


def test_the_histories_do_all_that_they_are_meant_to() -> None:
    done: Counter[str] = Counter()
    for seed in range(6):
        history = History(seed)
        history.run(steps=80)
        done += history.done
    assert min(done[kind] for kind in ("create", "edit", "rename", "delete", "cut", "connect", "crash")) >= 5
