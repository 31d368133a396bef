"""The root of a folder: made ready at the start, and held against what the catalog remembers of it (I6).

The catalog remembers the marker's id, its inode, and the filesystem's UUID (files.root_marker). While any of them
differs the folder is not touched, and nothing is concluded from what is missing in it.
"""

from __future__ import annotations

import msgspec

from replicad.catalog.changes import SetMeta
from replicad.catalog.store import Catalog
from replicad.core.draft import Draft
from replicad.core.view import ROOT_NODE, STAGING_NODE, Node
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
MOVED = "the folder's path leads elsewhere now: the directory was moved, removed, or something is mounted over it"

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(tuple[bytes, int, bytes | None])


def prepare_root(catalog: Catalog, fs: FileSystem, new_marker: bytes, now_ms: int) -> str:
    """Make the root ready; "" if it holds, else why the folder must not be touched (state 5).

    At the first start the private directories and the marker are made. Later on only a missing private directory is
    made again, and only where the marker holds. Raises OperatorError where the folder cannot be used at all.
    """
    try:
        if catalog.meta(MARKER_META) is None:
            create_layout(fs)
            _mark(catalog, fs, new_marker, now_ms)
            return ""
        reason = root_fault(catalog, fs)
        if not reason:
            create_layout(fs)
        return reason
    except FileTrouble as error:
        raise OperatorError(f"the folder cannot be used: {error}") from error
    except OSError as error:
        raise OperatorError(f"the folder cannot be used: {error.strerror or error} ({error.filename!r})") from error


def root_fault(catalog: Catalog, fs: FileSystem) -> str:
    """Why the root is not the folder that the catalog means; "" where it is. Some 30 µs."""
    stored = catalog.meta(MARKER_META)
    assert stored is not None, "the root is asked about before it was prepared"
    if not fs.root_in_place():
        return MOVED
    try:
        return difference(RootIdentity(*_decoder.decode(stored)), read_marker(fs)) or ""
    except FileTrouble as error:
        return str(error)
    except OSError as error:
        return f"the root marker cannot be read: {error.strerror or error}"


def _mark(catalog: Catalog, fs: FileSystem, marker: bytes, now_ms: int) -> None:
    """A marker that lies there already is of a catalog that is lost: it is replaced, as the catalog is new."""
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
