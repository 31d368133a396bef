"""Files that are being written (R6): when they are tried again, who holds them, and that nothing torn is ever taken."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from blake3 import blake3

from replicad.core.effects import HashFile
from replicad.core.manifest import SMALL_FILE_BYTES
from replicad.engine.scan_read import FILE_BEING_WRITTEN, LARGE_BYTES, NS_PER_MS
from replicad.engine.scan_step import MAPPED_MS
from replicad.files.hashing import READ_BYTES
from tests.engine.scan_world import World
from tests.sim.memory_fs import MemoryOpenFile

MINUTE_MS = 60_000


def growing(world: World, path: bytes, every_ms: int) -> Callable[[], None]:
    """A process that has the file open and writes to it so often; call it to let the next write happen."""
    file = world.fs.user_open(path)

    def write() -> None:
        world.tick(every_ms)
        file.write_at(file.stat().size, b"x")

    return write


def changed_while_read(world: World, path: bytes, *, ms: int = 1) -> None:
    """Whenever it is read, it is written to; `ms` is how far the clock goes meanwhile."""

    def hook(method: str, paths: tuple[bytes, ...]) -> None:
        if method == "read_at" and paths == (path,):
            world.now_ns += ms * NS_PER_MS
            with world.fs.user_open(path) as file:
                file.write_at(file.stat().size, b"more")

    world.fs.before_read = hook


def test_a_file_is_blocked_with_who_holds_it_and_reported_once() -> None:
    world = World()
    world.holders = "pid 7 (loggerd)"
    world.write(b"log", b"start")
    world.deliver = lambda change: None
    changed_while_read(world, b"log")
    world.run()
    world.pass_time(5 * MINUTE_MS)
    ((path, reason),) = world.scanner.blocked()
    assert (path, "pid 7 (loggerd) has it open" in reason) == (b"log", True)
    (report,) = world.reports()
    assert (report.code, report.path) == (FILE_BEING_WRITTEN, b"log")
    assert "pid 7 (loggerd) has it open" in report.text


def test_the_answer_who_holds_a_file_that_rests_by_now_blocks_nothing() -> None:
    world = World()
    world.write(b"log", b"start")
    world.run()
    assert world.scanner.held(b"log", "pid 7 (loggerd)") is None
    assert world.scanner.blocked() == []


@pytest.mark.parametrize("size", [5, LARGE_BYTES + 1])
def test_a_file_that_changes_without_end_is_tried_ever_more_rarely_though_events_tell_of_each_write(size: int) -> None:
    world = World()
    world.fs.user_write(b"log", b"x" * size)
    changed_while_read(world, b"log")
    world.hash_large = False
    write = growing(world, b"log", 15)
    for _ in range(2 * MINUTE_MS // 15):
        world.fs.before_read = None
        write()
        changed_while_read(world, b"log")
        world.pass_time(0)
        world.run()
    ((path, reason),) = world.scanner.blocked()
    assert path == b"log"
    assert any(f"each of the {tries} times" in reason for tries in (6, 7)), "after 1 + 2 + 4 + 8 + 16 + 32 + 60 s"
    assert world.effects == world.reports(), "a large one is not hashed while it cannot be stable"
    assert [report.code for report in world.reports()] == [FILE_BEING_WRITTEN]
    assert world.tree() == {}, "nothing of it was taken"


def test_a_file_that_was_written_for_long_is_read_when_it_has_rested_for_a_moment() -> None:
    world = World()
    world.write(b"log", b"start")
    changed_while_read(world, b"log")
    world.run()
    world.pass_time(3 * MINUTE_MS)
    world.fs.before_read = None
    world.write(b"log", b"the last line")
    world.run()
    world.pass_time(900)
    assert world.scanner.blocked() == []
    world.assert_shown()


def test_a_large_file_that_is_copied_in_less_than_a_second_is_hashed_as_soon_as_its_times_can_be_trusted() -> None:
    world = World()
    world.run()
    world.fs.user_write(b"big", b"x" * LARGE_BYTES)
    write = growing(world, b"big", 15)
    world.hash_large = False
    for _ in range(60):
        write()
        world.run()
        world.pass_time(0)
    assert world.effects == []
    world.pass_time(40)
    assert world.effects == [HashFile(b"", b"big")]


# Writes that leave size and times as they were: found when the event says so.


def held_and_mapped(size: int) -> World:
    """A process has the file open and mapped, and has written to each of its pages; it is as it was read."""
    world = World()
    world.fs.user_write(b"data", b"o" * size)
    world.tick()
    world.run()
    world.pass_time(10_000)
    assert _digests(world) == [_digest(b"o" * size)]
    return world


@pytest.mark.parametrize("size", [100, LARGE_BYTES + 1])
def test_a_write_through_a_mapping_counts_from_the_files_closing(size: int) -> None:
    world = held_and_mapped(size)
    world.fs.user_write_mapped(b"data", b"n" * size)
    world.run()
    assert _digests(world) == [_digest(b"o" * size)]
    world.fs.user_open(b"data").close()
    world.run()
    assert _digests(world) == [_digest(b"n" * size)]
    assert world.written() == 2


def test_a_hash_counts_however_long_it_took_though_the_file_looks_as_it_did() -> None:
    size = LARGE_BYTES + 1
    world = held_and_mapped(size)
    world.fs.user_write_mapped(b"data", b"n" * size)
    world.hash_large = False
    world.fs.user_open(b"data").close()
    world.run()
    world.pass_time(MAPPED_MS + 1_000)
    world.hash_large = True
    world.run()
    assert _digests(world) == [_digest(b"n" * size)]


def test_a_file_that_was_not_written_to_for_long_is_not_read_at_each_closing() -> None:
    """A database is opened for writing by those who only read in it."""
    world = held_and_mapped(100)
    world.pass_time(MAPPED_MS)
    reads: list[str] = []
    world.fs.before_read = lambda method, paths: reads.append(method) if method == "read_at" else None
    world.fs.user_open(b"data").close()
    world.run()
    assert reads == []


def test_a_file_that_was_closed_and_is_as_it_was_makes_no_change() -> None:
    world = held_and_mapped(100)
    world.fs.user_open(b"data").close()
    world.run()
    assert world.written() == 1
    world.assert_shown()


@pytest.mark.parametrize("size", [SMALL_FILE_BYTES // 2, READ_BYTES + 10_000])
def test_i4_a_mixture_of_two_writes_within_one_tick_is_never_taken(size: int) -> None:
    """Both writes leave the times as they were. A reader that has the first half of the old and the second of the new
    version cannot tell by them."""
    world = World()
    world.run()
    old, new = b"o" * size, b"n" * size
    world.fs.user_write(b"f", old)
    world.deliver = lambda change: None
    reads = 0

    def torn(self: object, offset: int, length: int) -> bytes:
        """The user's second write comes in the middle of the first read."""
        nonlocal reads
        reads += 1
        data = original(self, offset, length)
        if reads > 1:
            return data
        world.fs.user_write(b"f", new)
        return data if offset + len(data) < size else data[: len(data) // 2] + new[len(data) // 2 : len(data)]

    original = MemoryOpenFile.read_at
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemoryOpenFile, "read_at", torn)
        world.run()
    assert reads
    assert _digests(world) == [], "a mixture"
    world.pass_time(5_000)
    world.run()
    assert _digests(world) == [_digest(new)]


def _digest(data: bytes) -> bytes:
    return blake3(data).digest()


def _digests(world: World) -> list[bytes]:
    return [state.record.content.digest for state in world.view.states.values() if state.record.content is not None]


def test_what_is_told_of_a_file_that_is_being_written_counts_though_it_is_looked_at_later() -> None:
    """A file that is renamed over it bears the generation of what may have been told of it before."""
    world = World()
    world.write(b"log", b"start")
    world.run()
    world.deliver = lambda change: None
    changed_while_read(world, b"log")
    with world.fs.user_open(b"log") as file:
        file.write_at(0, b"S")
    world.scanner.hint(b"", b"log", since=6)
    world.run()
    assert world.scanner.oldest() == 6
    world.scanner.hint(b"", b"log", since=5)
    world.run()
    assert world.scanner.oldest() == 5
