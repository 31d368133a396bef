"""What a watch reports, gathered until the folder's thread comes to it.

The watch may only be asked to hand over (files.changes.Watch), from whatever thread; a burst must neither block it nor
fill memory. So changes are gathered in order, each value once in a row, and beyond GATHERED_MAX all of them give way to
one `Overflow`, after which the folder looks at everything: nothing that was dropped can be missed then.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from replicad.files.changes import Change, Overflow

GATHERED_MAX = 100_000
"""Some 20 MB; a folder's thread takes that many hints within a second."""


class Gathered:
    """`on_change` from any thread; `wake` is called when there is something to `take` again."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._lock = threading.Lock()
        self._changes: list[Change] = []

    def on_change(self, change: Change) -> None:
        with self._lock:
            first = not self._changes
            if len(self._changes) >= GATHERED_MAX:
                self._changes = [Overflow()]
            elif first or self._changes[-1] != change:
                self._changes.append(change)
        if first:
            self._wake()

    def take(self) -> Sequence[Change]:
        """All that was gathered, in order."""
        with self._lock:
            taken, self._changes = self._changes, []
        return taken
