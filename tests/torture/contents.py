"""Contents of which no two are alike: each begins or ends with a number, so what lies somewhere tells who wrote it."""

from __future__ import annotations

import hashlib
import random

FILE, SYMLINK = "file", "symlink"

SMALL_BYTES = (0, 10, 60, 2_000)
MIDDLE_BYTES = (20_000, 90_000)
LARGE_BYTES = (140_000, 300_000, 1_500_000)
"""Above 128 KiB: in chunks, with a manifest."""


def key_of(kind: str, data: bytes) -> str:
    """What a content is known by: the SHA-256 of a file, the target of a symlink."""
    return hashlib.sha256(data).hexdigest() if kind == FILE else f"-> {data!r}"


class Contents:
    """Makes them. `seed` is in each, so that what an earlier run left behind would be noticed."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self.made = 0

    def whole(self, author: str, rng: random.Random) -> bytes:
        """Of a new version of a file."""
        kind = rng.random()
        sizes = SMALL_BYTES if kind < 0.85 else MIDDLE_BYTES if kind < 0.95 else LARGE_BYTES
        return self.piece(author) + rng.randbytes(16).hex().encode() * (rng.choice(sizes) // 32 + 1)

    def piece(self, author: str) -> bytes:
        """What is added to a file."""
        self.made += 1
        return b"[%d by %s, seed %d]" % (self.made, author.encode(), self._seed)

    def target(self, author: str) -> bytes:
        """Of a symlink; it leads nowhere."""
        return b"nowhere/" + self.piece(author)
