"""The scan: what is seen, what is read, what is left alone, and what must be there before anything is deleted."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence

import pytest

from replicad.core.diff import FRESH_NS, OTHER_KIND, OTHER_MOUNT
from replicad.core.draft import Draft
from replicad.core.effects import HashFile
from replicad.core.local import LocalChange, Originator, Vanished
from replicad.core.records import ZERO
from replicad.engine import scan_resolve, scan_state, scan_step
from replicad.engine.scan_read import BUSY_REPORTED_AT, FILE_BEING_WRITTEN, LARGE_BYTES
from replicad.engine.scan_state import Walk
from replicad.engine.scan_step import COVERED_RETRY_MS, Step
from replicad.errors import FileTrouble
from replicad.files.changes import Change, Dirty, Moved, Unwatchable
from replicad.files.hashing import BeingWritten, hash_file
from tests.engine.scan_world import World


def with_tree() -> World:
    world = World()
    world.mkdir(b"d")
    world.mkdir(b"d/e")
    for path in (b"d/x", b"d/e/y", b"f"):
        world.write(path, b"content of " + path)
    world.fs.user_symlink(b"l", b"/nowhere")
    world.tick()
    world.run()
    return world


def failing(method: str, path: bytes, code: int) -> Callable[[str, tuple[bytes, ...]], None]:
    def hook(called: str, paths: tuple[bytes, ...]) -> None:
        if (called == method or (method == "list" and called in ("list_dir", "read_dir"))) and path in paths:
            raise OSError(code, "as the test wants it", path)

    return hook


def at_rest(world: World) -> bool:
    return world.scanner.at_rest


def scanning(world: World) -> bool:
    return world.scanner.scanning


# Seeing.


def test_the_first_scan_finds_everything_and_a_second_one_nothing() -> None:
    world = with_tree()
    assert set(world.tree()) == {b"d", b"d/e", b"d/e/y", b"d/x", b"f", b"l"}
    assert world.written() == 6
    assert world.scanner.full_scans == 1
    world.assert_shown()


def test_every_change_is_seen_live() -> None:
    world = with_tree()
    acts: list[Callable[[], object]] = [
        lambda: world.fs.user_write(b"f", b"written"),
        lambda: world.fs.user_chmod(b"d/x", 0o600),
        lambda: world.fs.user_chmod(b"d", 0o700),
        lambda: world.fs.user_set_mtime(b"f", 12345),
        lambda: world.fs.user_mkdir(b"n"),
        lambda: world.fs.user_write(b"n/z", b""),
        lambda: world.fs.user_unlink(b"l"),
        lambda: world.fs.user_remove_tree(b"d/e"),
    ]
    for act in acts:
        before = world.written()
        act()
        world.tick()
        world.run()
        assert world.written() > before
        assert world.tree() == world.disk()
    world.assert_shown()


def test_a_write_that_keeps_size_and_mtime_is_seen_by_its_ctime() -> None:
    world = with_tree()
    stat = world.fs.stat(b"f")
    assert stat is not None
    world.fs.user_write(b"f", b"CONTENT OF f")
    world.fs.user_set_mtime(b"f", stat.mtime_ns)
    world.tick()
    world.rescan()
    assert world.tree() == world.disk()


def test_a_file_that_becomes_a_directory_and_back() -> None:
    world = with_tree()
    world.fs.user_unlink(b"f")
    world.fs.user_mkdir(b"f")
    world.write(b"f/in", b"it")
    world.run()
    world.assert_shown()
    world.fs.user_remove_tree(b"f")
    world.write(b"f", b"again")
    world.run()
    world.assert_shown()


def test_a_new_directory_is_watched_before_it_is_listed() -> None:
    """Whatever is made in it while it is being found is either listed or told."""
    world = with_tree()
    told: list[Change] = []
    world.deliver = told.append
    world.fs.user_mkdir(b"n")
    world.fs.user_mkdir(b"n/m")
    world.tick()

    def on_listing(method: str, paths: tuple[bytes, ...]) -> None:
        if method == "read_dir" and paths in ((b"n",), (b"n/m",)):
            assert world.fs.tree.directory(paths[0]).watched
            world.fs.before_read = None

    world.fs.before_read = on_listing
    for change in told:
        world.take_in(change)
    world.run()
    assert world.watch.is_watched(b"n/m")
    world.deliver = world.take_in
    world.write(b"n/m/z", b"seen live")
    world.run()
    assert world.tree() == world.disk()


def test_replicads_own_directory_is_never_looked_at() -> None:
    world = with_tree()
    world.write(b".replicad/staging/half", b"fetched")
    for entry in ((b"", b".replicad"), (b".replicad", b"staging"), (b".replicad/staging", b"half")):
        world.take_in(Dirty(*entry))
    world.rescan()
    assert b".replicad" not in world.tree()
    assert not any(path.startswith(b".replicad") for path in world.tree())


def test_hints_about_nothing_lead_nowhere() -> None:
    world = with_tree()
    before = world.written()
    for entry in ((b"", b"never"), (b"never", b"there"), (b"f", b"below"), (b"d/e", b"nor"), (b"", b"")):
        world.take_in(Dirty(*entry))
    world.take_in(Moved(b"never", b"there"))
    world.run()
    assert world.written() == before
    assert at_rest(world)


# In steps.


def test_a_step_looks_at_a_bounded_number_of_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_step, "LOOKS_A_STEP", 5)
    world = World()
    for number in range(12):
        world.write(b"%02d" % number, b"x")
    counts = []
    while not world.scanner.idle:
        before = world.written()
        world.step()
        counts.append(world.written() - before)
    assert max(counts) <= 5
    assert sum(counts) == 12
    world.assert_shown()


def test_a_scan_goes_on_where_it_was_while_hints_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_step, "LOOKS_A_STEP", 2)
    world = World()
    for number in range(20):
        world.mkdir(b"%02d" % number)
    world.step()
    assert scanning(world)
    world.scanner.hint(b"", b"19")
    world.step()
    world.write(b"19/live", b"")
    steps = 0
    while b"19/live" not in world.tree():
        world.step()
        steps += 1
        assert steps < 100
    world.run()
    assert not scanning(world)
    world.assert_shown()


def test_more_hints_than_are_held_become_a_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_state, "HINTS_MAX", 3)
    world = with_tree()
    for number in range(6):
        world.write(b"n%d" % number, b"x")
    assert scanning(world)
    world.run()
    assert world.scanner.full_scans == 2
    world.assert_shown()


def test_after_an_overflow_everything_is_looked_at() -> None:
    world = with_tree()
    world.deliver = lambda change: None
    world.write(b"unseen", b"x")
    world.fs.user_remove_tree(b"d")
    world.deliver = world.take_in
    world.watch.overflow()
    world.run()
    world.assert_shown()
    world.write(b"unseen", b"seen, since it is watched again")
    world.run()
    assert world.tree() == world.disk()


def test_a_deep_tree_takes_no_recursion() -> None:
    world = World()
    path = b"d"
    for _ in range(1_050):
        world.fs.user_mkdir(path)
        path += b"/d"
    world.tick()
    world.run()
    assert len(world.tree()) == 1_050
    world.fs.user_rename(b"d" + b"/d" * 500, b".replicad/away")
    world.tick()
    world.run()
    assert len(world.tree()) == 500


def test_a_large_directory_goes_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_resolve, "PIECE_NODES", 4)
    world = with_tree()
    world.mkdir(b"d/many")
    for number in range(10):
        world.write(b"d/many/%d" % number, b"x")
    world.run()
    world.fs.user_remove_tree(b"d")
    world.tick()
    counts = []
    while not at_rest(world):
        before = world.written()
        if world.scanner.idle:
            world.resolve()
            counts.append(world.written() - before)
        else:
            world.step()
    assert max(counts) <= 5
    assert set(world.tree()) == {b"f", b"l"}
    world.assert_shown()


def test_a_large_directory_that_comes_back_while_it_goes_is_not_deleted_further(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scan_resolve, "PIECE_NODES", 4)
    world = World()
    world.mkdir(b"d")
    for number in range(10):
        world.write(b"d/%d" % number, b"x")
    world.run()
    uid = world.uid(b"d")
    world.deliver = lambda change: None
    world.fs.user_rename(b"d", b".replicad/away")
    world.scanner.hint(b"", b"d")
    while not world.scanner.idle:
        world.step()
    world.resolve()
    world.resolve()
    world.fs.user_rename(b".replicad/away", b"d")
    world.tick()
    world.rescan()
    world.deliver = world.take_in
    assert world.uid(b"d") == uid
    world.assert_shown()


# Deleting.


def test_i6_nothing_is_deleted_while_the_root_is_not_the_folders() -> None:
    world = with_tree()
    before = world.written()
    world.deliver = lambda change: None
    world.root_there = False
    world.fs.user_rename(b"d", b".replicad/away")
    world.tick()
    world.scanner.scan()
    world.run()
    assert world.written() == before
    world.fs.user_rename(b".replicad/away", b"d")
    world.tick()
    world.root_there = True
    world.run()
    world.deliver = world.take_in
    world.assert_shown()


def test_i6_a_root_that_goes_in_the_middle_of_a_step_voids_it() -> None:
    world = with_tree()
    before = world.written()

    def unmount(method: str, paths: tuple[bytes, ...]) -> None:
        if paths == (b"f",):
            world.root_there = False

    world.fs.user_unlink(b"f")
    world.tick()
    while not world.scanner.idle:
        world.step()
    world.fs.before_read = unmount
    draft = Draft(world.view)
    looked = world.scanner.resolve(draft, world.now_ns)
    assert draft.counter > before, "the deletion was in the draft"
    assert not looked.root_ok
    assert world.written() == before
    world.fs.before_read = None
    world.root_there = True
    world.run()
    assert b"f" not in world.tree()


def test_i6_a_directory_that_cannot_be_read_deletes_nothing_and_is_blocked() -> None:
    world = with_tree()
    before = world.written()
    world.fs.before_read = failing("list", b"d", errno.EACCES)
    world.scanner.scan()
    world.run()
    assert world.written() == before
    assert world.scanner.blocked() == [(b"d", "permission denied")]
    world.fs.before_read = None
    world.deliver = lambda change: None
    world.write(b"d/new", b"was not seen")
    world.deliver = world.take_in
    world.pass_time(61_000)
    assert world.scanner.blocked() == []
    world.assert_shown()


def test_i6_an_entry_that_cannot_be_seen_is_not_deleted() -> None:
    world = with_tree()
    before = world.written()
    world.fs.before_read = failing("stat", b"f", errno.EIO)
    world.fs.user_chmod(b"f", 0o600)
    world.tick()
    world.run()
    assert world.written() == before
    assert world.scanner.blocked() == [(b"f", "the disk reports an input/output error")]
    world.fs.before_read = None
    world.pass_time(61_000)
    assert world.scanner.blocked() == []
    world.assert_shown()


def test_i6_only_a_scan_that_came_to_its_end_deletes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that went from where the scan has not been to where it has been would else be deleted, and made anew."""
    monkeypatch.setattr(scan_step, "LOOKS_A_STEP", 1)
    world = World()
    for name in (b"a", b"b", b"c"):
        world.mkdir(name)
    world.write(b"a/f", b"moved while the daemon was down")
    world.run()
    uid = world.uid(b"a/f")
    world.deliver = lambda change: None
    world.fs.user_rename(b"a/f", b"c/f")
    world.tick()
    world.scanner = world.new_scanner()
    steps = 0
    while world.scanner.scanning and steps < 100:
        world.step()
        if world.scanner.unresolved:
            world.resolve()
        steps += 1
    assert world.uid(b"c/f") == uid
    world.deliver = world.take_in
    world.assert_shown()


