"""Conflicts on real daemons: what three members list, bring back, keep beside the winner, collect and delete."""

import json
import time
from pathlib import Path
from typing import Any

from blake3 import blake3

from tests.system.folder_tools import MTIME_NS, all_the_same, names_in, put, stay
from tests.system.harness import Server, Servers, until

HOUR_NS = 3_600 * 10**9
TICK_NS = 20_000_000
"""A new name is stamped by its ctime, in ms."""


def listed(server: Server, folder: str = "docs") -> dict[str, Any]:
    found: dict[str, Any] = server.ask("GET", f"/v1/preserved?folder={folder}")
    return found


def together(servers: Servers, members: list[Server], path: str, contents: dict[str, bytes]) -> None:
    """Each of these writes the file while no daemon runs, one an hour after the other: the last one wins."""
    for member in members:
        member.stop()
    for number, (name, data) in enumerate(contents.items()):
        writer = next(member for member in members if member.name == name)
        put(writer.folder() / path, data, mtime_ns=MTIME_NS + (number + 1) * HOUR_NS)
        made_ns = (writer.folder() / path).stat().st_ctime_ns
        until("the clock has gone on", lambda ns=made_ns: time.time_ns() > ns + TICK_NS)  # type: ignore[misc]
    for member in members:
        member.begin()
    for member in members:
        member.await_start()
    all_the_same(servers, members)


def sibling_of(folder: Path, stem: str) -> Path:
    found = list(folder.glob(f"{stem}.conflict-*"))
    assert len(found) == 1, found
    return found[0]


def pre_existing_is_brought_back_and_emptied_by_the_operator_alone(alpha: Server, beta: Server) -> None:
    put(beta.folder("other") / "mine", b"kept before")
    put(beta.folder("other") / "twice", b"kept, too")
    alpha.cli("folder", "create", "other", str(alpha.folder("other")))
    until("beta knows it", lambda: "other" in {one["name"] for one in beta.ask("GET", "/v1/folders")["folders"]})
    beta.cli("folder", "join", "other", str(beta.folder("other")))
    until("its files are in PreExisting", lambda: len(listed(alpha, "other")["preserved"]) == 2)

    def read() -> list[dict[str, Any]]:
        return [row for row in listed(alpha, "other")["preserved"] if row["digest"]]

    until("their contents have been read", lambda: len(read()) == 2)
    first, second = sorted(read(), key=lambda row: str(row["path"]))
    assert (first["store"], first["members"], first["written_by"]) == ("PreExisting", ["m1"], None)
    assert first["digest"] == blake3(b"kept before").hexdigest()
    assert "other: " in beta.cli("preserved", "list")
    beta.cli("folder", "set", "other", "preserved_quota=0", "preserved_min_age=0")
    beta.cli("wait", "--folder", "other", "--members", "2")
    assert beta.folder_status("other")["preserved"]["files"] == 2, "no quota empties it"
    beta.cli("preserved", "restore", first["id"].removeprefix("other:"), "--folder", "other", "--to", "new/place")
    until("alpha has it", lambda: (alpha.folder("other") / "new/place").exists())
    assert (alpha.folder("other") / "new/place").read_bytes() == b"kept before"
    kept = beta.run("preserved", "empty", "PreExisting", "--folder", "other", "--older-than", "1d")
    assert kept.stdout.startswith("deleted 0 files")
    assert beta.cli("preserved", "empty", "PreExisting", "--folder", "other").startswith("deleted 1 files")
    assert listed(alpha, "other")["preserved"] == []
    assert second["path"] == "twice"


