"""The messages of a join, and what each side proves (docs/net.md, "Joining"). No IO.

    joiner → HELLO   versions, kind, token id, certificate, nonce
    server → CHALLENGE   version, certificate, nonce, HMAC(key, "server" ‖ transcript)
    joiner → PROOF   HELLO again, server's nonce, HMAC(key, "joiner" ‖ transcript ‖ payload), signature, payload
    server → ANSWER   group id, payload

`key` is that of the token, or of the declared group's secret. The server proves first, so that a joiner that found its
server through a declared address tells nothing to one that does not know the secret. The transcript has the whole
HELLO, the group's id and the fingerprints of both certificates: the server's is the one that TLS showed the joiner, so
somebody in the middle, who has another, can pass nothing on. The joiner's signature shows that it holds the key of the
certificate which it asks the group to take up (its TLS connection has none, the server could not have asked for it).

The server keeps nothing between HELLO and PROOF: its nonce is sealed with a key that lives as long as the process, over
its time and the HELLO, so a flood of HELLOs takes up no memory.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Annotated, TypeVar

import msgspec
from blake3 import blake3

from replicad.core.naming import GroupId
from replicad.errors import ProtocolError
from replicad.net.identity import CERTIFICATE_BYTES_MAX, SIGNATURE_BYTES
from replicad.net.refusal import Code, Refused
from replicad.net.token import TOKEN_ID_BYTES

VERSIONS = (1,)
"""Of the join's messages, the newest last."""
BY_TOKEN, BY_SECRET = 1, 2

NONCE_BYTES = 32
SERVER_NONCE_BYTES = 8 + 16 + 16
"""Time, randomness, seal."""
PROOF_BYTES = 32
JOIN_LIFE_MS = 60_000
"""From the server's nonce to the joiner's proof: two round trips over the worst link."""
PAYLOAD_BYTES_MAX = 65_536
"""What a joiner tells of itself: its name and addresses."""
ANSWER_BYTES_MAX = 8 * 1_048_576
"""The hierarchy's first records, for groups several times larger than are tested."""
REQUEST_BYTES_MAX = PAYLOAD_BYTES_MAX + 2 * CERTIFICATE_BYTES_MAX
CHALLENGE_BYTES_MAX = 2 * CERTIFICATE_BYTES_MAX

_Nonce = Annotated[bytes, msgspec.Meta(min_length=NONCE_BYTES, max_length=NONCE_BYTES)]
_ServerNonce = Annotated[bytes, msgspec.Meta(min_length=SERVER_NONCE_BYTES, max_length=SERVER_NONCE_BYTES)]
_Proof = Annotated[bytes, msgspec.Meta(min_length=PROOF_BYTES, max_length=PROOF_BYTES)]
_Signature = Annotated[bytes, msgspec.Meta(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)]
_Certificate = Annotated[bytes, msgspec.Meta(min_length=1, max_length=CERTIFICATE_BYTES_MAX)]


class Hello(msgspec.Struct, frozen=True, array_like=True):
    versions: Annotated[list[Annotated[int, msgspec.Meta(ge=1, le=65_535)]], msgspec.Meta(min_length=1, max_length=16)]
    kind: int
    token_id: Annotated[bytes, msgspec.Meta(max_length=TOKEN_ID_BYTES)]
    """Empty where a secret is proved."""
    certificate: _Certificate
    nonce: _Nonce


class Challenge(msgspec.Struct, frozen=True, array_like=True):
    version: int
    certificate: _Certificate
    nonce: _ServerNonce
    proof: _Proof


class Proof(msgspec.Struct, frozen=True, array_like=True):
    hello: Annotated[bytes, msgspec.Meta(max_length=REQUEST_BYTES_MAX)]
    """The HELLO as it was sent."""
    server_nonce: _ServerNonce
    proof: _Proof
    signature: _Signature
    payload: Annotated[bytes, msgspec.Meta(max_length=PAYLOAD_BYTES_MAX)]


class Answer(msgspec.Struct, frozen=True, array_like=True):
    group_id: Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
    payload: Annotated[bytes, msgspec.Meta(max_length=ANSWER_BYTES_MAX)]


_M = TypeVar("_M", Hello, Challenge, Proof, Answer)


def decode(kind: type[_M], data: bytes) -> _M:
    """ProtocolError where `data` is no such message, or out of its limits."""
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except msgspec.MsgspecError as error:
        raise ProtocolError(f"a join's {kind.__name__.lower()} cannot be read: {error}") from error


def choose_version(offered: list[int]) -> int:
    """The highest that both know."""
    common = set(offered) & set(VERSIONS)
    if not common:
        raise Refused(
            Code.VERSION, f"this member joins by version {VERSIONS[-1]}, not {max(offered)}: upgrade the older"
        )
    return max(common)


def transcript(hello: bytes, challenge: tuple[int, bytes, bytes], group_id: GroupId) -> bytes:
    """`challenge`: version, the server's certificate (DER), its nonce. What both sides' proofs are about."""
    version, server_certificate, server_nonce = challenge
    joiner_certificate = decode(Hello, hello).certificate
    parts = (
        b"replicad join",
        version.to_bytes(2, "big"),
        group_id,
        hashlib.sha256(server_certificate).digest(),
        hashlib.sha256(joiner_certificate).digest(),
        hello,
        server_nonce,
    )
    return hashlib.sha256(b"".join(len(part).to_bytes(4, "big") + part for part in parts)).digest()


def server_proof(key: bytes, about: bytes) -> bytes:
    return hmac.digest(key, b"replicad join server" + about, "sha256")


def joiner_proof(key: bytes, about: bytes, payload: bytes) -> bytes:
    return hmac.digest(key, b"replicad join joiner" + _with_payload(about, payload), "sha256")


def joiner_statement(about: bytes, payload: bytes) -> bytes:
    """What the joiner signs with its certificate's key."""
    return b"replicad join signature" + _with_payload(about, payload)


def same(one: bytes, other: bytes) -> bool:
    """In constant time."""
    return hmac.compare_digest(one, other)


def seal_nonce(seal_key: bytes, random: bytes, hello: bytes, now_ms: int) -> bytes:
    """The server's nonce for this HELLO; `random` has 16 bytes, `seal_key` 32."""
    body = now_ms.to_bytes(8, "big") + random
    return body + _seal(seal_key, body, hello)


def check_nonce(seal_key: bytes, nonce: bytes, hello: bytes, now_ms: int) -> None:
    """Refused unless this process made it for this HELLO, within JOIN_LIFE_MS."""
    body, seal = nonce[:-16], nonce[-16:]
    age_ms = now_ms - int.from_bytes(body[:8], "big")
    if not same(seal, _seal(seal_key, body, hello)) or not 0 <= age_ms <= JOIN_LIFE_MS:
        raise Refused(Code.REQUEST, "the join took too long, or began with another process: begin again")


def _seal(seal_key: bytes, body: bytes, hello: bytes) -> bytes:
    return blake3(body + hello, key=seal_key).digest(16)


def _with_payload(about: bytes, payload: bytes) -> bytes:
    return about + hashlib.sha256(payload).digest()