def test_a_file_that_is_put_back_before_its_deletion_is_decided_was_never_gone() -> None:
    world = with_tree()
    before = world.written()
    world.fs.user_rename(b"f", b".replicad/f")
    world.tick()
    while not world.scanner.idle:
        world.step()
    assert world.scanner.unresolved
    world.fs.user_rename(b".replicad/f", b"f")
    world.tick()
    world.run()
    assert world.written() == before
    world.assert_shown()


# What is not replicated.


def test_s29_a_mount_inside_the_folder_deletes_nothing_and_is_blocked() -> None:
    world = with_tree()
    world.mkdir(b"media")
    world.write(b"media/under", b"covered by the mount")
    world.run()
    tree, before = world.tree(), world.written()
    world.fs.user_mount(b"media")
    world.fs.user_write(b"media/film", b"on the other filesystem")
    world.tick()
    for _ in range(2):
        world.rescan()
    assert world.written() == before
    assert world.tree() == tree
    assert world.scanner.blocked() == [(b"media", OTHER_MOUNT)]
    world.fs.user_unmount(b"media")
    world.tick()
    for _ in range(2):
        world.rescan()
    assert world.written() == before
    assert world.scanner.blocked() == []


def test_a_mount_that_has_gone_is_noticed_without_a_scan() -> None:
    """Nothing tells of it; what was covered is looked at again, and what lay beneath is there."""
    world = with_tree()
    world.fs.user_mkdir(b"media")
    world.fs.user_write(b"media/under", b"made before the mount, and never seen")
    world.fs.user_mount(b"media")
    world.tick()
    world.run()
    scans = world.scanner.full_scans
    world.pass_time(COVERED_RETRY_MS - 1)
    world.fs.user_unmount(b"media")
    assert world.scanner.blocked() == [(b"media", OTHER_MOUNT)]
    world.pass_time(COVERED_RETRY_MS)
    assert world.scanner.blocked() == []
    assert world.scanner.full_scans == scans
    world.assert_shown()


