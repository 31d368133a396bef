"""The root of a folder on a real disk, while the folder is at work: what is at its path, held against what is open."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from replicad.catalog.store import Catalog
from replicad.engine.deletions import Deletions, Missing
from replicad.engine.holds import DELETIONS, ROOT
from replicad.engine.root_watch import MOUNTED_ANEW, RootWatch
from replicad.errors import OpenAnewError
from replicad.files.real_fs import RealFileSystem
from tests.engine.rig import FOLDER, MemoryDatabase

NOW_MS = 1_000_000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


class Begun:
    """A folder's root at one start after another."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.catalog = Catalog.open(MemoryDatabase(), FOLDER, lambda: 99)
        self.fs: RealFileSystem | None = None

    def anew(self) -> RootWatch:
        self.close()
        try:
            self.fs = RealFileSystem(self._root)
        except OSError:
            self.fs = RealFileSystem.absent(self._root)
        deletions = Deletions(self.catalog, self.fs, lambda: 1_000)
        watch = RootWatch(self.catalog, self.fs, bytes, deletions, NOW_MS)
        watch.begin(NOW_MS)
        return watch

    def close(self) -> None:
        if self.fs is not None:
            self.fs.close()


@pytest.fixture
def begun(root: Path) -> Iterator[Begun]:
    begun = Begun(root)
    yield begun
    begun.close()


def open_in(directory: Path) -> list[str]:
    """What this process has open there."""
    found = []
    for handle in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{handle}"))
        except FileNotFoundError:
            continue  # the one by which the list was read
    return [path for path in found if path.startswith(str(directory))]


def test_i6_the_folders_disk_that_is_mounted_again_is_opened_anew(root: Path, begun: Begun) -> None:
    """As far as can be without a mount: another directory than the open one, with the marker itself."""
    watch = begun.anew()
    assert watch.holds()
    away = root.rename(root.with_name("away"))
    assert not watch.holds()
    with pytest.raises(OpenAnewError, match="leads elsewhere"):
        watch.check(NOW_MS)

    watch = begun.anew()
    assert watch.fault.startswith(f"cannot open {root}: No such file or directory; ")
    assert "\n" not in watch.fault
    assert open_in(root.parent) == [], "its disk can be unmounted"
    assert not watch.check(NOW_MS), "nothing is there"
    assert watch.hold is None
    root.mkdir()
    assert not watch.check(NOW_MS), "an empty directory: the mount point, perhaps"
    assert watch.fault.startswith("the root marker is missing")
    assert open_in(root.parent) == []
    (away / ".replicad").rename(root / ".replicad")
    with pytest.raises(OpenAnewError, match=MOUNTED_ANEW):
        watch.check(NOW_MS)
    assert begun.anew().holds()


def test_i6_another_directory_at_the_path_is_left_alone_and_nothing_keeps_it_from_being_unmounted(
    root: Path, begun: Begun
) -> None:
    """A copy of the folder with its marker is not it."""
    watch = begun.anew()
    away = root.rename(root.with_name("away"))
    (root / ".replicad").mkdir(parents=True)
    (root / ".replicad/marker").write_bytes((away / ".replicad/marker").read_bytes())
    assert not watch.holds()
    with pytest.raises(OpenAnewError):
        watch.check(NOW_MS)
    watch = begun.anew()
    assert watch.fault.startswith("the root marker is a copy")
    assert not watch.check(NOW_MS)
    hold = watch.hold
    assert hold is not None
    assert hold.kind == ROOT
    assert open_in(root.parent) == []
    root.rename(root.with_name("other"))
    away.rename(root)
    with pytest.raises(OpenAnewError, match=MOUNTED_ANEW):
        watch.check(NOW_MS)
    assert begun.anew().holds()


def test_i6_a_directory_that_has_lost_its_marker_is_held_as_before_when_it_is_mounted_again(
    root: Path, begun: Begun
) -> None:
    """It is the folder's by its inode and birth; whether what is in it counts, an operator says."""
    watch = begun.anew()
    (root / ".replicad").rename(root.with_name("private"))
    assert not watch.holds()
    assert not watch.away
    away = root.rename(root.with_name("away"))
    with pytest.raises(OpenAnewError):
        watch.check(NOW_MS)
    root.mkdir()
    watch = begun.anew()
    assert watch.away
    assert not watch.check(NOW_MS)
    root.rmdir()
    away.rename(root)
    with pytest.raises(OpenAnewError, match=MOUNTED_ANEW):
        watch.check(NOW_MS)
    assert not begun.anew().away


def test_i6_deletions_that_are_held_are_decided_upon_only_where_the_folders_own_directory_is_there(
    root: Path, begun: Begun
) -> None:
    watch = begun.anew()
    missing = Missing(11, 11, [b"d"])
    watch.hold_deletions(missing, NOW_MS)
    assert watch.hold is not None
    assert watch.hold.kind == DELETIONS
    away = root.rename(root.with_name("away"))
    with pytest.raises(OpenAnewError):
        watch.check(NOW_MS)
    watch = begun.anew()
    assert watch.hold is None, "nothing is there"
    root.mkdir()
    watch.check(NOW_MS)
    hold = watch.hold
    assert hold is not None
    assert hold.kind == ROOT, "the question is what that directory is"
    root.rmdir()
    away.rename(root)
    watch = begun.anew()
    assert watch.fault == missing.reason
    hold = watch.hold
    assert hold is not None
    assert hold.kind == DELETIONS


def test_i6_a_disk_that_yields_errors_is_let_go_of_and_opened_anew_once_it_does_not(
    root: Path, begun: Begun, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = begun.anew()

    def fails(*_: object) -> bool:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(RealFileSystem, "open_read", fails)
        assert not watch.holds()
        with pytest.raises(OpenAnewError, match="Input/output error"):
            watch.check(NOW_MS)
        watch = begun.anew()
        assert not watch.check(NOW_MS)
        assert watch.fault.startswith("the root marker cannot be read: Input/output error")
        assert watch.hold is None, "there is nothing to be decided"
        assert open_in(root.parent) == []
    with monkeypatch.context() as patch:
        patch.setattr(RealFileSystem, "root_in_place", fails)
        assert watch.fault
        assert not watch.check(NOW_MS)
    with pytest.raises(OpenAnewError, match=MOUNTED_ANEW):
        watch.check(NOW_MS)
    assert begun.anew().holds()
