"""Failed joins are counted by where they come from, in bounded memory. Pure: time comes in.

A token's secret cannot be guessed; a declared one may be weak, and failures cost work and log lines. Each source has a
bucket of failures that fills up again with time, and so has everyone together, against many sources at once. Only what
failed counts: any number of members may join at once.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass

from replicad.net.refusal import Code, Refused

FAILURES_PER_SOURCE = 10
"""Typing errors of a person, restarts of a container with a wrong secret."""
REFILL_PER_SOURCE_MS = 6_000
FAILURES_OF_ALL = 600
REFILL_OF_ALL_MS = 100
SOURCES_MAX = 1_024
"""Some 200 KB; the source that failed longest ago is forgotten first, the common bucket remembers its failures."""


@dataclass(slots=True)
class _Bucket:
    left: float
    at_ms: int

    def filled(self, size: int, refill_ms: int, now_ms: int) -> float:
        self.left = min(float(size), self.left + max(0, now_ms - self.at_ms) / refill_ms)
        self.at_ms = now_ms
        return self.left


class FailureLimit:
    """`check` before work is done for a source; `failed` when that work was in vain."""

    def __init__(self) -> None:
        self._all = _Bucket(FAILURES_OF_ALL, 0)
        self._sources: OrderedDict[str, _Bucket] = OrderedDict()

    def check(self, source: str, now_ms: int) -> None:
        """Refused while the source, or everyone together, has failed too often."""
        bucket = self._sources.get(_network(source))
        if bucket and bucket.filled(FAILURES_PER_SOURCE, REFILL_PER_SOURCE_MS, now_ms) < 1:
            raise Refused(Code.LIMIT, f"too many failed joins from here: try again in {REFILL_PER_SOURCE_MS // 1000} s")
        if self._all.filled(FAILURES_OF_ALL, REFILL_OF_ALL_MS, now_ms) < 1:
            raise Refused(Code.LIMIT, "too many failed joins: try again in a minute")

    def failed(self, source: str, now_ms: int) -> None:
        network = _network(source)
        bucket = self._sources.pop(network, None) or _Bucket(FAILURES_PER_SOURCE, now_ms)
        self._sources[network] = bucket
        bucket.left = bucket.filled(FAILURES_PER_SOURCE, REFILL_PER_SOURCE_MS, now_ms) - 1
        self._all.left -= 1
        if len(self._sources) > SOURCES_MAX:
            self._sources.popitem(last=False)


def _network(source: str) -> str:
    """An IPv4 address, or the /64 of an IPv6 one: a single host has all of that."""
    try:
        ip = ipaddress.ip_address(source.partition("%")[0])
    except ValueError:
        return source[:64]
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is None:
        return str(ipaddress.ip_network((ip, 64), strict=False))
    return str(ip)
