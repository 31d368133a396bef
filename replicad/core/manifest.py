"""Manifests: which chunks a large file is made of (DESIGN section 6; docs/PROTOCOL.md, "Content").

A file of more than SMALL_FILE_BYTES has a manifest, in two levels. A *page* lists chunks, in the order of the file, by
name and length. The *top* lists pages by digest, with the number and the bytes of their chunks, so that whoever has
the pages of an older version fetches only those that differ, and whoever wants the end of a file need not read the
beginning. Pages are cut by content, as chunks are: after a chunk whose name ends in seven zero bits, so that an
insertion into the file changes a chunk or two and, nearly always, one or two pages. (Where 512 chunks have no such
name, the page ends there: one run in fifty, and then a few pages more change, up to the next such name.)

Whoever serves a manifest may lie: decoding holds it to the limits, to `size` and to itself, and raises ProtocolError.
That its chunks make up the content that a record means is proved by the digest of the whole file alone.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec
from blake3 import blake3

from replicad.errors import ProtocolError

SMALL_FILE_BYTES = 128 * 1024
"""Up to this size a file has no manifest and travels whole: it would be two chunks, and batches are faster."""

CHUNK_BYTES_MIN = 16 * 1024
CHUNK_BYTES_AVERAGE = 64 * 1024
CHUNK_BYTES_MAX = 256 * 1024
"""Every chunk but a file's last has at least the minimum. Smaller chunks find more, larger ones make shorter manifests:
24 bytes of manifest for 80 KiB of content, in practice."""
CHUNK_NAME_BYTES = 16
"""XXH3-128."""

PAGE_CHUNKS_MAX = 512
PAGE_BYTES_MAX = 16 * 1024
"""512 chunks of at most 25 bytes each, and what frames them."""
PAGES_MAX = 1 << 16
"""Some 600 GiB of file. The whole manifest, which is held in memory while the file is hashed, is then 200 MB."""
PAGE_DIGEST_BYTES = 16
TOP_BYTES_MAX = PAGES_MAX * 32 + 64
FILE_BYTES_MAX = PAGES_MAX * PAGE_CHUNKS_MAX * CHUNK_BYTES_MAX
VERSION = 1

_BOUNDARY_MASK = 0x7F


class Chunk(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A piece of content; `name` is its XXH3-128, big-endian. Equal names are taken for equal chunks until the digest
    of the whole file says otherwise."""

    name: bytes
    length: int


