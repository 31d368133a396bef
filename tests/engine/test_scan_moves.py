"""Moves, saves and links, as users and their programs make them; seen live, from one side, or only by a scan."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from replicad.core.draft import Draft
from replicad.engine.scan_read import TROUBLED_RETRY_MS
from replicad.engine.scan_resolve import UNCERTAIN
from replicad.engine.scan_state import Walk
from replicad.engine.scan_step import Step
from replicad.files.changes import Change, Dirty
from tests.engine import scan_world
from tests.engine.scan_world import World


def live(world: World) -> None:
    """All hints have arrived."""
    world.run()


def stopped(world: World) -> None:
    """No hint has: the daemon was down."""
    world.scanner = world.new_scanner()
    world.run()


SEEN = [live, stopped]
Seen = Callable[[World], None]


def with_tree() -> World:
    world = World()
    world.mkdir(b"d")
    world.mkdir(b"d/e")
    for path in (b"d/x", b"d/e/y", b"f", b"g"):
        world.write(path, b"content of " + path)
    world.run()
    return world


@pytest.mark.parametrize("seen", SEEN)
def test_a_renamed_file_is_one_record_and_the_same_object(seen: Seen) -> None:
    world = with_tree()
    uid, before = world.uid(b"f"), world.written()
    world.fs.user_rename(b"f", b"d/h")
    world.tick()
    seen(world)
    assert world.uid(b"d/h") == uid
    assert world.written() == before + 1
    world.assert_shown()


@pytest.mark.parametrize("seen", SEEN)
def test_a_moved_directory_is_one_record_whatever_is_in_it(seen: Seen) -> None:
    world = with_tree()
    uids, before = [world.uid(path) for path in (b"d", b"d/x", b"d/e", b"d/e/y")], world.written()
    world.mkdir(b"n")
    world.fs.user_rename(b"d", b"n/m")
    world.tick()
    seen(world)
    assert [world.uid(path) for path in (b"n/m", b"n/m/x", b"n/m/e", b"n/m/e/y")] == uids
    assert world.written() == before + 2
    world.assert_shown()


def test_a_renamed_directory_is_not_listed() -> None:
    world = with_tree()
    listed: list[bytes] = []
    world.fs.before_read = lambda method, paths: listed.extend(paths) if method in ("list_dir", "read_dir") else None
    world.fs.user_rename(b"d", b"n")
    world.tick()
    world.run()
    assert listed == []


@pytest.mark.parametrize("known_side", [b"f", b"h"])
def test_a_move_is_recognised_when_only_one_side_of_it_was_told(known_side: bytes) -> None:
    world = with_tree()
    uid = world.uid(b"f")
    told: list[Change] = []
    world.deliver = told.append
    world.fs.user_rename(b"f", b"h")
    world.tick()
    for change in told:
        if isinstance(change, Dirty) and change.name == known_side:
            world.take_in(change)
    while not world.scanner.idle:
        world.step()
    if known_side == b"f":  # where it went, the watch tells before the deletion is decided
        assert world.scanner.unresolved
        world.take_in(Dirty(b"", b"h"))
    world.run()
    assert world.uid(b"h") == uid
    world.deliver = world.take_in
    world.assert_shown()


@pytest.mark.parametrize("seen", SEEN)
def test_two_swapped_names_are_two_moves(seen: Seen) -> None:
    world = with_tree()
    one, other, before = world.uid(b"f"), world.uid(b"g"), world.written()
    world.fs.user_rename(b"f", b"t")
    world.fs.user_rename(b"g", b"f")
    world.fs.user_rename(b"t", b"g")
    world.tick()
    seen(world)
    assert (world.uid(b"g"), world.uid(b"f")) == (one, other)
    assert world.written() == before + 2
    world.assert_shown()


@pytest.mark.parametrize("seen", SEEN)
def test_a_swap_across_directories_and_kinds(seen: Seen) -> None:
    world = with_tree()
    one, other = world.uid(b"f"), world.uid(b"d/e")
    world.fs.user_exchange(b"f", b"d/e")
    world.tick()
    seen(world)
    assert (world.uid(b"d/e"), world.uid(b"f")) == (one, other)
    world.assert_shown()


@pytest.mark.parametrize("seen", SEEN)
def test_a_chain_of_renames_ends_with_every_object_at_its_entry(seen: Seen) -> None:
    world = World()
    for name in (b"a", b"b", b"c"):
        world.write(name, b"content of " + name)
    world.run()
    uids = [world.uid(name) for name in (b"a", b"b", b"c")]
    for old, new in ((b"c", b"d"), (b"b", b"c"), (b"a", b"b")):
        world.fs.user_rename(old, new)
        world.tick()
    seen(world)
    assert [world.uid(name) for name in (b"b", b"c", b"d")] == uids
    world.assert_shown()


@pytest.mark.parametrize("seen", SEEN)
def test_s34_a_tracked_file_moved_over_another_is_that_file(seen: Seen) -> None:
    world = with_tree()
    uid, before = world.uid(b"f"), world.written()
    world.fs.user_rename(b"f", b"g")
    world.tick()
    seen(world)
    assert world.uid(b"g") == uid
    assert world.written() == before + 2  # the move, and one that is gone
    world.assert_shown()


@pytest.mark.parametrize("seen", SEEN)
def test_what_is_moved_out_of_a_directory_that_then_goes_does_not_go_with_it(seen: Seen) -> None:
    world = with_tree()
    uid = world.uid(b"d/e/y")
    world.fs.user_rename(b"d/e/y", b"y")
    world.fs.user_remove_tree(b"d")
    world.tick()
    seen(world)
    assert world.uid(b"y") == uid
    world.assert_shown()


@pytest.mark.parametrize("seen", SEEN)
def test_what_is_moved_into_the_directory_that_replaces_its_own_is_found_there(seen: Seen) -> None:
    """`mv d/x n; rm -r d; mv n d`: the new d can be looked into only once it is known to be n."""
    world = with_tree()
    world.mkdir(b"n")
    world.run()
    uids = [world.uid(b"n"), world.uid(b"d/x")]
    world.fs.user_rename(b"d/x", b"n/x")
    world.fs.user_remove_tree(b"d")
    world.fs.user_rename(b"n", b"d")
    world.tick()
    seen(world)
    assert [world.uid(b"d"), world.uid(b"d/x")] == uids
    world.assert_shown()


@pytest.mark.parametrize("seen", SEEN)
def test_a_directory_wrapped_in_one_of_its_own_name_is_still_one_record(seen: Seen) -> None:
    """`mkdir n; mv d n/d; mv n d`."""
    world = with_tree()
    uids, before = [world.uid(b"d"), world.uid(b"d/x")], world.written()
    world.fs.user_mkdir(b"n")
    world.fs.user_rename(b"d", b"n/d")
    world.fs.user_rename(b"n", b"d")
    world.tick()
    seen(world)
    assert [world.uid(b"d/d"), world.uid(b"d/d/x")] == uids
    assert world.written() == before + 2
    world.assert_shown()


@pytest.mark.parametrize("seen", SEEN)
def test_a_file_wrapped_in_a_directory_of_its_name_is_the_same_object(seen: Seen) -> None:
    world = with_tree()
    uid = world.uid(b"f")
    world.fs.user_mkdir(b"n")
    world.fs.user_rename(b"f", b"n/f")
    world.fs.user_rename(b"n", b"f")
    world.tick()
    seen(world)
    assert world.uid(b"f/f") == uid
    world.assert_shown()


@pytest.mark.parametrize("seen", SEEN)
def test_a_directory_removed_and_made_again_is_the_same_object_with_the_same_files(seen: Seen) -> None:
    world = with_tree()
    uids = [world.uid(path) for path in (b"d", b"d/e", b"d/e/y")]
    world.fs.user_remove_tree(b"d")
    world.tick()
    for path in (b"d", b"d/e"):
        world.mkdir(path)
    world.write(b"d/e/y", b"made again")
    seen(world)
    assert [world.uid(path) for path in (b"d", b"d/e", b"d/e/y")] == uids
    world.assert_shown()


@pytest.mark.parametrize("seen", SEEN)
def test_a_moved_file_that_was_then_written_to_is_moved_and_edited(seen: Seen) -> None:
    world = with_tree()
    uid = world.uid(b"f")
    world.fs.user_rename(b"f", b"h")
    world.write(b"h", b"and longer")
    seen(world)
    assert world.uid(b"h") == uid
    world.assert_shown()


# Saves.


@pytest.mark.parametrize("seen", SEEN)
def test_an_editors_save_is_an_edit_of_what_stands_there(seen: Seen) -> None:
    """A temporary file renamed over: sed -i, gedit, emacs."""
    world = with_tree()
    uid, before = world.uid(b"f"), world.written()
    world.fs.user_save(b"f", b"saved")
    world.tick()
    seen(world)
    assert world.uid(b"f") == uid
    assert world.written() == before + 1
    world.assert_shown()


@pytest.mark.parametrize("backup", [b"f~", b".f.bak"])
@pytest.mark.parametrize("seen", SEEN)
def test_a_save_that_keeps_the_old_version_as_a_backup_is_an_edit_and_a_new_file(seen: Seen, backup: bytes) -> None:
    """vim with backup: the file is renamed away, a new one written. The object stays at its path, whichever of the two
    is looked at first."""
    world = with_tree()
    uid, before = world.uid(b"f"), world.written()
    world.fs.user_rename(b"f", backup)
    world.write(b"f", b"saved")
    seen(world)
    assert world.uid(b"f") == uid
    assert world.uid(backup) != uid
    assert world.written() == before + 2
    world.assert_shown()


@pytest.mark.parametrize("seen", SEEN)
def test_a_save_over_an_older_backup_edits_both(seen: Seen) -> None:
    world = with_tree()
    world.write(b"f~", b"an older backup")
    world.run()
    uids = [world.uid(b"f"), world.uid(b"f~")]
    world.fs.user_rename(b"f", b"f~")
    world.write(b"f", b"saved")
    seen(world)
    assert [world.uid(b"f"), world.uid(b"f~")] == uids
    world.assert_shown()


@pytest.mark.parametrize("seen", SEEN)
def test_a_symlink_that_is_replaced_is_edited(seen: Seen) -> None:
    world = with_tree()
    world.fs.user_symlink(b"l", b"f")
    world.tick()
    world.run()
    uid = world.uid(b"l")
    world.fs.user_symlink(b"l~", b"g")
    world.fs.user_rename(b"l~", b"l")
    world.tick()
    seen(world)
    assert world.uid(b"l") == uid
    world.assert_shown()


# What only looks like a move.


@pytest.mark.parametrize("seen", SEEN)
def test_a_hard_link_is_a_new_file(seen: Seen) -> None:
    world = with_tree()
    uid = world.uid(b"f")
    world.fs.user_link(b"f", b"h")
    world.tick()
    seen(world)
    assert world.uid(b"f") == uid
    assert world.uid(b"h") != uid
    world.assert_shown()


@pytest.mark.parametrize("seen", SEEN)
def test_a_hard_link_to_a_file_in_a_directory_that_moves_at_once_is_a_new_file(seen: Seen) -> None:
    """Its old path is empty, and yet it has not left its directory."""
    world = with_tree()
    uid = world.uid(b"d/x")
    world.fs.user_link(b"d/x", b"a")
    world.fs.user_rename(b"d", b"n")
    world.tick()
    seen(world)
    assert world.uid(b"n/x") == uid
    assert world.uid(b"a") != uid
    world.assert_shown()


@pytest.mark.parametrize("seen", SEEN)
def test_one_of_two_hard_links_renamed_is_that_one(seen: Seen) -> None:
    world = with_tree()
    world.fs.user_link(b"f", b"h")
    world.tick()
    world.run()
    uids = [world.uid(b"f"), world.uid(b"h")]
    world.fs.user_rename(b"f", b"i")
    world.tick()
    seen(world)
    assert [world.uid(b"i"), world.uid(b"h")] == uids
    world.assert_shown()


@pytest.mark.parametrize("births", [True, False])
@pytest.mark.parametrize("seen", SEEN)
def test_an_inode_number_that_is_given_out_again_is_no_move(seen: Seen, births: bool) -> None:
    world = World(births=births)
    world.write(b"a", b"first")
    world.run()
    uid = world.uid(b"a")
    old = world.fs.stat(b"a")
    world.fs.user_unlink(b"a")
    world.tick()
    world.write(b"b", b"second")
    new = world.fs.stat(b"b")
    assert old is not None
    assert new is not None
    assert old.inode == new.inode
    seen(world)
    assert world.uid(b"b") != uid
    world.assert_shown()


@pytest.mark.parametrize("births", [True, False])
@pytest.mark.parametrize("seen", SEEN)
def test_a_directory_with_an_inode_number_that_is_given_out_again_is_no_move(seen: Seen, births: bool) -> None:
    world = World(births=births)
    world.mkdir(b"a")
    world.write(b"a/x", b"")
    world.run()
    uid = world.uid(b"a")
    old = world.fs.stat(b"a")
    world.fs.user_remove_tree(b"a")
    world.tick()
    while (stat := world.fs.stat(b"b")) is None or (old is not None and stat.inode != old.inode):
        if stat is not None:
            world.fs.user_rename(b"b", b"other%d" % stat.inode)
        world.mkdir(b"b")
    seen(world)
    assert world.uid(b"b") != uid
    world.assert_shown()


@pytest.mark.parametrize("seen", SEEN)
def test_without_times_of_birth_a_move_is_told_by_size_and_mtime_or_by_what_is_inside(seen: Seen) -> None:
    world = World(births=False)
    for path in (b"d", b"empty"):
        world.mkdir(path)
    for path in (b"d/x", b"d/y", b"f"):
        world.write(path, b"content of " + path)
    world.run()
    uids = [world.uid(path) for path in (b"d", b"d/y", b"f", b"empty")]
    world.fs.user_rename(b"d", b"n")
    world.fs.user_rename(b"f", b"n/f")
    world.fs.user_rename(b"empty", b"e")
    world.fs.user_unlink(b"n/x")
    world.tick()
    seen(world)
    assert [world.uid(path) for path in (b"n", b"n/y", b"n/f", b"e")] == uids
    world.assert_shown()


@pytest.mark.parametrize("seen", SEEN)
def test_a_copy_with_times_kept_is_no_move(seen: Seen) -> None:
    """`cp -p f h; rm f`: another inode."""
    world = with_tree()
    uid = world.uid(b"f")
    stat = world.fs.stat(b"f")
    assert stat is not None
    world.fs.user_write(b"h", b"content of f")
    world.fs.user_set_mtime(b"h", stat.mtime_ns)
    world.tick()
    world.fs.user_unlink(b"f")
    world.tick()
    seen(world)
    assert world.uid(b"h") != uid
    world.assert_shown()


# Hints that come late.


def test_a_hint_under_a_path_that_a_directory_has_left_is_followed_to_where_it_is_now() -> None:
    world = with_tree()
    told: list[Change] = []
    world.deliver = told.append
    world.write(b"d/e/y", b"written to before the rename")
    world.fs.user_rename(b"d", b"n")
    world.tick()
    for change in told[::-1]:  # the rename is known before the write is looked at
        world.take_in(change)
        world.run()
    world.deliver = world.take_in
    assert world.tree() == world.disk()
    world.assert_shown()


def test_a_hint_that_was_lost_on_the_way_is_found_when_the_watch_tells_of_the_move() -> None:
    """The rename was found by a scan before its event came; the write's event names the old path and no inode."""
    world = with_tree()
    told: list[Change] = []
    world.deliver = told.append
    world.fs.user_rename(b"d", b"n")
    world.tick()
    world.scanner.scan()
    world.run()
    told.clear()
    world.write(b"n/x", b"written")
    told.clear()
    world.take_in(Dirty(b"d", b"x"))
    while not world.scanner.idle:
        world.step()
    world.scanner.moved(b"d", b"n")
    world.run()
    assert world.tree() == world.disk()


