"""`HOME/marks/<folder id>`: how high the folder's catalog has been, and where the home was (engine.height).

Written by a rename, without waiting for the disk: what a power loss takes from it makes the mark lower, or leaves none,
and then it says nothing.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec

from replicad.core.ids import FolderId
from replicad.engine.height import Height

MARKS_DIRECTORY = "marks"
_MACHINE_FILE = Path("/etc/machine-id")
_MARK_BYTES_MAX = 4_096


class _Mark(msgspec.Struct, frozen=True):
    commits: int
    home_inode: int
    machine: str


def read_mark(home: Path, folder: FolderId) -> Height | None:
    """None where there is none, or it cannot be read."""
    try:
        with _path(home, folder).open("rb") as file:
            mark = msgspec.json.decode(file.read(_MARK_BYTES_MAX), type=_Mark)
        return Height(mark.commits, moved=(mark.home_inode, mark.machine) != _place(home))
    except (OSError, msgspec.MsgspecError):
        return None


def write_mark(home: Path, folder: FolderId, commits: int) -> None:
    """What the home's disk refuses is left as it was: a lower mark is as true."""
    path = _path(home, folder)
    beside = path.with_name(path.name + ".new")
    inode, machine = _place(home)
    with contextlib.suppress(OSError):
        path.parent.mkdir(mode=0o700, exist_ok=True)
        beside.write_bytes(msgspec.json.encode(_Mark(commits, inode, machine)))
        beside.replace(path)


def _path(home: Path, folder: FolderId) -> Path:
    return home / MARKS_DIRECTORY / folder.hex()


def _place(home: Path) -> tuple[int, str]:
    try:
        inode = home.stat().st_ino
    except OSError:
        inode = 0
    try:
        machine = _MACHINE_FILE.read_text("ascii", "replace").strip()[:64]
    except OSError:
        machine = ""
    return inode, machine
