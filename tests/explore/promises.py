"""What must hold: at each step, and where nothing is left to do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec

from replicad.core.cnset import CNSet
from replicad.core.full_tree import full_tree
from replicad.core.records import FILE, content_key, place_key
from replicad.core.tree import tree_of
from tests.explore import disk as disks
from tests.explore.catalog import Catalog
from tests.explore.member import Living, Made, Member

if TYPE_CHECKING:
    from tests.explore.space import Space, State

Tree = dict[bytes, tuple[int, int, bytes]]


class Broken(AssertionError):
    """A promise was."""


def check_knowledge(member: Member, fresh: CNSet, made: Iterable[Made]) -> None:
    """I2: of each CN that is new in what a member knows the register is held, or one that beats it."""
    states = {state.record.uid: state.record for state in member.stored.states}
    who = member.stored.replica
    for one in made:
        if one.cn not in fresh:
            continue
        held = states.get(one.uid)
        register = None if held is None else held.content if one.content else held.place
        if held is None or register is None:
            raise Broken(f"I2: {who} claims {one.cn} and does not hold it")
        key = content_key(held) if one.content else place_key(held)
        if tuple(key) < one.key:
            raise Broken(f"I2: {who} claims {one.cn} and holds an older version")


def check_settled(space: Space, state: State) -> None:
    """Everything was looked at, exchanged and installed."""
    one, other = state.members
    if one.stored.known != other.stored.known or one.stored.digest != other.stored.digest:
        raise Broken("I1: both are at rest, and do not know the same")
    for number, member in enumerate(state.members):
        _check_tree(number, member)
        _check_echo(number, member, state.operations)
    if shown(one) != shown(other):
        raise Broken(f"I1: {shown(one)} and {shown(other)}")
    _check_contents(state)


def shown(member: Member) -> Tree:
    """What users see."""
    return {path: (entry.kind, entry.mode, entry.data) for path, entry in sorted(disks.tree(member.disk))}


def _check_tree(number: int, member: Member) -> None:
    catalog = Catalog(member.stored)
    whole = full_tree((state.record for state in member.stored.states), siblings=False)
    if tree_of(catalog) != whole:
        raise Broken(f"I1: the tree that {number} kept up is not the tree computed whole")
    waiting = catalog.pending(1)
    if waiting or member.stored.intents or member.stored.outs:
        raise Broken(f"{number} is at rest with something left to install")
    disk = {path: entry.kind for path, entry in disks.tree(member.disk)}
    if disk != {path: outcome.kind for path, outcome in whole.items()}:
        raise Broken(f"I1: the disk of {number} is not the tree: {disk}")
    if any(name != b"witness" for name, _ in disks.private(member.disk, b"staging")):
        raise Broken(f"{number} has left something in staging")


def _check_echo(number: int, member: Member, operations: int) -> None:
    """I9: another look at everything finds nothing new."""
    owing = msgspec.structs.replace(member, unwatched=True)
    living = Living(owing, operations)
    living.watch.close()
    living.scan()
    again = living.done().member.stored
    if (again.counter, again.digest) != (member.stored.counter, member.stored.digest) or any(
        state.pending for state in again.states
    ):
        raise Broken(f"I9: another look makes {number} write {again.counter - member.stored.counter} changes")


def _check_contents(state: State) -> None:
    ghost = state.ghost
    live = {data for kind, _, data in shown(state.members[0]).values() if kind == FILE}
    kept = {data for member in state.members for data in disks.stored(member.disk)}
    lost = ghost.written - live - kept - ghost.destroyed
    if lost:
        raise Broken(f"I3: nobody took off {sorted(lost)}")
    back = (live & ghost.condemned) - ghost.affirmed
    if back:
        raise Broken(f"I7: {sorted(back)} had been taken off, and is back")
