"""When a deletion may be forgotten."""

from __future__ import annotations

import msgspec
import pytest

from replicad.core.cnset import EMPTY, CNSet
from replicad.core.collection import Circle, circle_of, installed_by_all, may_drop
from replicad.core.draft import Draft
from replicad.core.hierarchy_entries import DECLARED, FolderMember, Lapsed
from replicad.core.hierarchy_model import FolderInfo, Reading
from replicad.core.ids import ROOT, Cn
from replicad.core.memory_view import MemoryView
from replicad.core.records import DIRECTORY, FILE, record
from replicad.core.status_board import Known
from replicad.core.view import ObjectState
from tests.core.make import FOLDER, REPLICA, content, gone, place, uid
from tests.core.test_status_board import known

ALL = CNSet.span(REPLICA, 1, 100)


def other(head: int, *, missing: CNSet = EMPTY, whole: bool = True) -> Known:
    found = known("a" * 64, head=head)
    return msgspec.structs.replace(
        found,
        missing=missing,
        status=msgspec.structs.replace(found.status, digest=bytes(16) if whole else b""),
    )


def test_what_one_member_has_not_installed_is_not_installed_by_all() -> None:
    lacking = CNSet.of([Cn(REPLICA, 5)])
    assert installed_by_all(ALL, EMPTY, [other(9), other(7, missing=lacking)]) == CNSet.span(REPLICA, 1, 7).minus(
        lacking
    )
    assert installed_by_all(ALL, lacking, [other(9)]) == CNSet.span(REPLICA, 1, 9).minus(lacking)


def test_who_has_told_nothing_has_installed_nothing() -> None:
    assert installed_by_all(ALL, EMPTY, [other(9), None]) == EMPTY


def test_a_status_that_shows_a_part_proves_nothing() -> None:
    """What it leaves out may be a newer change to the very object."""
    assert installed_by_all(ALL, EMPTY, [other(9, whole=False)]) == EMPTY


def test_nothing_is_forgotten_while_another_knows_what_is_not_known_here() -> None:
    """It may have been made together with the deletion, and win."""
    assert installed_by_all(CNSet.span(REPLICA, 1, 8), EMPTY, [other(9)]) == EMPTY


def tombstones() -> Draft:
    """A directory 1 with a file 2 in it, both gone; a live file 3."""
    draft = Draft(MemoryView(FOLDER, REPLICA))
    draft.put(ObjectState(record(uid(1), DIRECTORY, place(ROOT, b"d", 1), gone(3, 1))))
    draft.put(ObjectState(record(uid(2), FILE, place(uid(1), b"f", 2), gone(4, 2))))
    draft.put(ObjectState(record(uid(3), FILE, place(ROOT, b"g", 5), content(5))))
    return draft


def test_a_tombstone_goes_after_those_in_it() -> None:
    draft = tombstones()
    assert not may_drop(draft, uid(1), ALL)
    assert may_drop(draft, uid(2), ALL)
    draft.drop(uid(2))
    assert may_drop(draft, uid(1), ALL)


def test_both_registers_are_installed_by_all() -> None:
    draft = tombstones()
    assert not may_drop(draft, uid(2), CNSet.of([Cn(REPLICA, 2)]))
    assert not may_drop(draft, uid(2), CNSet.of([Cn(REPLICA, 4)]))
    assert may_drop(draft, uid(2), CNSet.of([Cn(REPLICA, 2), Cn(REPLICA, 4)]))


def test_what_lives_is_not_forgotten() -> None:
    assert not may_drop(tombstones(), uid(3), ALL)
    assert not may_drop(tombstones(), uid(9), ALL)


@pytest.mark.parametrize(
    "changes", [{"pending": True}, {"node": 7}, {"kept": True}, {"beneath": 7, "beneath_seen": None}], ids=str
)
def test_what_hangs_on_the_disk_or_the_tree_is_not_forgotten(changes: dict[str, object]) -> None:
    draft = tombstones()
    draft.update(uid(2), **changes)
    assert not may_drop(draft, uid(2), ALL)


def test_what_lacks_a_register_is_not_forgotten() -> None:
    draft = Draft(MemoryView(FOLDER, REPLICA))
    draft.put(ObjectState(record(uid(1), FILE, None, gone(3, 1))))
    assert not may_drop(draft, uid(1), ALL)


@pytest.mark.parametrize(
    ("circle", "may"),
    [
        (Circle(True, frozenset(), alone=True, founded=True), True),
        (Circle(True, frozenset({"b"}), alone=False, founded=True), True),
        (Circle(True, frozenset(), alone=False, founded=True), False),
        (Circle(False, frozenset({"b"}), alone=False, founded=True), False),
    ],
    ids=["alone in the folder", "with a living one", "all others have lapsed", "lapsed itself"],
)
def test_without_another_living_member_nothing_is_forgotten(circle: Circle, may: bool) -> None:
    assert circle.may_collect is may


def test_of_whom_a_member_waits_those_are_left_out_that_have_lapsed() -> None:
    one, other, away = "1" * 64, "2" * 64, "3" * 64
    keeps = dict.fromkeys((one, other, away), FolderMember(True, DECLARED))
    info = FolderInfo(b"folder", "docs", {}, keeps, None)
    reading = Reading({}, frozenset(), {away: Lapsed(2, 1)}, {b"folder": info}, {}, {}, {})
    assert circle_of(reading, b"folder", one, heard=True) == Circle(
        True, frozenset({other}), alone=False, founded=False
    )
    assert circle_of(reading, b"folder", away, heard=False) == Circle(
        False, frozenset({one, other}), alone=False, founded=False, heard=False
    )
    assert circle_of(reading, b"other", one, heard=True) is None
