"""Hashing: the digest of what is there, the same cuts however it is read, and no hash of what is being written."""

import random
from collections.abc import Callable, Generator
from itertools import pairwise
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from xxhash import xxh3_128_digest

from replicad.core.manifest import (
    CHUNK_BYTES_MAX,
    CHUNK_BYTES_MIN,
    FILE_BYTES_MAX,
    SMALL_FILE_BYTES,
    Chunk,
    build,
    decode,
    decode_top,
    missing_pages,
    page_digest,
)
from replicad.errors import FileTrouble
from replicad.files.fs import FileSystem
from replicad.files.hashing import READ_BYTES, BeingWritten, Chunker, Hashed, chunk_name, hash_file
from tests.files.worlds import World, memory_world, real_world

CONTENT = random.Random(1).randbytes(3 * 1024 * 1024 + 12_345)

GOLDEN_COUNT = 39
GOLDEN_TOP_DIGEST = "2a071b694078c16f189b837068503164"


@pytest.fixture
def world() -> World:
    return memory_world()


@pytest.fixture
def real(tmp_path: Path) -> Generator[World, None, None]:
    made = real_world(tmp_path)
    yield made
    made.fs.close()


def hashed(fs: FileSystem, path: bytes) -> Hashed:
    before = fs.stat(path)
    assert before is not None
    found = hash_file(fs, path, before)
    assert isinstance(found, Hashed)
    return found


def cut(content: bytes, cuts: list[int]) -> list[Chunk]:
    """The chunks of content that comes in pieces which end at `cuts`."""
    chunker = Chunker()
    ends = sorted({0, *cuts, len(content)})
    pieces = [content[start:end] for start, end in pairwise(ends)]
    return [chunk for piece in pieces for chunk in chunker.feed(piece)] + list(chunker.finish())


@pytest.mark.parametrize("size", [0, 1, SMALL_FILE_BYTES - 1, SMALL_FILE_BYTES])
def test_a_small_file_has_a_digest_and_no_manifest(world: World, size: int) -> None:
    world.write(b"f", CONTENT[:size])
    found = hashed(world.fs, b"f")
    assert found == Hashed(blake3(CONTENT[:size]).digest(), None, world.there(b"f"))


@pytest.mark.parametrize("size", [SMALL_FILE_BYTES + 1, READ_BYTES, READ_BYTES + 1, 2 * READ_BYTES, len(CONTENT)])
def test_a_large_file_has_a_manifest_of_its_chunks(world: World, size: int) -> None:
    content = CONTENT[:size]
    world.write(b"f", content)
    found = hashed(world.fs, b"f")
    assert found.digest == blake3(content).digest()
    assert found.manifest is not None
    chunks = decode(found.manifest, size)
    offset = 0
    for chunk in chunks:
        assert chunk.name == xxh3_128_digest(content[offset : offset + chunk.length])
        assert chunk.name == chunk_name(content[offset : offset + chunk.length])
        offset += chunk.length
    assert offset == size
    assert all(CHUNK_BYTES_MIN <= chunk.length <= CHUNK_BYTES_MAX for chunk in chunks[:-1])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, len(CONTENT)), max_size=12), st.integers(1, len(CONTENT)))
def test_the_cuts_are_the_same_however_the_content_is_read(cuts: list[int], size: int) -> None:
    content = CONTENT[:size]
    assert cut(content, [at for at in cuts if at < size]) == cut(content, [])


def test_the_cuts_are_the_same_byte_by_byte_around_the_limits() -> None:
    size = CHUNK_BYTES_MAX + 100
    assert cut(bytes(size), list(range(CHUNK_BYTES_MAX - 50, size))) == cut(bytes(size), [])


def test_zeros_are_cut_at_the_longest_chunk() -> None:
    lengths = [chunk.length for chunk in cut(bytes(CHUNK_BYTES_MAX * 3 + 5), [])]
    assert lengths == [CHUNK_BYTES_MAX] * 3 + [5]


