"""Records: objects with two registers, and which of two versions of a register wins.

An object is one record with a *place* (parent, name) and a *content* register, each with a CN, a stamp and a version
vector of its own, so a rename on one member and an edit on another merge without a conflict (DESIGN section 3).

The higher stamp wins a register; of two with one stamp the greater encoding wins. *Gone* (a tombstone) orders just
above the content its author had seen on the disk: it beats what the deleter knew, and an edit stamped above that beats
it. This order is total and transitive, so merging is commutative, associative and idempotent. Ordering by version
vector first is not transitive; vectors only tell whether a loser must be preserved.

A register is kept, compared and passed on as the bytes that its author encoded (`raw`): fields that this version does
not know survive, and members of different versions agree on the greater encoding.
"""

from __future__ import annotations

import msgspec

from replicad.core.ids import (
    COUNTER_MAX,
    CREATED_UID_BYTES,
    ORIGINAL_UID_BYTES,
    REPLICA_MAX,
    Cn,
    ReplicaId,
    Uid,
)
from replicad.errors import ProtocolError

FILE, DIRECTORY, SYMLINK, ENTRY = 1, 2, 3, 4
"""Kinds of objects; an object's kind never changes. ENTRY is a named value of the hierarchy."""
KINDS = frozenset({FILE, DIRECTORY, SYMLINK, ENTRY})

VECTOR_ENTRIES_MAX = 64
"""Of a version vector; the oldest go first, and then a version is preserved once too often, never too seldom."""
NAME_BYTES_MAX = 255
"""What Linux filesystems allow; a longer one could be installed nowhere."""
REGISTER_BYTES_MAX = 65_536
"""A value of the hierarchy, xattrs and ACLs later; 512 records a page stay under 64 MiB."""
TIME_MS_MAX = 2**53
"""Some 285,000 years: room for any clock, and for last + 1."""

Vector = tuple[tuple[ReplicaId, int], ...]
"""(replica id, highest counter) pairs, the most recently written first; a register's own CN is implied, not listed."""


class Stamp(msgspec.Struct, frozen=True, array_like=True, order=True, gc=False):
    """Logical time = max(wall clock, the register's last + 1), then the author's replica id. Zero: an original."""

    time_ms: int
    replica: ReplicaId


ZERO = Stamp(0, 0)