def test_a_file_is_looked_for_in_its_directory_though_that_is_swapped_at_that_very_moment() -> None:
    """Else it is looked for in the other directory, is not there, and nothing tells of it again."""
    world = with_tree()
    world.mkdir(b"k")
    world.run()

    def swap(method: str, paths: tuple[bytes, ...]) -> None:
        if paths == (b"d/new",):
            world.fs.before_read = None
            for old, new in ((b"d", b"swap"), (b"k", b"d"), (b"swap", b"k")):
                world.fs.user_rename(old, new)

    world.write(b"d/new", b"made just before")
    world.fs.before_read = swap
    world.run()
    assert world.tree() == world.disk()
    assert world.disk()[b"k/new"]


@pytest.mark.parametrize("back", [False, True], ids=["moved", "moved and moved back"])
def test_a_file_that_is_read_at_the_moment_in_which_its_directory_is_moved_is_read_there(back: bool) -> None:
    """The watch tells of the directory alone; what a hint said of the file would be forgotten."""
    world = with_tree()
    world.run()

    def move(method: str, paths: tuple[bytes, ...]) -> None:
        if (method, paths) == ("open_read", (b"d/x",)):
            world.fs.before_read = None
            world.fs.user_rename(b"d", b"k")
            if back:
                world.fs.before_read = move_back

    def move_back(method: str, paths: tuple[bytes, ...]) -> None:
        if paths != (b"d/x",):
            world.fs.before_read = None
            world.fs.user_rename(b"k", b"d")

    world.write(b"d/x", b"written to just before")
    world.fs.before_read = move
    world.run()
    assert world.tree() == world.disk()
    assert (b"d/x" if back else b"k/x") in world.disk()


