"""A file of the home is whole, whatever happens while it is written."""

import os
import stat
from pathlib import Path

import pytest

from replicad.net.durable import write_durably


def test_it_is_there_with_its_mode_and_nothing_lies_beside_it(tmp_path: Path) -> None:
    write_durably(tmp_path / "f", "text")
    write_durably(tmp_path / "f", b"bytes", 0o644)
    assert (tmp_path / "f").read_bytes() == b"bytes"
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o644
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_what_was_there_stays_until_the_new_one_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_durably(tmp_path / "f", "old")

    def full(handle: int) -> None:
        raise OSError(28, "no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        write_durably(tmp_path / "f", "new")
    assert (tmp_path / "f").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["f"]
