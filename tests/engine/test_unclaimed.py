"""Which places are kept, and what counts as new there (engine.unclaimed)."""

from __future__ import annotations

import pytest

from replicad.catalog.database import MemoryDatabase
from replicad.catalog.store import Catalog
from replicad.core.draft import Draft
from replicad.core.records import DIRECTORY, FILE
from replicad.core.view import FIRST_FREE_NODE, ROOT_NODE, Node
from replicad.engine import unclaimed
from replicad.engine.unclaimed import AHEAD_MS, HELD_BACK, UNCLAIMED_META, Unclaimed, is_new
from replicad.files.fs import Stat

D, E, F = FIRST_FREE_NODE, FIRST_FREE_NODE + 1, FIRST_FREE_NODE + 2
"""Directories d, d/e and f: the first nodes that a catalog gives."""
SINCE_MS, NOW_MS = 1_000_000, 2_000_000
OLD_NS, NEW_NS = 900_000 * 1_000_000, 1_500_000 * 1_000_000
BEYOND_NS = (NOW_MS + AHEAD_MS + 1) * 1_000_000


def stat(kind: int = FILE, *, birth_ns: int = OLD_NS, mtime_ns: int = OLD_NS, ctime_ns: int = OLD_NS) -> Stat:
    return Stat(kind, 77, 1, mtime_ns, ctime_ns, birth_ns, 0o644, 1, 1)


@pytest.mark.parametrize(
    ("seen", "new"),
    [
        (stat(), False),
        (stat(ctime_ns=NEW_NS), False),
        (stat(mtime_ns=NEW_NS), True),
        (stat(birth_ns=NEW_NS), True),
        (stat(mtime_ns=BEYOND_NS), False),
        (stat(DIRECTORY, mtime_ns=NEW_NS), False),
        (stat(DIRECTORY, birth_ns=NEW_NS), True),
        (stat(DIRECTORY, birth_ns=0, mtime_ns=NEW_NS), False),
        (stat(birth_ns=0), False),
    ],
    ids=["old", "mode changed", "written", "made", "another clock", "moved out of", "directory", "untold", "no birth"],
)
def test_what_was_made_or_written_since_is_new(seen: Stat, new: bool) -> None:
    assert is_new(seen, SINCE_MS, NOW_MS) == new


@pytest.fixture
def catalog() -> Catalog:
    opened = Catalog.open(MemoryDatabase(), bytes(16), lambda: 7)
    draft = Draft(opened)
    for node, parent, name in ((D, ROOT_NODE, b"d"), (E, D, b"e"), (F, ROOT_NODE, b"f")):
        assert draft.new_node_id() == node
        draft.put_node(Node(node, parent, name, DIRECTORY, node, 0, 0, 0, 0, 0o755))
    opened.commit(draft, now_ms=1)
    return opened


def stored(catalog: Catalog, kept: Unclaimed) -> Unclaimed:
    """As it is after a restart."""
    catalog.commit(None, kept.changes(), now_ms=2)
    return Unclaimed(catalog)


def test_a_place_is_kept_over_a_restart_and_asked_for_then(catalog: Catalog) -> None:
    kept = Unclaimed(catalog)
    kept.keep((D, b"x"), SINCE_MS, "permission denied")
    again = stored(catalog, kept)
    assert (D, b"x") in again
    assert again.since_ms((D, b"x")) == SINCE_MS
    assert list(again.asked) == [(D, b"x")]
    again.drop((D, b"x"))
    assert len(stored(catalog, again)) == 0
    assert catalog.meta(UNCLAIMED_META) is None


def test_nothing_at_the_place_or_beneath_the_directory_is_new(catalog: Catalog) -> None:
    kept = Unclaimed(catalog)
    kept.keep((ROOT_NODE, b"x"), SINCE_MS, "permission denied")
    kept.keep((D, b""), SINCE_MS)
    assert kept.holds_back(catalog, (ROOT_NODE, b"x"), stat(), NOW_MS) == f"{HELD_BACK} (permission denied)"
    assert kept.holds_back(catalog, (E, b"deep"), stat(), NOW_MS) == HELD_BACK
    assert list(kept.asked) == [(ROOT_NODE, b"x"), (D, b"")]
    assert not kept.holds_back(catalog, (E, b"deep"), stat(mtime_ns=NEW_NS), NOW_MS)
    assert not kept.holds_back(catalog, (ROOT_NODE, b"y"), stat(), NOW_MS)
    assert not kept.holds_back(catalog, (F, b"x"), stat(), NOW_MS)


def test_what_is_held_against_the_group_from_the_beginning_has_no_place(catalog: Catalog) -> None:
    kept = Unclaimed(catalog)
    kept.keep((D, b"x"), SINCE_MS)
    again = stored(catalog, kept)
    again.begin()
    assert len(stored(catalog, again)) == 0


def test_beyond_the_limit_a_directory_stands_for_what_is_in_it_then_the_folder(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unclaimed, "PLACES_MAX", 2)
    kept = Unclaimed(catalog)
    for name in (b"x", b"y", b"z"):
        place = kept.keep((D, name), SINCE_MS)
    assert place == (D, b"")
    assert len(kept) == 1
    kept.keep((E, b"x"), SINCE_MS)
    assert kept.keep((F, b"x"), SINCE_MS + 1) == (ROOT_NODE, b"")
    assert len(kept) == 1
    assert kept.since_ms((ROOT_NODE, b"")) == SINCE_MS + 1, "nothing old is new"
    assert kept.holds_back(catalog, (F, b"anything"), stat(), NOW_MS)
