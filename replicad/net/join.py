"""Joining, on the side that is asked: one `JoinDesk` a daemon. `net.server` brings it the requests over HTTP.

What a stranger can cost is bounded: a request's size, the rate of failures (`net.limits`), the joins worked on at
once, and no state is kept between the two requests of one join. Refusals before the proof name no secret thing: who
knows a token's id has the token.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import msgspec

from replicad.core.ids import MemberId
from replicad.core.naming import GroupId
from replicad.errors import PeerError
from replicad.net.identity import Identity, check_certificate, verify
from replicad.net.limits import FailureLimit
from replicad.net.proof import (
    ANSWER_BYTES_MAX,
    BY_SECRET,
    BY_TOKEN,
    Answer,
    Challenge,
    Hello,
    Proof,
    check_nonce,
    choose_version,
    decode,
    joiner_proof,
    joiner_statement,
    same,
    seal_nonce,
    server_proof,
    transcript,
)
from replicad.net.refusal import Code, Refused
from replicad.net.token import Invitations

JOINS_AT_ONCE_MAX = 32
"""Each may hold a request (70 KB) and an answer; who is turned away tries again."""


@dataclass(frozen=True, slots=True)
class Joiner:
    """Who has proved a token (`token_id`) or the declared secret (None), and the certificate's key."""

    member_id: MemberId
    certificate_der: bytes
    token_id: bytes | None
    source: str
    """The IP address that it came from."""
    payload: bytes
    """What it tells of itself; opaque here."""


Admit = Callable[[Joiner], Awaitable[bytes]]
"""Takes the joiner into the group and returns the answer's payload (at most ANSWER_BYTES_MAX). Called again for one
joiner whose answer was lost: idempotent. May raise Refused (Code.REMOVED: a removed member does not come back)."""


class JoinDesk:
    """Judges HELLO and PROOF. `secret_key` (core.naming.join_key_from_secret) is None in a group without a secret."""

    def __init__(
        self,
        identity: Identity,
        group_id: GroupId,
        *,
        invitations: Invitations,
        admit: Admit,
        now_ms: Callable[[], int],
        secret_key: bytes | None = None,
    ) -> None:
        self._identity = identity
        self._group_id = group_id
        self._invitations = invitations
        self._admit = admit
        self._now_ms = now_ms
        self._secret_key = secret_key
        self._seal_key = secrets.token_bytes(32)
        self._failures = FailureLimit()
        self._at_work = 0

    async def hello(self, data: bytes, source: str) -> bytes:
        """The CHALLENGE to a HELLO; Refused otherwise."""
        with self._place(), self._judging(source):
            hello = decode(Hello, data)
            version = choose_version(hello.versions)
            key = await self._key_for(hello, check_certificate(hello.certificate))
            nonce = seal_nonce(self._seal_key, secrets.token_bytes(16), data, self._now_ms())
            own = self._identity.certificate_der
            about = transcript(data, (version, own, nonce), self._group_id)
            return msgspec.msgpack.encode(Challenge(version, own, nonce, server_proof(key, about)))

    async def proof(self, data: bytes, source: str) -> bytes:
        """The ANSWER to a PROOF; Refused otherwise. A token's use is consumed only here, after everything is proved."""
        with self._place():
            with self._judging(source):
                proof = decode(Proof, data)
                hello = decode(Hello, proof.hello)
                member_id = check_certificate(hello.certificate)
                key = await self._key_for(hello, member_id)
                self._check_proof(proof, hello, key)
            token = hello.token_id if hello.kind == BY_TOKEN else None
            if token is not None:
                await self._invitations.take(token, member_id, self._now_ms())
            payload = await self._admit(Joiner(member_id, hello.certificate, token, source, proof.payload))
        assert len(payload) <= ANSWER_BYTES_MAX, "the answer to a joiner is too long"
        return msgspec.msgpack.encode(Answer(self._group_id, payload))

    def _check_proof(self, proof: Proof, hello: Hello, key: bytes) -> None:
        check_nonce(self._seal_key, proof.server_nonce, proof.hello, self._now_ms())
        challenge = (choose_version(hello.versions), self._identity.certificate_der, proof.server_nonce)
        about = transcript(proof.hello, challenge, self._group_id)
        if not same(proof.proof, joiner_proof(key, about, proof.payload)):
            what = "token" if hello.kind == BY_TOKEN else "group's secret"
            raise Refused(Code.TOKEN if hello.kind == BY_TOKEN else Code.SECRET, f"the {what} was not proved")
        if not verify(hello.certificate, proof.signature, joiner_statement(about, proof.payload)):
            raise Refused(Code.REQUEST, "the certificate's key was not proved")

    async def _key_for(self, hello: Hello, member_id: MemberId) -> bytes:
        if member_id == self._identity.member_id:
            raise Refused(Code.REQUEST, "this is the member itself")
        if hello.kind == BY_TOKEN:
            invitation = await self._invitations.find(hello.token_id)
            if invitation is None:
                raise Refused(Code.TOKEN, "the token is not known here: it was made by another member, or forgotten")
            invitation.check(member_id, self._now_ms())
            return invitation.key
        if hello.kind != BY_SECRET:
            raise Refused(Code.REQUEST, "this way of joining is not known here")
        if self._secret_key is None:
            raise Refused(Code.SECRET, "this group was not declared with a secret: join it with a token")
        return self._secret_key

    @contextmanager
    def _place(self) -> Iterator[None]:
        if self._at_work >= JOINS_AT_ONCE_MAX:
            raise Refused(Code.BUSY, "too many joins at once: try again")
        self._at_work += 1
        try:
            yield
        finally:
            self._at_work -= 1

    @contextmanager
    def _judging(self, source: str) -> Iterator[None]:
        """Counts what fails in here against `source`, and turns it into a refusal."""
        self._failures.check(source, self._now_ms())
        try:
            yield
        except Refused:
            self._failures.failed(source, self._now_ms())
            raise
        except PeerError as error:
            self._failures.failed(source, self._now_ms())
            raise Refused(Code.REQUEST, str(error)) from error
