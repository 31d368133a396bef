"""The judge and the ledger themselves, on disks without daemons: what replicad might do wrong is done here by hand."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.torture import judge, plan, registers
from tests.torture.acts import User
from tests.torture.contents import FILE, SYMLINK
from tests.torture.ledger import SEEN_S, Ledger

LONG_AGO_NS = 10**9
EVENTS = {plan.ACT, plan.KILL, plan.STOP, plan.START, plan.CUT, plan.MEND, plan.LOSE, plan.SLOW}


class Place:
    """A member without a daemon; `up_s` is what is said of one."""

    def __init__(self, base: Path, name: str) -> None:
        self.name = name
        self.folder = base / name
        self.root = os.fsencode(self.folder)
        self.outside = os.fsencode(base / f"{name}-outside")
        self.up_s = 0.0
        (self.folder / ".replicad" / "ConflictAndDeleted").mkdir(parents=True)
        os.mkdir(self.outside)

    def up_for_s(self) -> float:
        return self.up_s


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path, "m1")


@pytest.fixture
def user(place: Place, ledger: Ledger) -> User:
    return User(place, ledger)


def found(place: Place, ledger: Ledger) -> judge.Found:
    return judge.read_disks({place.name: place.folder}, ledger)


def test_i3_what_lies_in_a_tree_or_a_store_is_not_lost_and_what_lies_in_staging_is(
    place: Place, user: User, ledger: Ledger
) -> None:
    user.create(b"a", b"1")
    user.symlink(b"link", b"nowhere/1")
    assert judge.lost(found(place, ledger), ledger) == []
    for name in ("a", "link"):
        (place.folder / name).rename(place.folder / ".replicad" / "ConflictAndDeleted" / name)
    assert judge.lost(found(place, ledger), ledger) == []
    (place.folder / ".replicad" / "staging").mkdir()
    (place.folder / ".replicad" / "ConflictAndDeleted" / "a").rename(place.folder / ".replicad" / "staging" / "a")
    first, finding = judge.lost(found(place, ledger), ledger)
    assert first.startswith("I3: 1 contents are nowhere")
    assert "is lost, but in m1 staging a" in finding
    assert "m1   wrote 'a'" in finding


def test_i3_what_a_user_overwrote_or_deleted_is_not_lost(place: Place, user: User, ledger: Ledger) -> None:
    user.create(b"a", b"1")
    user.edit(b"a", b"2")
    user.save(b"a", b"3")
    user.append(b"a", b"4")
    user.create(b"b", b"5")
    user.rename(b"b", b"a")
    user.move_out(b"a")
    user.symlink(b"link", b"nowhere/6")
    user.delete(b"link")
    user.mkdir(b"d")
    user.create(b"d/x", b"7")
    user.remove_tree(b"d")
    assert len(ledger.written) == len(ledger.taken_off) == 7
    assert judge.lost(found(place, ledger), ledger) == []
    assert user.paths() == []


def test_i3_what_is_deleted_by_nobody_is_lost_though_its_name_has_a_successor(
    place: Place, user: User, ledger: Ledger
) -> None:
    user.create(b"a", b"1")
    (place.folder / "a").unlink()
    user.create(b"a", b"2")
    assert len(judge.lost(found(place, ledger), ledger)) == 2


def test_what_replicad_puts_at_a_path_in_the_moment_of_a_deletion_is_not_taken_for_what_was_looked_at(
    place: Place, user: User, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    user.create(b"a", b"1")
    user.create(b"b", b"2")

    def unlink(path: bytes) -> None:
        monkeypatch.undo()
        os.rename(place.folder / "a", place.folder / ".replicad" / "ConflictAndDeleted" / "a")
        os.rename(place.folder / "b", place.folder / "a")
        os.unlink(path)

    monkeypatch.setattr(os, "unlink", unlink)
    user.delete(b"a")
    assert ledger.taken_off == {}
    assert len(ledger.untold) == 1
    assert judge.lost(found(place, ledger), ledger) == [], "one is missing, and of one act cannot be told what it took"
    os.unlink(place.folder / ".replicad" / "ConflictAndDeleted" / "a")
    assert len(judge.lost(found(place, ledger), ledger)) == 3


def test_i3_who_keeps_a_file_open_writes_where_it_is_by_then(place: Place, user: User, ledger: Ledger) -> None:
    user.create(b"a", b"1")
    user.edit(b"a", b"2", slowly=True)
    (place.folder / "a").rename(place.folder / ".replicad" / "ConflictAndDeleted" / "a")
    user.go_on(user.writers[0], b"3")
    assert judge.lost(found(place, ledger), ledger) == []
    assert judge.never_written(found(place, ledger), ledger) == []
    (place.folder / ".replicad" / "ConflictAndDeleted" / "a").unlink()
    assert len(judge.lost(found(place, ledger), ledger)) == 2


def test_what_is_written_to_a_file_that_its_user_has_deleted_is_on_no_disk(user: User, ledger: Ledger) -> None:
    user.create(b"a", b"1", slowly=True)
    user.delete(b"a")
    user.go_on(user.writers[0], b"2")
    assert ledger.written == {}


def come_back(place: Place, user: User) -> None:
    """What its user has deleted."""
    held = os.open(place.folder / "a", os.O_RDONLY)
    user.delete(b"a")
    (place.folder / "b").write_bytes(os.pread(held, 100, 0))
    os.close(held)


def test_i7_what_was_deleted_after_it_was_seen_may_not_be_live_again(
    place: Place, user: User, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.up_s = SEEN_S + 1
    user.create(b"a", b"1")
    at_s = (place.folder / "a").stat().st_ctime
    monkeypatch.setattr("tests.torture.acts.time.time", lambda: at_s + SEEN_S + 1)
    come_back(place, user)
    (finding,) = judge.came_back(found(place, ledger), ledger)
    assert "is at m1 b, taken off on m1 at b'a'" in finding


def test_i7_what_was_written_elsewhere_was_put_there_by_replicad_which_therefore_knows_it(
    tmp_path: Path, place: Place, ledger: Ledger
) -> None:
    user = User(place, ledger)
    for name in (b"a", b"b"):
        User(Place(tmp_path, f"author of {name.decode()}"), ledger).create(name, name)
        (place.folder / name.decode()).write_bytes(name)
        if name == b"a":
            ledger.all_have()
        user.delete(name)
        (place.folder / name.decode()).write_bytes(name)
    (finding,) = judge.came_back(found(place, ledger), ledger)
    assert "is at m1 b, taken off on m1 at b'b'" in finding


@pytest.mark.parametrize("up_s", [0.0, SEEN_S / 2, SEEN_S + 1])
def test_i7_nothing_is_concluded_where_it_may_not_have_been_seen(
    place: Place, user: User, ledger: Ledger, up_s: float
) -> None:
    place.up_s = up_s
    user.create(b"a", b"1")
    come_back(place, user)
    assert judge.came_back(found(place, ledger), ledger) == []


def test_i7_versions_of_the_same_bytes_and_what_looks_like_a_backup_are_excused(
    place: Place, user: User, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.up_s = SEEN_S + 1
    monkeypatch.setattr("tests.torture.acts.time.time", lambda: 1e12)
    for name in (b"a", b"b"):
        user.create(name, name)
    user.touch(b"a", LONG_AGO_NS)
    user.rename(b"b", b"c")
    user.create(b"b", b"new")
    for name in (b"a", b"c"):
        user.delete(name)
    (place.folder / "a").write_bytes(b"a")
    (place.folder / "c").write_bytes(b"b")
    assert len(ledger.condemned) == 2
    assert judge.came_back(found(place, ledger), ledger) == []


def test_i4_half_a_file_is_something_that_nobody_wrote(place: Place, user: User, ledger: Ledger) -> None:
    user.create(b"a", b"0123456789")
    (place.folder / "b").write_bytes(b"01234")
    (place.folder / "empty").touch()
    assert ledger.is_known(FILE, b"0123456789")
    assert not ledger.is_known(SYMLINK, b"0123456789")
    user.look(b"b")
    assert len(ledger.strange) == 1
    findings = judge.never_written(found(place, ledger), ledger)
    assert len(findings) == 2
    assert all("b'01234'" in finding for finding in findings)


def test_i1_trees_that_differ_are_told_with_the_history_of_what_differs(tmp_path: Path, ledger: Ledger) -> None:
    one, other = Place(tmp_path, "m1"), Place(tmp_path, "m2")
    roots = {"m1": one.folder, "m2": other.folder}
    User(one, ledger).create(b"a", b"1")
    (finding,) = judge.trees_differ(roots, ledger)
    assert "a: only in the first" in finding
    assert "wrote 'a'" in finding
    (other.folder / "a").write_bytes(b"1")
    status = (one.folder / "a").stat()
    os.utime(other.folder / "a", ns=(status.st_atime_ns, status.st_mtime_ns))
    (other.folder / "a").chmod(0o644)
    (one.folder / "a").chmod(0o644)
    assert judge.trees_differ(roots, ledger) == []


def test_i5_a_cn_that_stands_for_two_changes_is_told(tmp_path: Path) -> None:
    homes = [tmp_path / "m1", tmp_path / "m2"]
    for home, name in zip(homes, (b"a", b"b"), strict=True):
        (home / "catalog").mkdir(parents=True)
        with closing(sqlite3.connect(home / "catalog" / "x.db")) as db:
            db.execute("CREATE TABLE replica (no, id)")
            db.execute(
                "CREATE TABLE object (uid, place_replica, place_counter, place_raw,"
                " content_replica, content_counter, content_raw)"
            )
            db.execute("INSERT INTO replica VALUES (1, x'07')")
            db.execute("INSERT INTO object VALUES (x'01', 1, 5, ?, 1, 5, x'02')", (name,))
            db.commit()
    assert registers.used_twice(homes[:1]) == []
    (line,) = registers.used_twice(homes)
    assert line.startswith("I5: 07:5 (x.db place) stands for two changes")
    assert registers.newest(homes) == {"07": 5}


def test_a_seed_is_one_plan_and_a_short_one_has_every_kind_of_mishap() -> None:
    for seed in range(50):
        events = plan.plan(seed, 12, 3)
        assert events == plan.plan(seed, 12, 3)
        assert events == sorted(events, key=lambda event: event.at_s)
        assert {event.what for event in events} >= EVENTS
        assert sum(event.what == plan.ACT for event in events) > 40
    assert plan.plan(1, 12, 3) != plan.plan(2, 12, 3)
