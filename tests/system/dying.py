"""A daemon that dies, by SIGKILL, at a named point of its own work: `python -m tests.system.dying` is `replicad`.

`TEST_DIE_AT` is `NAME` or `NAME#N`: at the N-th time that the point is reached (1 to begin with). The points
stand for the places between write, fsync, exchange and commit (docs/durability.md); each lies before or after one call
of the product's, which knows nothing of it.

It belongs to the tests; no product code is in it, and none asks for it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from replicad.catalog.changes import AddIntents, AddPreserved, ClearIntents
from replicad.catalog.store import Catalog
from replicad.cli.main import main
from replicad.engine import fetcher, folder
from replicad.engine.apply import Applier
from replicad.engine.assembly import Assembly
from replicad.engine.exchange_intake import Intake
from replicad.engine.fetcher import Fetcher
from replicad.engine.folder_disk import LocalSide
from replicad.files.real_fs import RealFileSystem, RealOpenFile

SETTING = "TEST_DIE_AT"
STAGING = b".replicad/staging/"
STORES = (b".replicad/ConflictAndDeleted/", b".replicad/PreExisting/")

When = Callable[..., bool]
"""Asked with the call's arguments, whether the point is reached by it."""


@dataclass(frozen=True)
class Point:
    """Before or after a call of `owner.function`."""

    owner: Any
    function: str
    when: When = lambda *arguments, **named: True
    before: bool = False
    within: str = ""
    """Only beneath a call of this one of `NESTING`."""


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _staged(fs: object, path: bytes, *_: object) -> bool:
    return path.startswith(STAGING + b"new-")


def _in_tree(fs: object, path: bytes, *_: object) -> bool:
    return not path.startswith(b".replicad")


def _in_staging(fs: object, path: bytes) -> bool:
    return _staging(path)


def _rename(source: Callable[[bytes], bool], target: Callable[[bytes], bool]) -> When:
    return lambda fs, one, other: source(one) and target(other)


def _tree(path: bytes) -> bool:
    return not path.startswith(b".replicad")


def _staging(path: bytes) -> bool:
    return path.startswith(STAGING)


def _store(path: bytes) -> bool:
    return path.startswith(STORES)


def _of_folder(catalog: Catalog) -> bool:
    return "hierarchy" not in str(catalog._where)


def _with(kind: type) -> When:
    """A commit of which such a change is a part."""

    def asked(catalog: Catalog, draft: object, changes: Sequence[object] = (), *_: object, **named: object) -> bool:
        return _of_folder(catalog) and any(isinstance(change, kind) for change in changes)

    return asked


def _folders(catalog: Catalog, *_: object, **named: object) -> bool:
    return _of_folder(catalog)


def _finds(side: object, draft: Any, *_: object) -> bool:
    return bool(draft.states or draft.nodes)


