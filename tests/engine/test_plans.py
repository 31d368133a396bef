"""What is planned, told by what the disk comes to."""

from __future__ import annotations

from tests.engine.rig import Author, Rig


def test_what_is_wanted_at_the_name_of_what_it_lies_in_does_not_wait_for_itself() -> None:
    """`x` and `a/b` both become `a`, which is deleted: the two merge there, and the one in it must get out first."""
    rig = Rig()
    author = Author(rig.bodies)
    other, deleted = author.directory(b"x"), author.directory(b"a")
    inner, file = author.directory(b"b", deleted.uid), author.file(b"f", b"1", other.uid)
    rig.take([other, deleted, inner, file])
    rig.settle()
    rig.take([author.delete(deleted), author.move(other, b"a"), author.move(inner, b"a")])
    rig.settle()
    assert rig.disk() == rig.wanted()
    assert not rig.catalog.pending(1)
