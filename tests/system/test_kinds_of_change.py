"""Each kind of entry and each kind of change, on real disks: while the daemons run, and while one is stopped.

All kinds are made in one group, each in a directory of its own, by one author (in turn, where all run); then each has
a test of its own: every member has what the author had on its disk, and nothing was preserved or is blocked.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.system.folder_tools import all_the_same, at_rest, head_of, put, wait
from tests.system.harness import Server, Servers, until
from tests.system.kind import Kind
from tests.system.kinds_basic import BASIC
from tests.system.kinds_links import LINKS
from tests.system.kinds_moves import MOVES
from tests.system.kinds_names import NAMED
from tests.system.kinds_programs import PROGRAMS
from tests.tree_compare import Tree, differences, read_tree

KINDS = (*BASIC, *LINKS, *MOVES, *NAMED, *PROGRAMS)
BIG_BYTES = 2**31 + 1
WAIT_S = 110


@dataclass
class Group:
    """After all changes: who made which and what its author had on disk then."""

    members: Sequence[Server]
    authors: dict[str, Server] = field(default_factory=dict)
    made: dict[str, Tree] = field(default_factory=dict)
    failed: dict[str, BaseException] = field(default_factory=dict)

    def make(self, kind: Kind, author: Server) -> None:
        """What goes wrong in it is that kind's alone."""
        self.authors[kind.name] = author
        try:
            kind.change(author.folder() / kind.name)
        except (AssertionError, OSError) as error:
            self.failed[kind.name] = error
        self.made[kind.name] = tree_of(author, kind)


def tree_of(member: Server, kind: Kind) -> Tree:
    """What is in the directory of one kind; nothing where it has gone."""
    path = member.folder() / kind.name
    return read_tree(path) if path.exists() else {}


def possible(kind: Kind) -> bool:
    return all(shutil.which(program) for program in kind.needs)


@pytest.fixture(scope="module", params=[(2, "running"), (2, "stopped"), (3, "running"), (3, "stopped")], ids=str)
def group(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    size, how = request.param
    servers = Servers(tmp_path_factory.mktemp("kinds"))
    try:
        members = servers.group(size)
        found = Group(members)
        kinds = [kind for kind in KINDS if possible(kind)]
        for kind in kinds:
            kind.before(members[0].folder() / kind.name)
        all_the_same(servers, members)
        if how == "running":
            for number, kind in enumerate(kinds):
                found.make(kind, members[number % size])
        else:
            author = members[-1]
            author.stop()
            for kind in kinds:
                found.make(kind, author)
            (members[0].folder() / "meanwhile").write_bytes(b"on the other side")
            author.start()
        for member in members:
            wait(member, size, timeout_s=WAIT_S)
        yield found
    finally:
        servers.close()
        print(servers.logs())


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_change_is_on_every_member_as_its_author_made_it(group: Group, kind: Kind) -> None:
    if not possible(kind):
        pytest.skip(f"needs {', '.join(kind.needs)}")
    if kind.name in group.failed:
        raise group.failed[kind.name]
    for member in group.members:
        lines = differences(group.made[kind.name], tree_of(member, kind))
        assert not lines, f"{member.name} has not what {group.authors[kind.name].name} made: {lines[:20]}"
        kind.after(member.folder() / kind.name, group.authors[kind.name] is member)


@pytest.mark.timeout(300)
def test_after_all_changes_the_trees_are_equal_and_nothing_is_blocked_or_preserved(group: Group) -> None:
    first, *others = (read_tree(member.folder()) for member in group.members)
    for tree in others:
        assert differences(first, tree) == []
    at_rest(group.members)
    assert b"itself-renamed/d1/sub/y" in first


def test_a_renamed_directory_is_one_record_and_no_content(servers: Servers) -> None:
    members = servers.group(2)
    one, two = members
    for number in range(1_000):
        put(one.folder() / f"d/{number % 10}/f{number}", b"%d" % number)
    put(one.folder() / "d/big", os.urandom(5_000_000))
    all_the_same(servers, members)

    def inodes(folder: Path) -> set[int]:
        return {path.stat().st_ino for path in folder.rglob("*")}

    before, heads = inodes(two.folder() / "d"), (head_of(one), head_of(two))
    (one.folder() / "d").rename(one.folder() / "renamed")
    wait(one, 2)
    assert (head_of(one), head_of(two)) == (heads[0] + 1, heads[1] + 1)
    assert inodes(two.folder() / "renamed") == before, "entries were made anew"
    one.stop()
    (one.folder() / "renamed").rename(one.folder() / "while stopped")
    one.start()
    all_the_same(servers, members)
    assert (head_of(one), head_of(two)) == (heads[0] + 2, heads[1] + 2)
    assert inodes(two.folder() / "while stopped") == before, "entries were made anew"
    at_rest(members)


def test_a_file_that_its_owner_may_not_read_stops_only_itself(servers: Servers) -> None:
    """Root reads it all the same: then it arrives like any other."""
    one, two = members = servers.group(2)
    put(one.folder() / "secret", b"hidden", mode=0)
    put(one.folder() / "open", b"seen")
    if os.geteuid() == 0:
        all_the_same(servers, members)
        assert (two.folder() / "secret").stat().st_mode & 0o7777 == 0
    else:
        until("what can be read arrives", lambda: (two.folder() / "open").exists())
        shot = until("the other one is named", lambda: one.folder_status()["blocked"])
        assert [row["path"] for row in shot] == ["secret"]
        (one.folder() / "secret").chmod(0o600)
        all_the_same(servers, members)
    at_rest(members)


def test_big_file(servers: Servers) -> None:
    """More than 2 GiB, most of it a hole."""
    one, two = members = servers.group(2)
    with (one.folder() / "big").open("wb") as file:
        file.truncate(BIG_BYTES)
        file.write(b"beginning")
        file.seek(BIG_BYTES - 1)
        file.write(b"e")
    wait(one, 2, timeout_s=110)
    servers.same(members)
    assert (two.folder() / "big").stat().st_size == BIG_BYTES
    at_rest(members)
