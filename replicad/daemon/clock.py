"""The daemon's clock."""

from __future__ import annotations

import time


def wall_ms() -> int:
    """Milliseconds since 1970 of this host's clock."""
    return time.time_ns() // 1_000_000
