"""The root of a folder: made ready at the start, and held against what the catalog remembers of it (I6).

The catalog remembers the marker's id, its inode, and the filesystem's UUID (files.root_marker). While any of them
differs the folder is not touched, and nothing is concluded from what is missing in it.

A user may have removed `.replicad` alone. Where the root is the very directory that the catalog remembers (its inode,
its birth, its filesystem) and at least half of what the catalog has seen there is at its path, the marker is written
again. Otherwise an operator decides (engine.holds).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import msgspec

from replicad.catalog.changes import SetMeta
from replicad.catalog.store import Catalog
from replicad.core.draft import Draft
from replicad.core.local import LIMBO_NODE
from replicad.core.plan import node_path
from replicad.core.view import FIRST_FREE_NODE, ROOT_NODE, STAGING_NODE, Node
from replicad.errors import FileTrouble, OperatorError
from replicad.files.fs import DIRECTORY, FileSystem, Stat
from replicad.files.root_marker import (
    MARKER,
    STAGING,
    RootIdentity,
    create_layout,
    difference,
    read_marker,
    write_marker,
)

MARKER_META = "engine.marker"
MOVED = (
    "the folder's path leads elsewhere now: the directory was moved, removed, or something is mounted over it; bring it"
    " back, or say where it is now with `replicad folder move`"
)
SAMPLES, SAMPLE_NODES = 1_000, 10
"""Of a large folder so many entries, in so many places, tell whether its objects are at their paths: 10,000 look-ups
are a second, and err by some percent."""


class Evidence(msgspec.Struct, frozen=True):
    """Of the entries that were looked for, so many are at their paths."""

    there: int
    looked_for: int

    @property
    def half(self) -> bool:
        return 2 * self.there >= self.looked_for


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(tuple[bytes, int, bytes | None])


def prepare_root(catalog: Catalog, fs: FileSystem, new_marker: bytes, now_ms: int) -> str:
    """Make the root ready; "" if it holds, else why the folder must not be touched (state 5).

    At the first start the private directories and the marker are made. Later on only a missing private directory is
    made again, and only where the marker holds. Raises OperatorError where the folder cannot be used at all.
    """
    try:
        if catalog.meta(MARKER_META) is None:
            mark_root(catalog, fs, new_marker, now_ms)
            return ""
        reason = root_fault(catalog, fs)
        if not reason:
            create_layout(fs)
        return reason
    except FileTrouble as error:
        raise OperatorError(f"the folder cannot be used: {shown(error.path)} {error.reason}") from error
    except OSError as error:
        raise OperatorError(f"the folder cannot be used: {what_failed(error)}") from error


def what_failed(error: OSError) -> str:
    """`Permission denied: .replicad`; the directory itself where no name is told."""
    name = error.filename if isinstance(error.filename, bytes) else str(error.filename or "").encode()
    return f"{error.strerror or error}: {shown(name) or 'its directory'}; see to its permissions and its disk"


def shown(path: bytes) -> str:
    """On one line."""
    return path.decode("utf-8", "backslashreplace").encode("unicode_escape").decode("ascii") if path else ""


def root_fault(catalog: Catalog, fs: FileSystem) -> str:
    """Why the root is not the folder that the catalog means; "" where it is. Some 30 µs."""
    stored = catalog.meta(MARKER_META)
    assert stored is not None, "the root is asked about before it was prepared"
    try:
        if not fs.root_in_place():
            return MOVED
        return difference(_identity(stored), read_marker(fs)) or ""
    except FileTrouble as error:
        return f"{shown(error.path)} {error.reason}"
    except OSError as error:
        return f"the root marker cannot be read: {error.strerror or error}; see to its permissions and its disk"


@lru_cache(256)
def _identity(stored: bytes) -> RootIdentity:
    """One for each folder that is open: it is looked at before each piece of work."""
    return RootIdentity(*_decoder.decode(stored))


def knows_root(catalog: Catalog) -> bool:
    """Whether it has ever been prepared."""
    return catalog.meta(MARKER_META) is not None


def is_in_question(catalog: Catalog, fs: FileSystem) -> bool:
    """Whether what is open is not the folder's directory, or not to be told from another, or not at its path any more:
    nothing of it is to be held open, or whoever brings the right disk back cannot unmount this one. A directory that
    has only lost its marker is the folder's."""
    if not knows_root(catalog) or not root_fault(catalog, fs):
        return False
    try:
        return not is_same_directory(catalog, fs)
    except OSError:
        return True


