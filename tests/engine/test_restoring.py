"""Preserved files brought back and deleted by an operator (engine.restoring), and read (engine.digesting)."""

from __future__ import annotations

from pathlib import Path

import pytest
from blake3 import blake3

from replicad.catalog.changes import CONFLICT_AND_DELETED, PRE_EXISTING, Preserved
from replicad.core.effects import Effect, HashFile
from replicad.core.preserving import LOST_ITS_NAME
from replicad.core.records import FILE, Content, Stamp, record
from replicad.engine import copying_back, restoring
from replicad.engine.copying_back import CopyingBack
from replicad.engine.digesting import STORES, Digesting
from replicad.engine.disposal import preserve, stranger
from replicad.engine.restoring import COPIED_AT_ONCE_BYTES, STEP_BYTES, Copy, delete, restore
from replicad.errors import OperatorError
from replicad.files.hashing import hash_file
from replicad.files.real_fs import RealFileSystem
from tests.engine.rig import Author, Rig


def keep(rig: Rig, path: bytes, data: bytes, store: str = CONFLICT_AND_DELETED) -> int:
    rig.fs.user_write(path, data)
    stat = rig.fs.stat(path)
    assert stat is not None
    number = rig.catalog.new_id()
    change = preserve(rig.fs, path, number, store, stranger(stat, path), "why", rig.now_ms)
    assert change is not None
    rig.catalog.commit(None, [change], now_ms=rig.now_ms)
    return number


def brought(rig: Rig, number: int, to: bytes = b"") -> bytes:
    return restore(rig.catalog, rig.fs, number, to, rig.now_ms)


def read(rig: Rig, path: bytes) -> bytes:
    return rig.disk()[path][2]


def test_it_comes_back_where_it_was() -> None:
    rig = Rig()
    number = keep(rig, b"f", b"1")
    assert brought(rig, number) == b"f"
    assert (read(rig, b"f"), rig.rows(), rig.stored()) == (b"1", [], [])


def test_beside_what_has_its_name_by_now_and_never_over_it() -> None:
    rig = Rig()
    numbers = [keep(rig, b"a.txt", b"%d" % n) for n in range(3)]
    rig.fs.user_write(b"a.txt", b"new")
    assert [brought(rig, number) for number in numbers] == [
        b"a (restored).txt",
        b"a (restored 2).txt",
        b"a (restored 3).txt",
    ]
    assert read(rig, b"a.txt") == b"new"


def test_directories_that_are_gone_are_made_and_a_file_in_the_way_is_left_alone() -> None:
    rig = Rig()
    rig.fs.user_mkdir(b"d")
    rig.fs.user_mkdir(b"d/e")
    one, other = keep(rig, b"d/e/f", b"1"), keep(rig, b"d/e/g", b"2")
    rig.fs.remove_dir(b"d/e")
    rig.fs.remove_dir(b"d")
    assert brought(rig, one) == b"d/e/f"
    rig.fs.unlink(b"d/e/f")
    rig.fs.remove_dir(b"d/e")
    rig.fs.user_write(b"d/e", b"a file")
    assert brought(rig, other) == b"d/g"
    assert read(rig, b"d/e") == b"a file"


def test_where_the_operator_says_or_not_at_all() -> None:
    rig = Rig()
    number = keep(rig, b"f", b"1")
    rig.fs.user_write(b"taken", b"2")
    for wrong in (
        b"taken",
        b"taken/below",
        b"../out",
        b"/etc/passwd",
        b"a//b",
        b".replicad/marker",
        b"x/../y",
        b"a\0b",
    ):
        with pytest.raises(OperatorError, match="--to"):
            brought(rig, number, wrong)
    assert (read(rig, b"taken"), len(rig.rows())) == (b"2", 1)
    assert brought(rig, number, b"new/place") == b"new/place"


def test_a_long_name_stays_one_that_a_disk_can_hold() -> None:
    rig = Rig()
    name = "ü".encode() * 125 + b".txt"
    number = keep(rig, name, b"1")
    rig.fs.user_write(name, b"2")
    path = brought(rig, number)
    assert len(path) <= 255
    assert path.decode().endswith("ü (restored).txt")


def test_what_is_gone_from_the_store_is_off_the_list_too() -> None:
    rig = Rig()
    number = keep(rig, b"f", b"1")
    (row,) = rig.rows()
    rig.fs.unlink(b".replicad/ConflictAndDeleted/" + row.stored_name)
    with pytest.raises(OperatorError, match="not in its store any more"):
        brought(rig, number)
    with pytest.raises(OperatorError, match="no preserved file has the number"):
        brought(rig, number)


def test_a_crash_between_the_rename_and_its_commit_leaves_the_file_and_no_row() -> None:
    rig = Rig()
    number = keep(rig, b"f", b"1")

    def crash() -> None:
        raise KeyboardInterrupt

    rig.before_commit = crash
    with pytest.raises(KeyboardInterrupt):
        brought(rig, number)
    rig.crash()
    assert (read(rig, b"f"), rig.rows()) == (b"1", [])


