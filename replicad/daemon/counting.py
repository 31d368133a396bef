"""Whether a folder's catalog still adds up: now and then its rows are counted anew, beside the folder's work.

Each row is held against its sum when it is read (catalog.sums). Here all are read, and with them what no row tells: an
index that does not fit its rows, and what the rows add up to, which is kept by differences. Where that is not so the
catalog is in doubt: that is written into it, and the folder waits as for any catalog that is corrupt.
"""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

from replicad.catalog.changes import SetMeta
from replicad.catalog.store import Catalog, contradiction
from replicad.engine.folder import FolderReplica
from replicad.engine.readers import Readers

FIRST_S, AGAIN_S = 60.0, 86_400.0
"""After the start, when the first rush is over; then once a day: some 2 s of a thread for 100,000 objects."""
AT_ONCE_BYTES = 4 * 1024 * 1024
"""A file up to this is counted before its folder begins: some 10,000 objects, 0.2 s."""
DOUBT_META = "daemon.doubt"


def first_fault(readers: Readers) -> str:
    """In what the catalog contradicts itself, the first of it; "" where all is well. Blocking."""
    with readers.reader(fresh=True) as reader:
        return next(iter(reader.faults()), "")


def doubt(replica: FolderReplica, fault: str, now_ms: int) -> None:
    """Committed when it returns; the replica is to end then. On its thread."""
    replica.catalog.commit(None, [SetMeta(DOUBT_META, fault.encode())], now_ms=now_ms)


def check_undoubted(catalog: Catalog, path: Path) -> None:
    """Raises CatalogError where it was found to contradict itself."""
    fault = catalog.meta(DOUBT_META)
    if fault is not None:
        refuse(path, fault.decode(errors="replace"))


def check_before_use(catalog: Catalog, path: Path) -> None:
    """Raises CatalogError where the catalog contradicts itself. On its thread, before it is used: what an index hides
    is then believed by nobody. Of a large one only what says whether an entry of the disk is known is looked at: a
    file that is taken for a new one is told to everybody."""
    small = path.stat().st_size <= AT_ONCE_BYTES
    with catalog.reader() as reader:  # a cache that is full of it would go on without the file for a while
        fault = next(iter(reader.faults()), "") if small else reader.unsound_entries()
    if fault:
        refuse(path, fault)


def refuse(path: Path, fault: str) -> NoReturn:
    raise contradiction(path, fault)
