"""`wait` never returns early: a change is written, `wait` called at once, a thousand times.

Each time the other members' disks are looked at in the instant in which `wait` has returned, with no second chance.
"""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.folder_tools import all_the_same, at_rest, wait
from tests.system.harness import Server, Servers

TIMES = 1_000
NAMES = 12
"""Few, so that one path is edited, renamed, deleted and made again many times over."""


class User:
    """Changes a folder one step at a time, and knows what must be in it then. Seeded."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.expected: dict[str, bytes] = {}
        self.directory = "d"
        self.count = 0

    def step(self, root: Path) -> str:
        """One change under `root`; its kind."""
        self.count += 1
        return self.random.choice((self.write, self.write, self.edit, self.edit, self.save, self.rename, self.delete))(
            root
        )

    def _path(self, root: Path, name: str) -> Path:
        return root / self.directory / name

    def _some(self) -> str | None:
        return self.random.choice(sorted(self.expected)) if self.expected else None

    def write(self, root: Path) -> str:
        """A file written anew, its size alternately the same as before or another."""
        name = f"f{self.random.randrange(NAMES)}"
        content = b"%06d" % self.count * self.random.choice((1, 1, 1, 50_000))
        self._path(root, name).write_bytes(content)
        self.expected[name] = content
        return "write"

    def edit(self, root: Path) -> str:
        """In place: same inode, same size."""
        name = self._some()
        if name is None:
            return self.write(root)
        content = b"%06d" % self.count
        with self._path(root, name).open("r+b") as file:
            file.write(content)
        self.expected[name] = content + self.expected[name][6:]
        return "edit"

    def save(self, root: Path) -> str:
        """As editors do."""
        name = self._some() or "f0"
        temporary = root / "between"
        self.expected[name] = b"saved %d" % self.count
        temporary.write_bytes(self.expected[name])
        temporary.replace(self._path(root, name))
        return "save"

    def rename(self, root: Path) -> str:
        """Of a file, onto another one or to a free name; now and then of the directory itself."""
        if self.random.random() < 0.3:
            new = f"d{self.count}"
            (root / self.directory).rename(root / new)
            self.directory = new
            return "rename directory"
        name = self._some()
        if name is None:
            return self.write(root)
        new = f"f{self.random.randrange(NAMES)}"
        self._path(root, name).rename(self._path(root, new))
        self.expected[new] = self.expected.pop(name)
        return "rename"

    def delete(self, root: Path) -> str:
        name = self._some()
        if name is None:
            return self.write(root)
        self._path(root, name).unlink()
        del self.expected[name]
        return "delete"

    def seen(self, root: Path) -> dict[str, bytes]:
        """What is under `root`, to be held against `expected`."""
        return dict(_files(root / self.directory))


def _files(directory: Path) -> Iterator[tuple[str, bytes]]:
    for entry in os.scandir(directory):
        yield entry.name, Path(entry.path).read_bytes()


@pytest.mark.timeout(300)  # half a minute on two free cores
def test_a_thousand_times_wait_never_returns_early(servers: Servers) -> None:
    members = servers.group(2)
    user = User(8)
    (members[0].folder() / user.directory).mkdir()
    wait(members[0], 2)
    kinds: dict[str, int] = {}
    for number in range(TIMES):
        author, other = members[number % 2], members[1 - number % 2]
        kind = user.step(author.folder())
        waiter: Server = author if number % 3 else other  # also asked of the member that has heard of nothing yet
        wait(waiter, 2)
        assert user.seen(other.folder()) == user.expected, f"change {number}, {kind}"
        assert [path.name for path in other.folder().iterdir() if path.name != ".replicad"] == [user.directory]
        kinds[kind] = kinds.get(kind, 0) + 1
    assert sum(kinds.values()) == TIMES
    assert min(kinds.values()) >= 20, kinds
    all_the_same(servers, members)
    at_rest(members)
