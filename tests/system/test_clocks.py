"""Clocks that are hours off, on real daemons under libfaketime: who writes later wins, and nothing is lost.

A stamp is greater than what it follows (DESIGN section 3, stamps), whatever the writer's clock says; only of edits that
did not know of each other does the higher clock win.
"""

from pathlib import Path

import pytest

from tests.system.folder_tools import all_the_same, at_rest, kept_contents, put, stay, wait
from tests.system.harness import Server, Servers

HOURS = 5
LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))


def set_clock(member: Server, hours: int) -> None:
    """From its next start on; the files that it makes have the kernel's times. NO_FAKE_STAT: what `stat` tells stays
    as it is on the disk."""
    member.settings |= {
        "LD_PRELOAD": str(LIBRARIES[0]),
        "FAKETIME": f"{hours:+d}h",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
    }


def test_i1_members_whose_clocks_are_hours_off_converge_and_a_later_edit_wins_whoever_makes_it(
    servers: Servers,
) -> None:
    if not LIBRARIES:
        pytest.skip("needs libfaketime")
    one, ahead, behind = members = servers.group(3)
    stay(members)
    turns = {"a": (ahead, behind, one), "b": (behind, one, ahead), "c": (one, ahead, behind)}
    for name in (*turns, "deleted", "moved", "apart", "d/x"):
        put(one.folder() / name, b"at first")
    wait(one, 3)
    for member, hours in ((ahead, HOURS), (behind, -HOURS)):
        member.stop()
        set_clock(member, hours)
        member.start()
    assert ahead.status()["members"][0]["last_seen"] > one.status()["members"][0]["last_seen"], "its clock is ahead"

    # In turn: each knows what was written before.
    for turn in range(3):
        for name, authors in turns.items():
            (authors[turn].folder() / name).write_bytes(authors[turn].name.encode())
        for author in members:
            wait(author, 3)
        for name, authors in turns.items():
            for member in members:
                assert (member.folder() / name).read_bytes() == authors[turn].name.encode(), (name, turn)
    # The one that is behind goes on with what the one that is ahead has done.
    (ahead.folder() / "deleted").write_bytes(b"edited by the one ahead")
    (ahead.folder() / "moved").rename(ahead.folder() / "moved ahead")
    (ahead.folder() / "d").rename(ahead.folder() / "e")
    wait(ahead, 3)
    (behind.folder() / "deleted").unlink()
    (behind.folder() / "moved ahead").rename(behind.folder() / "moved back")
    (behind.folder() / "e/x").write_bytes(b"edited by the one behind")
    wait(behind, 3)
    assert {path.name for path in one.folder().iterdir()} - {".replicad"} == {*turns, "moved back", "apart", "e"}
    servers.same(members)
    at_rest(members)

    # Apart, while one is stopped: its edit is found at its start and stamped by the file's time, that of the kernel.
    behind.stop()
    put(ahead.folder() / "apart", b"edited by the one ahead")
    wait(ahead, 2)
    (behind.folder() / "apart").write_bytes(b"edited by the one behind")
    (behind.folder() / "new").write_bytes(b"made by the one behind")
    behind.start()
    all_the_same(servers, members)
    assert {b"edited by the one ahead", b"edited by the one behind", b"made by the one behind"} <= kept_contents(
        members
    )
    at_rest(members, preserved=1)
