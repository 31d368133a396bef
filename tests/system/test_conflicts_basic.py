"""Two change the same while they are cut off from each other: one tree everywhere, and nothing is lost.

Who loses is preserved on the disks where it had been installed, which here is its author's (I3, rule 9).
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.system.folder_tools import MTIME_NS, all_the_same, at_rest, kept_contents, names_in, put, stay
from tests.system.harness import Server, Servers

LATER_NS = MTIME_NS + 10**9


@dataclass(frozen=True)
class Conflict:
    """In a directory of its own, common to both before: what each does. `kept` is still somewhere afterwards.

    `preserved`: how many files are preserved, on both together. `names`: what is in the directory in the end.
    """

    name: str
    one: Callable[[Path], object]
    other: Callable[[Path], object]
    preserved: int
    kept: tuple[bytes, ...]
    names: tuple[str, ...]


def before(root: Path) -> None:
    put(root / "f", b"before in " + root.name.encode())
    put(root / "d/x", b"x before in " + root.name.encode())


def write(name: str, data: bytes) -> Callable[[Path], None]:
    return lambda root: put(root / name, data)


def move(name: str, to: str) -> Callable[[Path], object]:
    return lambda root: (root / name).rename(root / to)


SAME = ("d", "d/x", "f")
CONFLICTS = (
    Conflict(
        "edit-edit",
        write("f", b"edit of one"),
        write("f", b"edit of the other"),
        1,
        (b"edit of one", b"edit of the other"),
        SAME,
    ),
    Conflict("edit-edit-equal", write("f", b"equal edits"), write("f", b"equal edits"), 0, (b"equal edits",), SAME),
    Conflict(
        "edit-delete",
        write("f", b"edited, not deleted"),
        lambda root: (root / "f").unlink(),
        0,
        (b"edited, not deleted",),
        SAME,
    ),
    Conflict(
        "delete-edit",
        lambda root: (root / "f").unlink(),
        write("f", b"edited not deleted"),
        0,
        (b"edited not deleted",),
        SAME,
    ),
    Conflict(
        "delete-delete", lambda root: (root / "f").unlink(), lambda root: (root / "f").unlink(), 0, (), ("d", "d/x")
    ),
    Conflict(
        "create-create",
        write("new", b"new of one"),
        write("new", b"new of the other"),
        1,
        (b"new of one", b"new of the other"),
        (*SAME, "new"),
    ),
    Conflict("create-create-equal", write("new", b"new"), write("new", b"new"), 0, (b"new",), (*SAME, "new")),
    Conflict(
        "create-create-directory",
        write("n/a", b"a in n"),
        write("n/b", b"b in n"),
        0,
        (b"a in n", b"b in n"),
        (*SAME, "n", "n/a", "n/b"),
    ),
    Conflict(
        "create-file-create-directory",
        write("n", b"file n"),
        write("n/b", b"b beneath n"),
        1,
        (b"file n", b"b beneath n"),
        (*SAME, "n", "n/b"),
    ),
    Conflict(
        "rename-edit",
        move("f", "g"),
        write("f", b"edited while renamed"),
        0,
        (b"edited while renamed",),
        ("d", "d/x", "g"),
    ),
    Conflict(
        "rename-directory-edit-in-it",
        move("d", "e"),
        write("d/x", b"edited in d"),
        0,
        (b"edited in d",),
        ("e", "e/x", "f"),
    ),
    Conflict(
        "rename-directory-create-in-it",
        move("d", "e"),
        write("d/y", b"made in d"),
        0,
        (b"made in d",),
        ("e", "e/x", "e/y", "f"),
    ),
    Conflict(
        "delete-directory-create-in-it",
        lambda root: shutil.rmtree(root / "d"),
        write("d/y", b"made in what was deleted"),
        0,
        (b"made in what was deleted",),
        ("d", "d/y", "f"),
    ),
    Conflict(
        "delete-directory-edit-in-it",
        lambda root: shutil.rmtree(root / "d"),
        write("d/x", b"edited in what was deleted"),
        0,
        (b"edited in what was deleted",),
        SAME,
    ),
)


def cut_off(servers: Servers) -> list[Server]:
    """Both run while they change, but never at the same time; each has written down its own before they meet."""
    one, other = members = servers.group(2)
    stay(members)
    for conflict in CONFLICTS:
        before(one.folder() / conflict.name)
    all_the_same(servers, members)
    other.stop()
    for conflict in CONFLICTS:
        conflict.one(one.folder() / conflict.name)
    one.ask("POST", "/v1/wait", {"members": 1})
    one.stop()
    other.start()
    for conflict in CONFLICTS:
        conflict.other(other.folder() / conflict.name)
    other.ask("POST", "/v1/wait", {"members": 1})
    one.start()
    return members


def test_i3_what_two_members_did_apart_is_one_tree_and_no_content_is_lost(servers: Servers) -> None:
    members = cut_off(servers)
    all_the_same(servers, members)
    names, kept = names_in(members[0].folder()), kept_contents(members)
    for conflict in CONFLICTS:
        under = {name.removeprefix(f"{conflict.name}/") for name in names if name.startswith(f"{conflict.name}/")}
        assert under == set(conflict.names), conflict.name
        assert set(conflict.kept) <= kept, conflict.name
    at_rest(members, preserved=sum(conflict.preserved for conflict in CONFLICTS))
    # Where the loser had been installed, which is with its author, and nowhere else.
    for member, side in zip(members, ("one", "the other"), strict=True):
        store = member.folder() / ".replicad/ConflictAndDeleted"
        for path in store.rglob("*"):
            if path.is_file() and b" of " in path.read_bytes():
                assert path.read_bytes().endswith(side.encode())
    for member in members:  # and so it stays
        member.stop()
        member.start()
    all_the_same(servers, members)
    at_rest(members, preserved=sum(conflict.preserved for conflict in CONFLICTS))
