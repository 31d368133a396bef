"""The messages that members exchange about one folder, or about the hierarchy: docs/PROTOCOL.md, section "Messages".

The seven kinds have Exchange's names and codes (REQUIREMENTS P3). Every one is a msgpack array whose first element is
its code; elements that this version does not know, at the end of an array, are ignored here and never sent on (records
are sent on as received: see core.records). Decoding validates all limits and raises ProtocolError, nothing else.

A page covers positions `(begin, end]` of the sender's catalog `replica`; `head` is the sender's newest position when
the page was read. The page with `end == head` carries `known`, the sender's whole CNSet, read in the same transaction.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from replicad.core.cnset import EMPTY, CNSet
from replicad.core.ids import COUNTER_MAX, REPLICA_MAX, Uid
from replicad.core.messages_meeting import (
    HELD_REQUEST,
    JUDGED,
    MEET,
    NOT_HELD,
    HeldRequest,
    Judged,
    Meet,
    NotHeld,
    check_meeting,
)
from replicad.core.messages_repair import REPAIR_NAMES, Differ, OfRepair, RangeReply, RangeRequest, Taken, check_repair
from replicad.core.records import DIGEST_BYTES, REGISTER_BYTES_MAX, Record, open_record
from replicad.errors import ProtocolError

HIERARCHY, CONTENT = 0x2, 0x4
BACKFILL_REQUEST, STATUS, STATUS_REQUEST = 0x8, 0x10, 0x20
HIERARCHY_BACKFILL, CONTENT_BACKFILL = 0x80000002, 0x80000004
FENCE, FENCE_REPLY, AWAIT, AWAIT_REPLY = 0x100, 0x101, 0x102, 0x103
PRESERVED_REQUEST, PRESERVED_PAGE, RESTORE, RESTORE_REPLY = 0x104, 0x105, 0x106, 0x107
QUESTION, ANSWER, NO_WAY = 0x108, 0x109, 0x10A
CODE_NAMES = {
    HIERARCHY: "hierarchy",
    CONTENT: "content",
    BACKFILL_REQUEST: "backfill request",
    STATUS: "status",
    STATUS_REQUEST: "status request",
    HIERARCHY_BACKFILL: "hierarchy backfill response",
    CONTENT_BACKFILL: "content backfill response",
    FENCE: "fence",
    FENCE_REPLY: "fence reply",
    AWAIT: "await",
    AWAIT_REPLY: "await reply",
    PRESERVED_REQUEST: "preserved request",
    PRESERVED_PAGE: "preserved page",
    RESTORE: "restore",
    RESTORE_REPLY: "restore reply",
    QUESTION: "question",
    ANSWER: "answer",
    NO_WAY: "no way",
    MEET: "meet",
    JUDGED: "judged",
    HELD_REQUEST: "held request",
    NOT_HELD: "not held",
    **REPAIR_NAMES,
}

PAGE_RECORDS_MAX = 512
"""REQUIREMENTS D3: a responder never sends more, a requester never asks for more."""
PAGE_BYTES_MAX = 1_048_576
"""Of the registers in a page: small enough that one page never holds a link for long (P19)."""
ASKED_UIDS_MAX = 512
"""Objects asked for by UID in one request (rule 10): as many as fit into one page."""
MEMBERS_MAX = 1_000
"""Members that a status or fence may name: five times the largest group that is tested."""
BLOCKED_SHOWN_MAX = 100
"""Blocked objects named in a reply; the count is exact, the list is for people."""
MESSAGE_BYTES_MAX = 4 * 1_048_576
"""What the stream carries in one frame."""
PRESERVED_ROWS_MAX = 500
"""In a page: with the reasons some 100 KB; and no more than PAGE_BYTES_MAX of paths."""
PRESERVED_PATH_MAX = 65_536
"""Of a preserved file: of a longer one the end is told."""
WHY_CHARACTERS_MAX = 500
ROUTE_MEMBERS_MAX = 32
"""On a question's way, both ends included: a group is a mesh with a few holes, and a chain of more is none."""
QUESTION_BYTES_MAX = PRESERVED_PATH_MAX + 1_024
"""What is asked: one path at the most. So a question costs those who pass it on little."""
MEMBER_BYTES = 32
"""A member id on the wire."""
FENCE_BYTES = 16

WireSet = list[list[int]]


class WireRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A record: an empty register is one that the receiver has, or that the sender has not."""

    uid: Uid
    kind: int
    place: bytes
    content: bytes


class _Page(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    correlation: int
    """Of the request that is answered; of a push, one of the sender's own. In both members' message logs (P20)."""
    replica: int
    begin: int
    end: int
    head: int
    records: list[WireRecord]
    known: WireSet | None
    settled: bool
    """No record here lay in an unfinished series at its sender (rule 7)."""
    purged: WireSet = msgspec.field(default_factory=list)
    """With `known`: what the sender has forgotten. Who does not know all of that may not take `known` over."""


class HierarchyChange(_Page, frozen=True, array_like=True, tag=HIERARCHY, kw_only=True):
    """0x2: a push of changes of the hierarchy."""


class ContentChange(_Page, frozen=True, array_like=True, tag=CONTENT, kw_only=True):
    """0x4: a push of changes of a folder."""


class HierarchyBackfill(_Page, frozen=True, array_like=True, tag=HIERARCHY_BACKFILL, kw_only=True):
    """0x80000002: a page that was asked for."""


class ContentBackfill(_Page, frozen=True, array_like=True, tag=CONTENT_BACKFILL, kw_only=True):
    """0x80000004: a page that was asked for."""


class BackfillRequest(msgspec.Struct, frozen=True, array_like=True, tag=BACKFILL_REQUEST, kw_only=True):
    """0x8: the records stored after position `after` of `replica`, but those in `base`.

    With `wanted`, records having a CN in it, from a second source, whose answer moves no position and brings no set;
    with `uids`, those objects whatever the base says (rule 10). Where `replica` is not the responder's, it starts at 0.
    """

    correlation: int
    replica: int
    after: int
    base: WireSet
    records_max: int
    wanted: WireSet | None
    uids: list[Uid]


class StatusRequest(msgspec.Struct, frozen=True, array_like=True, tag=STATUS_REQUEST, kw_only=True):
    """0x20: carries only the CNSet, and who asks."""

    correlation: int
    replica: int
    known: WireSet


class MemberStatus(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """One member's state in one folder; passed on by relays, so that everyone sees everyone's sets.

    Of two of one member the one with the greater (`session`, `serial`) is newer. `missing` is what it knows and has not
    installed; `not_wanted` what it will not install (empty until filters exist). `purged` as DESIGN section 4.
    """

    member: bytes
    """32 bytes: the member id."""
    session: int
    serial: int
    replica: int
    head: int
    known: WireSet
    missing: WireSet
    not_wanted: WireSet
    purged: WireSet
    digest: bytes
    """16 bytes, big-endian."""
    state: int
    """0 Uninitialized, 1 Initialized, 2 Initial Sync, 3 Auto Recovery, 4 Normal, 5 In Error (REQUIREMENTS C10)."""
    complete: bool
    """Its catalog of the folder is complete: it may teach those who join (rule 11)."""
    scanned: bool
    """Its first scan is done (rule 6: founding)."""
    pending_files: int
    pending_bytes: int
    oldest_ms: int | None
    """Age of the longest-waiting pending object when this was sent."""
    time_ms: int
    """The member's wall clock when this was made."""
    connected: list[bytes]
    """Members to which it has a link (32 bytes each)."""


class Status(msgspec.Struct, frozen=True, array_like=True, tag=STATUS, kw_only=True):
    """0x10: the sender's own status first, then what it last heard of members the receiver may not reach."""

    correlation: int
    own: MemberStatus
    heard: list[MemberStatus]


class Fence(msgspec.Struct, frozen=True, array_like=True, tag=FENCE, kw_only=True):
    """Look at every change that is on your disk now, then tell what you know; pass it on to those not in `seen`."""

    fence: bytes
    """16 bytes: 12 random ones that name the wait, then the number of its round (core.fence)."""
    seen: list[bytes]
    budget_ms: int
    """How long the asker will wait."""


