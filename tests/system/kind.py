"""A kind of change, as `test_kinds_of_change` makes them all on real members: running and stopped, two and three."""

import shlex
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

COMMAND_S = 60


@dataclass(frozen=True)
class Kind:
    """A change, in a directory of its own: what is there before, and what is done.

    What its author has on disk when the change is made must be on every member afterwards, and `after`, called with
    each member's directory and whether it is the author's, looks at what comparing trees does not. `needs`: programs.
    """

    name: str
    before: Callable[[Path], object]
    change: Callable[[Path], object]
    after: Callable[[Path, bool], object] = lambda root, own: None
    needs: tuple[str, ...] = ()


def outside(root: Path) -> Path:
    """A directory on the same disk outside all replicated folders, for the kind whose directory is `root`."""
    path = root.parents[2] / "outside" / root.name
    path.mkdir(parents=True, exist_ok=True)
    return path


def run(root: Path, *command: str, script: str = "") -> None:
    """A program, at work in `root`, or a script for `sh`; it must succeed."""
    arguments = list(command) or ["sh", "-ec", script]
    done = subprocess.run(
        arguments, cwd=root, stdin=subprocess.DEVNULL, capture_output=True, timeout=COMMAND_S, check=False
    )
    words = (done.stdout + done.stderr).decode(errors="replace")
    assert done.returncode == 0, f"{shlex.join(arguments)}: {done.returncode}\n{words}"
