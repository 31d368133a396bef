"""Manifests: whatever is built is read back, an insertion changes little, and what lies is refused."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicad.core.manifest import (
    CHUNK_BYTES_MAX,
    CHUNK_BYTES_MIN,
    FILE_BYTES_MAX,
    PAGE_BYTES_MAX,
    PAGE_CHUNKS_MAX,
    PAGES_MAX,
    SMALL_FILE_BYTES,
    TOP_BYTES_MAX,
    Builder,
    Chunk,
    Manifest,
    PageEntry,
    Top,
    build,
    decode,
    decode_page,
    decode_top,
    ends_page,
    missing_pages,
    page_digest,
)
from replicad.errors import ProtocolError

full_chunks = st.builds(
    Chunk,
    st.binary(min_size=16, max_size=16),
    st.integers(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX),
)
boundaries = st.builds(
    lambda name, length: Chunk(name + b"\x80", length),
    st.binary(min_size=15, max_size=15),
    st.integers(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX),
)
last_chunks = st.builds(Chunk, st.binary(min_size=16, max_size=16), st.integers(1, CHUNK_BYTES_MAX))
files = st.builds(
    lambda chunks, last: [*chunks, last],
    st.lists(st.one_of(full_chunks, full_chunks, boundaries), min_size=9, max_size=60),
    last_chunks,
)


def size_of(chunks: list[Chunk]) -> int:
    return sum(chunk.length for chunk in chunks)


def plain_chunk(number: int, length: int = CHUNK_BYTES_MIN) -> Chunk:
    """One that ends no page."""
    return Chunk(number.to_bytes(15, "big") + b"\x01", length)


@given(files)
def test_what_is_built_is_read_back(chunks: list[Chunk]) -> None:
    assert decode(build(chunks), size_of(chunks)) == chunks


@given(files)
def test_pages_end_after_a_name_of_seven_zero_bits(chunks: list[Chunk]) -> None:
    manifest = build(chunks)
    top = decode_top(manifest.top, size_of(chunks))
    pages = [
        decode_page(blob, entry, is_last=index == len(top.pages) - 1)
        for index, (blob, entry) in enumerate(zip(manifest.pages, top.pages, strict=True))
    ]
    assert all(ends_page(page[-1]) for page in pages[:-1])
    assert not any(ends_page(chunk) for page in pages for chunk in page[:-1])


def test_a_name_ends_a_page_by_its_last_seven_bits() -> None:
    assert [number for number in range(256) if ends_page(Chunk(b"\xff" * 15 + bytes([number]), 1))] == [0, 128]


def test_a_page_has_at_most_512_chunks() -> None:
    chunks = [plain_chunk(number) for number in range(PAGE_CHUNKS_MAX * 2 + 1)]
    manifest = build(chunks)
    counts = [entry.chunks for entry in decode_top(manifest.top, size_of(chunks)).pages]
    assert counts == [PAGE_CHUNKS_MAX, PAGE_CHUNKS_MAX, 1]
    assert decode(manifest, size_of(chunks)) == chunks


def test_the_largest_page_and_top_are_within_their_limits() -> None:
    page = build([plain_chunk(number, CHUNK_BYTES_MAX) for number in range(PAGE_CHUNKS_MAX)]).pages[0]
    assert len(page) <= PAGE_BYTES_MAX
    entry = PageEntry(bytes(16), PAGE_CHUNKS_MAX, PAGE_CHUNKS_MAX * CHUNK_BYTES_MAX)
    top = msgspec.msgpack.encode(Top(1, FILE_BYTES_MAX, [entry] * PAGES_MAX))
    assert len(top) <= TOP_BYTES_MAX
    assert len(decode_top(top, FILE_BYTES_MAX).pages) == PAGES_MAX


@given(files, st.data())
def test_an_insertion_changes_only_the_pages_between_two_boundaries(chunks: list[Chunk], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(chunks) - 1))
    new = data.draw(full_chunks)
    before, after = build(chunks), build([*chunks[:at], new, *chunks[at:]])
    pages_before = set(before.pages)
    changed = [page for page in after.pages if page not in pages_before]
    assert len(changed) <= 2  # one, or two where the new chunk ends a page itself
    held = frozenset(page_digest(page) for page in before.pages)
    top = decode_top(after.top, size_of(chunks) + new.length)
    assert [entry.digest for entry in missing_pages(top, held)] == [page_digest(page) for page in changed]


def test_a_page_that_occurs_twice_is_fetched_once() -> None:
    run = [Chunk(bytes([number]) * 15 + b"\0", CHUNK_BYTES_MAX) for number in (1, 2)]
    chunks = run * 3
    top = decode_top(build(chunks).top, size_of(chunks))
    assert len(top.pages) == 6
    assert len(missing_pages(top, [])) == 2


def test_a_file_of_too_many_pages_is_refused_while_it_is_built() -> None:
    builder = Builder()
    for number in range(PAGES_MAX):
        builder.add(Chunk(number.to_bytes(15, "big") + b"\0", CHUNK_BYTES_MIN))
    with pytest.raises(ValueError, match="65536 pages"):
        builder.add(Chunk(bytes(16), CHUNK_BYTES_MIN))


def test_what_a_later_version_adds_is_passed_over() -> None:
    chunks = [plain_chunk(number) for number in range(20)]
    manifest = build(chunks)
    version, size, pages = msgspec.msgpack.decode(manifest.top)
    top = msgspec.msgpack.encode([version, size, [[*page, "new"] for page in pages], "newer"])
    assert decode_top(top, size_of(chunks)) == decode_top(manifest.top, size_of(chunks))


# Lies.

HONEST = [plain_chunk(number) for number in range(20)]
SIZE = size_of(HONEST)
MANIFEST = build(HONEST)
[PAGE] = MANIFEST.pages
[ENTRY] = decode_top(MANIFEST.top, SIZE).pages


def encoded_top(size: object = SIZE, pages: object = None, version: object = 1) -> bytes:
    return msgspec.msgpack.encode([version, size, [[ENTRY.digest, 20, SIZE]] if pages is None else pages])


def test_the_honest_one_passes() -> None:
    assert decode_top(encoded_top(), SIZE).pages == [ENTRY]
    assert decode_page(PAGE, ENTRY, is_last=True) == HONEST
    assert SIZE > SMALL_FILE_BYTES


@pytest.mark.parametrize(
    ("blob", "size"),
    [
        (b"", SIZE),
        (b"\xc1", SIZE),
        (encoded_top()[:-1], SIZE),
        (encoded_top() + b"\0", SIZE),
        (encoded_top(version=2), SIZE),
        (encoded_top(), SIZE + 1),
        (encoded_top(size=SIZE + 1), SIZE + 1),
        (encoded_top(size=-SIZE), -SIZE),
        (encoded_top(size="big"), SIZE),
        (encoded_top(size=SMALL_FILE_BYTES, pages=[[bytes(16), 8, SMALL_FILE_BYTES]]), SMALL_FILE_BYTES),
        (encoded_top(size=FILE_BYTES_MAX + 1), FILE_BYTES_MAX + 1),
        (encoded_top(pages=[]), SIZE),
        (encoded_top(pages=[[bytes(15), 20, SIZE]]), SIZE),
        (encoded_top(pages=[[bytes(16), 0, SIZE]]), SIZE),
        (encoded_top(pages=[[bytes(16), 513, SIZE]]), SIZE),
        (encoded_top(pages=[[bytes(16), 22, SIZE]]), SIZE),
        (encoded_top(pages=[[bytes(16), 1, SIZE]]), SIZE),
        (encoded_top(pages=[[bytes(16), 20, SIZE], [bytes(16), 1, 0]]), SIZE),
        (encoded_top(pages=[[bytes(16), 20, SIZE - 1], [bytes(16), 1, 1]]), SIZE),
        (encoded_top(pages=[[bytes(16), 20, SIZE], [bytes(16), 20, SIZE], [bytes(16), -20, -SIZE]]), SIZE),
        (bytes(TOP_BYTES_MAX + 1), SIZE),
    ],
)
def test_a_top_that_lies_is_refused(blob: bytes, size: int) -> None:
    with pytest.raises(ProtocolError):
        decode_top(blob, size)


def lying_page(chunks: object, count: int = 20, size: int = SIZE, extra: bytes = b"") -> tuple[bytes, PageEntry]:
    blob = msgspec.msgpack.encode(chunks) + extra
    return blob, PageEntry(page_digest(blob), count, size)


def rows(*changes: tuple[int, list[object]]) -> list[list[object]]:
    made: list[list[object]] = [[chunk.name, chunk.length] for chunk in HONEST]
    for index, row in changes:
        made[index] = row
    return made


@pytest.mark.parametrize(
    ("blob", "entry"),
    [
        (PAGE, PageEntry(bytes(16), 20, SIZE)),
        lying_page(rows(), count=19),
        lying_page(rows(), size=SIZE - 1),
        lying_page(rows(), extra=b"\0"),
        lying_page({"a": 1}),
        lying_page(rows((3, [bytes(15), CHUNK_BYTES_MIN]))),
        lying_page(rows((3, [bytes(16), CHUNK_BYTES_MIN - 1])), size=SIZE - 1),
        lying_page(rows((3, [bytes(16), CHUNK_BYTES_MAX + 1])), size=SIZE - CHUNK_BYTES_MIN + CHUNK_BYTES_MAX + 1),
        lying_page(rows((19, [bytes(16), 0])), size=SIZE - CHUNK_BYTES_MIN),
        lying_page(rows((3, [bytes(16), -1]), (4, [bytes(16), 2 * CHUNK_BYTES_MIN + 1]))),
        lying_page(rows((3, [bytes(16), "16384"]))),
        lying_page([[bytes(16), CHUNK_BYTES_MIN]] * 1000, count=1000, size=1000 * CHUNK_BYTES_MIN),
    ],
)
def test_i11_a_page_that_lies_is_refused(blob: bytes, entry: PageEntry) -> None:
    with pytest.raises(ProtocolError):
        decode_page(blob, entry, is_last=True)


def test_only_the_last_chunk_of_a_file_is_short() -> None:
    blob, entry = lying_page(rows((19, [bytes(16), 1])), size=SIZE - CHUNK_BYTES_MIN + 1)
    assert len(decode_page(blob, entry, is_last=True)) == 20
    with pytest.raises(ProtocolError):
        decode_page(blob, entry, is_last=False)


def test_a_manifest_with_a_page_missing_is_refused() -> None:
    with pytest.raises(ProtocolError):
        decode(Manifest(MANIFEST.top, ()), SIZE)


@given(st.binary(max_size=200))
def test_garbage_is_refused_and_nothing_else_happens(blob: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_top(blob, SIZE)
    with pytest.raises(ProtocolError):
        decode_page(blob, PageEntry(page_digest(blob), 20, SIZE), is_last=True)
