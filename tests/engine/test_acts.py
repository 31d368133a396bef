"""The gap between check and act (I3, I4): users who act at any instant of the applier's work."""

from __future__ import annotations

import pytest

from replicad.engine.disposal import OPEN_MAX_MS, STILL_OPEN
from tests.engine.gap import (
    ON_DIRECTORIES,
    ON_FILES,
    Act,
    Gap,
    Story,
    append,
    delete,
    rename_away,
    replace_directory,
    save,
    write,
)
from tests.engine.rig import ROUND_MS
from tests.engine.stories import DIRECTORY_STORIES, FILE_STORIES
from tests.sim.memory_fs import MemoryFileSystem

EVERY = 2
"""Of the instants so many; all of them are tried by hand."""
ON_LINKS = (delete, rename_away, replace_directory, save)
BECOMES_A_FILE = (*ON_DIRECTORIES, write, save)


def acts_of(story: Story, path: bytes) -> tuple[Act, ...]:
    """What a user can do there at some instant of the story."""
    if story in FILE_STORIES:
        open_before = path in Gap(story).handles
        return ON_FILES if open_before else tuple(act for act in ON_FILES if act is not append)
    if story.name == "retarget a symlink":
        return ON_LINKS
    remains = story.name in ("nest a directory", "swap directories", "put in a directory")
    return ON_DIRECTORIES if remains else BECOMES_A_FILE


_MATRIX = [
    (story, path, act)
    for story in (*FILE_STORIES, *DIRECTORY_STORIES)
    for path in story.paths
    for act in acts_of(story, path)
]


def _name(parameter: object) -> str:
    if isinstance(parameter, Story):
        return parameter.name
    return parameter.decode() if isinstance(parameter, bytes) else getattr(parameter, "__name__", str(parameter))


@pytest.mark.parametrize("story", [*FILE_STORIES, *DIRECTORY_STORIES], ids=_name)
def test_i4_no_path_is_ever_torn_or_empty_when_nobody_interferes(story: Story) -> None:
    gap = Gap(story)
    assert gap.run() > 3, "no instants: the story does nothing"
    gap.check_end()
    assert not gap.rig.dirty, "the applier met a change that nobody made"


@pytest.mark.parametrize(("story", "path", "act"), _MATRIX, ids=_name)
def test_i3_what_a_user_does_at_any_instant_is_kept(story: Story, path: bytes, act: Act) -> None:
    instants = Gap(story).run()
    done = 0
    for chosen in range(_MATRIX.index((story, path, act)) % EVERY, instants, EVERY):
        gap = Gap(story)
        done += _run(gap, chosen, act, path)
        gap.check_end()
    assert done, "the user could do nothing"


def _run(gap: Gap, chosen: int, act: Act, path: bytes) -> int:
    done = 0

    def do(instant: int) -> None:
        nonlocal done
        if instant == chosen:
            try:
                act(gap, path)
                done += 1
            except (OSError, KeyError):
                pass  # there is nothing of this kind at that moment

    gap.run(do)
    return done


@pytest.mark.parametrize("seconds", [1, 4, 100])
@pytest.mark.parametrize(
    "story", [one for one in FILE_STORIES if one.name.startswith(("put over", "remove"))], ids=_name
)
def test_i3_what_is_written_through_an_open_handle_after_the_act_is_preserved(story: Story, seconds: int) -> None:
    """Also long after it had to be quiet: it is open."""
    gap = Gap(story)
    gap.run()
    for _ in range(seconds):
        gap.rig.settle_outs(1_000)
    append(gap, b"f")
    gap.check_end()
    assert any(b"<appended>" in data for data in gap.rig.stored())


def test_i3_what_is_open_for_too_long_is_preserved_and_written_to_there() -> None:
    gap = Gap(FILE_STORIES[1])
    gap.run()
    for _ in range(OPEN_MAX_MS // 1_000 + 10):
        gap.rig.settle_outs(1_000)
    assert _outs(gap.rig.fs) == []
    append(gap, b"f")
    assert gap.rig.stored() == [b"old version<appended>"]
    assert [row.why for row in gap.rig.rows()] == [STILL_OPEN]
    gap.check_end()


def test_what_came_out_lies_in_staging_until_it_has_been_quiet() -> None:
    gap = Gap(FILE_STORIES[1])
    gap.run()
    gap.handles[b"f"].close()
    assert _outs(gap.rig.fs) == [b"old version"]
    assert [out.due_ms for out in gap.rig.catalog.outs(2**62)] >= [gap.rig.now_ms + 5_000 - 4 * ROUND_MS]
    gap.rig.pass_quiet_time()
    assert _outs(gap.rig.fs) == []
    assert gap.rig.stored() == []


def _outs(fs: MemoryFileSystem) -> list[bytes]:
    found = fs.read_tree(private=True).items()
    return [data for path, (_, data) in found if path.startswith(b".replicad/staging/out-")]