def test_what_is_deleted_is_off_the_disk_and_off_the_list() -> None:
    rig = Rig()
    numbers = [keep(rig, b"f", b"%d" % n) for n in range(3)]
    assert delete(rig.catalog, rig.fs, [*numbers[:2], 999], rig.now_ms) == (2, 2)
    assert rig.stored() == [b"2"]
    assert [row.preserved_id for row in rig.rows()] == numbers[2:]


def test_a_file_that_lost_its_name_is_copied_since_it_may_come_up_again() -> None:
    rig = Rig()
    rig.fs.user_write(b"f", b"1")
    rig.fs.set_mode(b"f", 0o640)
    stat = rig.fs.stat(b"f")
    assert stat is not None
    number = rig.catalog.new_id()
    note = stranger(stat, b"f")
    change = preserve(rig.fs, b"f", number, CONFLICT_AND_DELETED, note, LOST_ITS_NAME, rig.now_ms)
    assert change is not None
    rig.catalog.commit(None, [change], now_ms=rig.now_ms)
    with pytest.raises(OperatorError, match="--to"):
        brought(rig, number, b".replicad/x")
    assert rig.staging() == []
    assert brought(rig, number) == b"f"
    again = rig.fs.stat(b"f")
    assert again is not None
    assert (again.mode, again.mtime_ns, again.inode != stat.inode) == (0o640, stat.mtime_ns, True)
    assert (read(rig, b"f"), rig.stored(), len(rig.rows()), rig.staging()) == (b"1", [b"1"], 1, [])
    assert brought(rig, number) == b"f (restored)"


def lost_its_name(rig: Rig, path: bytes, data: bytes) -> int:
    rig.fs.user_write(path, data)
    stat = rig.fs.stat(path)
    assert stat is not None
    number = rig.catalog.new_id()
    change = preserve(rig.fs, path, number, CONFLICT_AND_DELETED, stranger(stat, path), LOST_ITS_NAME, rig.now_ms)
    assert change is not None
    rig.catalog.commit(None, [change], now_ms=rig.now_ms)
    return number


def test_a_copy_has_the_holes_that_the_file_had(tmp_path: Path) -> None:
    fs = RealFileSystem(tmp_path)
    (tmp_path / ".replicad/staging").mkdir(parents=True)
    (tmp_path / ".replicad/ConflictAndDeleted").mkdir()
    kept = tmp_path / ".replicad/ConflictAndDeleted/kept"
    with kept.open("wb") as file:
        file.truncate(STEP_BYTES + 3 * COPIED_AT_ONCE_BYTES + 7)
        file.seek(STEP_BYTES + COPIED_AT_ONCE_BYTES + 100)
        file.write(b"in between")
    path = b".replicad/ConflictAndDeleted/kept"
    stat = fs.stat(path)
    assert stat is not None
    row = Preserved(1, CONFLICT_AND_DELETED, b"copy", FILE, stat.size, b"", None, None, 1, LOST_ITS_NAME, b"kept")
    copy = Copy(fs, row, stat)
    assert [copy.step(), copy.step()] == [False, True]
    assert copy.bring(b"") == b"copy"
    copy.close()
    assert (tmp_path / "copy").read_bytes() == kept.read_bytes()
    assert (tmp_path / "copy").stat().st_blocks * 512 <= 65_536
    fs.close()


# -- large ones, a step at a time


