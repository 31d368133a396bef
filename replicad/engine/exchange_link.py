"""What an exchange keeps of one link, and the values it is given by the replica that it serves."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from replicad.core.cnset import EMPTY, CNSet
from replicad.core.ids import REPLICA_MAX, ReplicaId, Uid
from replicad.core.messages import (
    CONTENT,
    HIERARCHY,
    ContentBackfill,
    ContentChange,
    HierarchyBackfill,
    HierarchyChange,
    MemberStatus,
)
from replicad.core.outbox import Outbox
from replicad.core.records import ENTRY
from replicad.core.runs import Run
from replicad.errors import ProtocolError

REPLICAS_PER_LINK_MAX = 16
"""Replica ids that a peer may show on one link: it takes a new one when it was put back, and that once."""
UID_ANSWER_MAX_MS = 30_000
"""After so long a request by UID counts as unanswered."""

PushType = type[HierarchyChange] | type[ContentChange]
AnswerType = type[HierarchyBackfill] | type[ContentBackfill]


@dataclass(frozen=True, slots=True)
class Channel:
    """Which codes and kinds of records belong to what is exchanged."""

    push: PushType
    answer: AnswerType
    entries: bool
    """Records are entries; in a folder none is."""

    def check_kind(self, kind: int) -> None:
        """Raises ProtocolError."""
        if (kind == ENTRY) != self.entries:
            raise ProtocolError(f"a record of kind {kind} does not belong here")


CHANNELS = {
    HIERARCHY: Channel(HierarchyChange, HierarchyBackfill, True),
    CONTENT: Channel(ContentChange, ContentBackfill, False),
}


class OwnState(msgspec.Struct, frozen=True):
    """What this member's status says beside what the catalog's CNs say (core.messages.MemberStatus).

    `serves`: False while nothing may be served (rule 6: before a founder's first scan ends); then nothing is pushed,
    answered or shown as known. `missing`: known and not installed.
    """

    state: int
    complete: bool
    scanned: bool
    serves: bool = True
    missing: CNSet = EMPTY
    not_wanted: CNSet = EMPTY
    purged: CNSet = EMPTY
    begun: bool = True
    """It takes part: it is no joiner, and does not rejoin."""
    compares: bool = False
    """It finds out what others have forgotten: no record crosses any link."""
    owes: bool = False
    """It has dropped what a peer has forgotten, and does not know yet all that this one knew of it; or it lacks what it
    knows, and is about to ask for it: its digest proves nothing."""
    founds: bool = False
    """As in core.messages_meeting.Meet."""
    doubts: bool = False
    """What is known is not sure, and not told."""
    pending_files: int = 0
    pending_bytes: int = 0
    oldest_ms: int | None = None


class Correlations:
    """Numbers of requests and pushes, in turn, after `last`."""

    def __init__(self, last: int) -> None:
        self._last = last

    def next(self) -> int:
        self._last += 1
        return self._last


@dataclass(slots=True)
class UidsAsked:
    uids: tuple[Uid, ...]
    asked_ms: int


@dataclass(slots=True)
class Link:
    """For as long as the link is up: nothing told on it outlives it."""

    outbox: Outbox = field(default_factory=Outbox)
    known: CNSet = EMPTY
    """What the peer has told that it knows; it may understate."""
    purged: CNSet | None = None
    """The peer's, as last told; None: it has not met this member yet."""
    run: Run | None = None
    """Of the peer's catalog; None: it has not met this member yet."""
    begun: bool = False
    """The peer takes part."""
    complete: bool = False
    """It may be compared with (core.messages_meeting.Meet)."""
    open: bool = False
    """Records may cross it."""
    greeted_ms: int = 0
    greeted_as: ReplicaId | None = None
    """This member's replica id then."""
    greeted_life: int = 0
    """The life of this member's that it was last told; 0: none."""
    barred: bool = False
    """This member has begun anew, and the peer has not answered: what it sends may leave out what was known before."""
    judged: bool = False
    """The peer has answered our `Meet`."""
    replica: ReplicaId | None = None
    """The peer's, as last shown."""
    offers: CNSet = EMPTY
    """What the peer has shown that it would serve."""
    correlation: int = 0
    """Of the request of the cycle under way."""
    said: MemberStatus | None = None
    """What the last status to it said, without what always differs."""
    asked: dict[int, UidsAsked] = field(default_factory=dict)
    """Requests by UID, by correlation."""
    _replicas: set[ReplicaId] = field(default_factory=set)

    def speaks_for(self, replica: ReplicaId) -> None:
        """The peer names `replica` as its own; raises ProtocolError where it is none, or changes too often."""
        if not 0 < replica <= REPLICA_MAX:
            raise ProtocolError("a malformed replica id")
        self._replicas.add(replica)
        if len(self._replicas) > REPLICAS_PER_LINK_MAX:
            raise ProtocolError("a peer changes its replica id again and again")
        self.replica = replica

    def close(self) -> None:
        """No record crosses it for now; what was told is told anew when it opens."""
        self.open, self.outbox, self.offers, self.said = False, Outbox(), EMPTY, None
        self.asked.clear()

    def asked_until_ms(self) -> list[int]:
        """When each of the requests by UID counts as unanswered."""
        return [asked.asked_ms + UID_ANSWER_MAX_MS for asked in self.asked.values()]

    def drop_unanswered(self, now_ms: int) -> None:
        if self.asked:
            for late in [key for key, one in self.asked.items() if now_ms - one.asked_ms >= UID_ANSWER_MAX_MS]:
                del self.asked[late]

    def clock_set_back(self, back_ms: int) -> None:
        self.outbox.clock_set_back(back_ms)
        for asked in self.asked.values():
            asked.asked_ms -= back_ms
        self.greeted_ms -= back_ms
