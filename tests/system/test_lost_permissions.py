"""Permissions that are lost in the middle of replication, at a directory and at the root, on either side.

Each is said where it is, everything else goes on, nothing is deleted anywhere, and it goes on by itself when they are
given back. Of a root the mode is its member's own; that of a directory within is replicated, so both lose it.
"""

from __future__ import annotations

import os

import pytest

from tests.system.folder_tools import all_the_same, at_rest, put, stay
from tests.system.harness import Server, Servers, until

FILES = 150
BIG = os.urandom(8_000_000)
HEALED_S = 90
"""A minute at the most until it is looked at again."""


def blocked(server: Server) -> dict[str, str]:
    return {row["path"]: row["reason"] for row in server.folder_status()["blocked"]}


def send(author: Server, directory: str, turn: int) -> None:
    """Much that goes on its way: new files, one large, an edit and a deletion."""
    root = author.folder() / directory
    for number in range(FILES):
        put(root / f"turn-{turn}/f{number}", b"%d of turn %d" % (number, turn))
    put(root / f"turn-{turn}/big", BIG + b"%d" % turn)
    put(root / "edited", b"edited in turn %d" % turn, mtime_ns=10**18 + turn)
    (root / f"goes-{turn}").unlink()


def expected(turn: int) -> set[str]:
    return {f"f{number}" for number in range(FILES)} | {"big"}


def test_i10_a_permission_lost_in_the_middle_stops_only_what_needs_it_and_all_goes_on_when_it_is_back(
    servers: Servers,
) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read and write everywhere")
    sender, receiver = members = servers.group(2)
    stay(members)
    for directory in ("closed", "."):
        put(sender.folder() / directory / "edited", b"at first")
        for turn in range(4):
            put(sender.folder() / directory / f"goes-{turn}", b"to be deleted")
    all_the_same(servers, members)

    for turn, member in enumerate((receiver, sender)):  # a directory
        directory = member.folder() / "closed"
        send(sender, "closed", turn)
        until("it has begun", lambda: (receiver.folder() / f"closed/turn-{turn}").exists())  # noqa: B023
        directory.chmod(0)
        put(sender.folder() / f"beside-{turn}", b"goes on")
        until("the rest goes on", lambda: (receiver.folder() / f"beside-{turn}").exists())  # noqa: B023
        until("it is said", lambda: "permission denied" in {*blocked(sender).values(), *blocked(receiver).values()})
        assert [server.folder_status()["state"] for server in members] == [4, 4]
        directory.chmod(0o755)
        until("nothing is blocked", lambda: not blocked(sender) and not blocked(receiver), HEALED_S)
        all_the_same(servers, members)
        assert {path.name for path in (directory / f"turn-{turn}").iterdir()} == expected(turn)

    for turn, member in enumerate((receiver, sender), 2):  # the root
        other = sender if member is receiver else receiver
        send(sender, ".", turn)
        until("it has begun", lambda: (receiver.folder() / f"turn-{turn}").exists())  # noqa: B023
        member.folder().chmod(0)
        until("it is said", lambda: member.folder_status()["state"] == 5)  # noqa: B023
        reason = member.folder_status()["reason"]
        assert "Permission denied; see to its permissions and its disk" in reason
        assert "\n" not in reason
        assert other.folder_status()["state"] == 4
        put(other.folder() / f"meanwhile-{turn}", b"made on the other side")
        member.folder().chmod(0o755)
        member.until_state(4)
        all_the_same(servers, members)
        assert {path.name for path in (member.folder() / f"turn-{turn}").iterdir()} == expected(turn)
        assert (member.folder() / f"meanwhile-{turn}").exists()
    assert {"goes-0", "goes-1"} == {path.name for path in receiver.folder().glob("goes-*")}
    assert {"goes-2", "goes-3"} == {path.name for path in (receiver.folder() / "closed").glob("goes-*")}
    at_rest(members)
