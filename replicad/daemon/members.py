"""Who belongs to the group and where each can be dialed: from the hierarchy to the network, and into group.json.

A member is looked for at the addresses that it publishes, and at one more: where it was last seen to dial in from, with
the port that it publishes. So one that has moved is found again by those that it can reach itself.

Beside the hierarchy stand acquaintances: members that were met while joining and are not in the hierarchy here yet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from replicad.core.hierarchy_entries import ADDRESSES_MAX
from replicad.core.hierarchy_model import Reading
from replicad.core.ids import MemberId
from replicad.errors import PeerError, UsageError
from replicad.net.addresses import Address, dialable, parse_address
from replicad.net.identity import check_certificate
from replicad.net.link import Link
from replicad.net.network import PeerNetwork
from replicad.ops.home import Acquaintance, Group, remember


class MemberBook:
    """On the event loop; `network` is told of everything."""

    def __init__(self, home: Path, group: Group, own: MemberId, reading: Reading) -> None:
        self._home = home
        self._own = own
        self._group = group
        self._met = {member.member_id: member for member in group.members}
        self._observed: dict[MemberId, str] = {}
        self._network: PeerNetwork | None = None
        self.reading = reading
        """The newest; read by replicas' threads as well, hence never changed but replaced."""

    @property
    def group(self) -> Group:
        return self._group

    def use(self, network: PeerNetwork) -> None:
        self._network = network
        self._tell()

    async def update(self, reading: Reading) -> None:
        """The hierarchy says something new."""
        self.reading = reading
        self._tell()
        await self._write()

    async def meet(self, members: Sequence[Acquaintance]) -> None:
        """Members told of by one that has proved that it knows the group's secret."""
        for member in members:
            if member.member_id != self._own and member.member_id not in self.reading.removed:
                self._met[member.member_id] = member
        self._tell()
        await self._write()

    def saw(self, link: Link) -> None:
        """A link came up."""
        if link.info.dialed:
            return
        host = _host(link.info.address)
        if host is not None and self._observed.get(link.member_id) != host:
            self._observed[link.member_id] = host
            self._tell()

    def others(self) -> dict[MemberId, Acquaintance]:
        """All members but this one, as they are known now."""
        others = {member: one for member, one in self._met.items() if member not in self.reading.removed}
        for member, info in self.reading.members.items():
            if member == self._own:
                continue
            addresses = info.addresses
            if not addresses and member in others:
                addresses = others[member].addresses
            others[member] = Acquaintance(member, info.name, info.certificate, addresses)
        return others

    def is_removed(self, member: MemberId) -> bool:
        return member in self.reading.removed

    def name_of(self, member: MemberId) -> str:
        """For people."""
        info = self.reading.members.get(member) or self._met.get(member)
        return info.name if info is not None else member[:16]

    def addresses_of(self, member: Acquaintance) -> tuple[Address, ...]:
        """Where to dial it: as published, then where it was seen to come from."""
        published = parsed(member.addresses)
        seen = self._observed.get(member.member_id)
        ports = dict.fromkeys(address.port for address in published)
        moved = [Address(seen, port) for port in ports] if seen is not None else []
        return dialable([*published, *moved])

    def own_addresses(self) -> list[Address]:
        """As published."""
        info = self.reading.members.get(self._own)
        return parsed(info.addresses) if info is not None else []

    def _tell(self) -> None:
        if self._network is None:
            return
        others = self.others()
        self._network.set_members({member: one.certificate_der for member, one in others.items()})
        for member, one in others.items():
            self._network.set_addresses(member, self.addresses_of(one))

    async def _write(self) -> None:
        self._group = await asyncio.to_thread(remember, self._home, self._group, list(self.others().values()))


def usable(members: Sequence[Acquaintance]) -> list[Acquaintance]:
    """Those whose certificate is one, and their own."""
    found = []
    for member in members:
        try:
            if check_certificate(member.certificate_der) == member.member_id:
                found.append(member)
        except PeerError:
            continue
    return found


def parsed(texts: Sequence[str]) -> list[Address]:
    """Addresses as members publish them; what is none is passed over, since others wrote it."""
    addresses = []
    for text in texts[:ADDRESSES_MAX]:
        try:
            addresses.append(parse_address(text))
        except UsageError:
            continue
    return addresses


def _host(text: str) -> str | None:
    try:
        return parse_address(text).host
    except UsageError:
        return None
