"""What is moved from one replicated folder into another is deleted there and new here; nothing is lost or doubled."""

from collections.abc import Sequence
from pathlib import Path

from tests.system.folder_tools import put, wait
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
        wait(member, len(members))
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
    """Of three members; one that runs moves other entries while the last one is stopped."""
    one, two, last = members = two_folders(servers, 3)
    for folder in FOLDERS:
        fill(one.folder(folder), folder)
    all_the_same(servers, members)
    move(one.folder("docs"), one.folder("more"))
    made = trees(one)
    all_the_same(servers, members)
    assert trees(one) == made

    last.stop()
    move_back = [(last.folder("more") / "from docs", last.folder("docs") / "f0")]
    move_back += [(last.folder("docs") / "from more", last.folder("more") / "f1")]
    move_back += [(last.folder("more") / "d/from docs", last.folder("docs") / "d/0")]
    for source, target in move_back:
        source.rename(target)
    (last.folder("docs") / "d").rename(last.folder("more") / "all of d")
    made = trees(last)
    (two.folder("more") / "f0").rename(two.folder("docs") / "of the second")
    (two.folder("docs") / "f3").rename(two.folder("more") / "of the second")
    made[0][b"of the second"], made[1][b"of the second"] = made[1].pop(b"f0"), made[0].pop(b"f3")
    last.start()
    all_the_same(servers, members)
    assert trees(last) == made
    for member in members:
        assert [folder["blocked"] for folder in member.status()["folders"]] == [[], []]
        assert [folder["preserved"]["files"] for folder in member.status()["folders"]] == [0, 0]


def test_i3_what_two_move_apart_out_of_one_folder_into_another_is_there_once_or_twice_and_never_lost(
    servers: Servers,
) -> None:
    """A move between folders is a deletion and a creation: edited in the one meanwhile, it stays there as well."""
    one, two, three = members = two_folders(servers, 3)
    for name in ("edited", "both", "apart", "d/x"):
        put(one.folder("docs") / name, name.encode())
    all_the_same(servers, members)
    three.stop()
    for name in ("edited", "both", "apart", "d"):
        (three.folder("docs") / name).rename(three.folder("more") / name)
    put(one.folder("docs") / "edited", b"edited where it was")
    put(one.folder("docs") / "d/y", b"made where it was")
    (two.folder("docs") / "both").rename(two.folder("more") / "both")
    (two.folder("docs") / "apart").rename(two.folder("more") / "another name")
    for member in (one, two):
        wait(member, 2)
    three.start()
    all_the_same(servers, members)
    docs, more = ({path.decode() for path in tree} for tree in trees(one))
    assert docs == {"edited", "d", "d/y"}
    assert more == {"edited", "both", "apart", "another name", "d", "d/x"}
    assert (two.folder("docs") / "edited").read_bytes() == b"edited where it was"
    assert (two.folder("more") / "edited").read_bytes() == b"edited"
    for member in members:
        assert [folder["preserved"]["files"] for folder in member.status()["folders"]] == [0, 0]
