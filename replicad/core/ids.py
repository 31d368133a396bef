"""Identities: replica ids, CNs, UIDs, member ids.

A *replica id* names one life of one member's catalog of one folder (or of the hierarchy); a *CN* is one change made
under it; an object's *UID* is the CN of its creation, written as bytes, or for an original a function of what it is
(DESIGN section 3, rule 6). The two forms differ in length, so they can never be taken for each other.
"""

from __future__ import annotations

import msgspec
from blake3 import blake3

ReplicaId = int
"""Unsigned, 64 bits, random, never 0."""
Uid = bytes
"""16 bytes: made by a CN. 20 bytes: an original, or a named entry of the hierarchy. Empty: the folder's root."""
MemberId = str
"""Lower-case hex of the SHA-256 of the member's certificate (DER): 64 characters."""
FolderId = bytes
"""16 bytes; b"" stands for the hierarchy where a channel is meant."""

ROOT: Uid = b""
REPLICA_MAX = 2**64 - 1
COUNTER_MAX = 2**63 - 1
CREATED_UID_BYTES = 16
ORIGINAL_UID_BYTES = 20
MEMBER_ID_CHARACTERS = 64


class Cn(msgspec.Struct, frozen=True, array_like=True, order=True, gc=False):
    """One change: `counter` counts from 1 under `replica` and is never used twice (I5)."""

    replica: ReplicaId
    counter: int


def uid_of(cn: Cn) -> Uid:
    """The UID of the object that was created by the change `cn`."""
    return cn.replica.to_bytes(8, "big") + cn.counter.to_bytes(8, "big")


def created_by(uid: Uid) -> Cn | None:
    """The change that created the object; None of an original, or a named entry: it has no one such change."""
    if len(uid) != CREATED_UID_BYTES:
        return None
    return Cn(int.from_bytes(uid[:8], "big"), int.from_bytes(uid[8:], "big"))


def original_uid(folder: FolderId, path: bytes, kind: int, digest: bytes) -> Uid:
    """The UID of an original: members that found a folder together give equal objects the same one (rule 6).

    `path` is relative to the root; `digest` is empty for a directory, the target for a symlink.
    """
    parts = b"".join(len(part).to_bytes(4, "big") + part for part in (folder, path, bytes([kind]), digest))
    return blake3(parts, derive_key_context="replicad 1 original").digest(length=ORIGINAL_UID_BYTES)


def named_uid(key: bytes) -> Uid:
    """The UID of the hierarchy's entry called `key`: members that write it at once write the same object."""
    return blake3(key, derive_key_context="replicad 1 entry").digest(length=ORIGINAL_UID_BYTES)
