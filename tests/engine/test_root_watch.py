"""The root of a folder on a real disk, while the folder is at work: what is at its path, held against what is open."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from replicad.catalog.store import Catalog
from replicad.engine.deletions import Deletions
from replicad.engine.root_watch import MOUNTED_ANEW, RootWatch
from replicad.errors import OperatorError
from replicad.files.real_fs import RealFileSystem
from tests.engine.rig import FOLDER, MemoryDatabase

NOW_MS = 1_000_000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture
def watch(root: Path) -> Iterator[RootWatch]:
    fs = RealFileSystem(root)
    catalog = Catalog.open(MemoryDatabase(), FOLDER, lambda: 99)
    watch = RootWatch(catalog, fs, bytes, Deletions(catalog, fs, lambda: 1_000), NOW_MS)
    watch.begin(NOW_MS)
    assert watch.holds()
    yield watch
    fs.close()


def test_i6_the_folders_disk_that_is_mounted_again_is_opened_anew(root: Path, watch: RootWatch) -> None:
    """As far as can be without a mount: another directory than the open one, with the marker itself."""
    root.rename(root.with_name("away"))
    assert not watch.holds()
    assert not watch.check(NOW_MS), "nothing is there"
    root.mkdir()
    assert not watch.check(NOW_MS), "an empty directory: the mount point, perhaps"
    (root.with_name("away") / ".replicad").rename(root / ".replicad")
    with pytest.raises(OperatorError, match=MOUNTED_ANEW):
        watch.check(NOW_MS)


def test_i6_another_directory_at_the_path_is_left_alone(root: Path, watch: RootWatch) -> None:
    """A copy of the folder with its marker is not it: nothing keeps it open, so it can be unmounted."""
    root.rename(root.with_name("away"))
    assert not watch.holds()
    (root / ".replicad").mkdir(parents=True)
    (root / ".replicad/marker").write_bytes((root.with_name("away") / ".replicad/marker").read_bytes())
    fault = watch.fault
    assert not watch.check(NOW_MS)
    assert watch.fault == fault
    root.rename(root.with_name("other"))
    root.with_name("away").rename(root)
    assert watch.check(NOW_MS), "the one that is open is back"
    assert watch.holds()
