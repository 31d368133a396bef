"""The home: where a member keeps itself, and the names of what lies in it.

replicad.toml    settings, the operator's; `init` and `join` write it once
folders.toml     the folders kept here, replicad's own (see config.kept)
group.json       the group's id, name and members' keys and addresses, so that a lost catalog finds home
identity.*       key and certificate
api.token        the operator API's token
catalog/         one SQLite file per folder and one for the hierarchy
control.sock     the running daemon's socket for the CLI
lock             held by the running daemon, or by a command that works on the home meanwhile
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

CONFIG_FILE = "replicad.toml"
FOLDERS_FILE = "folders.toml"
GROUP_FILE = "group.json"
TOKEN_FILE = "api.token"  # noqa: S105  (a file's name)
CATALOG_DIRECTORY = "catalog"
CONTROL_SOCKET = "control.sock"
LOCK_FILE = "lock"

SERVICE_HOME = Path("/var/lib/replicad")


def default_home(environment: Mapping[str, str]) -> Path:
    """The platform's state directory: root's is the service's."""
    if os.geteuid() == 0:
        return SERVICE_HOME
    state = environment.get("XDG_STATE_HOME", "")
    if state.startswith("/"):
        return Path(state) / "replicad"
    return Path(environment.get("HOME") or "/") / ".local" / "state" / "replicad"
