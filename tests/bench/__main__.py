"""`python -m tests.bench [--files N] [--entries N] [--mib N] [--keep DIR]`: prints a table.

Each row is measured until an independent comparer has seen equal trees on disk. What takes part: the two daemons, with
TLS, fsync and verification on, everything at its default. CPU is that of both daemons together.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.bench.group import Pair, clear
from tests.tree_compare import differences, read_tree

LATENCY_ROUNDS = 50
FILE_BYTES_MAX = 16 * 1024


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--files", type=int, default=10_000, help="small files of 1 to 16 KiB (default 10,000)")
    parser.add_argument("--entries", type=int, default=20_000, help="empty files in one directory (default 20,000)")
    parser.add_argument("--mib", type=int, default=1024, help="size of the big file (default 1,024 MiB)")
    parser.add_argument("--keep", type=Path, help="work here, and leave everything there")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="replicad-bench-", ignore_cleanup_errors=True) as temporary:
        base = wanted.keep or Path(temporary)
        base.mkdir(parents=True, exist_ok=True)
        with Pair(base) as pair:
            Bench(pair, random.Random(1)).run(wanted.files, wanted.entries, wanted.mib)


class Bench:
    def __init__(self, pair: Pair, chance: random.Random) -> None:
        self.pair = pair
        self.chance = chance
        self.alpha, self.beta = pair.alpha.folder, pair.beta.folder
        print(f"{'work':<44}{'seconds':>10}{'rate':>18}{'CPU s':>8}")

    def run(self, files: int, entries: int, mib: int) -> None:
        self.small_files(files)
        self.measure(f"rename the directory of {files} files", lambda: os.rename(self.alpha / "s", self.alpha / "t"))
        self.measure(f"delete {files} files", lambda: clear(self.alpha), rate=(files, "files/s"))
        self.one_directory(entries)
        self.latency()
        self.big_file(mib)
        for node in (self.pair.alpha, self.pair.beta):
            print(f"{node.name}: {node.resident_mib():.0f} MiB resident at most")

    def small_files(self, files: int) -> None:
        root = self.alpha.parent / "source"
        for number in range(files):
            directory = root / f"d{number // 100:04}"
            if number % 100 == 0:
                directory.mkdir(parents=True)
            size = self.chance.randrange(1024, FILE_BYTES_MAX + 1)
            (directory / f"f{number:06}").write_bytes(self.chance.randbytes(size))
        self.measure(
            f"{files} files of 1 to 16 KiB", lambda: os.rename(root, self.alpha / "s"), rate=(files, "files/s")
        )

    def one_directory(self, entries: int) -> None:
        root = self.alpha.parent / "entries"
        root.mkdir()
        for number in range(entries):
            (root / f"{number:06}").touch()
        rate = (entries, "files/s")
        self.measure(f"{entries} empty files in one directory", lambda: os.rename(root, self.alpha / "e"), rate=rate)
        self.measure("one of them changed", lambda: (self.alpha / "e/000000").write_bytes(b"x"))
        self.measure(
            f"rename the directory of {entries} entries", lambda: os.rename(self.alpha / "e", self.alpha / "r")
        )
        self.measure(f"delete {entries} entries", lambda: clear(self.alpha), rate=rate)

    def big_file(self, mib: int) -> None:
        source = self.alpha.parent / "big.source"
        with source.open("wb") as file:
            for _ in range(mib):
                file.write(self.chance.randbytes(1 << 20))
        self.measure(f"one file of {mib} MiB", lambda: os.rename(source, self.alpha / "big"), rate=(mib, "MiB/s"))
        at = mib * (1 << 20) // 2

        def insert() -> None:
            data = (self.alpha / "big").read_bytes()
            (self.alpha / "big.new").write_bytes(data[:at] + self.chance.randbytes(4096) + data[at:])
            os.rename(self.alpha / "big.new", self.alpha / "big")

        self.measure("4 KiB inserted into it", insert)

    def latency(self) -> None:
        """From the writer's close to the moment at which the file is there, seen by the reader's directory."""
        spent = []
        for number in range(LATENCY_ROUNDS):
            target = self.beta / f"l{number}"
            begin = time.perf_counter()
            (self.alpha / f"l{number}").write_bytes(b"x" * 1000)
            while not target.exists():
                time.sleep(0.0005)  # measured, not waited for: a watch of our own would load the same machine
            spent.append(time.perf_counter() - begin)
        spent.sort()
        median, late = statistics.median(spent) * 1000, spent[int(len(spent) * 0.95)] * 1000
        print(f"{'small change to the other side':<44}{'':>10}{f'{median:.1f} / {late:.1f} ms':>18}   (median / 95 %)")
        self.pair.wait()

    def measure(self, name: str, work: Callable[[], object], rate: tuple[int, str] | None = None) -> None:
        cpu_s = self.pair.alpha.cpu_s() + self.pair.beta.cpu_s()
        begin = time.perf_counter()
        work()
        self.pair.wait()
        spent = time.perf_counter() - begin
        used = self.pair.alpha.cpu_s() + self.pair.beta.cpu_s() - cpu_s
        shown = f"{rate[0] / spent:,.0f} {rate[1]}" if rate else ""
        print(f"{name:<44}{spent:>10.2f}{shown:>18}{used:>8.2f}", flush=True)
        found = differences(read_tree(self.alpha), read_tree(self.beta))
        if found:
            raise SystemExit(f"the trees differ: {found[:5]}")


if __name__ == "__main__":
    main()
