"""What a member could not look at when it joined or rejoined (docs/safety.md, 5): beneath a mount, not readable, not to
be moved. Members are a and b; b rejoins. A number is a file's content.
"""

from __future__ import annotations

import errno
import random

import pytest

from replicad.engine import late_claim, unclaimed
from replicad.engine.phases import Phase, Role
from replicad.engine.unclaimed import UNCLAIMED_META
from tests.sim.ailing import Ailing, Failing
from tests.sim.group import Group
from tests.sim.member import SimMember
from tests.sim.script import a_group, assert_nothing_kept, assert_tree, delete, kept, move, put, remove_tree, tree
from tests.sim.test_rejoin import ask

FIRST = {"d/f": 1, "d/e/g": 2, "h": 3}
MINUTE_MS = 60_000
LISTS, READS = frozenset({"list_dir"}), frozenset({"open_read", "read_link"})
MOVES = frozenset({"rename"})


def rejoins(group: Group) -> SimMember:
    """b, until it takes part."""
    b = group["b"]
    ask(b)
    for _ in range(10_000):
        if b.running.phase is Phase.TAKING_PART:
            return b
        group.run(10)
    raise AssertionError("it does not take part")


def covered(group: Group, path: str = "d") -> SimMember:
    """b, which has rejoined while this was covered."""
    group["b"].fs.user_mount(path.encode())
    b = rejoins(group)
    assert b.catalog.meta(UNCLAIMED_META) is not None
    return b


def fails(member: SimMember, beneath: str, methods: frozenset[str]) -> list[Failing]:
    """Calls of these at it or beneath it fail until the list that is returned is cleared."""
    member.ailing = Ailing(member, random.Random(1))
    changes = methods == MOVES
    member.ailing.failing.append(Failing((errno.EACCES,), 1.0, changes, methods, beneath.encode()))
    return member.ailing.failing


def none_left(group: Group) -> None:
    for member in group.members.values():
        assert member.catalog.meta(UNCLAIMED_META) is None
        assert member.running.blocked() == []


@pytest.mark.parametrize("how", ["running", "stopped", "killed"])
def test_i7_what_was_deleted_meanwhile_does_not_come_back_from_beneath_a_mount(how: str) -> None:
    group = a_group("ab", FIRST)
    b = covered(group)
    remove_tree(group["a"], "d")
    group.run(MINUTE_MS)
    if how in ("stopped", "killed"):
        (b.stop if how == "stopped" else b.crash)()
        group.run(MINUTE_MS)
        b.start()
        group.run(MINUTE_MS)
    b.fs.user_unmount(b"d")
    group.heal()
    assert_tree(group, {"h": 3})
    assert kept(b) == [1, 2]
    none_left(group)


def test_what_the_group_still_has_is_adopted_and_nothing_is_sent_for_it() -> None:
    group = a_group("ab", FIRST)
    b = covered(group)
    made, served = [member.catalog.counter for member in group.members.values()], len(group.served)
    group.run(MINUTE_MS)
    b.fs.user_unmount(b"d")
    group.heal()
    assert_tree(group, FIRST)
    assert_nothing_kept(group)
    assert [member.catalog.counter for member in group.members.values()] == made, "no change is made"
    assert len(group.served) == served
    none_left(group)


def test_what_the_group_has_another_version_of_goes_to_preexisting() -> None:
    group = a_group("ab", FIRST)
    b = covered(group)
    put(group["a"], "d/f", 11)
    delete(group["a"], "d/e/g")
    put(group["a"], "d/x", 12)
    group.run(MINUTE_MS)
    b.fs.user_unmount(b"d")
    group.heal()
    assert_tree(group, {"d/f": 11, "d/e": None, "d/x": 12, "h": 3})
    assert kept(b) == [1, 2]


@pytest.mark.parametrize("deleted", [True, False])
def test_what_is_written_there_before_it_is_looked_at_is_its_users(deleted: bool) -> None:
    """Also where an old file is edited, and in a directory that the group does not have any more."""
    group = a_group("ab", FIRST)
    b = covered(group)
    if deleted:
        remove_tree(group["a"], "d")
    group.run(MINUTE_MS)
    b.fs.user_unmount(b"d")
    put(b, "d/new", 21)
    put(b, "d/e/new/deep", 22)
    put(b, "d/f", 23)
    group.heal()
    rest = {} if deleted else {"d/e/g": 2}
    assert_tree(group, {"d/new": 21, "d/e/new/deep": 22, "d/f": 23, "h": 3, **rest})
    assert kept(b) == ([2] if deleted else [])
    none_left(group)


