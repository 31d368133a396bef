"""A home that was copied to a second machine while both run, and one that was moved with its folders.

Of two daemons with one key the first to come stays and the other is refused, and says why. Whatever its users wrote is
kept: it is replicated, or in PreExisting, once the other is gone.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.system.folder_tools import all_the_same, kept_contents, put
from tests.system.harness import Server, Servers, until


def copied(servers: Servers, original: Server, name: str, *, move: bool = False) -> Server:
    """Home and folder of one that does not run, as a backup program or `cp -a` would have them elsewhere."""
    other = servers.add(name)
    for source, target in ((original.home, other.home), (original.folder(), other.folder())):
        shutil.rmtree(target, ignore_errors=True)
        if move:
            source.rename(target)
        else:
            shutil.copytree(
                source, target, symlinks=True, ignore=lambda _, names: [n for n in names if n.endswith("sock")]
            )
    kept = other.home / "folders.toml"
    kept.write_text(kept.read_text().replace(str(original.folder()), str(other.folder())))
    other.settings = dict(original.settings)
    return other


def refusal(server: Server) -> str:
    """Why the other member cannot be reached."""
    return next((row["error"] or "" for row in server.status()["members"] if not row["connected"]), "")


def filled(servers: Servers) -> tuple[Server, Server]:
    one, two = servers.group(2)
    for number in range(50):
        put(one.folder() / f"d{number % 5}/f{number}", b"%d" % number)
    servers.synchronized(one, members=2)
    two.stop()
    return one, two


def contents(root: Path) -> set[bytes]:
    return {path.read_bytes() for path in root.rglob("*") if path.is_file() and not path.is_symlink()}


def test_of_two_daemons_on_copies_of_one_home_the_second_is_refused_and_nothing_is_lost(servers: Servers) -> None:
    one, two = filled(servers)
    copy = copied(servers, two, "copy")
    two.start()
    until("the original is connected", lambda: one.status()["members"][0]["connected"])
    put(two.folder() / "original", b"by the original")
    servers.synchronized(one, members=2)
    copy.start()
    until("it hears why", lambda: "another daemon with this member's key is connected from" in refusal(copy))
    assert "one of the two homes is a copy of the other" in copy.cli("status")
    put(copy.folder() / "by-the-copy", b"by the copy")
    put(one.folder() / "beside", b"goes on")
    servers.synchronized(one, members=2)
    assert (two.folder() / "beside").exists()
    assert not (one.folder() / "by-the-copy").exists()
    assert copy.last_words().count("refuses this member") == 1, "it is said once"

    two.stop()  # it is taken out of use: the copy is the member now
    held = copy.folder_status()
    assert held["held"], held["reason"]
    copy.cli("hold", "approve", "docs")
    all_the_same(servers, [one, copy])
    assert {b"by the original", b"goes on"} <= contents(one.folder())
    assert b"by the copy" in kept_contents([one, copy])


def test_a_home_that_was_moved_with_its_folder_goes_on_as_the_same_member(servers: Servers) -> None:
    one, two = filled(servers)
    put(two.folder() / "while-stopped", b"while it was moved")
    moved = copied(servers, two, "moved", move=True)
    moved.start()
    all_the_same(servers, [one, moved])
    assert (one.folder() / "while-stopped").read_bytes() == b"while it was moved"
    assert moved.folder_status()["preserved"]["files"] == 0
    assert [row["name"] for row in one.status()["members"]] == ["m1"]
