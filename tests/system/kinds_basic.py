"""Kinds of change: each kind of entry, and what `mv`, `rm`, writing and `chmod` make of them."""

import os
import shutil
from pathlib import Path

from replicad.core.manifest import SMALL_FILE_BYTES
from tests.system.folder_tools import MTIME_NS, put
from tests.system.kind import Kind

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


BASIC = (
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
