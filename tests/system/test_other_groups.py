"""A peer of another group at an address that a member dials: said in one line, and nothing is exchanged."""

from typing import Any

from tests.system.folder_tools import at_rest, head_of, put, stay, wait
from tests.system.harness import ANY_PORT, Server, Servers, until
from tests.tree_compare import read_tree


def row_of(server: Server, member: str) -> dict[str, Any]:
    found: dict[str, Any] = next(row for row in server.status()["members"] if row["name"] == member)
    return found


def test_i11_a_peer_of_another_group_is_named_in_one_line_and_nothing_is_exchanged_with_it(servers: Servers) -> None:
    """It has taken the address of a member that is away; both groups, and their folders, have the same names."""
    one, away = members = servers.group(2)
    put(one.folder() / "ours", b"of the first group")
    wait(one, 2)
    stay([away])
    away.stop()
    address = away.settings["REPLICAD_MEMBER_LISTEN"]
    stranger = servers.add("stranger")
    stranger.cli("init", "--name", "m1", "--group", "demo", "--listen", address, "--api", ANY_PORT)
    stranger.cli("folder", "create", "docs", str(stranger.folder()))
    put(stranger.folder() / "theirs", b"of the other group")
    stranger.start()
    stranger.until_state(4)
    wait(stranger, 1)
    before = [(read_tree(server.folder()), head_of(server)) for server in (one, stranger)]

    says = f"{address}: another member or program answers there"
    until("the dialer says why", lambda: (row_of(one, "m1")["error"] or "").startswith(says))
    assert "\n" not in row_of(one, "m1")["error"]
    assert says in one.cli("status")
    assert not row_of(one, "m1")["connected"]
    assert stranger.status()["members"] == []
    refused = stranger.run("join", one.cli("invite"), "--name", "m1")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1), refused
    assert "belongs to the group demo already: take another home" in refused.stderr
    put(one.folder() / "after", b"goes on")
    wait(one, 1)
    assert [read_tree(server.folder()) for server in (one, stranger)][1] == before[1][0]
    assert head_of(stranger) == before[1][1]
    assert read_tree(one.folder()).keys() == before[0][0].keys() | {b"after"}, "what it wrote itself, and no more"

    stranger.stop()
    away.start()
    wait(away, 2)
    servers.same(members)
    at_rest(members)
    for server in (one, stranger):
        assert "Traceback" not in server.last_words()
