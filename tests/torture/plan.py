"""What happens when: users' acts in bursts, and mishaps, all of it drawn from the seed before anything runs.

What an act meets when its time comes (the tree, which the members have changed by then) is not in the seed's hands.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import NamedTuple

HOUR_S = 3_600
CLOCKS_OFF = 0.4
"""Of so many starts the daemon's clock is hours off."""
DECLARED = 0.4
BURST_MAX = 9
GAPS_S = (0.0, 0.0, 0.001, 0.003, 0.01, 0.05, 0.2)
"""Between two acts of a burst."""
PAUSES_S = (0.0, 0.02, 0.1, 0.3, 0.5, 1.5)
LASTS_S = (1.0, 3.0, 8.0, 20.0)
"""Partitions, slow and lossy links."""
DOWN_S = (0.0, 0.5, 2.0, 6.0, 15.0)
MISHAP_EVERY_S = 4.0
MISHAPS_MIN = 8
"""In any run, however short."""
MBITS = (1, 5, 50)
LOSSES_PERCENT = (1, 5, 20)

DUEL_EVERY_S = 5.0
"""Two users, on two members, act on one path as fast as they can: what replicad installs meets what they do."""

POLICIES = 0.4
"""In so many runs an operator changes what becomes of the losers of a name, now and then."""
POLICY_EVERY_S = 15.0

DUEL, POLICY = "duel", "policy"
ACT, KILL, STOP, START, CUT, MEND, LOSE, SLOW = "act", "kill", "stop", "start", "cut", "mend", "lose", "slow"
KINDS = ("partition", "kill", "one way", "stop", "kill", "lossy", "slow", "alone")
"""The first mishaps are these, in an order of the seed's, so that a short run has some of each."""


class Event(NamedTuple):
    at_s: float
    what: str
    hosts: tuple[int, ...] = ()
    value: int = 0
    """Of an act its own seed; of a start the clock's offset in seconds; percent, or Mbit/s."""
    ways: tuple[tuple[int, int], ...] = ()


def plan(seed: int, seconds: float, members: int) -> list[Event]:
    """In the order of time."""
    parts = (_acts, _mishaps, _duels, _policies)
    events = [event for part in parts for event in part(seed, seconds, members)]
    return sorted(events, key=lambda event: event.at_s)


def is_declared(seed: int) -> bool:
    """Whether the members are declared, with copies of one disk, and meet; else one founds and the others join."""
    return random.Random(f"founding {seed}").random() < DECLARED


def clock_offset_s(rng: random.Random) -> int:
    return rng.randrange(-5 * HOUR_S, 5 * HOUR_S) if rng.random() < CLOCKS_OFF else 0


def _acts(seed: int, seconds: float, members: int) -> Iterator[Event]:
    rng = random.Random(f"acts {seed}")
    at_s = 0.0
    while at_s < seconds:
        busy = rng.sample(range(1, members + 1), rng.choice((1, 1, 2, members)))
        for _ in range(rng.randint(1, BURST_MAX)):
            yield Event(at_s, ACT, (rng.choice(busy),), rng.randrange(1 << 62))
            at_s += rng.choice(GAPS_S)
        at_s += rng.choice(PAUSES_S)


def _duels(seed: int, seconds: float, members: int) -> Iterator[Event]:
    rng = random.Random(f"duels {seed}")
    at_s = rng.uniform(0, DUEL_EVERY_S)
    while at_s < seconds:
        yield Event(at_s, DUEL, tuple(rng.sample(range(1, members + 1), 2)), rng.randrange(1 << 62))
        at_s += rng.uniform(0, 2 * DUEL_EVERY_S)


def _policies(seed: int, seconds: float, members: int) -> Iterator[Event]:
    """`value`: whether losers are to stand beside winners."""
    rng = random.Random(f"policies {seed}")
    if rng.random() >= POLICIES:
        return
    at_s, siblings = rng.uniform(0, POLICY_EVERY_S / 2), 1
    while at_s < seconds:
        yield Event(at_s, POLICY, (rng.randint(1, members),), siblings)
        at_s += rng.uniform(0, 2 * POLICY_EVERY_S)
        siblings = 1 - siblings


def _mishaps(seed: int, seconds: float, members: int) -> Iterator[Event]:
    rng = random.Random(f"mishaps {seed}")
    every_s = min(MISHAP_EVERY_S, seconds / (MISHAPS_MIN + 2))
    first = rng.sample(KINDS, len(KINDS))
    for number in range(1, int(seconds / every_s)):
        kind = first.pop() if first else rng.choice(KINDS)
        yield from _mishap(kind, (number + rng.uniform(-0.5, 0.5)) * every_s, rng, members)


def _mishap(kind: str, at_s: float, rng: random.Random, members: int) -> Iterator[Event]:
    one = rng.randint(1, members)
    end_s = at_s + rng.choice(LASTS_S)
    if kind in (KILL, STOP):
        for victim in rng.sample(range(1, members + 1), rng.choice((1, 1, 1, 2, members))) if kind == KILL else [one]:
            yield Event(at_s, kind, (victim,))
            yield Event(at_s + rng.choice(DOWN_S), START, (victim,), clock_offset_s(rng))
    elif kind in ("partition", "one way", "alone"):
        ways = _ways(kind, one, rng, members)
        yield Event(at_s, CUT, ways=ways)
        yield Event(end_s, MEND, ways=ways)
    elif kind == "lossy":
        yield Event(at_s, LOSE, (one,), rng.choice(LOSSES_PERCENT))
        yield Event(end_s, LOSE, (one,), 0)
    else:
        yield Event(at_s, SLOW, (one,), rng.choice(MBITS))
        yield Event(end_s, SLOW, (one,), 0)


def _ways(kind: str, one: int, rng: random.Random, members: int) -> tuple[tuple[int, int], ...]:
    """What is cut: a side from the others, one host from all, or a side from the others in one direction."""
    everyone = range(1, members + 1)
    side = {one} if kind == "alone" else {one, *(host for host in everyone if rng.random() < 0.4)}
    others = set(everyone) - side or {one % members + 1}
    ways = {(host, other) for host in side for other in others if host != other}
    if kind != "one way":
        ways |= {(other, host) for host, other in ways}
    return tuple(sorted(ways))
