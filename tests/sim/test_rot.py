"""A value that becomes another one in a catalog: the folder says so and waits, or goes on, and nothing is lost."""

from __future__ import annotations

import pytest
from blake3 import blake3

from replicad.catalog.schema import METADATA
from tests.sim.rot import Rot
from tests.sim.script import a_group, assert_nothing_kept, assert_tree

HISTORIES = (
    ("object", "uid"),
    ("object", "place_raw"),
    ("object", "content_raw"),
    ("object", "present"),
    ("object", "position"),
    ("object", "node"),
    ("node", "inode"),
    ("node", "name"),
    ("node", ""),
    ("meta", ""),
    ("series", "position"),
    ("peer", "status"),
    ("replica", "id"),
    ("preserved", ""),
    ("out", ""),
    ("intent", ""),
    ("manifest", ""),
)
"""Tables and columns; "": any. `python -m tests.sim.rot` has as many as wanted. A folder has no invitations."""
SEEDS_MAX = 30
"""Some end with nothing in the table."""


@pytest.mark.parametrize(("table", "column"), HISTORIES)
def test_nothing_is_lost_by_a_value_that_was_changed_in_a_catalog(table: str, column: str) -> None:
    outcomes = (Rot(seed, METADATA.tables[table], column).run() for seed in range(SEEDS_MAX))
    assert next(outcome for outcome in outcomes if outcome != "nothing there") in ("met", "counted anew", "goes on")


def test_a_record_that_was_changed_is_told_to_nobody() -> None:
    """Who has lost its catalog would take it for what the group has."""
    group = a_group("abc", {"f": 1, "g": 2}, pairs="ab bc")
    a, b, _c = group.members.values()
    reasons: list[str] = []
    b.on_failure = lambda error: reasons.append(str(error)) is None
    b.stop()
    db = b.database.connection
    ((number, raw),) = db.execute("SELECT no, content_raw FROM object WHERE name = ?", (b"f",)).fetchall()
    changed = raw.replace(blake3(b"1").digest(), blake3(b"another").digest())
    assert changed != raw
    db.execute("UPDATE object SET content_raw = ? WHERE no = ?", (changed, number))
    a.stop()
    group.ledger.forgot(a)
    a.put_catalog_back(None)
    a.start()
    b.start()
    group.run(10_000)
    assert not b.up
    assert ["a value in its table object is not the one that was written" in reason for reason in reasons] == [True]
    group.ledger.forgot(b)
    b.put_catalog_back(None)
    group.heal()
    assert_tree(group, {"f": 1, "g": 2})
    assert_nothing_kept(group)
