"""Every setting there is: section, key, kind, and what it means. The one list for reading, writing and explaining."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from replicad.config.values import ADDRESS, DIALABLE, NAME, PATH, Kind, choice, list_of, seconds, size, whole


@dataclass(frozen=True, slots=True)
class Key:
    """`unset` says what holds where the key is not given."""

    kind: Kind
    means: str
    unset: str


FOLDER = "folder"
"""The one section that repeats: `[[folder]]`."""

SCHEMA: Mapping[str, Mapping[str, Key]] = {
    "member": {
        "name": Key(NAME, "this member's name in the group", "as given to init or join"),
        "home": Key(PATH, "identity, catalogs, control socket", "/var/lib/replicad for root"),
        "listen": Key(ADDRESS, "where peers connect", "0.0.0.0:7722"),
        "advertise": Key(list_of(DIALABLE), "addresses that others are told", "those at which peers see this member"),
        "offline_limit": Key(
            seconds(3_600, 10 * 365 * 86_400, "60d"), "how long another member may be away before it has lapsed", "60d"
        ),
    },
    "api": {
        "listen": Key(ADDRESS, "where the operator API answers over HTTP", "127.0.0.1:7723"),
        "token_file": Key(PATH, "file that holds the API's token", "api.token in the home"),
    },
    "group": {
        "name": Key(NAME, "the group's name", "no declared group"),
        "secret_file": Key(PATH, "file with the secret; who proves to know it is a member", "no declared group"),
        "seeds": Key(list_of(DIALABLE), "members to look for; any that answers will do", "none"),
    },
    FOLDER: {
        "name": Key(NAME, "the folder's name in the group", "needed"),
        "path": Key(PATH, "where it is kept here", "needed"),
        "staging_quota": Key(
            size(2**20, 2**60, "4GiB"), "space for files that are being put together; a larger one passes alone", "4GiB"
        ),
        "scan_interval": Key(seconds(0, 365 * 86_400, "1h"), "how often the whole folder is scanned; 0: never", "1h"),
        "preserved_quota": Key(
            size(0, 2**60, "4GiB"), "ConflictAndDeleted; from 90 % of it on the oldest go, down to 60 %", "4GiB"
        ),
        "preserved_min_age": Key(
            seconds(0, 10 * 365 * 86_400, "30d"), "what is younger stays there, whatever the quota", "30d"
        ),
        "tombstone_lifetime": Key(
            seconds(3_600, 10 * 365 * 86_400, "60d"), "how long a deletion is remembered at least", "60d"
        ),
        "scan_deletions_max": Key(
            whole(0, 10**9, "1000"),
            "objects that a scan may find deleted; more, and a quarter of the folder, wait for `hold approve`",
            "1000",
        ),
        "conflicts": Key(
            choice("preserve", "sibling"),
            "the loser of a name is preserved, or stands beside the winner; one setting of the whole group",
            "preserve",
        ),
    },
    "log": {
        "level": Key(choice("debug", "info", "warning", "error"), "what goes to stderr", "info"),
    },
}

FOLDER_SETTINGS = (
    "staging_quota",
    "scan_interval",
    "preserved_quota",
    "preserved_min_age",
    "tombstone_lifetime",
    "scan_deletions_max",
)
"""Keys of a folder that can be set where it is not declared, too (`replicad folder set`)."""
GROUP_FOLDER_SETTINGS = ("conflicts",)
"""Those that hold for the folder on every member: they are in the hierarchy."""

REQUIRED: Mapping[str, tuple[str, ...]] = {"group": ("name", "secret_file"), FOLDER: ("name", "path")}
"""Keys that a section cannot do without, once it is there."""
