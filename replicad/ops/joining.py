"""What a joiner and a member of the group tell each other beside the proofs, and what each does with it.

The joiner tells its name and addresses. The answer is the group's name and the hierarchy's records, so that `folder
join` knows the group's folders before the first run; the rest comes by replication.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec

from replicad.core.effects import Effect
from replicad.core.hierarchy_entries import ADDRESS_CHARACTERS_MAX, ADDRESSES_MAX, valid_name
from replicad.core.hierarchy_model import Reading
from replicad.core.ids import MemberId
from replicad.core.messages import WireRecord
from replicad.core.naming import GroupId
from replicad.core.records import Record
from replicad.errors import OperatorError, PeerError, ProtocolError
from replicad.net.addresses import Address
from replicad.net.join import Joiner
from replicad.net.joining import Joined
from replicad.net.refusal import Code, Refused
from replicad.ops.home import Acquaintance
from replicad.ops.keeper import Keeper, open_records, reading_of

_Address = Annotated[str, msgspec.Meta(max_length=ADDRESS_CHARACTERS_MAX)]


class _WireJoiner(msgspec.Struct, frozen=True, array_like=True):
    name: Annotated[str, msgspec.Meta(max_length=64)]
    addresses: Annotated[list[_Address], msgspec.Meta(max_length=ADDRESSES_MAX)]


class _WireAnswer(msgspec.Struct, frozen=True, array_like=True):
    group_name: Annotated[str, msgspec.Meta(max_length=64)]
    records: list[WireRecord]


def joiner_payload(name: str, addresses: Sequence[Address]) -> bytes:
    return msgspec.msgpack.encode(_WireJoiner(name, [str(address) for address in addresses][:ADDRESSES_MAX]))


def admit(keeper: Keeper, joiner: Joiner, group_name: str, now_ms: int) -> tuple[bytes, list[Effect]]:
    """Take a joiner that has proved itself into the group: the answer's payload. Idempotent. Raises Refused."""
    try:
        told = msgspec.msgpack.decode(joiner.payload, type=_WireJoiner)
    except msgspec.MsgspecError as error:
        raise Refused(Code.REQUEST, f"what the joiner tells of itself cannot be read: {error}") from error
    reading = keeper.hierarchy.reading()
    check_joiner(reading, joiner.member_id, told.name)
    try:
        effects = [
            *keeper.hierarchy.put_member(joiner.member_id, told.name, joiner.certificate_der, now_ms),
            *(keeper.hierarchy.set_addresses(joiner.member_id, told.addresses, now_ms) if told.addresses else ()),
        ]
        records = keeper.records()
    except OperatorError as error:
        raise Refused(Code.REQUEST, str(error)) from error
    return msgspec.msgpack.encode(_WireAnswer(group_name, records)), effects


def check_joiner(reading: Reading, joiner: MemberId, name: str) -> None:
    """Raises Refused."""
    if joiner in reading.removed:
        raise Refused(Code.REMOVED, "this member was removed from the group, and cannot come back under its key")
    if not valid_name(name):
        raise Refused(Code.REQUEST, "the joiner's name is not allowed")
    others = [member for member in reading.members_by_name.get(name, ()) if member != joiner]
    if others:
        raise Refused(
            Code.REQUEST,
            f"the name {name} is taken by member {others[0][:16]}: take another, or remove that member first",
        )


def open_answer(joined: Joined, group: GroupId) -> tuple[str, list[Record]]:
    """The group's name and first records. Raises PeerError."""
    try:
        answer = msgspec.msgpack.decode(joined.payload, type=_WireAnswer)
    except msgspec.MsgspecError as error:
        raise ProtocolError(f"the answer to the join cannot be read: {error}") from error
    if not valid_name(answer.group_name):
        raise ProtocolError("the group's name is not allowed")
    records = open_records(answer.records)
    if joined.group_id != group or joined.member_id not in reading_of(group, records).members:
        raise PeerError("the member that answered is not in the group that it answered for")
    return answer.group_name, records


def acquaintances(joined: Joined, reading: Reading, own: MemberId) -> tuple[Acquaintance, ...]:
    """The others, as the answer tells; the one that answered also at the address where it did."""
    known = []
    for member, info in reading.members.items():
        if member == own:
            continue
        addresses = info.addresses
        if member == joined.member_id:
            addresses = tuple(dict.fromkeys((str(joined.address), *addresses)))[:ADDRESSES_MAX]
        known.append(Acquaintance(member, info.name, info.certificate, addresses))
    return tuple(known)
