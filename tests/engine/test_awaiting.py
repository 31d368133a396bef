"""What a member waits for costs what comes to its end, however much is waited for: objects looked up are counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import pytest

from replicad.catalog.store import Catalog
from replicad.core.cnset import CNSet
from replicad.core.draft import Draft
from replicad.core.ids import ROOT, Cn, Uid, uid_of
from replicad.core.records import FILE, Content, Place, record
from replicad.core.view import ObjectState
from replicad.engine.awaiting import Awaiting

OTHER = 7
FEW, MANY = 50, 1_000


def pending(number: int) -> ObjectState:
    place = Place(OTHER, number, 5, (), ROOT, b"%d" % number, ROOT, b"")
    content = Content(OTHER, number, 5, (), None, 0o644, 0, 1, bytes(32), b"")
    return ObjectState(record(uid_of(Cn(OTHER, number)), FILE, place, content), pending=True)


def told(count: int) -> tuple[Catalog, Awaiting]:
    """So many files of another member, and a wait for all of them."""
    catalog = Catalog.open(None, bytes(16), lambda: 9)
    wanted = CNSet({OTHER: ((1, count),)})
    draft = Draft(catalog)
    for number in range(1, count + 1):
        draft.put(pending(number))
    draft.known = draft.known.union(wanted)
    catalog.commit(draft, now_ms=1)
    return catalog, Awaiting(catalog, wanted)


def install(catalog: Catalog, number: int) -> None:
    draft = Draft(catalog)
    draft.update(uid_of(Cn(OTHER, number)), pending=False)
    catalog.commit(draft, now_ms=1)


@pytest.fixture
def looked_up(monkeypatch: pytest.MonkeyPatch) -> list[Uid]:
    found: list[Uid] = []
    objects: Callable[..., Sequence[ObjectState]] = Catalog.objects

    def counting(self: Catalog, uids: Iterable[Uid]) -> Sequence[ObjectState]:
        asked = list(uids)
        found.extend(asked)
        return objects(self, asked)

    monkeypatch.setattr(Catalog, "objects", counting)
    return found


@pytest.mark.parametrize("backwards", [False, True])
def test_a_commit_costs_the_same_however_many_objects_are_waited_for(looked_up: list[Uid], backwards: bool) -> None:
    costs = []
    for count in (FEW, MANY):
        catalog, wait = told(count)
        wait.advance(CNSet())
        looked_up.clear()
        for number in range(count, 0, -1) if backwards else range(1, count + 1):
            assert not wait.done
            install(catalog, number)
            wait.advance(CNSet())
            while not wait.idle:
                wait.advance(CNSet())
        assert wait.done
        costs.append(len(looked_up) / count)
    assert costs[1] <= 1.2 * costs[0], costs
    assert costs[1] <= 5, "the first that is not done, and some beside it"


def test_who_is_told_how_many_are_left_is_told_of_those_that_are() -> None:
    catalog, wait = told(FEW)
    wait.advance(CNSet())
    for number in range(2, 12):
        install(catalog, number)
        wait.advance(CNSet())
    assert wait.missing() == FEW - 10
    assert not wait.done
    install(catalog, 1)
    wait.advance(CNSet())
    assert wait.missing() == FEW - 11