POINTS: dict[str, Point] = {
    # what was fetched: write, sync
    "fetch: created in staging": Point(RealFileSystem, "create", _staged),
    "fetch: half written": Point(fetcher, "write_sparse"),  # see `_torn`
    "fetch: written": Point(Fetcher, "_write_one"),
    "fetch: before the sync": Point(Fetcher, "_sync", before=True),
    "fetch: synced": Point(Fetcher, "_sync"),
    "fetch: a part of a large file": Point(Assembly, "write"),
    "fetch: a large file before its sync": Point(Assembly, "sync", before=True),
    "fetch: a large file synced": Point(Assembly, "sync"),
    # the batch: intents, acts, sync, commit
    "batch: made in staging": Point(RealFileSystem, "make_symlink", _staged),
    "batch: before the intents": Point(Catalog, "commit", _with(AddIntents), before=True),
    "batch: intents written": Point(Catalog, "_write", _with(AddIntents)),
    "batch: intents committed": Point(Catalog, "commit", _with(AddIntents)),
    "act: before the exchange": Point(RealFileSystem, "exchange", _rename(_staging, _tree), before=True),
    "act: exchanged": Point(RealFileSystem, "exchange", _rename(_staging, _tree)),
    "act: put": Point(RealFileSystem, "rename", _rename(_staging, _tree)),
    "act: moved": Point(RealFileSystem, "rename", _rename(_tree, _tree)),
    "act: taken out": Point(RealFileSystem, "rename", _rename(_tree, _staging)),
    "act: preserved": Point(RealFileSystem, "rename", _rename(_staging, _store)),
    "act: directory made": Point(RealFileSystem, "make_dir", _in_tree),
    "act: directory removed": Point(RealFileSystem, "remove_dir", _in_tree),
    "act: mode set": Point(RealFileSystem, "set_mode", _in_tree),
    "act: mode and mtime set": Point(RealOpenFile, "set_meta"),
    "batch: before the sync": Point(RealFileSystem, "sync_all", before=True, within="Applier._end"),
    "batch: synced": Point(RealFileSystem, "sync_all", within="Applier._end"),
    "batch: written": Point(Catalog, "_write", _with(ClearIntents)),
    "batch: committed": Point(Catalog, "commit", _with(ClearIntents)),
    "batch: committed, with what was preserved": Point(Catalog, "commit", _with(AddPreserved)),
    "batch: before it is told": Point(Applier, "run"),
    "quiet: what came out is deleted": Point(RealFileSystem, "unlink", _in_staging, within="settle_outs"),
    # what its own user did
    "scan: before the sync": Point(RealFileSystem, "sync_all", before=True, within="LocalSide._store"),
    "scan: synced": Point(RealFileSystem, "sync_all", within="LocalSide._store"),
    "scan: written": Point(Catalog, "_write", _folders, within="LocalSide._store"),
    "scan: committed": Point(LocalSide, "_store", _finds),
    # what others tell
    "records: written": Point(Catalog, "_write", _folders, within="Intake._store"),
    "records: committed": Point(Catalog, "commit", _folders, within="Intake._store"),
    # the next start
    "start: before what was cut off is entered": Point(Applier, "_end", before=True, within="Applier.finish_held"),
    "start: what was cut off is entered": Point(Applier, "finish_held"),
    "start: recovered": Point(folder, "recover"),
}

NESTING = {
    "Applier._end": (Applier, "_end"),
    "Applier.finish_held": (Applier, "finish_held"),
    "Intake._store": (Intake, "_store"),
    "LocalSide._store": (LocalSide, "_store"),
    "settle_outs": (folder, "settle_outs"),
}
_inside = threading.local()


def _depths() -> dict[str, int]:
    depths: dict[str, int] = _inside.__dict__.setdefault("depths", {})
    return depths


def _mark(name: str) -> None:
    """Note, for `within`, that a call is under way in this thread."""
    owner, function = NESTING[name]
    called = getattr(owner, function)

    def marked(*arguments: Any, **named: Any) -> Any:
        depths = _depths()
        depths[name] = depths.get(name, 0) + 1
        try:
            return called(*arguments, **named)
        finally:
            depths[name] -= 1

    setattr(owner, function, marked)


def _torn(file: Any, offset: int, data: Any) -> None:
    """Half of it reaches the file."""
    file.write_at(offset, bytes(data)[: len(data) // 2])
    die()


def arm(name: str, count: int) -> None:
    """Have this process die when it comes to the point for the `count`-th time."""
    point = POINTS[name]
    called = _torn if name == "fetch: half written" else getattr(point.owner, point.function)
    whole = getattr(point.owner, point.function)
    lock = threading.Lock()
    left = count

    def reached(*arguments: Any, **named: Any) -> bool:
        nonlocal left
        if (point.within and not _depths().get(point.within)) or not point.when(*arguments, **named):
            return False
        with lock:
            left -= 1
            return left == 0

    def give_back(last: bool) -> None:
        """A call that failed, as where an earlier attempt left its file, has not come to what lies after it."""
        nonlocal left
        if last:
            with lock:
                left = 1

    def wrapped(*arguments: Any, **named: Any) -> Any:
        last = reached(*arguments, **named)
        if last and point.before:
            die()
        try:
            result = (called if last else whole)(*arguments, **named)
        except BaseException:
            give_back(last)
            raise
        if last:
            die()
        return result

    setattr(point.owner, point.function, wrapped)


if __name__ == "__main__":
    if setting := os.environ.get(SETTING):
        chosen, _, nth = setting.partition("#")
        for one in NESTING:
            _mark(one)
        arm(chosen, int(nth or 1))
    sys.exit(main())
