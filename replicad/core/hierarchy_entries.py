"""Entries of the hierarchy: their keys, their values, and how one is written. docs/PROTOCOL.md, section 10.

Each entry is a record of its own (kind ENTRY) whose UID is made of its key, so that members who write at once do not
overwrite each other but where they write the same thing. Keys and values are validated where they are written and where
they are shown; in between they are stored and passed on as received, so that members of different versions converge.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from replicad.core.draft import Draft
from replicad.core.ids import MEMBER_ID_CHARACTERS, ROOT, FolderId, MemberId, ReplicaId, named_uid
from replicad.core.naming import FOLDER_ID_BYTES
from replicad.core.records import ENTRY, Content, Place, Record, merge, next_time, record, vector_after
from replicad.core.view import ObjectState
from replicad.errors import ProtocolError

VALUE_BYTES_MAX = 49_152
"""Of one entry: the largest is a list of 1,000 founders; a register may have 65,536 bytes."""
CERTIFICATE_BYTES_MAX = 2_048
ADDRESSES_MAX = 16
ADDRESS_CHARACTERS_MAX = 262
"""The longest name in DNS (253), brackets, colon and port."""
FOUNDERS_MAX = 1_000
SIGNATURE_BYTES_MAX = 256
SETTINGS_MAX = 64
_MEMBER_ID_BYTES = MEMBER_ID_CHARACTERS // 2

MEMBER, REMOVED, ADDRESSES, FOLDER = "member", "removed", "addresses", "folder"
FOLDER_MEMBER, REPLICA, FOUNDED, SETTING = "folder-member", "replica", "founded", "setting"
LAPSED = "lapsed"
HIERARCHY_NAME = "hierarchy"
"""In the place of a folder's id in `replica/…`."""

DECLARED, CREATED, JOINED = "declared", "created", "joined"
HOWS = frozenset({DECLARED, CREATED, JOINED})
"""How a member came into a folder."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
_MEMBER, _FOLDER, _REPLICA = r"([0-9a-f]{64})", r"([0-9a-f]{32})", r"([0-9a-f]{16})"
_KEYS = {
    MEMBER: re.compile(f"member/{_MEMBER}"),
    REMOVED: re.compile(f"removed/{_MEMBER}"),
    LAPSED: re.compile(f"lapsed/{_MEMBER}"),
    ADDRESSES: re.compile(f"addresses/{_MEMBER}"),
    FOLDER: re.compile(f"folder/{_FOLDER}"),
    FOLDER_MEMBER: re.compile(f"folder-member/{_FOLDER}/{_MEMBER}"),
    REPLICA: re.compile(f"replica/([0-9a-f]{{32}}|{HIERARCHY_NAME})/{_REPLICA}"),
    FOUNDED: re.compile(f"founded/{_FOLDER}/{_MEMBER}"),
    SETTING: re.compile(r"setting/([A-Za-z0-9_][A-Za-z0-9._/-]{0,199})"),
}

Scalar = str | int | bool | None


class _Value(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=False):
    """Later versions append fields; these are not known here, and not lost: the record keeps its bytes."""


class Member(_Value, frozen=True, array_like=True):
    name: str
    certificate: bytes
    """DER; its SHA-256 is the member's id."""


class Removed(_Value, frozen=True, array_like=True):
    time_ms: int


class Lapsed(_Value, frozen=True, array_like=True):
    """The member was away for too long to be waited for; gone once it is back. `seen_ms`: when it was last seen."""

    time_ms: int
    seen_ms: int


class Addresses(_Value, frozen=True, array_like=True):
    addresses: tuple[str, ...]
    """`host:port`, the preferred one first."""


class Folder(_Value, frozen=True, array_like=True):
    name: str
    settings: dict[str, Scalar]


class FolderMember(_Value, frozen=True, array_like=True):
    writable: bool
    how: str


