"""A member that relays between two that cannot reach each other: changes, content, `wait`, also through its restart.

The outer two publish an address at which nobody listens, and listen at addresses of loopback that they tell nobody, so
that neither can ever dial the other; they dial the one in the middle, and stay linked with that one alone.
"""

import os
from collections.abc import Sequence

from tests.system.folder_tools import all_the_same, at_rest, put, stay, wait
from tests.system.harness import Server, Servers, until

NOBODY = "127.0.0.1:9"
"""The port of a service that nobody runs: dialling it is refused at once."""


def chain(servers: Servers) -> tuple[Server, Server, Server]:
    """A, B, C: B in the middle, on a port of its own choice that it keeps while it runs."""
    middle = servers.found("b")
    middle.cli("folder", "create", "docs", str(middle.folder()))
    outer = [
        servers.join(middle, name, advertise=NOBODY, listen=f"127.0.0.{last}:0") for name, last in (("a", 2), ("c", 3))
    ]
    for member in outer:
        member.cli("folder", "join", "docs", str(member.folder()))
    for member in outer:
        member.until_state(4)
    until("both are linked with the middle", lambda: middle.connected() == {"a", "c"})
    return outer[0], middle, outer[1]


def assert_never_linked(a: Server, c: Server) -> None:
    assert a.connected() == c.connected() == {"b"}


def test_changes_and_wait_go_through_a_member_in_the_middle(servers: Servers) -> None:
    a, _, c = members = chain(servers)
    for number in range(200):
        put(a.folder() / f"d{number % 5}/f{number}", b"%d" % number)
    put(a.folder() / "large", os.urandom(3_000_000))
    wait(a, 3)  # covers C, which A cannot ask itself
    assert (c.folder() / "d4/f199").read_bytes() == b"199"
    servers.same(members)
    assert_never_linked(a, c)
    put(c.folder() / "d0/f0", b"edited on the far side")
    (c.folder() / "d1").rename(c.folder() / "renamed")
    (c.folder() / "large").unlink()
    wait(c, 3)
    assert (a.folder() / "d0/f0").read_bytes() == b"edited on the far side"
    servers.same(members)
    for number in range(20):  # to and fro, each at once
        author, reader = ((a, c), (c, a))[number % 2]
        put(author.folder() / "ball", b"%d" % number)
        wait(author, 3)
        assert (reader.folder() / "ball").read_bytes() == b"%d" % number
    assert_never_linked(a, c)
    at_rest(members)


def test_what_the_ends_change_while_the_middle_is_away_arrives_when_it_is_back(servers: Servers) -> None:
    """B's address is kept over its restart by A's and C's dialling what it published: it must be the same port."""
    a, b, c = members = chain(servers)
    put(a.folder() / "both", b"1")
    wait(a, 3)
    stay([b])
    b.stop()
    put(a.folder() / "from-a", b"a")
    put(c.folder() / "from-c", b"c")
    assert_short(a, members)
    b.start()
    until("both are linked with the middle again", lambda: b.connected() == {"a", "c"})
    all_the_same(servers, members)
    assert (c.folder() / "from-a").read_bytes() == b"a"
    assert (a.folder() / "from-c").read_bytes() == b"c"
    at_rest(members)


def assert_short(server: Server, members: Sequence[Server]) -> None:
    """A `wait` for all of them ends without success, and names who is missing."""
    answer = server.ask("POST", "/v1/wait", {"members": len(members), "timeout_s": 0})
    assert not answer["done"]
    assert answer["exit_status"] == 1
    assert {row["member"] for folder in answer["folders"] for row in folder["missing"]} == {"b", "c"}
