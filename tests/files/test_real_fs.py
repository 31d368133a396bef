"""What only a real disk has: symlinks swapped in at the worst moment, rights, mounts, syscalls that are refused."""

import ctypes
import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from replicad.files import linux
from replicad.files.fs import FILE
from replicad.files.linux import Features
from replicad.files.real_fs import RealFileSystem, _pieces
from tests.files.worlds import World, real_world

OLD = Features(openat2=False, statx=False)
FEATURES = [pytest.param(None, id="new"), pytest.param(OLD, id="old-kernel")]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "root"
    made.mkdir()
    return made


@pytest.mark.parametrize("features", FEATURES)
def test_i11_nothing_is_made_outside_while_a_parent_is_swapped_for_a_symlink(
    root: Path, tmp_path: Path, features: Features | None
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (root / "real").mkdir()
    (root / "link").symlink_to(outside)
    (root / "d").mkdir()
    fs = RealFileSystem(root, features)
    swapped = threading.Event()
    tried, end = 300, threading.Event()

    def swap() -> None:
        swapper = RealFileSystem(root)
        while not end.is_set():
            swapper.exchange(b"d", b"link")
            swapped.set()
        swapper.close()

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        assert swapped.wait(10)
        refused = 0
        for number in range(tried):
            try:
                fs.create(b"d/f%d" % number).close()
            except NotADirectoryError:
                refused += 1
    finally:
        end.set()
        thread.join()
    assert list(outside.iterdir()) == []
    inside = [path for directory in ("d", "link") for path in _list(root / directory)]
    assert len(inside) == tried - refused
    fs.close()


def _list(path: Path) -> list[Path]:
    return [] if path.is_symlink() else list(path.iterdir())


def test_i6_a_root_that_was_moved_or_replaced_is_noticed(root: Path) -> None:
    fs = RealFileSystem(root)
    assert fs.root_in_place()
    root.rename(root.with_name("moved"))
    assert not fs.root_in_place()
    root.mkdir()
    assert not fs.root_in_place()
    fs.create(b"f").close()  # the handle still leads to the directory that was opened
    assert (root.with_name("moved") / "f").exists()
    root.rmdir()
    root.with_name("moved").rename(root)
    assert fs.root_in_place()
    fs.close()


def test_a_root_may_be_reached_through_a_symlink_and_keeps_to_what_was_opened(root: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(root)
    fs = RealFileSystem(os.fsencode(tmp_path / "link"))
    fs.create(b"f").close()
    assert (root / "f").exists()
    fs.close()


def test_a_root_that_is_none_is_an_error(root: Path) -> None:
    with pytest.raises(FileNotFoundError):
        RealFileSystem(root / "no")
    (root / "f").touch()
    with pytest.raises(NotADirectoryError):
        RealFileSystem(root / "f")


def test_the_old_way_and_the_new_tell_the_same_but_for_birth_and_mount(root: Path) -> None:
    (root / "d").mkdir()
    (root / "f").write_bytes(b"123")
    (root / "l").symlink_to("f")
    new, old = RealFileSystem(root), RealFileSystem(root, OLD)
    if not (new._features.openat2 and new._features.statx):
        pytest.skip("this kernel refuses openat2 or statx")
    for (name, one), (other_name, other) in zip(new.list_dir(b""), old.list_dir(b""), strict=True):
        assert name == other_name
        same = ("kind", "inode", "size", "mtime_ns", "ctime_ns", "mode", "links")
        assert [getattr(one, field) for field in same] == [getattr(other, field) for field in same]
        assert other.birth_ns == 0
    new.close()
    old.close()


def test_the_exchange_is_tried_where_we_are_at_home_and_leaves_nothing(root: Path) -> None:
    (root / ".replicad").mkdir()
    fs = RealFileSystem(root)
    before = fs.list_dir(b"")
    assert fs.supports_exchange() is _exchange_works(root)
    assert fs.list_dir(b".replicad") == []
    assert [name for name, _ in before] == [b".replicad"]
    fs.close()


def _exchange_works(root: Path) -> bool:
    """By the system's own `mv`, as far as it knows how; else by asking the kernel with the number of the call."""
    directory = os.open(root, os.O_RDONLY)
    try:
        for name in ("one", "other"):
            (root / name).touch()
        linux.rename_exchange(directory, b"one", directory, b"other")
    except OSError:
        return False
    finally:
        os.close(directory)
        for name in ("one", "other"):
            (root / name).unlink()
    return True


def test_where_the_exchange_is_unsupported_it_is_an_error_and_the_probe_says_so(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    (root / ".replicad").mkdir()
    fs = RealFileSystem(root)
    monkeypatch.setattr(linux, "rename_exchange", refuse)
    assert fs.supports_exchange() is False
    assert fs.list_dir(b".replicad") == []
    monkeypatch.undo()
    (root / ".replicad").rmdir()
    with pytest.raises(FileNotFoundError):
        fs.supports_exchange()
    fs.close()


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EPERM])
def test_refused_system_calls_are_found_out_once(root: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(*arguments: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(linux, "open_beneath", refuse)
    monkeypatch.setattr(linux, "statx_device", refuse)
    fs = RealFileSystem(root)
    fs.make_dir(b"a", 0o755)
    fs.create(b"a/f").close()
    found = fs.stat(b"a/f")
    assert found is not None
    assert found.kind == FILE
    fs.close()


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EPERM])
def test_chmod_takes_the_long_way_where_the_short_one_is_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*arguments: object) -> int:
        ctypes.set_errno(code)
        return -1

    monkeypatch.setattr(linux, "_fchmodat2", refuse)
    fs = RealFileSystem(root)
    fs.create(b"f").close()
    fs.make_symlink(b"l", b"f")
    fs.set_mode(b"f", 0o4640)
    assert (root / "f").stat().st_mode & 0o7777 == 0o4640
    with pytest.raises(OSError, check=lambda error: error.errno == errno.EOPNOTSUPP):
        fs.set_mode(b"l", 0o777)
    fs.close()


