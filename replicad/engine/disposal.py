"""What came off the disk: preserved for an operator, or kept until quiet and then deleted (I3).

A writer may still hold open a file that has just been replaced or deleted. So nothing is unlinked at once: it lies in
staging for QUIET_MS, is looked at again, and is deleted only when nobody has written to it meanwhile, and nobody has it
open for writing, as far as the system tells; one that was written to is preserved, and so is one that is open for
longer than OPEN_MAX_MS: what is written to it from then on is in the store.

The stores are `.replicad/ConflictAndDeleted` and `.replicad/PreExisting`; an entry is moved there by a rename before
the commit that lists it, so a crash leaves at worst a file in a store that no list names; the next start lists it
(engine.recovery).

RACE: where the system does not tell who has a file open (of another user's files without root, on some network
filesystems), a writer that pauses for longer than QUIET_MS, without closing, and writes again, writes into an unlinked
file. So does one who opens it in the microseconds between that question and the unlinking: by way of another process's
descriptors alone, since staging is nobody's business.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from replicad.catalog.changes import (
    CONFLICT_AND_DELETED,
    PRE_EXISTING,
    AddOut,
    AddPreserved,
    Change,
    Out,
    Preserved,
    RemoveOut,
)
from replicad.catalog.store import Catalog
from replicad.core.ids import ReplicaId, Uid
from replicad.core.steps import Step
from replicad.core.view import Node, ObjectState
from replicad.engine.intents import Seen, in_staging
from replicad.engine.renames import rename
from replicad.files.fs import DIRECTORY, FILE, FileSystem, Stat

QUIET_MS = 5_000
"""An editor that saves in several writes pauses for less."""
OPEN_MAX_MS = 600_000
"""A file that somebody has open for writing lies in staging for so long, against its quota; then it is preserved."""
OUTS_A_STEP = 512
"""How many files are looked at again in one go: each costs a stat and an unlink, some 20 µs."""
NAME_KEPT_BYTES = 200
"""Of the old name, in a store: with the number and the time before it a name stays under 255 bytes."""
CHANGED_IN_THE_MOMENT = "changed here in the moment in which it was replaced"
WRITTEN_TO_SINCE = "written to after it was replaced or deleted"
STILL_OPEN = "open for writing long after it was replaced or deleted"

_encoder = msgspec.msgpack.Encoder()


class OutNote(msgspec.Struct, frozen=True, array_like=True):
    """What is remembered of a file in staging that came out of the tree."""

    seen: Seen
    path: bytes
    uid: Uid
    replica: ReplicaId
    digest: bytes
    since_ms: int = 0
    """When it came out; 0: not known."""


_note_decoder = msgspec.msgpack.Decoder(OutNote)


def note_of(node: Node, path: bytes, tenants: Sequence[ObjectState]) -> OutNote:
    """Of a known entry, with the objects at it."""
    base = next((state.base_content for state in tenants if state.base_content is not None), None)
    uid = tenants[0].record.uid if tenants else b""
    return OutNote(
        Seen.of(node), path, uid, base.replica if base is not None else 0, base.digest if base is not None else b""
    )


def stranger(stat: Stat, path: bytes, replica: ReplicaId = 0) -> OutNote:
    """Of an entry of which nothing is known but what it looks like, and perhaps whose user made it."""
    return OutNote(Seen.of(stat), path, b"", replica, b"")


def store_path(store: str, stored_name: bytes) -> bytes:
    return b".replicad/" + store.encode() + b"/" + stored_name


def stored_name(preserved_id: int, path: bytes, now_ms: int) -> bytes:
    """Its name in a store. The time makes it unique also where a catalog was put back and numbers come again."""
    return b"%d-%x-" % (preserved_id, now_ms) + path.rpartition(b"/")[2][:NAME_KEPT_BYTES]


def store_of(step: Step) -> str:
    """Where what the step takes off the disk is preserved; empty where it need not be."""
    if not step.preserve:
        return ""
    return PRE_EXISTING if step.pre_existing else CONFLICT_AND_DELETED


def keep_until_quiet(staging_name: bytes, out_id: int, note: OutNote, now_ms: int) -> AddOut:
    """A file that came out of the tree stays in staging, under the name that it has there."""
    since = msgspec.structs.replace(note, since_ms=now_ms)
    return AddOut(Out(out_id, staging_name, _encoder.encode(since), now_ms + QUIET_MS))


def preserve(
    fs: FileSystem,
    at: bytes,
    preserved_id: int,
    store: str,
    note: OutNote,
    why: str,
    now_ms: int,
    name: bytes = b"",
    winner: ReplicaId = 0,
) -> Change | None:
    """Move an entry into a store; the change lists it. None where it is no longer there. Raises OSError.

    `winner`: under which what took it off was written; 0: not known.
    """
    name = name or stored_name(preserved_id, note.path, now_ms)
    try:
        rename(fs, at, store_path(store, name))
    except FileNotFoundError:
        if fs.stat(at) is None:
            return None
        fs.make_dir(store_path(store, b"").rstrip(b"/"), 0o700)  # somebody has cleared the store away
        rename(fs, at, store_path(store, name))
    return listed(preserved_id, store, note, why, now_ms, name, winner)


def listed(
    preserved_id: int, store: str, note: OutNote, why: str, now_ms: int, name: bytes, winner: ReplicaId = 0
) -> AddPreserved:
    """The change that lists what lies in a store already."""
    return AddPreserved(
        Preserved(
            preserved_id,
            store,
            note.path,
            note.seen.kind,
            note.seen.size,
            note.digest,
            note.uid or None,
            note.replica or None,
            now_ms,
            why,
            name,
            winner or None,
        )
    )


def settle_outs(catalog: Catalog, fs: FileSystem, now_ms: int) -> None:
    """Those that are due, up to OUTS_A_STEP, in one commit."""
    first_ms = catalog.first_out_ms()
    if first_ms is None or now_ms < first_ms <= now_ms + QUIET_MS:
        return
    # Nothing is kept for longer than that: if the first is due later still, the clock was set back.
    until_ms = now_ms if first_ms <= now_ms else 2**62
    changes: list[Change] = []
    for out in catalog.outs(until_ms, OUTS_A_STEP):
        changes.extend(settle_out(fs, out, catalog.new_id(), CONFLICT_AND_DELETED, now_ms, catalog.replica))
    if changes:
        catalog.commit(None, changes, now_ms=now_ms)


def settle_out(
    fs: FileSystem, out: Out, preserved_id: int, store: str, now_ms: int, replica: ReplicaId = 0
) -> list[Change]:
    """A file whose time has come: deleted if nobody wrote to it, else preserved; where the disk refuses, later.

    `replica`: this member's, whose user wrote to it then.
    """
    try:
        return _settle_out(fs, out, preserved_id, store, now_ms, replica)
    except OSError:
        return _later(out, now_ms)


def _settle_out(
    fs: FileSystem, out: Out, preserved_id: int, store: str, now_ms: int, replica: ReplicaId
) -> list[Change]:
    note = _note_decoder.decode(out.blob)
    at = in_staging(out.staging_name)
    stat = fs.stat(at)
    done: list[Change] = [RemoveOut((out.out_id,))]
    if stat is None:
        return done
    if stat.kind == DIRECTORY or not note.seen.is_version(stat):
        now_seen = msgspec.structs.replace(note, seen=Seen.of(stat), digest=b"", replica=replica)
        kept = preserve(fs, at, preserved_id, store, now_seen, WRITTEN_TO_SINCE, now_ms)
        return [*done, kept] if kept is not None else done
    if stat.kind == FILE and fs.is_open_for_writing(at):
        if note.since_ms <= now_ms < note.since_ms + OPEN_MAX_MS:
            return _later(out, now_ms)
        kept = preserve(fs, at, preserved_id, store, note, STILL_OPEN, now_ms)
        return [*done, kept] if kept is not None else done
    fs.unlink(at)
    return done


def _later(out: Out, now_ms: int) -> list[Change]:
    return [RemoveOut((out.out_id,)), AddOut(msgspec.structs.replace(out, due_ms=now_ms + QUIET_MS))]