def test_what_vanished_after_the_watch_was_asked_is_not_decided_on_its_answer() -> None:
    """Where it has gone has not been told yet: it is a move, and would be a deletion and a new file."""
    world = with_tree()
    uid = world.uid(b"f")
    told: list[Change] = []
    world.deliver = told.append
    turn = world.scanner.ask_watch()
    world.fs.user_rename(b"f", b"moved")
    world.tick()
    world.take_in(told[0])
    while not world.scanner.idle:
        world.step()
    draft = Draft(world.view)
    world.scanner.resolve(draft, world.now_ns, turn)
    assert not draft.states, "something was decided"
    world.take_in(told[1])
    world.run()
    assert world.uid(b"moved") == uid


def test_a_swap_is_not_decided_by_half() -> None:
    """One of the two names was looked at again after the watch was asked: the other alone would be a deletion."""
    world = with_tree()
    directory, file = world.uid(b"d"), world.uid(b"f")
    told: list[Change] = []
    world.deliver = told.append

    def take_in() -> None:
        for change in told:
            world.take_in(change)
        told.clear()
        while not world.scanner.idle:
            world.step()

    for old, new in ((b"f", b"swap"), (b"d", b"f"), (b"swap", b"d")):
        world.fs.user_rename(old, new)
    take_in()
    turn = world.scanner.ask_watch()
    world.fs.user_unlink(b"f/x")
    world.tick()
    take_in()
    draft = Draft(world.view)
    world.scanner.resolve(draft, world.now_ns, turn)
    assert not draft.states, "something was decided"
    world.run()
    assert (world.uid(b"f"), world.uid(b"d")) == (directory, file)
    assert world.tree() == world.disk()


