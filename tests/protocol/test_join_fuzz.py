"""Whatever bytes a stranger sends, the desk refuses with a reason; any line is read as a token, or refused."""

import asyncio
from typing import cast

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replicad.errors import ProtocolError, UsageError
from replicad.net.addresses import Address
from replicad.net.identity import Identity, load_or_create
from replicad.net.join import JoinDesk, Joiner
from replicad.net.proof import Answer, Challenge, Hello, Proof, decode
from replicad.net.refusal import Refused, from_headers, to_headers
from replicad.net.token import Token, decode_token, encode_token
from tests.net.invitations import MemoryInvitations


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return load_or_create(tmp_path_factory.mktemp("home"))


async def admit(joiner: Joiner) -> bytes:
    raise AssertionError(f"{joiner.member_id} was let in")


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.binary(max_size=80), st.text(max_size=8)
)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=6), max_leaves=12)
messages = st.one_of(st.binary(max_size=200), values.map(msgspec.msgpack.encode))


@settings(max_examples=300, deadline=None)
@given(messages)
def test_no_bytes_are_let_in_and_all_are_refused(identity: Identity, data: bytes) -> None:
    async def ask() -> None:
        desk = JoinDesk(
            identity, b"g" * 16, invitations=MemoryInvitations(), admit=admit, now_ms=lambda: 0, secret_key=b"k" * 32
        )
        for answer in (desk.hello, desk.proof):
            try:
                await answer(data, "192.0.2.1")
            except Refused:
                continue
            raise AssertionError("not refused")

    asyncio.run(ask())


@settings(max_examples=300, deadline=None)
@given(messages)
def test_a_joins_messages_are_read_or_refused(data: bytes) -> None:
    for kind in (Hello, Challenge, Proof, Answer):
        try:
            message = decode(cast(type[Hello], kind), data)
        except ProtocolError:
            continue
        assert decode(cast(type[Hello], kind), msgspec.msgpack.encode(message)) == message


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=200), st.binary(max_size=100).map(lambda body: f"rj1_{body.hex()}")))
def test_any_line_is_a_token_or_a_mistake(line: str) -> None:
    try:
        decode_token(line)
    except UsageError:
        pass


@given(
    st.binary(min_size=16, max_size=16),
    st.binary(min_size=32, max_size=32),
    st.lists(st.integers(1, 65_535).map(lambda port: Address("a", port)), min_size=1, max_size=16, unique=True),
    st.integers(0, 2**53 - 1),
)
def test_every_token_comes_back(secret: bytes, inviter: bytes, addresses: list[Address], expires_ms: int) -> None:
    token = Token(b"g" * 16, inviter.hex(), secret, tuple(addresses), expires_ms)
    assert decode_token(encode_token(token)) == token


@given(st.text(max_size=400), st.text(max_size=400))
def test_a_refusal_arrives_in_one_safe_line(code: str, reason: str) -> None:
    refusal = from_headers(
        403, {"Replicad-Refusal": code, "Replicad-Reason": to_headers(Refused("x", reason))["Replicad-Reason"]}
    )
    assert str(refusal) == str(Refused("x", reason))
    for text in (str(refusal), refusal.code):
        assert text.isprintable()
        assert len(text) <= 300
    raw = from_headers(403, {"Replicad-Refusal": code, "Replicad-Reason": reason})
    assert str(raw).isprintable()
