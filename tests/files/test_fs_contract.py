"""One suite for both filesystems: what `replicad.files.fs.FileSystem` promises, and what Linux does to times."""

import errno
import os
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from replicad.files.fs import DIRECTORY, FILE, OTHER, SYMLINK, FileSystem, OpenFile
from replicad.files.linux import Features
from tests.files.worlds import World, memory_world, real_world

ODD_NAMES = [b"new\nline", b"\xff\xfe invalid", b" ", b"-rf", b"\\", b"...", b"n" * 255, "übung".encode(), b"\x01"]
Act = Callable[[FileSystem], object]
BROKEN_PATHS = [b"/", b"/a", b"a/", b"a//b", b".", b"..", b"./a", b"../a", b"a/..", b"a/../b", b"a/./b", b"a\0b"]


@pytest.fixture(params=["real", "real-old-kernel", "memory"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[World, None, None]:
    if request.param == "memory":
        yield memory_world()
        return
    root = tmp_path / "root"
    root.mkdir(0o755)
    open_before = set(os.listdir("/proc/self/fd"))
    made = real_world(root, None if request.param == "real" else Features(openat2=False, statx=False))
    yield made
    made.fs.close()
    assert set(os.listdir("/proc/self/fd")) == open_before, "a handle was left open"


@pytest.fixture
def fs(world: World) -> FileSystem:
    return world.fs


def raises(code: int) -> "pytest.RaisesExc[OSError]":
    return pytest.RaisesExc(OSError, check=lambda error: error.errno == code)


def names(fs: FileSystem, path: bytes) -> list[bytes]:
    return [name for name, _ in fs.list_dir(path)]


# Paths.


@pytest.mark.parametrize("path", BROKEN_PATHS)
def test_a_path_that_breaks_the_rules_is_our_own_bug(fs: FileSystem, path: bytes) -> None:
    calls: list[Callable[[], object]] = [
        lambda: fs.stat(path),
        lambda: fs.list_dir(path),
        lambda: fs.create(path),
        lambda: fs.make_dir(path, 0o755),
        lambda: fs.rename(path, b"x"),
        lambda: fs.exchange(b"x", path),
        lambda: fs.unlink(path),
        lambda: fs.sync_dirs([path]),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="not"):
            call()


def test_the_root_has_no_name_to_act_on(fs: FileSystem) -> None:
    calls: list[Callable[[], object]] = [
        lambda: fs.remove_dir(b""),
        lambda: fs.rename(b"", b"x"),
        lambda: fs.exchange(b"x", b""),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="not"):
            call()


@pytest.mark.parametrize("target", [b"/", b"..", b"d", b"nowhere"])
def test_i11_a_symlinked_parent_leads_nowhere(world: World, fs: FileSystem, target: bytes) -> None:
    fs.make_dir(b"d", 0o755)
    world.write(b"d/f", b"1")
    fs.make_symlink(b"link", target)
    assert fs.stat(b"link/f") is None
    assert fs.stat(b"link/deeper/f") is None
    with raises(errno.ENOTDIR):
        fs.list_dir(b"link")
    calls: list[Callable[[], object]] = [
        lambda: fs.create(b"link/new"),
        lambda: fs.make_dir(b"link/new", 0o755),
        lambda: fs.rename(b"d/f", b"link/new"),
        lambda: fs.rename(b"link/f", b"new"),
        lambda: fs.exchange(b"d/f", b"link/f"),
        lambda: fs.unlink(b"link/f"),
        lambda: fs.set_mode(b"link/f", 0o600),
        lambda: fs.set_mtime(b"link/f", 0),
        lambda: fs.open_read(b"link/f"),
        lambda: fs.open_write(b"link/f"),
        lambda: fs.read_link(b"link/f"),
        lambda: fs.sync_dirs([b"link"]),
    ]
    for call in calls:
        with raises(errno.ENOTDIR):
            call()
    assert world.read(b"d/f") == b"1"


def test_i11_a_symlink_higher_up_leads_nowhere_either(world: World, fs: FileSystem) -> None:
    world.make_dirs(b"d/e")
    world.write(b"d/e/f", b"1")
    fs.make_symlink(b"link", b"d")
    assert fs.stat(b"link/e/f") is None
    calls: list[Callable[[], object]] = [
        lambda: fs.list_dir(b"link/e"),
        lambda: fs.create(b"link/e/new"),
        lambda: fs.rename(b"link/e/f", b"new"),
        lambda: fs.unlink(b"link/e/f"),
        lambda: fs.open_read(b"link/e/f"),
    ]
    for call in calls:
        with raises(errno.ENOTDIR):
            call()
    assert names(fs, b"d/e") == [b"f"]


def test_a_file_is_no_parent(world: World, fs: FileSystem) -> None:
    world.write(b"f", b"")
    assert fs.stat(b"f/x") is None
    with raises(errno.ENOTDIR):
        fs.create(b"f/x")
    with raises(errno.ENOTDIR):
        fs.list_dir(b"f")


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_name_is_any_bytes(world: World, fs: FileSystem, name: bytes) -> None:
    fs.make_dir(name, 0o755)
    world.write(name + b"/" + name, b"x")
    fs.make_symlink(name + b"/link", name)
    assert names(fs, b"") == [name]
    assert names(fs, name) == sorted([name, b"link"])
    assert world.read(name + b"/" + name) == b"x"
    assert fs.read_link(name + b"/link") == name


def test_a_name_of_256_bytes_is_too_long(fs: FileSystem) -> None:
    with raises(errno.ENAMETOOLONG):
        fs.create(b"n" * 256)
    with raises(errno.ENAMETOOLONG):
        fs.stat(b"n" * 256)


def test_paths_deeper_than_the_kernel_takes_at_once_work(world: World, fs: FileSystem) -> None:
    name = b"d" * 250
    deep = [b"/".join([name] * depth) for depth in range(1, 41)]  # up to 10,039 bytes
    for path in deep:
        fs.make_dir(path, 0o755)
    bottom = deep[-1]
    world.write(bottom + b"/f", b"down here")
    assert world.read(bottom + b"/f") == b"down here"
    assert names(fs, bottom) == [b"f"]
    fs.rename(bottom + b"/f", bottom + b"/g")
    fs.rename(bottom + b"/g", b"up")
    world.write(bottom + b"/h", b"h")
    fs.exchange(b"up", bottom + b"/h")
    assert world.read(bottom + b"/h") == b"down here"
    fs.sync_dirs([bottom])
    fs.unlink(bottom + b"/h")
    for path in reversed(deep):
        fs.remove_dir(path)
    assert names(fs, b"") == [b"up"]


def test_paths_of_every_length_around_the_limit_work(world: World, fs: FileSystem) -> None:
    name = b"d" * 255
    above = b"/".join([name] * 15)  # 3,839 bytes
    world.make_dirs(above)
    for last in range(250, 256):
        below = above + b"/" + b"e" * last  # 4,090 to 4,095 bytes
        fs.make_dir(below, 0o755)
        world.write(below + b"/f", b"%d" % last)
        assert world.read(below + b"/f") == b"%d" % last
        assert names(fs, below) == [b"f"]


# Looking.


def test_the_root_is_a_directory(fs: FileSystem) -> None:
    root = fs.stat(b"")
    assert root is not None
    assert (root.kind, root.size) == (DIRECTORY, 0)


def test_nothing_there_is_none(fs: FileSystem) -> None:
    assert fs.stat(b"f") is None
    assert fs.stat(b"d/e/f") is None


def test_an_entry_is_seen_with_the_directory_that_it_is_in(world: World, fs: FileSystem) -> None:
    fs.make_dir(b"d", 0o755)
    fs.make_dir(b"other", 0o755)
    world.write(b"d/f", b"content")
    directory, entry = fs.stat_in(b"d", b"f")
    assert (directory, entry) == (world.there(b"d"), world.there(b"d/f"))
    assert fs.stat_in(b"", b"d") == (world.there(b""), world.there(b"d"))
    assert fs.stat_in(b"d", b"nothing") == (world.there(b"d"), None)
    with pytest.raises(FileNotFoundError):
        fs.stat_in(b"nowhere", b"f")
    with pytest.raises(NotADirectoryError):
        fs.stat_in(b"d/f", b"f")


def test_a_listing_is_complete_sorted_and_has_the_same_stats(world: World, fs: FileSystem) -> None:
    fs.make_dir(b"d", 0o750)
    expected = sorted([b"f%d" % number for number in range(500)] + ODD_NAMES + [b"dir", b"link", b"fifo"])
    fs.make_dir(b"d/dir", 0o755)
    fs.make_symlink(b"d/link", b"dir")
    world.make_fifo(b"d/fifo")
    for name in expected:
        if fs.stat(b"d/" + name) is None:
            world.write(b"d/" + name, name)
    listed = fs.list_dir(b"d")
    assert [name for name, _ in listed] == expected
    assert listed == [(name, world.there(b"d/" + name)) for name in expected]


def test_a_listing_of_nothing_is_an_error_not_an_empty_directory(world: World, fs: FileSystem) -> None:
    with raises(errno.ENOENT):
        fs.list_dir(b"d")
    world.write(b"f", b"")
    with raises(errno.ENOTDIR):
        fs.list_dir(b"f")


def test_kinds_sizes_and_modes(world: World, fs: FileSystem) -> None:
    world.write(b"f", b"12345")
    fs.set_mode(b"f", 0o4751)
    fs.make_dir(b"d", 0o1777)
    fs.make_symlink(b"l", b"somewhere")
    world.make_fifo(b"p")
    seen = {name: (stat.kind, stat.size) for name, stat in fs.list_dir(b"")}
    assert seen == {b"f": (FILE, 5), b"d": (DIRECTORY, 0), b"l": (SYMLINK, 9), b"p": (OTHER, 0)}
    assert world.there(b"f").mode == 0o4751
    assert world.there(b"d").mode == 0o1777


def test_a_directory_gets_exactly_its_mode_whatever_the_umask(world: World, fs: FileSystem) -> None:
    before = os.umask(0o077)
    try:
        for mode in (0o777, 0o700, 0o2755, 0o000):
            fs.make_dir(b"d%o" % mode, mode)
            assert world.there(b"d%o" % mode).mode == mode
    finally:
        os.umask(before)


def test_all_of_one_tree_is_on_one_mount(world: World, fs: FileSystem) -> None:
    world.make_dirs(b"a/b")
    world.write(b"a/f", b"")
    assert {world.there(path).mount for path in (b"", b"a", b"a/b", b"a/f")} == {world.there(b"").mount}


def test_hard_links_are_counted_and_share_an_inode(world: World, fs: FileSystem) -> None:
    world.write(b"f", b"1")
    assert world.there(b"f").links == 1
    world.make_link(b"f", b"g")
    assert world.there(b"f") == world.there(b"g")
    assert world.there(b"f").links == 2
    fs.unlink(b"f")
    assert world.there(b"g").links == 1
    assert world.read(b"g") == b"1"


def test_only_a_symlink_is_read_as_one(world: World, fs: FileSystem) -> None:
    fs.make_symlink(b"l", b"../\xff/x")
    assert fs.read_link(b"l") == b"../\xff/x"
    world.write(b"f", b"")
    with raises(errno.EINVAL):
        fs.read_link(b"f")
    with raises(errno.ENOENT):
        fs.read_link(b"nothing")


def test_a_symlinks_target_has_the_systems_limits(fs: FileSystem) -> None:
    with raises(errno.ENOENT):
        fs.make_symlink(b"l", b"")
    with raises(errno.ENAMETOOLONG):
        fs.make_symlink(b"l", b"t" * 4096)
    fs.make_symlink(b"l", b"t" * 4095)
    assert len(fs.read_link(b"l")) == 4095


# Files.


def test_only_a_regular_file_is_opened(world: World, fs: FileSystem) -> None:
    fs.make_dir(b"d", 0o755)
    world.make_fifo(b"p")  # opening it would wait for a writer, or wake one
    world.write(b"f", b"")
    fs.make_symlink(b"l", b"f")
    for open_one in (fs.open_read, fs.open_write):
        for name, code in ((b"d", errno.EISDIR), (b"p", errno.EINVAL), (b"l", errno.ELOOP), (b"no", errno.ENOENT)):
            with raises(code):
                open_one(name)


def test_create_makes_a_private_file_and_never_takes_a_name(world: World, fs: FileSystem) -> None:
    world.write(b"f", b"old")
    assert world.there(b"f").mode == 0o600
    fs.make_dir(b"d", 0o755)
    fs.make_symlink(b"l", b"elsewhere")
    for name in (b"f", b"d", b"l"):
        with raises(errno.EEXIST):
            fs.create(name)
    with raises(errno.ENOENT):
        fs.create(b"no/f")
    assert world.read(b"f") == b"old"


def test_files_are_read_and_written_anywhere(world: World, fs: FileSystem) -> None:
    with fs.create(b"f") as file:
        file.write_at(0, b"hello")
        file.write_at(10, memoryview(bytearray(b"world")))
        assert file.read_at(0, 100) == b"hello\0\0\0\0\0world"
        assert file.read_at(3, 4) == b"lo\0\0"
        assert file.read_at(15, 1) == b""
        assert file.stat().size == 15
        file.truncate(7)
        file.sync()
        assert file.read_at(0, 100) == b"hello\0\0"
        assert file.stat() == world.there(b"f")
    with fs.open_write(b"f") as file:
        file.write_at(0, b"J")
    assert world.read(b"f") == b"Jello\0\0"


def test_what_is_opened_for_reading_is_not_written(world: World, fs: FileSystem) -> None:
    world.write(b"f", b"1")
    with fs.open_read(b"f") as file, raises(errno.EBADF):
        file.write_at(0, b"2")


def test_an_open_file_outlives_its_name(world: World, fs: FileSystem) -> None:
    world.write(b"f", b"1")
    with fs.open_read(b"f") as file:
        fs.unlink(b"f")
        assert file.read_at(0, 9) == b"1"
        assert file.stat().links == 0


def test_set_meta_sets_mode_and_time_to_the_nanosecond(world: World, fs: FileSystem) -> None:
    with fs.create(b"f") as file:
        file.write_at(0, b"1")
        file.set_meta(0o640, 1_234_567_890_123_456_789)
        assert (file.stat().mode, file.stat().mtime_ns) == (0o640, 1_234_567_890_123_456_789)


@pytest.mark.parametrize("mtime_ns", [0, 1, -1, -1_500_000_000, 4_000_000_000_123_456_789])
def test_set_mtime_takes_any_time_also_of_symlinks_and_directories(world: World, fs: FileSystem, mtime_ns: int) -> None:
    world.write(b"f", b"")
    fs.make_dir(b"d", 0o755)
    fs.make_symlink(b"l", b"f")
    for name in (b"f", b"d", b"l"):
        fs.set_mtime(name, mtime_ns)
        assert world.there(name).mtime_ns == mtime_ns


def test_set_mode_of_a_symlink_is_refused_and_does_not_follow_it(world: World, fs: FileSystem) -> None:
    world.write(b"f", b"")
    fs.make_symlink(b"l", b"f")
    with raises(errno.EOPNOTSUPP):
        fs.set_mode(b"l", 0o777)
    assert world.there(b"f").mode == 0o600


def test_set_mode_needs_no_right_to_read(world: World, fs: FileSystem) -> None:
    world.write(b"f", b"")
    fs.set_mode(b"f", 0o000)
    fs.set_mode(b"f", 0o644)
    assert world.there(b"f").mode == 0o644


# Renames.


def test_rename_moves_a_file_and_keeps_what_it_is(world: World, fs: FileSystem) -> None:
    world.make_dirs(b"a/b")
    world.write(b"a/f", b"1")
    before = world.there(b"a/f")
    fs.rename(b"a/f", b"a/b/g")
    after = world.there(b"a/b/g")
    assert fs.stat(b"a/f") is None
    assert (after.inode, after.mtime_ns, after.birth_ns) == (before.inode, before.mtime_ns, before.birth_ns)
    assert world.read(b"a/b/g") == b"1"


def test_i3_rename_never_overwrites(world: World, fs: FileSystem) -> None:
    world.write(b"f", b"1")
    world.write(b"taken", b"2")
    fs.make_dir(b"d", 0o755)
    fs.make_dir(b"empty", 0o755)
    fs.make_symlink(b"l", b"nowhere")
    for source in (b"f", b"d"):
        for target in (b"taken", b"empty", b"l", source):
            with raises(errno.EEXIST):
                fs.rename(source, target)
    assert world.read(b"taken") == b"2"


def test_rename_says_what_is_wrong(world: World, fs: FileSystem) -> None:
    world.make_dirs(b"a/b")
    for source, target, code in (
        (b"no", b"x", errno.ENOENT),
        (b"no", b"a", errno.ENOENT),
        (b"a", b"no/x", errno.ENOENT),
        (b"a", b"a/x", errno.EINVAL),
        (b"a", b"a/b/x", errno.EINVAL),
    ):
        with raises(code):
            fs.rename(source, target)


def test_a_renamed_directory_takes_all_with_it(world: World, fs: FileSystem) -> None:
    world.make_dirs(b"a/b/c")
    world.write(b"a/b/c/f", b"1")
    fs.rename(b"a/b", b"z")
    assert world.read(b"z/c/f") == b"1"
    assert names(fs, b"a") == []


def test_i4_exchange_swaps_two_files(world: World, fs: FileSystem) -> None:
    fs.make_dir(b"d", 0o755)
    world.write(b"f", b"1")
    world.write(b"d/g", b"2")
    inodes = world.there(b"f").inode, world.there(b"d/g").inode
    fs.exchange(b"f", b"d/g")
    assert (world.read(b"f"), world.read(b"d/g")) == (b"2", b"1")
    assert (world.there(b"d/g").inode, world.there(b"f").inode) == inodes


def test_i4_exchange_swaps_a_file_and_a_directory(world: World, fs: FileSystem) -> None:
    world.make_dirs(b"d/e")
    world.write(b"d/e/x", b"in d")
    world.write(b"f", b"1")
    fs.make_symlink(b"l", b"f")
    fs.exchange(b"d", b"f")
    assert (world.there(b"d").kind, world.there(b"f").kind) == (FILE, DIRECTORY)
    assert world.read(b"f/e/x") == b"in d"
    fs.exchange(b"l", b"f/e")
    assert (world.there(b"l").kind, fs.read_link(b"f/e")) == (DIRECTORY, b"f")
    assert world.read(b"l/x") == b"in d"


def test_exchange_says_what_is_wrong(world: World, fs: FileSystem) -> None:
    world.make_dirs(b"a/b")
    for one, other, code in (
        (b"a", b"no", errno.ENOENT),
        (b"no", b"a", errno.ENOENT),
        (b"a", b"a/b", errno.EINVAL),
        (b"a/b", b"a", errno.EINVAL),
    ):
        with raises(code):
            fs.exchange(one, other)
    assert names(fs, b"") == [b"a"]


def test_exchange_with_itself_changes_nothing(world: World, fs: FileSystem) -> None:
    world.write(b"f", b"1")
    before = world.there(b"f")
    fs.exchange(b"f", b"f")
    assert world.there(b"f") == before


def test_unlink_takes_anything_but_a_directory(world: World, fs: FileSystem) -> None:
    world.write(b"f", b"")
    fs.make_symlink(b"l", b"d")
    world.make_fifo(b"p")
    fs.make_dir(b"d", 0o755)
    for name in (b"f", b"l", b"p"):
        fs.unlink(name)
    assert names(fs, b"") == [b"d"]
    with raises(errno.EISDIR):
        fs.unlink(b"d")
    with raises(errno.ENOENT):
        fs.unlink(b"f")


def test_remove_dir_takes_an_empty_directory_only(world: World, fs: FileSystem) -> None:
    fs.make_dir(b"d", 0o755)
    world.write(b"d/f", b"")
    fs.make_symlink(b"l", b"d")
    for path, code in (
        (b"d", errno.ENOTEMPTY),
        (b"d/f", errno.ENOTDIR),
        (b"l", errno.ENOTDIR),
        (b"no", errno.ENOENT),
    ):
        with raises(code):
            fs.remove_dir(path)
    fs.unlink(b"d/f")
    fs.remove_dir(b"d")
    assert names(fs, b"") == [b"l"]


def test_make_dir_takes_no_name_and_makes_no_parents(world: World, fs: FileSystem) -> None:
    world.write(b"f", b"")
    with raises(errno.EEXIST):
        fs.make_dir(b"f", 0o755)
    with raises(errno.ENOENT):
        fs.make_dir(b"a/b", 0o755)


def test_everything_can_be_synced(world: World, fs: FileSystem) -> None:
    world.make_dirs(b"a/b")
    fs.sync_dirs([b"", b"a", b"a/b"])
    fs.sync_all()
    with raises(errno.ENOENT):
        fs.sync_dirs([b"no"])
    assert 0 < fs.free_bytes() <= fs.total_bytes()


# Times.


def changed(world: World, path: bytes, act: Act) -> tuple[bool, bool]:
    """Whether (mtime, ctime) of `path` moved on by what `act` does."""
    before = world.there(path)
    world.let_time_pass()
    act(world.fs)
    after = world.there(path)
    assert after.inode == before.inode
    assert after.birth_ns == before.birth_ns
    return after.mtime_ns > before.mtime_ns, after.ctime_ns > before.ctime_ns


def test_a_change_of_an_entry_changes_both_times_of_its_directory(world: World) -> None:
    world.make_dirs(b"d")
    world.make_dirs(b"e")
    acts: dict[str, Act] = {
        "create": lambda fs: fs.create(b"d/f").close(),
        "make_dir": lambda fs: fs.make_dir(b"d/s", 0o755),
        "make_symlink": lambda fs: fs.make_symlink(b"d/l", b"x"),
        "rename within": lambda fs: fs.rename(b"d/f", b"d/g"),
        "exchange": lambda fs: fs.exchange(b"d/g", b"d/l"),
        "unlink": lambda fs: fs.unlink(b"d/g"),
        "remove_dir": lambda fs: fs.remove_dir(b"d/s"),
        "rename out": lambda fs: fs.rename(b"d/l", b"e/l"),
        "rename in": lambda fs: fs.rename(b"e/l", b"d/l"),
    }
    for name, act in acts.items():
        assert changed(world, b"d", act) == (True, True), name


def test_reading_or_changing_a_file_leaves_its_directory(world: World) -> None:
    def overwrite(fs: FileSystem) -> None:
        with fs.open_write(b"d/f") as file:
            file.write_at(0, b"2")

    world.make_dirs(b"d")
    world.write(b"d/f", b"1")
    acts: dict[str, Act] = {
        "read": lambda fs: fs.open_read(b"d/f").close(),
        "list": lambda fs: fs.list_dir(b"d"),
        "set_mode": lambda fs: fs.set_mode(b"d/f", 0o600),
        "set_mtime": lambda fs: fs.set_mtime(b"d/f", 5),
        "write": overwrite,
    }
    for name, act in acts.items():
        assert changed(world, b"d", act) == (False, False), name


def test_a_rename_changes_the_ctime_of_what_is_moved_and_not_its_mtime(world: World) -> None:
    world.make_dirs(b"d")
    world.make_dirs(b"e")
    world.write(b"f", b"1")
    world.write(b"x", b"1")
    moves: list[tuple[bytes, bytes, Act]] = [
        (b"f", b"d/f", lambda fs: fs.rename(b"f", b"d/f")),
        (b"d/f", b"x", lambda fs: fs.exchange(b"d/f", b"x")),
        (b"d", b"e/d", lambda fs: fs.rename(b"d", b"e/d")),
    ]
    for path, new_path, act in moves:
        before = world.there(path)
        world.let_time_pass()
        act(world.fs)
        after = world.there(new_path)
        assert (after.inode, after.mtime_ns) == (before.inode, before.mtime_ns), new_path
        assert after.ctime_ns > before.ctime_ns, new_path


def test_a_rename_leaves_what_lies_beneath_the_directory(world: World) -> None:
    world.make_dirs(b"d/s")
    world.write(b"d/f", b"1")
    before = [world.there(b"d/s"), world.there(b"d/f")]
    world.let_time_pass()
    world.fs.rename(b"d", b"e")
    assert [world.there(b"e/s"), world.there(b"e/f")] == before


def test_writing_and_truncating_change_both_times_of_a_file(world: World) -> None:
    world.write(b"f", b"12")
    acts: list[Callable[[OpenFile], None]] = [lambda file: file.write_at(0, b"3"), lambda file: file.truncate(1)]
    for act in acts:
        with world.fs.open_write(b"f") as file:
            before = file.stat()
            world.let_time_pass()
            act(file)
            after = file.stat()
        assert after.mtime_ns > before.mtime_ns
        assert after.ctime_ns > before.ctime_ns


def test_meta_data_and_links_change_the_ctime(world: World) -> None:
    world.write(b"f", b"1")
    assert changed(world, b"f", lambda fs: fs.set_mode(b"f", 0o640)) == (False, True)
    mtime_ns = world.there(b"f").mtime_ns
    assert changed(world, b"f", lambda fs: fs.set_mtime(b"f", mtime_ns)) == (False, True)
    before = world.there(b"f")
    world.let_time_pass()
    world.make_link(b"f", b"g")
    linked = world.there(b"f")
    assert (linked.mtime_ns, linked.ctime_ns > before.ctime_ns) == (before.mtime_ns, True)
    assert changed(world, b"g", lambda fs: fs.unlink(b"f")) == (False, True)


def test_a_users_rename_over_a_file_replaces_it(world: World, fs: FileSystem) -> None:
    world.write(b"f", b"old")
    world.write(b"f~", b"new")
    world.user_rename(b"f~", b"f")
    assert names(fs, b"") == [b"f"]
    assert world.read(b"f") == b"new"


# Modes.

CLOSED_ACTS: dict[str, Act] = {
    "create": lambda fs: fs.create(b"closed/new").close(),
    "make a directory": lambda fs: fs.make_dir(b"closed/new", 0o755),
    "make a symlink": lambda fs: fs.make_symlink(b"closed/new", b"t"),
    "unlink": lambda fs: fs.unlink(b"closed/f"),
    "remove a directory": lambda fs: fs.remove_dir(b"closed/d"),
    "rename out of it": lambda fs: fs.rename(b"closed/f", b"f"),
    "rename into it": lambda fs: fs.rename(b"open/f", b"closed/new"),
    "rename in it": lambda fs: fs.rename(b"closed/f", b"closed/new"),
    "exchange": lambda fs: fs.exchange(b"open/f", b"closed/f"),
    "move it": lambda fs: fs.rename(b"closed", b"open/closed"),
    "exchange it": lambda fs: fs.exchange(b"closed", b"open/f"),
}


@pytest.mark.parametrize("name", CLOSED_ACTS)
def test_a_directory_that_its_owner_may_not_write_to_is_changed_by_root_alone(world: World, name: str) -> None:
    """A directory that gets another parent is written to as well: its `..`."""
    _make_closed(world)
    if world.name == "memory":
        world.memory().modes_bind = os.geteuid() != 0
    if os.geteuid() == 0:
        CLOSED_ACTS[name](world.fs)
    else:
        with raises(errno.EACCES):
            CLOSED_ACTS[name](world.fs)
    for path in (b"closed", b"open/closed", b"open/f"):
        stat = world.fs.stat(path)
        if stat is not None and stat.kind == DIRECTORY:
            world.fs.set_mode(path, 0o755)  # so that it can be cleaned away


def test_a_closed_directory_may_get_another_name_and_what_is_missing_is_missing_first(world: World) -> None:
    _make_closed(world)
    if world.name == "memory":
        world.memory().modes_bind = True
    world.fs.rename(b"closed", b"renamed")
    with raises(errno.ENOENT):
        world.fs.unlink(b"renamed/nothing")
    with raises(errno.ENOENT):
        world.fs.rename(b"renamed/nothing", b"open/new")
    with raises(errno.EEXIST):
        world.fs.rename(b"open/f", b"renamed/f")
    with raises(errno.EEXIST):
        world.fs.make_dir(b"renamed/f", 0o755)
    world.fs.set_mode(b"renamed", 0o755)


def _make_closed(world: World) -> None:
    world.make_dirs(b"closed/d")
    world.make_dirs(b"open")
    world.write(b"closed/f", b"1")
    world.write(b"open/f", b"2")
    world.fs.set_mode(b"closed", 0o555)
