"""What the transfer brought: manifests go to the catalog, objects whose content is there to the workbench, and what
nobody wants any more is removed from staging."""

from __future__ import annotations

from replicad.catalog.changes import Change, Manifest, PutManifest
from replicad.catalog.store import Catalog
from replicad.core.effects import Fetched
from replicad.core.fetching import Fetching
from replicad.core.ids import Uid
from replicad.engine.workbench import Workbench, remove_staged
from replicad.files.fs import FileSystem


def take_fetched(
    fetched: Fetched, catalog: Catalog, fs: FileSystem, fetching: Fetching, workbench: Workbench, now_ms: int
) -> None:
    """Commits the manifests. Raises CatalogError."""
    workbench.offer(fetching.finish(fetched.ticket, fetched.items, now_ms))
    manifests: list[Change] = []
    stale: list[bytes] = []
    for item in fetched.items:
        if item.manifest and not item.reason:
            want = fetching.wanted(item.uid)
            manifests.append(PutManifest(Manifest(item.digest, item.manifest, want.size if want else 0)))
        if not fetching.staged(item.uid, item.digest) and not _still_wanted(fetching, item.uid, item.digest):
            stale.append(item.staged)
    if manifests:
        catalog.commit(None, manifests, now_ms=now_ms)
    remove_staged(fs, stale)


def _still_wanted(fetching: Fetching, uid: Uid, digest: bytes) -> bool:
    want = fetching.wanted(uid)
    return want is not None and want.digest == digest
