"""One daemon: its home, its status, what it does without a group, and folders that fail by themselves."""

import json
import os
import signal
from pathlib import Path
from typing import Any

from tests.system.dying import SETTING
from tests.system.folder_tools import put
from tests.system.harness import ANY_PORT, Server, Servers, until


def test_a_second_daemon_is_told_which_process_holds_the_home(servers: Servers) -> None:
    one = servers.found()
    done = one.run("run")
    assert done.returncode == 1
    assert f"in use by process {one.pid}" in done.stderr


def test_init_and_join_work_through_daemons_that_have_no_group_yet(servers: Servers) -> None:
    one, two = servers.add("one"), servers.add("two")
    for server in (one, two):
        server.settings["REPLICAD_API_LISTEN"] = ANY_PORT
        server.start()
        assert server.status()["group"] is None
        assert server.run("folder", "list").returncode == 1
    one.cli("init", "--name", "one", "--listen", ANY_PORT)
    one.cli("folder", "create", "docs", str(one.folder()))
    two.cli("join", "-", "--name", "two", "--listen", ANY_PORT, stdin=one.cli("invite") + "\n")
    two.cli("folder", "join", "docs", str(two.folder()))
    (one.folder() / "f").write_text("x")
    servers.synchronized(one, members=2)
    servers.same([one, two])


def test_the_status_has_every_field_of_the_interface(servers: Servers) -> None:
    one, _ = servers.group(2)
    (one.folder() / "f").write_text("hello")
    servers.synchronized(one, members=2)
    shot = json.loads(one.cli("status", "--json"))
    wanted: dict[str, Any] = {
        "member": {"id", "name", "version", "replica_id", "uptime_s"},
        "group": {"id", "name"},
        "members": {"id", "name", "connected", "address", "rtt_ms", "last_seen"},
        "folders": {
            "id", "name", "path", "state", "state_name", "scanning", "objects", "bytes", "lag_s", "backlog_in",
            "backlog_out", "only_here", "staging", "preserved", "blocked",
        },
    }  # fmt: skip
    for part, fields in wanted.items():
        value = shot[part][0] if isinstance(shot[part], list) else shot[part]
        assert fields <= value.keys(), part
    (member,), (folder,) = shot["members"], shot["folders"]
    assert (member["name"], member["connected"]) == ("m1", True)
    assert (folder["state"], folder["state_name"], folder["objects"], folder["bytes"]) == (4, "Normal", 1, 5)
    assert folder["backlog_in"].keys() == {"files", "bytes", "oldest_s"}
    assert folder["backlog_out"][0].keys() == {"member", "files", "bytes", "oldest_s", "as_of"}
    assert folder["backlog_out"][0]["member"] == "m1"
    assert folder["only_here"].keys() == {"files", "bytes"}
    assert folder["staging"] == {"used_bytes": 0, "quota_bytes": 4 * 2**30}
    assert one.cli("status").startswith("member m0 of group demo")


def test_a_folders_settings_hold_at_once_and_after_a_restart(servers: Servers) -> None:
    one, _ = servers.group(2)
    one.cli("folder", "set", "docs", "staging_quota=8MiB")

    def shown() -> bool:
        return bool(one.folder_status()["staging"]["quota_bytes"] == 8 * 2**20)

    until("the quota is the new one", shown)
    one.stop()
    one.start()
    until("it is after a restart", shown)


def test_what_is_not_yet_elsewhere_shows_as_backlog_and_only_here(servers: Servers) -> None:
    one, two = servers.group(2)
    two.stop()
    for number in range(3):
        (one.folder() / f"f{number}").write_bytes(b"x" * 1_000)
    (one.folder() / "d").mkdir()
    servers.synchronized(one, members=1)
    shot = one.folder_status()
    (out,) = shot["backlog_out"]
    assert (out["member"], out["files"], out["bytes"]) == ("m1", 4, 3_000)
    assert out["oldest_s"] >= 0
    assert out["as_of"].endswith("Z")
    assert shot["only_here"]["bytes"] == 3_000
    assert {member["connected"] for member in one.status()["members"]} == {False}


def test_i10_a_folder_whose_disk_is_away_is_in_error_and_the_others_go_on(servers: Servers) -> None:
    one, two = servers.group(2)
    for server in (one, two):
        verb = "create" if server is one else "join"
        until("the folder is known", lambda s=server, v=verb: s.run("folder", v, "media", str(s.folder("media"))))  # type: ignore[misc]
    (one.folder("media") / "m").write_text("m")
    (one.folder() / "d").write_text("d")
    servers.synchronized(one, members=2)
    two.stop()
    away = two.folder("media").rename(two.base / "away")
    two.start()
    two.until_state(5, "media")
    reason = two.folder_status("media")["reason"]
    assert "media" in reason
    (one.folder() / "d2").write_text("more")
    one.cli("wait", "--folder", "docs")
    assert (two.folder() / "d2").exists()
    away.rename(two.folder("media"))
    two.until_state(4, "media")
    servers.synchronized(one, members=2)
    servers.same([one, two], "media")
    assert (one.folder("media") / "m").read_text() == "m"


def test_i6_an_emptied_root_deletes_nothing_anywhere(servers: Servers) -> None:
    one, two = servers.group(2)
    (one.folder() / "f").write_text("x")
    servers.synchronized(one, members=2)
    two.stop()
    moved = two.folder().rename(two.base / "moved")
    two.folder().mkdir()  # what an unmounted disk leaves: an empty mount point
    two.start()
    two.until_state(5)
    assert "marker" in two.folder_status()["reason"]
    assert one.run("wait", "--timeout", "1").returncode != 0
    assert (one.folder() / "f").read_text() == "x"
    two.stop()
    two.folder().rmdir()
    moved.rename(two.folder())
    two.start()
    servers.synchronized(one, members=2)
    servers.same([one, two])


def test_i12_a_transfer_that_was_killed_goes_on_and_leaves_whole_files(servers: Servers) -> None:
    one, two = servers.group(2)
    two.stop()
    two.module, two.settings = "tests.system.dying", {SETTING: "fetch: a part of a large file#5"}
    two.begin()
    put(one.folder() / "large", os.urandom(60_000_000))
    assert two.wait_for_end() == -signal.SIGKILL
    assert len(staged(two)) == 1, "killed in the middle of the transfer"
    two.module, two.settings = "replicad", {}
    assert not (two.folder() / "large").exists() or (two.folder() / "large").stat().st_size == 60_000_000
    two.start()
    servers.synchronized(one, members=2)
    servers.same([one, two])
    assert staged(two) == []


def staged(server: Server) -> list[Path]:
    """Contents that are being put together, or wait to be installed."""
    return list((server.folder() / ".replicad" / "staging").glob("new-*"))
