"""What in a folder's root is replicad's own, and how the root is known again (I6).

`.replicad/marker` holds a random id. A root is the one that was replicated before if its marker has the same id *and*
the same inode, on a filesystem with the same UUID where the system tells it: an emptied or unmounted root has no
marker, a copied one has the id in another inode, a cloned disk another UUID. Never `st_dev` or `f_fsid`: both change
over mounts.

A user may remove all of this (`rm -rf`, `git clean -fdx`); `create_layout` makes it again. What becomes of a root
without its marker is the engine's to decide.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

from replicad.errors import FileTrouble
from replicad.files.fs import DIRECTORY, FileSystem
from replicad.files.paths import PRIVATE

MARKER = PRIVATE + b"/marker"
STAGING = PRIVATE + b"/staging"
FENCE = PRIVATE + b"/fence"
CONFLICT_AND_DELETED = PRIVATE + b"/ConflictAndDeleted"
PRE_EXISTING = PRIVATE + b"/PreExisting"
DIRECTORIES = (PRIVATE, STAGING, FENCE, CONFLICT_AND_DELETED, PRE_EXISTING)

MODE = 0o700
"""What lies here may be anyone's content; who may read it in the tree is not known here."""
MARKER_ID_BYTES = 16
MARKER_BYTES_MAX = 1024

_TEXT = (
    b"replicad root marker %s\n"
    b"By this file replicad knows this directory again. Without it nothing is replicated from here.\n"
)
_LINE = re.compile(rb"replicad root marker ([0-9a-f]{32})\n")


@dataclass(frozen=True, slots=True)
class RootIdentity:
    """By what a root is known again; `filesystem` is None where the system does not tell."""

    marker: bytes
    inode: int
    filesystem: bytes | None


def create_layout(fs: FileSystem) -> list[bytes]:
    """Make what is missing of `.replicad/` and its directories, durably; returns what was made.

    FileTrouble where something else has such a name: it is a user's, and stays.
    """
    made: list[bytes] = []
    for path in DIRECTORIES:
        there = fs.stat(path)
        if there is None:
            fs.make_dir(path, MODE)
            made.append(path)
        elif there.kind != DIRECTORY:
            raise FileTrouble(path, "is not a directory, and replicad needs one of that name; move it away")
    if made:
        fs.sync_dirs([b"", PRIVATE])
    return made


def read_marker(fs: FileSystem) -> RootIdentity | None:
    """The identity of the root as it is; None where there is no marker.

    FileTrouble where the marker is not one; other errors as the disk gives them.
    """
    there = fs.stat(MARKER)
    if there is None:
        return None
    with fs.open_read(MARKER) as file:
        text = file.read_at(0, MARKER_BYTES_MAX)
        inode = file.stat().inode
    return RootIdentity(_marker_in(text), inode, fs.filesystem_uuid())


@lru_cache(256)
def _marker_in(text: bytes) -> bytes:
    """One for each folder that is open: it is read before each piece of work."""
    match = _LINE.match(text)
    if match is None:
        raise FileTrouble(MARKER, "is damaged: it holds no marker", transient=False)
    return bytes.fromhex(match[1].decode("ascii"))


def write_marker(fs: FileSystem, marker: bytes) -> RootIdentity:
    """Mark a root that has none (FileExistsError where it has), whole and durable or not at all."""
    if len(marker) != MARKER_ID_BYTES:
        raise ValueError(f"a marker has {MARKER_ID_BYTES} bytes, not {len(marker)}")
    new = STAGING + b"/marker-" + marker.hex().encode("ascii")
    if fs.stat(new) is not None:
        fs.unlink(new)  # of a start that did not come to its end
    with fs.create(new) as file:
        file.write_at(0, _TEXT % marker.hex().encode("ascii"))
        file.sync()
        inode = file.stat().inode
    try:
        fs.rename(new, MARKER)
    except FileExistsError:
        fs.unlink(new)
        raise
    fs.sync_dirs([PRIVATE, STAGING])
    return RootIdentity(marker, inode, fs.filesystem_uuid())


def difference(known: RootIdentity, found: RootIdentity | None) -> str | None:
    """Why the root that was found is not the one that is known; None where it is."""
    if found is None:
        return "the root marker is missing: the folder was emptied, unmounted or replaced, or .replicad was removed"
    if found.marker != known.marker:
        return "the root marker is another one: this is not the directory that was replicated here"
    if found.inode != known.inode:
        return "the root marker is a copy: this directory was copied or restored from the one that was replicated"
    if None not in (found.filesystem, known.filesystem) and found.filesystem != known.filesystem:
        return "the filesystem is another one than that in which this folder was replicated"
    return None
