"""I12: kill -9 of members under load, at seeded moments, round after round; then nothing is lost, and all are one.

The moments are counted in the user's changes, not in time, so that a seed kills at the same place in the user's
history; where in the daemon that is, the system decides.
"""

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.system.folder_tools import all_the_same, assert_no_cn_used_twice, at_rest, kept_contents, stay
from tests.system.harness import Server, Servers

ROUNDS = 3
CHANGES = 60
"""In each round, on each member."""


class Users:
    """One per member, each changing its own files and renaming its own directories, so that every content that was
    not overwritten or deleted by its author must be somewhere in the end. Contents are all different."""

    def __init__(self, members: Sequence[Server], seed: int) -> None:
        self.members = members
        self.random = random.Random(seed)
        self.live: list[dict[str, bytes]] = [{} for _ in members]
        self.places = [f"of-{number}" for number in range(len(members))]
        self.count = 0

    def step(self, number: int) -> None:
        """One change on the member's own disk, whether its daemon runs or not."""
        own, root = self.live[number], self.members[number].folder()
        kind = self.random.choices(("write", "edit", "rename", "delete", "rename directory"), (8, 4, 3, 2, 1))[0]
        self.count += 1
        content = b"change %d " % self.count * self.random.choice((1, 100, 20_000))
        name = self.random.choice(sorted(own)) if own else ""
        place = root / self.places[number]
        if kind == "write" or not own:
            name = f"d{self.random.randrange(4)}/f{self.count}"
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(content)
            own[name] = content
        elif kind == "edit":
            (place / name).write_bytes(content)
            own[name] = content
        elif kind == "rename":
            new = f"{Path(name).parent}/r{self.count}"
            (place / name).rename(place / new)
            own[new] = own.pop(name)
        elif kind == "delete":
            (place / name).unlink()
            del own[name]
        else:
            self.places[number] = f"of-{number}-{self.count}"
            place.rename(root / self.places[number])

    def assert_all_there(self) -> None:
        for place, own in zip(self.places, self.live, strict=True):
            for name, content in own.items():
                for member in self.members:
                    path = member.folder() / place / name
                    assert path.exists(), path
                    assert path.read_bytes() == content, path


@pytest.mark.parametrize("seed", [1])
def test_i12_members_killed_under_load_converge_and_lose_nothing(servers: Servers, seed: int) -> None:
    members = servers.group(3)
    stay(members)
    users = Users(members, seed)
    moments = random.Random(seed * 1_000_003)
    for _ in range(ROUNDS):
        victims = moments.sample(range(3), moments.choice((1, 2, 3)))
        deaths = {moments.randrange(CHANGES): victim for victim in victims}
        for change in range(CHANGES):
            for number in range(3):
                users.step(number)
            if (victim := deaths.get(change)) is not None:
                members[victim].kill()
        killed = [member for member in members if not member.running]
        for member in killed:
            member.begin()
        for member in killed:
            member.await_start()
        late = moments.randrange(3)
        if moments.random() < 0.5:  # once more, as soon as it is up, in the middle of recovering
            members[late].kill()
            members[late].start()
    all_the_same(servers, members)
    users.assert_all_there()
    assert {content for own in users.live for content in own.values()} <= kept_contents(members)
    at_rest(members)
    for member in members:
        member.stop()
    assert_no_cn_used_twice(members)
