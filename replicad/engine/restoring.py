"""Preserved files brought back into the tree, or deleted, because an operator says so (docs/preserved.md).

Brought back is a rename out of the store to a free name: never over anything. To the folder that is a new file, found
by the scan like any other; its object has nothing to do with the one that lost. A crash between the rename and its
commit leaves a row of a file that is gone; the next start takes it off the list (engine.recovery).

A file that lost its name is copied: its object is hidden and may come up again, and then what is preserved of it may be
all that there is of its content (docs/PROTOCOL.md, section 9), whatever has become of what was brought back. The copy
is whole before it has a name in the tree (I4); after a crash it is cleaned away with staging. A large file is copied in
steps, between which the folder does its other work (engine.copying_back). No copy takes the disk's last free space.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

from replicad.catalog.changes import Preserved, RemovePreserved
from replicad.catalog.store import Catalog
from replicad.core.preserving import LOST_ITS_NAME
from replicad.core.records import NAME_BYTES_MAX, usable_name
from replicad.core.tree_siblings import with_mark
from replicad.engine.collecting import remove_stored, reserve_bytes
from replicad.engine.disposal import store_path
from replicad.engine.intents import in_staging
from replicad.engine.renames import rename, trouble
from replicad.errors import OperatorError
from replicad.files.fs import DIRECTORY, FILE, FileSystem, Stat
from replicad.files.paths import join, split
from replicad.files.sparse import write_sparse

NAMES_TRIED_MAX = 1_000
"""Beside a name that is taken; who has restored as many is told to say where."""
COPIED_AT_ONCE_BYTES = 1_048_576
STEP_BYTES = 8 * 1_048_576
"""Copied and synced in one go, some 20 ms: the folder's thread does nothing else meanwhile."""
DIRECTORY_MODE = 0o755
"""Of directories that are made for what is brought back."""
PRIVATE = b".replicad"


def restore(catalog: Catalog, fs: FileSystem, preserved_id: int, to: bytes, now_ms: int) -> bytes:
    """Bring one back; returns its path. `to` empty: where it was, or beside that. Raises OperatorError."""
    row, stat = find(catalog, fs, preserved_id, now_ms)
    try:
        if must_copy(row, stat):
            copy = Copy(fs, row, stat)
            try:
                while not copy.step():
                    pass
                return copy.bring(to)
            finally:
                copy.close()
        path = _to_its_place(fs, store_path(row.store, row.stored_name), to, row.path)
    except OSError as error:
        raise cannot(to or row.path, error) from error
    catalog.commit(None, [RemovePreserved((preserved_id,))], now_ms=now_ms)
    return path


def find(catalog: Catalog, fs: FileSystem, preserved_id: int, now_ms: int) -> tuple[Preserved, Stat]:
    """What is to be brought back. One that is gone is taken off the list. Raises OperatorError."""
    row = catalog.preserved_file(preserved_id)
    if row is None:
        raise OperatorError(f"no preserved file has the number {preserved_id} here: see `replicad preserved list`")
    try:
        stat = fs.stat(store_path(row.store, row.stored_name))
    except OSError as error:
        raise cannot(row.path, error) from error
    if stat is None:
        catalog.commit(None, [RemovePreserved((preserved_id,))], now_ms=now_ms)
        raise OperatorError("it is not in its store any more: somebody has removed it there")
    return row, stat


def must_copy(row: Preserved, stat: Stat) -> bool:
    return row.why == LOST_ITS_NAME and stat.kind == FILE


def cannot(path: bytes, error: OSError) -> OperatorError:
    return OperatorError(f"it cannot be brought back: {trouble(path, error).reason}")


