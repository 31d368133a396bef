"""Content on the wire: what is asked for, and the pieces in which it comes. No IO.

A request is a msgpack array, POSTed to one of three routes, or carried by a WANT (net.wire). The answer's body is a run
of pieces, each with a header of 7 bytes, big-endian: the item's index in the request (2), what this piece is (1), its
length (4); then its bytes. Items come in order, each in one piece or more, all but the last of them MORE; an item that
cannot be had is one piece GONE, after pieces that must be forgotten, where it was lost while it was read. Ranges belong
to one content: the first GONE is the end of the answer, and the asker hangs up.

    /v1/content/files      [folder, [[uid, digest, size], …]]                 whole small files, of exactly that size
    /v1/content/manifest   [folder, uid, digest, [page's digest, …]]         those pages; without any, the top
    /v1/content/ranges     [folder, uid, digest, [[offset, length], …]]      exactly those bytes of one file
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import msgspec

from replicad.core.manifest import PAGE_DIGEST_BYTES
from replicad.errors import ProtocolError

FILES, MANIFEST, RANGES = "files", "manifest", "ranges"
ROUTES = (FILES, MANIFEST, RANGES)

SMALL_FILE_BYTES_MAX = 131_072
"""What travels whole, in batches; larger files have a manifest."""
FILES_MAX = 512
FILES_BYTES_MAX = FILES_MAX * SMALL_FILE_BYTES_MAX  # 64 MiB
PAGES_MAX = 64
PAGE_BYTES_MAX = 4 * 1_048_576
"""Of a manifest: 200,000 chunks, which a receiver holds in memory while it looks at them."""
RANGES_MAX = 4_096
FILE_BYTES_MAX = 2**63 - 1
ANSWER_BYTES_MAX = 2**62
"""Of all ranges together: the answer's length stands in one number."""
PIECE_BYTES_MAX = 1_048_576
"""Large enough for a system call and a thread's turn to cost nothing; two of them are in memory for each answer."""

HEADER = struct.Struct(">HBI")
LAST, MORE, GONE = 0, 1, 2

_Folder = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
_Uid = Annotated[bytes, msgspec.Meta(min_length=16, max_length=20)]
_PageDigest = Annotated[bytes, msgspec.Meta(min_length=PAGE_DIGEST_BYTES, max_length=PAGE_DIGEST_BYTES)]
_Digest = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
_Length = Annotated[int, msgspec.Meta(ge=0, le=FILE_BYTES_MAX)]


