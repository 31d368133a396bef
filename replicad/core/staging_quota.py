"""How much may be in staging: a quota with two watermarks, as DFS Replication's.

Contents are taken in until more than the high watermark is used; then nothing more, until it has fallen to the low one.
Between the two there is room to fetch a good deal at a time: at the brim, each installed file would let in one more.

Staging must never come to a standstill, however small the quota:

1. When it is empty, any content is taken in, also one larger than the quota: it passes alone.
2. When nothing in it moves (all is whole, and none can be installed for now), one more is taken in, whatever is used:
   what is waited for may be just that one. So at most one content is beyond the quota at a time.
"""

HIGH_PERCENT = 90
LOW_PERCENT = 60


class StagingQuota:
    """What is held, by name and size. Sizes are those of the whole contents: room is taken before the first byte."""

    def __init__(self, quota_bytes: int) -> None:
        if quota_bytes < 0:
            raise ValueError(f"a quota is not negative: {quota_bytes}")
        self.quota_bytes = quota_bytes
        self._held: dict[bytes, int] = {}
        self._used_bytes = 0
        self._is_closed = False

    @property
    def used_bytes(self) -> int:
        return self._used_bytes

    @property
    def is_closed(self) -> bool:
        """More than the high watermark was used, and not yet as little as the low one since."""
        return self._is_closed

    def take(self, name: bytes, size: int, *, anything_moves: bool) -> bool:
        """Whether there is room for a content, which is then held. `anything_moves`: something held is being fetched,
        or will be installed without anything further."""
        if name in self._held:
            raise ValueError(f"{name!r} is held already")
        if anything_moves and self._held and (self._is_closed or self._used_bytes + size > self.quota_bytes):
            return False
        self.hold(name, size)
        return True

    def hold(self, name: bytes, size: int) -> None:
        """It is there, whether there is room or not: found at the start."""
        self._used_bytes += size - self._held.get(name, 0)
        self._held[name] = size
        if self._used_bytes * 100 > self.quota_bytes * HIGH_PERCENT:
            self._is_closed = True

    def release(self, name: bytes) -> None:
        """It was installed or given up; no error where it is not held."""
        self._used_bytes -= self._held.pop(name, 0)
        if not self._held or self._used_bytes * 100 <= self.quota_bytes * LOW_PERCENT:
            self._is_closed = False

    def holds(self, name: bytes) -> bool:
        return name in self._held
