"""Kinds of change: moves, names that are used again, writes, times."""

import os
import shutil
from pathlib import Path

from tests.system.folder_tools import MTIME_NS, put
from tests.system.kind import Kind, outside, run
from tests.system.kinds_basic import several

YEAR_NS = 365 * 86_400 * 10**9


def in_and_out(root: Path) -> None:
    """Files and directories leave the folder, others come in, and one that had left comes back elsewhere."""
    beside = outside(root)
    for name in ("a", "b", "d1", "d2"):
        (root / name).rename(beside / name)
    put(beside / "new/f", b"made outside")
    put(beside / "new-file", b"made outside, too")
    (beside / "new").rename(root / "in")
    (beside / "new-file").rename(root / "b")
    (beside / "d2").rename(root / "d1")
    put(beside / "a", b"content of a, edited outside")
    (beside / "a").rename(root / "back")


def move_into_sibling(root: Path) -> None:
    """While files in the directory change, before and after it has moved, through handles that know nothing of it."""
    with (root / "d1/x").open("ab") as file, (root / "d1/sub/y").open("r+b") as other:
        file.write(b", before")
        (root / "d1").rename(root / "d2/moved")
        file.write(b", after")
        other.write(b"Y")
        other.truncate(5)
        put(root / "d2/moved/sub/new", b"made after the move")
        (root / "d2/moved/sub").rename(root / "d2/sub")
        file.flush()


def long_chain(root: Path) -> None:
    """log -> log.1 -> log.2 …, as logrotate does; and a new log."""
    for number in range(8, 0, -1):
        (root / f"log.{number}").rename(root / f"log.{number + 1}")
    (root / "log").rename(root / "log.1")
    put(root / "log", b"begins")


def logs(root: Path) -> None:
    put(root / "log", b"the log")
    for number in range(1, 9):
        put(root / f"log.{number}", b"log %d" % number)


def ring(root: Path) -> None:
    """a -> b -> c -> d -> a, and two directories that each go into the other one's place with files swapped in them."""
    (root / "d").rename(root / "between")
    for name, to in (("c", "d"), ("b", "c"), ("a", "b"), ("between", "a")):
        (root / name).rename(root / to)
    (root / "d1/x").rename(root / "held")
    (root / "d2/x").rename(root / "d1/x")
    (root / "held").rename(root / "d2/x")
    (root / "d1").rename(root / "between")
    (root / "d2").rename(root / "d1")
    (root / "between").rename(root / "d2")


def replace_again(root: Path) -> None:
    """Removed and made at once, a hundred times, under the same and other names: inode numbers come again."""
    for number in range(100):
        put(root / "same", b"%d" % number)
        put(root / f"at-{number % 5}", b"%d" % number)
        (root / f"at-{number % 5}").unlink()
        (root / "same").unlink()
        (root / "e").mkdir()
        (root / "e").rmdir()
    put(root / "same", b"the last")
    put(root / "e", b"a file in the end")
    (root / "a").unlink()
    put(root / "new-with-its-inode", b"not what a was")
    shutil.rmtree(root / "d1")
    (root / "new-d1").mkdir()
    put(root / "new-d1/x", b"not what was in d1")


def over(root: Path) -> None:
    """`mv` and `cp -p`: onto files that are there, older ones too, in the same and another directory."""
    put(root / "old", b"older content", mtime_ns=MTIME_NS - 10 * YEAR_NS)
    put(root / "older", b"older still", mtime_ns=MTIME_NS - 20 * YEAR_NS)
    run(root, "mv", "-f", "a", "b")
    run(root, "mv", "-f", "old", "d1/x")
    run(root, "cp", "-p", "older", "c")
    run(root, "cp", "-p", "older", "d2/x")


def times(root: Path) -> None:
    """`touch`, `touch -d`, an mtime set back before and after a write of the same length, and `chmod` alone."""
    run(root, script="touch a && touch -d '1999-12-31 23:59:59.123456789' b && chmod 600 d && chmod 711 d1")
    with (root / "c").open("r+b") as file:
        file.write(b"CONTENT")
    os.utime(root / "c", ns=(MTIME_NS, MTIME_NS))


def time_set_back(root: Path, own: bool) -> None:
    assert (root / "c").read_bytes() == b"CONTENT of c"
    assert (root / "c").stat().st_mtime_ns == MTIME_NS
    assert (root / "d").stat().st_mode & 0o777 == 0o600


def to_and_fro(root: Path) -> None:
    """A file that becomes a directory and a file again, the other way round, and each of them a link in between."""
    for _ in range(2):
        (root / "a").unlink()
        put(root / "a/inside/f", b"deep")
        shutil.rmtree(root / "a")
        put(root / "a", b"a file again")
        shutil.rmtree(root / "d1")
        (root / "d1").symlink_to("d2")
        (root / "d1").unlink()
        put(root / "d1", b"a file")
        (root / "d1").unlink()
        put(root / "d1/x", b"x in d1, again")
    (root / "b").unlink()
    put(root / "b/c/d", b"where a file was")
    shutil.rmtree(root / "d2")
    put(root / "d2", b"where a directory was")


def move_up_while_parent_goes(root: Path) -> None:
    """What is beneath is saved from a directory that is removed, into one that takes its very name."""
    (root / "d1/sub").rename(root / "new")
    shutil.rmtree(root / "d1")
    (root / "new").rename(root / "d1")


MOVES = (
    Kind("into-and-out-of-the-folder", several, in_and_out),
    Kind("into-sibling-while-written", several, move_into_sibling),
    Kind("rotated-logs", logs, long_chain),
    Kind("ring", several, ring),
    Kind("inodes-come-again", several, replace_again),
    Kind("mv-and-cp-p-over", several, over),
    Kind("touch-and-chmod", several, times, time_set_back),
    Kind("kinds-to-and-fro", several, to_and_fro),
    Kind("takes-its-parents-name", several, move_up_while_parent_goes),
)
