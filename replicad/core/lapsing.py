"""When a member counts as lapsed (DESIGN section 4; docs/safety.md, section 6). Pure.

For a member that has lapsed nobody waits: deletions are forgotten without it, and it rejoins when it is back. So that
the smaller half of a group that was cut does not forget apart from the other, a member says so by itself only while it
is in contact, counting itself, with more than half of all that are not removed; and so that one wrong clock makes
nobody lapse, only those count whose clocks agree with its own. An operator may say so at any time.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec

from replicad.core.ids import MemberId

OFFLINE_LIMIT_MS = 60 * 24 * 3_600_000
"""As long as deletions are remembered by default."""
CLOCKS_AGREE_MS = 600_000
"""Ten minutes: far less than any limit, far more than clocks differ that are kept."""
CONTACT_MS = 3_600_000
"""For so long it must have been in such contact: whoever was switched off together finds together again, and everybody
has passed on what it has heard of the others (a status a minute) long before that."""
FRESH_MS = 180_000
"""A member in contact speaks once a minute; who has not for three may be gone, and nobody has noticed yet."""


class Contact(msgspec.Struct, frozen=True):
    """A member with a link to this one. `told_ms`: how long ago it spoke; `off_ms`: by how much its clock differs."""

    member: MemberId
    told_ms: int
    off_ms: int

    @property
    def agrees(self) -> bool:
        return self.told_ms <= FRESH_MS and abs(self.off_ms) < CLOCKS_AGREE_MS


class Lapsing:
    """Of one member, while it runs. Shown what is so, at least once a minute."""

    def __init__(self) -> None:
        self._since_ms: int | None = None
        """Since when it has been in contact with more than half."""

    def look(
        self,
        members: int,
        contacts: Collection[Contact],
        seen_ms: Mapping[MemberId, int],
        limit_ms: int,
        now_ms: int,
    ) -> list[MemberId]:
        """Who is to be written as lapsed. `members`: how many are not removed, this one and those that have lapsed
        included. `seen_ms`: of those that are neither in contact nor lapsed, when anybody in contact last saw them."""
        agreeing = 1 + sum(contact.agrees for contact in contacts)
        if 2 * agreeing <= members:
            self._since_ms = None
            return []
        if self._since_ms is None or self._since_ms > now_ms:
            self._since_ms = now_ms
        if now_ms - self._since_ms < CONTACT_MS:
            return []
        return sorted(member for member, seen in seen_ms.items() if now_ms - seen > limit_ms)
