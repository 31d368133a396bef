"""Between links and replicas: which messages of which peer reach whom.

A channel of a link is *attached* to a replica while the peer may take part in it: to the hierarchy always, to a folder
while the peer is in its replica list and the folder is kept here (I11). A replica hears of a link when it is attached,
and of its end when it is detached, whichever of link, folder and membership came or went.

What arrives on a channel that is not attached yet is set aside unread, the last few small messages of it, and handed on
when it is attached: two members that come to a folder hear of each other's coming at different times, and the first
thing that one says would else be lost (a status request, which nobody repeats for a minute).

A replica that takes nothing in holds up the link, and so the peer (REQUIREMENTS D6), but not for ever: after STALL_S
its messages are dropped until it takes one again, so that a folder whose disk hangs does not stop the others (I10).

For a folder that is kept here and has stopped a fence is answered here: whoever waits is told why it waits.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from replicad.core.effects import Received
from replicad.core.fence import REASON_CHARACTERS_MAX
from replicad.core.ids import FolderId, MemberId
from replicad.core.messages import Fence, FenceReply, decode_message, encode_message
from replicad.daemon.driver import Driver
from replicad.errors import PeerError
from replicad.net.connection import LinkClosedError
from replicad.net.link import Link
from replicad.net.refusal import Code, Refused
from replicad.net.wire import Session

HIERARCHY_CHANNEL: FolderId = b""
ASIDE_MESSAGES_MAX, ASIDE_BYTES_MAX, ASIDE_CHANNELS_MAX = 4, 65_536, 256
"""Set aside for each channel; of what length; channels of one link: 64 MiB at the most, a few KiB in practice."""
STALL_S = 10.0
"""For which a full inbox may hold up a link; pings go on meanwhile."""


@dataclass(slots=True)
class _Channel:
    driver: Driver[Any]
    peers: Collection[MemberId] | None
    """Who may take part; None: every member."""
    attached: dict[MemberId, Link] = field(default_factory=dict)
    stalled: bool = False


@dataclass(frozen=True, slots=True)
class _Stopped:
    peers: Collection[MemberId]
    reason: str


class Router:
    """net.network.NetHandler. On the event loop."""

    def __init__(
        self,
        own: MemberId,
        open_session: Callable[[MemberId], Awaitable[Session]],
        is_removed: Callable[[MemberId], bool],
        on_link: Callable[[Link, str | None], None],
        on_refusal: Callable[[MemberId, Refused], None],
    ) -> None:
        """`on_link` is told of a link that came up (None) or ended (why)."""
        self._own = own
        self._open_session = open_session
        self._is_removed = is_removed
        self._on_link = on_link
        self._on_refusal = on_refusal
        self._channels: dict[FolderId, _Channel] = {}
        self._stopped: dict[FolderId, _Stopped] = {}
        self._links: dict[MemberId, Link] = {}
        self._aside: dict[Link, dict[FolderId, deque[bytes]]] = {}

    # -- what the daemon tells

    def add(self, channel: FolderId, driver: Driver[Any], peers: Collection[MemberId] | None) -> None:
        """From now on this replica takes part."""
        self._stopped.pop(channel, None)
        self._channels[channel] = _Channel(driver, peers)
        self._match(channel)

    def set_peers(self, channel: FolderId, peers: Collection[MemberId]) -> None:
        """Who is in the folder's replica list now."""
        if channel in self._channels:
            self._channels[channel].peers = peers
            self._match(channel)

    def remove(self, channel: FolderId) -> None:
        self._channels.pop(channel, None)
        self._stopped.pop(channel, None)

    def stopped(self, channel: FolderId, peers: Collection[MemberId], reason: str) -> None:
        """It was removed, since the folder does not run, and may again."""
        self._stopped[channel] = _Stopped(peers, reason)

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
            if not self._answer_for(link, channel, payload):
                self._set_aside(link, channel, payload)
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
        self._aside.pop(link, None)
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
                self._hand_on(link, channel, to)

    def _set_aside(self, link: Link, channel: FolderId, payload: bytes) -> None:
        channels = self._aside.setdefault(link, {})
        if len(payload) <= ASIDE_BYTES_MAX and (channel in channels or len(channels) < ASIDE_CHANNELS_MAX):
            channels.setdefault(channel, deque(maxlen=ASIDE_MESSAGES_MAX)).append(payload)

    def _answer_for(self, link: Link, channel: FolderId, payload: bytes) -> bool:
        """Whether it is a fence of a folder that has stopped, which is answered then."""
        stopped = self._stopped.get(channel)
        if stopped is None or link.member_id not in stopped.peers:
            return False
        message = decode_message(payload)
        if not isinstance(message, Fence):
            return False
        reason = f"the folder has stopped there: {stopped.reason}"[:REASON_CHARACTERS_MAX]
        failed = [(bytes.fromhex(self._own), reason)]
        reply = FenceReply(fence=message.fence, known=[], members=[], failed=failed, lost=[])
        with suppress(LinkClosedError):
            link.try_send(channel, encode_message(reply))  # where the link is full: it asks again
        return True

    def _hand_on(self, link: Link, channel: FolderId, to: _Channel) -> None:
        for payload in self._aside.get(link, {}).pop(channel, ()):
            try:
                to.driver.received(link, Received(link.member_id, decode_message(payload)))
            except PeerError as error:
                link.close(str(error))
                return
