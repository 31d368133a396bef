"""Records, and random but repeatable changes to them: the same operations can be made on any View."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from hypothesis import strategies as st

from replicad.core.cnset import CNSet
from replicad.core.draft import Draft
from replicad.core.ids import ROOT, Cn, ReplicaId, Uid, original_uid, uid_of
from replicad.core.records import DIRECTORY, FILE, SYMLINK, Content, Place, Record, Stamp, encode, record
from replicad.core.view import ROOT_NODE, Node, ObjectState

FOLDER = b"folder-of-a-test"
OWN: ReplicaId = 0xF00D_0000_0000_0001
"""Beyond 2^63, as half of all replica ids are."""
FOREIGN: tuple[ReplicaId, ...] = (7, 0xFFFF_FFFF_FFFF_FFFF)
NAMES = (b"a", b"b", b"\xff\xfe", b"longer name.txt")
INODES = (1, 5, 2**63 + 5, 2**64 - 1)


def place(cn: Cn, parent: Uid = ROOT, name: bytes = b"f", time_ms: int = 1_000) -> Place:
    return Place(cn.replica, cn.counter, time_ms, (), parent, name, ROOT, b"")


def content(cn: Cn, size: int = 10, time_ms: int = 1_000, gone: Stamp | None = None) -> Content:
    return Content(cn.replica, cn.counter, time_ms, (), gone, 0o644, 5, size, bytes(32), b"")


def created(cn: Cn, parent: Uid = ROOT, name: bytes = b"f", kind: int = FILE, size: int = 10) -> Record:
    return record(uid_of(cn), kind, place(cn, parent, name), content(cn, size))


def with_place(held: Record, new: Place) -> Record:
    return msgspec.structs.replace(held, place=new, place_raw=encode(new))


def with_content(held: Record, new: Content) -> Record:
    return msgspec.structs.replace(held, content=new, content_raw=encode(new))


def node(number: int, parent: int = ROOT_NODE, name: bytes = b"f", inode: int = 5, shows: Cn | None = None) -> Node:
    return Node(number, parent, name, FILE, inode, 10, 1, 2, 3, 0o600, shows)


# -- random operations; each takes a draft and three numbers, and does nothing where it does not apply

Op = Callable[[Draft, "list[Uid]", int, int, int], None]


def _pick(draft: Draft, uids: list[Uid], number: int) -> Uid | None:
    held = [uid for uid in uids if draft.object(uid) is not None]
    return held[number % len(held)] if held else None


def _parent(draft: Draft, uids: list[Uid], number: int) -> Uid:
    return [ROOT, *uids][number % (len(uids) + 1)]


def _foreign_cn(draft: Draft, number: int) -> Cn:
    replica = FOREIGN[number % len(FOREIGN)]
    return Cn(replica, draft.known.last(replica) + 1 + number % 2)


def _create(draft: Draft, uids: list[Uid], a: int, b: int, c: int) -> None:
    cn = draft.allocate()
    kind = (FILE, DIRECTORY, SYMLINK)[c % 3]
    held = created(cn, _parent(draft, uids, a), NAMES[b % len(NAMES)], kind, size=b)
    uids.append(held.uid)
    draft.put(_state(held, pending=bool(c & 8)))


def _original(draft: Draft, uids: list[Uid], a: int, b: int, c: int) -> None:
    uid = original_uid(FOLDER, bytes([a % 4]), FILE, bytes(32))
    if draft.object(uid) is None:
        cn = draft.allocate()
        draft.put(_state(record(uid, FILE, place(cn, time_ms=0), content(cn, b, time_ms=0))))
        uids.append(uid) if uid not in uids else None


def _half(draft: Draft, uids: list[Uid], a: int, b: int, c: int) -> None:
    """A record of which one register has arrived (rule 10)."""
    cn = _foreign_cn(draft, a)
    draft.learn(CNSet.of([cn]))
    uid = uid_of(cn)
    if draft.object(uid) is None:
        one = record(uid, FILE, place(cn, _parent(draft, uids, b)), None)
        draft.put(_state(one if c % 2 else record(uid, FILE, None, content(cn, b)), pending=bool(c & 2)))
        uids.append(uid)


def _edit(draft: Draft, uids: list[Uid], a: int, b: int, c: int) -> None:
    uid = _pick(draft, uids, a)
    if uid is not None:
        state = draft.object(uid)
        assert state is not None
        cn = draft.allocate() if c % 2 else _foreign_cn(draft, b)
        draft.learn(CNSet.of([cn]))
        gone = Stamp(5, OWN) if c % 3 == 0 else None
        base = state.record.content_raw if state.node is not None and not state.base_content_raw else b""
        changed = with_content(state.record, content(cn, b, gone=gone))
        draft.put(
            msgspec.structs.replace(
                state, record=changed, pending=bool(c & 4), base_content_raw=state.base_content_raw or base
            )
        )


def _move(draft: Draft, uids: list[Uid], a: int, b: int, c: int) -> None:
    uid = _pick(draft, uids, a)
    if uid is not None:
        state = draft.object(uid)
        assert state is not None
        cn = draft.allocate()
        base = state.record.place_raw if state.node is not None and not state.base_place_raw else b""
        changed = with_place(state.record, place(cn, _parent(draft, uids, b), NAMES[c % len(NAMES)]))
        draft.put(
            msgspec.structs.replace(state, record=changed, pending=True, base_place_raw=state.base_place_raw or base)
        )


def _install(draft: Draft, uids: list[Uid], a: int, b: int, c: int) -> None:
    uid = _pick(draft, uids, a)
    parent, name = ROOT_NODE + b % 3, NAMES[c % len(NAMES)]
    if uid is not None and draft.node_at(parent, name) is None:
        number = draft.new_node_id()
        draft.put_node(node(number, parent, name, INODES[a % len(INODES)], Cn(FOREIGN[0], 9) if c % 2 else None))
        draft.update(uid, node=number, pending=False, base_place_raw=b"", base_content_raw=b"")


def _take_off(draft: Draft, uids: list[Uid], a: int, b: int, c: int) -> None:
    uid = _pick(draft, uids, a)
    if uid is not None:
        state = draft.object(uid)
        assert state is not None
        if state.node is not None:
            draft.drop_node(state.node)
            draft.update(uid, node=None, base_place_raw=b"", base_content_raw=b"", pending=bool(b % 2))


def _swap_nodes(draft: Draft, uids: list[Uid], a: int, b: int, c: int) -> None:
    nodes = [found for found in (draft.node(16 + number % 12) for number in (a, b)) if found is not None]
    if len(nodes) == 2 and nodes[0].id != nodes[1].id:
        one, other = nodes
        draft.put_node(msgspec.structs.replace(one, parent=other.parent, name=other.name))
        draft.put_node(msgspec.structs.replace(other, parent=one.parent, name=one.name, inode=INODES[c % len(INODES)]))


def _decide(draft: Draft, uids: list[Uid], a: int, b: int, c: int) -> None:
    uid = _pick(draft, uids, a)
    below = 16 + b % 6
    hidden = bool(c & 8) and below < draft.next_node
    if uid is not None:
        draft.update(
            uid,
            cut=(_parent(draft, uids, b), NAMES[b % len(NAMES)]) if c & 1 else None,
            kept=bool(c & 2),
            group=_parent(draft, uids, b) or None if c & 4 else None,
            beneath=below if hidden else None,
            beneath_seen=Stamp(b, OWN) if hidden else None,
            pending=bool(c & 16),
        )


def _drop(draft: Draft, uids: list[Uid], a: int, b: int, c: int) -> None:
    uid = _pick(draft, uids, a)
    if uid is not None and c % 3 == 0:
        draft.drop(uid)


OPS: tuple[Op, ...] = (
    _create, _create, _original, _half, _edit, _edit, _move, _install, _install, _take_off, _swap_nodes, _decide, _drop,
)  # fmt: skip

_numbers = st.integers(0, 63)
Step = tuple[Op, int, int, int]
steps: st.SearchStrategy[list[list[Step]]] = st.lists(
    st.lists(st.tuples(st.sampled_from(OPS), _numbers, _numbers, _numbers), max_size=12), min_size=1, max_size=8
)
"""Commits, each a list of operations."""


def run(draft: Draft, uids: list[Uid], commit: list[Step]) -> None:
    """`uids` grows by what was made; it must be equal for drafts that are to become equal."""
    for op, a, b, c in commit:
        op(draft, uids, a, b, c)


def _state(held: Record, *, pending: bool = False) -> ObjectState:
    return ObjectState(held, pending=pending)
