"""A member that relays between two that cannot reach each other: changes, content, `wait`, also through its restart.

The outer two publish an address at which nobody listens, and listen at addresses of loopback that they tell nobody, so
that neither can ever dial the other; they dial the one in the middle, and stay linked with that one alone.
"""

import json
import os
from collections.abc import Sequence
from typing import Any

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


LARGE = 20 * 1_048_576
"""Copied back in some steps (engine.copying_back)."""


def listed(server: Server) -> dict[str, Any]:
    found: dict[str, Any] = server.ask("GET", "/v1/preserved?folder=docs")
    return found


def kept_by(server: Server, member: str) -> dict[str, dict[str, Any]]:
    """What a member lists of another, by path; `id` is the other's. The middle may keep the same for having had it."""
    rows = [row for row in listed(server)["preserved"] if member in row["members"]]
    return {row["path"]: {**row, "id": next(one for one in row["ids"] if f":{member}:" in one)} for row in rows}


def in_short(answer: dict[str, Any]) -> set[tuple[str, ...]]:
    """What every member says of the same files: each names its own first."""
    return {(row["path"], row["digest"], row["when"], *sorted(row["ids"])) for row in answer["preserved"]}


def test_what_is_preserved_is_listed_and_brought_back_through_a_member_in_the_middle(servers: Servers) -> None:
    a, b, c = members = chain(servers)
    put(a.folder() / "report", b"before")
    wait(a, 3)
    b.stop()
    for member, content in ((a, b"a's"), (c, b"c's")):  # c is the later one, of both
        put(member.folder() / "report", content)
        put(member.folder() / "large", content + os.urandom(LARGE))
        member.cli("wait", "--members", "1")
    lost = (a.folder() / "large").read_bytes()
    b.start()
    until("both are linked with the middle again", lambda: b.connected() == {"a", "c"})
    all_the_same(servers, members)
    assert (a.folder() / "report").read_bytes() == b"c's"

    # Both ends list what each of them keeps, the same.
    until("the far end knows the way", lambda: not listed(c)["not_answering"])  # a status tells of it, within a second
    answer = listed(c)
    assert (answer["not_answering"], answer["left_off"]) == ([], [])
    rows = kept_by(c, "a")
    assert set(rows) == {"report", "large"}
    assert (rows["report"]["written_by"], rows["report"]["won_by"]) == ("a", "c")
    assert rows["report"]["why"] == "edited elsewhere meanwhile"
    assert in_short(answer) == in_short(listed(a)) == in_short(listed(b))
    assert_never_linked(a, c)

    # Deleted only where it is kept; brought back through the middle, the large one as a copy that leaves it listed.
    refused = c.run("preserved", "delete", rows["report"]["id"])
    assert (refused.returncode, "kept by a: delete it there" in refused.stderr) == (1, True), refused
    taken = c.run("preserved", "restore", rows["report"]["id"], "--to", "large")
    assert (taken.returncode, "a: --to: large is taken" in taken.stderr) == (1, True), taken
    assert json.loads(c.cli("preserved", "restore", rows["report"]["id"], "--json"))["path"] == "report (restored)"
    assert json.loads(c.cli("preserved", "restore", rows["large"]["id"], "--json"))["path"] == "large (restored)"
    all_the_same(servers, members)
    assert (c.folder() / "report (restored)").read_bytes() == b"a's"
    assert (c.folder() / "large (restored)").read_bytes() == lost
    assert (c.folder() / "report").read_bytes() == b"c's"
    assert set(kept_by(c, "a")) == {"large"}

    # Who is gone is named, by the member that is linked with the middle alone, and asked in vain.
    own = rows["large"]["id"]
    a.stop()
    until("its going has gone round", lambda: "a" in {one["member"] for one in listed(c)["not_answering"]})
    (missing,) = listed(c)["not_answering"]
    assert (missing["folder"], missing["member"]) == ("docs", "a")
    assert missing["reason"].startswith("it is not connected")
    assert "a is not in this list of docs: it is not connected" in c.cli("preserved", "list")
    away = c.run("preserved", "restore", own)
    assert (away.returncode, "a: it is not connected" in away.stderr) == (1, True), away
    a.start()
    until("a is linked with the middle again", lambda: b.connected() == {"a", "c"})
    assert "deleted 1 preserved files" in a.cli("preserved", "delete", own)
    until("it is listed by nobody", lambda: not listed(c)["not_answering"] and not kept_by(c, "a"))
