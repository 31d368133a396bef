"""The mark in the home that tells a catalog which was put back."""

from __future__ import annotations

import shutil
from pathlib import Path

from replicad.daemon.marks import read_mark, write_mark
from replicad.engine.height import Height

FOLDER = b"folder, 16 bytes"


def test_what_was_written_is_read(tmp_path: Path) -> None:
    assert read_mark(tmp_path, FOLDER) is None
    write_mark(tmp_path, FOLDER, 7)
    write_mark(tmp_path, FOLDER, 9)
    assert read_mark(tmp_path, FOLDER) == Height(9)


def test_a_copied_home_is_told_from_the_one_that_it_was_copied_from(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    write_mark(tmp_path / "home", FOLDER, 7)
    shutil.copytree(tmp_path / "home", tmp_path / "copy")
    assert read_mark(tmp_path / "copy", FOLDER) == Height(7, moved=True)
    assert read_mark(tmp_path / "home", FOLDER) == Height(7)


def test_a_torn_mark_says_nothing(tmp_path: Path) -> None:
    write_mark(tmp_path, FOLDER, 7)
    (tmp_path / "marks" / FOLDER.hex()).write_bytes(b'{"commits": ')
    assert read_mark(tmp_path, FOLDER) is None


def test_a_home_that_cannot_be_written_keeps_the_mark(tmp_path: Path) -> None:
    (tmp_path / "marks").write_text("a file where the directory should be")
    write_mark(tmp_path, FOLDER, 7)
    assert read_mark(tmp_path, FOLDER) is None
