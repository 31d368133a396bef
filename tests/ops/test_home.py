"""The home: its lock, and the group that it remembers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from replicad.errors import OperatorError
from replicad.ops.home import (
    Acquaintance,
    Group,
    HomeBusyError,
    create_home,
    locked,
    read_group,
    remember,
    socket_path,
    write_group,
)

MEMBER = Acquaintance("ab" * 32, "beta", b"certificate", ("beta:7722", "[fd00::1]:7722"))


def test_a_home_is_for_its_owner_alone(tmp_path: Path) -> None:
    create_home(tmp_path / "a" / "home")
    assert (tmp_path / "a" / "home").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "a" / "home" / "catalog").stat().st_mode & 0o777 == 0o700


def test_a_home_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OperatorError, match=r"cannot use .*/file/home as home: Not a directory"):
        create_home(tmp_path / "file" / "home")


HOLDER = """
import sys
from pathlib import Path
from replicad.ops.home import locked
with locked(Path(sys.argv[1]), "run"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_one_is_told_which_process_holds_the_home(tmp_path: Path) -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path], stdin=pipe, stdout=pipe) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        said = rf"in use by process {holder.pid} \(replicad run\): stop it first"
        with pytest.raises(HomeBusyError, match=said), locked(tmp_path, "status"):
            pass
        holder.kill()
        holder.wait(30)
        with locked(tmp_path, "status"):  # the kernel let go of it
            assert (tmp_path / "lock").read_text() == f"{os.getpid()} replicad status\n"


def test_the_group_is_remembered_outside_the_catalog(tmp_path: Path) -> None:
    assert read_group(tmp_path) is None
    group = Group(bytes(range(16)), "demo", "alpha", True, (MEMBER,))
    write_group(tmp_path, group)
    assert read_group(tmp_path) == group


def test_members_are_written_only_when_they_differ(tmp_path: Path) -> None:
    group = remember(tmp_path, Group(bytes(16), "demo", "alpha", False), [MEMBER])
    written = (tmp_path / "group.json").stat()
    assert remember(tmp_path, group, [MEMBER]) == group
    assert (tmp_path / "group.json").stat() == written


@pytest.mark.parametrize("text", ["", "{}", '{"version": 1, "id": "xx"}', '{"version": 2}', "[]"])
def test_a_damaged_group_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "group.json").write_text(text)
    with pytest.raises(OperatorError, match=r"group\.json"):
        read_group(tmp_path)


def test_a_socket_path_fits_however_deep_the_home_is(tmp_path: Path) -> None:
    home = tmp_path / ("d" * 200) / ("e" * 200)
    create_home(home)
    with socket_path(home) as path:
        assert len(path) < 100
        Path(path).write_text("here")
    assert (home / "control.sock").read_text() == "here"
