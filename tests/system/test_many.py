"""Many files in one go, and many in one directory, live and while stopped, on two and three members.

How many: as many as a test may take time for. The true numbers are in `tests/lab/test_many.py`; that what a file costs
does not grow with what lies beside it is counted by `tests/engine/test_bulk.py`.
"""

import shutil

import pytest

from tests.system.folder_tools import all_the_same, at_rest, head_of, wait
from tests.system.harness import Servers, until

ENTRIES = 1_000
"""In one directory; as many as there are files in a tree beside it."""


@pytest.mark.timeout(300)  # three members, on a machine with other work
@pytest.mark.parametrize("size", [2, 3])
def test_thousands_of_files_in_one_go_and_in_one_directory_live_and_while_stopped(servers: Servers, size: int) -> None:
    members = servers.group(size)
    one, two = members[:2]
    outside = servers.base / "outside"
    for number in range(ENTRIES):
        for path in (outside / f"flat/{number}", outside / f"tree/{number % 40}/{number}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    (outside / "flat").rename(one.folder() / "flat")
    wait(one, size, timeout_s=100)
    servers.same(members)

    one.stop()
    (outside / "tree").rename(one.folder() / "tree")
    (one.folder() / "flat/2").write_bytes(b"one of them, while stopped")
    one.start()
    wait(one, size, timeout_s=100)
    servers.same(members)

    heads = [head_of(member) for member in members]
    (one.folder() / "flat").rename(one.folder() / "renamed")
    wait(one, size)
    assert [head_of(member) for member in members] == [head + 1 for head in heads], "a rename is one record"
    (one.folder() / "renamed/0").write_bytes(b"one of them")
    one.stop()
    (one.folder() / "renamed/1").write_bytes(b"and another one")
    shutil.rmtree(one.folder() / "tree")
    one.start()
    until("what nobody saw is held", lambda: "objects are missing" in one.cli("hold", "list"))
    assert "\n  tree\n" in one.cli("hold", "list") + "\n", "it says what is missing"
    assert one.folder_status()["missing"] == ["tree"]
    assert (two.folder() / "tree").exists()
    one.cli("hold", "approve", "docs")
    wait(one, size, timeout_s=100)
    all_the_same(servers, members)
    assert (two.folder() / "renamed/1").read_bytes() == b"and another one"
    at_rest(members)
