"""Joining, on the side that asks: dial, prove, and bring back what the other side gives to a new member.

By token the inviter's fingerprint is known beforehand, and the TLS handshake fails at anyone else. By secret it is
learned in a handshake that tells the other nothing, pinned for the join, and proved by the server before the joiner
proves, or says, anything (net.proof).
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp
import msgspec

from replicad.core.ids import MemberId
from replicad.core.naming import GroupId
from replicad.errors import PeerError, ProtocolError
from replicad.net.addresses import Address
from replicad.net.client import CONNECT_S, as_peer_errors, new_session, post
from replicad.net.identity import Identity, check_certificate, member_id_of
from replicad.net.proof import (
    ANSWER_BYTES_MAX,
    BY_SECRET,
    BY_TOKEN,
    CHALLENGE_BYTES_MAX,
    NONCE_BYTES,
    VERSIONS,
    Answer,
    Challenge,
    Hello,
    Proof,
    decode,
    joiner_proof,
    joiner_statement,
    same,
    server_proof,
    transcript,
)
from replicad.net.race import NobodyError, race
from replicad.net.tls import SERVER_NAME, abort, guest_context, peer_certificate
from replicad.net.token import Token, token_id, token_key

HELLO_PATH = "/v1/join/hello"
PROOF_PATH = "/v1/join/proof"


@dataclass(frozen=True, slots=True)
class Joined:
    """What the group's member answered. `payload` is opaque here."""

    group_id: GroupId
    member_id: MemberId
    certificate_der: bytes
    address: Address
    payload: bytes


@dataclass(frozen=True, slots=True)
class _Way:
    """How this join is proved: by whom it must be answered is None where that is learned."""

    kind: int
    token_id: bytes
    key: bytes
    group_id: GroupId
    server: MemberId | None


@dataclass(frozen=True, slots=True)
class _Met:
    """A server that has proved itself at `address`, and waits for our proof."""

    session: aiohttp.ClientSession
    address: Address
    hello: bytes
    challenge: Challenge


async def join_by_token(identity: Identity, token: Token, payload: bytes) -> Joined:
    """Ask the inviter to take us in; Refused with its reason; another PeerError where it cannot be asked."""
    way = _Way(BY_TOKEN, token_id(token.secret), token_key(token.secret), token.group_id, token.inviter)
    return await _join(identity, way, token.addresses, payload)


async def join_by_secret(
    identity: Identity, group_id: GroupId, secret_key: bytes, seeds: Sequence[Address], payload: bytes
) -> Joined:
    """Ask any of the seeds that proves the secret; one that is this member itself, or of another group, does not.

    `secret_key` and `group_id` are core.naming's, from one secret and name.
    """
    way = _Way(BY_SECRET, b"", secret_key, group_id, None)
    return await _join(identity, way, seeds, payload)


async def _join(identity: Identity, way: _Way, addresses: Sequence[Address], payload: bytes) -> Joined:
    async def attempt(address: Address) -> _Met:
        return await _meet(identity, way, address)

    async def discard(met: _Met) -> None:
        await met.session.close()

    try:
        met = await race(addresses, attempt, discard)
    except NobodyError as nobody:
        if way.server and nobody.refusal:
            raise nobody.refusal from nobody  # one inviter at all its addresses: its word is the answer
        raise
    try:
        return await _prove(identity, way, met, payload)
    finally:
        await met.session.close()


async def _meet(identity: Identity, way: _Way, address: Address) -> _Met:
    server = way.server or await _learn(identity, address)
    session = new_session(guest_context(server))
    try:
        hello = msgspec.msgpack.encode(
            Hello(list(VERSIONS), way.kind, way.token_id, identity.certificate_der, secrets.token_bytes(NONCE_BYTES))
        )
        challenge = decode(Challenge, await post(session, address, HELLO_PATH, hello, CHALLENGE_BYTES_MAX))
        if check_certificate(challenge.certificate) != server or challenge.version not in VERSIONS:
            raise ProtocolError("the answer to a join is not from the member at the other end")
        if not same(challenge.proof, server_proof(way.key, _about(way, hello, challenge))):
            raise PeerError("the member there does not know the " + ("token" if way.server else "group's secret"))
    except BaseException:
        await session.close()
        raise
    return _Met(session, address, hello, challenge)


async def _learn(identity: Identity, address: Address) -> MemberId:
    """The fingerprint at `address`: nothing but a TLS handshake without a certificate is sent."""
    with as_peer_errors():
        async with asyncio.timeout(CONNECT_S):
            _, writer = await asyncio.open_connection(
                address.host, address.port, ssl=guest_context(None), server_hostname=SERVER_NAME
            )
    certificate = peer_certificate(writer.get_extra_info("ssl_object"))
    abort(writer.transport)
    if certificate is None:
        raise ProtocolError("the server shows no certificate")
    met = member_id_of(certificate)
    if met == identity.member_id:
        raise PeerError("this is the member itself")
    return met


async def _prove(identity: Identity, way: _Way, met: _Met, payload: bytes) -> Joined:
    about = _about(way, met.hello, met.challenge)
    proof = Proof(
        met.hello,
        met.challenge.nonce,
        joiner_proof(way.key, about, payload),
        identity.sign(joiner_statement(about, payload)),
        payload,
    )
    body = msgspec.msgpack.encode(proof)
    answer = decode(Answer, await post(met.session, met.address, PROOF_PATH, body, 2 * ANSWER_BYTES_MAX))
    if answer.group_id != way.group_id:
        raise ProtocolError("the member answered for another group")
    certificate = met.challenge.certificate
    return Joined(way.group_id, member_id_of(certificate), certificate, met.address, answer.payload)


def _about(way: _Way, hello: bytes, challenge: Challenge) -> bytes:
    return transcript(hello, (challenge.version, challenge.certificate, challenge.nonce), way.group_id)