def test_what_its_user_moved_there_from_elsewhere_in_the_folder_is_moved() -> None:
    group = a_group("ab", FIRST)
    b = covered(group)
    remove_tree(group["a"], "d")
    group.run(MINUTE_MS)
    b.fs.user_unmount(b"d")
    move(b, "h", "d/e/h")
    group.heal()
    assert_tree(group, {"d/e/h": 3})
    assert kept(b) == [1, 2]


def test_what_is_uncovered_while_it_rejoins_is_kept_as_well() -> None:
    group = a_group("ab", FIRST)
    b = group["b"]
    b.fs.user_mount(b"d")
    remove_tree(group["a"], "d")
    group.run(MINUTE_MS)
    seen: list[bool] = []

    def uncover(member: SimMember) -> None:
        if member is b and not seen and b.up and b.running.phase is Phase.TAKING_PART:
            seen.append(True)
            b.fs.user_unmount(b"d")

    group.on_handled = uncover
    ask(b)
    group.heal()
    assert seen
    assert_tree(group, {"h": 3})
    assert kept(b) == [1, 2]


def test_a_place_is_found_where_the_directory_above_it_has_gone() -> None:
    group = a_group("ab", {"t/d/f": 1, "t/d/e/g": 2, "t/h": 3})
    b = covered(group, "t/d")
    delete(group["a"], "t/d/f")
    group.run(MINUTE_MS)
    move(group["a"], "t", "u")
    group.run(MINUTE_MS)
    move(b, "u", "v")
    group.run(MINUTE_MS)
    b.fs.user_unmount(b"v/d")
    group.heal()
    assert_tree(group, {"v/d/e/g": 2, "v/h": 3})
    assert kept(b) == [1]


def test_what_the_group_moved_onto_its_place_comes_there() -> None:
    """On this disk, too, where it stood elsewhere; equal content there is not it."""
    group = a_group("ab", {"d/f": 1, "o/p": 1, "h": 3})
    b = covered(group)
    a = group["a"]
    remove_tree(a, "d")
    group.run(MINUTE_MS)
    move(a, "o", "d")
    move(a, "d/p", "d/f")
    group.run(MINUTE_MS)
    b.fs.user_unmount(b"d")
    group.heal()
    assert_tree(group, {"d/f": 1, "h": 3})


@pytest.mark.parametrize("deleted", [True, False])
@pytest.mark.parametrize("methods", [LISTS, READS, MOVES], ids=["listed", "read", "moved"])
def test_i7_what_could_not_be_looked_at_is_no_news_when_it_can(methods: frozenset[str], deleted: bool) -> None:
    """A directory that is not listed, files that are not read; or that the group does not have, and are not moved."""
    group = a_group("ab", FIRST)
    a, b = group["a"], group["b"]
    failing = fails(b, "d", methods)
    gone = ["d/f", "d/e/g"] if deleted else []
    if methods == MOVES:
        while gone:
            delete(a, gone.pop())
        group.run(MINUTE_MS)
    rejoins(group)
    assert (b.catalog.meta(UNCLAIMED_META) is not None) == (deleted or methods != MOVES)
    for path in gone:
        delete(a, path)
    group.run(3 * MINUTE_MS)
    assert tree(a) == ({"d": None, "d/e": None, "h": 3} if deleted else {"d": None, "d/e": None, **FIRST})
    failing.clear()
    group.heal()
    assert_tree(group, {"d/e": None, "h": 3} if deleted else FIRST)
    assert kept(b) == ([1, 2] if deleted else [])
    none_left(group)


@pytest.mark.parametrize("role", [Role.JOINER, Role.MERGER], ids=["join", "merge"])
def test_who_joins_with_a_covered_directory_keeps_what_only_it_has_aside(role: Role) -> None:
    """Also with `--merge`, where the group has the directory: what it had in it once may be forgotten by then."""
    group = Group("ab", roles={"b": role})
    a, b = group["a"], group["b"]
    for path, number in FIRST.items():
        put(a, path, number)
    for path, number in {"d/f": 1, "d/own": 8, "h": 3}.items():
        put(b, path, number)
    b.fs.user_mount(b"d")
    group.start_all()
    group.run(MINUTE_MS)
    b.fs.user_unmount(b"d")
    served = len(group.served)
    group.heal()
    assert_tree(group, FIRST)
    assert kept(b) == [8]
    assert len(group.served) == served + 1, "what is equal is adopted"


