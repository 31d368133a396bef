"""I12: kill -9 at every named point between write, sync, exchange and commit, under load (tests/system/dying.py).

Three members, three users who never rest. Each member is killed at one point after the other, started again at once and
killed at the next one, so it recovers and catches up under the same load; nobody waits for anybody. When all points
have been met the users stop, and without an operator all are one: what the users had last is there, whole, on each of
them, nothing else is, and no CN stands for two changes, also not one of which a killed member alone knew.
"""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.system.dying import POINTS, SETTING
from tests.system.folder_tools import all_the_same, at_rest, kept_contents, stay
from tests.system.harness import Server, Servers
from tests.system.restless import User, differing, shown_in, wanted_by
from tests.torture.registers import used_twice

REACHED_S = 60.0
"""From the start of a member to its death; what came out of the tree is deleted 5 s later."""
LATE_S = 20.0
"""Then the others are spared until it has come to its point: on a slow machine it would never find one that is up for
as long as a fetch takes."""
PACE_S = 0.03
RARE = ("act: preserved", "act: mode", "quiet", "start")
OFTEN_MAX = 3
"""A point that is met often is met so many times, at most, before the member dies there."""


class Doomed:
    """A member with the points at which it is to die."""

    def __init__(self, member: Server, points: Sequence[str], snapshots: Path, rng: random.Random) -> None:
        self.member = member
        self.points = deque(points)
        self.snapshots = snapshots
        self.homes: list[Path] = []
        self.random = rng
        self.since_s = 0.0
        self.armed = False

    @property
    def late(self) -> bool:
        return self.armed and time.monotonic() - self.since_s > LATE_S

    def begin(self, *, spared: bool = False) -> None:
        member = self.member
        member.settings.pop(SETTING, None)
        member.module = "replicad"
        self.armed = bool(self.points) and not spared
        if self.armed:
            point = self.points[0]
            often = 1 if point.startswith(RARE) else self.random.randint(1, OFTEN_MAX)
            member.settings[SETTING] = f"{point}#{often}"
            member.module = "tests.system.dying"
        self.since_s = time.monotonic()
        member.begin()

    def watch(self, others: Sequence[Doomed]) -> None:
        """Where it has died, it begins anew."""
        spared = any(other.late for other in others)
        if self.points and not self.armed and not spared:
            self.member.kill()
            self.begin()
        if self.member.ended:
            status = self.member.wait_for_end()
            assert self.armed, f"{self.member.name} ended with {status}, and should not:\n{self.member.last_words()}"
            assert status == -signal.SIGKILL, f"{self.points[0]}: {status}\n{self.member.last_words()}"
            print(f"{self.member.name} after {time.monotonic() - self.since_s:.1f} s at {self.points[0]}")
            self.points.popleft()
            self.homes.append(self.snapshots / f"{self.member.name}-{len(self.points)}")
            shutil.copytree(self.member.home / "catalog", self.homes[-1] / "catalog")
            self.begin(spared=spared)
        late_s = time.monotonic() - self.since_s
        assert not self.armed or late_s < REACHED_S, f"{self.member.name} never came to: {self.points[0]}"


def deal(hands: int, rng: random.Random) -> list[list[str]]:
    """Each point to one member. What is found out at a start comes after a batch that was cut off."""
    starts = [name for name in POINTS if name.startswith("start")]
    others = [name for name in POINTS if not name.startswith("start")]
    rng.shuffle(others)
    dealt = [others[number::hands] for number in range(hands)]
    for number, name in enumerate(starts):
        hand = dealt[number % hands]
        cut_off = [
            index for index, one in enumerate(hand) if one.startswith(("act", "batch: intents", "batch: synced"))
        ]
        hand.insert(cut_off[0] + 1, name)
    return dealt


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [1])
def test_i12_members_killed_at_every_fault_point_under_load_converge_and_lose_nothing(
    servers: Servers, tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    members = servers.group(3)
    stay(members)
    users = [User(member.folder(), member.name, f"{seed} {member.name}") for member in members]
    hands = deal(len(members), rng)
    doomed = [Doomed(member, hand, tmp_path / "snapshots", rng) for member, hand in zip(members, hands, strict=True)]
    for one in doomed:
        one.member.stop()
        one.begin()
    while any(one.points for one in doomed):
        for user in users:
            user.step()
        for one in doomed:
            one.watch([other for other in doomed if other is not one])
        time.sleep(PACE_S)  # the users' pace
    for one in doomed:
        one.member.await_start()
    all_the_same(servers, members)
    assert_as_written(users, members)
    at_rest(members, preserved=None)
    for member in members:
        member.stop()
    homes = [member.home for member in members] + [home for one in doomed for home in one.homes]
    assert used_twice(homes) == []


def assert_as_written(users: Sequence[User], members: Sequence[Server]) -> None:
    expected = wanted_by(users)
    for member in members:
        wrong = differing(expected, shown_in(member.folder()))
        assert not wrong, f"on {member.name}: {wrong}"
    kept = kept_contents(members)
    lost = [text for user in users for text in user.shared if text not in kept]
    assert not lost, f"nowhere: {lost}"
