"""kill -9 at any instruction, then another start: nothing that was told is lost, no CN comes twice."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

from replicad.catalog.store import Catalog
from tests.catalog.making import FOLDER

KILLS = 8


def run_and_kill(path: Path, commits: int, more_bytes: int) -> tuple[int, int, int]:
    """The last commit that was told. The kill comes after so many commits, and somewhere in the next ones."""
    command = [sys.executable, "-m", "tests.catalog.committer", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        told = b""
        for _ in range(commits):
            told = process.stdout.readline()
        told += process.stdout.read(more_bytes)
        process.kill()
        told += process.stdout.read()
        assert process.wait() == -9, process.stderr.read()
        counter, head, next_node = map(int, told[: told.rindex(b"\n")].split(b"\n")[-1].split())
    return counter, head, next_node


def test_i5_i12_after_each_kill_the_catalog_holds_all_it_told_and_no_counter_comes_twice(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    chance = random.Random(5)
    for _ in range(KILLS):
        counter, head, next_node = run_and_kill(path, chance.randint(1, 12), chance.randint(0, 40))
        assert (tmp_path / "a.db-wal").exists(), "the start that follows is an unclean one"
        catalog = Catalog.open(path, FOLDER, lambda: 99)
        assert catalog.counter >= counter
        assert catalog.head >= head
        assert catalog.next_node >= next_node
        assert catalog.faults() == []
        assert catalog.known.last(catalog.replica) == catalog.counter
        catalog.close()
