"""Lookups that must cost what they find, however large the directory or the backlog is."""

from __future__ import annotations

import pytest

from replicad.catalog import lookups
from replicad.catalog.store import Catalog
from replicad.core.draft import Draft
from replicad.core.ids import ROOT, Uid
from replicad.core.records import FILE, Content, Place, record
from replicad.core.view import ObjectState

FOLDER = bytes(16)


@pytest.mark.parametrize(
    ("statement", "index"),
    [
        (lookups._PRESENT_NAMED, "object_place (parent=? AND name=? AND present=?)"),
        (lookups._PRESENT_CHILDREN, "object_child (parent=?)"),
        (lookups._PENDING_AFTER, "object_pending ((pending_commit,uid)>(?,?))"),
        (lookups._NODE_AT, "node_name (parent=? AND name=?)"),
    ],
)
def test_a_lookup_is_served_by_its_index(statement: str, index: str) -> None:
    catalog = Catalog.open(None, FOLDER, lambda: 9)
    plan = catalog._db.execute("EXPLAIN QUERY PLAN " + statement, (b"",) * statement.count("?")).fetchall()
    assert index in plan[0][-1]
    assert len(plan) == 1, "no sorting beside it"


def test_a_walk_through_what_waits_goes_on_where_it_ended() -> None:
    catalog = Catalog.open(None, FOLDER, lambda: 9)
    for first in (1, 11, 21):
        _make_pending(catalog, range(first, first + 10))
    walked: list[Uid] = []
    cursor = (0, b"")
    while rows := catalog.pending_after(*cursor, 7):
        cursor = rows[-1]
        walked += [uid for _, uid in rows]
    assert walked == list(catalog.pending(100)) == [_uid(number) for number in range(1, 31)]
    _make_pending(catalog, [0x99])
    assert [uid for _, uid in catalog.pending_after(*cursor, 7)] == [_uid(0x99)]


def test_the_walk_does_not_meet_what_no_longer_waits() -> None:
    catalog = Catalog.open(None, FOLDER, lambda: 9)
    _make_pending(catalog, range(1, 5))
    draft = Draft(catalog)
    draft.update(_uid(2), pending=False)
    catalog.commit(draft, now_ms=1)
    assert [uid for _, uid in catalog.pending_after(0, b"", 7)] == [_uid(1), _uid(3), _uid(4)]


def _make_pending(catalog: Catalog, numbers: range | list[int]) -> None:
    draft = Draft(catalog)
    for number in numbers:
        place = Place(7, number, 5, (), ROOT, b"%d" % number, ROOT, b"")
        content = Content(7, number, 5, (), None, 0o644, 0, 1, bytes(32), b"")
        draft.put(ObjectState(record(_uid(number), FILE, place, content), pending=True))
    catalog.commit(draft, now_ms=1)


def _uid(number: int) -> Uid:
    return (7).to_bytes(8, "big") + number.to_bytes(8, "big")
