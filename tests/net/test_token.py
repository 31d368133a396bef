"""Tokens as lines of text, and what becomes of an invitation."""

import base64

import pytest

from replicad.errors import UsageError
from replicad.net.addresses import Address
from replicad.net.refusal import Refused
from replicad.net.token import (
    PREFIX,
    TOKEN_CHARACTERS_MAX,
    Invitation,
    Token,
    decode_token,
    encode_token,
    new_invitation,
    token_id,
    token_key,
)

ALICE, BOB = "aa" * 32, "bb" * 32
SECRET = bytes(range(16))
TOKEN = Token(b"g" * 16, "ab" * 32, SECRET, (Address("alpha", 7722), Address("fd00::1", 7722)), 1_900_000_000_000)


def test_a_token_is_one_line_that_says_all() -> None:
    line = encode_token(TOKEN)
    assert line.startswith("rj1_")
    assert line.isascii()
    assert " " not in line
    assert decode_token(f"  {line}\n") == TOKEN


def test_sixteen_of_the_longest_addresses_fit() -> None:
    hosts = [".".join([f"{number:02}" + "x" * 60] * 4) for number in range(16)]
    token = Token(b"g" * 16, "ab" * 32, SECRET, tuple(Address(host, 65_535) for host in hosts), 0)
    assert len(encode_token(token)) < TOKEN_CHARACTERS_MAX
    assert decode_token(encode_token(token)) == token


def test_a_token_never_holds_an_address_that_nobody_can_dial() -> None:
    token = Token(b"g" * 16, "ab" * 32, SECRET, (Address("0.0.0.0", 7722), Address("::", 7722), Address("a", 1)), 0)
    assert decode_token(encode_token(token)).addresses == (Address("a", 1),)
    with pytest.raises(UsageError, match="advertise"):
        encode_token(Token(b"g" * 16, "ab" * 32, SECRET, (Address("0.0.0.0", 7722),), 0))


def test_every_broken_character_is_noticed() -> None:
    line = encode_token(TOKEN)
    for position in range(len(PREFIX), len(line)):
        other = "A" if line[position] != "A" else "B"
        broken = line[:position] + other + line[position + 1 :]
        if base64.urlsafe_b64decode(broken[4:] + "==="[: -len(broken[4:]) % 4]) == base64.urlsafe_b64decode(
            line[4:] + "==="[: -len(line[4:]) % 4]
        ):
            continue  # the last character's unused bits
        with pytest.raises(UsageError):
            decode_token(broken)


@pytest.mark.parametrize("line", ["", "rj1_", "rj2_AAAA", "rj1_AAAA", "rj1_é", "rj1_" + "A" * 9_000, "a password"])
def test_what_is_no_token_is_the_operators_mistake_and_is_not_repeated(line: str) -> None:
    with pytest.raises(UsageError) as caught:
        decode_token(line)
    assert len(line) < 5 or line[4:] not in str(caught.value)


def test_the_book_holds_neither_the_secret_nor_a_token() -> None:
    book = new_invitation(SECRET, expires_ms=1_000, uses_max=1)
    assert book.key == token_key(SECRET)
    assert book.token_id == token_id(SECRET)
    assert SECRET not in (book.key, book.token_id)
    assert SECRET.hex() not in repr(TOKEN)


def test_a_token_for_two_is_taken_by_two_and_no_third() -> None:
    book = new_invitation(SECRET, expires_ms=1_000, uses_max=2).taken(ALICE, 0).taken(BOB, 0)
    assert book.used_by == (ALICE, BOB)
    with pytest.raises(Refused, match="has been used"):
        book.taken("cc" * 32, 0)


def test_who_lost_the_answer_may_take_the_same_use_again() -> None:
    book = new_invitation(SECRET, expires_ms=1_000, uses_max=1).taken(ALICE, 0)
    assert book.taken(ALICE, 1) == book


def test_a_token_expires_at_its_time_and_not_before() -> None:
    book = new_invitation(SECRET, expires_ms=1_000, uses_max=1)
    book.check(ALICE, 999)
    with pytest.raises(Refused, match="expired"):
        book.check(ALICE, 1_000)


def test_a_revoked_token_is_refused_even_to_who_has_used_it() -> None:
    book = Invitation(b"i" * 16, b"k" * 32, 1_000, used_by=(ALICE,), revoked=True)
    with pytest.raises(Refused, match="revoked"):
        book.check(ALICE, 0)


@pytest.mark.parametrize("uses", [0, -1, 1_001])
def test_the_number_of_uses_is_limited(uses: int) -> None:
    with pytest.raises(UsageError, match="--uses"):
        new_invitation(SECRET, 1_000, uses)
