"""Whatever records arrive, in whatever batches, with crashes anywhere: the disk becomes what the tree wants."""

from __future__ import annotations

import random

import msgspec
import pytest

from replicad.core.draft import Draft
from replicad.core.ids import ROOT, Uid
from replicad.core.records import DIRECTORY, FILE, Content, Record, record
from replicad.core.tree import slot_of
from replicad.core.want import settle
from tests.core.histories import history
from tests.core.make import by_seed, directory
from tests.engine.rig import Bodies, Crash, Rig

SEEDS = range(150)
OF_THE_DISK = ("pending", "node", "base_place_raw", "base_content_raw", "beneath", "beneath_seen")


def _histories(seed: int, bodies: Bodies) -> list[list[Record]]:
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
            sane[-1].append(record(one.uid, one.kind, place, _real(one, bodies)))
    missing = sorted(named - kinds.keys() - {ROOT})
    sane.append([directory(int.from_bytes(uid, "big"), ROOT, b"z", 1) for uid in missing])
    whole = {one.uid for batch in sane for one in batch if one.place and one.content}
    sane.append(
        [directory(int.from_bytes(u, "big"), ROOT, b"y", 1) for u in sorted(kinds.keys() - whole) if kinds[u] == 2]
    )
    return sane


def _real(one: Record, bodies: Bodies) -> Content | None:
    """With the digest that the content has; half of the directories may be changed by nobody but root."""
    content = one.content
    if content is None or content.gone is not None:
        return content
    if one.kind == DIRECTORY:
        return msgspec.structs.replace(content, mode=0o555 if content.mode % 2 else 0o755)
    if one.kind != FILE:
        return content
    digest = bodies.add(content.digest[:1] * content.size)
    return msgspec.structs.replace(content, digest=digest, mode=0o600 + content.mode)


def _check(rig: Rig) -> None:
    wanted, disk = rig.wanted(), rig.disk()
    for path, (kind, _mode, data) in list(wanted.items()):
        state = rig.catalog.object(rig.lead(path))
        if kind == DIRECTORY and path in disk and state is not None and not state.record.live:
            wanted[path] = (kind, disk[path][1], data)  # of a directory that is only kept it is nobody's wish
    assert disk == wanted
    assert not rig.catalog.pending(1), f"pending for no reason: {rig.workbench.waiting()}"
    assert not rig.dirty, "the applier met a change that nobody made"
    assert not rig.catalog.intents()
    assert not rig.staging() or all(name.startswith(b"out-") for name in rig.staging())
    _check_settled(rig)
    rig.pass_quiet_time()
    assert not rig.staging()


def _check_settled(rig: Rig) -> None:
    """A comparison of everything with everything says what was kept up by differences."""
    uids = [uid for uid in rig.all_uids() if rig.catalog.object(uid) is not None]
    draft = Draft(rig.catalog)
    settle(draft, {slot for uid in uids if (slot := slot_of(rig.catalog, uid)) is not None}, uids)
    for uid, state in draft.states.items():
        before = rig.catalog.object(uid)
        assert before is not None
        assert [getattr(before, name) for name in OF_THE_DISK] == [getattr(state, name) for name in OF_THE_DISK]


@pytest.mark.parametrize("seed", SEEDS)
def test_i1_the_disk_becomes_what_the_tree_wants(seed: int) -> None:
    rig = Rig()
    rig.fs.modes_bind = True
    chance = random.Random(seed)
    for batch in _histories(seed, rig.bodies):
        rig.take(batch)
        for _ in range(chance.randrange(3)):
            rig.work()
            _check_settled(rig)
    rig.settle()
    _check(rig)


@pytest.mark.parametrize("seed", SEEDS)
def test_i12_a_crash_at_any_write_changes_nothing_of_that(seed: int) -> None:
    rig = Rig()
    rig.fs.modes_bind = True
    chance = random.Random(seed)
    for batch in _histories(seed, rig.bodies):
        rig.take(batch)
        countdown = chance.randrange(16)

        def count(*_: object) -> None:
            nonlocal countdown
            countdown -= 1
            if countdown < 0:
                raise Crash

        rig.fs.before_change = rig.before_commit = count
        try:
            for _ in range(chance.randrange(4)):
                rig.work()
        except Crash:
            rig.kill()
            _start(rig, chance.randrange(40))
        rig.fs.before_change = None
        rig.before_commit = lambda: None
    rig.crash()
    rig.settle()
    _check(rig)


def _start(rig: Rig, countdown: int) -> None:
    """The start may be cut off, too."""

    def count(*_: object) -> None:
        nonlocal countdown
        countdown -= 1
        if countdown == 0:
            raise Crash

    rig.fs.before_change = rig.before_commit = count
    try:
        rig.start()
    except Crash:
        rig.crash()
