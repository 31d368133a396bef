"""Torture a group of real daemons: python -m tests.torture [--seconds N] [--seed S] [--members M] [--base DIR]

As root: each member is in a network namespace of its own. Prints the seed, what happened, and each difference or loss
with its history; the exit status is 1 if there is any. What the members leave behind is kept then, else removed.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

SECONDS = 180.0
MEMBERS = 5


def show(counts: Counter[str]) -> None:
    print("what happened:")
    for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        print(f"  {count:>8,} {name}")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=str(__doc__).partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"of acts and mishaps ({SECONDS:g})")
    parser.add_argument("--seed", type=int, help="what decides all that can be decided (a fresh one)")
    parser.add_argument("--members", type=int, default=MEMBERS, help=f"daemons ({MEMBERS})")
    parser.add_argument("--base", type=Path, help="where they live (a temporary directory)")
    options = parser.parse_args(arguments)
    if os.geteuid() != 0:
        print("torture: needs root, for network namespaces: sudo make torture", file=sys.stderr)
        return 2
    from tests.torture.story import Story

    seed = random.SystemRandom().randrange(10**9) if options.seed is None else options.seed
    base = options.base or Path(tempfile.mkdtemp(prefix="replicad-torture-"))
    print(f"seed {seed}, {options.seconds:g} s, {options.members} members in {base}", flush=True)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # and daemons and namespaces go
    began_s = time.monotonic()
    story = Story(seed, options.seconds, options.members, base)
    story.run()
    show(story.counts)
    for finding in story.findings:
        print(f"FOUND {finding}")
    took_s = time.monotonic() - began_s
    took = ", ".join(f"{phase} {seconds:g}" for phase, seconds in story.seconds.items())
    print(f"seed {seed}: {len(story.findings)} findings in {took_s:.0f} s ({took})")
    if story.findings:
        again = f"--seed {seed} --seconds {options.seconds:g} --members {options.members}"
        print(f"again: python -m tests.torture {again}\nlogs: {base}/m*/log; history of all acts: {base}/history")
    else:
        shutil.rmtree(base)
    return 1 if story.findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
