"""What cannot be installed for now, and the reason that an operator is given (I10)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from replicad.core.records import Record
from tests.engine.rig import Author, Rig

Make = Callable[[Author], Record]


@pytest.mark.parametrize(
    "make",
    [
        lambda author: author.file(b"f", b"1"),
        lambda author: author.directory(b"f"),
        lambda author: author.symlink(b"f", b"target"),
    ],
    ids=["file", "directory", "symlink"],
)
def test_i10_a_name_that_a_fifo_has_is_told_as_the_reason(make: Make) -> None:
    rig = Rig()
    author = Author(rig.bodies)
    rig.fs.user_fifo(b"f")
    rig.take([make(author), author.file(b"other", b"2")])
    for _ in range(10):
        rig.work()
    (reason,) = [reason for _, reason in rig.workbench.waiting()]
    assert reason == "something that is not replicated (a fifo, socket or device) has this name"
    assert not rig.dirty, "the scan would look in vain"
    assert rig.disk()[b"other"][2] == b"2"
    rig.fs.user_unlink(b"f")
    for _ in range(100):
        rig.work()
    assert rig.disk() == rig.wanted()
