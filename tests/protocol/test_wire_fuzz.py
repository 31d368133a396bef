"""Whatever bytes a peer sends, a decoder gives a message within its limits, or raises ProtocolError."""

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replicad.errors import ProtocolError
from replicad.net.content_wire import (
    FILES,
    GONE,
    HEADER,
    LAST,
    MANIFEST,
    MORE,
    PIECE_BYTES_MAX,
    RANGES,
    ROUTES,
    FilesRequest,
    ManifestRequest,
    PieceReader,
    Range,
    RangesRequest,
    SmallFile,
    decode_request,
    encode_request,
    item_limits,
)
from replicad.net.wire import (
    CONTROL,
    FRAME_BYTES_MAX,
    PAYLOAD_BYTES_MAX,
    Control,
    Deny,
    Hello,
    Ping,
    Pong,
    Ready,
    Refuse,
    Session,
    Want,
    Welcome,
    decode_control,
    decode_frame,
    encode_control,
    encode_frame,
)

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.binary(max_size=40), st.text(max_size=8), st.floats()
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=6), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=12,
)
messages = st.one_of(st.binary(max_size=200), values.map(msgspec.msgpack.encode))
tagged = st.tuples(st.integers(0, 9), st.lists(values, max_size=8)).map(
    lambda pair: msgspec.msgpack.encode([pair[0], *pair[1]])
)

numbers = st.integers(0, 2**63 - 1)
bytes16, bytes32 = st.binary(min_size=16, max_size=16), st.binary(min_size=32, max_size=32)
short = st.text(max_size=64)
hellos = st.builds(
    Hello,
    st.lists(st.integers(1, 65_535), min_size=1, max_size=16),
    bytes32,
    bytes16,
    st.builds(Session, numbers, bytes16),
    bytes16,
    short,
    st.lists(short, max_size=64),
)
controls = st.one_of(
    hellos,
    st.builds(Welcome, numbers, hellos, numbers),
    st.builds(Ready, numbers),
    st.builds(Refuse, short, short),
    st.builds(Ping, numbers, st.integers(0, 2**53 - 1)),
    st.builds(Pong, numbers, st.integers(0, 2**53 - 1)),
    st.builds(Want, numbers, short, st.binary(max_size=100)),
    st.builds(Deny, numbers, short, short),
)


@settings(max_examples=500, deadline=None)
@given(messages)
def test_any_bytes_are_a_frame_or_an_error(data: bytes) -> None:
    try:
        channel, payload = decode_frame(data)
    except ProtocolError:
        return
    assert len(channel) in (0, 1, 16)
    assert len(payload) <= PAYLOAD_BYTES_MAX


@settings(max_examples=500, deadline=None)
@given(st.one_of(messages, tagged))
def test_any_payload_is_a_control_message_or_an_error(payload: bytes) -> None:
    try:
        message = decode_control(payload)
    except ProtocolError:
        return
    assert decode_frame(encode_control(message)) == (CONTROL, msgspec.msgpack.encode(message))


@given(controls)
def test_every_control_message_comes_back(message: Control) -> None:
    channel, payload = decode_frame(encode_control(message))
    assert channel == CONTROL
    assert decode_control(payload) == message


@given(st.one_of(st.just(b""), bytes16), st.binary(max_size=300))
def test_every_frame_comes_back(channel: bytes, payload: bytes) -> None:
    assert decode_frame(encode_frame(channel, payload)) == (channel, payload)


def test_the_longest_payload_fits_and_a_longer_one_does_not() -> None:
    frame = encode_frame(b"f" * 16, bytes(PAYLOAD_BYTES_MAX))
    assert len(frame) <= FRAME_BYTES_MAX
    assert len(decode_frame(frame)[1]) == PAYLOAD_BYTES_MAX
    for payload in (bytes(PAYLOAD_BYTES_MAX + 1), bytes(FRAME_BYTES_MAX)):
        with pytest.raises(ProtocolError, match="too long"):
            decode_frame(msgspec.msgpack.encode([b"f" * 16, payload]))


@settings(max_examples=500, deadline=None)
@given(st.sampled_from([*ROUTES, "other"]), messages)
def test_any_bytes_are_a_request_for_content_or_an_error(route: str, body: bytes) -> None:
    try:
        request = decode_request(route, body)
    except ProtocolError:
        return
    assert decode_request(route, encode_request(request)) == request
    assert all(0 <= limit < 2**63 for limit in item_limits(request))


