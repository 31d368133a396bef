"""Records: objects with two registers, and which of two versions of a register wins.

An object is one record with a *place* (parent, name) and a *content* register, each with a CN, a stamp and a version
vector of its own, so a rename on one member and an edit on another merge without a conflict (DESIGN section 3).

The higher stamp wins a register; of two with one stamp the greater encoding wins. *Gone* (a tombstone) orders just
above the content its author had seen on the disk: it beats what the deleter knew, and an edit stamped above that beats
it. This order is total and transitive, so merging is commutative, associative and idempotent. Ordering by version
vector first is not transitive; vectors only tell whether a loser must be preserved.

A register is kept, compared and passed on as the bytes that its author encoded (`raw`): fields that this version does
not know survive, and members of different versions agree on the greater encoding. Where only the *envelope* (CN, stamp,
version vector, and of a content whether it is gone) can be read, the rest stands as something that is not `usable`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

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
from replicad.core.nesting import depth_at_most
from replicad.errors import ProtocolError

FILE, DIRECTORY, SYMLINK, ENTRY = 1, 2, 3, 4
"""Kinds of objects; an object's kind never changes. ENTRY is a named value of the hierarchy."""
KINDS = frozenset({FILE, DIRECTORY, SYMLINK, ENTRY})

DIGEST_BYTES = 32
VECTOR_ENTRIES_MAX = 64
"""Of a version vector; the oldest go first, and then a version is preserved once too often, never too seldom."""
NAME_BYTES_MAX = 255
"""What Linux filesystems allow; a longer one could be installed nowhere."""
REGISTER_BYTES_MAX = 65_536
"""A value of the hierarchy, xattrs and ACLs later; 512 records a page stay under 64 MiB."""
TARGET_BYTES_MAX = 4095
"""Of a symlink; what Linux takes."""
TIME_MS_MAX = 2**53
"""Some 285,000 years: room for any clock. Where a register has got there its time stays, and replica ids decide."""
DEPTH_MAX = 16
"""Of arrays and maps in a register, also in fields that this version does not know."""
KIND_MAX = 255
"""Room for kinds of newer versions; a catalog stores it as a small number."""

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