def look(world: World) -> None:
    """At all that is known of; nothing is decided."""
    while not world.scanner.idle:
        world.step()


def test_a_move_over_a_file_that_is_told_of_again_after_the_watch_was_asked_is_decided_whole() -> None:
    """One half alone is a deletion, and the other then an edit: of what was moved nobody would know any more."""
    world = with_tree()
    moved = world.uid(b"f")
    world.fs.user_rename(b"f", b"g")
    world.tick()
    look(world)
    turn = world.scanner.ask_watch()
    world.take_in(Dirty(b"", b"g"))
    look(world)
    draft = Draft(world.view)
    world.scanner.resolve(draft, world.now_ns, turn)
    assert not draft.states, "half of it was decided"
    assert world.scanner.unresolved
    world.run()
    assert world.uid(b"g") == moved
    world.assert_shown()


def test_a_chain_of_moves_of_which_the_last_is_told_of_again_is_decided_whole() -> None:
    world = with_tree()
    first, second = world.uid(b"f"), world.uid(b"g")
    world.fs.user_rename(b"g", b"d/x")
    world.fs.user_rename(b"f", b"g")
    world.tick()
    look(world)
    turn = world.scanner.ask_watch()
    world.take_in(Dirty(b"d", b"x"))
    look(world)
    draft = Draft(world.view)
    world.scanner.resolve(draft, world.now_ns, turn)
    assert not draft.states, "a part of it was decided"
    world.run()
    assert (world.uid(b"g"), world.uid(b"d/x")) == (first, second)
    world.assert_shown()


