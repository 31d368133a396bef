"""Start-up: what a crash cut off is finished or undone, before anything else looks at the tree.

First the intents (engine.resume). Then staging is cleaned: what no node, no list, no intent and no pending object
accounts for is preserved, never deleted, unless its name says that it is a content of ours which never left staging.
Then the stores are held against their lists: what lies there unlisted is listed, what is listed and gone is not.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable

import msgspec

from replicad.catalog.changes import CONFLICT_AND_DELETED, PRE_EXISTING, Change, RemovePreserved
from replicad.catalog.store import Catalog
from replicad.core.manifest import SMALL_FILE_BYTES
from replicad.core.steps import STAGING_PATH
from replicad.core.view import STAGING_NODE
from replicad.engine.apply import Applier
from replicad.engine.disposal import listed, preserve, store_path, stranger
from replicad.engine.intents import decode_intent, in_staging
from replicad.engine.preparing import staged_name
from replicad.engine.renames import spare_of
from replicad.engine.resume import WITNESS
from replicad.files.fs import DIRECTORY, FileSystem, Stat

LISTED_A_PAGE = 1_000
"""Rows of preserved files read at a time."""
STRAY = "found in staging after a crash"
UNLISTED = "found in the store after a crash"
_STORED = re.compile(rb"(?:kept-)?[0-9]+-[0-9a-f]+-(.+)", re.DOTALL)


class Recovered(msgspec.Struct):
    """What start-up found: paths to look at again, acts found done, files in staging that were preserved."""

    dirty: list[bytes] = msgspec.field(default_factory=list)
    done: int = 0
    strays: int = 0


def recover(catalog: Catalog, fs: FileSystem, now_ms: int) -> Recovered:
    """Finish what the last run left. Owns its transactions. Raises OSError, CatalogError: then no start."""
    applied = Applier(catalog, fs).finish_held(now_ms)
    recovered = Recovered(applied.dirty, len(applied.done))
    _clean_staging(catalog, fs, recovered, now_ms)
    for store in (CONFLICT_AND_DELETED, PRE_EXISTING):
        _compare_store(catalog, fs, store, now_ms)
    if fs.stat(WITNESS) is None:
        fs.create(WITNESS).close()
    return recovered


def _clean_staging(catalog: Catalog, fs: FileSystem, recovered: Recovered, now_ms: int) -> None:
    accounted = {out.staging_name for out in catalog.outs(2**62, 2**62)}
    accounted |= {node.name for node in catalog.nodes_in(STAGING_NODE)}
    held = [decode_intent(row.blob) for row in catalog.intents()]
    accounted |= {path.rpartition(b"/")[2] for intent in held for path in (intent.source, intent.aside) if path}
    accounted |= {spare_of(name) for name in accounted}
    accounted.add(WITNESS.rpartition(b"/")[2])
    wanted = _wanted_names(catalog)
    changes: list[Change] = []
    for name, stat in fs.list_dir(STAGING_PATH):
        if name in accounted or wanted(name):
            continue
        if name.startswith(b"new-") and _remove(fs, in_staging(name), stat):
            continue
        note = stranger(stat, name)
        kept = preserve(fs, in_staging(name), catalog.new_id(), CONFLICT_AND_DELETED, note, STRAY, now_ms)
        if kept is not None:
            changes.append(kept)
            recovered.strays += 1
    if changes:
        catalog.commit(None, changes, now_ms=now_ms)


def _remove(fs: FileSystem, at: bytes, stat: Stat) -> bool:
    """False where it is a directory of ours that was in the tree for a moment, and got something in it there."""
    try:
        (fs.remove_dir if stat.kind == DIRECTORY else fs.unlink)(at)
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:
            raise
        return False
    return True


def _wanted_names(catalog: Catalog) -> Callable[[bytes], bool]:
    """Which staged names are of large content that is still to be installed: what is held of that counts (R15)."""

    def wanted(name: bytes) -> bool:
        parts = name.split(b"-")
        if len(parts) != 3 or parts[0] != b"new":
            return False
        try:
            uid = bytes.fromhex(parts[1].decode())
        except ValueError:
            return False
        state = catalog.object(uid)
        content = state.record.content if state is not None else None
        if state is None or content is None or not state.pending or content.size <= SMALL_FILE_BYTES:
            return False
        return name == staged_name(uid, content.digest)

    return wanted


def _compare_store(catalog: Catalog, fs: FileSystem, store: str, now_ms: int) -> None:
    """A crash between a rename into the store and its commit leaves a file unlisted; operators clear stores by hand."""
    lying: dict[bytes, Stat] = dict(fs.list_dir(store_path(store, b"").rstrip(b"/")))
    gone: list[int] = []
    after = 0
    while rows := catalog.preserved(LISTED_A_PAGE, after):
        after = rows[-1].preserved_id
        gone += [row.preserved_id for row in rows if row.store == store and not lying.pop(row.stored_name, None)]
    changes: list[Change] = [RemovePreserved(tuple(gone))] if gone else []
    for name, stat in lying.items():
        parts = _STORED.fullmatch(name)
        note = stranger(stat, parts[1] if parts is not None else name)
        changes.append(listed(catalog.new_id(), store, note, UNLISTED, now_ms, name))
    if changes:
        catalog.commit(None, changes, now_ms=now_ms)
