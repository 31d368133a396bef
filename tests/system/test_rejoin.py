"""`replicad rejoin` and `replicad member lapse` on the command line, with real daemons."""

from __future__ import annotations

import json

from tests.system.harness import Server, Servers, until


def events(server: Server) -> list[str]:
    return server.cli("events").splitlines()


def lapsed(server: Server, name: str) -> bool:
    found = server.status()
    if found["member"]["name"] == name:
        return found["member"]["lapsed"] is not None
    return any(row["name"] == name and row["lapsed"] is not None for row in found["members"])


def test_an_operator_has_a_folder_rejoin_and_a_member_lapse(servers: Servers) -> None:
    one, two = servers.group(2)
    (one.folder() / "d").mkdir()
    for number in range(20):
        (one.folder() / "d" / f"f{number}").write_text(str(number))
    servers.synchronized(one, members=2)

    assert "there is no folder other" in two.run("rejoin", "other").stderr
    two.cli("rejoin", "docs")
    two.until_state(4)
    servers.synchronized(one, members=2)
    servers.same([one, two])
    assert any("joined: 21 entries adopted, 0 moved" in line for line in events(two))
    assert any("an operator has it rejoin" in line for line in events(two))

    assert json.loads(two.cli("rejoin", "docs", "--primary", "--json")) == {"name": "docs", "primary": True}
    two.kill()
    two.start()
    two.until_state(4)
    (two.folder() / "d" / "f3").write_text("edited")
    (two.folder() / "d" / "f4").unlink()
    servers.synchronized(two, members=2)
    servers.same([one, two])
    assert (one.folder() / "d" / "f3").read_text() == "edited"
    assert not (one.folder() / "d" / "f4").exists()
    assert one.folder_status()["preserved"]["files"] <= 2, "what its user changed, and no more"

    assert "m1 is connected" in one.run("member", "lapse", "m1", "--force").stderr
    two.stop()
    until("the link is gone", lambda: not one.connected())
    refused = one.run("rejoin", "docs")
    assert (refused.returncode, len(refused.stderr.splitlines())) == (1, 1)
    assert "nobody to learn from" in refused.stderr
    assert "m1 was seen 0 min ago: --force" in one.run("member", "lapse", "m1").stderr
    one.cli("member", "lapse", "m1", "--force")
    assert lapsed(one, "m1")
    assert "lapsed since" in one.cli("status")
    assert "(lapsed)" in one.cli("member", "list")
    (one.folder() / "while it was away").write_text("1")
    two.start()
    until("it is living again", lambda: not lapsed(one, "m1") and not lapsed(two, "m1"))
    servers.synchronized(one, members=2)
    servers.same([one, two])
    assert any("m1 is living again" in line for line in events(one))
