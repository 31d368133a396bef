"""The root of a folder: its private directories, its marker, and whether it is still the folder that the catalog means.

The marker is a file with a random id in `.replicad/`. The catalog remembers the id and the marker's inode; as long as
both hold, the root is the directory that was replicated before, on the same disk. An unmounted, emptied or exchanged
root has no such marker, so nothing is concluded from its emptiness (I6). `st_dev` is not used: it changes over reboots.
"""

from __future__ import annotations

import msgspec

from replicad.catalog.changes import SetMeta
from replicad.catalog.store import Catalog
from replicad.core.draft import Draft
from replicad.core.view import ROOT_NODE, STAGING_NODE, Node
from replicad.errors import OperatorError
from replicad.files.fs import DIRECTORY, FileSystem, Stat

PRIVATE_DIRS = (
    b".replicad",
    b".replicad/staging",
    b".replicad/fence",
    b".replicad/ConflictAndDeleted",
    b".replicad/PreExisting",
)
MARKER_PATH = b".replicad/marker"
MARKER_META = "engine.marker"
MARKER_BYTES_MAX = 64


class RootMark(msgspec.Struct, frozen=True, array_like=True):
    """What the catalog remembers of the root's marker."""

    marker: bytes
    inode: int


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(RootMark)


def prepare_root(catalog: Catalog, fs: FileSystem, new_marker: bytes, now_ms: int) -> str:
    """Make the root ready; "" if it holds, else why the folder must not be touched (state 5).

    At the first start the private directories and the marker are made. Later on only a missing private directory is
    made again, and only where the marker holds. Raises OperatorError where the folder cannot be used at all.
    """
    stored = catalog.meta(MARKER_META)
    try:
        if stored is None:
            _make_dirs(fs)
            mark = _write_marker(fs, new_marker)
            _put_fixed_nodes(catalog, fs, mark, now_ms)
            return ""
        reason = root_fault(catalog, fs)
        if not reason:
            _make_dirs(fs)
        return reason
    except OSError as error:
        raise OperatorError(f"the folder cannot be used: {error.strerror or error} ({error.filename!r})") from error


def root_fault(catalog: Catalog, fs: FileSystem) -> str:
    """Why the root is not the folder that the catalog means; "" where it is. Two system calls."""
    stored = catalog.meta(MARKER_META)
    assert stored is not None, "the root is asked about before it was prepared"
    expected = _decoder.decode(stored)
    try:
        stat = fs.stat(MARKER_PATH)
        if stat is None:
            return "the root marker is missing: the folder was emptied, unmounted or replaced"
        with fs.open_read(MARKER_PATH) as file:
            found = file.read_at(0, MARKER_BYTES_MAX)
    except OSError as error:
        return f"the root marker cannot be read: {error.strerror or error}"
    if found.strip() != expected.marker.hex().encode() or stat.inode != expected.inode:
        return "the root marker is another one: this is not the directory that was replicated here"
    return ""


def _make_dirs(fs: FileSystem) -> None:
    for path in PRIVATE_DIRS:
        if fs.stat(path) is None:
            fs.make_dir(path, 0o700)


def _write_marker(fs: FileSystem, marker: bytes) -> RootMark:
    """A marker that lies there already is of a catalog that is lost: it is replaced, as the catalog is new."""
    if fs.stat(MARKER_PATH) is not None:
        fs.unlink(MARKER_PATH)
    with fs.create(MARKER_PATH) as file:
        file.write_at(0, marker.hex().encode() + b"\n")
        file.sync()
        stat = file.stat()
    fs.sync_dirs([b".replicad", b""])
    return RootMark(marker, stat.inode)


def _put_fixed_nodes(catalog: Catalog, fs: FileSystem, mark: RootMark, now_ms: int) -> None:
    draft = Draft(catalog)
    for node, path in ((ROOT_NODE, b""), (STAGING_NODE, b".replicad/staging")):
        stat = fs.stat(path)
        assert stat is not None
        draft.put_node(_fixed(node, path, stat))
    catalog.commit(draft, [SetMeta(MARKER_META, _encoder.encode(mark))], now_ms=now_ms)


def _fixed(node: int, name: bytes, stat: Stat) -> Node:
    return Node(node, 0, name, DIRECTORY, stat.inode, 0, 0, 0, stat.birth_ns, stat.mode)