def test_what_the_applier_asks_for_again_and_again_is_decided_all_the_same() -> None:
    """It waits for it: else neither goes on."""
    world = with_tree()
    world.fs.user_unlink(b"f")
    world.tick()
    while not world.scanner.idle:
        world.step()
    turn = world.scanner.ask_watch()
    world.scanner.hint_path(b"f")
    while not world.scanner.idle:
        world.step()
    draft = Draft(world.view)
    world.scanner.resolve(draft, world.now_ns, turn)
    assert draft.states, "nothing was decided"


def test_what_moved_on_before_the_decision_is_the_same_object() -> None:
    """It was seen where it went first, and is there no more; the watch has not told where it went then."""
    world = with_tree()
    first = world.uid(b"f")
    world.fs.user_rename(b"f", b"g")
    world.tick()
    while not world.scanner.idle:
        world.step()
    turn = world.scanner.ask_watch()
    late: list[Change] = []
    world.deliver = late.append
    world.fs.user_rename(b"g", b"h")
    world.tick()
    draft = Draft(world.view)
    world.scanner.resolve(draft, world.now_ns, turn)
    assert not draft.states, "a part of it was decided"
    world.deliver = world.take_in
    for change in late:
        world.take_in(change)
    world.run()
    assert world.uid(b"h") == first
    world.assert_shown()


