"""The settings of the rooms above `engine`, and all of a member's settings together.

Each room below declares the settings it takes by itself; what stands here belongs to `config`, `ops` and `daemon`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from replicad.core.lapsing import OFFLINE_LIMIT_MS
from replicad.engine.settings import FolderSettings
from replicad.net.addresses import Address

PEER_PORT = 7722
API_PORT = 7723

DEFAULT_LISTEN = Address("0.0.0.0", PEER_PORT)  # noqa: S104  (peers prove themselves by key)
DEFAULT_API = Address("127.0.0.1", API_PORT)


@dataclass(frozen=True, slots=True)
class MemberSettings:
    """`name` is None where neither the configuration nor the home says one yet."""

    home: Path
    name: str | None = None
    listen: Address = DEFAULT_LISTEN
    advertise: tuple[Address, ...] = ()
    offline_limit_ms: int = OFFLINE_LIMIT_MS
    """How long another member may be away before this one may write it as lapsed."""


@dataclass(frozen=True, slots=True)
class ApiSettings:
    listen: Address = DEFAULT_API
    token_file: Path | None = None
    """None: `api.token` in the home."""


@dataclass(frozen=True, slots=True)
class GroupSettings:
    """A declared group: who knows the secret is a member of it."""

    name: str
    secret_file: Path
    seeds: tuple[Address, ...] = ()


@dataclass(frozen=True, slots=True)
class DeclaredFolder:
    """A folder that this member keeps since the configuration says so."""

    name: str
    path: Path
    settings: FolderSettings = field(default_factory=FolderSettings)
    conflicts: str | None = None
    """Of the whole group; None: nothing is declared of it."""


@dataclass(frozen=True, slots=True)
class LogSettings:
    level: str = "info"


@dataclass(frozen=True, slots=True)
class Settings:
    member: MemberSettings
    api: ApiSettings = field(default_factory=ApiSettings)
    group: GroupSettings | None = None
    folders: tuple[DeclaredFolder, ...] = ()
    log: LogSettings = field(default_factory=LogSettings)
