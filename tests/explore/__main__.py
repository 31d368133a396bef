"""`python -m tests.explore`: the exploration, from each beginning; prints how many states and leaves there were.

Ends with 1 and the shortest history found where a promise was broken.
"""

from __future__ import annotations

import argparse
import sys
import time

from tests.explore.search import Found, replay, search, shrink
from tests.explore.space import Space, State, one_step_at_a_time

BEGINNINGS: dict[str, tuple[tuple[bytes, bytes | None], ...]] = {
    "nothing": (),
    "two files": ((b"a", b"old a"), (b"b", b"old b")),
    "a directory with a file": ((b"a", None), (b"a/b", b"old b")),
}
"""What both members have to begin with; None for a directory."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.explore", description=__doc__)
    parser.add_argument("--depth", type=int, default=3, help="operations of users (3)")
    parser.add_argument("--faults", type=int, default=1, help="links lost, crashes, silences (1)")
    parser.add_argument("--turns", type=int, help="so often something comes out of turn (default: whenever)")
    parser.add_argument("--equal", action="store_true", help="files of equal content are made, too")
    parser.add_argument("--states", type=int, metavar="MAX", help="of each beginning at most so many states")
    parser.add_argument("--from", dest="beginning", choices=BEGINNINGS, help="from this beginning alone")
    parser.add_argument("--seed", type=int, default=0, help="the order of the search")
    options = parser.parse_args()
    failed = False
    with one_step_at_a_time():
        for name, files in BEGINNINGS.items():
            if options.beginning in (None, name):
                began = time.process_time()
                space = Space(options.depth, options.faults, options.turns, equal=options.equal)
                start = space.start(*files)
                found = search(space, start, options.states, options.seed)
                print(f"{tell(name, found)}, {time.process_time() - began:.1f} s of CPU", flush=True)
                failed |= bool(found.why)
                if found.why:
                    show(space, start, found)
    return int(failed)


def tell(name: str, found: Found) -> str:
    part = "" if found.whole else " (a part)"
    return f"from {name}: {found.states} states{part}, {found.leaves} leaves checked"


def show(space: Space, start: State, found: Found) -> None:
    history = shrink(space, start, found.history, found.why)
    print(found.why)
    for label in history:
        print("  ", *label)
    print("and then all that is left to do:", replay(space, start, history))


if __name__ == "__main__":
    sys.exit(main())