def test_what_was_written_into_a_directory_waits_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The directory is not decided, as what stood at its old name is moved on while all is looked at again; what is in
    it is not put off for that."""
    world = with_tree()
    world.fs.user_rename(b"g", b"f")
    world.fs.user_rename(b"d", b"g")
    world.write(b"g/new", b"in the directory")
    while not world.scanner.idle:
        world.step()
    world.write(b"y", b"what is open was looked at before this was entered")
    while not world.scanner.idle:
        world.step()
    turn = world.scanner.ask_watch()
    late: list[Change] = []
    look_again = Step.run_to_the_end

    def move_on(step: Step) -> None:
        look_again(step)
        if not late:
            world.deliver = late.append
            world.fs.user_rename(b"f", b"z")

    with monkeypatch.context() as patch:
        patch.setattr(Step, "run_to_the_end", move_on)
        draft = Draft(world.view)
        world.scanner.resolve(draft, world.now_ns, turn)
    assert late, "nothing was looked at again"
    assert not draft.states, "a part of it was decided"
    world.deliver = world.take_in
    for change in late:
        world.take_in(change)
    world.run()
    world.assert_shown()


@pytest.mark.parametrize("ms", [0, 100])
def test_a_scan_ends_though_what_it_left_open_is_beneath_a_directory_that_is_not_watched(
    ms: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is walked whenever it is looked at, and each walk meets what is open again. `ms` ago the last change was made:
    what is too fresh to be trusted is read again at each look, which is no reason to look at all else again."""
    world = World()
    world.mkdir(b"a")
    world.mkdir(b"a/d")
    world.write(b"a/d/f", b"moved out")
    world.run()
    world.watch.refuse = lambda path: "no watches left" if path == b"a" else None
    world.watch.overflow()
    world.fs.user_rename(b"a/d/f", b"a/g")
    world.fs.user_rmdir(b"a/d")
    world.tick(ms)
    monkeypatch.setattr(scan_world, "STEPS_MAX", 100)
    world.rescan()
    world.assert_shown()


def away_for_a_moment(world: World) -> None:
    """`d` goes just before `d/x` is looked at next, and is back when it is looked at itself; nothing tells of it."""
    told: list[Change] = []

    def come_and_go(method: str, paths: tuple[bytes, ...]) -> None:
        move = {b"d/x": (b"d", b"away"), b"d": (b"away", b"d")}.get(paths[0])
        if move is not None and move[0] in world.fs.read_tree():
            world.deliver = told.append
            world.fs.user_rename(*move)
            world.deliver = world.take_in
            if move[1] == b"d":
                world.fs.before_read = None

    world.fs.before_read = come_and_go


