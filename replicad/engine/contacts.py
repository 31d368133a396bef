"""What a folder's replica tells the daemon about how it stands with others: for the end of its founding (rule 6), and
for a member that has lapsed and is back."""

from __future__ import annotations

import msgspec

from replicad.core.founding import Seen
from replicad.engine.folder import FolderReplica
from replicad.engine.phases import Phase


class Standing(msgspec.Struct, frozen=True):
    """`scanned`: the own first scan is done. `members`: those in contact."""

    scanned: bool
    members: tuple[Seen, ...]


def standing(replica: FolderReplica) -> Standing:
    """To be called on the folder's thread."""
    statuses = replica.exchange.statuses()
    own = replica.phase is Phase.TAKING_PART
    seen = []
    for peer in replica.exchange.connected():
        known = statuses.get(peer)
        if known is None or not known.direct:
            seen.append(Seen(scanned=None, agrees=False))
            continue
        agrees = own and known.status.complete and known.known == replica.catalog.known
        seen.append(Seen(known.status.scanned, agrees))
    return Standing(replica.phase is not Phase.FOUNDING, tuple(seen))


def caught_up(replica: FolderReplica) -> bool | None:
    """Whether it is stale towards nobody in contact; None: there is nobody. To be called on the folder's thread."""
    return replica.course.returning.caught_up