def cannot_open(error: OSError) -> str:
    """Why the folder's directory cannot be used, where opening it has failed."""
    name = error.filename if isinstance(error.filename, bytes) else str(error.filename or "").encode()
    return (
        f"cannot open {shown(name) or 'its directory'}: {error.strerror or error}; bring it back, see to its"
        " permissions and its disk, or say where it is now with `replicad folder move`"
    )


def held(catalog: Catalog, fs: FileSystem) -> bool:
    """Whether there is a directory at the folder's path that can be read, and is not the one that was replicated."""
    stored = catalog.meta(MARKER_META)
    if stored is None:
        return False
    try:
        if not fs.root_in_place():
            return False
        return bool(difference(_identity(stored), read_marker(fs)))
    except FileTrouble:
        return True  # something else lies where the marker was
    except OSError:
        return False


def is_same_directory(catalog: Catalog, fs: FileSystem) -> bool:
    """Whether only the marker is missing, and the root is the directory that the catalog remembers. Raises OSError."""
    stored = catalog.meta(MARKER_META)
    root = catalog.node(ROOT_NODE)
    if stored is None or root is None or not fs.root_in_place() or fs.stat(MARKER) is not None:
        return False
    there, filesystem = fs.stat(b""), fs.filesystem_uuid()
    known = _decoder.decode(stored)[2]
    if there is None or (None not in (filesystem, known) and filesystem != known):
        return False
    return (there.inode, there.birth_ns) == (root.inode, root.birth_ns)


def evidence(catalog: Catalog, fs: FileSystem) -> Evidence:
    """How much of what the catalog has seen on the disk is at its path. An entry that cannot be looked at is not."""
    there = looked_for = 0
    for node in _sample(catalog):
        looked_for += 1
        try:
            stat = fs.stat(node_path(catalog, node.id))
        except OSError:
            continue
        there += stat is not None and stat.kind == node.kind
    return Evidence(there, looked_for)


def _sample(catalog: Catalog) -> Iterator[Node]:
    """All entries of a small folder; of a large one some from everywhere."""
    first, end = FIRST_FREE_NODE, catalog.next_node
    step = max(SAMPLE_NODES, (end - first) // SAMPLES)
    for at in range(first, end, step):
        for node in catalog.nodes_after(at - 1, SAMPLE_NODES):
            if node.id < at + step and node.parent not in (STAGING_NODE, LIMBO_NODE):
                yield node


def mark_root(catalog: Catalog, fs: FileSystem, marker: bytes, now_ms: int) -> None:
    """Make the root known again. A marker that lies there already is not this catalog's: it is replaced."""
    create_layout(fs)
    if fs.stat(MARKER) is not None:
        fs.unlink(MARKER)
    mark = write_marker(fs, marker)
    draft = Draft(catalog)
    for node, path in ((ROOT_NODE, b""), (STAGING_NODE, STAGING)):
        stat = fs.stat(path)
        assert stat is not None
        draft.put_node(_fixed(node, path, stat))
    remembered = _encoder.encode((mark.marker, mark.inode, mark.filesystem))
    catalog.commit(draft, [SetMeta(MARKER_META, remembered)], now_ms=now_ms)


def _fixed(node: int, name: bytes, stat: Stat) -> Node:
    return Node(node, 0, name, DIRECTORY, stat.inode, 0, 0, 0, stat.birth_ns, stat.mode)
