"""Members that are killed in the middle of what they do to the disk, and whose users go on before the next start."""

from __future__ import annotations

import pytest

from tests.sim.script import a_group, assert_nothing_kept, assert_tree, move, remove_tree


@pytest.mark.parametrize("moved", [("p", "z"), ("p/q", "z"), ("p/q", "p/z")], ids=lambda paths: " to ".join(paths))
@pytest.mark.parametrize("before", ["p/q/d/e", "p/q/d"])
def test_i7_a_directory_that_was_not_removed_in_time_is_removed_where_its_user_has_moved_it(
    before: str, moved: tuple[str, str]
) -> None:
    """With the directory that it is in: what is not at its path any more may be elsewhere. Else it comes back."""
    group = a_group("ab", {"p/q/d/e/f": 1, "p/q/d/g": 2, "p/q/h": 3, "p/i": 4})
    a, b = group["a"], group["b"]
    b.kill_before = lambda method, paths: method == "remove_dir" and paths[0] == before.encode()
    remove_tree(a, "p/q/d")
    group.run(5_000)
    assert not b.up
    move(b, *moved)
    b.start()
    group.heal()
    source, target = moved
    assert_tree(group, {path.replace(source, target, 1): number for path, number in (("p/q/h", 3), ("p/i", 4))})
    assert_nothing_kept(group)