class ReplicaOwner(_Value, frozen=True, array_like=True):
    """`signature`: the member's, over `replica_statement`."""

    member: bytes
    signature: bytes


class Founded(_Value, frozen=True, array_like=True):
    """The founding of a folder has ended (rule 6), and who was in the hierarchy by then."""

    time_ms: int
    founders: tuple[bytes, ...]


class Setting(_Value, frozen=True, array_like=True):
    value: Scalar


Value = Member | Removed | Lapsed | Addresses | Folder | FolderMember | ReplicaOwner | Founded | Setting
_TYPES: dict[str, type[Value]] = {
    MEMBER: Member,
    REMOVED: Removed,
    LAPSED: Lapsed,
    ADDRESSES: Addresses,
    FOLDER: Folder,
    FOLDER_MEMBER: FolderMember,
    REPLICA: ReplicaOwner,
    FOUNDED: Founded,
    SETTING: Setting,
}
_encoder = msgspec.msgpack.Encoder(order="deterministic")


class Entry(msgspec.Struct, frozen=True):
    """One that is live and holds to the rules. `names` are the parts of the key after the kind."""

    kind: str
    names: tuple[str, ...]
    value: Value


# -- keys


def member_key(member: MemberId) -> bytes:
    return f"{MEMBER}/{member}".encode()


def removed_key(member: MemberId) -> bytes:
    return f"{REMOVED}/{member}".encode()


def lapsed_key(member: MemberId) -> bytes:
    return f"{LAPSED}/{member}".encode()


def addresses_key(member: MemberId) -> bytes:
    return f"{ADDRESSES}/{member}".encode()


def folder_key(folder: FolderId) -> bytes:
    return f"{FOLDER}/{folder.hex()}".encode()


def folder_member_key(folder: FolderId, member: MemberId) -> bytes:
    return f"{FOLDER_MEMBER}/{folder.hex()}/{member}".encode()


def replica_key(folder: FolderId, replica: ReplicaId) -> bytes:
    """`folder` is b"" for the hierarchy."""
    return f"{REPLICA}/{folder.hex() or HIERARCHY_NAME}/{replica:016x}".encode()


def founded_key(folder: FolderId, member: MemberId) -> bytes:
    return f"{FOUNDED}/{folder.hex()}/{member}".encode()


def folder_setting(folder: FolderId, name: str) -> str:
    """The name of a setting of one folder: an entry of its own, so that who creates or declares the folder at the same
    time does not overwrite it."""
    return f"{FOLDER}/{folder.hex()}/{name}"


def setting_key(name: str) -> bytes:
    return f"{SETTING}/{name}".encode()


def replica_statement(folder: FolderId, replica: ReplicaId) -> bytes:
    """What a member signs to say that a replica id is its own; fixed lengths, so it says one thing only."""
    return b"replicad 1 replica id\0" + folder.rjust(FOLDER_ID_BYTES, b"\0") + replica.to_bytes(8, "big")


def valid_name(name: str) -> bool:
    """Of a member or folder: 1 to 64 of letters, digits, `.`, `_`, `-`; not beginning with `.` or `-`.

    It may stand in paths, commands and host names.
    """
    return _NAME.fullmatch(name) is not None


# -- values


def encode_value(value: Value) -> bytes:
    return _encoder.encode(value)


def open_entry(held: Record) -> Entry | None:
    """The entry that a record of kind ENTRY holds; None where it is gone, or half of it is not known yet.

    Raises ProtocolError, with the reason, where this version cannot show it.
    """
    place, content = held.place, held.content
    if place is None or content is None or content.gone is not None:
        return None
    if place.parent != ROOT or named_uid(place.name) != held.uid:
        raise ProtocolError("an entry is not where its key says")
    return check_entry(place.name, content.value)


