"""Start-up: what a crash cut off is finished or undone, from the intents, before anything else looks at the tree.

For each intent the question is where the inode that was to move is now (DESIGN section 3, rule 8; histories S17, S30):

- still at its source: the act was not done; the plan will come to it again;
- gone from staging: the act was done. What came out is where the act or its disposal left it: at the intent's source,
  in staging under another name, or in a store; it is recognised by its inode and inspected like any other;
- a move within the tree was done only if the inode is at the target; where a user has moved it meanwhile the node stays
  where it was, and the scan follows the inode.

An entry that was put and then moved by the user while the daemon was down is entered at its target: the scan finds it
missing there and, by its inode, where it went.

Then staging is cleaned: what no node, no list and no pending object accounts for is preserved, never deleted, unless it
is a half-fetched file of ours.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from replicad.catalog.changes import (
    CONFLICT_AND_DELETED,
    PRE_EXISTING,
    AddOut,
    AddPreserved,
    Change,
    ClearIntents,
    Out,
    Preserved,
)
from replicad.catalog.store import Catalog
from replicad.core.draft import Draft
from replicad.core.ids import Uid
from replicad.core.plan import STAGING_PATH, StepKind
from replicad.core.view import STAGING_NODE
from replicad.core.want import settle
from replicad.engine import acts
from replicad.engine.acts import Done, Surprise
from replicad.engine.apply import finish, staged_name
from replicad.engine.complete import complete
from replicad.engine.disposal import QUIET_MS, OutNote, encode_note, preserve, store_path
from replicad.engine.intents import Intent, Seen, decode_intent
from replicad.files.fs import DIRECTORY, FileSystem, Stat


class Recovered(msgspec.Struct):
    """What start-up found: paths to look at again, acts found done, files in staging that were preserved."""

    dirty: list[bytes] = msgspec.field(default_factory=list)
    done: int = 0
    strays: int = 0


def recover(catalog: Catalog, fs: FileSystem, now_ms: int) -> Recovered:
    """Finish what the last run left. Owns its transaction. Raises OSError, FileTrouble, CatalogError: then no start."""
    recovered = Recovered()
    rows = catalog.intents()
    draft = Draft(catalog)
    changes: list[Change] = []
    touched: set[Uid] = set()
    if rows:
        lying = _lying(fs)
        for row in rows:
            _recover_one(catalog, fs, draft, decode_intent(row.blob), lying, changes, touched, recovered, now_ms)
        changes.append(ClearIntents(tuple(row.intent_id for row in rows)))
        fs.sync_all()
        settle(draft, (), touched)
        catalog.commit(draft, changes, now_ms=now_ms)
    _clean_staging(catalog, fs, recovered, now_ms)
    return recovered


_Lying = dict[int, tuple[str, bytes, Stat]]
"""By inode: (area, name, stat) of everything in staging (area "") and in the stores."""


def _lying(fs: FileSystem) -> _Lying:
    found: _Lying = {}
    for area in ("", CONFLICT_AND_DELETED, PRE_EXISTING):
        at = store_path(area, b"").rstrip(b"/") if area else STAGING_PATH
        for name, stat in fs.list_dir(at):
            found[stat.inode] = (area, name, stat)
    return found


def _recover_one(
    catalog: Catalog,
    fs: FileSystem,
    draft: Draft,
    intent: Intent,
    lying: _Lying,
    changes: list[Change],
    touched: set[Uid],
    recovered: Recovered,
    now_ms: int,
) -> None:
    step = intent.step
    path = intent.source if step.kind in (StepKind.LIFT, StepKind.REMOVE) else intent.target
    if step.kind == StepKind.SET_META:
        _finish_meta(catalog, fs, intent)
    if not _was_done(fs, intent, lying):
        return
    result = _result(fs, intent, lying)
    if isinstance(result, Surprise):
        recovered.dirty.append(result.path)
        if result.keep is not None:
            changes.extend(_keep(catalog, fs, result.keep, path, now_ms))
        return
    recovered.done += 1
    if _is_at_out(fs, intent, result):
        changes.extend(finish(catalog, fs, draft, step, path, result, touched, now_ms))
        return
    lifted = _already_disposed(catalog, intent, path, lying, changes, now_ms)
    touched.update(complete(draft, step, result, lifted))


def _was_done(fs: FileSystem, intent: Intent, lying: _Lying) -> bool:
    step, inode = intent.step, intent.moving.inode
    if not intent.source:
        return _stands_done(fs, intent)
    if step.kind in (StepKind.LIFT, StepKind.REMOVE):
        return inode in lying
    if intent.source.startswith(STAGING_PATH + b"/"):
        stat = fs.stat(intent.source)
        return stat is None or stat.inode != inode
    stat = fs.stat(intent.target)
    return stat is not None and stat.inode == inode


def _stands_done(fs: FileSystem, intent: Intent) -> bool:
    """Of acts that move nothing: whether the disk is as the act would have left it. Who did it does not matter."""
    stat = fs.stat(intent.target)
    match intent.step.kind:
        case StepKind.MAKE_DIR:
            return stat is not None and stat.kind == DIRECTORY
        case StepKind.REMOVE_DIR:
            return stat is None
        case _:
            return stat is not None and stat.inode == intent.moving.inode and stat.size == intent.moving.size


def _finish_meta(catalog: Catalog, fs: FileSystem, intent: Intent) -> None:
    """Mode and mtime may have been set by half. If they are the old or the new ones, set them; else a user set them."""
    state, stat = catalog.object(intent.step.lead), fs.stat(intent.target)
    content = state.record.content if state is not None else None
    if content is None or stat is None or stat.inode != intent.moving.inode:
        return
    if stat.kind == DIRECTORY:
        fs.set_mode(intent.target, content.mode)
    elif stat.mode in (intent.moving.mode, content.mode) and stat.mtime_ns in (intent.moving.mtime_ns, content.mtime_ns):
        fs.set_mode(intent.target, content.mode)
        fs.set_mtime(intent.target, content.mtime_ns)


def _result(fs: FileSystem, intent: Intent, lying: _Lying) -> Done | Surprise:
    step = intent.step
    if step.kind in (StepKind.LIFT, StepKind.REMOVE):
        area, name, stat = lying[intent.moving.inode]
        taken = not area and name == intent.target.rpartition(b"/")[2]
        if step.kind == StepKind.REMOVE and taken and Seen.of(stat) != intent.moving:
            return Surprise(intent.source, keep=intent.target)
        return Done(stat, STAGING_PATH + b"/" + name if not area else None)
    if not intent.source:
        return Done(fs.stat(intent.target))
    stat_now = fs.stat(intent.target)
    if stat_now is None or stat_now.inode != intent.moving.inode:
        stat_now = None
    if step.kind == StepKind.PUT and intent.leaving is not None:
        out = fs.stat(intent.source)
        if out is not None:
            if stat_now is None and Seen.of(out) != intent.leaving:
                return Surprise(intent.target, keep=intent.source)
            inspected = acts.inspect_exchange(fs, intent)
            if isinstance(inspected, Surprise):
                return inspected
            return Done(stat_now or _stat_of(intent.moving), inspected.out)
        return Done(stat_now or _stat_of(intent.moving), None, _out_stat(intent, lying))
    out_stat = fs.stat(intent.source) if step.kind == StepKind.SWAP else None
    if step.kind == StepKind.SWAP and out_stat is None and intent.leaving is not None:
        out_stat = _stat_of(intent.leaving)
    return Done(stat_now or _stat_of(intent.moving), intent.target, out_stat)


def _out_stat(intent: Intent, lying: _Lying) -> Stat | None:
    assert intent.leaving is not None
    found = lying.get(intent.leaving.inode)
    return found[2] if found is not None else _stat_of(intent.leaving)


def _is_at_out(fs: FileSystem, intent: Intent, result: Done) -> bool:
    """Whether what came out lies where the act itself leaves it, so that it is still to be disposed of."""
    if intent.step.kind in (StepKind.LIFT, StepKind.REMOVE):
        return result.out == intent.target
    if intent.step.kind == StepKind.PUT and intent.leaving is not None:
        return result.out is not None
    return True


def _already_disposed(
    catalog: Catalog, intent: Intent, path: bytes, lying: _Lying, changes: list[Change], now_ms: int
) -> bytes:
    """List what was put aside before the crash, but not yet listed; returns its name where it stays a node."""
    seen = intent.leaving if intent.step.kind == StepKind.PUT else intent.moving
    assert seen is not None
    found = lying.get(seen.inode)
    if found is None or seen.kind == DIRECTORY and not intent.step.occupant_stays:
        return b""
    area, name, _stat = found
    if intent.step.occupant_stays or intent.step.kind == StepKind.LIFT:
        return name
    number = catalog.new_id()
    if area:
        kept = Preserved(
            number, area, path, seen.kind, seen.size, b"", None, None, now_ms, intent.step.preserve or "found", name
        )
        changes.append(AddPreserved(kept))
    else:
        note = OutNote(seen, path, b"", 0, b"")
        changes.append(AddOut(Out(number, name, encode_note(note), now_ms + QUIET_MS)))
    return b""


def _keep(catalog: Catalog, fs: FileSystem, at: bytes, path: bytes, now_ms: int) -> list[Change]:
    stat = fs.stat(at)
    if stat is None:
        return []
    note = OutNote(Seen.of(stat), path, b"", 0, b"")
    why = "changed here in the moment in which it was replaced"
    kept = preserve(fs, at, catalog.new_id(), CONFLICT_AND_DELETED, note, why, now_ms)
    return [kept] if kept is not None else []


def _clean_staging(catalog: Catalog, fs: FileSystem, recovered: Recovered, now_ms: int) -> None:
    listed = {out.staging_name for out in catalog.outs(2**62)}
    nodes = {node.name for node in catalog.nodes_in(STAGING_NODE)}
    wanted = _wanted_names(catalog)
    changes: list[Change] = []
    for name, stat in fs.list_dir(STAGING_PATH):
        at = STAGING_PATH + b"/" + name
        if name in listed or name in nodes or wanted(name):
            continue
        if name.startswith(b"new-"):
            (fs.remove_dir if stat.kind == DIRECTORY else fs.unlink)(at)
            continue
        changes.extend(_keep(catalog, fs, at, name, now_ms))
        recovered.strays += 1
    if changes:
        catalog.commit(None, changes, now_ms=now_ms)


def _wanted_names(catalog: Catalog) -> Callable[[bytes], bool]:
    """Which staged names are of content that is still to be installed: they, and what is held of them, are kept."""

    def wanted(name: bytes) -> bool:
        parts = name.split(b"-")
        if len(parts) < 3 or parts[0] != b"new":
            return False
        try:
            uid = bytes.fromhex(parts[1].decode())
        except ValueError:
            return False
        state = catalog.object(uid)
        content = state.record.content if state is not None else None
        return (
            state is not None
            and state.pending
            and content is not None
            and name.startswith(staged_name(uid, content.digest))
        )

    return wanted


def _stat_of(seen: Seen) -> Stat:
    """For an entry that was put, and that a user has moved since: enough to recognise it by."""
    return Stat(seen.kind, seen.inode, seen.size, seen.mtime_ns, 0, 0, seen.mode, 1, 0)
