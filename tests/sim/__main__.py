"""Simulate random histories: python -m tests.sim [--seeds N] [--first S] [--minutes M] [--jobs J] [--trace]
    [--restores] [--joins | --clones | --faults | --deploys | --crowd N] [--hub N] [--shrink S]

Every seed is one history of at least 200 acts of users, 3 partitions and a crash; when it is healed, all that replicad
promises is checked (tests/sim/group.py). A seed that fails is printed with its reason and how to run it again, and the
first few are made small (tests/sim/shrinking.py); the exit status is then 1. With `--minutes`, fresh seeds are run
until the time is over.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait

from tests.sim.crowds import CrowdStory, measure
from tests.sim.faults import FaultStory
from tests.sim.joins import JoinStory
from tests.sim.shrinking import shrink, tell
from tests.sim.story import DeployStory, Story, Told
from tests.sim.twins import TwinStory

SEEDS = 1_000
IN_FLIGHT_PER_JOB = 4
FAILURES_SHOWN_MAX = 20
SHRUNK_MAX = 3
SHRINK_S = 60.0
KINDS = {"joins": JoinStory, "clones": TwinStory, "faults": FaultStory, "deploys": DeployStory}
MORE = ("restores", *KINDS)
"""Options that make other histories of the seeds."""


def story_of(seed: int, more: frozenset[str], crowd: int) -> Story:
    kind = next((KINDS[name] for name in KINDS if name in more), Story)
    return CrowdStory(seed, crowd) if crowd else kind(seed, restores="restores" in more)


def simulate(seed: int, more: frozenset[str] = frozenset(), crowd: int = 0) -> tuple[int, Told | None, str]:
    """(seed, what came of it, why it failed). `more`: options of histories that are not among the default ones."""
    try:
        return seed, story_of(seed, more, crowd).run(), ""
    except Exception as error:  # noqa: BLE001  (whatever it is, it is what the seed found)
        frames = traceback.extract_tb(error.__traceback__)
        where = frames[-1]
        return seed, None, f"{type(error).__name__}: {error}\n    at {where.filename}:{where.lineno}"


def fresh_seeds(minutes: float) -> Iterator[int]:
    end_s = time.monotonic() + minutes * 60
    first = random.SystemRandom().randrange(10**9)
    while time.monotonic() < end_s:
        yield first
        first += 1


def run(seeds: Iterable[int], jobs: int, more: frozenset[str], crowd: int) -> Iterator[tuple[int, Told | None, str]]:
    """In whatever order they end; only so many are handed out that an endless supply can be stopped."""
    with ProcessPoolExecutor(jobs) as pool:
        waiting: set[Future[tuple[int, Told | None, str]]] = set()
        for seed in seeds:
            waiting.add(pool.submit(simulate, seed, more, crowd))
            if len(waiting) >= jobs * IN_FLIGHT_PER_JOB:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        yield from (future.result() for future in waiting)


def show_small(seed: int, more: frozenset[str], crowd: int, budget_s: float) -> None:
    """Prints what is left of a failing history."""
    found = shrink(lambda: story_of(seed, more, crowd), budget_s)
    if found is None:
        print(f"seed {seed} does not fail again", flush=True)
        return
    steps, _ = found
    print(f"seed {seed}, {len(steps)} steps of it:", flush=True)
    for line in tell(lambda: story_of(seed, more, crowd), steps):
        print(f"    {line}", flush=True)


def report(results: Iterable[tuple[int, Told | None, str]], *, trace: bool, more: str = "") -> list[int]:
    """Prints what came of it; returns the seeds that failed, or [-1] where none was run. `more`: options that were
    given as well."""
    began_s = time.monotonic()
    counts: Counter[str] = Counter()
    messages: Counter[str] = Counter()
    failed: list[int] = []
    ran = virtual_ms = 0
    for seed, told, why in results:
        ran += 1
        if told is None:
            failed.append(seed)
            if len(failed) <= FAILURES_SHOWN_MAX:
                print(
                    f"seed {seed} FAILED: {why}\n    again: python -m tests.sim --first {seed} --seeds 1{more}",
                    flush=True,
                )
            continue
        counts += told.counts
        messages += told.messages
        virtual_ms += told.virtual_ms
        if trace:
            print(f"seed {seed}: {told.trace}", flush=True)
    for title, histogram in (("what happened", counts), ("messages", messages)):
        print(f"{title}:")
        for name, count in sorted(histogram.items(), key=lambda item: (-item[1], item[0])):
            print(f"  {count:>10,} {name}")
    took_s = time.monotonic() - began_s
    print(f"{ran} seeds, {len(failed)} failed, {virtual_ms / 3_600_000:,.0f} hours simulated in {took_s:.0f} s")
    if failed:
        print(f"failed: {' '.join(str(seed) for seed in sorted(failed))}")
    return sorted(failed) if ran else [-1]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=str(__doc__).partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"how many histories ({SEEDS})")
    parser.add_argument("--first", type=int, default=0, help="the first seed (0)")
    parser.add_argument("--minutes", type=float, help="fresh seeds for so long, instead")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (one a processor)")
    parser.add_argument("--trace", action="store_true", help="print the digest of everything that happened in each")
    parser.add_argument("--restores", action="store_true", help="in some of them catalogs are put back and lost")
    parser.add_argument("--joins", action="store_true", help="members join late, leave, are removed, and come back")
    parser.add_argument("--clones", action="store_true", help="machines are doubled while they run, volumes move")
    parser.add_argument("--faults", action="store_true", help="disks fail and are replaced, operators act upon it")
    parser.add_argument("--deploys", action="store_true", help="users replace whole directories as well")
    parser.add_argument("--crowd", type=int, default=0, metavar="N", help="groups of N members")
    parser.add_argument("--hub", type=int, default=0, metavar="N", help="measure what a hub of N members says, instead")
    parser.add_argument(
        "--shrink",
        type=float,
        default=SHRINK_S,
        metavar="S",
        help=f"seconds to make a failing seed small ({SHRINK_S:g})",
    )
    options = parser.parse_args(arguments)
    if options.hub:
        measure(options.hub)
        return 0
    more = frozenset(name for name in MORE if getattr(options, name))
    if options.minutes is not None:
        seeds: Iterable[int] = fresh_seeds(options.minutes)
    else:
        seeds = range(options.first, options.first + options.seeds)
    if options.jobs == 1:
        results: Iterable[tuple[int, Told | None, str]] = (simulate(seed, more, options.crowd) for seed in seeds)
    else:
        results = run(seeds, options.jobs, more, options.crowd)
    failed = report(
        results,
        trace=options.trace,
        more="".join(f" --{name}" for name in MORE if name in more)
        + (f" --crowd {options.crowd}" if options.crowd else ""),
    )
    for seed in [seed for seed in failed if seed >= 0][:SHRUNK_MAX] if options.shrink else ():
        show_small(seed, more, options.crowd, options.shrink)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
