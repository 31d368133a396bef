"""What the status shows of one folder (INTERFACE, `GET /v1/status`), computed from the sets, never guessed.

In two halves: `look` runs on the folder's thread, and costs little however large the folder is; `count` reads a
snapshot of the catalog on any thread, since backlogs may be large.

Backlog from A to B = what A has installed and B has not, and wants (DESIGN section 4). `backlog_in` is the union over
members: what is pending here is known here, and some member had it. `only_here` is live content that no other member is
known, by its last status, to have installed.
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from replicad.catalog.changes import CONFLICT_AND_DELETED, PRE_EXISTING
from replicad.catalog.pages import Tally
from replicad.catalog.store import Reader
from replicad.core.cnset import EMPTY, CNSet
from replicad.core.ids import MemberId, ReplicaId
from replicad.core.messages import STATE_NAMES
from replicad.engine.folder import FolderReplica

BLOCKED_MAX = 1_000
"""Blocked objects that a status lists; `blocked_count` tells how many there are."""


class Other(msgspec.Struct, frozen=True):
    """Another member of the folder: what it has installed, by its last status (None: none was ever heard)."""

    member: MemberId
    installed: CNSet | None
    not_wanted: CNSet = EMPTY
    as_of_ms: int | None = None


class Backlog(msgspec.Struct, frozen=True):
    files: int
    bytes: int
    oldest_s: float | None


class BacklogOut(msgspec.Struct, frozen=True):
    """`as_of_ms` is when the member's last status was made; None: it has never told, and is taken to have nothing."""

    member: MemberId
    files: int
    bytes: int
    oldest_s: float | None
    as_of_ms: int | None


class Look(msgspec.Struct, frozen=True):
    """The first half."""

    replica: ReplicaId
    state: int
    state_name: str
    reason: str
    held: bool
    polled: str
    scanning: bool
    lag_s: float | None
    staging_used_bytes: int
    staging_quota_bytes: int
    missing: CNSet
    others: tuple[Other, ...]
    blocked: tuple[tuple[bytes, str], ...]
    blocked_count: int
    now_ms: int
    gone: tuple[bytes, ...] = ()
    """Of deletions that are held (engine.deletions): paths of the uppermost, not all of them."""


class FolderStatus(msgspec.Struct, frozen=True):
    """Whole. Paths are bytes: whoever prints them escapes them."""

    look: Look
    objects: int
    bytes: int
    backlog_in: Backlog
    backlog_out: tuple[BacklogOut, ...]
    only_here: tuple[int, int]
    preserved: tuple[int, int]


def look(replica: FolderReplica, members: Collection[MemberId], now_ms: int) -> Look:
    """`members` are the others in the folder's replica list. To be called on the folder's thread."""
    statuses = replica.exchange.statuses()
    others = []
    for member in sorted(members):
        known = statuses.get(member)
        if known is None:
            others.append(Other(member, None))
        else:
            installed = known.known.minus(known.missing)
            others.append(Other(member, installed, known.not_wanted, known.status.time_ms))
    state, blocked = replica.state, replica.blocked()
    return Look(
        replica.catalog.replica,
        state.state,
        STATE_NAMES[state.state],
        state.reason,
        replica.held,
        replica.disk.polled,
        replica.disk.scanner.scanning,
        replica.clocks.lag.median_s(now_ms),
        replica.installing.fetching.used_bytes,
        replica.settings.quota_bytes,
        replica.catalog.not_installed(),
        tuple(others),
        tuple(blocked[:BLOCKED_MAX]),
        len(blocked),
        now_ms,
        replica.root.deletions.names,
    )


def count(seen: Look, reader: Reader) -> FolderStatus:
    """The second half, on any thread; `reader` may be a moment younger than `seen`."""
    installed = reader.known.minus(seen.missing)
    rows, elsewhere = [], EMPTY
    for other in seen.others:
        theirs = other.installed or EMPTY
        elsewhere = elsewhere.union(theirs)
        backlog = _backlog(reader.tally(installed.minus(theirs).minus(other.not_wanted)), seen.now_ms)
        rows.append(BacklogOut(other.member, backlog.files, backlog.bytes, backlog.oldest_s, other.as_of_ms))
    alone = reader.tally(installed.minus(elsewhere))
    files, size, since_ms = reader.pending_tally()
    stores = [reader.preserved_tally(store) for store in (CONFLICT_AND_DELETED, PRE_EXISTING)]
    objects, total = reader.counts()
    return FolderStatus(
        seen,
        objects,
        total,
        Backlog(files, size, _age_s(since_ms, seen.now_ms)),
        tuple(rows),
        (alone.live, alone.bytes),
        (sum(store[0] for store in stores), sum(store[1] for store in stores)),
    )


def _backlog(tally: Tally, now_ms: int) -> Backlog:
    return Backlog(tally.files, tally.bytes, _age_s(tally.oldest_ms, now_ms))


def _age_s(since_ms: int | None, now_ms: int) -> float | None:
    return max(0, now_ms - since_ms) / 1000 if since_ms is not None else None
