"""The short form of `make torture`: three daemons, one seed. Longer ones are run by hand, with fresh seeds."""

from pathlib import Path

import pytest

from tests.torture.__main__ import show
from tests.torture.story import Story

pytestmark = [pytest.mark.lab, pytest.mark.timeout(400)]

SEED = 7
SECONDS = 10.0
MEMBERS = 3


def test_i1_i3_i4_i7_i12_three_members_live_through_ten_seconds_of_torture(tmp_path: Path) -> None:
    story = Story(SEED, SECONDS, MEMBERS, tmp_path)
    story.run()
    show(story.counts)
    assert story.findings == []
    assert story.counts["contents written"] > 30
    assert any(name.startswith("kill -9") for name in story.counts)
