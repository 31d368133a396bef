"""Power is lost at any instant of the applier's work, the home on another disk than the folder (I12).

The catalog is as of its last commit, which was synced; the folder's disk as of its last sync (`memory_power`; what is
on it at each instant is what a kill leaves, see `test_recovery`). No user acts, so in the end everything is as the tree
wants it, and this member has written nothing down as its own.
"""

from __future__ import annotations

import pytest

from replicad.core.effects import Fetch, FetchedItem
from tests.engine.gap import Gap, Story, Watched
from tests.engine.rig import Crash
from tests.engine.stories import DIRECTORY_STORIES, FILE_STORIES
from tests.sim.memory_power import SyncedDisk

STORIES = (*FILE_STORIES, *DIRECTORY_STORIES)
INSTANTS_MAX = 1_000


class PowerRig(Watched):
    """What it fetches is synced, as `engine.fetcher` does it."""

    fs: SyncedDisk

    def make_fs(self) -> SyncedDisk:
        return SyncedDisk(self.now_ns)

    def fetch(self, fetch: Fetch) -> list[FetchedItem]:
        items = super().fetch(fetch)
        self.fs.sync_all()
        return items


class PowerGap(Gap):
    rig: PowerRig
    make_rig = PowerRig


def lose_power_at(gap: PowerGap, chosen: int) -> bool:
    """Whether it came so far."""

    def do(instant: int) -> None:
        if instant == chosen:
            raise Crash

    gap.handles.clear()  # whoever has a file open goes with it
    gap.rig.fs.sync_all()
    try:
        gap.run(do)
    except Crash:
        gap.rig.kill()
        gap.rig.fs.lose_power()
        return True
    return False


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
def test_i12_what_was_synced_and_committed_is_enough_to_go_on_from(story: Story) -> None:
    losses = 0
    for chosen in range(INSTANTS_MAX):
        gap = PowerGap(story)
        if not lose_power_at(gap, chosen):
            break
        losses += 1
        gap.rig.start()
        gap.check_end()
        assert gap.rig.catalog.counter == 0, "it has written down as its own what nobody did"
    assert losses > 3
