"""What `GET /v1/status` says (INTERFACE): from values taken at one instant, without looking anything up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from replicad.core.cnset import EMPTY, CNSet
from replicad.core.ids import FolderId, MemberId
from replicad.core.messages import STATE_NAMES
from replicad.engine.folder import FolderReplica
from replicad.ops.text import path_json, rfc3339

BLOCKED_SHOWN_MAX = 10_000
"""Objects listed; beyond it their number alone is told."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """`oldest_s` None: nothing waits."""

    files: int = 0
    size: int = 0
    oldest_s: float | None = None


@dataclass(frozen=True, slots=True)
class BacklogOut:
    """What this member has installed and `member` has not. `as_of_ms`: of its last status, None where it sent none."""

    member: MemberId
    backlog: Backlog
    as_of_ms: int | None


@dataclass(frozen=True, slots=True)
class FolderShot:
    """One folder at one instant."""

    state: int
    reason: str
    scanning: bool = False
    objects: int = 0
    size: int = 0
    lag_s: float | None = None
    backlog_in: Backlog = field(default_factory=Backlog)
    backlog_out: tuple[BacklogOut, ...] = ()
    only_here_files: int = 0
    only_here_bytes: int = 0
    staging_used_bytes: int = 0
    staging_quota_bytes: int = 0
    preserved_files: int = 0
    preserved_bytes: int = 0
    blocked: tuple[tuple[bytes, str], ...] = ()
    blocked_count: int = 0


@dataclass(frozen=True, slots=True)
class FolderRow:
    """`folder` None: kept here, and not (yet) known to the group."""

    folder: FolderId | None
    name: str
    path: str
    shot: FolderShot


@dataclass(frozen=True, slots=True)
class MemberRow:
    member: MemberId
    name: str
    connected: bool
    address: str | None
    rtt_ms: float | None
    last_seen_ms: int | None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    member: MemberId
    name: str | None
    version: str
    replica: int | None
    uptime_s: float
    addresses: Sequence[str]
    group: tuple[str, str] | None
    """(id, name)."""
    members: Sequence[MemberRow]
    folders: Sequence[FolderRow]


def shoot(replica: FolderReplica, others: Sequence[MemberId], now_ms: int) -> FolderShot:
    """On the folder's thread. `others` are the other members of its replica list."""
    catalog, statuses = replica.catalog, replica.exchange.statuses()
    installed = catalog.known.minus(catalog.not_installed())
    objects, size = catalog.counts()
    waiting, waiting_bytes, oldest_ms = catalog.pending_tally()
    unknown = elsewhere = EMPTY
    out = []
    for other in others:
        heard = statuses.get(other)
        has = heard.installed if heard is not None else EMPTY
        wants_not = heard.not_wanted if heard is not None else EMPTY
        elsewhere = elsewhere.union(has)
        unknown = unknown.union(has.minus(catalog.known))
        backlog = _backlog(replica, installed.minus(has).minus(wants_not), now_ms)
        out.append(BacklogOut(other, backlog, heard.status.time_ms if heard is not None else None))
    alone = catalog.tally(installed.minus(elsewhere))
    kept = [catalog.preserved_tally(store) for store in ("ConflictAndDeleted", "PreExisting")]
    blocked = replica.blocked()
    state = replica.state
    return FolderShot(
        state=state.state,
        reason=state.reason,
        scanning=replica.disk.scanner.scanning,
        objects=objects,
        size=size,
        backlog_in=Backlog(waiting + unknown.count(), waiting_bytes, _age_s(oldest_ms, now_ms)),
        backlog_out=tuple(out),
        only_here_files=alone.live,
        only_here_bytes=alone.bytes,
        staging_used_bytes=replica.fetching.used_bytes,
        staging_quota_bytes=replica.settings.quota_bytes,
        preserved_files=sum(files for files, _ in kept),
        preserved_bytes=sum(size for _, size in kept),
        blocked=tuple(blocked[:BLOCKED_SHOWN_MAX]),
        blocked_count=len(blocked),
    )


def status_json(shot: Snapshot) -> dict[str, Any]:
    names = {row.member: row.name for row in shot.members}
    return {
        "member": {
            "id": shot.member,
            "name": shot.name,
            "version": shot.version,
            "replica_id": f"{shot.replica:016x}" if shot.replica is not None else None,
            "uptime_s": round(shot.uptime_s, 1),
            "addresses": list(shot.addresses),
        },
        "group": {"id": shot.group[0], "name": shot.group[1]} if shot.group is not None else None,
        "members": [_member_json(row) for row in sorted(shot.members, key=lambda row: (row.name, row.member))],
        "folders": [_folder_json(row, names) for row in sorted(shot.folders, key=lambda row: row.name)],
    }


def _member_json(row: MemberRow) -> dict[str, Any]:
    return {
        "id": row.member,
        "name": row.name,
        "connected": row.connected,
        "address": row.address,
        "rtt_ms": round(row.rtt_ms, 2) if row.rtt_ms is not None else None,
        "last_seen": rfc3339(row.last_seen_ms) if row.last_seen_ms is not None else None,
        "error": row.error or None,
    }


def _folder_json(row: FolderRow, names: Mapping[MemberId, str]) -> dict[str, Any]:
    shot = row.shot
    return {
        "id": row.folder.hex() if row.folder is not None else None,
        "name": row.name,
        "path": row.path,
        "state": shot.state,
        "state_name": STATE_NAMES[shot.state],
        "reason": shot.reason or None,
        "scanning": shot.scanning,
        "objects": shot.objects,
        "bytes": shot.size,
        "lag_s": shot.lag_s,
        "backlog_in": _backlog_json(shot.backlog_in),
        "backlog_out": [
            {
                "member": names.get(out.member, out.member),
                **_backlog_json(out.backlog),
                "as_of": rfc3339(out.as_of_ms) if out.as_of_ms is not None else None,
            }
            for out in shot.backlog_out
        ],
        "only_here": {"files": shot.only_here_files, "bytes": shot.only_here_bytes},
        "staging": {"used_bytes": shot.staging_used_bytes, "quota_bytes": shot.staging_quota_bytes},
        "preserved": {"files": shot.preserved_files, "bytes": shot.preserved_bytes},
        "blocked": [{"path": path_json(path), "reason": reason} for path, reason in shot.blocked],
        "blocked_count": shot.blocked_count,
    }


def _backlog_json(backlog: Backlog) -> dict[str, Any]:
    oldest_s = round(backlog.oldest_s, 1) if backlog.oldest_s is not None else None
    return {"files": backlog.files, "bytes": backlog.size, "oldest_s": oldest_s}


def _backlog(replica: FolderReplica, lacking: CNSet, now_ms: int) -> Backlog:
    if not lacking:
        return Backlog()
    tally = replica.catalog.tally(lacking)
    return Backlog(tally.files, tally.bytes, _age_s(tally.oldest_ms, now_ms))


def _age_s(since_ms: int | None, now_ms: int) -> float | None:
    return max(0, now_ms - since_ms) / 1000 if since_ms is not None else None
