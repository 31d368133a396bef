"""Addresses as members write them: `host:port`, `[IPv6]:port`."""

from __future__ import annotations

import fcntl
import ipaddress
import re
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from replicad.errors import UsageError

ADDRESSES_MAX = 16
"""Of one member: more interfaces than servers have, and few enough to dial all of them at once."""
ADDRESS_CHARACTERS_MAX = 262
"""The longest name in DNS (253), brackets, colon and port."""

_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?")
_SIOCGIFADDR = 0x8915  # linux/sockios.h


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """`host` is a name or an IP address without brackets; `port` is 0 only where any free port is asked for."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def unspecified(self) -> bool:
        """0.0.0.0 or ::, which one can listen at and nobody can dial."""
        ip = _ip(self.host)
        return ip is not None and ip.is_unspecified


def parse_address(text: str) -> Address:
    """UsageError says what is wrong with `text`."""
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if bracketed:
        host = host[1:-1]
    if not colon or not host or len(text) > ADDRESS_CHARACTERS_MAX:
        raise UsageError(f"{text!r} is not an address: write HOST:PORT or [IPV6]:PORT")
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65_535):
        raise UsageError(f"{text!r} has no port between 0 and 65535")
    ip = _ip(host)
    if bracketed != isinstance(ip, ipaddress.IPv6Address) or (ip is None and not _HOST.fullmatch(host)):
        raise UsageError(f"{text!r} is not an address: write HOST:PORT or [IPV6]:PORT")
    return Address(str(ip) if ip else host, int(port))


def dialable(addresses: Iterable[Address]) -> tuple[Address, ...]:
    """Without doubles and without what nobody can dial; at most ADDRESSES_MAX, the first ones."""
    usable = (address for address in dict.fromkeys(addresses) if not address.unspecified and address.port)
    return tuple(usable)[:ADDRESSES_MAX]


def reachable_at(listen: Address, advertise: Iterable[Address]) -> tuple[Address, ...]:
    """Every address at which a member that listens at `listen` may be reached, the advertised ones first.

    Where it listens at all interfaces, those of the interfaces: loopback only if there is nothing else. Blocking.
    """
    own = _interface_addresses(listen) if listen.unspecified else [listen]
    return dialable([*advertise, *own])


def _interface_addresses(listen: Address) -> list[Address]:
    found = [ipaddress.ip_address(text) for text in _ipv4_of_interfaces()]
    if ":" in listen.host:
        found += [ipaddress.ip_address(text) for text in _ipv6_of_interfaces()]
    outside = [ip for ip in found if not ip.is_loopback and not ip.is_link_local]
    return [Address(str(ip), listen.port) for ip in outside or found if not ip.is_link_local]


def _ipv4_of_interfaces() -> list[str]:
    """The first address of each interface; an operator with several on one advertises them."""
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            try:
                answer = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, request)
            except OSError:
                continue  # an interface without an IPv4 address
            found.append(socket.inet_ntoa(answer[20:24]))
    return found


def _ipv6_of_interfaces() -> list[str]:
    table = Path("/proc/net/if_inet6")
    if not table.exists():
        return []  # a kernel without IPv6
    lines = table.read_text().splitlines()
    return [str(ipaddress.IPv6Address(int(line.split()[0], 16))) for line in lines]


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    if "%" in host:
        return None  # a zone is a number of one host's: it means nothing to others
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
