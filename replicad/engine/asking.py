"""Asking the watch whether it has told everything: a marker made in `.replicad/fence/` comes back through its queue.

What had been changed before the marker was made has been told when it is seen. One question at a time; a marker that
does not come was lost (an overflow, the directory removed), and another one may be made.
"""

from __future__ import annotations

from replicad.engine.looking import FENCE_PATH
from replicad.files.fs import FileSystem

MARKER_MAX_MS = 5_000
"""A marker that has not come by then was lost."""


class Question:
    """`prefix` keeps the markers of several questions apart."""

    def __init__(self, fs: FileSystem, prefix: bytes) -> None:
        self._fs = fs
        self._prefix = prefix
        self._made = 0
        self._marker = b""
        self._made_ms = 0

    @property
    def asked(self) -> bool:
        """It waits for the answer."""
        return bool(self._marker)

    @property
    def lost_ms(self) -> int | None:
        """When the marker counts as lost."""
        return self._made_ms + MARKER_MAX_MS if self._marker else None

    def ask(self, now_ms: int) -> bool:
        """Make a marker, in place of one that was lost. False where that cannot be done: no space for an empty file, or
        the directory is gone."""
        self.drop()
        for _ in range(2):
            self._made += 1
            name = b"%s-%d" % (self._prefix, self._made)
            try:
                self._fs.create(FENCE_PATH + b"/" + name).close()
            except FileExistsError:
                self._remove(name)  # of an earlier run
            except OSError:
                return False
            else:
                self._marker, self._made_ms = name, now_ms
                return True
        return False

    def answered_by(self, name: bytes) -> bool:
        """Whether this is its marker; then the question is over."""
        if not self._marker or name != self._marker:
            return False
        self.drop()
        return True

    def drop(self) -> None:
        """Nobody waits for the answer."""
        if self._marker:
            self._remove(self._marker)
            self._marker = b""

    def _remove(self, name: bytes) -> None:
        try:
            self._fs.unlink(FENCE_PATH + b"/" + name)
        except OSError:
            pass  # removed with its directory, or left to the next start (engine.looking)
