"""Holes, on a real disk: what is zeros by the block takes no room, and what was there is overwritten all the same."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicad.files.real_fs import RealFileSystem
from replicad.files.sparse import BLOCK_BYTES, write_sparse
from tests.sim.memory_fs import MemoryFileSystem

SIZE = 64 * BLOCK_BYTES


@pytest.fixture
def fs(tmp_path: Path) -> Iterator[RealFileSystem]:
    opened = RealFileSystem(tmp_path)
    yield opened
    opened.close()


def write(fs: RealFileSystem, pieces: list[tuple[int, bytes]]) -> None:
    with fs.create(b"f") as file:
        file.truncate(SIZE)
        for offset, data in pieces:
            write_sparse(file, offset, data)


@pytest.mark.parametrize("offset", [0, 1, BLOCK_BYTES - 1, 5 * BLOCK_BYTES])
def test_blocks_of_zeros_take_no_room(fs: RealFileSystem, tmp_path: Path, offset: int) -> None:
    data = bytearray(40 * BLOCK_BYTES)
    data[3 * BLOCK_BYTES + 7] = data[30 * BLOCK_BYTES] = 1
    write(fs, [(offset, bytes(data))])
    assert (tmp_path / "f").read_bytes() == bytes(offset) + data + bytes(SIZE - offset - len(data))
    assert (tmp_path / "f").stat().st_blocks * 512 <= 4 * BLOCK_BYTES


def test_zeros_overwrite_what_is_there(fs: RealFileSystem, tmp_path: Path) -> None:
    write(fs, [(0, os.urandom(SIZE)), (0, bytes(SIZE))])
    assert (tmp_path / "f").read_bytes() == bytes(SIZE)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 40_000), st.integers(0, 2)), max_size=8))
def test_it_is_written_as_without_holes(pieces: list[tuple[int, int, int]]) -> None:
    tree = MemoryFileSystem(lambda: 1)
    expected = bytearray(SIZE)
    with tree.create(b"f") as file:
        file.truncate(SIZE)
        for number, at, kind in pieces:
            data = (bytes(20_000), b"x" * 20_000, b"x" + bytes(9_000) + b"x" * 11 + bytes(9_000))[kind]
            offset = (number * BLOCK_BYTES + at) % (SIZE - 20_000)
            write_sparse(file, offset, data)
            expected[offset : offset + len(data)] = data
        assert file.read_at(0, SIZE) == expected
