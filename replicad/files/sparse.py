"""Holes: what a file holds of zeros by the block takes no room on the disk.

Nobody is told where a file has holes; whoever writes it leaves out whole blocks of zeros. So a sparse file stays sparse
on every member, and one that holds such zeros for real (written, or reserved by `fallocate`) is sparse where it was
copied to. What the file contains is the same, and that alone is promised.
"""

from __future__ import annotations

from replicad.files.fs import OpenFile

BLOCK_BYTES = 4096
"""The block of ext4, XFS and tmpfs as a rule; a smaller one is left out with its neighbours or not at all."""
_ZEROS = bytes(BLOCK_BYTES)


def write_sparse(file: OpenFile, offset: int, data: bytes | bytearray) -> None:
    """As `write_at`, into a file that is as long as it shall be already; blocks of zeros are not written where the file
    reads as zeros there."""
    written = 0
    for hole in range(-offset % BLOCK_BYTES, len(data) - BLOCK_BYTES + 1, BLOCK_BYTES):
        end = hole + BLOCK_BYTES
        if data[hole] or data[hole:end] != _ZEROS or file.read_at(offset + hole, BLOCK_BYTES) != _ZEROS:
            continue
        if written < hole:
            file.write_at(offset + written, memoryview(data)[written:hole])
        written = end
    if written < len(data):
        file.write_at(offset + written, memoryview(data)[written:])