class SmallFile(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One item of a request for files. `size` is what the record says: a body of another size is not that content."""

    uid: _Uid
    digest: _Digest
    size: Annotated[int, msgspec.Meta(ge=0, le=SMALL_FILE_BYTES_MAX)]


class FilesRequest(msgspec.Struct, frozen=True, array_like=True):
    folder: _Folder
    items: Annotated[list[SmallFile], msgspec.Meta(max_length=FILES_MAX)]


class ManifestRequest(msgspec.Struct, frozen=True, array_like=True):
    folder: _Folder
    uid: _Uid
    digest: _Digest
    pages: Annotated[list[_PageDigest], msgspec.Meta(max_length=PAGES_MAX)]


class Range(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Bytes [offset, offset + length) of a file."""

    offset: _Length
    length: Annotated[int, msgspec.Meta(ge=1, le=FILE_BYTES_MAX)]


class RangesRequest(msgspec.Struct, frozen=True, array_like=True):
    folder: _Folder
    uid: _Uid
    digest: _Digest
    ranges: Annotated[list[Range], msgspec.Meta(max_length=RANGES_MAX)]


Request = FilesRequest | ManifestRequest | RangesRequest
_DECODERS: dict[str, msgspec.msgpack.Decoder[Request]] = {
    FILES: msgspec.msgpack.Decoder(FilesRequest),
    MANIFEST: msgspec.msgpack.Decoder(ManifestRequest),
    RANGES: msgspec.msgpack.Decoder(RangesRequest),
}


def decode_request(route: str, body: bytes) -> Request:
    """ProtocolError where there is no such route, or the body breaks its limits."""
    decoder = _DECODERS.get(route)
    if decoder is None:
        raise ProtocolError("there is no such content")
    try:
        request = decoder.decode(body)
    except msgspec.MsgspecError as error:
        raise ProtocolError(f"a request for content cannot be read: {error}") from error
    if isinstance(request, RangesRequest):
        if any(part.offset + part.length > FILE_BYTES_MAX for part in request.ranges):
            raise ProtocolError("a range ends beyond any file")
        if sum(part.length for part in request.ranges) > ANSWER_BYTES_MAX:
            raise ProtocolError("the ranges are too long together")
    return request


def encode_request(request: Request) -> bytes:
    return msgspec.msgpack.encode(request)


def item_limits(request: Request) -> list[int]:
    """How long each item's answer may be: exactly so long, but for a manifest."""
    match request:
        case FilesRequest():
            return [item.size for item in request.items]
        case RangesRequest():
            return [part.length for part in request.ranges]
        case ManifestRequest():
            return [PAGE_BYTES_MAX] * max(1, len(request.pages))


def answer_bytes(request: Request) -> int | None:
    """The length of a whole answer, where it is known beforehand: HTTP's chunks cost both sides as much as TLS does."""
    if not isinstance(request, RangesRequest):
        return None
    pieces = sum(-(-part.length // PIECE_BYTES_MAX) for part in request.ranges)
    return HEADER.size * pieces + sum(part.length for part in request.ranges)


@dataclass(frozen=True, slots=True)
class Piece:
    """`kind` is LAST, MORE or GONE; `data` is empty where it is GONE."""

    index: int
    kind: int
    data: bytes | bytearray


class PieceReader:
    """Takes the answer's bytes in any portions and gives whole pieces; `exact` items must have their limit's length.

    It holds one piece at most, and copies each byte once. ProtocolError where the bytes are no answer to the request.
    """

    def __init__(self, limits: list[int], *, exact: bool) -> None:
        self._left = list(limits)
        self._exact = exact
        self._index = 0
        self._header: tuple[int, int, int] | None = None
        self._buffer = bytearray()
        """What is still incomplete, header or piece: `_filled` bytes of it are there."""
        self._filled = 0

    @property
    def complete(self) -> bool:
        """Every item has come to its end, and nothing after it."""
        return self._index == len(self._left) and not self._filled

    def feed(self, data: bytes) -> Iterator[Piece]:
        """The pieces that `data` completes."""
        view = memoryview(data)
        while True:
            if self._header is None:
                header, view = self._take(view, HEADER.size)
                if header is None:
                    return
                self._header = self._checked(HEADER.unpack(header))
            index, kind, length = self._header
            body, view = self._take(view, length)
            if body is None:
                return
            self._header = None
            self._left[index] -= length
            if kind != MORE:
                self._index += 1
            yield Piece(index, kind, body)

    def _take(self, view: memoryview, wanted: int) -> tuple[bytes | bytearray | None, memoryview]:
        """(the next `wanted` bytes, or None as long as they are not all there; what is left of `view`)."""
        if not self._filled:
            if len(view) >= wanted:
                return bytes(view[:wanted]), view[wanted:]
            self._buffer = bytearray(wanted)
        part = view[: wanted - self._filled]
        self._buffer[self._filled : self._filled + len(part)] = part
        self._filled += len(part)
        if self._filled < wanted:
            return None, view[len(part) :]
        self._filled = 0
        return self._buffer, view[len(part) :]

    def _checked(self, header: tuple[int, int, int]) -> tuple[int, int, int]:
        index, kind, length = header
        if self._index >= len(self._left):
            raise ProtocolError("content came that was not asked for")
        left = self._left[index] if index == self._index else -1
        short = self._exact and kind == LAST and length != left
        if left < 0 or kind not in (LAST, MORE, GONE) or length > min(PIECE_BYTES_MAX, left) or short:
            raise ProtocolError("content does not come as it was asked for")
        if (kind == GONE and length) or (kind == MORE and not length):
            raise ProtocolError("content comes in pieces that mean nothing")
        return header
