"""A user who never rests: everything that a small file, a large file, a symlink and a directory can go through."""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.tree_compare import read_tree

LARGE_BYTES = 400_000
LIVE_MAX = 60

What = bytes | str
"""A file's content, a symlink's target."""


class User:
    """On one member's disk, in a place of its own; and in `shared`, where a name is only ever taken, not overwritten:
    each content made there stays somewhere."""

    def __init__(self, root: Path, name: str, seed: str) -> None:
        self.root = root
        self.name = name
        self.place = f"of-{name}"
        self.random = random.Random(seed)
        self.live: dict[str, What] = {}
        """What is in its place: a file's content, a symlink's target."""
        self.history: dict[str, list[What | None]] = {}
        """All that was at a path in its place; None: nothing."""
        self.directories: set[str] = set()
        """Those in its place that are empty."""
        self.shared: list[bytes] = []
        self.count = 0
        self.at(".").mkdir()

    def at(self, name: str) -> Path:
        return self.root / self.place / name

    def step(self) -> None:
        self.count += 1
        write = self.write if len(self.live) < LIVE_MAX else self.delete
        acts = (write, write, self.edit, self.rename, self.delete, self.link, self.change_meta, self.share)
        acts[self.count % len(acts)]()
        if self.count % 7 == 0:
            self.write_large()
        if self.count % 10 == 0:
            self.make_and_remove_directories()

    def write(self) -> None:
        name = f"d{self.count % 5}/f{self.count}"
        self.at(name).parent.mkdir(exist_ok=True)
        self._put(name, self._text(self.random.choice((1, 10, 2_000))))

    def edit(self) -> None:
        if name := self._any(bytes):
            self._put(name, self._text(20))

    def write_large(self) -> None:
        name = f"large-{self.count % 3}"
        old = self.live.get(name, b"")
        assert isinstance(old, bytes)
        self._put(name, self._text(1) + (old[: LARGE_BYTES // 2] or b"") + self.random.randbytes(LARGE_BYTES // 2))

    def rename(self) -> None:
        if name := self._any(bytes, str):
            new = f"{os.path.dirname(name) or '.'}/r{self.count}"
            self.at(name).rename(self.at(new))
            what = self.live[name]
            self._note(name, None)
            self._note(os.path.normpath(new), what)

    def delete(self) -> None:
        if name := self._any(bytes, str):
            self.at(name).unlink()
            self._note(name, None)

    def link(self) -> None:
        name, target = f"l{self.count % 4}", f"nowhere {self.count}"
        if name in self.live:
            self.at(name).unlink()
        self.at(name).symlink_to(target)
        self._note(name, target)

    def change_meta(self) -> None:
        if name := self._any(bytes):
            self.at(name).chmod(self.random.choice((0o600, 0o640, 0o755)))
        if name := self._any(bytes):
            os.utime(self.at(name), ns=(0, 1_500_000_000_000_000_000 + self.count))

    def share(self) -> None:
        """Names that all take at about the same time."""
        text = self._text(30)
        (self.root / "shared").mkdir(exist_ok=True)
        try:
            with (self.root / f"shared/s{self.count // 8}").open("xb") as file:
                file.write(text)
        except FileExistsError:
            return
        self.shared.append(text)

    def make_and_remove_directories(self) -> None:
        self.at(new := f"e{self.count}").mkdir()
        self.directories.add(new)
        if (old := f"e{self.count - 10}") in self.directories:
            self.at(old).rmdir()
            self.directories.remove(old)

    def look_again(self) -> None:
        """Whatever has become of its place is what it works with from now on."""
        self.at(".").mkdir(exist_ok=True)
        self.live = {path.partition("/")[2]: what for path, what in shown_in(self.root, self.place).items()}
        self.directories = {one.name for one in self.at(".").glob("e*")}

    def expected(self) -> dict[str, What]:
        return {f"{self.place}/{name}": what for name, what in self.live.items()}

    def _put(self, name: str, content: bytes) -> None:
        self.at(name).write_bytes(content)
        self._note(name, content)

    def _note(self, name: str, what: What | None) -> None:
        self.history.setdefault(name, []).append(what)
        if what is None:
            del self.live[name]
        else:
            self.live[name] = what

    def _text(self, times: int) -> bytes:
        return b"%s %d " % (self.name.encode(), self.count) * times

    def _any(self, *kinds: type) -> str:
        names = sorted(name for name, what in self.live.items() if isinstance(what, kinds))
        return self.random.choice(names) if names else ""


def shown_in(folder: Path, place: str = "of-") -> dict[str, What]:
    """Files and symlinks in the places of users, or in that of one, by path."""
    found: dict[str, What] = {}
    for raw in read_tree(folder):
        path = os.fsdecode(raw)
        at = folder / path
        if path.startswith(place) and (at.is_symlink() or at.is_file()):
            found[path] = os.readlink(at) if at.is_symlink() else at.read_bytes()
    return found


def differing(expected: Mapping[str, What], found: Mapping[str, What]) -> list[str]:
    return sorted(path for path in expected.keys() | found.keys() if expected.get(path) != found.get(path))


def wanted_by(users: Iterable[User]) -> dict[str, What]:
    return {path: what for user in users for path, what in user.expected().items()}
