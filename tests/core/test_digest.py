"""The sum that proves a group to be one."""

from __future__ import annotations

import random

from replicad.core.digest import register_sum
from replicad.core.draft import DIGEST_MODULUS, Draft
from replicad.core.ids import ROOT
from replicad.core.memory_view import MemoryView
from replicad.core.records import DIRECTORY, FILE, record
from replicad.core.view import ObjectState
from tests.core.histories import history
from tests.core.make import FOLDER, REPLICA, by_seed, content, gone, place, uid


def test_the_sum_kept_up_with_each_change_is_the_sum_over_all() -> None:
    for seed in range(50):
        view = MemoryView(FOLDER, REPLICA)
        rng = random.Random(seed)
        for batch in history(by_seed(seed)):
            draft = Draft(view)
            for one in batch:
                draft.put(ObjectState(one))
            if view.states and rng.random() < 0.3:
                draft.drop(rng.choice(sorted(view.states)))
            assert 0 <= draft.digest < DIGEST_MODULUS
            view.apply(draft)
            assert view.digest == sum(register_sum(state.record) for state in view.states.values()) % DIGEST_MODULUS
        draft = Draft(view)
        for held in sorted(view.states):
            draft.drop(held)
        assert draft.digest == 0


def test_the_sum_tells_objects_kinds_registers_and_their_bytes_apart() -> None:
    where, what = place(ROOT, b"n", 1), content(1)
    sums = {
        register_sum(record(uid(1), FILE, where, what)),
        register_sum(record(uid(2), FILE, where, what)),
        register_sum(record(uid(1), DIRECTORY, where, what)),
        register_sum(record(uid(1), FILE, where, None)),
        register_sum(record(uid(1), FILE, None, what)),
        register_sum(record(uid(1), FILE, where, content(2))),
        register_sum(record(uid(1), FILE, place(ROOT, b"m", 1), what)),
    }
    assert len(sums) == 7
    whole = register_sum(record(uid(1), FILE, where, what))
    assert whole == register_sum(record(uid(1), FILE, where, None)) + register_sum(record(uid(1), FILE, None, what))


def test_what_the_tree_and_the_disk_say_of_an_object_is_not_in_the_sum() -> None:
    draft = Draft(MemoryView(FOLDER, REPLICA))
    draft.put(ObjectState(record(uid(1), FILE, place(ROOT, b"n", 1), content(1))))
    before = draft.digest
    draft.update(uid(1), pending=True, node=5, group=uid(1), kept=True, cut=(ROOT, b"m"))
    assert draft.digest == before


def test_what_is_gone_is_not_in_the_sum() -> None:
    """Members forget a deletion at different times."""
    draft = Draft(MemoryView(FOLDER, REPLICA))
    draft.put(ObjectState(record(uid(1), FILE, place(ROOT, b"n", 1), content(1))))
    assert draft.digest
    draft.put(ObjectState(record(uid(1), FILE, place(ROOT, b"n", 1), gone(2, 1))))
    assert draft.digest == 0
    draft.drop(uid(1))
    assert draft.digest == 0
