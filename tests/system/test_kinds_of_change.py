"""Each kind of entry and each kind of change, on real disks: while the daemons run, and while one is stopped."""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from replicad.core.manifest import SMALL_FILE_BYTES
from tests.system.folder_tools import MTIME_NS, all_the_same, at_rest, head_of, names_in, put, wait
from tests.system.harness import Server, Servers, until
from tests.tree_compare import read_tree

SIZES = (0, 1, SMALL_FILE_BYTES - 1, SMALL_FILE_BYTES, SMALL_FILE_BYTES + 1, 3 * 2**20 + 7)
MTIMES_NS = (-1, -(10**18) - 123_456_789, 0, 1, 10**9 * 2**33 + 987_654_321)
"""Before 1970, at it, after the year 2106; to the nanosecond."""
NAMES = (
    b"line\nbreak",
    b"\xff\xfe not UTF-8",
    b"n" * 255,
    "e\u0301 and \u00e9".encode(),
    b" ",
    b"-rf",
    b"*?[",
    b"\\",
    b"\x01",
)
BIG_BYTES = 2**31 + 1


def entries(root: Path) -> None:
    """One of each kind of entry."""
    for size in SIZES:
        put(root / f"sizes/{size}", os.urandom(size))
    for number, mtime_ns in enumerate(MTIMES_NS):
        put(root / f"times/{number}", b"t", mtime_ns=mtime_ns)
    for mode in (0o400, 0o444, 0o600, 0o755, 0o4755, 0o2755, 0o1644):
        put(root / f"modes/{mode:o}", b"m", mode=mode)
    for name in NAMES:
        put(root / "names" / os.fsdecode(name), name)
        put(root / "names-of-directories" / os.fsdecode(name) / "f", name)
    (root / "empty/nested/deeper").mkdir(parents=True)
    (root / "closed").mkdir()
    put(root / "closed/inner/f", b"in a directory that nobody may write to")
    put(root / "closed/g", os.urandom(SMALL_FILE_BYTES * 2))
    for path in (root / "closed/inner", root / "closed"):
        path.chmod(0o555)
    (root / "sticky").mkdir()
    (root / "sticky").chmod(0o1777)
    (root / "links").mkdir()
    for link, target in (("dangling", "no/where"), ("absolute", "/etc"), ("up", "../../.."), ("directory", "../sizes")):
        (root / "links" / link).symlink_to(target)
    deep = root / "deep"
    for level in range(40):
        deep = deep / f"level-{level}"
    put(deep / "bottom", b"deep down")


def remove(root: Path) -> None:
    """All of it; the directories that are closed are opened first, since not only root runs this."""
    for path in (root / "closed", root / "closed/inner"):
        path.chmod(0o755)
    shutil.rmtree(root)


@dataclass(frozen=True)
class Kind:
    """A change, in a directory of its own: what is there before, and what is done."""

    name: str
    before: Callable[[Path], object]
    change: Callable[[Path], object]


def several(root: Path) -> None:
    for name in "abcd":
        put(root / name, b"content of " + name.encode())
    put(root / "d1/x", b"x in d1")
    put(root / "d1/sub/y", b"y in d1")
    put(root / "d2/x", b"x in d2")


def edit(root: Path) -> None:
    put(root / "a", b"another content, of another length", mtime_ns=MTIME_NS + 1)
    with (root / "b").open("r+b") as file:  # in place, as long as it was
        file.write(b"CONTENT")


def append_and_truncate(root: Path) -> None:
    with (root / "a").open("ab") as file:
        file.write(b", and more" * 20_000)
    os.truncate(root / "b", 3)
    os.truncate(root / "c", 0)
    os.truncate(root / "d", 200_000)


def save_as_editors_do(root: Path) -> None:
    (root / ".a.swp").write_bytes(b"a new a")
    (root / ".a.swp").replace(root / "a")
    (root / "b").rename(root / "b~")
    (root / "b").write_bytes(b"a new b")


def swap(root: Path, one: str, other: str) -> None:
    (root / one).rename(root / "between")
    (root / other).rename(root / one)
    (root / "between").rename(root / other)


def chain(root: Path) -> None:
    for name, to in (("d", "e"), ("c", "d"), ("b", "c"), ("a", "b")):
        (root / name).rename(root / to)


def chain_of_directories(root: Path) -> None:
    """Each into the other one's old place, and one of them beneath another."""
    (root / "d2").rename(root / "d3")
    (root / "d1").rename(root / "d2")
    (root / "d3").rename(root / "d2/d3")


def turn_inside_out(root: Path) -> None:
    """d1/sub becomes the parent of d1."""
    (root / "d1/sub").rename(root / "sub")
    (root / "d1").rename(root / "sub/d1")


