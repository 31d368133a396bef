"""A member without a network (tests.engine.rig) on a real disk and a real catalog, to be traced: `… DIRECTORY`.

It installs files, a directory and a symlink, then edits, moves and deletes. What it fetches is there, and synced, at
once.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from replicad.core.effects import Fetch, FetchedItem
from tests.engine.real_gap import RealDisk
from tests.engine.rig import Author, Rig
from tests.system.tracing import mark_commits

FILES = 5


class TracedRig(Rig):
    def __init__(self, base: Path) -> None:
        self._base = base
        super().__init__()

    def make_fs(self) -> Any:
        self.database: Any = self._base / "catalog.db"
        (self._base / "docs").mkdir()
        return RealDisk(self._base / "docs")

    def fetch(self, fetch: Fetch) -> list[FetchedItem]:
        items = super().fetch(fetch)
        self.fs.sync_all()
        return items


def main(base: Path) -> None:
    mark_commits()
    rig = TracedRig(base)
    author = Author(rig.bodies)
    directory = author.directory(b"d")
    files = [author.file(b"f%d" % number, b"old %d" % number, directory.uid) for number in range(FILES)]
    link = author.symlink(b"l", b"here")
    rig.take([directory, *files, link])
    rig.settle()
    other = Author(rig.bodies, replica=3, time_ms=900_000)
    rig.take(
        [
            author.edit(files[0], b"new"),
            author.move(files[1], b"moved"),
            author.delete(files[2]),
            author.meta(files[3], 0o600),
            author.retarget(link, b"there"),
            other.file(b"f4", b"takes the name", directory.uid),
        ]
    )
    rig.settle()
    assert rig.disk() == rig.wanted(), "not all is installed"
    assert rig.stored(), "nothing was preserved"
    rig.catalog.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
