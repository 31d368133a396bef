"""Preserved files brought back into the tree, or deleted, because an operator says so (docs/preserved.md).

Brought back is a rename out of the store to a free name: never over anything. To the folder that is a new file, found
by the scan like any other; its object has nothing to do with the one that lost. A crash between the rename and its
commit leaves a row of a file that is gone; the next start takes it off the list (engine.recovery).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from replicad.catalog.changes import RemovePreserved
from replicad.catalog.store import Catalog
from replicad.core.records import NAME_BYTES_MAX, usable_name
from replicad.core.tree_siblings import with_mark
from replicad.engine.collecting import remove_stored
from replicad.engine.disposal import store_path
from replicad.engine.renames import rename, trouble
from replicad.errors import OperatorError
from replicad.files.fs import DIRECTORY, FileSystem
from replicad.files.paths import join, split

NAMES_TRIED_MAX = 1_000
"""Beside a name that is taken; who has restored as many is told to say where."""
DIRECTORY_MODE = 0o755
"""Of directories that are made for what is brought back."""
PRIVATE = b".replicad"


def restore(catalog: Catalog, fs: FileSystem, preserved_id: int, to: bytes, now_ms: int) -> bytes:
    """Bring one back; returns its path. `to` empty: where it was, or beside that. Raises OperatorError."""
    row = catalog.preserved_file(preserved_id)
    if row is None:
        raise OperatorError(f"no preserved file has the number {preserved_id} here: see `replicad preserved list`")
    source = store_path(row.store, row.stored_name)
    try:
        if fs.stat(source) is None:
            catalog.commit(None, [RemovePreserved((preserved_id,))], now_ms=now_ms)
            raise OperatorError("it is not in its store any more: somebody has removed it there")
        path = _bring(fs, source, to) if to else _bring_back(fs, source, row.path)
    except OSError as error:
        raise OperatorError(f"it cannot be brought back: {trouble(to or row.path, error).reason}") from error
    catalog.commit(None, [RemovePreserved((preserved_id,))], now_ms=now_ms)
    return path


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