@pytest.mark.parametrize(
    ("route", "request_"),
    [
        (FILES, FilesRequest(b"f" * 16, [SmallFile(b"u" * 16, b"d" * 32, 1)] * 513)),
        (FILES, FilesRequest(b"f" * 16, [SmallFile(b"u" * 16, b"d" * 32, 131_073)])),
        (FILES, FilesRequest(b"f" * 15, [])),
        (MANIFEST, ManifestRequest(b"f" * 16, b"u" * 16, b"d" * 32, [b"p" * 16] * 65)),
        (MANIFEST, ManifestRequest(b"f" * 16, b"u" * 21, b"d" * 32, [])),
        (RANGES, RangesRequest(b"f" * 16, b"u" * 16, b"d" * 32, [Range(0, 1)] * 4_097)),
        (RANGES, RangesRequest(b"f" * 16, b"u" * 16, b"d" * 32, [Range(0, 0)])),
        (RANGES, RangesRequest(b"f" * 16, b"u" * 16, b"d" * 32, [Range(-1, 1)])),
        (RANGES, RangesRequest(b"f" * 16, b"u" * 16, b"d" * 32, [Range(2**63 - 1, 1)])),
        (RANGES, RangesRequest(b"f" * 16, b"u" * 16, b"d" * 32, [Range(0, 2**61)] * 3)),
        (RANGES, RangesRequest(b"f" * 16, b"u" * 16, b"d" * 31, [Range(0, 1)])),
    ],
)
def test_a_request_beyond_its_limits_is_refused(route: str, request_: FilesRequest) -> None:
    with pytest.raises(ProtocolError):
        decode_request(route, encode_request(request_))


items = st.lists(st.one_of(st.none(), st.binary(max_size=300)), max_size=8)


def split(body: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(body), *(cut % (len(body) + 1) for cut in cuts)})
    return [body[begin:end] for begin, end in pairwise(edges)]


@settings(max_examples=300, deadline=None)
@given(items, st.integers(1, 80), st.lists(st.integers(0, 5_000), max_size=12))
def test_pieces_come_out_whole_however_the_bytes_are_cut(
    bodies: list[bytes | None], piece_bytes: int, cuts: list[int]
) -> None:
    body = b""
    for index, data in enumerate(bodies):
        if data is None:
            body += HEADER.pack(index, GONE, 0)
            continue
        parts = [data[at : at + piece_bytes] for at in range(0, len(data), piece_bytes)] or [b""]
        for number, part in enumerate(parts):
            body += HEADER.pack(index, LAST if number == len(parts) - 1 else MORE, len(part)) + part
    reader = PieceReader([len(data or b"") for data in bodies], exact=True)
    pieces = [piece for data in split(body, cuts) for piece in reader.feed(data)]
    assert reader.complete
    for index, data in enumerate(bodies):
        got = [piece for piece in pieces if piece.index == index]
        assert [piece.kind for piece in got] == [MORE] * (len(got) - 1) + [GONE if data is None else LAST]
        assert b"".join(piece.data for piece in got) == (data or b"")
        assert len(got) == max(1, -(-len(data or b"") // piece_bytes))


@settings(max_examples=500, deadline=None)
@given(
    st.lists(st.integers(0, 100), max_size=4),
    st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.tuples(st.integers(0, 4), st.integers(0, 3), st.integers(0, 120)).map(
                lambda fields: HEADER.pack(*fields) + bytes(fields[2])
            ),
        ),
        max_size=10,
    ),
    st.booleans(),
)
def test_no_bytes_make_a_reader_give_what_was_not_asked_for(
    limits: list[int], portions: list[bytes], exact: bool
) -> None:
    reader = PieceReader(limits, exact=exact)
    got = [0] * len(limits)
    try:
        for data in portions:
            for piece in reader.feed(data):
                got[piece.index] += len(piece.data)
    except ProtocolError:
        pass
    assert all(size <= limit for size, limit in zip(got, limits, strict=True))


@pytest.mark.parametrize(
    "header",
    [
        (0, LAST, PIECE_BYTES_MAX + 1),
        (0, LAST, 11),
        (1, LAST, 10),
        (0, 7, 10),
        (0, GONE, 1),
        (0, MORE, 0),
        (0, LAST, 9),
    ],
)
def test_a_piece_that_was_not_asked_for_is_refused_at_its_header(header: tuple[int, int, int]) -> None:
    reader = PieceReader([10], exact=True)
    with pytest.raises(ProtocolError):
        list(reader.feed(HEADER.pack(*header)))


def test_nothing_may_follow_the_last_item() -> None:
    reader = PieceReader([1], exact=True)
    assert len(list(reader.feed(HEADER.pack(0, LAST, 1) + b"x"))) == 1
    assert reader.complete
    with pytest.raises(ProtocolError):
        list(reader.feed(HEADER.pack(0, LAST, 1)))
