"""One random history: a group is founded, lives through users, partitions and crashes, and is healed and checked."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise

from replicad.catalog.database import MemoryDatabase
from replicad.core.effects import Effect
from replicad.engine.disposal import store_path
from replicad.engine.folder import FolderReplica
from replicad.engine.phases import Role
from replicad.errors import OperatorError
from replicad.files.fs import FILE
from replicad.files.paths import join
from tests.sim.clockwork import START_MS
from tests.sim.giving_up import give_up_what_is_lost
from tests.sim.group import Group
from tests.sim.member import SimMember
from tests.sim.network import Network, Weather
from tests.sim.user import NAMES, Hand, User
from tests.sim.waits import TIMEOUT_MS, Waits

ACTS_MIN = 200
PARTITIONS_MIN = 3
CRASHES_MIN = 1
HOUR_MS = 3_600_000
GAPS_MS = (0, 0, 1, 3, 10, 50, 200, 1_000, 3_000)
"""Between two acts of a burst; between bursts it is some seconds."""
SIBLINGS = 0.3
"""Of so many histories the folder begins with losers beside winners, and the policy is changed now and then."""
RESTORED = 0.1
"""After a burst somebody brings back a preserved file, in those histories."""
POLICY_CHANGED = 0.03
"""After a burst."""
LIFETIMES_MS = (60 * 24 * HOUR_MS, 24 * HOUR_MS, 600_000, 60_000, 10_000)
"""Of tombstones: in most histories many are collected."""
RESTORES = 0.3
"""Of so many histories members' catalogs are put back, or lost; with `--restores` alone (docs/open-findings.md)."""
PUT_BACK = 0.15
"""After a burst, in those."""
HOUR_WATCHED = 0.1
"""Of so many histories the quiet is watched for an hour; of the others for some minutes."""


@dataclass
class Told:
    """What a run came to."""

    seed: int
    trace: str
    counts: Counter[str]
    messages: Counter[str]
    virtual_ms: int


