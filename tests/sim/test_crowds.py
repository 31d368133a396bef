"""Groups of many members: what a hub says, and random histories. More: `python -m tests.sim --hub 200, --crowd 50`."""

from __future__ import annotations

from tests.sim.crowds import CrowdStory, Hub

SPOKES = 20
QUIET_BYTES_MAX = 700
"""A status: a member's own, and of the hub's the names of all that it has a link with."""
SEED, MEMBERS = 3, 8


def test_i9_each_member_of_a_hub_is_told_of_a_change_once_and_then_only_statuses_go() -> None:
    hub = Hub(SPOKES + 1)
    hub.begin()
    assert hub.changed(hub.names[0], 1)["content"] == SPOKES
    assert hub.changed(hub.names[1], 1)["content"] == SPOKES
    hub.changed(hub.names[2], 20)
    hub.bytes = 0
    said = hub.quiet(5)
    assert hub.bytes < QUIET_BYTES_MAX * said["status"], "what tells nothing new is not passed on each minute"
    hub.group.check()


def test_i1_i2_i3_i7_i9_hold_among_many() -> None:
    story = CrowdStory(SEED, MEMBERS)
    counts = story.run().counts
    assert len(story.members) == MEMBERS
    assert counts["partition"] + counts["partition, one way"] >= 3
