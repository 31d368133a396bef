"""Messages of members that meet, and of one that finds out what others have forgotten: docs/safety.md, 2 and 5."""

from __future__ import annotations

import msgspec

from replicad.core.ids import COUNTER_MAX, REPLICA_MAX, Uid
from replicad.errors import ProtocolError

MEET, JUDGED, HELD_REQUEST, NOT_HELD = 0x110, 0x111, 0x112, 0x113
MARK_BYTES = 8
"""Of a run of a catalog: two copies of one catalog do not draw the same."""
HELD_UIDS_MAX = 512
"""In a question: as many as a page has records."""

WireSet = list[list[int]]


class Meet(msgspec.Struct, frozen=True, array_like=True, tag=MEET, kw_only=True):
    """0x110, the first message on a link: this run of this catalog, the last one that the receiver is known to have
    taken note of (0 and empty: none), and what is known and purged here. docs/safety.md, section 2."""

    replica: int
    life: int
    session: int
    mark: bytes
    last: int
    last_mark: bytes
    begun: bool
    """It takes part: it is no joiner, and does not rejoin."""
    known: WireSet
    whole: bool
    """`known` is all that is known."""
    purged: WireSet
    answered: bool
    """The receiver's answer on this link has come: no other is waited for."""
    complete: bool = False
    """What is not held here though it was known was deleted: it may be compared with."""
    founds: bool = False
    """It began with originals, and knows of no end of the founding that counts it among the founders (rule 6)."""


class Judged(msgspec.Struct, frozen=True, array_like=True, tag=JUDGED, kw_only=True):
    """0x111, the answer: whether the run `session` is one that follows from what is remembered of the sender."""

    session: int
    mark: bytes
    put_back: bool
    life: int
    """The one that is remembered of it."""
    knows: bool = True
    """What is remembered is enough to tell; it is not where this member was put back itself."""
    of: int = 0
    """The life that is judged: nothing that follows was made with an earlier one in mind."""
    late: bool = False
    """Nothing is judged: the founding ended without the sender, which has to begin anew by rule 11."""


class HeldRequest(msgspec.Struct, frozen=True, array_like=True, tag=HELD_REQUEST, kw_only=True):
    """0x112: of which of these objects have you no register?"""

    correlation: int
    uids: list[Uid]


class NotHeld(msgspec.Struct, frozen=True, array_like=True, tag=NOT_HELD, kw_only=True):
    """0x113, the answer."""

    correlation: int
    uids: list[Uid]


def check_meeting(message: Meet | Judged | HeldRequest | NotHeld) -> None:
    """Raises ProtocolError."""
    match message:
        case Meet():
            _check_run(message.session, message.mark)
            if message.last or message.last_mark:
                _check_run(message.last, message.last_mark)
            if not 0 < message.replica <= REPLICA_MAX or not 0 < message.life <= COUNTER_MAX:
                raise ProtocolError("a meeting names a malformed replica id")
        case Judged():
            _check_run(message.session, message.mark)
        case HeldRequest(correlation=number, uids=uids) | NotHeld(correlation=number, uids=uids):
            if len(uids) > HELD_UIDS_MAX or not 0 <= number <= COUNTER_MAX:
                raise ProtocolError("too many objects are asked for")


def _check_run(session: int, mark: bytes) -> None:
    if not 0 < session <= COUNTER_MAX or len(mark) != MARK_BYTES:
        raise ProtocolError("a run of a catalog is malformed")