def check_entry(key: bytes, value: bytes) -> Entry:
    """Raises ProtocolError."""
    kind, names = _parsed(key)
    if len(value) > VALUE_BYTES_MAX:
        raise ProtocolError(f"the value of {kind} is too long")
    try:
        decoded = msgspec.msgpack.decode(value, type=_TYPES[kind])
    except msgspec.MsgspecError as error:
        raise ProtocolError(f"the value of {kind} cannot be read: {error}") from error
    reason = _fault(decoded)
    if reason:
        raise ProtocolError(f"{kind}: {reason}")
    return Entry(kind, names, decoded)


def _parsed(key: bytes) -> tuple[str, tuple[str, ...]]:
    try:
        text = key.decode("ascii")
    except UnicodeDecodeError as error:
        raise ProtocolError("a key is not ASCII") from error
    kind = text.partition("/")[0]
    match = _KEYS[kind].fullmatch(text) if kind in _KEYS else None
    if match is None:
        raise ProtocolError(f"a key of an unknown form: {text[:80]!r}")
    return kind, match.groups()


def _fault(value: Value) -> str:
    """What is wrong with it; empty where nothing is."""
    match value:
        case Member(name, certificate):
            if not 0 < len(certificate) <= CERTIFICATE_BYTES_MAX:
                return "its certificate is too long, or missing"
            return "" if valid_name(name) else "its name is not allowed"
        case Addresses(addresses):
            return "" if _addresses_fit(addresses) else "too many addresses, or one is too long or not printable"
        case Folder(name, settings):
            if len(settings) > SETTINGS_MAX:
                return "too many settings"
            return "" if valid_name(name) else "its name is not allowed"
        case FolderMember(_, how):
            return "" if how in HOWS else "how the member came is not known here"
        case ReplicaOwner(member, signature):
            fits = len(member) == _MEMBER_ID_BYTES and len(signature) <= SIGNATURE_BYTES_MAX
            return "" if fits else "a malformed member or signature"
        case Founded(_, founders):
            fits = len(founders) <= FOUNDERS_MAX and all(len(one) == _MEMBER_ID_BYTES for one in founders)
            return "" if fits else "too many founders, or a malformed one"
    return ""


def _addresses_fit(addresses: Sequence[str]) -> bool:
    return len(addresses) <= ADDRESSES_MAX and all(
        0 < len(one) <= ADDRESS_CHARACTERS_MAX and one.isprintable() and " " not in one for one in addresses
    )


# -- writing and merging


def write_entry(draft: Draft, key: bytes, value: Value | None, now_ms: int) -> bool:
    """Give the entry this value; None: it is gone. Returns whether that was a change. Raises ProtocolError."""
    uid = named_uid(key)
    encoded = b"" if value is None else encode_value(value)
    if value is not None:
        check_entry(key, encoded)
    state = draft.object(uid)
    held = state.record if state is not None else None
    before = held.content if held is not None else None
    live = before is not None and before.gone is None
    if (value is None and not live) or (live and value is not None and before is not None and before.value == encoded):
        return False
    cn = draft.allocate()
    content = Content(
        cn.replica,
        cn.counter,
        next_time(now_ms, before),
        vector_after(before),
        gone=before.stamp if value is None and before is not None else None,
        mode=0,
        mtime_ns=0,
        size=0,
        digest=b"",
        value=encoded,
    )
    if held is not None and held.place is not None:
        changed = msgspec.structs.replace(record(uid, ENTRY, None, content), place=held.place, place_raw=held.place_raw)
    else:
        place = Place(cn.replica, cn.counter, content.time_ms, (), ROOT, key, ROOT, b"")
        changed = record(uid, ENTRY, place, content)
    draft.put(ObjectState(changed))
    return True


def absorb_entries(draft: Draft, records: Sequence[Record]) -> None:
    """Merge entries that came from others: there is no disk and no tree."""
    for incoming in records:
        state = draft.object(incoming.uid)
        held = state.record if state is not None else None
        merged = merge(held, incoming)
        if merged.record is not held:
            draft.put(ObjectState(merged.record))
