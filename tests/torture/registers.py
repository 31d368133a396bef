"""I5: a CN names one change; I9: nobody makes changes when no user does. Catalogs are read as SQLite files."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

REGISTERS = ("place", "content")
FINDINGS_MAX = 8


def used_twice(homes: Iterable[Path]) -> list[str]:
    """Lines, one for each CN that stands for one thing in one catalog and for another thing in another."""
    meaning: dict[tuple[bytes, int, str], tuple[str, bytes]] = {}
    findings = []
    for home in homes:
        for path in sorted((home / "catalog").glob("*.db")):
            for replica, counter, register, told in _registers(path):
                name = (replica, counter, f"{path.name} {register}")
                first, before = meaning.setdefault(name, (str(home), told))
                if before != told:
                    cn = f"{replica.hex()}:{counter}"
                    findings.append(f"I5: {cn} ({name[2]}) stands for two changes, in {first} and in {home}")
    return findings[:FINDINGS_MAX]


def newest(homes: Iterable[Path]) -> dict[str, int]:
    """The newest change of each replica of the folder that any member holds: what grows with an echo. The hierarchy is
    left out: members write down there what they find of each other."""
    counters: dict[str, int] = {}
    for home in homes:
        for path in sorted((home / "catalog").glob("*.db")):
            if path.stem != "hierarchy":
                for replica, counter, _, _ in _registers(path):
                    counters[replica.hex()] = max(counter, counters.get(replica.hex(), 0))
    return counters


def _registers(path: Path) -> list[tuple[bytes, int, str, bytes]]:
    """Replica id, counter, which register, and its object with what it says."""
    found = []
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        for register in REGISTERS:
            rows = db.execute(
                f"SELECT r.id, o.{register}_counter, o.uid, o.{register}_raw FROM object o"
                f" JOIN replica r ON r.no = o.{register}_replica"
            )
            found += [(bytes(replica), counter, register, uid + raw) for replica, counter, uid, raw in rows]
    return found
