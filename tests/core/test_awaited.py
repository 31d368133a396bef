"""Which pending objects a set of CNs is about, and when each of them is installed."""

from __future__ import annotations

import msgspec
import pytest

from replicad.core.awaited import awaited, concerns, is_done, unaccounted
from replicad.core.cnset import CNSet
from replicad.core.ids import ROOT, Cn
from replicad.core.records import Content, Place, encode, record
from replicad.core.view import ObjectState
from tests.core.make import REPLICA, content, gone, place, uid

NODE = 20


def a_state(
    where: Place,
    what: Content,
    base_place: Place | None = None,
    base_content: Content | None = None,
    *,
    node: int | None = NODE,
    pending: bool = True,
) -> ObjectState:
    """`base_*`: None where the record's own is installed."""
    return ObjectState(
        record(uid(1), 1, where, what),
        node=node,
        base_place_raw=encode(base_place) if base_place is not None else b"",
        base_content_raw=encode(base_content) if base_content is not None else b"",
        pending=pending,
    )


HERE, THERE, ELSEWHERE = (place(ROOT, name, time) for name, time in ((b"a", 1), (b"b", 5), (b"c", 7)))
OLD, NEW, NEWER = content(1, 1), content(5, 2), content(7, 3)
FIRST = CNSet.span(REPLICA, 1, 1)
FIFTH = CNSet.span(REPLICA, 5, 5)


def test_an_object_counts_by_the_cns_of_registers_that_are_not_installed() -> None:
    assert concerns(a_state(HERE, NEW, base_content=OLD), FIFTH)
    assert concerns(a_state(THERE, OLD, base_place=HERE), FIFTH)
    assert concerns(a_state(HERE, OLD, node=None), FIRST)
    assert not concerns(a_state(HERE, NEW, base_content=OLD), FIRST), "its place is installed; its content is another"
    assert not concerns(a_state(HERE, NEW, node=None), CNSet.span(REPLICA, 2, 4))


def test_an_object_that_only_the_tree_makes_pending_counts_whatever_was_asked() -> None:
    assert concerns(a_state(HERE, OLD), CNSet.span(REPLICA, 9, 9))


def test_an_object_that_is_as_wanted_or_dropped_is_done() -> None:
    what = awaited(a_state(HERE, NEW, base_content=OLD))
    assert is_done(a_state(HERE, NEW, pending=False), what)
    assert is_done(None, what)


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (a_state(HERE, NEW, base_content=OLD), False),
        (a_state(HERE, NEWER, base_content=OLD), False),
        (a_state(HERE, NEWER, base_content=NEW), True),
        (a_state(THERE, NEWER, base_place=HERE, base_content=NEW), True),
        (a_state(HERE, NEWER, node=None), False),
    ],
)
def test_a_new_content_is_done_once_it_was_installed_though_a_newer_one_is_pending(
    state: ObjectState, expected: bool
) -> None:
    assert is_done(state, awaited(a_state(HERE, NEW, base_content=OLD))) is expected


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (a_state(THERE, OLD, base_place=HERE), False),
        (a_state(ELSEWHERE, OLD, base_place=HERE), False),
        (a_state(ELSEWHERE, OLD, base_place=THERE), True),
    ],
)
def test_a_rename_is_done_once_the_entry_stood_there(state: ObjectState, expected: bool) -> None:
    assert is_done(state, awaited(a_state(THERE, OLD, base_place=HERE))) is expected


def test_a_deletion_is_done_when_the_entry_is_off_the_disk() -> None:
    what = awaited(a_state(HERE, gone(5, 1), base_content=OLD))
    assert not is_done(a_state(HERE, gone(5, 1), base_content=OLD), what)
    assert is_done(a_state(HERE, NEWER, node=None), what), "deleted here, and made anew by somebody since"


def test_a_directory_that_is_gone_but_kept_must_be_made() -> None:
    what = awaited(a_state(HERE, gone(5, 1), node=None))
    assert not is_done(a_state(HERE, gone(5, 1), node=None), what)


def test_an_adopted_file_whose_mode_is_to_be_set_is_not_done_before() -> None:
    """Its base has the wanted content's stamp, and other bytes, which may order above."""
    for mode in (1, 4095):
        adopted = msgspec.structs.replace(NEW, mode=mode)
        wanted = msgspec.structs.replace(NEW, mode=100)
        state = a_state(HERE, wanted, base_content=adopted)
        assert not is_done(state, awaited(state))


def test_what_only_the_tree_made_pending_must_be_as_the_tree_wants_it() -> None:
    what = awaited(a_state(HERE, OLD))
    assert not is_done(a_state(HERE, OLD), what)
    assert not is_done(a_state(HERE, NEWER, base_content=NEW), what)


def test_a_cn_is_accounted_for_by_a_record_that_has_it_or_by_having_been_installed() -> None:
    wanted = CNSet.span(REPLICA, 1, 3)
    assert unaccounted(wanted, FIRST, CNSet.of([Cn(REPLICA, 2)]))
    assert not unaccounted(wanted, FIRST, CNSet.span(REPLICA, 2, 3))
    assert not unaccounted(wanted, CNSet.span(REPLICA, 1, 5), CNSet())
