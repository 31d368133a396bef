"""A large file put together in staging from chunks: what is there already, what local files have, what must be fetched.

Blocking, one thread at a time; memory is bounded by one chunk and the list of chunks. A chunk is taken for what its
name says only after its bytes were read and named here; that the whole is the wanted content is proved by its blake3
(DESIGN section 6: XXH3-128 is not collision-resistant).

What a broken transfer left in staging counts: the file has its final size from the start, and at every offset the
bytes either have their chunk's name or are fetched (R15).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from blake3 import blake3

from replicad.core.manifest import Chunk
from replicad.files.fs import FILE, FileSystem, OpenFile
from replicad.files.hashing import chunk_name
from replicad.files.sparse import write_sparse


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file of this member whose chunks are known, and whether still true is checked by reading."""

    path: bytes
    chunks: Sequence[Chunk]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of the whole file: `digest_right` decides; `names_right`: the manifest describes it."""

    digest_right: bool
    names_right: bool


class Assembly:
    """The staged file at `path`. Raises OSError as the disk gives it."""

    def __init__(self, fs: FileSystem, path: bytes, chunks: Sequence[Chunk]) -> None:
        self._fs = fs
        self._path = path
        self._chunks = chunks
        self._offsets = _offsets(chunks)
        self._size = sum(chunk.length for chunk in chunks)
        self._file, self._found = _open(fs, path)
        self._file.truncate(self._size)
        self._held = [False] * len(chunks)
        self.reused = False
        """Bytes that were not fetched for this file are in it."""

    def close(self) -> None:
        self._file.close()

    def take_found(self) -> None:
        """Count what an earlier attempt left in staging."""
        if not self._found:
            return
        for index, chunk in enumerate(self._chunks):
            if chunk_name(self._file.read_at(self._offsets[index], chunk.length)) == chunk.name:
                self._held[index] = self.reused = True

    def take_local(self, local: LocalFile) -> None:
        """Copy the chunks that a file here has. Whatever has become of that file meanwhile, only right bytes count."""
        wanted = {chunk.name for index, chunk in enumerate(self._chunks) if not self._held[index]}
        if not wanted:
            return
        try:
            source = self._fs.open_read(local.path)
        except OSError:
            return  # it is gone or unreadable: then it has nothing to give, and its own scan will say why
        with source:
            found: dict[bytes, int] = {}
            for chunk, offset in zip(local.chunks, _offsets(local.chunks), strict=True):
                if chunk.name in wanted:
                    found.setdefault(chunk.name, offset)
            for index, chunk in enumerate(self._chunks):
                if not self._held[index] and chunk.name in found:
                    self._copy(source, found[chunk.name], index)

    def missing(self, bytes_max: int, ranges_max: int) -> list[tuple[int, int]]:
        """(offset, length) of what must be fetched next, ascending, neighbours joined; of equal chunks the first one.

        Stops after `bytes_max` bytes (but always names one chunk) or `ranges_max` ranges.
        """
        ranges: list[tuple[int, int]] = []
        named: set[bytes] = set()
        total = 0
        for index, chunk in enumerate(self._chunks):
            if self._held[index] or chunk.name in named:
                continue
            if total and total + chunk.length > bytes_max:
                break
            offset = self._offsets[index]
            if ranges and ranges[-1][0] + ranges[-1][1] == offset:
                ranges[-1] = (ranges[-1][0], ranges[-1][1] + chunk.length)
            elif len(ranges) == ranges_max:
                break
            else:
                ranges.append((offset, chunk.length))
            named.add(chunk.name)
            total += chunk.length
        return ranges

    def write(self, offset: int, data: bytes | bytearray) -> None:
        """Bytes as they arrive."""
        write_sparse(self._file, offset, data)

    def fetched(self, ranges: Iterable[tuple[int, int]]) -> int:
        """These ranges were written whole: count the chunks in them, and copy them to where they occur again.

        Returns how many chunks have come; 0 where nothing bears the name that the manifest gives it.
        """
        ends = sorted((offset + length, offset) for offset, length in ranges)
        arrived: dict[bytes, int] = {}
        at = 0
        for index, chunk in enumerate(self._chunks):
            offset = self._offsets[index]
            while at < len(ends) and ends[at][0] <= offset:
                at += 1
            inside = at < len(ends) and ends[at][1] <= offset
            if inside and not self._held[index] and chunk_name(self._file.read_at(offset, chunk.length)) == chunk.name:
                self._held[index] = True
                arrived.setdefault(chunk.name, offset)
        for index, chunk in enumerate(self._chunks):
            if not self._held[index] and chunk.name in arrived:
                self._copy(self._file, arrived[chunk.name], index)
        return len(arrived)

    def all_ranges(self, bytes_max: int) -> list[tuple[int, int]]:
        """The whole file, in ranges of at most `bytes_max`."""
        return [(offset, min(bytes_max, self._size - offset)) for offset in range(0, self._size, bytes_max)]

    def verify(self, digest: bytes) -> Verdict:
        """Read the whole file once."""
        whole = blake3()
        names_right = True
        for index, chunk in enumerate(self._chunks):
            data = self._file.read_at(self._offsets[index], chunk.length)
            whole.update(data)
            names_right = names_right and chunk_name(data) == chunk.name
        return Verdict(whole.digest() == digest, names_right)

    def forget(self) -> None:
        """Start over: nothing that is in the file counts."""
        self._file.truncate(0)
        self._file.truncate(self._size)
        self._held = [False] * len(self._chunks)
        self._found = self.reused = False

    def sync(self) -> None:
        """Its data, then its entry in staging."""
        self._file.sync()
        self._fs.sync_dirs([self._path.rpartition(b"/")[0]])

    def _copy(self, source: OpenFile, offset: int, index: int) -> None:
        chunk = self._chunks[index]
        data = source.read_at(offset, chunk.length)
        if len(data) == chunk.length and chunk_name(data) == chunk.name:
            write_sparse(self._file, self._offsets[index], data)
            self._held[index] = self.reused = True


def _offsets(chunks: Sequence[Chunk]) -> list[int]:
    offsets: list[int] = []
    at = 0
    for chunk in chunks:
        offsets.append(at)
        at += chunk.length
    return offsets


def _open(fs: FileSystem, path: bytes) -> tuple[OpenFile, bool]:
    """The staged file, and whether it was there."""
    try:
        return fs.create(path), False
    except FileExistsError:
        stat = fs.stat(path)
        if stat is not None and stat.kind == FILE and stat.links == 1:
            return fs.open_write(path), True
        fs.unlink(path)
        return fs.create(path), False
