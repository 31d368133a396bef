"""What lies in staging, as it is found at the start: `.replicad/staging/`, flat, each entry by one name.

Whose entry is what, and whether it may go, is the engine's to know (rule 8); a name of its own that is not known there
came out of the tree, and is never removed unseen.
"""

from dataclasses import dataclass

from replicad.files.fs import DIRECTORY, FILE, FileSystem, Stat
from replicad.files.paths import join
from replicad.files.root_marker import STAGING


@dataclass(frozen=True, slots=True)
class StagingFound:
    """`entries` by name; `used_bytes` is what their files hold, directories' content included."""

    entries: dict[bytes, Stat]
    used_bytes: int


def staging_path(name: bytes) -> bytes:
    """Of an entry; a name with a slash would leave staging, and is a ValueError."""
    if not name or b"/" in name:
        raise ValueError(f"not a name in staging: {name!r}")
    return join(STAGING, name)


def read_staging(fs: FileSystem) -> StagingFound:
    """Everything in staging. Raises as `list_dir` does: what cannot be read whole must not be taken for empty."""
    entries = dict(fs.list_dir(STAGING))
    used = 0
    waiting = [STAGING]
    while waiting:
        directory = waiting.pop()
        for name, stat in entries.items() if directory == STAGING else fs.list_dir(directory):
            if stat.kind == FILE:
                used += stat.size
            elif stat.kind == DIRECTORY:
                waiting.append(join(directory, name))
    return StagingFound(entries, used)