def test_a_place_that_is_never_uncovered_is_said_and_all_else_goes_on() -> None:
    group = a_group("ab", FIRST)
    b = covered(group)
    put(group["a"], "h", 4)
    put(b, "i", 5)
    group.run(10 * MINUTE_MS)
    assert tree(group["a"]) == {"d": None, "d/e": None, "d/e/g": 2, "d/f": 1, "h": 4, "i": 5}
    assert [path for path, _ in b.running.blocked()][:1] == [b"d"]
    b.stop()
    b.start()
    group.run(10 * MINUTE_MS)
    assert b.catalog.meta(UNCLAIMED_META) is not None
    b.fs.user_unmount(b"d")
    group.heal()
    assert_tree(group, FIRST | {"h": 4, "i": 5})


def test_places_beyond_the_limit_are_kept_by_directory_and_then_all_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unclaimed, "PLACES_MAX", 2)
    first = {f"d{number}/{name}": 10 * number + name for number in range(4) for name in range(4)} | {"h": 99}
    group = a_group("ab", first)
    b = group["b"]
    failing = fails(b, "", READS)
    failing[:] = [Failing((errno.EACCES,), 1.0, False, READS, b"d%d" % number) for number in range(4)]
    rejoins(group)
    assert 0 < len(b.running.course.unclaimed) <= 2
    delete(group["a"], "d1/1")
    remove_tree(group["a"], "d2")
    put(b, "d0/new", 100)
    group.run(MINUTE_MS)
    failing.clear()
    group.heal()
    wanted = {path: number for path, number in first.items() if path != "d1/1" and not path.startswith("d2/")}
    assert_tree(group, wanted | {"d0/new": 100})
    none_left(group)


def test_a_primarys_disk_speaks_also_of_what_was_kept() -> None:
    group = a_group("ab", FIRST)
    b = covered(group)
    remove_tree(group["a"], "d")
    group.run(MINUTE_MS)
    b.fs.user_unmount(b"d")
    ask(b, primary=True)
    group.heal()
    group.ledger.affirms(b"1")
    group.ledger.affirms(b"2")
    assert_tree(group, FIRST)


def test_i2_a_primary_does_not_count_as_having_what_is_mounted_over() -> None:
    """Seed 61. Nothing is deleted because of that, then or later, and nothing comes back."""
    first = FIRST | {f"more{number}": 50 + number for number in range(5)}
    group = a_group("ab", first | {"m/n": 9})
    a, b = group["a"], group["b"]
    b.fs.user_mount(b"d")
    b.fs.user_mount(b"m")
    put(a, "d/f", 11)
    remove_tree(a, "m")
    put(b, "own", 7)
    ask(b, primary=True)
    group.run(MINUTE_MS)
    assert b.running.state.state == 4
    assert b.catalog.pending_objects == 4, "d, d/e and two files"
    assert len(b.running.course.unclaimed) == 2
    assert tree(a) == {"d": None, "d/e": None, **first, "d/f": 11, "own": 7}
    for place in (b"d", b"m"):
        b.fs.user_unmount(place)
    group.heal()
    assert_tree(group, first | {"d/f": 11, "own": 7})
    assert kept(b) == [1, 9]


def test_i6_a_primary_deletes_nothing_in_a_directory_that_it_cannot_list() -> None:
    first = FIRST | {f"more{number}": 50 + number for number in range(5)}
    group = a_group("ab", first)
    a, b = group["a"], group["b"]
    failing = fails(b, "d", LISTS)
    b.fs.user_unlink(b"d/e/g")
    ask(b, primary=True)
    put(a, "d/f", 11)
    group.run(2 * MINUTE_MS)
    assert tree(a) == {"d": None, "d/e": None, **first, "d/f": 11}
    failing.clear()
    group.heal()
    assert_tree(group, first | {"d/f": 11})
    assert kept(b) == [1]
    none_left(group)


def test_i12_it_ends_as_it_should_whenever_it_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before each commit and each change of the disk, from the uncovering on; with a commit for each entry."""
    monkeypatch.setattr(late_claim, "ENTRIES_A_STEP", 1)
    at = 0
    while True:
        group = a_group("ab", FIRST)
        b = covered(group)
        delete(group["a"], "d/f")
        group.run(MINUTE_MS)
        kills = [at]

        def fault(method: str, paths: tuple[bytes, ...], kills: list[int] = kills) -> bool:
            kills[0] -= 1
            return kills[0] < 0

        b.kill_before = fault
        b.fs.user_unmount(b"d")
        for _ in range(20):
            group.run(2_000)
            if not b.up:
                b.kill_before = None
                b.start()
        b.kill_before = None
        group.heal()
        assert_tree(group, {"d/e/g": 2, "h": 3})
        assert kept(b) == [1]
        none_left(group)
        if kills[0] >= 0:
            break
        at += 1
    assert at > 5, "it was killed at every one"
