"""One look at the disk against the nodes: what has changed, what must be read, what is not concluded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicad.core.diff import FRESH_NS, OTHER_MOUNT, Sight, compare, look, same_entry, trusted_from
from replicad.core.records import DIRECTORY, FILE, SYMLINK
from replicad.core.view import Node
from tests.core.members import MOUNT
from tests.core.members import Sight as Seen

OTHER_KIND = 9


def node(name: bytes = b"f", kind: int = FILE, **fields: int) -> Node:
    seen = entry(kind, **fields)
    return Node(20, 1, name, kind, seen.inode, seen.size, seen.mtime_ns, seen.ctime_ns, seen.birth_ns, seen.mode)


def entry(kind: int = FILE, **fields: int) -> Seen:
    return Seen(
        kind, **{"inode": 7, "size": 5, "mtime_ns": 100, "ctime_ns": 200, "birth_ns": 50, "mode": 0o644, **fields}
    )


def test_an_entry_as_it_was_is_the_same() -> None:
    for kind in (FILE, DIRECTORY, SYMLINK):
        assert look(node(kind=kind), entry(kind), MOUNT) is Sight.SAME


@pytest.mark.parametrize("field", ["inode", "size", "mtime_ns", "ctime_ns", "mode"])
def test_any_difference_of_a_file_has_it_read(field: str) -> None:
    """A ctime alone too: a write whose mtime was set back shows in nothing else."""
    for kind in (FILE, SYMLINK):
        assert look(node(kind=kind), entry(kind, **{field: 3}), MOUNT) is Sight.READ


def test_the_times_of_a_directory_say_nothing_and_its_mode_is_its_content() -> None:
    assert look(node(kind=DIRECTORY), entry(DIRECTORY, mtime_ns=9, ctime_ns=9), MOUNT) is Sight.SAME
    assert look(node(kind=DIRECTORY), entry(DIRECTORY, mode=0o700), MOUNT) is Sight.MODE


def test_another_directory_at_the_name_is_told_by_inode_or_birth() -> None:
    assert look(node(kind=DIRECTORY), entry(DIRECTORY, inode=8), MOUNT) is Sight.REPLACED
    assert look(node(kind=DIRECTORY), entry(DIRECTORY, birth_ns=51), MOUNT) is Sight.REPLACED
    assert look(node(kind=DIRECTORY, birth_ns=0), entry(DIRECTORY), MOUNT) is Sight.SAME


def test_what_came_went_and_changed_its_kind() -> None:
    assert look(None, entry(), MOUNT) is Sight.APPEARED
    assert look(node(), None, MOUNT) is Sight.VANISHED
    assert look(None, None, MOUNT) is Sight.NOTHING
    assert look(node(), entry(DIRECTORY), MOUNT) is Sight.OTHER


def test_i6_another_mount_says_nothing_about_what_it_covers() -> None:
    """Whatever else differs, and whatever is there."""
    for known in (None, node(), node(kind=DIRECTORY)):
        for kind in (FILE, DIRECTORY, OTHER_KIND):
            sight = look(known, entry(kind, mount=MOUNT + 1), MOUNT)
            assert sight is Sight.FOREIGN
            assert sight.blocked == OTHER_MOUNT


def test_a_fifo_is_blocked_with_its_reason() -> None:
    assert look(None, entry(OTHER_KIND), MOUNT) is Sight.UNFIT
    assert "fifo" in look(node(), entry(OTHER_KIND), MOUNT).blocked
    assert not Sight.SAME.blocked


def test_a_listing_is_compared_name_by_name() -> None:
    nodes = [node(b"a"), node(b"b"), node(b"c")]
    listing = [(b"a", entry()), (b"b", entry(size=6)), (b"d", entry())]
    found = [(one.name, one.sight, one.node) for one in compare(nodes, listing, MOUNT)]
    assert found == [(b"b", Sight.READ, nodes[1]), (b"c", Sight.VANISHED, nodes[2]), (b"d", Sight.APPEARED, None)]


def test_replicads_own_directory_is_not_seen_in_the_root_and_is_a_name_like_any_elsewhere() -> None:
    listing = [(b".replicad", entry(DIRECTORY))]
    assert not list(compare([], listing, MOUNT, root=True))
    assert [one.name for one in compare([], listing, MOUNT)] == [b".replicad"]


@given(st.dictionaries(st.binary(min_size=1, max_size=2), st.integers(1, 3)), st.data())
def test_every_name_of_either_side_is_compared_once(sizes: dict[bytes, int], data: st.DataObject) -> None:
    names = sorted(sizes)
    known = {name: sizes[name] for name in names if data.draw(st.booleans())}
    seen = {name: data.draw(st.integers(1, 3)) for name in names if data.draw(st.booleans())}
    nodes = [node(name, size=size) for name, size in sorted(known.items())]
    found = {
        one.name: one.sight for one in compare(nodes, [(n, entry(size=s)) for n, s in sorted(seen.items())], MOUNT)
    }
    assert found.keys() == {name for name in known.keys() | seen.keys() if known.get(name) != seen.get(name)}
    assert {name for name, sight in found.items() if sight is Sight.VANISHED} == known.keys() - seen.keys()
    assert {name for name, sight in found.items() if sight is Sight.APPEARED} == seen.keys() - known.keys()


def test_times_of_this_very_moment_are_trusted_a_tick_later() -> None:
    now = 10**18
    assert trusted_from(entry(mtime_ns=now - FRESH_NS, ctime_ns=now - FRESH_NS), now) == now
    assert trusted_from(entry(mtime_ns=5, ctime_ns=now - 1), now) == now - 1 + FRESH_NS
    assert trusted_from(entry(mtime_ns=now + 1, ctime_ns=5), now) == now + 1 + FRESH_NS
    assert trusted_from(entry(SYMLINK, ctime_ns=now), now) == now + FRESH_NS
    assert trusted_from(entry(DIRECTORY, ctime_ns=now), now) == now


def test_a_time_set_to_the_far_future_is_not_waited_for() -> None:
    now = 10**18
    assert trusted_from(entry(mtime_ns=2 * now, ctime_ns=now - FRESH_NS), now) == now


def test_an_inode_number_alone_is_no_identity() -> None:
    assert same_entry(node(), entry(birth_ns=51)) is False
    assert same_entry(node(), entry(inode=8)) is False
    assert same_entry(node(), entry(DIRECTORY)) is False
    assert same_entry(node(birth_ns=0), entry(size=6)) is False
    assert same_entry(node(birth_ns=0), entry(mtime_ns=101)) is False


def test_birth_is_an_identity_whatever_was_written_since_and_without_it_size_and_mtime_are() -> None:
    assert same_entry(node(), entry(size=6, mtime_ns=101, ctime_ns=201, mode=0o600)) is True
    assert same_entry(node(birth_ns=0), entry(ctime_ns=201)) is True
    assert same_entry(node(), entry(birth_ns=0, ctime_ns=201)) is True
    assert same_entry(node(kind=DIRECTORY, birth_ns=0), entry(DIRECTORY, mtime_ns=101)) is None
