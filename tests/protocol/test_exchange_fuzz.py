"""Whatever bytes a peer sends: a ProtocolError and nothing taken, or a message whose effects keep the rules."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from replicad.core.effects import Received
from replicad.core.ids import COUNTER_MAX, REPLICA_MAX
from replicad.core.messages import (
    BackfillRequest,
    ContentBackfill,
    ContentChange,
    HierarchyChange,
    MemberStatus,
    Message,
    Status,
    StatusRequest,
    WireRecord,
    decode_message,
    encode_message,
    seal,
)
from replicad.errors import PeerError, ProtocolError
from tests.engine.exchange_net import Group, member_id

GROUP = Group("AB")
A, B = GROUP["A"], GROUP["B"]
GOOD = seal(A.held(A.create("x", 1)))

T = TypeVar("T")


def mostly(usual: T, other: st.SearchStrategy[T]) -> st.SearchStrategy[T]:
    """So that most of a message is in order, and what is not gets beyond the first check."""
    return st.one_of(*[st.just(usual)] * 5, other)


numbers = st.sampled_from([0, 1, 2, 3, 512, 513, COUNTER_MAX, COUNTER_MAX + 1, REPLICA_MAX])
small = st.integers(0, 5)
replicas = st.sampled_from([A.replica, B.replica, 1, 0, REPLICA_MAX])
intervals = st.sampled_from([(1, 1), (1, 5), (3, 4), (7, COUNTER_MAX), (0, 1), (5, 4), (1, COUNTER_MAX + 1)])
rows = st.builds(lambda replica, parts: [replica, *sum(parts, ())], replicas, st.lists(intervals, max_size=2))
wire_sets = mostly([], st.lists(rows, max_size=3))
own_members = [bytes.fromhex(member_id(name)) for name in "AB"]
members = mostly(own_members[0], st.sampled_from([own_members[1], b"", bytes(32)]))
uids = st.sampled_from([b"", b"x", bytes(16), bytes(20), bytes(21), GOOD.uid])
registers = mostly(
    GOOD.content, st.sampled_from([b"", GOOD.place, GOOD.content[:-1], b"\x90"]) | st.binary(max_size=40)
)
records = st.builds(WireRecord, uid=uids, kind=st.integers(0, 5), place=registers, content=registers)
page_fields = {
    "correlation": numbers,
    "replica": replicas,
    "begin": mostly(0, small),
    "end": mostly(4, small),
    "head": mostly(4, numbers),
    "records": st.lists(st.just(GOOD) | records, max_size=3),
    "known": mostly(None, st.none() | wire_sets),
    "settled": st.booleans(),
}
statuses = st.builds(
    MemberStatus,
    member=members,
    session=mostly(1, numbers),
    serial=mostly(1, numbers),
    replica=mostly(A.replica, replicas),
    head=mostly(4, numbers),
    known=wire_sets,
    missing=wire_sets,
    not_wanted=wire_sets,
    purged=wire_sets,
    digest=mostly(bytes(16), st.sampled_from([b"", b"short"])),
    state=mostly(4, st.integers(-1, 7)),
    complete=st.booleans(),
    scanned=st.booleans(),
    pending_files=mostly(0, numbers),
    pending_bytes=mostly(0, numbers),
    oldest_ms=mostly(None, st.none() | numbers),
    time_ms=mostly(0, numbers),
    connected=st.lists(mostly(own_members[1], st.binary(max_size=33)), max_size=2),
)
said = st.one_of(
    st.builds(ContentChange, **page_fields),
    st.builds(ContentBackfill, **page_fields),
    st.builds(HierarchyChange, **page_fields),
    st.builds(
        BackfillRequest,
        correlation=numbers,
        replica=replicas,
        after=numbers,
        base=wire_sets,
        records_max=mostly(5, numbers),
        wanted=st.none() | wire_sets,
        uids=st.lists(uids, max_size=3),
    ),
    st.builds(StatusRequest, correlation=numbers, replica=replicas, known=wire_sets),
    st.builds(Status, correlation=numbers, own=statuses, heard=st.lists(statuses, max_size=2)),
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(said, max_size=8))
def test_whatever_a_peer_says_only_its_link_suffers(messages: list[Message]) -> None:
    group = Group("AB")
    group.connect_all()
    group.run(50)
    own, peer = group["B"], group["A"].id
    own.create("mine", 1)
    for message in messages:
        before = own.catalog.head, own.catalog.known, own.catalog.digest
        try:
            event = Received(peer, decode_message(encode_message(message)))
            own.exchange.handle(event, group.now_ms)
        except PeerError:
            assert (own.catalog.head, own.catalog.known, own.catalog.digest) == before
    group.run(200_000)
    own.exchange.close(group.now_ms)
    assert own.catalog.reader().faults() == []
    fresh = own.create("later", 2)
    assert own.catalog.object(fresh) is not None


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=200))
def test_bytes_that_are_no_message_raise_a_protocol_error(data: bytes) -> None:
    try:
        decode_message(data)
    except ProtocolError:
        return
    assert msgspec.msgpack.decode(data)
