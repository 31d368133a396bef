"""Who holds the files that are being written: many may ask at once, and one look at the system answers all of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

ASKED_MAX = 1_000
"""Files that wait for a look: 100 KB. Of the rest it is not told who holds them, until they are tried again."""


class Holding:
    """Of one folder, on the event loop. `look` answers for many paths; `tell` is called once for each that asked."""

    def __init__(
        self, look: Callable[[Sequence[bytes]], Awaitable[dict[bytes, str]]], tell: Callable[[bytes, str], None]
    ) -> None:
        self._look = look
        self._tell = tell
        self._asked: dict[bytes, None] = {}
        self._looking = False

    def ask(self, path: bytes) -> bool:
        """Whether `work` is to be called."""
        if len(self._asked) >= ASKED_MAX:
            self._tell(path, "")
            return False
        self._asked[path] = None
        return not self._looking

    async def work(self) -> None:
        """Until everybody who asked has been answered."""
        if self._looking:
            return  # asked twice before the first had begun
        self._looking = True
        try:
            while self._asked:
                paths, self._asked = list(self._asked), {}
                found = await self._look(paths)
                for path in paths:
                    self._tell(path, found.get(path, ""))
        finally:
            self._looking = False