class _PlaceEnvelope(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The beginning of a place that must be readable in every version."""

    replica: ReplicaId
    counter: int
    time_ms: int
    vector: Vector


class _ContentEnvelope(_PlaceEnvelope, frozen=True, array_like=True, gc=False):
    """The beginning of a content that must be readable in every version."""

    gone: Stamp | None


KEPT_MAX = 4_096
KEPT_BYTES_MAX = 512
"""A register is opened several times on its way: as it comes, with the row that it changes, with the row that it has
become. So many of either kind are kept opened, none longer than that: 8 MB at most for all folders."""

_UNUSABLE_MODE = -1
_Register = TypeVar("_Register", Place, Content)
_Envelope = TypeVar("_Envelope", _PlaceEnvelope, _ContentEnvelope)

_encoder = msgspec.msgpack.Encoder()
_place_decoder = msgspec.msgpack.Decoder(Place)
_content_decoder = msgspec.msgpack.Decoder(Content)
_place_envelope_decoder = msgspec.msgpack.Decoder(_PlaceEnvelope)
_content_envelope_decoder = msgspec.msgpack.Decoder(_ContentEnvelope)


def encode(register: Register) -> bytes:
    return _encoder.encode(register)


def record(uid: Uid, kind: int, place: Place | None, content: Content | None) -> Record:
    """A record of registers made here (not received: those keep the bytes they came in, see `open_record`)."""
    return Record(
        uid,
        kind,
        place,
        content,
        encode(place) if place is not None else b"",
        encode(content) if content is not None else b"",
    )


def open_place(raw: bytes) -> Place:
    """Decode and validate; raises ProtocolError where not even the envelope can be read."""
    return _kept_place(raw) if len(raw) <= KEPT_BYTES_MAX else _open_place(raw)


def open_content(raw: bytes) -> Content:
    """Decode and validate; raises ProtocolError where not even the envelope can be read."""
    return _kept_content(raw) if len(raw) <= KEPT_BYTES_MAX else _open_content(raw)


def _open_place(raw: bytes) -> Place:
    place = _decoded(raw, _place_decoder, _place_envelope_decoder, _place_of_envelope)
    if not (_is_parent(place.parent) and _is_parent(place.prior_parent)):
        place = _place_of_envelope(place)
    _check_envelope(place, raw)
    return place


def _open_content(raw: bytes) -> Content:
    content = _decoded(raw, _content_decoder, _content_envelope_decoder, _content_of_envelope)
    _check_envelope(content, raw)
    if content.gone is not None and not (
        0 <= content.gone.time_ms <= TIME_MS_MAX
        and 0 <= content.gone.replica <= REPLICA_MAX
        and (content.gone.time_ms > 0) == (content.gone.replica > 0)
    ):
        raise ProtocolError("a content has seen a malformed stamp")
    return content


_kept_place = lru_cache(KEPT_MAX)(_open_place)
_kept_content = lru_cache(KEPT_MAX)(_open_content)


def open_record(uid: Uid, kind: int, place_raw: bytes, content_raw: bytes) -> Record:
    """A record from the wire or the catalog; an empty `*_raw` is a register that is not there. Raises ProtocolError."""
    if len(uid) not in (CREATED_UID_BYTES, ORIGINAL_UID_BYTES):
        raise ProtocolError("a record has a malformed UID")
    if not 0 < kind <= KIND_MAX:
        raise ProtocolError("a record has a malformed kind")
    if not place_raw and not content_raw:
        raise ProtocolError("a record has no register")
    place = open_place(place_raw) if place_raw else None
    content = open_content(content_raw) if content_raw else None
    return Record(uid, kind, place, content, place_raw, content_raw)


def usable_name(name: bytes) -> bool:
    """Whether a disk can hold an entry of this name."""
    return 0 < len(name) <= NAME_BYTES_MAX and name not in (b".", b"..") and b"/" not in name and b"\0" not in name


def usable(held: Record) -> bool:
    """Whether this version can show it: a kind it knows, a name a disk can hold, a content a disk can be given.

    What is not usable is stored, passed on, not shown, and listed in `blocked` (DESIGN section 4).
    """
    if held.kind not in KINDS or held.place is None or held.content is None:
        return False
    if not usable_name(held.place.name) and held.kind != ENTRY:
        return False
    return held.content.gone is not None or _usable_content(held.kind, held.content)


def _usable_content(kind: int, content: Content) -> bool:
    if kind == ENTRY:
        return content.mode != _UNUSABLE_MODE
    if not 0 <= content.mode <= 0o7777 or abs(content.mtime_ns) >= 2**63 or not 0 <= content.size < 2**63:
        return False
    if kind == SYMLINK:
        return 0 < len(content.value) <= TARGET_BYTES_MAX and b"\0" not in content.value
    return kind != FILE or len(content.digest) == DIGEST_BYTES


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
    kind = held.kind if held.kind == incoming.kind else _merged_kind(held, incoming)
    if not place and not content and kind == held.kind:
        return Merged(held, False, False)
    ours, theirs = (incoming if place else held), (incoming if content else held)
    return Merged(
        Record(held.uid, kind, ours.place, theirs.content, ours.place_raw, theirs.content_raw), place, content
    )


def _merged_kind(held: Record, incoming: Record) -> int:
    """Kinds differ where two machines with one replica id made different objects under one CN; every member must take
    the same one. A directory, if one is: else what was put into it has no place. Otherwise that of the content that
    stands, which cannot be shown as anything else."""
    if DIRECTORY in (held.kind, incoming.kind):
        return DIRECTORY
    told = [one for one in (held, incoming) if one.content is not None]
    best = max((content_key(one) for one in told), default=None)
    return min(one.kind for one in (told or (held, incoming)) if best is None or content_key(one) == best)


def contains(register: Register, installed: Register) -> bool:
    """Whether the author of `register` had seen `installed`, a version of the same register of the same object.

    An original is contained in every version of that same object but another original, and but one whose vector is
    empty: the *gone* that was written for content nobody saw (rule 3).
    """
    if register.replica == installed.replica and register.counter == installed.counter:
        return register == installed  # not where one CN stands for two changes (S28)
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
    own = [(register.replica, register.counter) for register in registers]  # first: the last to go at the limit
    for replica, counter in (*own, *(entry for register in registers for entry in register.vector)):
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
    return min(max(now_ms, floor + 1), TIME_MS_MAX)


def _check_envelope(register: Register, raw: bytes) -> None:
    if len(raw) > REGISTER_BYTES_MAX:
        raise ProtocolError("a register is too long")
    if not (0 < register.replica <= REPLICA_MAX and 0 < register.counter <= COUNTER_MAX):
        raise ProtocolError("a register has a malformed CN")
    if not 0 <= register.time_ms <= TIME_MS_MAX:
        raise ProtocolError("a register has a malformed stamp")
    if len(register.vector) > VECTOR_ENTRIES_MAX:
        raise ProtocolError("a version vector has too many entries")
    if not all(0 < replica <= REPLICA_MAX and 0 < counter <= COUNTER_MAX for replica, counter in register.vector):
        raise ProtocolError("a version vector has a malformed entry")


def _is_parent(uid: Uid) -> bool:
    return not uid or len(uid) in (CREATED_UID_BYTES, ORIGINAL_UID_BYTES)


def _decoded(
    raw: bytes,
    whole: msgspec.msgpack.Decoder[_Register],
    envelope: msgspec.msgpack.Decoder[_Envelope],
    of_envelope: Callable[[_Envelope], _Register],
) -> _Register:
    try:
        try:
            register = whole.decode(raw)
            if _has_no_more(register, raw):
                return register
        except msgspec.ValidationError:
            register = of_envelope(envelope.decode(raw))
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ProtocolError(f"a register cannot be read: {error}") from error
    if not depth_at_most(raw, DEPTH_MAX):
        raise ProtocolError("a register is nested too deeply")
    return register


def _has_no_more(register: Register, raw: bytes) -> bool:
    """Whether it is certain that `raw` has only the fields that this version knows: then it is not deep."""
    plain = register.gone is None if isinstance(register, Content) else True  # a stamp may have more fields, too
    return plain and raw[0] == 0x90 | len(register.__struct_fields__)


def _place_of_envelope(envelope: _PlaceEnvelope | Place) -> Place:
    """A place under a name that no disk can hold."""
    return Place(envelope.replica, envelope.counter, envelope.time_ms, envelope.vector, b"", b"", b"", b"")


def _content_of_envelope(envelope: _ContentEnvelope) -> Content:
    """A content with a mode that is none."""
    seen = envelope
    return Content(seen.replica, seen.counter, seen.time_ms, seen.vector, seen.gone, _UNUSABLE_MODE, 0, 0, b"", b"")
