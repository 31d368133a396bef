"""What is found in staging at the start."""

import pytest

from replicad.files.root_marker import STAGING, create_layout
from replicad.files.staging import read_staging, staging_path
from tests.files.worlds import memory_world


def test_all_that_lies_there_is_found_and_its_bytes_counted() -> None:
    world = memory_world()
    create_layout(world.fs)
    assert read_staging(world.fs).used_bytes == 0
    world.write(staging_path(b"new-1"), b"12345")
    world.fs.make_dir(staging_path(b"lifted"), 0o755)
    world.fs.make_dir(staging_path(b"lifted") + b"/deeper", 0o755)
    world.write(staging_path(b"lifted") + b"/deeper/f", b"123")
    world.fs.make_symlink(staging_path(b"link"), b"target")
    found = read_staging(world.fs)
    assert list(found.entries) == [b"lifted", b"link", b"new-1"]
    assert found.entries[b"new-1"] == world.there(STAGING + b"/new-1")
    assert found.used_bytes == 8


def test_staging_that_cannot_be_read_is_an_error_and_not_empty() -> None:
    world = memory_world()
    with pytest.raises(FileNotFoundError):
        read_staging(world.fs)


@pytest.mark.parametrize("name", [b"", b"a/b", b"../f", b"/"])
def test_i11_no_name_leads_out_of_staging(name: bytes) -> None:
    with pytest.raises(ValueError, match="not a name"):
        staging_path(name)
