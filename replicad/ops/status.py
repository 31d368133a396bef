"""What `GET /v1/status` says (INTERFACE): from values taken at one instant, without looking anything up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from replicad.core.ids import FolderId, MemberId
from replicad.core.messages import STATE_NAMES
from replicad.engine.folder_status import Backlog, BacklogOut, FolderStatus
from replicad.ops.text import path_json, rfc3339

UNINITIALIZED, IN_ERROR = 0, 5


@dataclass(frozen=True, slots=True)
class FolderRow:
    """`folder` None: kept here, and not (yet) known to the group. `status` None: it does not run; `reason` says why."""

    folder: FolderId | None
    name: str
    path: str
    status: FolderStatus | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class MemberRow:
    member: MemberId
    name: str
    connected: bool
    address: str | None
    rtt_ms: float | None
    last_seen_ms: int | None
    error: str = ""
    lapsed_ms: int | None = None
    """Since when nobody waits for it; None: it is living."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    member: MemberId
    name: str | None
    version: str
    replica: int | None
    uptime_s: float
    addresses: Sequence[str]
    """Where peers connect, with the port that the system gave."""
    api: Sequence[str]
    """Where the operator API answers over HTTP."""
    group: tuple[str, str] | None
    """(id, name)."""
    members: Sequence[MemberRow]
    folders: Sequence[FolderRow]
    trouble: str = ""
    """Why the member does not run."""
    lapsed_ms: int | None = None
    """Since when the others do not wait for this one."""


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
            "api": list(shot.api),
            "trouble": shot.trouble or None,
            "lapsed": rfc3339(shot.lapsed_ms) if shot.lapsed_ms is not None else None,
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
        "lapsed": rfc3339(row.lapsed_ms) if row.lapsed_ms is not None else None,
    }


def _folder_json(row: FolderRow, names: Mapping[MemberId, str]) -> dict[str, Any]:
    named = {
        "id": row.folder.hex() if row.folder is not None else None,
        "name": row.name,
        "path": row.path,
    }
    if row.status is None:
        return {**named, **_not_running(row.reason)}
    status, look = row.status, row.status.look
    return {
        **named,
        "state": look.state,
        "state_name": look.state_name,
        "reason": look.reason or None,
        "held": look.held,
        "missing": [path_json(path) for path in look.gone],
        "polled": look.polled or None,
        "scanning": look.scanning,
        "objects": status.objects,
        "bytes": status.bytes,
        "lag_s": look.lag_s,
        "backlog_in": _backlog_json(status.backlog_in),
        "backlog_out": [
            {
                "member": names.get(out.member, out.member),
                **_backlog_json(out),
                "as_of": rfc3339(out.as_of_ms) if out.as_of_ms is not None else None,
            }
            for out in sorted(status.backlog_out, key=lambda out: (names.get(out.member, ""), out.member))
        ],
        "only_here": {"files": status.only_here[0], "bytes": status.only_here[1]},
        "staging": {"used_bytes": look.staging_used_bytes, "quota_bytes": look.staging_quota_bytes},
        "preserved": {"files": status.preserved[0], "bytes": status.preserved[1]},
        "blocked": [{"path": path_json(path), "reason": reason} for path, reason in look.blocked],
        "blocked_count": look.blocked_count,
    }


def _not_running(reason: str) -> dict[str, Any]:
    """The same fields: nothing is known of it now."""
    state = IN_ERROR if reason else UNINITIALIZED
    return {
        "state": state,
        "state_name": STATE_NAMES[state],
        "reason": reason or None,
        "held": False,
        "missing": [],
        "polled": None,
        "scanning": False,
        "objects": 0,
        "bytes": 0,
        "lag_s": None,
        "backlog_in": {"files": 0, "bytes": 0, "oldest_s": None},
        "backlog_out": [],
        "only_here": {"files": 0, "bytes": 0},
        "staging": {"used_bytes": 0, "quota_bytes": 0},
        "preserved": {"files": 0, "bytes": 0},
        "blocked": [],
        "blocked_count": 0,
    }


def _backlog_json(backlog: Backlog | BacklogOut) -> dict[str, Any]:
    oldest_s = round(backlog.oldest_s, 1) if backlog.oldest_s is not None else None
    return {"files": backlog.files, "bytes": backlog.bytes, "oldest_s": oldest_s}
