"""The layout of `.replicad/` and the marker: a root is known again, and no other is taken for it."""

import shutil
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import pytest

from replicad.errors import FileTrouble
from replicad.files.fs import DIRECTORY, FileSystem
from replicad.files.root_marker import (
    DIRECTORIES,
    MARKER,
    STAGING,
    create_layout,
    difference,
    read_marker,
    write_marker,
)
from tests.files.worlds import World, memory_world, real_world

ID, OTHER_ID = b"\x01" * 16, b"\xfe" * 16


@pytest.fixture(params=["real", "memory"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[World, None, None]:
    root = tmp_path / "root"
    root.mkdir()
    made = memory_world() if request.param == "memory" else real_world(root)
    yield made
    made.fs.close()


@pytest.fixture
def fs(world: World) -> FileSystem:
    return world.fs


def test_the_layout_is_private_and_made_once(world: World, fs: FileSystem) -> None:
    assert create_layout(fs) == list(DIRECTORIES)
    for path in DIRECTORIES:
        assert (world.there(path).kind, world.there(path).mode) == (DIRECTORY, 0o700)
    world.write(STAGING + b"/held", b"1")
    assert create_layout(fs) == []
    assert world.read(STAGING + b"/held") == b"1"


def test_what_a_user_removed_is_made_again(fs: FileSystem) -> None:
    create_layout(fs)
    fs.remove_dir(b".replicad/fence")
    assert create_layout(fs) == [b".replicad/fence"]


@pytest.mark.parametrize("path", [b".replicad", b".replicad/staging"])
def test_a_users_file_of_such_a_name_stays_and_is_reported(world: World, fs: FileSystem, path: bytes) -> None:
    if b"/" in path:
        world.make_dirs(b".replicad")
    world.write(path, b"mine")
    with pytest.raises(FileTrouble, match="not a directory"):
        create_layout(fs)
    assert world.read(path) == b"mine"


def test_a_marked_root_is_known_again(fs: FileSystem) -> None:
    create_layout(fs)
    assert read_marker(fs) is None
    written = write_marker(fs, ID)
    found = read_marker(fs)
    assert found == written
    assert found is not None
    assert found.marker == ID
    assert found.filesystem == fs.filesystem_uuid()
    assert difference(written, found) is None
    assert fs.list_dir(STAGING) == []


def test_a_marker_is_not_replaced(fs: FileSystem) -> None:
    create_layout(fs)
    written = write_marker(fs, ID)
    with pytest.raises(FileExistsError):
        write_marker(fs, OTHER_ID)
    assert read_marker(fs) == written
    assert fs.list_dir(STAGING) == []


def test_what_a_broken_start_left_is_no_hindrance(world: World, fs: FileSystem) -> None:
    create_layout(fs)
    world.write(STAGING + b"/marker-" + ID.hex().encode(), b"half")
    assert write_marker(fs, ID) == read_marker(fs)


def test_a_marker_has_16_bytes(fs: FileSystem) -> None:
    create_layout(fs)
    with pytest.raises(ValueError, match="16 bytes"):
        write_marker(fs, b"short")


@pytest.mark.parametrize("text", [b"", b"garbage", b"replicad root marker " + b"0" * 31 + b"\n", b"\0" * 2000])
def test_a_damaged_marker_is_an_error_and_not_a_missing_one(world: World, fs: FileSystem, text: bytes) -> None:
    create_layout(fs)
    world.write(MARKER, text)
    with pytest.raises(FileTrouble, match="damaged"):
        read_marker(fs)


def test_i6_no_other_root_is_taken_for_the_one_that_is_known(fs: FileSystem) -> None:
    create_layout(fs)
    known = replace(write_marker(fs, ID), filesystem=b"u" * 16)
    assert difference(known, known) is None
    for other, reason in (
        (None, "missing"),
        (replace(known, marker=OTHER_ID), "another one"),
        (replace(known, inode=known.inode + 1), "copy"),
        (replace(known, filesystem=b"v" * 16), "filesystem"),
    ):
        found = difference(known, other)
        assert found is not None
        assert reason in found


def test_i6_a_system_that_does_not_tell_the_filesystem_is_no_difference(fs: FileSystem) -> None:
    create_layout(fs)
    known = write_marker(fs, ID)
    for one, other in ((None, b"v" * 16), (b"v" * 16, None), (None, None)):
        assert difference(replace(known, filesystem=one), replace(known, filesystem=other)) is None


def test_i6_an_emptied_and_a_copied_root_are_told(tmp_path: Path) -> None:
    first, copy = tmp_path / "first", tmp_path / "copy"
    first.mkdir()
    world = real_world(first)
    create_layout(world.fs)
    known = write_marker(world.fs, ID)
    shutil.copytree(first, copy, copy_function=shutil.copy2)
    copied = real_world(copy)
    assert "copy" in (difference(known, read_marker(copied.fs)) or "")
    shutil.rmtree(first / ".replicad")
    assert "missing" in (difference(known, read_marker(world.fs)) or "")
    for each in (world, copied):
        each.fs.close()
