"""Every kind of conflict among three real members, in one group that keeps a folder under each policy.

What is done apart is done while no daemon runs: m0 first, m2 last, so the higher number wins what is decided by the
time. Each case has a directory of its own. Every member ends with the same tree, and lists each loser with who wrote
it, who won, when and why.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from tests.system.folder_tools import names_in, stay, wait
from tests.system.harness import Server, Servers, until

EDITED, NAME_TAKEN = "edited elsewhere meanwhile", "another object has its name"
POLICIES = {"docs": "preserve", "more": "sibling"}
TICK_NS = 20_000_000
"""Stamps have milliseconds, file times the kernel's ticks."""

Act = Callable[[Path], object]


@dataclass(frozen=True)
class Loser:
    """`content` lost at a name in the case's directory, or at each of these: where it was on each disk that had it.
    `number`: of the member that wrote it; `won`: those that it may have lost to."""

    names: tuple[str, ...]
    content: bytes
    why: str
    number: int
    won: tuple[int, ...]

    @property
    def digest(self) -> str:
        return str(blake3(self.content).hexdigest())


@dataclass(frozen=True)
class Case:
    """What each member does, and what is there in the end: names and contents (None: of a directory).

    Losers of a content are preserved under either policy; losers of a name are preserved or stand beside the winner.
    """

    name: str
    acts: dict[int, Act]
    ends: dict[str, bytes | None]
    losers: tuple[Loser, ...] = ()

    def preserved(self, policy: str) -> list[Loser]:
        return [one for one in self.losers if policy == "preserve" or one.why == EDITED]

    def beside(self, policy: str) -> list[Loser]:
        return [one for one in self.losers if one not in self.preserved(policy)]


def by(number: int) -> bytes:
    """The content that a member writes."""
    return b"written by m%d" % number


def write(name: str, data: bytes) -> Act:
    def act(root: Path) -> None:
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(data)

    return act


def move(name: str, to: str) -> Act:
    return lambda root: (root / name).rename(root / to)


def delete(name: str) -> Act:
    return lambda root: (root / name).unlink()


def remove_tree(name: str) -> Act:
    return lambda root: shutil.rmtree(root / name)


BEFORE: dict[str, bytes | None] = {"f": b"f before", "h": b"h before"}
BEFORE |= dict.fromkeys("abcd") | {f"{name}/x": b"x in " + name.encode() for name in "abcd"}


def without(*names: str) -> dict[str, bytes | None]:
    """What was there before, less these and what was in them."""
    return {path: data for path, data in BEFORE.items() if path.split("/")[0] not in names}


CASES = (
    Case(
        "edit-edit",
        {0: write("f", by(0)), 2: write("f", by(2))},
        BEFORE | {"f": by(2)},
        (Loser(("f",), by(0), EDITED, 0, (2,)),),
    ),
    Case(
        "edit-edit-edit",
        {number: write("f", by(number)) for number in range(3)},
        BEFORE | {"f": by(2)},
        (Loser(("f",), by(0), EDITED, 0, (1, 2)), Loser(("f",), by(1), EDITED, 1, (2,))),
    ),
    Case("edit-edit-equal", {number: write("f", b"equal") for number in range(3)}, BEFORE | {"f": b"equal"}),
    Case("edit-delete", {0: write("f", by(0)), 1: delete("f")}, BEFORE | {"f": by(0)}),
    Case("delete-edit", {1: delete("f"), 2: write("f", by(2))}, BEFORE | {"f": by(2)}),
    Case("rename-edit", {0: move("f", "g"), 1: write("f", by(1))}, without("f") | {"g": by(1)}),
    Case(
        "edit-rename-in-a-directory",
        {0: write("d/x", by(0)), 2: move("d", "e")},
        without("d") | {"e": None, "e/x": by(0)},
    ),
    Case("rename-rename", {0: move("f", "g"), 1: move("f", "k")}, without("f") | {"k": b"f before"}),
    Case(
        "rename-rename-to-one-name",
        {1: move("h", "t"), 2: write("t", by(2))},
        without("h") | {"t": by(2)},
        (Loser(("h", "t"), b"h before", NAME_TAKEN, 0, (2,)),),
    ),
    Case(
        "cycle-of-two",
        {0: move("a", "b/a"), 1: move("b", "a/b")},
        without("a", "b") | {"b": None, "b/x": b"x in b", "b/a": None, "b/a/x": b"x in a"},
    ),
    Case(
        "cycle-of-three",
        {0: move("a", "b/a"), 1: move("b", "c/b"), 2: move("c", "a/c")},
        without("a", "b", "c")
        | {"c": None, "c/x": b"x in c", "c/b": None, "c/b/x": b"x in b", "c/b/a": None, "c/b/a/x": b"x in a"},
    ),
    Case("create-create-equal", {number: write("new", b"equal") for number in range(3)}, BEFORE | {"new": b"equal"}),
    Case(
        "create-create",
        {0: write("new", by(0)), 1: write("new", by(1))},
        BEFORE | {"new": by(1)},
        (Loser(("new",), by(0), NAME_TAKEN, 0, (1,)),),
    ),
    Case(
        "create-create-create",
        {number: write("new.txt", by(number)) for number in range(3)},
        BEFORE | {"new.txt": by(2)},
        (
            Loser(("new.txt",), by(0), NAME_TAKEN, 0, (1, 2)),
            Loser(("new.txt",), by(1), NAME_TAKEN, 1, (2,)),
        ),
    ),
    Case(
        "create-file-create-directory",
        {0: write("n/y", b"in a directory"), 2: write("n", by(2))},
        BEFORE | {"n": None, "n/y": b"in a directory"},
        (Loser(("n",), by(2), NAME_TAKEN, 2, (0,)),),
    ),
    Case(
        "directory-deleted-while-others-add-and-edit",
        {0: write("d/y", by(0)), 1: remove_tree("d"), 2: write("d/x", by(2))},
        BEFORE | {"d/y": by(0), "d/x": by(2)},
    ),
    Case(
        "directory-deleted-first",
        {0: remove_tree("d"), 1: write("d/y", by(1))},
        without("d") | {"d": None, "d/y": by(1)},
    ),
    Case(
        "edit-delete-rename",
        {0: write("f", by(0)), 1: delete("f"), 2: move("f", "g")},
        without("f") | {"g": by(0)},
    ),
)


