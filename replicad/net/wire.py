"""Framing of the stream: what one WebSocket message is, and the messages by which two members open and keep a link.

A frame is a msgpack array `[channel, payload]` of two byte strings. The channel is a folder's id (16 bytes), empty for
the hierarchy, or the one byte 0 for the link's own messages below; a payload is opaque here. Arrays may be longer than
known: what comes after the known elements is ignored (later versions append).

Decoding raises ProtocolError and nothing else. No IO.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec

from replicad.core.messages import MESSAGE_BYTES_MAX
from replicad.errors import ProtocolError
from replicad.net.refusal import REASON_CHARACTERS_MAX, Code, Refused

VERSIONS = (1,)
"""Of the stream's protocol, the newest last."""
CONTROL = b"\0"
PAYLOAD_BYTES_MAX = MESSAGE_BYTES_MAX
FRAME_BYTES_MAX = PAYLOAD_BYTES_MAX + 64
"""The array's and the channel's own bytes."""
WANT_BYTES_MAX = 262_144
"""A request for content: 512 files take 35 KB, 4,096 ranges 80 KB."""

_Bytes16 = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
_Bytes32 = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
_Short = Annotated[str, msgspec.Meta(max_length=64)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Time = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]


class _Frame(msgspec.Struct, frozen=True, array_like=True, gc=False):
    channel: bytes
    payload: bytes


class Session(msgspec.Struct, frozen=True, array_like=True):
    """One session of a member with another: numbered, with a random part (DESIGN section 4, *put back*)."""

    number: _Count
    random: _Bytes16


class Hello(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """What the dialer says first, and the other answers with inside its WELCOME."""

    versions: Annotated[list[Annotated[int, msgspec.Meta(ge=1, le=65_535)]], msgspec.Meta(min_length=1, max_length=16)]
    member_id: _Bytes32
    group_id: _Bytes16
    session: Session
    boot: _Bytes16
    """Random, new with every start of the daemon: two hellos with one boot come from one process."""
    software: _Short
    features: Annotated[list[_Short], msgspec.Meta(max_length=64)]


class Welcome(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """The answer to HELLO. `serial` is the arbiter's word (net.pairs), 0 from the other one."""

    version: int
    hello: Hello
    serial: _Count


class Ready(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """The arbiter's word where it was the dialer: this connection is the pair's link."""

    serial: _Count


class Refuse(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """Instead of WELCOME; the connection is closed after it."""

    code: _Short
    reason: Annotated[str, msgspec.Meta(max_length=REASON_CHARACTERS_MAX)]


class Ping(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """`time_ms` is the sender's wall clock."""

    number: _Count
    time_ms: _Time


class Pong(msgspec.Struct, frozen=True, array_like=True, tag=6):
    number: _Count
    time_ms: _Time


class Want(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """Send me content by a request of yours: the body of what `route` would answer to `body` (docs/net.md)."""

    request_id: _Count
    route: _Short
    body: Annotated[bytes, msgspec.Meta(max_length=WANT_BYTES_MAX)]


class Deny(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """Instead of the answer to a WANT."""

    request_id: _Count
    code: _Short
    reason: Annotated[str, msgspec.Meta(max_length=REASON_CHARACTERS_MAX)]


Control = Hello | Welcome | Ready | Refuse | Ping | Pong | Want | Deny

_encoder = msgspec.msgpack.Encoder()
_frame_decoder: msgspec.msgpack.Decoder[_Frame] = msgspec.msgpack.Decoder(_Frame)
_control_decoder: msgspec.msgpack.Decoder[Control] = msgspec.msgpack.Decoder(Control)


def encode_frame(channel: bytes, payload: bytes) -> bytes:
    """A payload that is too long, or a channel that is none, is our own bug."""
    assert len(channel) in (0, 16), f"no channel: {channel!r}"
    assert len(payload) <= PAYLOAD_BYTES_MAX, f"a payload of {len(payload)} bytes"
    return _encoder.encode(_Frame(channel, payload))


def encode_control(message: Control) -> bytes:
    """A whole frame."""
    return _encoder.encode(_Frame(CONTROL, _encoder.encode(message)))


def decode_frame(data: bytes) -> tuple[bytes, bytes]:
    """(channel, payload)."""
    if len(data) > FRAME_BYTES_MAX:
        raise ProtocolError("a frame is too long")
    try:
        frame = _frame_decoder.decode(data)
    except msgspec.MsgspecError as error:
        raise ProtocolError(f"a frame cannot be read: {error}") from error
    if len(frame.channel) not in (0, 16) and frame.channel != CONTROL:
        raise ProtocolError("a frame is for no channel")
    if len(frame.payload) > PAYLOAD_BYTES_MAX:
        raise ProtocolError("a payload is too long")
    return frame.channel, frame.payload


def decode_control(payload: bytes) -> Control:
    try:
        return _control_decoder.decode(payload)
    except msgspec.MsgspecError as error:
        raise ProtocolError(f"a link's message cannot be read: {error}") from error


def refuse(refusal: Refused) -> Refuse:
    return Refuse(refusal.code[:64], str(refusal))


def choose_version(offered: Sequence[int]) -> int:
    """The highest that both know; Refused names both, because the operator of either end has to act."""
    common = set(offered) & set(VERSIONS)
    if not common:
        raise Refused(
            Code.VERSION, f"this member speaks protocol {VERSIONS[-1]}, not {max(offered)}: upgrade the older"
        )
    return max(common)
