"""Whatever bytes a peer sends: a ProtocolError and nothing taken, or a message whose effects keep the rules."""

from __future__ import annotations

from typing import Any, TypeVar

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
    Message,
    Status,
    StatusRequest,
    WireRecord,
    decode_message,
    encode_message,
    seal,
)
from replicad.core.messages_repair import Differ, RangeReply, RangeRequest, RangeSums, Taken
from replicad.core.repair import WHOLE
from replicad.engine.exchange_status import Speaker
from replicad.errors import PeerError, ProtocolError
from tests.engine.exchange_net import Group, member_id

Fields = dict[str, st.SearchStrategy[Any]]

GROUP = Group("AB")
A, B = GROUP["A"], GROUP["B"]
GOOD = seal(A.held(A.create("x", 1)))

numbers = st.sampled_from([0, 1, 2, 3, 512, 513, -1, COUNTER_MAX, COUNTER_MAX + 1, REPLICA_MAX])
small = st.integers(0, 5)
replicas = st.sampled_from([A.replica, B.replica, 1, 0, REPLICA_MAX])
intervals = st.sampled_from([(1, 1), (1, 5), (3, 4), (7, COUNTER_MAX), (0, 1), (5, 4), (1, COUNTER_MAX + 1)])
rows = st.builds(
    lambda replica, parts: [replica, *sum(parts, ())], replicas, st.lists(intervals, min_size=1, max_size=2)
)
wire_sets = st.lists(rows, max_size=2)
own_members = [bytes.fromhex(member_id(name)) for name in "AB"]
uids = st.sampled_from([b"", b"x", bytes(16), bytes(20), bytes(21), GOOD.uid])
registers = st.sampled_from([b"", GOOD.place, GOOD.content, GOOD.content[:-1], b"\x90"]) | st.binary(max_size=40)
records = st.one_of(
    st.just(GOOD), st.builds(WireRecord, uid=uids, kind=st.integers(0, 5), place=registers, content=registers)
)
page_fields: Fields = {
    "replica": replicas,
    "begin": small,
    "end": small,
    "head": numbers,
    "records": st.lists(records, max_size=3),
    "known": st.none() | wire_sets,
    "settled": st.booleans(),
}
status_fields: Fields = {
    "member": st.sampled_from([own_members[1], b"", bytes(32)]),
    "session": numbers,
    "serial": numbers,
    "replica": replicas,
    "head": numbers,
    "known": wire_sets,
    "missing": wire_sets,
    "purged": wire_sets,
    "digest": st.sampled_from([b"", bytes(16), b"short"]),
    "state": st.integers(-1, 7),
    "pending_files": numbers,
    "oldest_ms": st.none() | numbers,
    "time_ms": numbers,
    "connected": st.lists(st.sampled_from(own_members) | st.binary(max_size=33), max_size=2),
}
request_fields: Fields = {
    "replica": replicas,
    "after": numbers,
    "base": wire_sets,
    "records_max": numbers,
    "wanted": st.none() | wire_sets,
    "uids": st.lists(uids, max_size=3),
}
PAGE = {"correlation": 1, "replica": A.replica, "begin": 0, "end": 4, "head": 4, "records": [], "known": None}
REQUEST = {"correlation": 1, "replica": A.replica, "after": 0, "base": [], "records_max": 5, "wanted": None, "uids": []}
S = TypeVar("S", bound=msgspec.Struct)


def spoiled(whole: S, fields: Fields) -> st.SearchStrategy[S]:
    """A message in order, but for a field or two: so that it gets beyond the first check."""
    one = st.sampled_from(sorted(fields)).flatmap(lambda name: st.tuples(st.just(name), fields[name]))
    return st.lists(one, max_size=3).map(lambda changes: msgspec.structs.replace(whole, **dict(changes)))


EMPTY_HANDED = Group("A")["A"]
OWN = Speaker(EMPTY_HANDED.catalog, A.id, A.own_state, 1).status([B.id], 0)
statuses = spoiled(OWN, status_fields)
sums = st.lists(st.tuples(uids, st.sampled_from([b"", bytes(8), bytes(16)])), max_size=3)
told = st.builds(RangeSums, pieces=sums, objects=sums)
said = st.one_of(
    spoiled(ContentChange(**PAGE, settled=True), page_fields),  # type: ignore[arg-type]
    spoiled(ContentBackfill(**PAGE, settled=True), page_fields),  # type: ignore[arg-type]
    spoiled(HierarchyChange(**PAGE, settled=True), page_fields),  # type: ignore[arg-type]
    spoiled(BackfillRequest(**REQUEST), request_fields),  # type: ignore[arg-type]
    spoiled(StatusRequest(correlation=1, replica=A.replica, known=[]), {"replica": replicas, "known": wire_sets}),
    spoiled(RangeRequest(correlation=1, ranges=[WHOLE]), {"ranges": st.lists(st.tuples(uids, uids), max_size=2)}),
    spoiled(RangeReply(correlation=1, ranges=[]), {"ranges": st.lists(told, max_size=2)}),
    spoiled(Differ(correlation=1, uids=[GOOD.uid]), {"uids": st.lists(uids, max_size=3)}),
    spoiled(Taken(correlation=1, changed=True), {"correlation": numbers}),
    st.builds(lambda own, heard: Status(correlation=1, own=own, heard=heard), statuses, st.lists(statuses, max_size=2)),
)


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
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