def test_what_may_not_be_read_is_an_error_and_never_empty(root: Path) -> None:
    """I6: an unreadable directory must not look like an emptied one."""
    if os.geteuid() == 0:
        pytest.skip("root can read what no one may")
    world = real_world(root)
    world.make_dirs(b"d")
    world.write(b"d/f", b"1")
    world.write(b"secret", b"1")
    world.fs.set_mode(b"secret", 0o000)
    world.fs.set_mode(b"d", 0o300)
    with pytest.raises(PermissionError):
        world.fs.list_dir(b"d")
    with pytest.raises(PermissionError):
        world.fs.open_read(b"secret")
    world.fs.sync_dirs([b"d"])  # by way of the whole filesystem
    world.fs.set_mode(b"d", 0o000)
    with pytest.raises(PermissionError):
        world.fs.stat(b"d/f")
    world.fs.set_mode(b"d", 0o700)
    world.fs.close()


def test_a_listing_leaves_out_what_vanishes_and_raises_what_fails(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world: World = real_world(root)
    for name in (b"a", b"b", b"c"):
        world.write(name, b"")
    fs = world.fs
    assert isinstance(fs, RealFileSystem)
    original = fs._stat_device
    failing = FileNotFoundError(errno.ENOENT, "gone")

    def stat_device(directory: int, name: bytes) -> object:
        if name == b"b":
            raise failing
        return original(directory, name)

    monkeypatch.setattr(fs, "_stat_device", stat_device)
    assert [name for name, _ in fs.list_dir(b"")] == [b"a", b"c"]
    failing = OSError(errno.EIO, "disk")  # type: ignore[assignment]
    with pytest.raises(OSError, match="disk"):
        fs.list_dir(b"")
    fs.close()


def test_pieces_join_to_the_path_and_none_is_too_long() -> None:
    for length in (1, 7, 100, 255):
        for count in (1, 15, 16, 17, 100, 500):
            path = b"/".join([b"n" * length] * count)
            pieces = _pieces(path)
            assert b"/".join(pieces) == path
            assert all(len(piece) < linux.PATH_MAX for piece in pieces)
    assert _pieces(b"x" * 5000 + b"/y") == [b"x" * 5000, b"y"]  # too long a name is left to the kernel to refuse


@pytest.mark.lab
@pytest.mark.parametrize("features", FEATURES)
def test_i6_another_mount_is_told_apart(root: Path, features: Features | None) -> None:
    """A bind mount and another filesystem, in a mount namespace of a process of their own."""
    (root / "other").mkdir()
    (root / "bound").mkdir()
    (root / "plain").mkdir()
    script = (
        "import subprocess, sys\n"
        "from replicad.files.linux import Features\n"
        "from replicad.files.real_fs import RealFileSystem\n"
        "subprocess.run(['mount', '-t', 'tmpfs', 'none', sys.argv[1] + '/other'], check=True)\n"
        "subprocess.run(['mount', '--bind', sys.argv[1] + '/plain', sys.argv[1] + '/bound'], check=True)\n"
        f"fs = RealFileSystem(sys.argv[1], {features!r})\n"
        "root = fs.stat(b'').mount\n"
        "print([fs.stat(name).mount == root for name in (b'other', b'bound', b'plain')])\n"
    )
    run = subprocess.run(
        ["unshare", "-m", sys.executable, "-c", script, str(root)], capture_output=True, text=True, check=False
    )
    assert run.stderr == ""
    bind_mounts_look_alike = features is not None  # only statx tells a bind mount of the same filesystem
    assert run.stdout.strip() == str([False, bind_mounts_look_alike, True])
