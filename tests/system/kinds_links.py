"""Kinds of change: symlinks, hard links, holes."""

import os
from pathlib import Path

from replicad.core.manifest import SMALL_FILE_BYTES
from tests.system.folder_tools import put
from tests.system.kind import Kind, outside, run

HOLE_BYTES = 16 * 2**20
TARGETS = ("/etc", "../../../..", "inside", "inside/f", "no/where", "self", ".", "/", "a" * 4095, "\n\\ \x01")


def symlinks(root: Path) -> None:
    put(root / "inside/f", b"beneath what some links point to")
    for number, target in enumerate(TARGETS):
        (root / f"link-{number}").symlink_to("self" if target == "self" else target)
    (root / "not-utf-8").symlink_to(os.fsdecode(b"\xff\xfe"))


def linked_outside(root: Path) -> None:
    """A directory outside the folder, full of files, and a link to it: what is in it is nobody's business."""
    put(outside(root) / "secret", b"never to be seen")
    root.mkdir()
    (root / "out").symlink_to(outside(root))


def write_through_link(root: Path) -> None:
    put(root / "out/secret", b"written through the link")
    put(root / "out/more/secret", b"made through the link")


def not_followed(root: Path, own: bool) -> None:
    assert (root / "out").is_symlink()
    assert not any(path.name == "secret" for path in root.rglob("*") if "out" not in path.relative_to(root).parts)


def directory_becomes_symlink(root: Path) -> None:
    """`mv d elsewhere; ln -s elsewhere d`, and one whose files are gone."""
    (root / "d").rename(root / "moved")
    (root / "d").symlink_to("moved")
    run(root, script="rm -r e && ln -s / e")


def with_files(root: Path) -> None:
    for name in ("d/x", "d/sub/y", "e/x", "f", "g", "d/h"):
        put(root / name, b"content of " + name.encode())


def hard_links(root: Path) -> None:
    """Two names of one file, made in each way in which a move is looked for; then one of them written to."""
    os.link(root / "f", root / "f-again")
    os.link(root / "f", root / "d/f-below")
    os.link(root / "d/h", root / "d/h-again")
    (root / "d").rename(root / "renamed")
    run(root, "cp", "-al", "renamed", "copied")
    with (root / "g").open("ab") as file:
        os.link(root / "g", root / "g-again")
        file.write(b", and more")


def replicated_apart(root: Path, own: bool) -> None:
    names = ("f", "f-again", "renamed/f-below", "renamed/h", "renamed/h-again", "g", "g-again", "copied/x")
    links = {name: (root / name).stat().st_nlink for name in names}
    assert own or set(links.values()) == {1}, links
    assert not own or min(links.values()) > 1, links


def linked(root: Path) -> None:
    with_files(root)
    for name in ("f", "g"):
        os.link(root / name, root / f"{name}-again")


def change_one_of_two(root: Path) -> None:
    """One name goes, one is renamed, one gets a file of its own, as editors that save by a rename do."""
    (root / "f").unlink()
    (root / "g-again").rename(root / "d/g-elsewhere")
    put(root / "new", b"saved")
    (root / "new").rename(root / "g")


def before_clone(root: Path) -> None:
    root.mkdir()
    run(root, "git", "init", "-q", "one")
    for number in range(12):
        put(root / f"one/d{number % 4}/f{number}", b"%d" % number)
    run(root / "one", script="git add . && git -c user.name=n -c user.email=e@x commit -q -m first")


def clone(root: Path) -> None:
    """A local clone: its objects are hard links to those of the repository."""
    run(root, "git", "clone", "-q", "one", "two")


def cloned(root: Path, own: bool) -> None:
    for repository in ("one", "two"):  # git writes its index anew where it may: then this test would be an edit
        run(root / repository, script='git fsck --strict && test -z "$(git --no-optional-locks status --porcelain)"')


def sparse(root: Path) -> None:
    """Holes in files of all sizes: before, between and behind data, all hole, and smaller than a chunk."""
    root.mkdir(exist_ok=True)
    for name, size, places in (
        ("all-hole", HOLE_BYTES, ()),
        ("data-first", HOLE_BYTES, (0,)),
        ("data-last", HOLE_BYTES, (HOLE_BYTES - 10_000,)),
        ("data-between", HOLE_BYTES, (5_000_000, 9_000_000, 9_300_001)),
        ("small", SMALL_FILE_BYTES, (SMALL_FILE_BYTES - 4_000,)),
        ("small-all-hole", SMALL_FILE_BYTES - 1, ()),
        ("middle", 500_000, (250_000,)),
    ):
        with (root / name).open("wb") as file:
            file.truncate(size)
            for place in places:
                file.seek(place)
                file.write(os.urandom(3_000))


def more_in_sparse(root: Path) -> None:
    """Data into a hole, a hole where data was, a longer hole at the end."""
    sparse(root)
    with (root / "all-hole").open("r+b") as file:
        file.seek(8_000_000)
        file.write(os.urandom(3_000))
    run(root, "fallocate", "--punch-hole", "--offset", "5000000", "--length", "5000", "data-between")
    os.truncate(root / "data-first", 2 * HOLE_BYTES)


def still_sparse(root: Path, own: bool) -> None:
    for path in root.iterdir():
        stat = path.stat()
        assert stat.st_blocks * 512 <= min(HOLE_BYTES // 50, stat.st_size // 2), (path.name, stat.st_blocks * 512)


LINKS = (
    Kind("symlinks", lambda root: root.mkdir(), symlinks),
    Kind("symlink-out", linked_outside, write_through_link, not_followed),
    Kind("directory-becomes-symlink", with_files, directory_becomes_symlink),
    Kind("hard-links", with_files, hard_links, replicated_apart),
    Kind("one-of-two-hard-links", linked, change_one_of_two),
    Kind("git-clone", before_clone, clone, cloned, ("git",)),
    Kind("sparse", lambda root: root.mkdir(), sparse, still_sparse),
    Kind("sparse-edited", sparse, more_in_sparse, still_sparse, ("fallocate",)),
)
