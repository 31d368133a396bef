"""verify."""

from __future__ import annotations

import json
import sys
from typing import Any, Literal

from replicad.cli.calling import Options, stream
from replicad.cli.client import refusal
from replicad.cli.show import path_text
from replicad.errors import NoDaemonError
from replicad.ops import requests as r
from replicad.ops.text import escaped, size_text

DIFFERENCES_MAX = 100_000
"""That JSON lists: 30 MB. `differences` counts all."""
CLEAR_LINE = "\r\x1b[K"


def verify(options: Options) -> int:
    """Exit status 1 where anything differs."""
    remedy: Literal["report", "take", "mend"] = "take" if options.take else "mend" if options.mend else "report"
    found: list[dict[str, Any]] = []
    shown = _Progress()
    for piece in stream(options, r.Verify(options.name, remedy)):
        if "progress" in piece:
            shown.show(piece["progress"])
        elif "difference" in piece:
            shown.clear()
            if not options.json:
                print(difference_line(piece["difference"]), flush=True)
            elif len(found) < DIFFERENCES_MAX:
                found.append(piece["difference"])
        elif "error" in piece:
            shown.clear()
            raise refusal(200, piece)
        else:
            shown.clear()
            result = piece["result"]
            if options.json:
                print(json.dumps({"folder": options.name, **result, "listed": found}, ensure_ascii=False))
            else:
                size = size_text(result["bytes"])
                print(f"{result['entries']} entries, {size} read: {result['differences'] or 'no'} differences")
            return 1 if result["differences"] else 0
    raise NoDaemonError("the daemon ended before all was verified")


def difference_line(difference: dict[str, Any]) -> str:
    return (
        f"{difference['kind']}: {path_text(difference['path'])}: {escaped(difference['text'])} ({difference['action']})"
    )


class _Progress:
    """One line on a terminal, written over and over; nothing elsewhere."""

    def __init__(self) -> None:
        self._shows = sys.stderr.isatty()

    def show(self, progress: dict[str, Any]) -> None:
        total = progress["bytes_total"]
        if self._shows and total is not None:
            text = f"{progress['entries']} of {progress['entries_total']} entries"
            size = f"{size_text(progress['bytes'])} of {size_text(total)}"
            print(f"{CLEAR_LINE}{text}, {size}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self._shows:
            print(CLEAR_LINE, end="", file=sys.stderr, flush=True)
