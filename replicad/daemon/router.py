"""Between links and replicas: which messages of which peer reach whom.

A channel of a link is *attached* to a replica while the peer may take part in it: to the hierarchy always, to a folder
while the peer is in its replica list and the folder is kept here (I11). A replica hears of a link when it is attached,
and of its end when it is detached, whichever of link, folder and membership came or went. What arrives on a channel
that is not attached is dropped: when it is attached later, both sides tell each other everything that matters.

A replica that takes nothing in holds up the link, and so the peer (REQUIREMENTS D6), but not for ever: after STALL_S
its messages are dropped until it takes one again, so that a folder whose disk hangs does not stop the others (I10).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from replicad.core.effects import Received
from replicad.core.ids import FolderId, MemberId
from replicad.core.messages import decode_message
from replicad.daemon.driver import Driver
from replicad.net.link import Link
from replicad.net.refusal import Code, Refused
from replicad.net.wire import Session

HIERARCHY_CHANNEL: FolderId = b""
STALL_S = 10.0
"""For which a full inbox may hold up a link; pings go on meanwhile."""


@dataclass(slots=True)
class _Channel:
    driver: Driver[Any]
    peers: Collection[MemberId] | None
    """Who may take part; None: every member."""
    attached: dict[MemberId, Link] = field(default_factory=dict)
    stalled: bool = False


class Router:
    """net.network.NetHandler. On the event loop."""

    def __init__(
        self,
        open_session: Callable[[MemberId], Awaitable[Session]],
        is_removed: Callable[[MemberId], bool],
        on_link: Callable[[Link, str | None], None],
        on_refusal: Callable[[MemberId, Refused], None],
    ) -> None:
        """`on_link` is told of a link that came up (None) or ended (why)."""
        self._open_session = open_session
        self._is_removed = is_removed
        self._on_link = on_link
        self._on_refusal = on_refusal
        self._channels: dict[FolderId, _Channel] = {}
        self._links: dict[MemberId, Link] = {}

    # -- what the daemon tells

    def add(self, channel: FolderId, driver: Driver[Any], peers: Collection[MemberId] | None) -> None:
        """From now on this replica takes part."""
        self._channels[channel] = _Channel(driver, peers)
        self._match(channel)

    def set_peers(self, channel: FolderId, peers: Collection[MemberId]) -> None:
        """Who is in the folder's replica list now."""
        if channel in self._channels:
            self._channels[channel].peers = peers
            self._match(channel)

    def remove(self, channel: FolderId) -> None:
        self._channels.pop(channel, None)

    def links(self) -> dict[MemberId, Link]:
        return dict(self._links)

    # -- net.network.NetHandler

    async def open_session(self, member_id: MemberId) -> Session:
        return await self._open_session(member_id)

    async def on_link_up(self, link: Link) -> None:
        self._links[link.member_id] = link
        for channel in self._channels:
            self._match(channel)
        self._on_link(link, None)

    async def on_message(self, link: Link, channel: bytes, payload: bytes) -> None:
        to = self._channels.get(channel)
        if to is None or to.attached.get(link.member_id) is not link:
            return
        event = Received(link.member_id, decode_message(payload))
        if to.stalled and to.driver.waiting:
            return
        try:
            async with asyncio.timeout(STALL_S):
                await to.driver.deliver(link, event, len(payload))
            to.stalled = False
        except TimeoutError:
            to.stalled = True

    async def on_link_down(self, link: Link, reason: str) -> None:
        if self._links.get(link.member_id) is link:
            del self._links[link.member_id]
        for channel in self._channels:
            self._match(channel)
        self._on_link(link, reason)

    def on_refused(self, member_id: MemberId, refusal: Refused) -> None:
        self._on_refusal(member_id, refusal)

    def reason_against(self, member_id: MemberId) -> Refused:
        if self._is_removed(member_id):
            return Refused(Code.REMOVED, "this member was removed from the group")
        return Refused(Code.NOT_A_MEMBER, "this member is not in the group")

    # -- inside

    def _match(self, channel: FolderId) -> None:
        """Attach and detach, so that exactly the links of those who may take part are attached."""
        to = self._channels[channel]
        wanted = {member: link for member, link in self._links.items() if to.peers is None or member in to.peers}
        for member, link in list(to.attached.items()):
            if wanted.get(member) is not link:
                del to.attached[member]
                to.driver.link_down(link)
        for member, link in wanted.items():
            if member not in to.attached:
                to.attached[member] = link
                to.driver.link_up(link)
