"""A draft over a view answers like the view to which the draft was applied, and both like a walk over everything."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NoReturn

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replicad.core import draft as draft_module
from replicad.core.cnset import CNSet
from replicad.core.digest import register_sum
from replicad.core.draft import DIGEST_MODULUS, Draft
from replicad.core.ids import ROOT, Cn, Uid
from replicad.core.memory_view import MemoryView
from replicad.core.records import DIRECTORY, FILE, SYMLINK, Record, Stamp, record
from replicad.core.view import FIRST_FREE_NODE, ROOT_NODE, Node, NodeId, ObjectState, View
from tests.core.make import FOLDER, REPLICA, Choose, by_hypothesis, by_seed, content, directory, file, gone, place, uid

UIDS = [uid(number) for number in range(8)]
PARENTS = [ROOT, *UIDS[:3]]
NAMES = [b"a", b"b"]
NODE_IDS = range(1, 8)
INODES = range(3)


def some_record(choose: Choose, who: Uid) -> Record:
    kind = (FILE, DIRECTORY, SYMLINK)[choose(3)]
    where = place(PARENTS[choose(4)], NAMES[choose(2)], choose(4)) if choose(6) else None
    what = (content(choose(4), kind=kind), gone(1 + choose(4), 0), None)[choose(3)]
    if where is None and what is None:
        what = content(choose(4), kind=kind)
    return record(who, kind, where, what)


def some_state(choose: Choose, view: View, who: Uid) -> ObjectState:
    held = view.object(who)
    state = held if held is not None and choose(2) else ObjectState(some_record(choose, who))
    changes: dict[str, Any] = {
        "node": choose(6) + 1 if choose(3) else None,
        "beneath": choose(3) + 1 if choose(2) else None,
        "pending": bool(choose(2)),
        "cut": (PARENTS[choose(4)], NAMES[choose(2)]) if not choose(3) else None,
        "kept": bool(choose(2)),
        "group": UIDS[choose(3)] if not choose(3) else None,
    }
    chosen = {name: value for name, value in changes.items() if choose(2)}
    return msgspec.structs.replace(state, **chosen)


def change_randomly(choose: Choose, draft: Draft) -> None:
    """Up to a dozen changes of any kind; names of disk entries stay unique, as they are on a disk."""
    for _ in range(choose(13)):
        what = choose(10)
        if what < 5:
            draft.put(some_state(choose, draft, UIDS[choose(len(UIDS))]))
        elif what == 5:
            draft.drop(UIDS[choose(len(UIDS))])
        elif what == 6:
            draft.drop_node(NODE_IDS[choose(len(NODE_IDS))])
        elif what < 9:
            put_some_node(choose, draft)
        else:
            draft.allocate()
            draft.learn(CNSet.span(9, 1, 1 + choose(5)))


def put_some_node(choose: Choose, draft: Draft) -> None:
    number = NODE_IDS[choose(len(NODE_IDS))]
    parent, name = NODE_IDS[choose(3)], NAMES[choose(2)]
    there = draft.node_at(parent, name)
    if there is not None and there.id != number:
        draft.drop_node(there.id)
    draft.put_node(Node(number, parent, name, FILE, INODES[choose(3)], choose(2), 0, 0, 0, 0))


class Walk:
    """What a view must answer, by walking over all that there is."""

    def __init__(self, states: Iterable[ObjectState], nodes: Iterable[Node]) -> None:
        self.states = sorted(states, key=lambda state: state.record.uid)
        self.nodes = sorted(nodes, key=lambda node: (node.name, node.id))

    def at(self, field: str, value: object) -> list[Uid]:
        return [state.record.uid for state in self.states if getattr(state, field) == value]

    def cut(self, parent: Uid | None = None, name: bytes | None = None) -> list[Uid]:
        return [
            s.record.uid
            for s in self.states
            if s.cut is not None and parent in (None, s.cut[0]) and name in (None, s.cut[1])
        ]

    def children(self, parent: Uid, name: bytes | None = None, *, present: bool = False) -> list[Uid]:
        return [
            state.record.uid
            for state in self.states
            if state.record.place is not None
            and state.record.place.parent == parent
            and name in (None, state.record.place.name)
            and (state.present or not present)
        ]


def check(view: View, walk: Walk) -> None:
    assert list(view.objects([*UIDS, *UIDS])) == [view.object(u) for u in UIDS if view.object(u) is not None]
    for parent in PARENTS:
        assert list(view.children(parent)) == walk.children(parent)
        for limit in (None, 0, 1, 2, 3, 9):
            assert list(view.present_children(parent, limit)) == walk.children(parent, present=True)[:limit]
        for name in NAMES:
            assert list(view.named(parent, name)) == walk.children(parent, name)
            assert list(view.present_named(parent, name)) == walk.children(parent, name, present=True)
        assert list(view.cut_into(parent)) == walk.cut(parent)
        for name in NAMES:
            assert list(view.cut_named(parent, name)) == walk.cut(parent, name)
    assert list(view.cuts()) == walk.cut()
    for one in UIDS:
        assert list(view.group_members(one)) == walk.at("group", one)
    assert sorted(view.pending(100)) == walk.at("pending", True)
    for number in NODE_IDS:
        here = [ROOT] if number == ROOT_NODE else walk.at("node", number)
        assert list(view.uids_at(number)) == here
        assert list(view.hidden_at(number)) == walk.at("beneath", number)
        assert view.node(number) == next((node for node in walk.nodes if node.id == number), None)
        assert list(view.nodes_in(number)) == [node for node in walk.nodes if node.parent == number]
        for name in NAMES:
            found = [node for node in walk.nodes if (node.parent, node.name) == (number, name)]
            assert view.node_at(number, name) == (found[0] if found else None)
    for inode in INODES:
        same = sorted((node for node in walk.nodes if node.inode == inode), key=lambda node: node.id)
        assert list(view.node_by_inode(inode)) == same


def walk_over(draft: Draft, view: MemoryView) -> Walk:
    states = {**view.states, **draft.states}
    nodes: dict[NodeId, Node | None] = {**view.nodes, **draft.nodes}
    return Walk(
        (state for who, state in states.items() if who not in draft.dropped),
        (node for node in nodes.values() if node is not None),
    )


def play(choose: Choose) -> None:
    view = MemoryView(FOLDER, REPLICA)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(draft_module, "FIRST_ASKED", 1)
        for _ in range(3):
            draft = Draft(view)
            change_randomly(choose, draft)
            check(draft, walk_over(draft, view))
            pending = [draft.pending(limit) for limit in range(10)]
            positions = {who: view.head + 1 + index for index, who in enumerate(draft.stored)}
            expected = {who: draft.object(who) for who in UIDS}
            told = draft.known, draft.digest, draft.counter, draft.next_node
            view.apply(draft)
            check(view, Walk(view.states.values(), view.nodes.values()))
            assert [list(view.pending(limit)) for limit in range(10)] == pending
            assert (view.known, view.digest, view.counter, view.next_node) == told
            for who, state in expected.items():
                place_in_order = positions.get(who, state.position if state is not None else 0)
                after = msgspec.structs.replace(state, position=place_in_order) if state is not None else None
                assert view.object(who) == after
            assert view.digest == sum(register_sum(s.record) for s in view.states.values()) % DIGEST_MODULUS


@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_a_draft_answers_every_lookup_as_the_view_it_is_applied_to(data: st.DataObject) -> None:
    play(by_hypothesis(data))


def test_a_hundred_seeded_drafts_answer_as_the_view_they_are_applied_to() -> None:
    for seed in range(100):
        play(by_seed(seed))


class Unwalkable(dict[Any, Any]):
    """A dictionary that answers for its keys and lets nobody walk over it."""

    def _refuse(self, *_: object) -> NoReturn:
        raise AssertionError("a lookup walks over the whole draft")

    __iter__ = keys = values = items = _refuse


def test_no_lookup_walks_over_the_changes_of_the_draft() -> None:
    draft = Draft(MemoryView(FOLDER, REPLICA))
    for number in range(1, 100):
        draft.put(ObjectState(file(number, uid(number % 7), b"%d" % number, 1), node=number, pending=True))
        draft.put_node(Node(number, number % 7, b"%d" % number, FILE, number, 0, 0, 0, 0, 0))
    draft.states, draft.nodes, draft.dropped = Unwalkable(draft.states), Unwalkable(draft.nodes), Unwalkable()
    assert draft.named(uid(3), b"10") == draft.present_named(uid(3), b"10") == [uid(10)]
    assert len(draft.children(uid(3))) == len(draft.present_children(uid(3))) == 14
    assert draft.present_children(uid(3), 2) == [uid(3), uid(10)]
    assert draft.cuts() == draft.cut_into(ROOT) == draft.group_members(uid(1)) == draft.hidden_at(4) == []
    assert draft.pending(2) == [uid(1), uid(2)]
    assert draft.uids_at(50) == [uid(50)]
    assert [state.record.uid for state in draft.objects([uid(5), uid(500)])] == [uid(5)]
    found = draft.node_at(3, b"10")
    assert found is not None
    assert found == draft.node(10)
    assert len(draft.nodes_in(3)) == 14
    assert draft.node_by_inode(7) == [draft.node(7)]


def test_positions_follow_the_order_in_which_records_last_changed() -> None:
    view = MemoryView(FOLDER, REPLICA)
    draft = Draft(view)
    for number in (3, 1, 2):
        draft.put(ObjectState(file(number, ROOT, b"n", 1)))
    draft.update(uid(3), pending=True)  # no change of the record
    draft.put(ObjectState(file(1, ROOT, b"m", 2)))
    view.apply(draft)
    assert [view.states[uid(number)].position for number in (3, 2, 1)] == [1, 2, 3]
    again = Draft(view)
    again.update(uid(3), pending=False)
    again.put(ObjectState(file(2, ROOT, b"m", 2)))
    view.apply(again)
    assert [view.states[uid(number)].position for number in (3, 1, 2)] == [1, 3, 4]
    assert view.head == 4


def test_what_waits_longest_comes_first() -> None:
    view = MemoryView(FOLDER, REPLICA)
    for wave in ((5, 6), (3, 4)):
        draft = Draft(view)
        for number in wave:
            draft.put(ObjectState(file(number, ROOT, b"n", 1), pending=True))
        view.apply(draft)
    draft = Draft(view)
    draft.put(ObjectState(file(1, ROOT, b"n", 1), pending=True))
    draft.update(uid(6), pending=False)
    assert draft.pending(9) == [uid(5), uid(3), uid(4), uid(1)]
    assert draft.pending(2) == [uid(5), uid(3)]


def test_allocated_cns_are_known_and_count_up() -> None:
    draft = Draft(MemoryView(FOLDER, REPLICA))
    assert [draft.allocate(), draft.allocate()] == [Cn(REPLICA, 1), Cn(REPLICA, 2)]
    assert draft.known == CNSet.span(REPLICA, 1, 2)


def test_a_draft_that_is_dropped_leaves_nothing_behind() -> None:
    view = MemoryView(FOLDER, REPLICA)
    first = Draft(view)
    first.put(ObjectState(directory(1, ROOT, b"d", 1)))
    view.apply(first)
    states, known, digest = dict(view.states), view.known, view.digest
    dropped = Draft(view)
    dropped.put(ObjectState(file(2, uid(1), b"f", 1)))
    dropped.drop(uid(1))
    dropped.allocate()
    dropped.put_node(Node(dropped.new_node_id(), 1, b"f", FILE, 1, 1, 1, 1, 1, 1))
    assert (view.states, view.known, view.digest, view.nodes) == (states, known, digest, {})
    assert view.next_node == FIRST_FREE_NODE


def test_a_seen_rank_travels_with_the_state() -> None:
    draft = Draft(MemoryView(FOLDER, REPLICA))
    draft.put(ObjectState(file(1, ROOT, b"n", 1)))
    assert draft.update(uid(1), beneath=4, beneath_seen=Stamp(1, REPLICA)).beneath_seen == Stamp(1, REPLICA)
    assert draft.hidden_at(4) == [uid(1)]
    assert draft.stored == {uid(1): None}


def test_updating_an_object_that_is_not_held_is_a_bug_of_ours() -> None:
    with pytest.raises(AssertionError):
        Draft(MemoryView(FOLDER, REPLICA)).update(uid(1), pending=True)
