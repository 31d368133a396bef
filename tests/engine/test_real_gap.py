"""The gap between check and act on a real disk: a user acts between any two system calls (I3, I4).

tests/engine/test_acts.py does the same with every call on the tree in memory; here some of the combinations are tried,
each system call by several of them.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from tests.engine.gap import Act, Story, append, change_mode, delete, save, write, write_same_size
from tests.engine.real_gap import RealGap
from tests.engine.rig import Crash
from tests.engine.stories import DIRECTORY_STORIES, FILE_STORIES
from tests.engine.test_acts import acts_of

STORIES = (*FILE_STORIES, *DIRECTORY_STORIES)
EVERY = 80
"""Of the instants so many, for each act; each act begins with another one."""
CRASHES_EVERY = 12
WITHOUT_EXCHANGE = tuple(story for story in FILE_STORIES if story.name.startswith(("put", "swap")))


def name_of(story: Story) -> str:
    return story.name


class Runs:
    """Each in a directory of its own."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self._number = 0

    def gap(self, story: Story, patch: pytest.MonkeyPatch, **options: bool) -> closing[RealGap]:
        self._number += 1
        return closing(RealGap(story, self._base / str(self._number), patch, **options))

    def instants(self, story: Story, **options: bool) -> int:
        with pytest.MonkeyPatch.context() as patch, self.gap(story, patch, **options) as gap:
            instants = gap.run()
            gap.check_end()
            return instants

    def act(self, story: Story, act: Act, path: bytes, chosen: int, **options: bool) -> bool:
        """Whether the user could do it."""
        done = False

        def do(instant: int) -> None:
            nonlocal done
            if instant == chosen:
                try:
                    act(gap, path)
                    done = True
                except (OSError, KeyError):
                    pass  # there is nothing of this kind at that moment

        with pytest.MonkeyPatch.context() as patch, self.gap(story, patch, **options) as gap:
            gap.run(do)
            gap.check_end()
        return done

    def crash(self, story: Story, chosen: int) -> bool:
        """Whether it got so far."""

        def die(instant: int) -> None:
            if instant == chosen:
                raise Crash

        with pytest.MonkeyPatch.context() as patch, self.gap(story, patch) as gap:
            gap.hook(die)
            try:
                for _ in range(4):
                    gap.rig.work()
            except Crash:
                gap.rig.crash()
            gap.quiet()
            gap.check_end()
        return chosen <= gap.instant


@pytest.mark.parametrize("story", STORIES, ids=name_of)
def test_i3_what_a_user_does_between_any_two_system_calls_is_kept(story: Story, tmp_path: Path) -> None:
    runs, number, done = Runs(tmp_path), STORIES.index(story), 0
    instants = runs.instants(story)
    for path in story.paths:
        for act in acts_of(story, path):
            number += 1
            for chosen in range(number * 7 % EVERY % instants, instants, EVERY):
                done += runs.act(story, act, path, chosen)
    assert done, "the user could do nothing"


@pytest.mark.parametrize("act", [write, write_same_size, save, append, delete], ids=lambda act: act.__name__)
def test_i3_an_edit_at_any_instant_of_its_files_replacement_wins_or_is_preserved(act: Act, tmp_path: Path) -> None:
    """Before the check, after it, after the exchange; also by a writer that holds the file open (`append`)."""
    runs = Runs(tmp_path)
    (story,) = (story for story in STORIES if story.name == "put over an older version")
    done = [runs.act(story, act, b"f", chosen) for chosen in range(runs.instants(story))]
    assert all(done)


@pytest.mark.parametrize("name", ["set mode", "set mode and mtime"])
def test_a_mode_that_a_user_sets_between_any_two_system_calls_is_either_overwritten_or_an_edit(
    name: str, tmp_path: Path
) -> None:
    """Never taken for what was set here: then the group would go on with another one (engine.meta, RACE)."""
    runs = Runs(tmp_path)
    (story,) = (story for story in STORIES if story.name == name)
    done = [runs.act(story, change_mode, b"f", chosen) for chosen in range(runs.instants(story))]
    assert all(done)


@pytest.mark.parametrize("story", WITHOUT_EXCHANGE, ids=name_of)
def test_i3_what_a_user_does_where_there_is_no_exchange_is_kept(story: Story, tmp_path: Path) -> None:
    """I4 does not hold there for an instant (renames.exchange)."""
    runs = Runs(tmp_path)
    instants = runs.instants(story, no_exchange=True)
    acts = (write, save, append) if story.name != "put at a free name" else (write, save)
    done = 0
    for number, act in enumerate(acts):
        for chosen in range(number * 5, instants, 40):
            done += runs.act(story, act, story.paths[0], chosen, no_exchange=True)
    assert done, "the user could do nothing"


@pytest.mark.parametrize("story", STORIES[:: len(STORIES) // 8], ids=name_of)
def test_i12_a_crash_between_any_two_system_calls_loses_nothing(story: Story, tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    instants = runs.instants(story)
    died = [runs.crash(story, chosen) for chosen in range(STORIES.index(story) % 4, instants, CRASHES_EVERY)]
    assert all(died)