class Story:
    """`run` once. Everything is drawn from the seed."""

    network = Network
    deploys = False
    acts_min = ACTS_MIN
    steps: tuple[str, ...] = (
        "_act", "_partition", "_crash", "_stop", "_overflow", "_jump", "_reset", "_race", "_wait", "_change_policy",
        "_restore", "_put_back",
    )  # fmt: skip
    """Methods that do one thing, which tests.sim.shrinking may leave out."""

    def __init__(self, seed: int, *, restores: bool = False) -> None:
        self.seed = seed
        self.rng = random.Random(f"story {seed}")
        # Of its own, so that the histories of the other groups are what they were.
        self.policy = random.Random(f"policy {seed}")
        self.siblings = self.policy.random() < SIBLINGS
        self.fate = random.Random(f"fate {seed}")
        self.restores = restores and self.fate.random() < RESTORES
        self.backups: dict[str, MemoryDatabase] = {}
        names = self._names()
        self.group = Group(
            names,
            seed,
            pairs=self._pairs(names),
            weather=self._weather(names),
            roles=self._roles(names),
            offsets_ms=self._offsets(names),
            scan_interval_ms=self.rng.choice((HOUR_MS, 600_000)),
            quota_bytes=self.rng.choice((1_000_000, 1_000_000, 20_000)),
            siblings=self.siblings,
            tombstone_lifetime_ms=random.Random(f"tombstones {seed}").choice(LIFETIMES_MS),
            network=self.network,
        )
        self.counts = self.group.counts
        self.group.on_killed = self._restart_later
        if self.restores:
            self.group.on_stuck = self._abandon
        self.members = list(self.group.members.values())
        self.hands = {member.name: self._hand(member) for member in self.members}
        self.waits = Waits(self.group)
        self.acts = 0
        self.partitions = 0
        self.crashes = 0

    # -- what kind of group it is

    def _hand(self, member: SimMember) -> Hand:
        return Hand(member, random.Random(f"{self.seed} hand {member.name}"), deploys=self.deploys)

    def _names(self) -> str:
        return "abcd"[: self.rng.choice((2, 2, 3, 3, 3, 4))]

    def _pairs(self, names: str) -> str | None:
        """Mostly a full mesh, at times a chain or a hub."""
        shape = self.rng.random()
        if shape < 0.7 or len(names) < 3:
            return None
        if shape < 0.85:
            return " ".join(one + other for one, other in pairwise(names))
        return " ".join(names[0] + other for other in names[1:])

    def _weather(self, names: str) -> Weather:
        weather = Weather(
            delay_ms=self.rng.choice(((0, 5), (0, 40), (20, 400))),
            hostile=self.rng.random() < 0.2,
            fetch_loss=self.rng.choice((0.0, 0.0, 0.1)),
        )
        if self.rng.random() < 0.2:
            weather.slow[self.rng.choice(names)] = 20
        return weather

    def _roles(self, names: str) -> dict[str, Role]:
        if self.rng.random() < 0.25:
            return {names[-1]: self.rng.choice((Role.JOINER, Role.MERGER))}
        return {}

    def _offsets(self, names: str) -> dict[str, int]:
        if self.rng.random() < 0.5:
            return {}
        return {name: self.rng.randrange(-6 * HOUR_MS, 6 * HOUR_MS) for name in names if self.rng.random() < 0.6}

    def sources(self) -> dict[str, random.Random]:
        """Everything that the story and its users draw from, by a name that is the same in each run of the seed."""
        found = {name: value for name, value in vars(self).items() if isinstance(value, random.Random)}
        return found | {f"hand {name}": hand.rng for name, hand in self.hands.items()}

    # -- the history

    def run(self) -> Told:
        self._begin()
        self.go_on()
        self._end()
        told = Told(self.seed, self.group.clock.trace(), self.counts, self.group.network.messages, 0)
        told.virtual_ms = self.group.clock.now_ms - START_MS
        return told

    def go_on(self) -> None:
        while self.acts < self.acts_min or self.partitions < PARTITIONS_MIN or self.crashes < CRASHES_MIN:
            self._burst()
            self._mishap()
            self.group.run(self.rng.choice((500, 2_000, 5_000, 10_000, 40_000)))

    def _begin(self) -> None:
        if self.rng.random() < 0.5:
            self._same_copies()
        for member in self.members:
            for _ in range(self.rng.randrange(6)):
                self._act(member)
        for member in self.members:
            joiner = member.role is not Role.FOUNDER
            self.group.clock.after(
                self.rng.randrange(60_000, 120_000) if joiner else self.rng.choice((0, 0, 100, 5_000, 30_000)),
                lambda m=member: m.start() if not m.up else None,  # type: ignore[misc]
            )
        self.group.run(self.rng.choice((0, 50, 2_000, 20_000)))

    def _same_copies(self) -> None:
        """The members' disks are copies of one, or nearly: as when a disk was copied to found the group."""
        paths = [join(directory, name) for directory in (b"", b"a") for name in NAMES[1:]]
        for member in self.members:
            user = User(member)
            user.mkdir(b"a")
            for path in paths:
                if self.rng.random() < 0.9:
                    user.write(path, b"copy of " + path)
                    self.counts["copied file"] += 1

    def _burst(self) -> None:
        for _ in range(self.rng.randrange(1, 9)):
            self._act(self.rng.choice(self.members))
            self.group.run(self.rng.choice(GAPS_MS))

    def _act(self, member: SimMember) -> None:
        name = self.hands[member.name].act()
        if name:
            self.acts += 1
            self.counts[name] += 1
            self.group.clock.note("act", member.name, name)

    def _mishap(self) -> None:
        need_partition = self.acts > self.acts_min * 3 // 4 and self.partitions < PARTITIONS_MIN
        need_crash = self.acts > self.acts_min * 3 // 4 and self.crashes < CRASHES_MIN
        if need_partition or self.rng.random() < 0.15:
            self._partition()
        if need_crash or self.rng.random() < 0.1:
            self._crash()
        mishaps: list[tuple[float, Callable[[], None]]] = [
            (0.05, self._stop),
            (0.08, self._overflow),
            (0.04, self._jump),
            (0.08, self._reset),
            (0.1, self._race),
            (0.15, self._wait),
        ]
        if self.siblings and self.policy.random() < POLICY_CHANGED:
            self._change_policy()
        if self.siblings and self.policy.random() < RESTORED:
            self._restore()
        if self.restores and self.fate.random() < PUT_BACK:
            self._put_back()
        for chance, mishap in mishaps:
            if self.rng.random() < chance:
                mishap()

    def _end(self) -> None:
        self.waits.end()
        self.group.heal()
        self.group.check()
        self.group.run(TIMEOUT_MS)  # those who took part in a wait that was given up hold it until its time is over
        self.group.check_quiet(HOUR_MS if self.rng.random() < HOUR_WATCHED else 5 * 60_000)
        self._check_not_empty()

    def _check_not_empty(self) -> None:
        """A run that did nothing proves nothing."""
        assert self.acts >= self.acts_min
        assert self.partitions >= PARTITIONS_MIN
        assert self.crashes >= CRASHES_MIN
        assert self.group.ledger.trees_checked > 0
        assert self.group.network.messages, "nobody said anything"

    # -- mishaps

    def _partition(self) -> None:
        """Some are cut off from the others, in both directions or in one."""
        names = list(self.group.members)
        side = {name for name in names if self.rng.random() < 0.5} or {names[0]}
        others = [name for name in names if name not in side]
        if not others:
            return
        one_way = self.rng.random() < 0.25
        cut = [(one, other) for one in sorted(side) for other in others]
        if not one_way:
            cut += [(other, one) for one, other in cut]
        self.partitions += 1
        self.counts["partition, one way" if one_way else "partition"] += 1
        for source, target in cut:
            self.group.network.cut(source, target)
        lasts_ms = self.rng.choice((500, 5_000, 20_000, 60_000, 200_000))
        self.group.clock.after(lasts_ms, lambda: self.group.network.mend(cut))

    def _crash(self) -> None:
        """Killed now, or at one of the next things that it does to its disk or catalog."""
        member = self.rng.choice(self.members)
        if not member.up:
            return
        self.crashes += 1
        if self.rng.random() < 0.3:
            self.counts["crash"] += 1
            member.crash()
            self._restart_later(member)
        else:
            member.fault_in = self.rng.choice((0, 1, 2, 5, 10, 20, 40, 80))

    def _restart_later(self, member: SimMember) -> None:
        delay_ms = self.rng.choice((10, 1_000, 10_000, 60_000))
        self.group.clock.after(delay_ms, lambda: member.start() if not member.up else None)

    def _stop(self) -> None:
        member = self.rng.choice(self.members)
        if member.up:
            self.counts["clean stop"] += 1
            member.stop()
            self._restart_later(member)

    def _put_back(self) -> None:
        """A backup is made, or restored: of the catalog alone, or with the mark in the home; or the home is lost.

        One member at a time: what all have lost nobody remembers, and what they found again has no history. And one
        that has met somebody: of what only it has made nobody can tell that it stood for something else before.
        """
        member = self.fate.choice(self.members)
        sound = all(other.up and other.running.course.takes_part for other in self.members)
        if not member.up or not sound or not member.catalog.peers():
            return
        if member.name not in self.backups or self.fate.random() < 0.4:
            self.backups[member.name] = member.database.copy()
            return
        lost = self.fate.random() < 0.2
        self.counts["catalog lost" if lost else "catalog put back"] += 1
        member.crash()
        member.put_catalog_back(None if lost else self.backups[member.name], home=lost or self.fate.random() < 0.5)
        if lost:
            del self.backups[member.name]  # the folder's marker is another one from now on: that would be held (I6)
        self.group.ledger.forgot(member)
        self._restart_later(member)

    def _abandon(self) -> bool:
        given_up = give_up_what_is_lost(self.members, self._gives_up)
        self.counts["abandoned"] += given_up
        return given_up

    def _gives_up(self, member: SimMember) -> None:
        """It is about to abandon something."""

    def _overflow(self) -> None:
        self.counts["overflow"] += 1
        self.rng.choice(self.members).overflow()

    def _jump(self) -> None:
        self.counts["clock jump"] += 1
        self.rng.choice(self.members).set_clock(self.rng.randrange(-3 * HOUR_MS, 3 * HOUR_MS))

    def _change_policy(self) -> None:
        self.counts["policy changed"] += 1
        self.group.set_siblings(not self.group.settings.siblings, lambda: self.policy.choice((0, 50, 5_000, 60_000)))

    def _restore(self) -> None:
        """An operator brings back what a member has preserved, or where it was killed on the way, tries to."""
        member = self.policy.choice(self.members)
        rows = list(member.catalog.preserved(100)) if member.up else []
        files = [row for row in rows if row.kind == FILE]
        if not files:
            return
        row = self.policy.choice(files)
        with suppress(OSError), member.fs.open_read(store_path(row.store, row.stored_name)) as file:
            self.group.ledger.affirms(file.read_at(0, row.size))  # it may come back: somebody wants it to

        def restore(replica: FolderReplica, now_ms: int) -> list[Effect]:
            try:
                path = replica.preserved.restore(row.preserved_id, b"", now_ms)
                self.counts["brought back"] += 1
                self.group.clock.note("brought back", member.name, path)
            except OperatorError as error:
                self.counts["not brought back"] += 1
                self.group.clock.note("not brought back", member.name, str(error))
            return []

        member.act(restore)

    def _reset(self) -> None:
        pair = self.rng.choice(self.group.network.pairs)
        self.counts["connection reset"] += 1
        self.group.network.reset(*pair)

    def _race(self) -> None:
        """For some seconds a user acts between any two things that replicad does to the disk."""
        member = self.rng.choice(self.members)
        rng = random.Random(self.rng.random())
        busy = False

        def racing() -> None:
            nonlocal busy
            if not busy and rng.random() < 0.05:
                busy = True
                self.counts["act in between"] += 1
                self._act(member)
                busy = False

        member.racing = racing
        self.counts["race"] += 1
        self.group.clock.after(self.rng.choice((500, 3_000)), lambda: setattr(member, "racing", None))

    def _wait(self) -> None:
        member = self.rng.choice(self.members)
        if member.up:
            self.counts["wait"] += 1
            self.waits.begin(member)


class DeployStory(Story):
    """Users replace whole directories as well: trees grow, and directories of one name meet."""

    deploys = True
