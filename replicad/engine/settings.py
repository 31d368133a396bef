"""What a folder takes from the configuration; a module of its own, so that reading that imports no engine."""

from __future__ import annotations

import msgspec


class FolderSettings(msgspec.Struct, frozen=True):
    """As this member keeps the folder; others may keep it otherwise."""

    quota_bytes: int = 4 * 1024**3
    """Of staging; a larger file passes alone."""
    scan_interval_ms: int = 3_600_000
    """Of the full scan that is the safety net for what no event told of; 0: never."""
    preserved_quota_bytes: int = 4 * 1024**3
    """Of ConflictAndDeleted (engine.collecting)."""
    preserved_min_age_ms: int = 30 * 86_400_000
    """What is younger stays in ConflictAndDeleted, whatever the quota."""
    tombstone_lifetime_ms: int = 60 * 86_400_000
    """How long a deletion is remembered at least (engine.tombstones); C3."""
    scan_deletions_max: int = 1_000
    """Objects; what a scan finds gone beyond it, and beyond a quarter of the folder, is held (engine.deletions)."""
    siblings: bool = False
    """The group's policy for losers of a name: beside the winner, instead of preserved. From the hierarchy, never from
    this member's configuration: every member must compute the same tree (I1)."""
