"""Members whose catalogs were lost or put back at one time, and a group that has begun anew (docs/safety.md, sections 4
and 5). A number is a file's content.
"""

from __future__ import annotations

import pytest

from replicad.catalog.database import MemoryDatabase
from replicad.core.cnset import CNSet
from replicad.core.effects import Received
from replicad.core.messages import Status
from replicad.core.messages_meeting import Judged
from replicad.engine import exchange_pages
from replicad.engine.folder_events import FolderEvent
from replicad.engine.meeting import life_of
from replicad.engine.phases import Phase
from tests.sim.group import Group
from tests.sim.member import SimMember
from tests.sim.script import a_group, assert_tree, cut_off, delete, put, remove_tree
from tests.sim.user import User


def put_back(group: Group, catalogs: dict[str, MemoryDatabase | None], *, mark: bool = True) -> None:
    """At once, each to a backup, or to nothing. `mark`: that in the home stays, where there is a backup."""
    for name in catalogs:
        group[name].crash()
    for name, backup in catalogs.items():
        group[name].put_catalog_back(backup, home=backup is None or not mark)
        group.ledger.forgot(group[name])
    for name in catalogs:
        group[name].start()


def judged_after_status(member: SimMember) -> None:
    """What a peer has to say of its catalog comes after what that peer knows itself."""
    post, late = member.post, list[Received]()

    def held_up(event: FolderEvent) -> None:
        message = event.message if isinstance(event, Received) else None
        if isinstance(message, Judged) and isinstance(event, Received):
            late.append(event)
            return
        post(event)
        if isinstance(message, Status):
            for one in late:
                post(one)
            late.clear()

    member.post = held_up  # type: ignore[method-assign]


def test_what_lies_in_a_directory_of_its_own_that_nobody_knows_any_more_is_dropped_with_it() -> None:
    """a and b have begun anew, and b is put back to a time before. Its directory was never shown by who is there now;
    the other one's file in it would be asked after for ever."""
    group = a_group("ab", {"f": 1})
    a, b = group["a"], group["b"]
    User(b).mkdir(b"d")
    group.heal()
    put(a, "d/e", 2)
    group.heal()
    backups = {member.name: member.database.copy() for member in (a, b)}
    remove_tree(a, "d")
    group.heal()
    put_back(group, backups)
    group.heal()
    put_back(group, {"b": backups["b"]}, mark=False)
    judged_after_status(b)
    group.heal()
    assert_tree(group, {"f": 1})


def test_i7_who_was_put_back_tells_nobody_what_it_holds_until_it_has_learned() -> None:
    """It may be dead. a has lost everything, and would take it for what the group holds."""
    group = a_group("ab", {"f": 1, "g": 2})
    a, b = group["a"], group["b"]
    backup, known = b.database.copy(), b.catalog.known
    delete(b, "g")
    group.heal()
    put_back(group, {"a": None, "b": backup})
    post, late = b.post, list[FolderEvent]()

    def held_up(event: FolderEvent) -> None:
        """It does not hear yet how a stands."""
        is_status = isinstance(event, Received) and isinstance(event.message, Status)
        (late.append if is_status else post)(event)

    b.post = held_up  # type: ignore[method-assign]
    group.run(10_000)
    assert b.running.phase is Phase.LEARNING
    assert not any(a.catalog.known.last(replica) for replica, _ in known.items())
    b.post = post  # type: ignore[method-assign]
    for event in late:
        b.post(event)
    group.heal()
    assert_tree(group, {"f": 1})


def test_a_folder_is_founded_again_with_nothing_in_the_catalog_and_in_a_new_life() -> None:
    """a had begun to learn from c when c was removed; b has lost everything as well."""
    group = a_group("abc", {"f": 1, "g": 2})
    a = group["a"]
    learned: list[tuple[CNSet, int]] = []

    def look(member: SimMember) -> None:
        if member is a and a.up and not learned and a.running.phase is Phase.LEARNING and a.catalog.known:
            learned.append((a.catalog.known, life_of(a.catalog)))
            group.retire("c")

    group.on_handled = look
    cut_off(group, "b")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exchange_pages, "PAGE_RECORDS_MAX", 1)
        put_back(group, {"a": None, "b": None})
        group.run(60_000)
    [(known, life)] = learned
    assert a.running.phase is Phase.LEARNING
    group.heal()
    assert not any(a.catalog.known.last(replica) for replica, _ in known.items())
    assert life_of(a.catalog) > life
    assert_tree(group, {"f": 1, "g": 2})
