"""Compares whole trees on disk: names, kinds, content, modes, mtimes in nanoseconds, targets of symlinks.

It shares no line with what it judges: standard library only, no import from replicad. The trees must be at rest.

What counts: of a file its content, its 12 mode bits and its mtime; of a directory its mode bits; of a symlink its
target. A directory's and a symlink's times are not compared, since every change beneath a directory moves them; nor is
the root itself, which is not an object. `.replicad` in the root is skipped, and only there.

    python -m tests.tree_compare ONE OTHER...      prints the differences; exit status 1 if there are any
"""

import hashlib
import os
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SKIPPED_IN_ROOT = b".replicad"
DIFFERENCES_SHOWN_MAX = 20  # in an assertion's message; a person reads no more

Tree = dict[bytes, "Entry"]
"""Path relative to the root, joined with `/`, to what is there."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One name. `content`: the SHA-256 of a file, the target of a symlink. None: the kind has no such thing."""

    kind: str
    mode: int | None = None
    size: int | None = None
    mtime_ns: int | None = None
    content: str | bytes | None = None


def read_tree(root: str | os.PathLike[str]) -> Tree:
    """Everything below `root`, without following a symlink. What cannot be read raises OSError: half a tree is none."""
    return dict(_walk(root))


def differences(one: Tree, other: Tree) -> list[str]:
    """One line for each name that differs, in the order of the names; empty if the trees are the same."""
    lines = []
    for path in sorted(one.keys() | other.keys()):
        if path not in other:
            lines.append(f"{_shown(path)}: only in the first")
        elif path not in one:
            lines.append(f"{_shown(path)}: only in the second")
        elif one[path] != other[path]:
            lines.append(f"{_shown(path)}: {_changes(one[path], other[path])}")
    return lines


def assert_same_trees(*roots: str | os.PathLike[str]) -> None:
    """AssertionError with the first differences if any of the trees differs from the first one."""
    first = read_tree(roots[0])
    for root in roots[1:]:
        lines = differences(first, read_tree(root))
        if lines:
            shown = "\n  ".join(lines[:DIFFERENCES_SHOWN_MAX])
            raise AssertionError(f"{roots[0]} and {root} differ in {len(lines)} names:\n  {shown}")


def _walk(root: str | os.PathLike[str]) -> Iterator[tuple[bytes, Entry]]:
    """By one directory handle, down by name and up by `..`: neither the length of a path nor the depth is limited."""
    here = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        todo: list[list[bytes]] = []  # for each level from the root, the directories still to be entered, last first
        trail: list[bytes] = []
        while True:
            directories = []
            for name in sorted(os.fsencode(entry) for entry in os.listdir(here)):
                if not trail and name == SKIPPED_IN_ROOT:
                    continue
                entry = _read_entry(here, name)
                if entry.kind == "directory":
                    directories.append(name)
                yield b"/".join((*trail, name)), entry
            todo.append(directories[::-1])
            while todo and not todo[-1]:
                todo.pop()
                if not todo:
                    return
                trail.pop()
                here = _step(here, b"..")
            trail.append(todo[-1].pop())
            here = _step(here, trail[-1])
    finally:
        os.close(here)


def _step(here: int, name: bytes) -> int:
    there = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=here)
    os.close(here)
    return there


def _read_entry(directory: int, name: bytes) -> Entry:
    status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    mode = stat.S_IMODE(status.st_mode)
    if stat.S_ISREG(status.st_mode):
        with open(os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=directory), "rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        return Entry("file", mode, status.st_size, status.st_mtime_ns, content)
    if stat.S_ISDIR(status.st_mode):
        return Entry("directory", mode)
    if stat.S_ISLNK(status.st_mode):
        return Entry("symlink", content=os.readlink(name, dir_fd=directory))
    return Entry("other", stat.S_IFMT(status.st_mode))


def _changes(one: Entry, other: Entry) -> str:
    if one.kind != other.kind:
        return f"{one.kind} against {other.kind}"
    parts = []
    for field, show in (("mode", oct), ("size", str), ("mtime_ns", str), ("content", _shown_content)):
        ours, theirs = getattr(one, field), getattr(other, field)
        if ours != theirs:
            parts.append(f"{field} {show(ours)} against {show(theirs)}")
    return ", ".join(parts)


def _shown(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace").encode("unicode_escape").decode("ascii")


def _shown_content(content: str | bytes | None) -> str:
    return repr(content) if isinstance(content, bytes) else str(content)[:12]


def main(arguments: list[str]) -> int:
    if len(arguments) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    first, *others = arguments
    trees_differ = False
    for root in others:
        for line in differences(read_tree(Path(first)), read_tree(Path(root))):
            trees_differ = True
            print(f"{first} {root}: {line}")
    return 1 if trees_differ else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
