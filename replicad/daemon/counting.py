"""Whether a folder's catalog still adds up: now and then its rows are counted anew, beside the folder's work.

SQLite notices a page that is no page, and an index that does not fit its rows, not a value that was changed in them: by
a disk, by memory, by hand. The digest and the sums are kept by differences, so they tell what the rows should add up
to. Where they do not, the catalog is in doubt: that is written into it, and the folder waits as for any catalog that is
corrupt. What lies beyond the sums (what is known of the disk, of peers) is found by other means: it is looked at, and
told, again and again; a manifest is checked when it is used.
"""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

from replicad.catalog.changes import SetMeta
from replicad.catalog.database import MEND
from replicad.catalog.store import Catalog
from replicad.engine.folder import FolderReplica
from replicad.engine.readers import Readers
from replicad.errors import CatalogError

FIRST_S, AGAIN_S = 60.0, 86_400.0
"""After the start, when the first rush is over; then once a day: some 2 s of a thread for 100,000 objects."""
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


def refuse(path: Path, fault: str) -> NoReturn:
    raise CatalogError(f"the catalog {path} cannot be used: it contradicts itself ({fault}); {MEND}")