def test_a_mount_that_was_always_there_is_not_entered() -> None:
    world = World()
    world.fs.user_mkdir(b"media")
    world.fs.user_mount(b"media")
    world.fs.user_write(b"media/film", b"")
    world.tick()
    world.run()
    assert world.tree() == {}
    assert world.scanner.blocked() == [(b"media", OTHER_MOUNT)]


def test_a_fifo_is_blocked_and_what_it_replaces_is_gone() -> None:
    world = with_tree()
    world.fs.user_fifo(b"pipe")
    world.fs.user_unlink(b"f")
    world.fs.user_fifo(b"f")
    world.tick()
    world.run()
    assert b"f" not in world.tree()
    assert world.scanner.blocked() == [(b"f", OTHER_KIND), (b"pipe", OTHER_KIND)]
    world.fs.user_unlink(b"pipe")
    world.fs.user_unlink(b"f")
    world.write(b"f", b"a file again")
    world.run()
    assert world.scanner.blocked() == []
    world.assert_shown()


def test_what_is_blocked_is_listed_where_its_directory_is_moved_and_no_more_once_it_is_gone() -> None:
    """The watch tells of the directory alone when it is moved; of what is in it when it is removed, too late."""
    world = with_tree()
    world.mkdir(b"dir")
    for path in (b"dir/pipe", b"pipe"):
        world.fs.user_fifo(path)
    world.run()
    assert [path for path, _ in world.scanner.blocked()] == [b"dir/pipe", b"pipe"]
    world.fs.user_rename(b"dir", b"moved")
    world.run()
    assert [path for path, _ in world.scanner.blocked()] == [b"moved/pipe", b"pipe"]
    world.fs.user_unlink(b"moved/pipe")
    world.fs.user_rmdir(b"moved")
    world.run()
    assert [path for path, _ in world.scanner.blocked()] == [b"pipe"]
    world.assert_shown()


