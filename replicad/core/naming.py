"""Names become ids: members declared alike are one group with the same folders, whoever starts first (DESIGN 5).

Everything here is a pure function of what an operator declared, or of the founder's key.

A declared secret may be one that a person made up, and the group's id is not kept secret (it stands in every token): so
the secret goes through scrypt first, and who holds an id, or a proof made with the join key, pays for every guess.
"""

from __future__ import annotations

import hashlib

from blake3 import blake3

from replicad.core.ids import FolderId, MemberId

GroupId = bytes
"""16 bytes."""

GROUP_ID_BYTES = 16
FOLDER_ID_BYTES = 16
JOIN_KEY_BYTES = 32

# 16 MiB and some 40 ms a guess: a daemon computes it twice in its life.
_SCRYPT_N, _SCRYPT_R, _SCRYPT_P = 2**14, 8, 1


def group_id_from_secret(secret: bytes, name: str) -> GroupId:
    """The id of the declared group called `name`."""
    return blake3(_stretched(secret, name), derive_key_context="replicad 1 group of a secret").digest(GROUP_ID_BYTES)


def join_key_from_secret(secret: bytes, name: str) -> bytes:
    """32 bytes, with which two who know the secret prove it to each other (net.proof)."""
    return blake3(_stretched(secret, name), derive_key_context="replicad 1 join by secret").digest(JOIN_KEY_BYTES)


def group_id_from_founder(member_id: MemberId, name: str) -> GroupId:
    """The id of the group called `name` that `member_id` founded with `replicad init`."""
    parts = _joined(bytes.fromhex(member_id), name.encode())
    return blake3(parts, derive_key_context="replicad 1 group of a founder").digest(GROUP_ID_BYTES)


def folder_id(group_id: GroupId, name: str) -> FolderId:
    """The id of the folder called `name` in a group."""
    return blake3(_joined(group_id, name.encode()), derive_key_context="replicad 1 folder").digest(FOLDER_ID_BYTES)


def _stretched(secret: bytes, name: str) -> bytes:
    salt = blake3(name.encode(), derive_key_context="replicad 1 secret salt").digest()
    return hashlib.scrypt(secret, salt=salt, n=_SCRYPT_N, r=_SCRYPT_R, p=_SCRYPT_P, dklen=32)


def _joined(*parts: bytes) -> bytes:
    """With lengths, so that no two lists of parts are one."""
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)
