"""Named scenarios as scripts: `a group, what its users do, heal, what must be there`.

`x=1` in a scenario's text is `put(a, "x", 1)` here: a file whose content is that number. Trees are dictionaries of
paths: a number for a file, None for a directory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from replicad.files.fs import DIRECTORY, FILE
from replicad.files.paths import split
from tests.sim.group import Group, disk_tree, files, preserved
from tests.sim.ledger import records_of
from tests.sim.member import SimMember
from tests.sim.user import User

Tree = Mapping[str, int | None]


def tree(member: SimMember) -> dict[str, int | None]:
    """What is on a member's disk."""
    found: dict[str, int | None] = {}
    for path, (stat, data) in member.fs.read_tree().items():
        if stat.kind == FILE:
            found[path.decode()] = int(data)
        elif stat.kind == DIRECTORY:
            found[path.decode()] = None
    return found


def put(member: SimMember, path: str, number: int) -> None:
    """Make or edit a file, and the directories above it."""
    at = path.encode()
    above = []
    while at := split(at)[0]:
        above.append(at)
    for directory in reversed(above):
        if member.fs.stat(directory) is None:
            User(member).mkdir(directory)
    User(member).write(path.encode(), b"%d" % number)


def move(member: SimMember, source: str, target: str) -> None:
    User(member).rename(source.encode(), target.encode())


def delete(member: SimMember, path: str) -> None:
    User(member).delete(path.encode())


def remove_tree(member: SimMember, path: str) -> None:
    User(member).remove_tree(path.encode())


def kept(member: SimMember) -> list[int]:
    """The contents of preserved files."""
    return sorted(int(data) for data in preserved(member))


def a_group(names: str, first: Tree | None = None, **options: Any) -> Group:
    """Members that have `first` everywhere, made by the first of them."""
    group = Group(names, **options)
    group.start_all()
    group.run(2_000)
    for path, number in (first or {}).items():
        if number is None:
            User(group[names[0]]).mkdir(path.encode())
        else:
            put(group[names[0]], path, number)
    group.heal()
    return group


def apart(group: Group) -> None:
    """Nobody hears of anybody; each looks at its disk all the same."""
    for one in group.members:
        cut_off(group, one)


def cut_off(group: Group, name: str) -> None:
    """All links of this member."""
    for other in group.members:
        if other != name:
            group.network.cut(name, other)
            group.network.cut(other, name)


def join(group: Group, one: str, other: str) -> None:
    """A link between these two, whatever else is cut."""
    group.network.unite(one, other)


def started_apart(disks: dict[str, Tree], **options: Any) -> Group:
    """Declared members that found a folder, each with its own disk, before any contact; their first scans are done."""
    group = Group("".join(disks), **options)
    apart(group)
    for name, first in disks.items():
        for path, number in first.items():
            if number is not None:
                put(group[name], path, number)
    group.start_all()
    group.run(5_000)
    return group


def assert_tree(group: Group, expected: Tree) -> None:
    """The same on every member, and all that the simulator checks of a healed group."""
    whole = dict(expected)
    for path in expected:
        at = path
        while at := at.rpartition("/")[0]:
            whole.setdefault(at, None)
    for member in group.members.values():
        assert tree(member) == dict(sorted(whole.items())), f"on {member.name}"
    group.check()


def assert_nothing_kept(group: Group, members: Iterable[SimMember] | None = None) -> None:
    for member in members or group.members.values():
        assert kept(member) == [], f"preserved on {member.name}"


__all__ = [
    "Tree",
    "a_group",
    "apart",
    "assert_nothing_kept",
    "assert_tree",
    "cut_off",
    "delete",
    "disk_tree",
    "files",
    "join",
    "kept",
    "move",
    "put",
    "records_of",
    "remove_tree",
    "started_apart",
    "tree",
]