class Fenced(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """One member that has passed the fence: what it made later has a CN of `replica` above `counter`."""

    member: bytes
    replica: int
    counter: int
    unread_count: int
    unread: list[tuple[bytes, str]]
    """(path, reason), at most BLOCKED_SHOWN_MAX: changes on its disk that it could not read."""


class FenceReply(msgspec.Struct, frozen=True, array_like=True, tag=FENCE_REPLY, kw_only=True):
    """One answer to one Fence: for the sender and all that it passed the fence on to. A second Fence of the same round
    is answered at once, with nothing."""

    fence: bytes
    known: WireSet
    """The union of what `members` knew."""
    members: list[Fenced]
    failed: list[tuple[bytes, str]]
    """Members that are there and could not pass it in time, each with its reason."""
    lost: list[bytes]
    """Neighbours whose link broke before they had answered."""


class Await(msgspec.Struct, frozen=True, array_like=True, tag=AWAIT, kw_only=True):
    """Tell how you stand to `known`, at once and until it is installed; pass it on to who answered through you.

    With a `budget_ms` of 0 or less the wait is over, and nothing is told of it any more.
    """

    fence: bytes
    known: WireSet
    budget_ms: int


class Installed(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """How one member stands to what was awaited; done when `missing` is 0 and `blocked_count` is 0."""

    member: bytes
    missing: int
    """CNs that it does not know yet; when it knows all, objects that its disk does not show yet."""
    blocked_count: int
    blocked: list[tuple[bytes, str]]
    """(path, reason), at most BLOCKED_SHOWN_MAX: objects that wait for more than their turn."""


class AwaitReply(msgspec.Struct, frozen=True, array_like=True, tag=AWAIT_REPLY, kw_only=True):
    fence: bytes
    members: list[Installed]
    lost: list[bytes]
    """Members that can no longer be heard this way."""


class PreservedRequest(msgspec.Struct, frozen=True, array_like=True, tag=PRESERVED_REQUEST, kw_only=True):
    """Tell what you have preserved, from the number after `after` on. In a question, as all of the next three."""

    after: int


class PreservedRow(msgspec.Struct, frozen=True, array_like=True, kw_only=True, gc=False):
    """One preserved file. `number` is the keeper's own; `digest` empty: not known; replica ids 0: not known."""

    number: int
    pre_existing: bool
    path: bytes
    kind: int
    size: int
    digest: bytes
    replica: int
    winner: int
    when_ms: int
    why: str


class PreservedPage(msgspec.Struct, frozen=True, array_like=True, tag=PRESERVED_PAGE, kw_only=True):
    """The answer; `more`: there are others after the last one; `files`: all that it keeps, told or not."""

    rows: list[PreservedRow]
    more: bool
    files: int


class Restore(msgspec.Struct, frozen=True, array_like=True, tag=RESTORE, kw_only=True):
    """Bring one of yours back into the folder, at `to` or, where that is empty, where it was; never over anything."""

    number: int
    to: bytes


class RestoreReply(msgspec.Struct, frozen=True, array_like=True, tag=RESTORE_REPLY, kw_only=True):
    """`path` is where it is now; empty: it was not done, and `reason` says why."""

    path: bytes
    reason: str


class NoWay(msgspec.Struct, frozen=True, array_like=True, tag=NO_WAY, kw_only=True):
    """The answer of a member on the way that cannot pass the question on, or cannot pass its answer back any more.

    `why`: NO_LINK, TOO_MANY: it was not passed on; LINK_LOST: it was, and what came of it is not known.
    """

    member: bytes
    """Who says so."""
    why: int


NO_LINK, TOO_MANY, LINK_LOST = 0, 1, 2


class Question(msgspec.Struct, frozen=True, array_like=True, tag=QUESTION, kw_only=True):
    """`asked`, a message of its own, for the last member of `route`, from the first; each passes it on to the next."""

    route: list[bytes]
    correlation: int
    """The asker's; with it names the question at all who pass it on."""
    budget_ms: int
    """For how long the asker waits."""
    asked: bytes


class Answer(msgspec.Struct, frozen=True, array_like=True, tag=ANSWER, kw_only=True):
    """Goes back by the way that the question came."""

    asker: bytes
    correlation: int
    answered: bytes


Page = HierarchyChange | ContentChange | HierarchyBackfill | ContentBackfill
Asked = PreservedRequest | Restore
Answered = PreservedPage | RestoreReply | NoWay
OfQuestion = Question | Answer
Inner = Asked | Answered
"""What only comes in a question or an answer."""
OfMeeting = Meet | Judged
Message = (
    Page
    | BackfillRequest
    | StatusRequest
    | Status
    | Fence
    | FenceReply
    | Await
    | AwaitReply
    | OfQuestion
    | Inner
    | OfMeeting
    | HeldRequest
    | NotHeld
    | OfRepair
)

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def code_of(message: Message) -> int:
    tag = message.__struct_config__.tag
    assert isinstance(tag, int)
    return tag


def encode_message(message: Message) -> bytes:
    return _encoder.encode(message)


def decode_message(data: bytes) -> Message:
    """Decode and check the limits that need no context; raises ProtocolError."""
    if len(data) > MESSAGE_BYTES_MAX:
        raise ProtocolError("a message is too long")
    try:
        message: Message = _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(f"a message cannot be read: {error}") from error
    _check(message)
    return message


def seal(held: Record, *, place: bool = True, content: bool = True) -> WireRecord:
    """The wire's form, with the registers that the receiver lacks."""
    return WireRecord(held.uid, held.kind, held.place_raw if place else b"", held.content_raw if content else b"")


def unseal(wire: WireRecord) -> Record:
    """Decode and validate; raises ProtocolError."""
    if max(len(wire.place), len(wire.content)) > REGISTER_BYTES_MAX or not (wire.place or wire.content):
        raise ProtocolError("a record has no register, or one that is too long")
    return open_record(wire.uid, wire.kind, wire.place, wire.content)


def set_of(rows: WireSet | None) -> CNSet:
    """Raises ProtocolError."""
    return CNSet.decode(rows) if rows else EMPTY


def _check(message: Message) -> None:
    match message:
        case HierarchyChange() | ContentChange() | HierarchyBackfill() | ContentBackfill():
            _check_page(message)
        case BackfillRequest():
            if not 0 < message.records_max <= PAGE_RECORDS_MAX or len(message.uids) > ASKED_UIDS_MAX:
                raise ProtocolError("a backfill request is out of its limits")
        case Status():
            if len(message.heard) > MEMBERS_MAX or len(message.own.connected) > MEMBERS_MAX:
                raise ProtocolError("a status names too many members")
        case Fence():
            _check_fence(message.fence, message.seen)
        case FenceReply():
            _check_fence(message.fence, [one.member for one in message.members], message.lost)
            _check_fence(message.fence, [member for member, _ in message.failed])
        case Await():
            _check_fence(message.fence)
        case AwaitReply():
            _check_fence(message.fence, [one.member for one in message.members], message.lost)
        case Meet() | Judged() | HeldRequest() | NotHeld():
            check_meeting(message)
        case RangeRequest() | RangeReply() | Differ() | Taken():
            check_repair(message)
        case PreservedPage():
            _check_preserved(message)
        case Restore(number=number, to=path):
            if len(path) > PRESERVED_PATH_MAX or not 0 <= number <= COUNTER_MAX:
                raise ProtocolError("what is to be brought back is out of its limits")
        case RestoreReply(path=path):
            if len(path) > PRESERVED_PATH_MAX:
                raise ProtocolError("the path of what was brought back is too long")
        case Question():
            _check_question(message)
        case Answer(asker=member, correlation=number):
            if len(member) != MEMBER_BYTES or not 0 <= number <= COUNTER_MAX:
                raise ProtocolError("an answer is malformed")
        case NoWay(member=member):
            if len(member) != MEMBER_BYTES:
                raise ProtocolError("who does not pass a question on is no member")


def _check_preserved(page: PreservedPage) -> None:
    if len(page.rows) > PRESERVED_ROWS_MAX or (page.more and not page.rows) or page.files < 0:
        raise ProtocolError("a page of preserved files is out of its limits")
    last = -1
    for row in page.rows:
        if not last < row.number <= COUNTER_MAX or row.size < 0 or len(row.digest) not in (0, DIGEST_BYTES):
            raise ProtocolError("a page of preserved files is malformed")
        if len(row.path) > PRESERVED_PATH_MAX or len(row.why) > WHY_CHARACTERS_MAX:
            raise ProtocolError("a preserved file's path or reason is too long")
        last = row.number


def _check_question(question: Question) -> None:
    route = question.route
    if not 2 <= len(route) <= ROUTE_MEMBERS_MAX or len(set(route)) != len(route):
        raise ProtocolError("a question's way is too long, or goes in circles")
    if any(len(member) != MEMBER_BYTES for member in route):
        raise ProtocolError("a question's way names no member")
    if not 0 <= question.correlation <= COUNTER_MAX or len(question.asked) > QUESTION_BYTES_MAX:
        raise ProtocolError("a question is out of its limits")


def _check_fence(fence: bytes, *members: list[bytes]) -> None:
    if len(fence) != FENCE_BYTES or any(len(some) > MEMBERS_MAX for some in members):
        raise ProtocolError("a message of a fence is out of its limits")
    if any(len(member) != MEMBER_BYTES for some in members for member in some):
        raise ProtocolError("a message of a fence names no member")


def _check_page(page: Page) -> None:
    if len(page.records) > PAGE_RECORDS_MAX or not 0 <= page.begin <= page.end <= page.head <= COUNTER_MAX:
        raise ProtocolError("a page is out of its limits")
    if not 0 < page.replica <= REPLICA_MAX or (page.known is not None and page.end != page.head):
        raise ProtocolError("a page is malformed")


FolderState = Literal[0, 1, 2, 3, 4, 5]
STATE_NAMES = ("Uninitialized", "Initialized", "Initial Sync", "Auto Recovery", "Normal", "In Error")