class Place(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Where an object is. `prior_*` is the place before it, to which the newest move in a cycle falls back."""

    replica: ReplicaId
    counter: int
    time_ms: int
    vector: Vector
    parent: Uid
    name: bytes
    prior_parent: Uid
    prior_name: bytes

    @property
    def cn(self) -> Cn:
        return Cn(self.replica, self.counter)

    @property
    def stamp(self) -> Stamp:
        return Stamp(self.time_ms, self.replica) if self.time_ms else ZERO


class Content(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What an object is, or that it is gone.

    `gone` is None, or the stamp of the content that the deleter had on its disk (as time and replica id). `mtime_ns`,
    `size` and `digest` (blake3 of the whole file) are of files; `value` is a symlink's target or an entry's value.
    """

    replica: ReplicaId
    counter: int
    time_ms: int
    vector: Vector
    gone: Stamp | None
    mode: int
    mtime_ns: int
    size: int
    digest: bytes
    value: bytes

    @property
    def cn(self) -> Cn:
        return Cn(self.replica, self.counter)

    @property
    def stamp(self) -> Stamp:
        return Stamp(self.time_ms, self.replica) if self.time_ms else ZERO

    @property
    def rank(self) -> Stamp:
        """The stamp by which the content orders against others: for *gone* that of what it had seen."""
        return self.gone if self.gone is not None else self.stamp


Register = Place | Content


class Record(msgspec.Struct, frozen=True, gc=False):
    """An object as the catalog holds it. A register is None while only the other one has arrived (rule 10).

    Make one with `record`, which keeps `*_raw` and the decoded registers in step.
    """

    uid: Uid
    kind: int
    place: Place | None
    content: Content | None
    place_raw: bytes = b""
    content_raw: bytes = b""

    @property
    def live(self) -> bool:
        """Whether its content is known and not gone."""
        return self.content is not None and self.content.gone is None

    @property
    def original(self) -> bool:
        """Whether both of its registers are still originals (rule 6)."""
        return self.place is not None and self.content is not None and not (self.place.time_ms or self.content.time_ms)

    def cns(self) -> tuple[Cn, ...]:
        return tuple(register.cn for register in (self.place, self.content) if register is not None)


_encoder = msgspec.msgpack.Encoder()
_place_decoder = msgspec.msgpack.Decoder(Place)
_content_decoder = msgspec.msgpack.Decoder(Content)


def encode(register: Register) -> bytes:
    return _encoder.encode(register)


def record(uid: Uid, kind: int, place: Place | None, content: Content | None) -> Record:
    """A record of registers made here (not received: those keep the bytes they came in, see `open_record`)."""
    return Record(
        uid, kind, place, content, encode(place) if place is not None else b"", encode(content) if content else b""
    )


def open_place(raw: bytes) -> Place:
    """Decode and validate; raises ProtocolError."""
    try:
        place = _place_decoder.decode(raw)
    except msgspec.MsgspecError as error:
        raise ProtocolError(f"a place cannot be read: {error}") from error
    _check_envelope(place, raw)
    for uid in (place.parent, place.prior_parent):
        if uid and len(uid) not in (CREATED_UID_BYTES, ORIGINAL_UID_BYTES):
            raise ProtocolError("a place names a malformed parent")
    return place


def open_content(raw: bytes) -> Content:
    """Decode and validate; raises ProtocolError."""
    try:
        content = _content_decoder.decode(raw)
    except msgspec.MsgspecError as error:
        raise ProtocolError(f"a content cannot be read: {error}") from error
    _check_envelope(content, raw)
    return content


def open_record(uid: Uid, kind: int, place_raw: bytes, content_raw: bytes) -> Record:
    """A record from the wire or the catalog; an empty `*_raw` is a register that is not there. Raises ProtocolError."""
    if len(uid) not in (CREATED_UID_BYTES, ORIGINAL_UID_BYTES):
        raise ProtocolError("a record has a malformed UID")
    place = open_place(place_raw) if place_raw else None
    content = open_content(content_raw) if content_raw else None
    return Record(uid, kind, place, content, place_raw, content_raw)


def usable_name(name: bytes) -> bool:
    """Whether a disk can hold an entry of this name."""
    return 0 < len(name) <= NAME_BYTES_MAX and name not in (b".", b"..") and b"/" not in name and b"\0" not in name


def usable(held: Record) -> bool:
    """Whether this version can show it: a kind it knows, a name a disk can hold, a digest of the length it makes.

    What is not usable is stored, passed on, not shown, and listed in `blocked` (DESIGN section 4).
    """
    if held.kind not in KINDS or held.place is None or held.content is None:
        return False
    if held.kind == ENTRY:
        return True
    if not usable_name(held.place.name):
        return False
    content = held.content
    return content.gone is not None or content.mode <= 0o7777 and (held.kind != FILE or len(content.digest) == 32)


def place_key(held: Record) -> tuple[Stamp, bytes]:
    """The order of place registers; only for records that have one."""
    assert held.place is not None
    return held.place.stamp, held.place_raw


def content_key(held: Record) -> tuple[Stamp, bool, Stamp, bytes]:
    """The order of content registers; only for records that have one."""
    content = held.content
    assert content is not None
    return content.rank, content.gone is not None, content.stamp, held.content_raw


class Merged(msgspec.Struct, frozen=True, gc=False):
    """What `merge` found: the winner, and which of its registers came with the incoming record."""

    record: Record
    place_changed: bool
    content_changed: bool


def merge(held: Record | None, incoming: Record) -> Merged:
    """The record that stands when both are known. Commutative, associative and idempotent in its `record`."""
    if held is None:
        return Merged(incoming, incoming.place is not None, incoming.content is not None)
    place = incoming.place is not None and (held.place is None or place_key(incoming) > place_key(held))
    content = incoming.content is not None and (held.content is None or content_key(incoming) > content_key(held))
    kind = min(held.kind, incoming.kind)  # they never differ but by a fault; then every member must take the same one
    if not place and not content and kind == held.kind:
        return Merged(held, False, False)
    ours, theirs = (incoming if place else held), (incoming if content else held)
    return Merged(
        Record(held.uid, kind, ours.place, theirs.content, ours.place_raw, theirs.content_raw), place, content
    )


def contains(register: Register, installed: Register) -> bool:
    """Whether the author of `register` had seen `installed`, a version of the same register of the same object.

    An original is contained in every version of that same object but another original, and but one whose vector is
    empty: the *gone* that was written for content nobody saw (rule 3).
    """
    if register.replica == installed.replica and register.counter == installed.counter:
        return True
    if not installed.time_ms:
        return bool(register.time_ms and register.vector)
    if any(replica == installed.replica and counter >= installed.counter for replica, counter in register.vector):
        return True
    return bool(register.vector) and register.replica == installed.replica and register.counter >= installed.counter


def vector_after(base: Register | None) -> Vector:
    """The version vector of a change that was made by somebody who saw `base`: what base saw, and base itself."""
    if base is None:
        return ()
    rest = tuple(
        (replica, counter)
        for replica, counter in base.vector
        if replica != base.replica or counter > base.counter  # its own CN stands for the earlier ones
    )
    return ((base.replica, base.counter), *rest)[:VECTOR_ENTRIES_MAX]


def joined_vector(registers: tuple[Register, ...]) -> Vector:
    """The version vector of a change whose author saw all of `registers`, the most recent first."""
    highest: dict[ReplicaId, int] = {}
    for register in registers:
        for replica, counter in vector_after(register):
            highest[replica] = max(counter, highest.get(replica, 0))
    return tuple(highest.items())[:VECTOR_ENTRIES_MAX]


def next_time(now_ms: int, *last: Register | None) -> int:
    """The logical time of a change to a register: the clock, but always after every version in `last`."""
    floor = 0
    for register in last:
        if register is not None:
            floor = max(
                floor, register.time_ms, register.gone.time_ms if isinstance(register, Content) and register.gone else 0
            )
    return max(now_ms, floor + 1, 1)


def _check_envelope(register: Register, raw: bytes) -> None:
    if len(raw) > REGISTER_BYTES_MAX:
        raise ProtocolError("a register is too long")
    if not (0 < register.replica <= REPLICA_MAX and 0 < register.counter <= COUNTER_MAX):
        raise ProtocolError("a register has a malformed CN")
    if not 0 <= register.time_ms <= TIME_MS_MAX:
        raise ProtocolError("a register has a malformed stamp")
    if len(register.vector) > VECTOR_ENTRIES_MAX:
        raise ProtocolError("a version vector has too many entries")
