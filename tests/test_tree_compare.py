"""The judge is tested too: each property of a tree that it claims to compare is changed alone."""

import ast
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import tree_compare
from tests.tree_compare import assert_same_trees, differences, main, read_tree

MTIME_NS = 1_700_000_000_123_456_789


def make_tree(root: Path) -> Path:
    (root / "d" / "empty").mkdir(parents=True)
    (root / "d").chmod(0o755)
    (root / "d" / "f").write_bytes(b"content")
    (root / "nothing").write_bytes(b"")
    (root / "link").symlink_to("d/f")
    (root / "dangling").symlink_to("nowhere")
    for name in ("d/f", "nothing"):
        (root / name).chmod(0o644)
        os.utime(root / name, ns=(MTIME_NS, MTIME_NS))
    return root


def keep_times(path: Path, act: Callable[[], object]) -> None:
    act()
    os.utime(path, ns=(MTIME_NS, MTIME_NS))


def replace_by_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def retarget(link: Path, target: str) -> None:
    link.unlink()
    link.symlink_to(target)


CHANGES: list[tuple[Callable[[Path], object], str]] = [
    (lambda t: (t / "new").write_bytes(b""), "new: only in the second"),
    (lambda t: (t / "nothing").unlink(), "nothing: only in the first"),
    (lambda t: (t / "d/empty").rmdir(), "d/empty: only in the first"),
    (lambda t: keep_times(t / "d/f", lambda: (t / "d/f").write_bytes(b"CONTENT")), "d/f: content "),
    (lambda t: keep_times(t / "nothing", lambda: (t / "nothing").write_bytes(b"x")), "nothing: size 0 against 1"),
    (lambda t: (t / "d/f").chmod(0o600), "d/f: mode 0o644 against 0o600"),
    (lambda t: (t / "d/f").chmod(0o4644), "d/f: mode 0o644 against 0o4644"),
    (lambda t: (t / "d").chmod(0o700), "d: mode "),
    (lambda t: os.utime(t / "d/f", ns=(0, MTIME_NS + 1)), f"d/f: mtime_ns {MTIME_NS} against {MTIME_NS + 1}"),
    (lambda t: retarget(t / "link", "d/empty"), "link: content b'd/f' against b'd/empty'"),
    (lambda t: retarget(t / "dangling", "elsewhere"), "dangling: content b'nowhere' against b'elsewhere'"),
    (lambda t: replace_by_directory(t / "nothing"), "nothing: file against directory"),
    (lambda t: (t / "nothing").unlink() or os.mkfifo(t / "nothing"), "nothing: file against other"),
    (lambda t: (t / "d/.replicad").mkdir(), "d/.replicad: only in the second"),
]


@pytest.mark.parametrize(("change", "line"), CHANGES, ids=[line.split(" against")[0] for _, line in CHANGES])
def test_each_single_difference_is_one_line(tmp_path: Path, change: Callable[[Path], object], line: str) -> None:
    one, other = make_tree(tmp_path / "one"), make_tree(tmp_path / "other")
    change(other)
    found = differences(read_tree(one), read_tree(other))
    assert len(found) == 1
    assert found[0].startswith(line)
    with pytest.raises(AssertionError, match="differ in 1 names"):
        assert_same_trees(one, one, other)
    assert main([str(one), str(other)]) == 1


def test_equal_trees_have_no_difference(tmp_path: Path) -> None:
    one, other = make_tree(tmp_path / "one"), make_tree(tmp_path / "other")
    (one / ".replicad" / "staging").mkdir(parents=True)
    os.utime(other / "d", ns=(0, 0))
    os.utime(other / "link", ns=(0, 0), follow_symlinks=False)
    one.chmod(0o700)
    assert len(read_tree(one)) == 6
    assert_same_trees(one, other)
    assert main([str(one), str(other)]) == 0


def test_a_symlink_is_not_followed_into_a_directory(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "one")
    retarget(root / "link", "d")
    assert sorted(read_tree(root)) == [b"d", b"d/empty", b"d/f", b"dangling", b"link", b"nothing"]


def test_names_that_are_not_text_are_compared_and_shown(tmp_path: Path) -> None:
    one, other = make_tree(tmp_path / "one"), make_tree(tmp_path / "other")
    Path(os.fsdecode(os.fsencode(one) + b"/\xff\n")).write_bytes(b"")
    assert differences(read_tree(one), read_tree(other)) == ["\\\\xff\\n: only in the first"]


def test_a_tree_deeper_than_a_path_may_be_long_is_read_to_its_end(tmp_path: Path) -> None:
    depth, name = 1500, "deep"  # 7,500 bytes of path, and more levels than a process may have open files
    root = tmp_path / "root"
    root.mkdir()
    here = os.open(root, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=here)
        below = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(os.open("last", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)
    try:
        tree = read_tree(root)
    finally:
        subprocess.run(["rm", "-rf", root], check=True)  # shutil.rmtree, which clears tmp_path, cannot
    assert len(tree) == depth + 1
    assert tree[b"/".join([name.encode()] * depth + [b"last"])].kind == "file"


def test_many_directories_beside_each_other_are_all_read(tmp_path: Path) -> None:
    names = {f"{a}/{b}/{c}" for a in "abc" for b in "xyz" for c in "123"}
    for name in names:
        (tmp_path / name).mkdir(parents=True)
    assert {path.decode() for path in read_tree(tmp_path) if path.count(b"/") == 2} == names


def test_what_cannot_be_read_is_an_error_not_a_difference(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        read_tree(tmp_path / "missing")


def test_the_comparer_imports_only_the_standard_library() -> None:
    imported = set()
    for node in ast.walk(ast.parse(Path(tree_compare.__file__).read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(str(node.module).partition(".")[0])
    assert imported <= sys.stdlib_module_names
