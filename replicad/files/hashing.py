"""Content on the disk, read once: its digest and, of a large file, its chunks and their names.

A file is read in blocks of one MiB; each block goes through blake3 (the digest of the whole), FastCDC (where chunks
end) and XXH3-128 (their names) while it is in the cache. All three release the interpreter's lock. The cuts depend on
the content alone, not on how it was read: a cut is taken only where as much lies ahead as a chunk may be long, or the
end of the file.

What is read is the content only if nobody wrote meanwhile: the file's size, times and inode are the same before and
after, else it is being written, which is no error: whoever watches will hear of it again. RACE: a write that ends
within one tick of the disk's clock after the last look leaves the times as they were; whoever relies on a hash of a
file whose times are that fresh looks once more (DESIGN section 3, as git does with its index). For the same reason two
writes within one tick may come between two blocks of a read, which then is a mixture that was never there; who must
take what he read of such a file at once has it read twice in a row: if both are equal, the file was so between them.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from blake3 import blake3
from pyfastcdc import FastCDC
from xxhash import xxh3_128_digest

from replicad.core.manifest import (
    CHUNK_BYTES_AVERAGE,
    CHUNK_BYTES_MAX,
    CHUNK_BYTES_MIN,
    FILE_BYTES_MAX,
    SMALL_FILE_BYTES,
    Builder,
    Chunk,
    Manifest,
)
from replicad.errors import FileTrouble
from replicad.files.fs import FILE, FileSystem, OpenFile, Stat

READ_BYTES = 1024 * 1024
"""Large enough that calls cost nothing beside the reading, small enough to stay in a core's cache."""


@dataclass(frozen=True, slots=True)
class Hashed:
    """What a file contains: `digest` is its blake3, `manifest` None up to SMALL_FILE_BYTES, `stat` as it was read."""

    digest: bytes
    manifest: Manifest | None
    stat: Stat


@dataclass(frozen=True, slots=True)
class BeingWritten:
    """The file changed while it was read, or since the caller looked at it."""

    path: bytes


class Chunker:
    """Cuts content that comes piece by piece. The cuts are the same whatever the pieces."""

    def __init__(self) -> None:
        self._cutter = FastCDC(
            CHUNK_BYTES_AVERAGE, min_size=CHUNK_BYTES_MIN, max_size=CHUNK_BYTES_MAX, normalized_chunking=1, seed=0
        )
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[Chunk]:
        return self._cut(data, CHUNK_BYTES_MAX)

    def finish(self) -> Iterator[Chunk]:
        return self._cut(b"", 1)

    def _cut(self, data: bytes, ahead_min: int) -> Iterator[Chunk]:
        """Chunks while at least `ahead_min` bytes lie ahead: with fewer, the next cut is not certain yet."""
        view = memoryview(self._rest + data if self._rest else data)
        cuts = self._cutter.cut_buf(view)
        start = 0
        while len(view) - start >= ahead_min:
            cut = next(cuts)
            yield Chunk(xxh3_128_digest(cut.data), cut.length)
            start += cut.length
        self._rest = bytes(view[start:])


def chunk_name(data: bytes | bytearray | memoryview) -> bytes:
    """What a chunk with this content is called."""
    return xxh3_128_digest(data)


def hash_file(fs: FileSystem, path: bytes, before: Stat, *, twice: bool = False) -> Hashed | BeingWritten:
    """Read a regular file that looked like `before`; `twice`, if its times are too fresh to tell of a write meanwhile.

    OSError as the disk gives it (FileNotFoundError where it has gone); FileTrouble where it is too large to describe.
    """
    if before.size > FILE_BYTES_MAX:
        raise FileTrouble(path, f"larger than {FILE_BYTES_MAX} bytes, which is the most that fits", transient=False)
    with fs.open_read(path) as file:
        if not is_same(before, file.stat()):
            return BeingWritten(path)
        hashed = _hash(file, path, before)
        if hashed is not None and twice:
            again = _hash(file, path, before)
            hashed = hashed if again is not None and again.digest == hashed.digest else None
        if hashed is None or not is_same(before, file.stat()):
            return BeingWritten(path)
        return hashed


def is_same(one: Stat, other: Stat) -> bool:
    """Nobody wrote, replaced or touched the file between these two looks at it, as far as its times tell."""
    return (one.kind, one.inode, one.size, one.mtime_ns, one.ctime_ns) == (
        FILE,
        other.inode,
        other.size,
        other.mtime_ns,
        other.ctime_ns,
    )


def _hash(file: OpenFile, path: bytes, before: Stat) -> Hashed | None:
    return _hash_small(file, before) if before.size <= SMALL_FILE_BYTES else _hash_large(file, path, before)


def _hash_small(file: OpenFile, before: Stat) -> Hashed | None:
    data = file.read_at(0, before.size + 1)  # one more, so that growth shows
    return Hashed(blake3(data).digest(), None, before) if len(data) == before.size else None


def _hash_large(file: OpenFile, path: bytes, before: Stat) -> Hashed | None:
    whole, chunker, builder = blake3(), Chunker(), Builder()
    offset = 0
    try:
        while data := file.read_at(offset, READ_BYTES):
            offset += len(data)
            if offset > before.size:
                return None
            whole.update(data)
            for chunk in chunker.feed(data):
                builder.add(chunk)
        for chunk in chunker.finish():
            builder.add(chunk)
    except ValueError as error:
        raise FileTrouble(path, f"too large: {error}", transient=False) from error
    return Hashed(whole.digest(), builder.finish(), before) if offset == before.size else None
