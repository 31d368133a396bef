"""Places that change again and again: first versions at once, then ever fewer, the last one soon, all for a wait."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from blake3 import blake3

from replicad.engine.scan_pace import PACE_FREE, PACE_LAST_MS, PACE_REST_MS
from tests.engine.scan_world import World

MINUTE_MS = 60_000
NS_PER_MS = 1_000_000
Write = Callable[[World, bytes], None]


def in_place(world: World, data: bytes) -> None:
    world.fs.user_write(b"f", data)


def by_rename(world: World, data: bytes) -> None:
    world.fs.user_save(b"f", data)


def made_again(world: World, data: bytes) -> None:
    if world.fs.stat(b"f") is not None:
        world.fs.user_unlink(b"f")
    world.fs.user_write(b"f", data)


def relinked(world: World, data: bytes) -> None:
    if world.fs.stat(b"f") is not None:
        world.fs.user_unlink(b"f")
    world.fs.user_symlink(b"f", data)


def storm(world: World, write: Write, *, every_ms: int, for_ms: int) -> list[int]:
    """It is written to so often; when a version was entered, in ms since the start."""
    began_ms, entered = world.now_ns // NS_PER_MS, []
    until_ns = world.now_ns + for_ms * NS_PER_MS
    number, written = 0, world.written()
    while world.now_ns < until_ns:
        number += 1
        write(world, b"version %d" % number)
        for ms in range(every_ms):
            world.run()
            world.pass_time(1)
            if world.written() > written:
                written = world.written()
                entered.append(world.now_ns // NS_PER_MS - began_ms - ms)
    return entered


def shows(world: World, data: bytes) -> bool:
    (entry,) = [entry for path, entry in world.tree().items() if path == b"f"]
    return data in entry or blake3(data).digest() in entry


def started() -> World:
    world = World()
    in_place(world, b"first")
    world.run()
    world.pass_time(PACE_REST_MS)
    return world


def stormed() -> World:
    """It has been written to for a while, and again just now, which is not read."""
    world = started()
    storm(world, in_place, every_ms=15, for_ms=10_000)
    world.tick(1)
    in_place(world, b"last")
    world.run()
    assert not shows(world, b"last")
    return world


@pytest.mark.parametrize("write", [in_place, by_rename, made_again, relinked])
def test_what_is_written_to_all_the_time_has_a_version_a_second_in_the_end(write: Write) -> None:
    world = started()
    entered = storm(world, write, every_ms=15, for_ms=MINUTE_MS)
    versions = sorted(set(entered))
    late = [at for at in versions if at > 5_000]
    assert 50 <= len(late) <= 60 * 2, "made again is gone for a moment, which may be entered, too"
    assert len([at for at in versions if at <= 100]) >= PACE_FREE


def test_the_first_versions_are_read_at_once_and_so_are_those_after_a_rest() -> None:
    world = started()
    for _ in range(3):
        for number in range(PACE_FREE):
            in_place(world, b"%d" % number)
            world.run()
            assert shows(world, b"%d" % number)
            world.pass_time(1)
        in_place(world, b"one more")
        world.run()
        assert not shows(world, b"one more")
        world.pass_time(40)
        assert shows(world, b"one more")
        world.pass_time(PACE_REST_MS)


def test_who_saves_once_a_second_waits_for_nothing() -> None:
    world = started()
    for number in range(100):
        in_place(world, b"%d" % number)
        world.run()
        assert shows(world, b"%d" % number)
        world.pass_time(PACE_LAST_MS)


def test_the_last_version_is_read_within_a_second_though_nothing_tells_of_it_again() -> None:
    world = stormed()
    world.pass_time(PACE_LAST_MS)
    assert shows(world, b"last")
    assert world.scanner.at_rest
    world.assert_shown()


def test_what_is_held_back_is_not_read_until_somebody_waits_for_it() -> None:
    world = stormed()
    world.scanner.hint(b"", b"f", since=7)
    world.run()
    assert world.scanner.oldest() == 0, "of the first hint that told of it"
    assert not world.scanner.at_rest
    world.scanner.hurry(7)
    world.run()
    assert shows(world, b"last")
    assert world.scanner.oldest() is None


def test_what_comes_after_a_wait_has_begun_is_held_back_and_what_came_before_is_not() -> None:
    world = stormed()
    world.scanner.hurry(7)
    world.run()
    world.deliver = lambda change: None
    for number in range(PACE_FREE):
        world.tick(1)
        in_place(world, b"later %d" % number)
        world.scanner.hint(b"", b"f", since=8)
        world.run()
    assert shows(world, b"later 1"), "who waits for one of them gets several"
    in_place(world, b"later")
    world.scanner.hint(b"", b"f", since=8)
    world.run()
    assert not shows(world, b"later")
    assert world.scanner.oldest() == 8
    world.scanner.hint(b"", b"f", since=7)
    world.run()
    assert shows(world, b"later")


def test_what_was_held_back_and_is_gone_is_waited_for_no_more() -> None:
    world = stormed()
    world.fs.user_unlink(b"f")
    world.run()
    assert b"f" not in world.tree()
    assert world.scanner.at_rest
    assert world.scanner.oldest() is None


def test_a_file_that_is_moved_while_it_is_held_back_is_moved_and_read_there_at_once() -> None:
    world = stormed()
    object_before = world.uid(b"f")
    world.fs.user_rename(b"f", b"g")
    world.run()
    assert world.uid(b"g") == object_before
    assert blake3(b"last").digest() in world.tree()[b"g"]
    assert world.scanner.at_rest


def test_a_clock_that_is_set_back_holds_nothing_back() -> None:
    world = stormed()
    world.now_ns -= 3_600_000 * NS_PER_MS
    world.scanner.clock_set_back()
    world.run()
    assert shows(world, b"last")
    world.tick(1)
    in_place(world, b"after")
    world.run()
    assert shows(world, b"after")


def test_a_root_that_was_lost_and_is_back_has_everything_read() -> None:
    world = stormed()
    world.root_there = False
    world.scanner.hint(b"", b"f")
    world.run()
    world.root_there = True
    world.scanner.scan()
    world.run()
    world.pass_time(PACE_LAST_MS)
    assert shows(world, b"last")
    assert world.scanner.at_rest
