"""An edit made while stopped does not beat a later one made elsewhere, and beats an earlier one: on real daemons."""

from __future__ import annotations

import os
from pathlib import Path

from replicad.engine.scan_read import LARGE_BYTES
from tests.system.folder_tools import all_the_same, kept_contents, names_in, put, stay
from tests.system.harness import Server, Servers

LARGE = LARGE_BYTES + 1
OLD_NS = 1_000_000_000 * 10**9


def edit(root: Path, who: bytes) -> None:
    """As many kinds as there are: content, large and small, saved and copied; mode; name."""
    (root / "small").write_bytes(who)
    (root / "large").write_bytes(who * (LARGE // len(who)))
    (root / "saved~").write_bytes(who)
    (root / "saved~").replace(root / "saved")
    (root / "copied").write_bytes(who)
    os.utime(root / "copied", ns=(OLD_NS, OLD_NS))
    (root / "mode").chmod(0o600 + len(who) % 8)
    (root / "named").rename(root / f"named by {who.decode()}")
    (root / "directory").rename(root / f"directory of {who.decode()}")
    (root / "directory-mode").chmod(0o700 + len(who) % 8)


def seen(server: Server) -> None:
    server.ask("POST", "/v1/wait", {"members": 1})


def shown(root: Path) -> dict[str, object]:
    files = {name: (root / name).read_bytes() for name in ("small", "large", "saved", "copied")}
    modes = {name: (root / name).stat().st_mode for name in ("mode", "directory-mode")}
    return {**files, **modes, "names": names_in(root)}


def test_of_two_edits_made_apart_the_later_one_wins_whoever_was_stopped(servers: Servers) -> None:
    online, stopped = members = servers.group(2)
    stay(members)
    roots = {
        "the stopped one first": (stopped, online),
        "the stopped one last": (online, stopped),
    }
    for name in roots:
        for file in ("small", "large", "saved", "copied", "mode", "named", "directory/f", "directory-mode/f"):
            put(online.folder() / name / file, b"at first")
    all_the_same(servers, members)
    stopped.stop()
    edits = [
        (member, name, who)
        for turn, who in ((0, b"first"), (1, b"second one"))
        for name, turns in roots.items()
        for member in (turns[turn],)
    ]
    for member, name, who in edits:
        edit(member.folder() / name, who)
        seen(online)
    expected = {name: shown(turns[1].folder() / name) for name, turns in roots.items()}
    stopped.start()
    all_the_same(servers, members)
    for name, look in expected.items():
        assert shown(online.folder() / name) == look, name
    assert b"first" in kept_contents(members), "what lost is preserved"
