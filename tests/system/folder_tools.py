"""What system tests of folders share: `wait` without a process of its own, kinds of files, a look into catalogs."""

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from replicad.catalog import database
from replicad.catalog.store import Reader
from replicad.cli.client import request
from tests.system.harness import Server, Servers
from tests.tree_compare import read_tree

ANSWER_MORE_S = 30.0
"""A `wait` is answered when its time is out, or a little later on a machine that is busy."""
MTIME_NS = 1_600_000_000_123_456_789
Pair = tuple[Servers, list[Server]]
"""Two running members that the tests of a module share (the fixture `pair`)."""


def put(path: Path, data: bytes, mode: int = 0o644, mtime_ns: int = MTIME_NS) -> None:
    """A file, its directories made; what was at the path is written in place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(mode)
    os.utime(path, ns=(mtime_ns, mtime_ns))


def wait(server: Server, members: int, timeout_s: float = 60) -> None:
    """`replicad wait` over the control socket; raises where it does not come to an end in time."""
    question = {"members": members, "timeout_s": timeout_s}
    answer: dict[str, Any] = request(server.home, "POST", "/v1/wait", question, timeout_s=timeout_s + ANSWER_MORE_S)
    assert answer["done"], f"wait on {server.name}: {answer['text']}"


def stay(members: Iterable[Server]) -> None:
    """Listen at the same address after a restart: members that have all moved at one time cannot find each other."""
    for member in members:
        member.settings["REPLICAD_MEMBER_LISTEN"] = member.status()["member"]["addresses"][0]


def all_the_same(servers: Servers, members: Sequence[Server]) -> None:
    """After a `wait` on each of them."""
    for member in members:
        wait(member, len(members))
    servers.same(members)


def at_rest(members: Sequence[Server], preserved: int | None = 0) -> None:
    """State 4, nothing blocked, and so many files preserved on all of them together (None: any number)."""
    for member in members:
        shot = member.folder_status()
        assert (member.name, shot["state"], shot["blocked"]) == (member.name, 4, []), shot
    rows = [row for member in members for row in preserved_rows(member)]
    assert preserved is None or len(rows) == preserved, rows


def preserved_rows(server: Server) -> list[tuple[str, bytes, str]]:
    """Its name, path and reason of each file that it has preserved."""
    with closing(sqlite3.connect(_catalog_path(server, _only_folder(server)))) as db:
        return [(server.name, *row) for row in db.execute("SELECT path, why FROM preserved ORDER BY id")]


def catalog(server: Server) -> Reader:
    """A snapshot of the catalog of its one folder; the caller closes it."""
    folder = server.folder_status()["id"] if server.running else _only_folder(server)
    return Reader(database.open_reader(_catalog_path(server, folder)), server.name, own=True)


def head_of(server: Server) -> int:
    """How many records it has stored so far, those stored anew counted again."""
    with catalog(server) as reader:
        return reader.head


def kept_contents(members: Iterable[Server], folder: str = "docs") -> set[bytes]:
    """All contents that are anywhere on the members' disks: in the trees and in what is preserved; staging is not."""
    return set(_contents(member.folder(folder) for member in members))


def _contents(roots: Iterable[Path]) -> Iterator[bytes]:
    for root in roots:
        for place, directories, names in os.walk(root):
            if place == str(root / ".replicad"):
                directories[:] = [name for name in directories if name in ("ConflictAndDeleted", "PreExisting")]
            for name in names:
                path = Path(place, name)
                if path.is_file() and not path.is_symlink():
                    yield path.read_bytes()


def assert_no_cn_used_twice(stopped: Sequence[Server]) -> None:
    """I5: a CN names one register. Each catalog agrees with itself, and all of them give a CN one meaning."""
    meaning: dict[tuple[bytes, int, str], bytes] = {}
    for server in stopped:
        with catalog(server) as reader:
            assert reader.faults() == [], server.name
        with closing(sqlite3.connect(_catalog_path(server, _only_folder(server)))) as db:
            for register in ("place", "content"):
                rows = db.execute(
                    f"SELECT r.id, o.{register}_counter, o.uid, o.{register}_raw FROM object o"
                    f" JOIN replica r ON r.no = o.{register}_replica"
                )
                for replica, counter, *told in rows:
                    register_told = b"".join(told)
                    assert meaning.setdefault((replica, counter, register), register_told) == register_told, (
                        server.name,
                        counter,
                    )
    assert meaning


def names_in(folder: Path) -> set[str]:
    """Paths in the tree, for people: bytes that are no UTF-8 as in `os.fsdecode`."""
    return {os.fsdecode(path) for path in read_tree(folder)}


def _catalog_path(server: Server, folder: str) -> Path:
    path = server.home / "catalog" / f"{folder}.db"
    assert path.exists(), sorted((server.home / "catalog").iterdir())
    return path


def _only_folder(server: Server) -> str:
    found = [path.stem for path in (server.home / "catalog").glob("*.db") if path.stem != "hierarchy"]
    assert len(found) == 1, found
    return found[0]
