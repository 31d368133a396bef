"""Whatever records arrive, in whatever batches, with crashes anywhere: the disk becomes what the tree wants."""

from __future__ import annotations

import random

import msgspec
import pytest

from replicad.core.ids import ROOT, Uid
from replicad.core.records import DIRECTORY, Record, record
from tests.core.histories import history
from tests.core.make import by_seed, directory
from tests.engine.rig import Crash, Rig

SEEDS = range(150)


def _histories(seed: int) -> list[list[Record]]:
    """Random records; whatever they name as a parent is a directory, and comes in the end."""
    batches = history(by_seed(seed))
    kinds = {one.uid: one.kind for batch in batches for one in batch}
    named: set[Uid] = set()
    sane: list[list[Record]] = []
    for batch in batches:
        sane.append([])
        for one in batch:
            place = one.place
            if place is not None:
                parent = place.parent if kinds.get(place.parent, DIRECTORY) == DIRECTORY else ROOT
                prior = place.prior_parent if kinds.get(place.prior_parent, DIRECTORY) == DIRECTORY else ROOT
                place = msgspec.structs.replace(place, parent=parent, prior_parent=prior)
                named.update((parent, prior))
            sane[-1].append(record(one.uid, one.kind, place, one.content))
    missing = sorted(named - kinds.keys() - {ROOT})
    sane.append([directory(int.from_bytes(uid, "big"), ROOT, b"z", 1) for uid in missing])
    whole = {one.uid for batch in sane for one in batch if one.place and one.content}
    sane.append(
        [directory(int.from_bytes(u, "big"), ROOT, b"y", 1) for u in sorted(kinds.keys() - whole) if kinds[u] == 2]
    )
    return sane


def _check(rig: Rig) -> None:
    wanted, disk = rig.wanted(), rig.disk()
    for path, (kind, _mode, data) in list(wanted.items()):
        if kind == DIRECTORY and path in disk:
            wanted[path] = (kind, disk[path][1], data)  # of a directory that is only kept it is nobody's wish
    assert disk == wanted
    assert not rig.catalog.pending(1), f"pending for no reason: {rig.workbench.waiting()}"
    assert not rig.dirty, "the applier met a change that nobody made"


@pytest.mark.parametrize("seed", SEEDS)
def test_i1_the_disk_becomes_what_the_tree_wants(seed: int) -> None:
    rig = Rig()
    chance = random.Random(seed)
    for batch in _histories(seed):
        rig.take(batch)
        for _ in range(chance.randrange(3)):
            rig.work()
    rig.settle()
    _check(rig)


@pytest.mark.parametrize("seed", SEEDS)
def test_i12_a_crash_at_any_write_changes_nothing_of_that(seed: int) -> None:
    rig = Rig()
    chance = random.Random(seed)
    crashes = 0
    for batch in _histories(seed):
        rig.take(batch)
        countdown = chance.randrange(12)

        def before_change(*_: object) -> None:
            nonlocal countdown
            countdown -= 1
            if countdown < 0:
                raise Crash

        rig.fs.before_change = before_change
        try:
            for _ in range(chance.randrange(4)):
                rig.work()
        except Crash:
            crashes += 1
            rig.crash()
        rig.fs.before_change = None
    rig.crash()
    rig.settle()
    _check(rig)
