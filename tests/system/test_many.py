"""Many files in one go, and many in one directory.

How many: as many as a test may take time for. That what a file costs does not grow with what lies beside it is counted
by `tests/engine/test_bulk.py`; 50,000 and 100,000 were measured (docs/performance.md, `make bench`).
"""

import shutil

from tests.system.folder_tools import all_the_same, at_rest, head_of, wait
from tests.system.harness import Servers

ENTRIES = 2_000
"""In one directory; as many as there are files in a tree beside it."""


def test_thousands_of_files_in_one_go_and_in_one_directory(servers: Servers) -> None:
    one, two = members = servers.group(2)
    outside = servers.base / "outside"
    for number in range(ENTRIES):
        for path in (outside / f"flat/{number}", outside / f"tree/{number % 40}/{number}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    for name in ("flat", "tree"):
        (outside / name).rename(one.folder() / name)
    wait(one, 2, timeout_s=100)
    servers.same(members)

    heads = [head_of(member) for member in members]
    (one.folder() / "flat").rename(one.folder() / "renamed")
    wait(one, 2)
    assert [head_of(member) for member in members] == [head + 1 for head in heads], "a rename is one record"
    (one.folder() / "renamed/0").write_bytes(b"one of them")
    one.stop()
    (one.folder() / "renamed/1").write_bytes(b"and another one")
    shutil.rmtree(one.folder() / "tree")
    one.start()
    wait(one, 2, timeout_s=100)
    all_the_same(servers, members)
    assert (two.folder() / "renamed/1").read_bytes() == b"and another one"
    at_rest(members)
