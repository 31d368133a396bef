"""What is moved from one replicated folder into another is deleted there and new here; nothing is lost or doubled."""

from collections.abc import Sequence
from pathlib import Path

from tests.system.folder_tools import put
from tests.system.harness import Server, Servers
from tests.tree_compare import Tree, read_tree

FOLDERS = ("docs", "more")


def two_folders(servers: Servers, size: int) -> list[Server]:
    members = servers.group(size)
    first, *others = members
    first.cli("folder", "create", "more", str(first.folder("more")))
    for member in others:
        first.cli("wait", "--folder", "docs", "--timeout", "60")
        member.cli("folder", "join", "more", str(member.folder("more")))
    all_the_same(servers, members)
    return members


def all_the_same(servers: Servers, members: Sequence[Server]) -> None:
    for member in members:
        servers.synchronized(member, members=len(members))
    for folder in FOLDERS:
        servers.same(members, folder)


def fill(folder: Path, what: str) -> None:
    for number in range(4):
        put(folder / f"f{number}", f"{what} {number}".encode())
        put(folder / f"d/{number}/x", f"{what} below {number}".encode() * 20_000)


def move(docs: Path, more: Path) -> None:
    """Files and directories both ways; two that change places; one that goes there and back."""
    (docs / "f0").rename(more / "from docs")
    (more / "f1").rename(docs / "from more")
    (docs / "d/0").rename(more / "d/from docs")
    (docs / "f2").rename(more / "between")
    (more / "f2").rename(docs / "f2")
    (more / "between").rename(more / "f2")
    (docs / "d/1").rename(more / "d/away")
    (more / "d/away").rename(docs / "d/back")
    put(more / "d/from docs/x", b"edited after the move")


def trees(member: Server) -> list[Tree]:
    return [read_tree(member.folder(folder)) for folder in FOLDERS]


def test_moves_between_two_replicated_folders_arrive_in_both_live_and_while_stopped(servers: Servers) -> None:
    one, two = members = two_folders(servers, 2)
    for folder in FOLDERS:
        fill(one.folder(folder), folder)
    all_the_same(servers, members)
    move(one.folder("docs"), one.folder("more"))
    made = trees(one)
    all_the_same(servers, members)
    assert trees(one) == made

    two.stop()
    move_back = [(two.folder("more") / "from docs", two.folder("docs") / "f0")]
    move_back += [(two.folder("docs") / "from more", two.folder("more") / "f1")]
    move_back += [(two.folder("more") / "d/from docs", two.folder("docs") / "d/0")]
    for source, target in move_back:
        source.rename(target)
    (two.folder("docs") / "d").rename(two.folder("more") / "all of d")
    made = trees(two)
    two.start()
    all_the_same(servers, members)
    assert trees(two) == made
    for member in members:
        assert [folder["blocked"] for folder in member.status()["folders"]] == [[], []]
        assert [folder["preserved"]["files"] for folder in member.status()["folders"]] == [0, 0]