def test_what_is_blocked_leaves_the_list_with_a_directory_that_leaves_the_folder() -> None:
    world = with_tree()
    world.mkdir(b"dir")
    world.fs.user_fifo(b"dir/pipe")
    world.run()
    world.deliver = lambda change: None if isinstance(change, Dirty) and change.directory else world.take_in(change)
    world.fs.user_unlink(b"dir/pipe")  # as `mv` out of the folder: of what is in it nothing is told
    world.fs.user_rmdir(b"dir")
    world.run()
    assert world.scanner.blocked() == []
    world.assert_shown()


def test_a_file_that_cannot_be_read_is_blocked_and_stops_nothing_else() -> None:
    world = World()
    world.fs.before_read = failing("open_read", b"secret", errno.EACCES)
    world.write(b"secret", b"")
    world.write(b"plain", b"")
    world.run()
    assert set(world.tree()) == {b"plain"}
    assert world.scanner.blocked() == [(b"secret", "permission denied")]
    assert world.scanner.full_scans == 1
    world.fs.before_read = None
    world.fs.user_chmod(b"secret", 0o600)
    world.tick()
    world.run()
    assert world.scanner.blocked() == []
    world.assert_shown()


def test_an_unwatchable_directory_is_scanned_all_the_same() -> None:
    world = World()
    told: list[Change] = []
    world.deliver = told.append
    world.watch.refuse = lambda path: "no watches left" if path == b"d" else None
    world.mkdir(b"d")
    world.write(b"d/x", b"")
    world.run()
    assert Unwatchable(b"d", "no watches left") in told
    world.deliver = world.take_in
    world.assert_shown()


