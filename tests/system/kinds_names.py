"""Kinds of change: names of all bytes and lengths, paths longer than PATH_MAX, names that differ in case alone."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.system.folder_tools import put
from tests.system.kind import Kind

LEVELS = 24
LEVEL = b"x" * 250
"""24 of them: 6,000 bytes, where the kernel takes 4,096 in one call."""
BYTES = [bytes([value]) for value in range(1, 256) if value != 0x2F]
NAMES = (
    *(b"byte-" + value for value in BYTES),
    b"\n",
    b"\x1b[31mred\x1b[0m",
    b"\xe2\x80\xaereversed",
    b"half of \xe2\x80",
    b"\xed\xa0\x80 surrogate",
    b"\xc0\xaf overlong",
    b"\xff" * 255,
    "\u00fc".encode() * 127 + b"x",
    b"n" * 255,
    b"...",
    b" . ",
    b".replicad",
    b"CON",
    b"trailing.",
    b"%2e%2e%2f",
    b"$(touch x)",
)


FEW = (*NAMES[: len(BYTES) : 9], *NAMES[len(BYTES) :])


def named(root: Path, names: Sequence[bytes] = NAMES) -> None:
    for name in names:
        put(root / "files" / os.fsdecode(name), name)
        (root / "directories" / os.fsdecode(name) / os.fsdecode(name)).mkdir(parents=True)


def rename_all(root: Path) -> None:
    """Each file to its name backwards, each directory into another; invalid UTF-8 comes and goes by that."""
    files = os.fsencode(root / "files")
    for name in sorted(os.listdir(files)):
        if name not in (name[::-1], b"...") and not os.path.lexists(os.path.join(files, name[::-1])):
            os.rename(os.path.join(files, name), os.path.join(files, name[::-1]))
    (root / "files").rename(root / os.fsdecode(b"\xfe\nfiles"))
    put(root / os.fsdecode(b"\xfe\nfiles/" + NAMES[0]), b"edited")


def remove_all(root: Path) -> None:
    for name in FEW:
        (root / "files" / os.fsdecode(name)).unlink()


@contextmanager
def deep_down(root: Path, *, make: bool = False, levels: int = LEVELS) -> Iterator[int]:
    """A handle to the directory at the end of the long path."""
    root.mkdir(exist_ok=True)
    here = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for _ in range(levels):
            if make:
                os.mkdir(LEVEL, dir_fd=here)
            there = os.open(LEVEL, os.O_RDONLY | os.O_DIRECTORY, dir_fd=here)
            os.close(here)
            here = there
        yield here
    finally:
        os.close(here)


def write_at(directory: int, name: str, data: bytes) -> None:
    with open(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644, dir_fd=directory), "wb") as file:
        file.write(data)


def deep(root: Path) -> None:
    with deep_down(root, make=True) as directory:
        write_at(directory, "small", b"deep down")
        write_at(directory, "large", b"deep down" * 50_000)
        write_at(directory, "goes", b"to be removed")
        os.mkdir("d", dir_fd=directory)
        os.symlink("small", "link", dir_fd=directory)


def change_deep(root: Path) -> None:
    """Each kind of act beneath a path that the kernel does not take in one call."""
    with deep_down(root) as directory:
        write_at(directory, "small", b"edited, deep down")
        write_at(directory, "large", b"edited down" * 50_000)
        os.unlink("goes", dir_fd=directory)
        os.rename("link", "d/link", src_dir_fd=directory, dst_dir_fd=directory)
        os.chmod("d", 0o700, dir_fd=directory)
        os.utime("small", ns=(0, 10**18), dir_fd=directory)
        write_at(directory, "new", b"new")
    with deep_down(root, levels=LEVELS // 2) as directory:
        os.rename("x" * 250, "renamed in the middle", src_dir_fd=directory, dst_dir_fd=directory)


def cut_deep(root: Path) -> None:
    """The upper half goes over the lower one: what was deep is not any more."""
    with deep_down(root, levels=LEVELS // 2) as directory:
        os.rename("x" * 250, root / "shallow", src_dir_fd=directory)


def cased(root: Path) -> None:
    for name in ("Readme", "Both", "both", "Directory/File"):
        put(root / name, name.encode())


def change_case(root: Path) -> None:
    (root / "Readme").rename(root / "README")
    (root / "Directory").rename(root / "directory")
    (root / "directory/File").rename(root / "directory/file")
    (root / "Both").rename(root / "between")
    (root / "both").rename(root / "Both")
    (root / "between").rename(root / "both")


NAMED = (
    Kind("names", lambda root: root.mkdir(), named),
    Kind("names-renamed", lambda root: named(root, FEW), rename_all),
    Kind("names-removed", lambda root: named(root, FEW), remove_all),
    Kind("deeper-than-path-max", lambda root: root.mkdir(), deep),
    Kind("changed-deeper-than-path-max", deep, change_deep),
    Kind("from-deeper-than-path-max", deep, cut_deep),
    Kind("case-only-rename", cased, change_case),
)