class Copy:
    """Of one preserved file, in staging. Made, `step`ped until that returns True, brought; closed whatever comes."""

    def __init__(self, fs: FileSystem, row: Preserved, stat: Stat) -> None:
        """Raises OSError."""
        self._fs = fs
        self._row = row
        self._stat = stat
        self._offset = 0
        self._copy = in_staging(b"new-restored-%d" % row.preserved_id)
        self._remove()
        self._read = fs.open_read(store_path(row.store, row.stored_name))
        try:
            self._size = self._read.stat().size
            self._written = fs.create(self._copy)
        except OSError:
            self._read.close()
            raise

    def step(self) -> bool:
        """Copy a bounded piece, durably; returns whether that was the last. Raises OSError, OperatorError."""
        if self._offset == 0:
            self._written.truncate(self._size)
        end = min(self._size, self._offset + STEP_BYTES)
        if self._fs.free_bytes() - (end - self._offset) < reserve_bytes(self._fs):
            raise OperatorError(f"its copy needs {self._size} bytes, and the disk has not so much room left")
        for offset in range(self._offset, end, COPIED_AT_ONCE_BYTES):
            write_sparse(self._written, offset, self._read.read_at(offset, min(COPIED_AT_ONCE_BYTES, end - offset)))
        if end == self._size:
            self._written.set_meta(self._stat.mode, self._stat.mtime_ns)
        self._written.sync()
        self._offset = end
        return end == self._size

    def bring(self, to: bytes) -> bytes:
        """The whole copy into the tree; its path. Raises OSError, OperatorError."""
        return _to_its_place(self._fs, self._copy, to, self._row.path)

    def close(self) -> None:
        """What was not brought is removed. What the disk does not let go of lies in staging until the next start."""
        self._read.close()
        self._written.close()
        with contextlib.suppress(OSError):
            self._remove()

    def _remove(self) -> None:
        if self._fs.stat(self._copy) is not None:
            self._fs.unlink(self._copy)


def delete(catalog: Catalog, fs: FileSystem, preserved_ids: Iterable[int], now_ms: int) -> tuple[int, int]:
    """For good; returns (files, bytes). Numbers that are not listed are passed over. Raises OperatorError."""
    gone: list[int] = []
    size = 0
    try:
        for number in preserved_ids:
            row = catalog.preserved_file(number)
            if row is not None:
                remove_stored(fs, row)
                gone.append(number)
                size += row.size
    except OSError as error:
        raise OperatorError(f"it cannot be deleted: {trouble(row.path if row else b'', error).reason}") from error
    finally:
        if gone:
            catalog.commit(None, [RemovePreserved(tuple(gone))], now_ms=now_ms)
    return len(gone), size


def _to_its_place(fs: FileSystem, source: bytes, to: bytes, was: bytes) -> bytes:
    return _bring(fs, source, to) if to else _bring_back(fs, source, was)


def _bring(fs: FileSystem, source: bytes, to: bytes) -> bytes:
    parts = to.split(b"/")
    if not all(usable_name(part) for part in parts) or parts[0] == PRIVATE:
        raise OperatorError("--to: a path in the folder is wanted, without . and .. in it")
    directory = split(to)[0]
    in_the_way = _make_way(fs, directory)
    if in_the_way is not None:
        raise OperatorError(f"--to: {_text(in_the_way)} is no directory")
    try:
        rename(fs, source, to)
    except FileExistsError as error:
        raise OperatorError(f"--to: {_text(to)} is taken: nothing is overwritten") from error
    return to


def _bring_back(fs: FileSystem, source: bytes, path: bytes) -> bytes:
    directory, name = split(path)
    if path.split(b"/")[0] == PRIVATE:
        directory = b""  # what lay in staging has no place to go back to
    while (in_the_way := _make_way(fs, directory)) is not None:
        directory = split(in_the_way)[0]  # a file stands where a directory was: beside it
    for candidate in _names(name):
        try:
            rename(fs, source, join(directory, candidate))
        except FileExistsError:
            continue
        return join(directory, candidate)
    raise OperatorError("every name beside it is taken: say with --to where it should go")


def _make_way(fs: FileSystem, directory: bytes) -> bytes | None:
    """The directory and those above it; returns the first on the way that is something else."""
    at = b""
    for name in directory.split(b"/") if directory else ():
        at = join(at, name)
        stat = fs.stat(at)
        if stat is None:
            fs.make_dir(at, DIRECTORY_MODE)
        elif stat.kind != DIRECTORY:
            return at
    return None


def _names(name: bytes) -> Iterator[bytes]:
    yield name[:NAME_BYTES_MAX]
    yield with_mark(name, b" (restored)")
    for number in range(2, NAMES_TRIED_MAX):
        yield with_mark(name, b" (restored %d)" % number)


def _text(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")
