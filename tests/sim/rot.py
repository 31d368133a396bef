"""Catalogs in which a value becomes another one while their member is stopped, behind the backs of all that write it.

As a disk may do it: in a row alone, so that its indexes hold what was there; in an index alone; or, more than chance
can do, in both. Users go on writing, moving and deleting on all members. What must come of it: the folder ends with a
stated reason, at once or when it is counted anew, or nothing is wrong; and when an operator has moved the file away, or
need not, all members have one tree and nothing that a user wrote is lost. The catalogs are taken for large ones: the
daemon counts a small one before it is used, and of a large one the entries of the disk alone (daemon.counting).

`python -m tests.sim.rot --seeds N --first S` runs many.
"""

from __future__ import annotations

import argparse
import random
import sqlite3
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Table

from replicad.catalog import database
from replicad.catalog.schema import METADATA
from replicad.errors import ReplicadError
from tests.sim import ledger
from tests.sim.giving_up import give_up_what_is_lost
from tests.sim.group import Group
from tests.sim.member import SimMember
from tests.sim.user import Hand

COUNTED_MS = 60_000
"""As daemon.counting.FIRST_S."""
IN_ROW, IN_INDEX, IN_BOTH = "in the row", "in an index", "in both"


class Rot:
    """One history. `told` is what was changed; `reason` why the folder ended, "" where it did not."""

    def __init__(self, seed: int, table: Table | None = None, column: str = "") -> None:
        self.rng = random.Random(f"rot {seed}")
        self.group = Group("abc", seed)
        self.group.on_stuck = self._abandon
        self.hands = {name: Hand(member, self.rng) for name, member in self.group.members.items()}
        self.victim: SimMember = self.group["b"]
        self.table = table
        self.column = column
        self.told = self.reason = ""
        self.abandoned = 0

    def run(self) -> str:
        """What came of it."""
        group, victim = self.group, self.victim
        group.start_all()
        group.run(2_000)
        self._act(20)
        group.heal()
        self._act(8)
        if self.table is not None and self.table.name == "intent":
            victim.kill_before = lambda method, paths: bool(victim.up and victim.catalog.intents())
        victim.fault_in = self.rng.randrange(60)
        self._act(6)
        victim.crash()
        victim.kill_before = None
        self._act(4)
        if not self._change():
            return "nothing there"
        victim.on_failure = self._ends
        check_tree = group.ledger.check_tree
        # Until all is counted an index may hide what is in the tree.
        group.ledger.check_tree = lambda of, catalog: None if of is victim else check_tree(of, catalog)  # type: ignore[method-assign]
        if hidden := database.unsoundness(victim.database.connection, "integrity_check", "node"):
            self.reason = f"counted before use: {hidden}"  # as daemon.counting.check_before_use
        else:
            victim.start()
        self._act(8)
        group.run(COUNTED_MS)
        if victim.up and (faults := victim.catalog.faults()):
            self.reason = f"counted anew: {faults[0]}"
            victim.crash()
        ended = not victim.up
        if ended:
            assert self.reason, "it is down for no reason"
            assert "\n" not in self.reason
            self._act(4)
            group.ledger.forgot(victim)
            victim.put_catalog_back(None)
        victim.on_failure = lambda error: False
        group.ledger.check_tree = check_tree  # type: ignore[method-assign]
        group.heal()
        group.check()
        if not ended:
            return "goes on"
        return "counted anew" if self.reason.startswith("counted") else "met"

    def _abandon(self) -> bool:
        """What only the victim had, and its user took off meanwhile. What is settled on then may be an older version,
        of which a user has taken off a copy."""
        given_up = give_up_what_is_lost(list(self.group.members.values()))
        if given_up:
            self.abandoned += 1
            self.group.ledger.affirmed |= set(self.group.ledger.condemned)
        return given_up

    def _act(self, count: int) -> None:
        for _ in range(count):
            self.hands[self.rng.choice("abc")].act()
            self.group.run(self.rng.choice((0, 20, 300, 1_000)))

    def _ends(self, error: Exception) -> bool:
        """As daemon.folders: an error of ours is a reason; any other one where the catalog turns out to be broken."""
        if traceback.extract_tb(error.__traceback__)[-1].filename == ledger.__file__:
            return False  # an oracle's
        if isinstance(error, ReplicadError):
            self.reason = str(error)
            return True
        faults = self.victim.catalog.faults() if self.victim.up else ["before it was up"]
        self.reason = f"after {error!r}: {faults[0]}" if faults else ""
        return bool(faults)

    # -- what changes

    def _change(self) -> bool:
        db = self.victim.database.connection
        if db.in_transaction:
            db.execute("ROLLBACK")
        tables = [self.table] if self.table is not None else list(METADATA.sorted_tables)
        filled = [table for table in tables if db.execute(f'SELECT 1 FROM "{table.name}" LIMIT 1').fetchall()]
        if not filled:
            return False
        table = self.rng.choice(filled)
        column = self.column or self.rng.choice([column.name for column in table.c])
        indexed = any(column in index.c for index in table.indexes)
        how = self.rng.choice((IN_ROW, IN_INDEX, IN_BOTH) if indexed else (IN_ROW,))
        keys = [key.name for key in table.primary_key]
        rows = db.execute(f"SELECT {', '.join(keys)}, {column} FROM {table.name}").fetchall()
        for _ in range(50):
            *key, old = self.rng.choice(rows)
            new = self._other(old, [row[-1] for row in rows])
            if new == old:
                continue
            with open_to_all(db):
                try:
                    if how == IN_ROW:
                        with without_indexes(db, table.name):
                            update(db, table.name, column, new, keys, key)
                    else:
                        update(db, table.name, column, new, keys, key)
                        if how == IN_INDEX:
                            now = [new if name == column else value for name, value in zip(keys, key, strict=True)]
                            with without_indexes(db, table.name):
                                update(db, table.name, column, old, keys, now)
                except sqlite3.IntegrityError:
                    continue
            self.told = f"{table.name}.{column} {how}: {old!r} became {new!r} at {key}"
            return True
        return False

    def _other(self, old: object, others: list[object]) -> object:
        if old is None or self.rng.random() < 0.4:
            return self.rng.choice(others)
        if isinstance(old, int):
            return self.rng.choice((old ^ (1 << self.rng.randrange(40)), old + 1, old - 1, 0, 1))
        if isinstance(old, str):
            at = self.rng.randrange(max(1, len(old)))
            return old[:at] + self.rng.choice("0123456789abcdefz") + old[at + 1 :]
        assert isinstance(old, bytes)
        if not old:
            return b"\0"
        if self.rng.random() < 0.3:
            return self.rng.randbytes(len(old))
        at = self.rng.randrange(len(old))
        return old[:at] + bytes([old[at] ^ (1 << self.rng.randrange(8))]) + old[at + 1 :]


