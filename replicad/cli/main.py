"""The entry: parse, run one command, and turn errors into one line and an exit status.

Only what a command needs is imported, so that `replicad status` in a script costs little.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Sequence

from replicad.cli.parser import build_parser
from replicad.errors import CatalogError, OperatorError, ReplicadError

INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 done; 1 it could not be done; 2 wrong usage or configuration; 3 no daemon; 4 time ran out."""
    try:
        options = build_parser().parse_args(arguments)
        module, _, function = options.runs.partition(":")
        command: Callable[..., int] = getattr(importlib.import_module(f"replicad.cli.{module}"), function)
        status = command(options)
        sys.stdout.flush()
    except OperatorError as error:
        return _say(str(error), error.exit_status)
    except (CatalogError, ReplicadError) as error:
        return _say(str(error), 1)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Who read our output has gone. Python would complain once more when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status


def _say(text: str, status: int) -> int:
    for line in text.splitlines() or [""]:
        print(f"replicad: {line}", file=sys.stderr)
    return status
