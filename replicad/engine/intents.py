"""Intents: what is about to be done to the tree, durable before it is done (DESIGN section 3, rule 8).

After a crash an intent, not a guess from paths, tells what was done: each act leaves what it takes out of the tree
under a name in staging that belongs to its intent alone (`aside`), or under one in a store (`stored`). The intent also
says what was expected to move and to come out: what came out unexpected is recognised as somebody's change (I3).
"""

from __future__ import annotations

import msgspec

from replicad.core.ids import Uid
from replicad.core.steps import STAGING_PATH, Step
from replicad.core.view import Node
from replicad.errors import CatalogError
from replicad.files.fs import DIRECTORY, Stat


class Seen(msgspec.Struct, frozen=True, array_like=True):
    """What identifies a version of an entry across a rename, which changes the ctime.

    An inode number alone is no identity, it is given out again at once; the time of birth makes it one, where the
    filesystem tells it.
    """

    kind: int
    inode: int
    birth_ns: int
    size: int
    mtime_ns: int
    mode: int

    @classmethod
    def of(cls, entry: Stat | Node) -> Seen:
        return cls(entry.kind, entry.inode, entry.birth_ns, entry.size, entry.mtime_ns, entry.mode)

    def is_entry(self, stat: Stat | None) -> bool:
        """Whether `stat` is of this very entry, whatever has been written to it since."""
        if stat is None or (stat.kind, stat.inode) != (self.kind, self.inode):
            return False
        if stat.birth_ns and self.birth_ns:
            return stat.birth_ns == self.birth_ns
        return stat.kind == DIRECTORY or (stat.size, stat.mtime_ns) == (self.size, self.mtime_ns)

    def is_version(self, stat: Stat | None) -> bool:
        """Whether `stat` is of this entry, and nobody has written to it. A directory has no versions: its mtime moves
        with its entries, its mode is a matter of its own."""
        if stat is None or stat.kind == DIRECTORY:
            return self.is_entry(stat)
        return Seen.of(stat) == self


NOTHING = Seen(0, 0, 0, 0, 0, 0)


class Intent(msgspec.Struct, frozen=True, array_like=True):
    """`step`, done so: what `moving` describes goes from `source` to `target`; `leaving`, if there, comes out.

    Where nothing moves `source` is empty: a directory is made or removed, or mode and mtime are set, at `target`. What
    the step takes out of the tree is at `aside` in the end (of a LIFT and a REMOVE that is the target). `stored` is the
    name that it gets in a store if it is preserved.
    """

    step: Step
    source: bytes
    target: bytes
    moving: Seen
    leaving: Seen | None = None
    aside: bytes = b""
    stored: bytes = b""
    held: tuple[tuple[Uid, bytes, bytes], ...] = ()
    """Of an act whose outcome could not be entered at once: which registers the objects had that it was done for (UID,
    place, content). They may have others by the time it is entered, which are not what was installed (I2)."""

    def registers(self, uid: Uid) -> tuple[bytes, bytes] | None:
        """(place, content) of one of them as the act was done; None where they are as they were."""
        return next(((place, content) for one, place, content in self.held if one == uid), None)

    @property
    def path(self) -> bytes:
        """The path in the tree that it is about."""
        return self.source if self.target == self.aside else self.target


def aside_name(intent_id: int) -> bytes:
    return b"out-%d" % intent_id


def in_staging(name: bytes) -> bytes:
    return STAGING_PATH + b"/" + name


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
