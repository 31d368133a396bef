"""Join tokens, and the book that is kept of them.

A token is one line: `rj1_`, then base64url of msgpack and of a check sum, so that a line broken by a terminal is told
from a wrong one. It carries the inviter's fingerprint, so that the joiner knows whom it may speak to, and a random
secret that both sides prove to each other (`net.proof`). The inviter keeps only a key derived from the secret, and
knows the token by an id derived likewise: neither the file that holds them nor a request shows a token.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, replace
from typing import Annotated, Protocol

import msgspec
from blake3 import blake3

from replicad.core.ids import MemberId
from replicad.core.naming import GroupId
from replicad.errors import UsageError
from replicad.net.addresses import ADDRESS_CHARACTERS_MAX, ADDRESSES_MAX, Address, dialable, parse_address
from replicad.net.identity import MEMBER_ID_BYTES
from replicad.net.refusal import Code, Refused

PREFIX = "rj1_"
SECRET_BYTES = 16
TOKEN_ID_BYTES = 16
KEY_BYTES = 32
USES_MAX = 1_000
"""A token for more members than a group is tested with is a mistake."""
TOKEN_CHARACTERS_MAX = 8_192
"""16 addresses of the greatest length fit."""
_CHECK_BYTES = 4

_Bytes16 = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
_Bytes32 = Annotated[bytes, msgspec.Meta(min_length=MEMBER_ID_BYTES, max_length=MEMBER_ID_BYTES)]
_AddressText = Annotated[str, msgspec.Meta(max_length=ADDRESS_CHARACTERS_MAX)]


@dataclass(frozen=True, slots=True)
class Token:
    """What an inviter gives to a joiner. `secret` is SECRET_BYTES of randomness; `expires_ms` is wall clock."""

    group_id: GroupId
    inviter: MemberId
    secret: bytes
    addresses: tuple[Address, ...]
    expires_ms: int

    def __repr__(self) -> str:
        return f"Token(group_id={self.group_id.hex()}, inviter={self.inviter[:16]}, …)"


class _Wire(msgspec.Struct, frozen=True, array_like=True):
    group_id: _Bytes16
    inviter: _Bytes32
    secret: _Bytes16
    addresses: Annotated[list[_AddressText], msgspec.Meta(min_length=1, max_length=ADDRESSES_MAX)]
    expires_ms: Annotated[int, msgspec.Meta(ge=0, lt=2**53)]


_decoder = msgspec.msgpack.Decoder(_Wire)


def encode_token(token: Token) -> str:
    """One line. UsageError where nobody could dial any of the addresses."""
    addresses = [str(address) for address in dialable(token.addresses)]
    if not addresses:
        raise UsageError("no address to put into the token: set [member] advertise, or listen at one")
    inviter = bytes.fromhex(token.inviter)
    body = msgspec.msgpack.encode(_Wire(token.group_id, inviter, token.secret, addresses, token.expires_ms))
    return PREFIX + base64.urlsafe_b64encode(body + _check_sum(body)).decode().rstrip("=")


def decode_token(line: str) -> Token:
    """UsageError says what is wrong with the line; it never repeats it, because logs would keep it."""
    text = line.strip()
    if not text.startswith(PREFIX):
        raise UsageError(f"this is not a join token: it must begin with {PREFIX}")
    if len(text) > TOKEN_CHARACTERS_MAX:
        raise UsageError("the join token is too long: copy the whole line that `replicad invite` printed, and no more")
    try:
        raw = base64.b64decode(
            text[len(PREFIX) :] + "=" * (-(len(text) - len(PREFIX)) % 4), altchars=b"-_", validate=True
        )
        body = raw[:-_CHECK_BYTES]
        if raw[len(body) :] != _check_sum(body):
            raise UsageError("the join token is damaged: copy the whole line that `replicad invite` printed")
        wire = _decoder.decode(body)
        addresses = dialable(parse_address(address) for address in wire.addresses)
    except (binascii.Error, ValueError, msgspec.MsgspecError) as error:
        raise UsageError("the join token is damaged: copy the whole line that `replicad invite` printed") from error
    return Token(wire.group_id, wire.inviter.hex(), wire.secret, addresses, wire.expires_ms)


def token_id(secret: bytes) -> bytes:
    """Names the token without giving it away; 128 bits, so knowing one is knowing the token was issued."""
    return blake3(secret, derive_key_context="replicad 1 token id").digest(TOKEN_ID_BYTES)


def token_key(secret: bytes) -> bytes:
    """What is proved."""
    return blake3(secret, derive_key_context="replicad 1 join by token").digest(KEY_BYTES)


@dataclass(frozen=True, slots=True)
class Invitation:
    """The inviter's book of one token. `used_by` are the members that joined with it, in order."""

    token_id: bytes
    key: bytes
    expires_ms: int
    uses_max: int = 1
    used_by: tuple[MemberId, ...] = ()
    revoked: bool = False

    def check(self, member_id: MemberId, now_ms: int) -> None:
        """Refused where `member_id` may not join with it now. Who has used it may again: its answer may be lost."""
        if self.revoked:
            raise Refused(Code.TOKEN, "the token was revoked")
        if now_ms >= self.expires_ms:
            raise Refused(Code.TOKEN, "the token has expired")
        if member_id not in self.used_by and len(self.used_by) >= self.uses_max:
            raise Refused(Code.TOKEN, "the token has been used")

    def taken(self, member_id: MemberId, now_ms: int) -> Invitation:
        """With one use consumed by `member_id`; Refused as `check` does."""
        self.check(member_id, now_ms)
        return self if member_id in self.used_by else replace(self, used_by=(*self.used_by, member_id))


class Invitations(Protocol):
    """Where the books are kept; durable, and safe to call from several joins at once."""

    async def find(self, token_id: bytes) -> Invitation | None:
        """None for a token that was never issued, or is forgotten."""

    async def take(self, token_id: bytes, member_id: MemberId, now_ms: int) -> None:
        """Consume one use: `Invitation.taken`, in one transaction. Called only when the joiner has proved the token.

        Refused where it cannot be taken (any more: RACE: of two joiners with a token for one, the second is refused
        here, after both passed `find`).
        """


def new_invitation(secret: bytes, expires_ms: int, uses_max: int) -> Invitation:
    """UsageError where `uses_max` is out of 1 … USES_MAX."""
    if not 1 <= uses_max <= USES_MAX:
        raise UsageError(f"--uses must be between 1 and {USES_MAX}")
    return Invitation(token_id(secret), token_key(secret), expires_ms, uses_max)


def _check_sum(body: bytes) -> bytes:
    return blake3(body, derive_key_context="replicad 1 token check").digest(_CHECK_BYTES)
