"""Groups of three, six and eight: every member writes, whole trees are compared; relays, removals, moved members."""

import json
import os
import shutil
import socket
from pathlib import Path

import pytest

from tests.system.harness import Server, Servers, until

LIBRARY = Path(os.__file__).parent


def fill(folder: Path, number: int) -> None:
    """A tree of this member's own, of many kinds of entries."""
    own = folder / f"of-{number}"
    shutil.copytree(LIBRARY / "json", own / "json", ignore=shutil.ignore_patterns("__pycache__"))
    (own / "empty").mkdir()
    (own / "big").write_bytes(os.urandom(300_000 + number))
    (own / "link").symlink_to("json")
    for name in range(30):
        path = own / f"small-{name}"
        path.write_bytes(os.urandom(name * 37))
        path.chmod(0o600 + name % 8)


def change(folder: Path, number: int, of: int) -> None:
    """Something of another member's tree."""
    other = folder / f"of-{(number + 1) % of}"
    (other / "json").rename(other / f"renamed-by-{number}")
    (other / "big").write_bytes(b"replaced" * 50_000)
    (other / "link").unlink()
    for name in range(0, 30, 3):
        (other / f"small-{name}").unlink()


def nothing_to_send(member: Server) -> bool:
    """By the others' last statuses, which come once a second at most."""
    shot = member.folder_status()
    return {out["files"] for out in shot["backlog_out"]} == {0} and shot["only_here"] == {"files": 0, "bytes": 0}


@pytest.mark.parametrize("size", [3, 6, 8])
def test_every_member_writes_and_all_have_everything(servers: Servers, size: int) -> None:
    members = servers.group(size)
    for number, member in enumerate(members):
        fill(member.folder(), number)
    for member in members:
        servers.synchronized(member, members=size, timeout_s=90)
    servers.same(members)
    for number, member in enumerate(members):
        change(member.folder(), number, size)
    for member in members:
        servers.synchronized(member, members=size, timeout_s=90)
    servers.same(members)
    for member in members:
        shot = member.folder_status()
        assert (shot["state"], shot["preserved"]["files"], shot["blocked"]) == (4, 0, [])
        assert shot["backlog_in"]["files"] == 0
        until(f"{member.name} sees that nobody lacks anything", lambda m=member: nothing_to_send(m))  # type: ignore[misc]


def test_a_member_relays_between_two_that_cannot_reach_each_other(servers: Servers) -> None:
    hub = servers.found("hub")
    hub.cli("folder", "create", "docs", str(hub.folder()))
    # Nobody listens at port 9 of loopback: what these two publish leads nowhere, so only they can dial.
    spokes = [servers.join(hub, name, advertise="127.0.0.1:9", listen=f"127.0.0.{last}:0") for name, last in SPOKES]
    for spoke in spokes:
        spoke.cli("folder", "join", "docs", str(spoke.folder()))
        spoke.until_state(4)
    one, two = spokes
    until("both are connected to the hub", lambda: hub.connected() == {"one", "two"})
    (one.folder() / "d").mkdir()
    (one.folder() / "d/f").write_bytes(os.urandom(1_000_000))
    servers.synchronized(one, members=3)
    assert one.connected() == two.connected() == {"hub"}
    servers.same([hub, *spokes])
    (two.folder() / "d").rename(two.folder() / "e")
    servers.synchronized(two, members=3)
    servers.same([hub, *spokes])


SPOKES = (("one", 2), ("two", 3))


def test_a_removed_member_is_out_and_nothing_waits_for_it(servers: Servers) -> None:
    members = servers.group(3)
    first, second, third = members
    (first.folder() / "f").write_text("x")
    servers.synchronized(first, members=3)
    first.cli("member", "remove", "m2")
    until("the others know", lambda: "m2" not in {row["name"] for row in second.status()["members"]})
    (first.folder() / "after").write_text("y")
    servers.synchronized(first, members=2)
    servers.same([first, second])
    assert not (third.folder() / "after").exists()
    until("the removed one is cut off", lambda: third.connected() == set())
    (third.folder() / "not-taken").write_text("z")
    third.stop()
    third.start()
    until("it hears why", lambda: "removed from the group" in third.last_words())
    servers.synchronized(second, members=2)
    assert not (first.folder() / "not-taken").exists()


@pytest.mark.requirement("R17")
def test_members_that_come_back_on_other_addresses_are_found_again(servers: Servers) -> None:
    """One at a time: the others still know where to find each other, and the one that has moved dials them."""
    members = servers.group(3)
    for member in members:
        before = member.status()["member"]["addresses"]
        member.stop()
        with socket.create_server(("127.0.0.1", int(before[0].rpartition(":")[2]))):
            member.start()  # its port is taken: the system gives it another
        assert member.status()["member"]["addresses"] != before
        others = {other.name for other in members if other is not member}
        until("it is linked with both again", lambda m=member, o=others: m.connected() == o)  # type: ignore[misc]
        (member.folder() / f"after-{member.name}").write_text("moved")
    servers.synchronized(members[0], members=3)
    servers.same(members)


def test_members_that_all_come_back_find_each_other_though_the_system_chose_their_ports(servers: Servers) -> None:
    """Each takes the port that it had; it is where the others look for it."""
    members = servers.group(2)
    (members[0].folder() / "f").write_text("x")
    for member in members:
        member.kill()
    for member in members:
        member.start()
    servers.synchronized(members[1], members=2)
    servers.same(members)


def test_a_folder_that_a_member_leaves_stays_with_the_others(servers: Servers) -> None:
    members = servers.group(3)
    first, second, third = members
    (third.folder() / "f").write_text("only here for a moment")
    third.cli("folder", "leave", "docs")
    servers.synchronized(first, members=2)
    servers.same([first, second])
    assert (first.folder() / "f").read_text() == "only here for a moment"
    assert (third.folder() / "f").exists()
    (first.folder() / "g").write_text("x")
    servers.synchronized(first, members=2)
    assert not (third.folder() / "g").exists()
    third.cli("folder", "join", "docs", str(third.folder()))
    servers.synchronized(third, members=3)
    servers.same(members)


def test_a_folder_that_is_removed_ends_everywhere_and_its_files_stay(servers: Servers) -> None:
    members = servers.group(2)
    (members[0].folder() / "f").write_text("x")
    members[0].cli("folder", "remove", "docs")
    until("it has ended everywhere", lambda: all(not member.status()["folders"] for member in members))
    for member in members:
        assert (member.folder() / "f").read_text() == "x"
        assert json.loads(member.cli("folder", "list", "--json")) == {"folders": []}
