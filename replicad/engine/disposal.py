"""What came off the disk: preserved for an operator, or kept until quiet and then deleted (I3).

A writer may still hold open a file that has just been replaced or deleted. So nothing is unlinked at once: it lies in
staging for QUIET_MS, is looked at again, and is deleted only when nobody has written to it meanwhile; else it is
preserved. The stores are `.replicad/ConflictAndDeleted` and `.replicad/PreExisting`; an entry is moved there by a
rename before the commit that lists it, so a crash leaves at worst a file in a store that no list names yet.
"""

from __future__ import annotations

import msgspec

from replicad.catalog.changes import AddOut, AddPreserved, Change, Out, Preserved, RemoveOut
from replicad.core.ids import ReplicaId, Uid
from replicad.core.plan import STAGING_PATH
from replicad.engine.intents import Seen
from replicad.files.fs import DIRECTORY, FileSystem

QUIET_MS = 5_000
"""An editor that saves in several writes pauses for less."""
OUTS_A_STEP = 512
"""How many files are looked at again in one go: each costs a stat and an unlink, some 20 µs."""
NAME_KEPT_BYTES = 200
"""Of the old name, in a store: with the number before it a name stays under 255 bytes."""

_encoder = msgspec.msgpack.Encoder()


class OutNote(msgspec.Struct, frozen=True, array_like=True):
    """What is remembered of a file in staging that came out of the tree."""

    seen: Seen
    path: bytes
    uid: Uid
    replica: ReplicaId
    digest: bytes


_note_decoder = msgspec.msgpack.Decoder(OutNote)


def encode_note(note: OutNote) -> bytes:
    return _encoder.encode(note)


def store_path(store: str, stored_name: bytes) -> bytes:
    return b".replicad/" + store.encode() + b"/" + stored_name


def keep_until_quiet(fs: FileSystem, at: bytes, out_id: int, note: OutNote, now_ms: int) -> Change:
    """Take a file that came out of the tree, now at `at` in staging, aside; the change lists it. Raises OSError."""
    name = b"out-%d" % out_id
    fs.rename(at, STAGING_PATH + b"/" + name)
    return AddOut(Out(out_id, name, encode_note(note), now_ms + QUIET_MS))


def preserve(
    fs: FileSystem, at: bytes, preserved_id: int, store: str, note: OutNote, why: str, now_ms: int
) -> Change | None:
    """Move an entry into a store; the change lists it. None where it is no longer there. Raises OSError."""
    name = b"%d-" % preserved_id + note.path.rpartition(b"/")[2][:NAME_KEPT_BYTES]
    try:
        fs.rename(at, store_path(store, name))
    except FileNotFoundError:
        return None
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
        )
    )


def settle_out(fs: FileSystem, out: Out, preserved_id: int, store: str, now_ms: int) -> list[Change]:
    """A file whose time has come: deleted if nobody wrote to it, else preserved. Raises OSError."""
    note = _note_decoder.decode(out.blob)
    at = STAGING_PATH + b"/" + out.staging_name
    stat = fs.stat(at)
    done: list[Change] = [RemoveOut((out.out_id,))]
    if stat is None:
        return done
    if stat.kind == DIRECTORY or Seen.of(stat) != note.seen:
        now_seen = msgspec.structs.replace(note, seen=Seen.of(stat), digest=b"")
        kept = preserve(fs, at, preserved_id, store, now_seen, "written to after it was replaced or deleted", now_ms)
        return [*done, kept] if kept is not None else done
    fs.unlink(at)
    return done
