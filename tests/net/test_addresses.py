"""Addresses as members write them."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicad.errors import UsageError
from replicad.net.addresses import ADDRESSES_MAX, Address, dialable, parse_address, reachable_at


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("alpha:7722", Address("alpha", 7722)),
        ("my_host.example.org:1", Address("my_host.example.org", 1)),
        ("127.0.0.1:0", Address("127.0.0.1", 0)),
        ("[::1]:65535", Address("::1", 65535)),
        ("[2001:DB8::1]:80", Address("2001:db8::1", 80)),
    ],
)
def test_an_address_is_read_and_written(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "alpha",
            ":7722",
            "alpha:",
            "alpha:65536",
            "alpha:-1",
            "alpha:٣",
            "::1:7722",
            "[alpha]:1",
            "[127.0.0.1]:1",
        ),
        *("a b:1", "a/b:1", "http://a:1", "a@b:1", "a\n:1", "-a:1", "a:1 ", "x" * 300 + ":1", "[::1%eth0]:1"),
    ],
)
def test_what_is_no_address_is_the_operators_mistake(text: str) -> None:
    with pytest.raises(UsageError):
        parse_address(text)


@given(st.text(max_size=40))
def test_any_text_is_an_address_or_a_mistake(text: str) -> None:
    try:
        address = parse_address(text)
    except UsageError:
        return
    assert parse_address(str(address)) == address


def test_addresses_that_nobody_can_dial_are_left_out() -> None:
    given_ = [Address("0.0.0.0", 1), Address("a", 1), Address("::", 1), Address("a", 1), Address("b", 0)]
    assert dialable(given_) == (Address("a", 1),)
    assert len(dialable(Address("a", port) for port in range(1, 100))) == ADDRESSES_MAX


def test_who_listens_everywhere_is_reached_at_its_interfaces_and_where_it_says() -> None:
    addresses = reachable_at(Address("0.0.0.0", 7722), [Address("alpha.example.org", 443)])
    assert addresses[0] == Address("alpha.example.org", 443)
    assert len(addresses) > 1, "not one interface has an address"
    for address in addresses[1:]:
        assert address.port == 7722
        assert not ipaddress.ip_address(address.host).is_unspecified
    assert reachable_at(Address("192.0.2.1", 7722), []) == (Address("192.0.2.1", 7722),)