def test_more_files_to_be_looked_at_again_than_are_remembered_become_a_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_state, "DUE_MAX", 2)
    world = World()
    world.run()
    for number in range(5):
        world.fs.user_write(b"%d" % number, b"fresh")
    world.step()
    assert scanning(world)
    world.tick()
    world.run()
    world.assert_shown()


def test_what_cannot_be_read_and_is_not_remembered_makes_no_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_state, "DUE_MAX", 1)
    world = World()
    for number in range(3):
        world.write(b"%d" % number, b"secret")

    def refuse(method: str, paths: tuple[bytes, ...]) -> None:
        if method == "open_read":
            raise OSError(errno.EACCES, "as the test wants it", *paths)

    world.fs.before_read = refuse
    world.run()
    assert world.scanner.full_scans == 1
    assert len(world.scanner.blocked()) == 3
    world.fs.before_read = None
    world.rescan()
    assert world.scanner.blocked() == []
    world.assert_shown()


# Files that are being written.


def always_written(world: World, path: bytes) -> Callable[[str, tuple[bytes, ...]], None]:
    def hook(method: str, paths: tuple[bytes, ...]) -> None:
        if method == "read_at" and paths == (path,):
            world.now_ns += 1_000_000
            with world.fs.user_open(path) as file:
                file.write_at(file.stat().size, b"more")

    return hook


@pytest.mark.requirement("R6")
def test_a_file_that_is_being_written_is_tried_again_and_reported_from_the_third_time_on() -> None:
    world = World()
    world.write(b"log", b"start")
    world.deliver = lambda change: None
    world.fs.before_read = always_written(world, b"log")
    world.run()
    assert world.tree() == {}
    assert not at_rest(world)
    waits = []
    for _ in range(8):
        due = world.scanner.next_due_ms()
        assert due is not None
        waits.append(round((due - world.now_ns / 1e6) / 1_000))
        world.now_ns = due * 1_000_000
        world.step()
        world.run()
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    assert [(report.code, report.path) for report in world.reports()] == [(FILE_BEING_WRITTEN, b"log")]
    assert [path for path, _ in world.scanner.blocked()] == [b"log"]
    assert at_rest(world)
    world.fs.before_read = None
    world.pass_time(61_000)
    assert world.scanner.blocked() == []
    world.assert_shown()


def test_a_report_comes_with_the_third_try_not_before() -> None:
    assert BUSY_REPORTED_AT == 3
    world = World()
    world.write(b"log", b"start")
    world.deliver = lambda change: None
    world.fs.before_read = always_written(world, b"log")
    world.run()
    world.pass_time(1_500)
    assert world.reports() == []
    assert world.scanner.blocked() == []
    world.pass_time(2_500)
    assert len(world.reports()) == 1


