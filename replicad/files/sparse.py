"""Holes: what a file holds of zeros by the block takes no room on the disk.

Nobody is told where a file has holes; whoever writes it leaves out whole blocks of zeros. So a sparse file stays sparse
on every member, and one that holds such zeros for real (written, or reserved by `fallocate`) is sparse where it was
copied to. What the file contains is the same, and that alone is promised.
"""

from __future__ import annotations

from collections.abc import Iterator

from replicad.files.fs import OpenFile

BLOCK_BYTES = 4096
"""The block of ext4, XFS and tmpfs as a rule; a smaller one is left out with its neighbours or not at all."""
_ZEROS = bytes(BLOCK_BYTES)


def write_sparse(file: OpenFile, offset: int, data: bytes | bytearray) -> None:
    """As `write_at`, into a file that is as long as it shall be already; blocks of zeros are not written where the file
    reads as zeros there."""
    written = 0
    for begin, end in _zero_runs(data, -offset % BLOCK_BYTES):
        if file.read_at(offset + begin, end - begin) != bytes(end - begin):
            continue
        if written < begin:
            file.write_at(offset + written, memoryview(data)[written:begin])
        written = end
    if written < len(data):
        file.write_at(offset + written, memoryview(data)[written:])


def _zero_runs(data: bytes | bytearray, first: int) -> Iterator[tuple[int, int]]:
    """Half-open, of whole blocks; the first block begins at `first`."""
    begin = -1
    end = first
    for block in range(first, len(data) - BLOCK_BYTES + 1, BLOCK_BYTES):
        end = block + BLOCK_BYTES
        if data[block] or data[block:end] != _ZEROS:
            if begin >= 0:
                yield begin, block
            begin = -1
        elif begin < 0:
            begin = block
    if begin >= 0:
        yield begin, end
