"""Groups of many members: random histories of up to 50, and a hub with as many spokes as are wanted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import pairwise

from tests.sim.group import Group
from tests.sim.member import SimMember
from tests.sim.network import Session
from tests.sim.story import Story
from tests.sim.user import User

CHANGES_A_PUSH = 10
"""Of many changes at once, at least: they are found and told in batches."""
STATUSES_MAX = 8
"""For each link, until what was changed is known to be installed everywhere."""
QUIET_MAX = 2.5
"""For each link and minute: one in each direction, a quarter more or less."""
MESH_MAX = 20
"""Members that all have links with each other: of 50 these would be 1,225."""


def names_of(count: int) -> str:
    """A character a member."""
    return "".join(chr(ord("a") + number) if number < 26 else chr(0x100 + number) for number in range(count))


def hub_of(names: str) -> str:
    """Pairs: the first with each of the others."""
    return " ".join(names[0] + other for other in names[1:])


class Hub:
    """One with `count - 1` spokes, and what is said in it. Raises AssertionError where that is more than it may be."""

    def __init__(self, count: int) -> None:
        self.names = names_of(count)
        self.group = Group(self.names, pairs=hub_of(self.names))
        self.links = count - 1
        self.bytes = 0
        fly = self.group.network._fly

        def flies(session: Session, source: SimMember, target: SimMember, data: bytes, *, in_order: bool) -> None:
            self.bytes += len(data)
            fly(session, source, target, data, in_order=in_order)

        self.group.network._fly = flies  # type: ignore[method-assign]

    def begin(self) -> Counter[str]:
        said = self.said(self.group.start_all, 5_000)
        self.group.heal()
        for kind, most in (("meet", 4), ("judged", 2), ("status request", 2), ("status", 8)):
            assert said[kind] <= most * self.links, f"{kind}: {said}"
        return said

    def changed(self, name: str, files: int) -> Counter[str]:
        """One member makes files at once: what is said until all have them and are quiet."""
        user = User(self.group[name])
        path = b"%d" % self.group.clock.now_ms
        said = self.said(lambda: [user.write(b"%s-%d" % (path, one), b"%d" % one) for one in range(files)], 10_000)
        assert set(said) <= {"content", "status"}, f"more than pushes and statuses: {said}"
        assert said["content"] <= self.links * max(1, files // CHANGES_A_PUSH), (
            f"a change is told more than once: {said}"
        )
        assert said["status"] <= STATUSES_MAX * self.links, f"statuses: {said}"
        assert self.group.settled()
        return said

    def quiet(self, minutes: int) -> Counter[str]:
        said = self.said(lambda: None, minutes * 60_000)
        assert set(said) <= {"status"}, f"I9: a converged group sends {said}"
        assert said["status"] <= QUIET_MAX * self.links * minutes, f"I9: {said}"
        return said

    def said(self, act: Callable[[], object], run_ms: int) -> Counter[str]:
        """The messages of all members from `act` on, by kind."""
        before = Counter(self.group.network.messages)
        act()
        self.group.run(run_ms)
        return self.group.network.messages - before


def measure(count: int) -> None:
    """Print what a hub of so many members says."""
    hub = Hub(count)

    def show(what: str, said: Counter[str]) -> None:
        told = ", ".join(f"{number:,} {kind}" for kind, number in sorted(said.items()))
        print(f"{count} members, {what}: {told}; {hub.bytes / 1e6:.1f} MB", flush=True)
        hub.bytes = 0

    show("start", hub.begin())
    show("a change at the hub", hub.changed(hub.names[0], 1))
    show("a change at a spoke", hub.changed(hub.names[1], 1))
    show("100 changes at a spoke", hub.changed(hub.names[1], 100))
    show("5 quiet minutes", hub.quiet(5))
    hub.group.check()


class CrowdStory(Story):
    """Of `count` members. Partitions and crashes are as many as among few, acts fewer."""

    acts_min = 60

    def __init__(self, seed: int, count: int) -> None:
        self.count = count
        super().__init__(seed)

    def _names(self) -> str:
        super()._names()
        return names_of(self.count)

    def _pairs(self, names: str) -> str | None:
        shape = self.rng.choice(("mesh", "hub", "two hubs", "rings"))
        if shape == "mesh" and len(names) <= MESH_MAX:
            return None
        if shape in ("mesh", "hub"):
            return hub_of(names)
        if shape == "two hubs":
            half = len(names) // 2
            return " ".join((hub_of(names[:half]), hub_of(names[half:]), names[0] + names[half]))
        step = max(2, len(names) // 5)
        around = [one + other for one, other in pairwise(names + names[0])]
        across = [one + other for one, other in zip(names, names[step:], strict=False) if one != other]
        return " ".join(dict.fromkeys([*around, *across]))