def recreate(root: Path) -> None:
    for name in "ab":
        (root / name).unlink()
    put(root / "a", b"another a")
    put(root / "b", b"content of b")  # as it was
    shutil.rmtree(root / "d1")
    put(root / "d1/x", b"another x")


def file_becomes_directory(root: Path) -> None:
    (root / "a").unlink()
    put(root / "a/inside", b"in what was a file")
    (root / "b").unlink()
    (root / "b").symlink_to("c")


def directory_becomes_file(root: Path) -> None:
    shutil.rmtree(root / "d1")
    put(root / "d1", b"in place of a directory")
    shutil.rmtree(root / "d2")
    (root / "d2").symlink_to("d1")


def links_become(root: Path) -> None:
    (root / "to-file").unlink()
    put(root / "to-file", b"in place of a link")
    (root / "to-directory").unlink()
    put(root / "to-directory/x", b"beneath what was a link")
    (root / "retargeted").unlink()
    (root / "retargeted").symlink_to("elsewhere")


def links(root: Path) -> None:
    several(root)
    for name in ("to-file", "to-directory", "retargeted"):
        (root / name).symlink_to("a")


def modes_and_times(root: Path) -> None:
    (root / "a").chmod(0o4711)
    (root / "d1").chmod(0o700)
    os.utime(root / "b", ns=(0, -1_000_000_001))


def moves_out_of_a_deleted_directory(root: Path) -> None:
    (root / "d1/sub").rename(root / "saved")
    shutil.rmtree(root / "d1")


KINDS = (
    Kind("create", lambda root: root.mkdir(), entries),
    Kind("delete", entries, remove),
    Kind("edit", several, edit),
    Kind("append", several, append_and_truncate),
    Kind("save", several, save_as_editors_do),
    Kind("rename", several, lambda root: (root / "a").rename(root / "z")),
    Kind("move", several, lambda root: (root / "a").rename(root / "d1/sub/a")),
    Kind("replace", several, lambda root: (root / "a").rename(root / "b")),
    Kind("rename-directory", several, lambda root: (root / "d1").rename(root / "renamed")),
    Kind("move-directory", several, lambda root: (root / "d1").rename(root / "d2/d1")),
    Kind("rename-itself", several, lambda root: root.rename(root.parent / "itself-renamed")),
    Kind("swap", several, lambda root: swap(root, "a", "b")),
    Kind("swap-directories", several, lambda root: swap(root, "d1", "d2")),
    Kind("swap-kinds", several, lambda root: swap(root, "a", "d1")),
    Kind("chain", several, chain),
    Kind("chain-of-directories", several, chain_of_directories),
    Kind("inside-out", several, turn_inside_out),
    Kind("recreate", several, recreate),
    Kind("file-becomes", several, file_becomes_directory),
    Kind("directory-becomes", several, directory_becomes_file),
    Kind("link-becomes", links, links_become),
    Kind("modes", several, modes_and_times),
    Kind("out-of-deleted", several, moves_out_of_a_deleted_directory),
    Kind("hard-link", several, lambda root: os.link(root / "a", root / "d1/hard")),
)


def prepare(servers: Servers, members: Sequence[Server]) -> None:
    for kind in KINDS:
        kind.before(members[0].folder() / kind.name)
    all_the_same(servers, members)


def shown(member: Server) -> dict[bytes, object]:
    """What is on its disk, to be held against what the others have later."""
    return dict(read_tree(member.folder()))


@pytest.mark.parametrize("size", [2, 3])
def test_every_kind_of_change_arrives_while_all_run(servers: Servers, size: int) -> None:
    members = servers.group(size)
    prepare(servers, members)
    for number, kind in enumerate(KINDS):
        kind.change(members[number % size].folder() / kind.name)
    all_the_same(servers, members)
    at_rest(members)
    assert "rename-directory/renamed/sub/y" in names_in(members[0].folder())


@pytest.mark.parametrize("size", [2, 3])
def test_every_kind_of_change_arrives_that_was_made_while_its_member_was_stopped(servers: Servers, size: int) -> None:
    members = servers.group(size)
    prepare(servers, members)
    author = members[-1]
    author.stop()
    for kind in KINDS:
        kind.change(author.folder() / kind.name)
    (members[0].folder() / "meanwhile").write_bytes(b"on the other side")
    made = shown(author)
    author.start()
    all_the_same(servers, members)
    at_rest(members)
    assert (author.folder() / "meanwhile").read_bytes() == b"on the other side"
    (author.folder() / "meanwhile").unlink()
    assert shown(author) == made, "what its user had made has changed"


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