def tick() -> None:
    """Until a change has a later stamp than all before."""
    after = time.time_ns() + TICK_NS
    until("the clock has gone on", lambda: time.time_ns() > after)


def act_apart(members: list[Server]) -> None:
    for member in members:
        member.stop()
    for number, member in enumerate(members):
        for folder in POLICIES:
            for case in CASES:
                if number in case.acts:
                    case.acts[number](member.folder(folder) / case.name)
        tick()
    for member in members:
        member.begin()
    for member in members:
        member.await_start()


@dataclass(frozen=True)
class Outcome:
    members: list[Server]
    listed: dict[str, list[dict[str, Any]]]
    """By folder: what the first member lists; the others list the same."""
    began: str
    ended: str


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcome]:
    servers = Servers(tmp_path_factory.mktemp("three"))
    try:
        members = first, *others = servers.group(3)
        stay(members)
        first.cli("folder", "create", "more", str(first.folder("more")))
        first.cli("folder", "set", "more", "conflicts=sibling")
        first.cli("wait", "--folder", "docs")
        for member in others:
            member.cli("folder", "join", "more", str(member.folder("more")))
        for folder in POLICIES:
            for case in CASES:
                for path, data in BEFORE.items():
                    if data is not None:
                        write(path, data)(make(first.folder(folder) / case.name))
        for member in members:
            wait(member, 3)
        began = now()
        act_apart(members)
        for member in members:
            wait(member, 3)
        for folder in POLICIES:
            servers.same(members, folder)
        lists = until("all that is kept has been read, and is listed by all alike", lambda: equal_lists(members))
        yield Outcome(members, lists, began, now())
    finally:
        servers.close()
        print(servers.logs())


def make(root: Path) -> Path:
    root.mkdir(exist_ok=True)
    return root


def now() -> str:
    """As in a list."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def equal_lists(members: list[Server]) -> dict[str, list[dict[str, Any]]] | None:
    """By folder, what every member lists; None while they differ, or contents have not been read."""
    found = {}
    for folder in POLICIES:
        first, *others = ({row_key(row): row for row in listed(member, folder)} for member in members)
        if any(other.keys() != first.keys() for other in others) or not all(row["digest"] for row in first.values()):
            return None
        found[folder] = list(first.values())
    return found


def row_key(row: dict[str, Any]) -> tuple[object, ...]:
    return (row["path"], row["digest"], row["why"], row["written_by"], row["won_by"], *sorted(row["members"]))


def listed(server: Server, folder: str) -> list[dict[str, Any]]:
    answer = server.ask("GET", f"/v1/preserved?folder={folder}")
    assert answer["not_answering"] == []
    return list(answer["preserved"])


@pytest.mark.timeout(180)
@pytest.mark.parametrize("folder", POLICIES, ids=POLICIES.get)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_i3_a_conflict_among_three_ends_in_one_tree_and_each_loser_is_kept_and_listed(
    outcome: Outcome, case: Case, folder: str
) -> None:
    policy = POLICIES[folder]
    for member in outcome.members:
        root = member.folder(folder) / case.name
        names = names_in(root)
        beside = {name for name in names if ".conflict-" in name}
        assert names - beside == set(case.ends), member.name
        for name, data in case.ends.items():
            assert data is None or (root / name).read_bytes() == data, (member.name, name)
        assert {(root / name).read_bytes() for name in beside} == {one.content for one in case.beside(policy)}
        assert len(beside) == len(case.beside(policy))

    rows = [row for row in outcome.listed[folder] if row["path"].startswith(f"{case.name}/")]
    for row in rows:
        path, digest = row["path"].removeprefix(f"{case.name}/"), row["digest"]
        (one,) = (one for one in case.preserved(policy) if path in one.names and one.digest == digest)
        assert (row["why"], row["store"], row["kind"]) == (one.why, "ConflictAndDeleted", "file")
        assert row["written_by"] == f"m{one.number}", row
        assert row["won_by"] in {f"m{number}" for number in one.won}, row
        assert len(row["ids"]) == len(row["members"])
        assert outcome.began <= row["when"] <= outcome.ended
    for one in case.preserved(policy):
        keepers = {member for row in rows if row["digest"] == one.digest for member in row["members"]}
        assert f"m{one.number}" in keepers, "its author had it installed; others may have had it for a moment"


def test_i1_after_all_conflicts_nothing_is_blocked_and_nothing_is_left_to_do(outcome: Outcome) -> None:
    for member in outcome.members:
        for shot in member.status()["folders"]:
            assert (shot["name"], shot["state"], shot["blocked"]) == (shot["name"], 4, [])
            assert shot["backlog_in"]["files"] == 0