def test_a_write_seen_in_a_directory_that_was_away_for_a_moment_is_read_at_once() -> None:
    """It was away when the entry was looked at, and back when it was itself."""
    world = with_tree()
    world.write(b"d/x", b"written before it went")
    away_for_a_moment(world)
    while not world.scanner.idle:
        world.step()
    assert world.scanner.unresolved
    world.run()
    assert not world.scanner.blocked()
    world.assert_shown()


def test_a_write_seen_in_a_directory_that_comes_and_goes_waits_for_the_directory() -> None:
    """As above, and it goes once more before anything is decided: it is looked for, not put off."""
    world = with_tree()
    world.write(b"d/x", b"written before it went")
    away_for_a_moment(world)
    while not world.scanner.idle:
        world.step()
    assert world.scanner.unresolved
    late: list[Change] = []
    world.deliver = late.append
    world.fs.user_rename(b"d", b"elsewhere")
    world.resolve()
    assert world.scanner.oldest() is not None, "a fence would not count it"
    world.deliver = world.take_in
    for change in late:
        world.take_in(change)
    world.run()
    assert not world.scanner.blocked()
    world.assert_shown()


def test_what_may_have_been_moved_from_where_nothing_can_be_seen_is_listed_with_the_reason() -> None:
    """It is looked at a minute later, which a fence does not wait for."""
    world = with_tree()
    uid = world.uid(b"d/x")
    late: list[Change] = []
    world.deliver = late.append
    world.fs.user_rename(b"d/x", b"q")
    world.tick()
    world.deliver = world.take_in
    away_for_a_moment(world)
    for change in late:
        if isinstance(change, Dirty) and change.name == b"q":
            world.take_in(change)
    while not world.scanner.idle:
        world.step()

    def refuse(method: str, paths: tuple[bytes, ...]) -> None:
        if paths[0] == b"d/x":
            raise OSError(errno.EACCES, "as the test wants it", *paths)

    world.fs.before_read = refuse
    world.run()
    assert dict(world.scanner.blocked())[b"q"] == UNCERTAIN
    assert b"d/x" in dict(world.scanner.blocked())
    world.fs.before_read = None
    world.pass_time(TROUBLED_RETRY_MS)
    assert not world.scanner.blocked()
    assert world.uid(b"q") == uid
    world.assert_shown()


@pytest.mark.parametrize("listed", [0, 1], ids=["before it is listed", "before what is in it is"])
def test_a_new_directory_is_watched_though_the_one_around_it_is_renamed_while_it_is_walked(
    listed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing tells of what is in it; the one around it, which is watched, was walked before."""
    world = with_tree()
    late: list[Change] = []
    calls = 0
    advance = Step._advance

    def renamed(step: Step, walk: Walk) -> int:
        nonlocal calls
        if calls == listed:
            world.deliver = late.append
            world.fs.user_rename(b"d", b"z")
        calls += 1
        return advance(step, walk)

    world.fs.user_mkdir(b"d/n")
    world.mkdir(b"d/n/m")
    with monkeypatch.context() as patch:
        patch.setattr(Step, "_advance", renamed)
        world.step()
    assert late, "it was not renamed on the way"
    world.deliver = world.take_in
    for change in late:
        world.take_in(change)
    world.run()
    world.write(b"z/n/m/f", b"told of by its watch alone")
    world.run()
    assert world.uid(b"z/n/m/f")
    world.assert_shown()


def test_a_wait_does_not_wait_for_a_directory_that_was_away_for_a_moment_as_it_was_walked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was listed counted as not listed; it is walked again at once, and that is all."""
    world = with_tree()
    listed = Step._is_listed
    away: list[bytes] = []

    def gone(step: Step, at: int, path: bytes, since: int) -> bool:
        if path != b"n" or away:
            return listed(step, at, path, since)
        away.append(path)
        world.deliver = lambda change: None
        world.fs.user_rename(b"n", b"away")
        found = listed(step, at, path, since)
        world.fs.user_rename(b"away", b"n")
        world.deliver = world.take_in
        return found

    monkeypatch.setattr(Step, "_is_listed", gone)
    world.mkdir(b"n")
    world.run()
    assert away
    assert world.scanner.oldest() is None, "a fence would wait for ever"
    world.write(b"n/f", b"told of by its watch alone")
    world.run()
    world.assert_shown()