def test_the_cuts_are_those_of_every_other_member() -> None:
    """A change here (another version of the chunker, other parameters) would make members find nothing in common."""
    chunks = cut(CONTENT, [])
    assert len(chunks) == GOLDEN_COUNT
    assert page_digest(build(chunks).top).hex() == GOLDEN_TOP_DIGEST


def test_an_insertion_costs_few_chunks_and_pages() -> None:
    before, after = cut(CONTENT, []), cut(CONTENT[:1_000_000] + b"inserted" + CONTENT[1_000_000:], [])
    known = {chunk.name for chunk in before}
    assert 1 <= len([chunk for chunk in after if chunk.name not in known]) <= 2
    old, new = build(before), build(after)
    held = [page_digest(page) for page in old.pages]
    assert len(missing_pages(decode_top(new.top, len(CONTENT) + 8), held)) <= 2


def test_hashing_in_the_memory_tree_and_on_a_disk_are_one(world: World, real: World) -> None:
    for each in (world, real):
        each.write(b"f", CONTENT)
    assert hashed(world.fs, b"f").manifest == hashed(real.fs, b"f").manifest
    assert hashed(world.fs, b"f").digest == hashed(real.fs, b"f").digest


# Writers.


def test_a_file_that_changed_since_it_was_looked_at_is_being_written(world: World) -> None:
    world.write(b"f", b"1")
    before = world.there(b"f")
    changes: list[Callable[[], object]] = [
        lambda: world.fs.set_mtime(b"f", 5),
        lambda: world.fs.open_write(b"f").write_at(0, b"2"),
        lambda: world.fs.set_mode(b"f", 0o640),
    ]
    for change in changes:
        world.let_time_pass()
        change()
        assert hash_file(world.fs, b"f", before) == BeingWritten(b"f")
        before = world.there(b"f")
        assert isinstance(hash_file(world.fs, b"f", before), Hashed)


def test_a_file_replaced_by_another_of_equal_times_is_being_written(world: World) -> None:
    world.write(b"f", b"1")
    world.write(b"g", b"2")
    world.user_rename(b"f", b"h")  # keeps f's inode number from being used again
    before = world.there(b"h")
    world.fs.rename(b"g", b"f")
    assert hash_file(world.fs, b"f", before) == BeingWritten(b"f")


@pytest.mark.parametrize("size", [10, 2 * READ_BYTES])
@pytest.mark.parametrize("change", ["overwrite", "append", "truncate", "touch"])
def test_a_file_that_is_written_while_it_is_read_is_not_hashed(world: World, size: int, change: str) -> None:
    world.write(b"f", CONTENT[:size])
    before = world.there(b"f")

    def write(method: str, paths: tuple[bytes, ...]) -> None:
        if method != "read_at":
            return
        memory.before_read = None
        world.let_time_pass()
        with memory.user_open(b"f") as file:
            if change == "overwrite":
                file.write_at(size - 1, b"!")
            elif change == "append":
                file.write_at(size, b"!")
            elif change == "truncate":
                file.truncate(size - 1)
            else:
                memory.user_set_mtime(b"f", before.mtime_ns)

    memory = world.memory()
    memory.before_read = write
    assert hash_file(world.fs, b"f", before) == BeingWritten(b"f")
    assert memory.before_read is None


def test_a_file_that_has_gone_is_an_error_of_the_disk(world: World) -> None:
    world.write(b"f", b"1")
    before = world.there(b"f")
    world.fs.unlink(b"f")
    with pytest.raises(FileNotFoundError):
        hash_file(world.fs, b"f", before)


def test_i8_a_file_too_large_to_describe_is_that_files_trouble(world: World) -> None:
    world.write(b"f", b"1")
    huge = replace(world.there(b"f"), size=FILE_BYTES_MAX + 1)
    with pytest.raises(FileTrouble) as caught:
        hash_file(world.fs, b"f", huge)
    assert not caught.value.transient
