"""A founder that comes too late (docs/safety.md, section 8)."""

from __future__ import annotations

import pytest

from replicad.catalog.changes import SetMeta
from replicad.catalog.database import MemoryDatabase
from replicad.catalog.store import Catalog
from replicad.core.collection import Circle
from replicad.engine.latecomer import AGAIN_MS, Latecomer
from replicad.engine.phases import ORIGINALS_META, Role, phase_at_start

OWN, OTHER = "aa" * 32, "bb" * 32
FOUNDERS = {name: tuple(map(bytes.fromhex, ids)) for name, ids in {"own": [OWN], "other": [OTHER]}.items()}


def circle(founders: str, *, alone: bool = False, heard: bool = True) -> Circle:
    others = frozenset[str]() if alone else frozenset({OTHER})
    return Circle(True, others, alone=alone, founded=True, heard=heard, founders=FOUNDERS.get(founders))


def a_catalog(role: Role = Role.FOUNDER) -> Catalog:
    catalog = Catalog.open(MemoryDatabase(), b"f", lambda: 7)
    phase_at_start(catalog, role, 0)
    return catalog


@pytest.mark.parametrize(
    ("seen", "late", "settled"),
    [
        (circle("nobody"), False, False),
        (circle("own"), False, True),
        (circle("own", heard=False), False, False),
        (circle("own", alone=True), False, False),
        (circle("other"), True, True),
        (circle("other", heard=False), True, True),
        (circle("other", alone=True), False, True),
        (None, False, False),
    ],
)
def test_a_founder_comes_too_late_where_the_end_of_the_founding_does_not_count_it(
    seen: Circle | None, late: bool, settled: bool
) -> None:
    catalog = a_catalog()
    latecomer = Latecomer(catalog, OWN, lambda: seen)
    assert latecomer.unsettled
    assert latecomer.look(0) is late
    assert latecomer.unsettled is not settled
    assert (catalog.meta(ORIGINALS_META) is None) is (settled and not late), "who is late begins anew in one commit"


def test_once_it_is_settled_no_other_end_counts() -> None:
    seen = [circle("own")]
    catalog = a_catalog()
    latecomer = Latecomer(catalog, OWN, lambda: seen[-1])
    assert not latecomer.look(0)
    seen.append(circle("other"))
    assert not latecomer.look(AGAIN_MS)
    assert not Latecomer(catalog, OWN, lambda: seen[-1]).look(AGAIN_MS)


def test_it_is_looked_for_once_a_second_unless_a_peer_says_so() -> None:
    seen = [circle("nobody")]
    latecomer = Latecomer(a_catalog(), OWN, lambda: seen[-1])
    assert not latecomer.look(0)
    seen.append(circle("other"))
    assert not latecomer.look(AGAIN_MS - 1)
    assert latecomer.look(AGAIN_MS - 1, told=True)


@pytest.mark.parametrize("role", [Role.JOINER, Role.MERGER, Role.RETURNER])
def test_who_did_not_begin_with_originals_is_never_late(role: Role) -> None:
    assert not Latecomer(a_catalog(role), OWN, lambda: circle("other")).look(0)


def test_a_catalog_of_before_there_was_this_is_never_late() -> None:
    catalog = a_catalog()
    catalog.commit(None, [SetMeta(ORIGINALS_META, None)], now_ms=0)
    assert not Latecomer(catalog, OWN, lambda: circle("other")).look(0)