def test_news_of_a_file_that_was_being_written_is_looked_at_within_a_second() -> None:
    world = World()
    world.write(b"log", b"start")
    world.fs.before_read = always_written(world, b"log")
    world.deliver = lambda change: None
    world.run()
    world.pass_time(20_000)
    world.fs.before_read = None
    world.deliver = world.take_in
    world.write(b"log", b"the last line")
    world.run()
    world.pass_time(1_100)
    assert world.tree() == world.disk()


def test_a_file_that_is_open_but_rests_is_read() -> None:
    world = World()
    world.write(b"log", b"start")
    with world.fs.user_open(b"log") as file:
        file.write_at(5, b", a line")
        world.tick()
        world.run()
        assert world.tree() == world.disk()
        file.write_at(13, b", another")
        world.tick()
        world.run()
        assert world.tree() == world.disk()


# Times too fresh to trust.


def test_a_write_in_the_same_tick_as_the_look_is_found_without_any_hint() -> None:
    """As git does with its index."""
    world = World()
    world.run()
    world.deliver = lambda change: None
    world.fs.user_write(b"f", b"one")
    world.scanner.hint(b"", b"f")
    world.run()
    world.fs.user_write(b"f", b"two")  # equal size, equal times
    due = world.scanner.next_due_ms()
    assert due is not None
    assert 0 < due - world.now_ns // 1_000_000 <= FRESH_NS // 1_000_000 + 1
    world.pass_time(100)
    assert world.tree() == world.disk()
    assert world.scanner.next_due_ms() is None


def test_a_write_in_the_same_tick_is_found_after_a_crash() -> None:
    world = World()
    world.run()
    world.fs.user_write(b"f", b"one")
    world.run()
    world.deliver = lambda change: None
    world.fs.user_write(b"f", b"two")
    world.tick()
    world.scanner = world.new_scanner()
    world.run()
    assert world.tree() == world.disk()


def test_a_write_in_the_same_tick_of_which_the_watch_tells_is_found_at_once() -> None:
    world = World()
    world.run()
    world.fs.user_write(b"f", b"one")
    world.run()
    world.fs.user_write(b"f", b"two")
    world.run()
    assert world.tree() == world.disk()


# Large files.


def large(world: World, path: bytes, letter: bytes = b"x") -> None:
    world.fs.user_write(path, letter * (LARGE_BYTES + 1))


def test_a_large_file_is_hashed_elsewhere_once_its_times_can_be_trusted() -> None:
    world = World()
    world.hash_large = False
    world.run()
    large(world, b"big")
    world.run()
    assert world.effects == []
    assert not at_rest(world)
    world.pass_time(100)
    assert world.effects == [HashFile(b"", b"big")]
    assert world.tree() == {}
    assert not at_rest(world)
    world.scanner.hint(b"", b"big")
    world.run()
    assert len(world.effects) == 1, "it is in hashing already"
    world.hash_large = True
    world.run()
    assert at_rest(world)
    world.assert_shown()


def test_a_large_file_that_is_gone_before_it_was_read_is_not_waited_for() -> None:
    world = World()
    world.run()
    large(world, b"big")
    world.run()
    world.fs.user_unlink(b"big")
    world.run()
    assert at_rest(world)


def test_a_large_file_that_was_changed_while_it_was_hashed_is_hashed_again() -> None:
    world = World()
    world.hash_large = False
    large(world, b"big")
    world.tick()
    world.run()
    (asked,) = world.effects
    assert isinstance(asked, HashFile)
    world.effects.clear()
    world.hash_one(asked)
    large(world, b"big", b"y")
    world.tick()
    world.run()
    assert world.tree() == {}
    world.hash_large = True
    world.pass_time(5_000)
    world.run()
    world.assert_shown()


def asked_for_d_big() -> tuple[World, HashFile]:
    """`d/big` is large, and waits for its hash."""
    world = World()
    world.hash_large = False
    world.fs.user_mkdir(b"d")
    large(world, b"d/big")
    world.tick()
    world.run()
    (asked,) = world.effects
    assert isinstance(asked, HashFile)
    world.effects.clear()
    return world, asked


