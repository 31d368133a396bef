"""Random histories in which members join late, leave, are removed while they are out of contact, and come back."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress

from replicad.engine.phases import Role
from replicad.files.paths import join, split
from tests.sim.group import files
from tests.sim.member import SimMember
from tests.sim.membership import Membership, RoutedNetwork
from tests.sim.story import HOUR_MS, Story
from tests.sim.user import Hand

COMES_OR_GOES = 0.2
"""After a burst."""
MEMBERS_MAX = 6
NAMES = "efghijklmnopqrstuvwxyz"
FILLS_MAX = 8


class JoinStory(Story):
    network = RoutedNetwork
    steps = (*Story.steps, "_new", "_again", "_leave", "_remove", "_new_key")

    def __init__(self, seed: int, *, restores: bool = False) -> None:
        super().__init__(seed, restores=restores)
        self.coming = random.Random(f"coming {seed}")
        self.membership = Membership(self.group)
        self.group.on_stuck = self._abandon
        self.names = iter(NAMES)
        self.old: dict[bytes, bytes] = {}
        """What some member had at some time."""

    def _roles(self, names: str) -> dict[str, Role]:
        return {}

    def _pairs(self, names: str) -> str | None:
        super()._pairs(names)
        return None  # whoever goes may be the only one between others

    # -- what is done now and then

    def _burst(self) -> None:
        super()._burst()
        gone = [member for member in self.membership.departed.values() if member.name in self.hands]
        if gone and self.coming.random() < 0.3:
            self.hands[self.coming.choice(gone).name].act()
        if self.coming.random() < 0.1:
            self.old = files(self.coming.choice(self.members))

    def _mishap(self) -> None:
        super()._mishap()
        if self.coming.random() < COMES_OR_GOES:
            self.coming.choice(
                (self._new, self._new, self._again, self._again, self._leave, self._leave, self._remove, self._new_key)
            )()
            self.members[:] = self.group.members.values()

    def _moves(self) -> list[tuple[int, Callable[[], None]]]:
        return [(2, self._new), (2, self._again), (2, self._leave), (1, self._remove), (1, self._new_key)]

    def _sound(self) -> list[SimMember]:
        """Who takes part: others can learn from them."""
        return [one for one in self.members if one.up and one.running.course.takes_part]

    def _new(self) -> None:
        sound, name = self._sound(), next(self.names, "")
        if not sound or not name or len(self.members) >= MEMBERS_MAX:
            return
        member = self.membership.join_group(self.coming.choice(sound), name)
        self.hands[name] = Hand(member, random.Random(f"{self.seed} hand {name}"))
        merge = self.coming.random() < 0.25
        if self.coming.random() < 0.5:
            member.offset_ms = self.coming.randrange(-6 * HOUR_MS, 6 * HOUR_MS)
        self._fill(member, merge)
        self._joins(member, merge=merge)

    def _fill(self, member: SimMember, merge: bool) -> None:
        """What lies in its directory before it joins: nothing, files of its own, or an old copy of somebody's."""
        kind = self.coming.choice(("nothing", "files", "copy"))
        self.group.counts[f"joiner's directory: {kind}"] += 1
        if kind == "files":
            for _ in range(self.coming.randrange(1, FILLS_MAX)):
                self.hands[member.name].act()
        if kind == "copy":
            for path, data in self.old.items():
                self._copy(member, path, data, merge)

    def _copy(self, member: SimMember, path: bytes, data: bytes, merge: bool) -> None:
        """Past the ledger: what somebody has deleted may not come back by it, unless its disk is to count."""
        if merge:
            self.group.ledger.affirms(data)
        at = b""
        for name in split(path)[0].split(b"/"):
            at = join(at, name) if name else at
            with suppress(FileExistsError):
                if at:
                    member.fs.user_mkdir(at)
        member.fs.user_write(path, data)

    def _joins(self, member: SimMember, *, merge: bool = False) -> None:
        if self.coming.random() < 0.3:
            self._cut_off(member)
        self.membership.join_folder(member, merge=merge)

    def _again(self) -> None:
        """One that has left, with what lies in its directory."""
        departed = self.membership.departed.items()
        left = [one for name, one in departed if name not in self.membership.removed and not one.up]
        if not left or len(self.members) >= MEMBERS_MAX:
            return
        member = self.coming.choice(left)
        keeper = self.membership.keeper(member)
        listed = self.membership.info(member)
        hears = keeper.up and keeper.running.heard and listed is not None
        if hears and any(one.id in listed.members for one in self._sound()):  # type: ignore[union-attr]
            self.group.counts["joins again"] += 1
            self._joins(member)

    def _leave(self) -> None:
        member = self.coming.choice(self.members)
        if member.up and any(one is not member for one in self._sound()):
            self.membership.leave_folder(member)

    def _remove(self) -> None:
        """Often one that is out of contact with some."""
        sound = self._sound()
        member = self.coming.choice(self.members)
        by = [one for one in sound if one is not member]
        if not by or len(self.members) < 2:
            return
        if self.coming.random() < 0.7:
            self._cut_off(member)
            self.group.run(self.coming.choice((0, 2_000, 20_000)))
        by = [one for one in by if one.up and member.id in self.membership.reading(one).members]
        if by:
            self.membership.remove(self.coming.choice(by), member)

    def _new_key(self) -> None:
        """A removed one comes back under another key, with its old disk."""
        gone = [name for name in self.membership.removed if name in self.membership.departed]
        sound, name = self._sound(), next(self.names, "")
        if not gone or not sound or not name or len(self.members) >= MEMBERS_MAX:
            return
        old = self.membership.departed.pop(self.coming.choice(sorted(gone)))
        if old.up:
            old.crash()
        elif self.membership.keeper(old).up:
            self.membership.keeper(old).crash()
        member = self.membership.join_group(self.coming.choice(sound), name, fs=old.fs)
        self.hands[name] = Hand(member, random.Random(f"{self.seed} hand {name}"))
        self.group.counts["joins under a new key"] += 1
        self._joins(member)

    def _cut_off(self, member: SimMember) -> None:
        """From some of the others, for a while."""
        others = [one for one in self.members if one is not member and self.coming.random() < 0.7]
        cut = [pair for one in others for pair in ((member.name, one.name), (one.name, member.name))]
        for source, target in cut:
            self.group.network.cut(source, target)
        self.group.clock.after(self.coming.choice((5_000, 60_000, 200_000)), lambda: self.group.network.mend(cut))
