"""Intents: what is about to be done to the tree, durable before it is done (DESIGN section 3, rule 8).

After a crash an intent, not a guess from paths, tells whether its act was done: by where the inode that was to be moved
is now. It also holds what was expected to come out, so that a file which came out of the tree unexpected is recognised
as somebody's change (I3), also after the crash.
"""

from __future__ import annotations

import msgspec

from replicad.core.plan import Step
from replicad.errors import CatalogError
from replicad.files.fs import DIRECTORY, Stat


class Seen(msgspec.Struct, frozen=True, array_like=True):
    """What identifies a version of an entry across a rename, which changes the ctime."""

    kind: int
    inode: int
    size: int
    mtime_ns: int
    mode: int

    @classmethod
    def of(cls, stat: Stat) -> Seen:
        if stat.kind == DIRECTORY:
            return cls(stat.kind, stat.inode, 0, 0, 0)  # its mtime moves with its entries; its mode is no content
        return cls(stat.kind, stat.inode, stat.size, stat.mtime_ns, stat.mode)


NOTHING = Seen(0, 0, 0, 0, 0)


class Intent(msgspec.Struct, frozen=True, array_like=True):
    """`step` done as: what `moving` describes goes from `source` to `target`; `leaving`, if there, comes out.

    Where nothing moves `source` is empty: a directory is made or removed, or mode and mtime are set, at `target`.
    """

    step: Step
    source: bytes
    target: bytes
    moving: Seen
    leaving: Seen | None


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Intent)


def encode_intent(intent: Intent) -> bytes:
    return _encoder.encode(intent)


def decode_intent(blob: bytes) -> Intent:
    """Raises CatalogError: nobody but this program writes them."""
    try:
        return _decoder.decode(blob)
    except msgspec.MsgspecError as error:
        raise CatalogError(f"an intent in the catalog cannot be read: {error}") from error