def test_a_large_file_whose_directory_is_renamed_before_it_was_read_is_hashed_where_it_is() -> None:
    world, asked = asked_for_d_big()
    world.fs.user_rename(b"d", b"e")
    world.run()
    world.scanner.hashed(asked.directory, asked.name, BeingWritten(b"d/big"))
    world.run()
    assert [effect for effect in world.effects if isinstance(effect, HashFile)] == [HashFile(b"e", b"big")]
    world.hash_large = True
    world.run()
    assert at_rest(world)
    world.assert_shown()


def test_a_large_file_whose_directory_is_renamed_after_it_was_read_is_not_hashed_again() -> None:
    world, asked = asked_for_d_big()
    stat = world.fs.stat(b"d/big")
    assert stat is not None
    outcome = hash_file(world.fs, b"d/big", stat)
    world.fs.user_rename(b"d", b"e")
    world.run()
    world.scanner.hashed(asked.directory, asked.name, outcome)
    world.run()
    assert world.effects == []
    assert at_rest(world)
    world.assert_shown()


def test_a_large_file_whose_directory_is_renamed_is_not_taken_for_the_one_now_at_its_path() -> None:
    world, asked = asked_for_d_big()
    world.fs.user_rename(b"d", b"e")
    world.fs.user_mkdir(b"d")
    large(world, b"d/big", b"y")
    world.tick()
    world.run()
    world.hash_one(asked)
    world.hash_large = True
    world.run()
    world.pass_time(5_000)
    assert at_rest(world)
    world.assert_shown()


def test_a_large_file_that_cannot_be_hashed_is_blocked() -> None:
    world = World()
    world.hash_large = False
    large(world, b"big")
    world.tick()
    world.run()
    world.effects.clear()
    world.scanner.hashed(b"", b"big", FileTrouble(b"big", "the disk reports an input/output error"))
    world.run()
    assert world.scanner.blocked() == [(b"big", "the disk reports an input/output error")]
    assert at_rest(world)
    world.hash_large = True
    world.pass_time(61_000)
    assert world.scanner.blocked() == []
    world.assert_shown()


def test_no_more_than_a_few_large_files_are_in_hashing_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("replicad.engine.scan_read.HASHING_MAX", 2)
    world = World(large_bytes=3)
    world.hash_large = False
    for number in range(5):
        world.write(b"%d" % number, b"large" + b"x" * number)
    world.run()
    assert len(world.effects) == 2
    first = world.effects.pop(0)
    assert isinstance(first, HashFile)
    world.hash_one(first)
    world.run()
    assert len(world.effects) == 2
    assert scanning(world)
    world.hash_large = True
    world.run()
    assert not scanning(world)
    world.assert_shown()


def test_the_manifest_of_a_file_comes_with_the_step_that_enters_it() -> None:
    world = World()
    world.run()
    world.write(b"f", bytes(200_000))
    world.write(b"g", b"small")
    looked = world.step()
    assert [hashed.manifest is not None for hashed in looked.hashed] == [True]
    assert {state.record.place.name for state in world.view.states.values() if state.record.place} == {b"f", b"g"}


# Stamps, founding, recovery.


def test_what_a_scan_finds_is_stamped_by_the_files_times_and_what_is_seen_live_by_the_clock() -> None:
    world = World()
    world.write(b"f", b"written, then found much later")
    stat = world.fs.stat(b"f")
    assert stat is not None
    world.tick(3_600_000)
    world.run()
    state = world.view.object(world.uid(b"f"))
    assert state is not None
    assert state.record.content is not None
    assert state.record.content.time_ms == stat.mtime_ns // 1_000_000
    world.fs.user_write(b"g", b"as cp -p does")
    world.fs.user_set_mtime(b"g", stat.mtime_ns)
    world.run()
    state = world.view.object(world.uid(b"g"))
    assert state is not None
    assert state.record.content is not None
    assert state.record.content.time_ms == world.now_ns // 1_000_000


