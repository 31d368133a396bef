"""Finding the group of a declared secret: its seeds are asked until each has answered.

All members of a declared group may start at the same moment, so nobody may be there yet, each asks and each answers,
and two that ask each other at once both succeed. A seed that answered is asked again only while the member that it
turned out to be is not in the hierarchy; others with growing pauses, so that one that comes later is found.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence

from replicad.core.ids import MemberId
from replicad.core.naming import GroupId
from replicad.errors import PeerError
from replicad.net.addresses import Address
from replicad.net.identity import Identity
from replicad.net.joining import Joined, join_by_secret

RETRY_MIN_S, RETRY_MAX_S = 0.2, 30.0
"""Between two questions at one seed, doubling, jittered: at a first start the others are there within seconds."""
CHECK_S = 30.0
"""How often a seed that has answered is looked at again."""


class SeedFinder:
    """`met` takes what a seed's member told; `is_member` says who is in the hierarchy now."""

    def __init__(
        self,
        identity: Identity,
        group: GroupId,
        secret_key: bytes,
        payload: Callable[[], bytes],
        met: Callable[[Joined], Awaitable[None]],
        is_member: Callable[[MemberId], bool],
        said: Callable[[str], None],
    ) -> None:
        self._identity = identity
        self._group = group
        self._secret_key = secret_key
        self._payload = payload
        self._met = met
        self._is_member = is_member
        self._said = said

    async def run(self, seeds: Sequence[Address]) -> None:
        """For as long as the daemon runs."""
        async with asyncio.TaskGroup() as tasks:
            for seed in dict.fromkeys(seeds):
                tasks.create_task(self._follow(seed))

    async def _follow(self, seed: Address) -> None:
        known: MemberId | None = None
        pause_s = RETRY_MIN_S
        told = ""
        while True:
            if known is not None and self._is_member(known):
                pause_s = RETRY_MIN_S
                await asyncio.sleep(CHECK_S)
                continue
            try:
                joined = await join_by_secret(self._identity, self._group, self._secret_key, [seed], self._payload())
                await self._met(joined)
                known = joined.member_id
            except PeerError as error:
                if str(error) != told and pause_s > RETRY_MAX_S / 4:
                    told = str(error)  # once it has lasted, and once for each reason
                    self._said(f"the seed {seed} does not take this member in: {told}")
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311  (jitter)
            pause_s = min(RETRY_MAX_S, pause_s * 2)