def test_a_loser_is_listed_by_all_brought_back_by_any_and_stands_beside_the_winner_where_that_is_wanted(
    servers: Servers,
) -> None:
    members = alpha, beta, gamma = servers.group(3)
    stay(members)
    put(alpha.folder() / "dir/report.txt", b"before")
    put(alpha.folder() / "gone", b"to be deleted")
    all_the_same(servers, members)

    # Edit and edit: the loser is kept by its author; every member lists it, with who, when and why.
    together(servers, list(members), "dir/report.txt", {"m0": b"alpha's", "m1": b"beta's"})
    for member in members:
        (row,) = listed(member)["preserved"]
        assert (row["path"], row["kind"], row["bytes"]) == ("dir/report.txt", "file", len(b"alpha's"))
        assert (row["written_by"], row["won_by"]) == ("m0", "m1")
        assert set(row["members"]) in ({"m0"}, {"m0", "m2"}), "m2 may have had it installed for a moment"
        assert (row["why"], row["store"]) == ("edited elsewhere meanwhile", "ConflictAndDeleted")
        assert row["digest"] == blake3(b"alpha's").hexdigest()
    assert "alpha's" not in gamma.cli("preserved", "list")
    assert row["id"] in gamma.cli("preserved", "list")
    assert json.loads(gamma.cli("preserved", "list", "--folder", "docs", "--json")) == listed(gamma)
    assert listed(gamma)["not_answering"] == []

    # Deleted only where it is kept; brought back by whoever asks, beside the winner.
    at_alpha = next(one for one in row["ids"] if ":m0:" in one)
    refused = gamma.run("preserved", "delete", at_alpha)
    assert (refused.returncode, "m0" in refused.stderr) == (1, True), refused
    taken = gamma.run("preserved", "restore", at_alpha, "--to", "gone")
    assert (taken.returncode, "nothing is overwritten" in taken.stderr) == (1, True), taken
    assert gamma.run("preserved", "restore", at_alpha, "--to", "../out").returncode == 1
    assert gamma.run("preserved", "restore", "docs:m0:999").returncode == 1
    assert gamma.run("preserved", "restore", "nonsense").returncode == 2
    done = json.loads(gamma.cli("preserved", "restore", at_alpha, "--json"))
    assert (done["path"], done["member"]) == ("dir/report (restored).txt", "m0")
    all_the_same(servers, members)
    assert (gamma.folder() / "dir/report (restored).txt").read_bytes() == b"alpha's"
    assert (gamma.folder() / "dir/report.txt").read_bytes() == b"beta's"
    assert all("m0" not in row["members"] for row in listed(beta)["preserved"])

    # Losers beside winners, for the whole group; and taken back.
    beta.cli("folder", "set", "docs", "conflicts=sibling")
    for member in members:
        until(f"{member.name} has the policy", lambda m=member: policy(m) == "sibling")  # type: ignore[misc]
    together(servers, list(members), "plan.txt", {"m0": b"first", "m2": b"second"})
    for member in members:
        assert (member.folder() / "plan.txt").read_bytes() == b"second"
        assert sibling_of(member.folder(), "plan").read_bytes() == b"first"
    assert not [row for row in listed(alpha)["preserved"] if row["path"] == "plan.txt"]
    name = sibling_of(alpha.folder(), "plan").name
    gamma.cli("folder", "set", "docs", "conflicts=default")
    for member in members:
        until(f"{member.name} has no sibling", lambda m=member: name not in names_in(m.folder()))  # type: ignore[misc]
    all_the_same(servers, members)
    (row,) = (row for row in listed(gamma)["preserved"] if row["path"] == name)
    assert (row["why"], row["won_by"]) == ("another object has its name", "m2")
    assert set(row["members"]) == {"m0", "m1", "m2"}, "each had it installed, and one line names them all"
    assert len(row["ids"]) == 3

    pre_existing_is_brought_back_and_emptied_by_the_operator_alone(alpha, beta)

    # Who is away is named; the quota takes the oldest once they are old enough; the rest the operator deletes.
    beta.stop()
    answer = listed(alpha)
    assert [(one["member"], one["folder"]) for one in answer["not_answering"]] == [("m1", "docs")]
    assert "m1 is not in this list" in alpha.cli("preserved", "list")
    (own,) = (one for row in answer["preserved"] for one in row["ids"] if ":m0:" in one)
    alpha.cli("folder", "set", "docs", "preserved_quota=1")
    alpha.cli("wait", "--folder", "docs", "--members", "2")
    assert alpha.folder_status()["preserved"]["files"] == 1, "it is younger than 30 days"
    alpha.cli("folder", "set", "docs", "preserved_min_age=0")
    until("the quota has taken it", lambda: alpha.folder_status()["preserved"]["files"] == 0)
    assert alpha.run("preserved", "restore", own).returncode == 1
    left = [one for row in listed(gamma)["preserved"] for one in row["ids"] if ":m2:" in one]
    assert f"{len(left)} preserved files" in gamma.cli("preserved", "delete", *left)
    assert gamma.folder_status()["preserved"]["files"] == 0


def policy(server: Server) -> str:
    folders = server.ask("GET", "/v1/folders")["folders"]
    return str(next(folder["conflicts"] for folder in folders if folder["name"] == "docs"))