class PageEntry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What the top says of a page."""

    digest: bytes
    chunks: int
    size: int


class Top(msgspec.Struct, frozen=True, array_like=True):
    """The upper level: `pages` in the order of the file, of `size` bytes together."""

    version: int
    size: int
    pages: list[PageEntry]


@dataclass(frozen=True, slots=True)
class Manifest:
    """A whole manifest, encoded: the top and its pages, as they are stored and sent."""

    top: bytes
    pages: tuple[bytes, ...]


class Builder:
    """Makes a manifest from the chunks of a file as they come, holding one page of chunks at a time."""

    def __init__(self) -> None:
        self._chunks: list[Chunk] = []
        self._pages: list[bytes] = []
        self._entries: list[PageEntry] = []

    def add(self, chunk: Chunk) -> None:
        """The next chunk. ValueError when the file is too long to be described."""
        self._chunks.append(chunk)
        if ends_page(chunk) or len(self._chunks) == PAGE_CHUNKS_MAX:
            self._end_page()

    def finish(self) -> Manifest:
        if self._chunks:
            self._end_page()
        size = sum(entry.size for entry in self._entries)
        return Manifest(msgspec.msgpack.encode(Top(VERSION, size, self._entries)), tuple(self._pages))

    def _end_page(self) -> None:
        if len(self._pages) == PAGES_MAX:
            raise ValueError(f"a manifest has at most {PAGES_MAX} pages")
        page = msgspec.msgpack.encode(self._chunks)
        size = sum(chunk.length for chunk in self._chunks)
        self._pages.append(page)
        self._entries.append(PageEntry(page_digest(page), len(self._chunks), size))
        self._chunks = []


def build(chunks: Iterable[Chunk]) -> Manifest:
    builder = Builder()
    for chunk in chunks:
        builder.add(chunk)
    return builder.finish()


def ends_page(chunk: Chunk) -> bool:
    return chunk.name[-1] & _BOUNDARY_MASK == 0


def page_digest(page: bytes) -> bytes:
    """blake3 of an encoded page, 16 bytes: the name under which it is stored and fetched."""
    return blake3(page).digest(length=PAGE_DIGEST_BYTES)


_top_decoder = msgspec.msgpack.Decoder(Top)
_page_decoder = msgspec.msgpack.Decoder(list[Chunk])


def decode_top(blob: bytes, size: int) -> Top:
    """The top of the manifest of a file of `size` bytes. ProtocolError where it breaks a limit or does not add up."""
    if len(blob) > TOP_BYTES_MAX:
        raise ProtocolError(f"manifest: {len(blob)} bytes of top, more than {TOP_BYTES_MAX}")
    try:
        top = _top_decoder.decode(blob)
    except msgspec.DecodeError as error:
        raise ProtocolError(f"manifest: {error}") from error
    if top.version != VERSION:
        raise ProtocolError(f"manifest: version {top.version}, known is {VERSION}")
    if not SMALL_FILE_BYTES < size <= FILE_BYTES_MAX or top.size != size:
        raise ProtocolError(f"manifest: describes {top.size} bytes, the file has {size}")
    if not 0 < len(top.pages) <= PAGES_MAX:
        raise ProtocolError(f"manifest: {len(top.pages)} pages, allowed are 1 to {PAGES_MAX}")
    for index, entry in enumerate(top.pages):
        _check_entry(entry, is_last=index == len(top.pages) - 1)
    if sum(entry.size for entry in top.pages) != size:
        raise ProtocolError("manifest: its pages do not add up to the size of the file")
    return top


def decode_page(blob: bytes, entry: PageEntry, *, is_last: bool) -> list[Chunk]:
    """The chunks of the page that a valid top calls `entry`, its last one or not."""
    if len(blob) > PAGE_BYTES_MAX:
        raise ProtocolError(f"manifest page: {len(blob)} bytes, more than {PAGE_BYTES_MAX}")
    if page_digest(blob) != entry.digest:
        raise ProtocolError("manifest page: not the one that was asked for")
    try:
        chunks = _page_decoder.decode(blob)
    except msgspec.DecodeError as error:
        raise ProtocolError(f"manifest page: {error}") from error
    if len(chunks) != entry.chunks or sum(chunk.length for chunk in chunks) != entry.size:
        raise ProtocolError("manifest page: not as many chunks or bytes as its top says")
    for index, chunk in enumerate(chunks):
        shortest = 1 if is_last and index == len(chunks) - 1 else CHUNK_BYTES_MIN
        if len(chunk.name) != CHUNK_NAME_BYTES or not shortest <= chunk.length <= CHUNK_BYTES_MAX:
            raise ProtocolError(f"manifest page: a chunk of {chunk.length} bytes, named by {len(chunk.name)}")
    return chunks


def decode(manifest: Manifest, size: int) -> list[Chunk]:
    """All chunks of a manifest that is whole, in the order of the file."""
    top = decode_top(manifest.top, size)
    if len(manifest.pages) != len(top.pages):
        raise ProtocolError(f"manifest: {len(manifest.pages)} pages, its top names {len(top.pages)}")
    last = len(top.pages) - 1
    return [
        chunk
        for index, (blob, entry) in enumerate(zip(manifest.pages, top.pages, strict=True))
        for chunk in decode_page(blob, entry, is_last=index == last)
    ]


def missing_pages(top: Top, held: Sequence[bytes] | frozenset[bytes]) -> list[PageEntry]:
    """The pages to fetch, each once, in the order of the file; `held` are digests of pages that are here already."""
    here = set(held)
    missing: list[PageEntry] = []
    for entry in top.pages:
        if entry.digest not in here:
            here.add(entry.digest)
            missing.append(entry)
    return missing


def _check_entry(entry: PageEntry, *, is_last: bool) -> None:
    if len(entry.digest) != PAGE_DIGEST_BYTES or not 0 < entry.chunks <= PAGE_CHUNKS_MAX:
        raise ProtocolError(f"manifest: a page of {entry.chunks} chunks, named by {len(entry.digest)} bytes")
    shortest = (entry.chunks - 1) * CHUNK_BYTES_MIN + 1 if is_last else entry.chunks * CHUNK_BYTES_MIN
    if not shortest <= entry.size <= entry.chunks * CHUNK_BYTES_MAX:
        raise ProtocolError(f"manifest: {entry.size} bytes in a page of {entry.chunks} chunks")


def encode_whole(manifest: Manifest) -> bytes:
    """Top and pages as one value, as the catalog keeps it."""
    return msgspec.msgpack.encode([manifest.top, manifest.pages])


def decode_whole(blob: bytes) -> Manifest:
    """The inverse of `encode_whole`; raises ProtocolError. What it says of the file is checked by reading it."""
    try:
        top, pages = msgspec.msgpack.decode(blob, type=tuple[bytes, tuple[bytes, ...]])
    except msgspec.MsgspecError as error:
        raise ProtocolError(f"a manifest cannot be read: {error}") from error
    return Manifest(top, pages)
