"""When the founding of a folder ends (DESIGN section 3, rule 6).

Founders begin with originals; whoever comes after the end goes by rule 11. It ends

- when two members have been complete with each other, and for an hour no member in contact was in its first scan;
- for a member that has met nobody, a day after its own first scan;
- in any case before a tombstone is dropped (the collector asks for it).

Any founder may write the end into the hierarchy; of several the oldest stands. A pure state machine: it is shown what
is so, with the time, and answers whether the end is to be written.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

QUIET_MS = 3_600_000
"""An hour without a first scan in sight."""
ALONE_MS = 24 * 3_600_000
"""A day after the own first scan, for a member that met nobody."""


class Seen(msgspec.Struct, frozen=True):
    """A member in contact: `scanned` None while it has not told; `agrees`: complete, and equal in knowledge with us."""

    scanned: bool | None
    agrees: bool


class Founding:
    """Of one folder on one founder. After a restart the hour and the day begin anew: later is safe, earlier is not."""

    def __init__(self) -> None:
        self._scanned_ms: int | None = None
        self._quiet_since_ms: int | None = None
        self._met = False
        self._agreed = False

    def look(self, scanned: bool, members: Iterable[Seen], now_ms: int) -> bool:
        """Shown what is so now, at least once a minute; True when the founding is over."""
        if not scanned:
            self._quiet_since_ms = None
            return False
        if self._scanned_ms is None:
            self._scanned_ms = now_ms
        in_first_scan = False
        for member in members:
            self._met = True
            self._agreed |= member.agrees
            in_first_scan |= member.scanned is not True
        if in_first_scan:
            self._quiet_since_ms = None
        elif self._quiet_since_ms is None:
            self._quiet_since_ms = now_ms
        if not self._met:
            return now_ms - self._scanned_ms >= ALONE_MS
        return self._agreed and self._quiet_since_ms is not None and now_ms - self._quiet_since_ms >= QUIET_MS