class Bringing:
    """CopyingBack on a rig, with steps of four bytes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, data: bytes = b"0123456789") -> None:
        monkeypatch.setattr(restoring, "STEP_BYTES", 4)
        monkeypatch.setattr(copying_back, "STEP_BYTES", 4)
        self.rig = Rig()
        self.number = lost_its_name(self.rig, b"f", data)
        self.hindrance = ""
        self.told: list[tuple[bytes, str]] = []
        self.copying = CopyingBack(self.rig.catalog, self.rig.fs, lambda: self.hindrance)

    def begin(self, to: bytes = b"") -> bool:
        return self.copying.begin(self.number, to, self._tell, self.rig.now_ms)

    def _tell(self, path: bytes, reason: str) -> list[Effect]:
        self.told.append((path, reason))
        return []


def test_a_large_file_is_copied_a_step_at_a_time_and_shows_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Bringing(monkeypatch)
    assert one.begin()
    with pytest.raises(OperatorError, match="already"):
        one.begin()
    for _ in range(2):
        one.copying.work()
        assert (one.told, one.copying.under_way, b"f" in one.rig.disk()) == ([], True, False)
    one.copying.work()
    assert (one.told, one.copying.under_way) == ([(b"f", "")], False)
    rig = one.rig
    assert (read(rig, b"f"), rig.stored(), len(rig.rows()), rig.staging()) == (b"0123456789", [b"0123456789"], 1, [])


def test_one_that_is_deleted_while_it_is_copied_comes_back_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Bringing(monkeypatch)
    assert one.begin()
    one.copying.work()
    delete(one.rig.catalog, one.rig.fs, [one.number], one.rig.now_ms)
    while one.copying.under_way:
        one.copying.work()
    assert (read(one.rig, b"f"), one.rig.stored()) == (b"0123456789", [])


def test_what_hinders_the_folder_or_takes_the_last_room_ends_a_copy_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = Bringing(monkeypatch)
    assert one.begin()
    one.copying.work()
    one.hindrance = "the disk is gone"
    one.copying.work()
    assert (one.told, one.rig.staging()) == ([(b"", "the disk is gone")], [])
    assert not one.begin(), "`restore` says why"
    one.hindrance = ""
    assert one.begin()
    one.copying.work()
    monkeypatch.setattr(one.rig.fs, "free_bytes", lambda: 1_000_000)
    one.copying.work()
    assert "has not so much room" in one.told[-1][1]
    assert (one.rig.staging(), len(one.rig.rows())) == ([], 1)


def test_a_copy_is_never_brought_over_anything_and_ends_with_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Bringing(monkeypatch)
    one.rig.fs.user_write(b"g", b"there")
    assert one.begin(b"g")
    while one.copying.under_way:
        one.copying.work()
    assert "is taken" in one.told[-1][1]
    assert (read(one.rig, b"g"), one.rig.staging()) == (b"there", [])
    assert one.begin()
    one.copying.close()
    assert (one.rig.staging(), one.copying.under_way) == ([], False)


def test_a_crash_in_the_middle_of_a_copy_leaves_nothing_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Bringing(monkeypatch)
    assert one.begin()
    one.copying.work()
    assert len(one.rig.staging()) == 1
    one.rig.crash()
    assert (one.rig.staging(), one.rig.stored(), len(one.rig.rows())) == ([], [b"0123456789"], 1)
    assert b"f" not in one.rig.disk()


def test_a_small_one_or_one_that_lost_otherwise_takes_no_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Bringing(monkeypatch, b"0123")
    assert not one.begin()
    number = keep(one.rig, b"g", b"0123456789")
    assert not one.copying.begin(number, b"", lambda path, reason: [], one.rig.now_ms)


# -- contents that are read


def test_contents_that_are_not_known_are_read_in_either_store() -> None:
    rig = Rig()
    keep(rig, b"f", b"one")
    keep(rig, b"g", b"two", PRE_EXISTING)
    digesting = Digesting(rig.catalog, rig.fs, large_bytes=100)
    assert digesting.work(rig.now_ms) == []
    assert {row.digest for row in rig.rows()} == {blake3(b"one").digest(), blake3(b"two").digest()}
    assert [row.path for row in rig.catalog.kept(blake3(b"two").digest())] == [b"g"]
    assert not digesting.due


def test_a_large_one_is_read_elsewhere_and_can_be_served_then() -> None:
    rig = Rig()
    body = bytes(300_000)
    keep(rig, b"f", body)
    keep(rig, b"g", b"small")
    digesting = Digesting(rig.catalog, rig.fs, large_bytes=100)
    (asked,) = digesting.work(rig.now_ms)
    assert isinstance(asked, HashFile)
    assert asked.directory in STORES
    assert not digesting.due, "one at a time"
    path = asked.directory + b"/" + asked.name
    stat = rig.fs.stat(path)
    assert stat is not None
    digesting.hashed(hash_file(rig.fs, path, stat), rig.now_ms)
    assert rig.catalog.manifest(blake3(body).digest()) is not None
    assert digesting.due
    digesting.work(rig.now_ms)
    assert all(row.digest for row in rig.rows())


def test_what_cannot_be_read_is_passed_over() -> None:
    rig = Rig()
    keep(rig, b"f", b"one")
    (row,) = rig.rows()
    rig.fs.unlink(b".replicad/ConflictAndDeleted/" + row.stored_name)
    keep(rig, b"g", b"two")
    digesting = Digesting(rig.catalog, rig.fs, large_bytes=100)
    digesting.work(rig.now_ms)
    assert not digesting.due
    assert [bool(row.digest) for row in rig.rows()] == [False, True]


# -- where it was


def test_what_is_preserved_out_of_staging_is_listed_where_it_was_in_the_tree() -> None:
    """It was lifted out of the way, on its way to a directory that is not known yet, when its deletion came."""
    rig = Rig()
    ours = Author(rig.bodies, 7)
    directory = ours.directory(b"d")
    held = ours.file(b"f", b"1", directory.uid)
    rig.take([directory, held])
    rig.settle()
    rig.take([ours.move(held, b"f", b"\x01" * 16), ours.file(b"f", b"2", directory.uid)])
    rig.settle()
    assert [name.startswith(b"out-") for name in rig.staging()] == [True]
    assert held.content is not None
    unseen = Content(8, 1, 500_000, (), Stamp(held.content.time_ms + 1, 8), 0, 0, 0, b"", b"")
    rig.take([record(held.uid, FILE, None, unseen)])
    rig.settle()
    (row,) = rig.rows()
    assert (row.path, row.why, row.winner) == (b"d/f", "deleted elsewhere meanwhile", 8)
    assert rig.stored() == [b"1"]