def update(db: sqlite3.Connection, table: str, column: str, value: object, keys: list[str], key: list[object]) -> None:
    where = " AND ".join(f"{name} = ?" for name in keys)
    db.execute(f'UPDATE "{table}" SET {column} = ? WHERE {where}', (value, *key))


@contextmanager
def open_to_all(db: sqlite3.Connection) -> Iterator[None]:
    """Constraints are for those who write."""
    db.execute("PRAGMA ignore_check_constraints = ON")
    try:
        yield
    finally:
        db.execute("PRAGMA ignore_check_constraints = OFF")


@contextmanager
def without_indexes(db: sqlite3.Connection, table: str) -> Iterator[None]:
    """What is done to the table meanwhile its indexes do not hear of; those of its constraints do."""
    db.execute("PRAGMA writable_schema = ON")
    rows = db.execute("SELECT * FROM sqlite_schema WHERE tbl_name = ? AND type = 'index' AND sql IS NOT NULL", (table,))
    hidden = rows.fetchall()
    db.execute("DELETE FROM sqlite_schema WHERE tbl_name = ? AND type = 'index' AND sql IS NOT NULL", (table,))
    _read_schema_again(db)
    try:
        yield
    finally:
        db.executemany("INSERT INTO sqlite_schema VALUES (?, ?, ?, ?, ?)", hidden)
        _read_schema_again(db)
        db.execute("PRAGMA writable_schema = OFF")


def _read_schema_again(db: sqlite3.Connection) -> None:
    ((version,),) = db.execute("PRAGMA schema_version").fetchall()
    db.execute(f"PRAGMA schema_version = {version + 1}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--table")
    given = parser.parse_args()
    found: Counter[str] = Counter()
    for seed in range(given.first, given.first + given.seeds):
        one = Rot(seed, METADATA.tables[given.table] if given.table else None)
        try:
            outcome = one.run()
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            outcome = "FAILED"
            print(f"seed {seed}: {one.told}; {one.reason}\n   {error!r:.600}", flush=True)
            if given.seeds == 1:
                raise
        found[outcome] += 1
        found["abandoned"] += one.abandoned
        if outcome in ("goes on", "counted anew"):
            print(f"seed {seed}: {outcome}: {one.told}; {one.reason}"[:300], flush=True)
    print(dict(found))


if __name__ == "__main__":
    main()