def test_a_founders_first_scan_enters_originals_that_another_founder_has_equally() -> None:
    worlds = [World(founding=True, replica=replica) for replica in (1, 2)]
    for world in worlds:
        world.mkdir(b"d")
        world.write(b"d/x", b"equal")
        world.fs.user_symlink(b"l", b"d")
        world.tick(100 * world.view.replica)
        world.run()
        assert world.scanner.full_scans == 1
        for path in (b"d", b"d/x", b"l"):
            state = world.view.object(world.uid(path))
            assert state is not None
            assert state.record.place is not None
            assert state.record.place.stamp == ZERO
    one, other = worlds
    assert [one.uid(path) for path in (b"d", b"d/x", b"l")] == [other.uid(path) for path in (b"d", b"d/x", b"l")]
    one.founding = False
    one.assert_shown()


def test_a_directory_that_goes_is_one_change_whatever_was_told_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    world = with_tree()
    taken: list[LocalChange] = []

    def spy(self: Originator, changes: Sequence[LocalChange], *, watched: bool, founding: bool) -> None:
        taken.extend(changes)
        enter(self, changes, watched=watched, founding=founding)

    enter = Originator.enter
    monkeypatch.setattr(Originator, "enter", spy)
    world.fs.user_remove_tree(b"d")
    world.tick()
    world.run()
    assert [type(change) for change in taken] == [Vanished]
    world.assert_shown()


@pytest.mark.parametrize("what", ["directory", "symlink", "nothing", "another directory's"])
def test_a_file_that_was_being_written_and_went_is_waited_for_no_more(what: str) -> None:
    """Else no fence is ever passed again."""
    world = World()
    world.mkdir(b"d")
    world.write(b"d/log", b"start")
    world.deliver = lambda change: None
    world.fs.before_read = always_written(world, b"d/log")
    world.run()
    assert not at_rest(world)
    world.fs.before_read = None
    world.deliver = world.take_in
    if what == "another directory's":
        world.fs.user_rename(b"d", b"n")
    else:
        world.fs.user_unlink(b"d/log")
    if what == "directory":
        world.mkdir(b"d/log")
    elif what == "symlink":
        world.fs.user_symlink(b"d/log", b"elsewhere")
    world.run()
    if what == "directory":
        assert at_rest(world), "it is not even waited for until it would be read again"
    world.pass_time(2_000)
    assert at_rest(world)
    assert world.scanner.oldest() is None
    assert world.tree() == world.disk()


def test_a_new_directory_that_cannot_be_listed_stays_listed_as_blocked() -> None:
    world = World()
    world.run()

    def refuse(method: str, paths: tuple[bytes, ...]) -> None:
        if method == "list_dir" and paths[0] == b"d":
            raise OSError(errno.EACCES, "as the test wants it", *paths)

    world.fs.before_read = refuse
    world.mkdir(b"d")
    world.run()
    assert b"d" in dict(world.scanner.blocked())
    world.fs.before_read = None
    world.pass_time(61_000)
    assert not world.scanner.blocked()
    world.assert_shown()


def test_a_wait_does_not_wait_for_a_directory_on_which_something_was_mounted_as_it_was_about_to_be_walked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was listed is not the directory that is known; no decision follows, after which it would be walked."""
    world = World()
    world.run()
    advance = Step._advance

    def mounted(step: Step, walk: Walk) -> int:
        if walk.path == b"d" and not world.scanner.blocked() and world.fs.stat(b"d").mount == step.mount:  # type: ignore[union-attr]
            world.fs.user_mount(b"d")
        return advance(step, walk)

    monkeypatch.setattr(Step, "_advance", mounted)
    world.mkdir(b"d")
    world.run()
    assert world.scanner.blocked() == [(b"d", OTHER_MOUNT)]
    assert world.scanner.oldest() is None, "a fence would wait for ever"
    monkeypatch.undo()
    world.fs.user_unmount(b"d")
    world.pass_time(COVERED_RETRY_MS)
    world.write(b"d/f", b"told of by its watch alone")
    world.run()
    world.assert_shown()
