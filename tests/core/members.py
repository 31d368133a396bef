"""Members without disks, links or fetching: for histories of what users do and what becomes of it.

A member's nodes are its disk. What a user does becomes the local changes that a scan would find; what others wrote is
absorbed, and installed perfectly when a test says so. All share one clock, which a test may set wrong for one of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from replicad.core.absorb import absorb
from replicad.core.draft import Draft
from replicad.core.ids import Uid
from replicad.core.local import Appeared, Edited, LocalChange, Moved, Touched, Vanished, originate
from replicad.core.memory_view import MemoryView
from replicad.core.plan import node_path, preserve_reason
from replicad.core.records import DIRECTORY, FILE, SYMLINK, Record, Vector
from replicad.core.tree import outcome, slot_of, tree_of
from replicad.core.view import ROOT_NODE, Node, NodeId, ObjectState
from replicad.core.want import same_bytes, settle

FOLDER = b"folder, 16 bytes"
MOUNT = 1


@dataclass(frozen=True)
class Sight:
    """What a look at an entry tells: `core.diff.Seen`."""

    kind: int
    inode: int = 1
    size: int = 0
    mtime_ns: int = 0
    ctime_ns: int = 0
    birth_ns: int = 0
    mode: int = 0o644
    mount: int = MOUNT


@dataclass
class Clock:
    now_ms: int = 1_000_000

    def tick(self, by_ms: int = 1_000) -> int:
        self.now_ms += by_ms
        return self.now_ms


def digest(value: int) -> bytes:
    return value.to_bytes(32, "big")


@dataclass
class Member:
    """`ahead_ms`: by how much its clock is wrong. `preserved`: (path, value) of what came off its disk and was kept."""

    replica: int
    clock: Clock
    ahead_ms: int = 0
    founding: bool = False
    preserved: list[tuple[bytes, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.view = MemoryView(FOLDER, self.replica)
        draft = Draft(self.view)
        draft.put_node(Node(ROOT_NODE, 0, b"", DIRECTORY, 1, 0, 0, 0, 0, 0o755))
        self.view.apply(draft)

    # What a user does.

    def mkdir(self, path: bytes, mode: int = 0o755) -> None:
        self._appear(path, Sight(DIRECTORY, mode=mode))

    def write(self, path: bytes, value: int, **fields: int) -> None:
        """Make a file, or give it other content."""
        now = self._now_ns()
        sight = Sight(FILE, **{"size": value, "mtime_ns": now, "ctime_ns": now, **fields})
        node = self.node(path)
        if node is None:
            self._appear(path, sight, digest=digest(value))
        else:
            self.take(Edited(node.id, sight, digest(value)))

    def symlink(self, path: bytes, target: bytes) -> None:
        now = self._now_ns()
        node = self.node(path)
        if node is None:
            self._appear(path, Sight(SYMLINK, mtime_ns=now, ctime_ns=now), value=target)
        else:
            self.take(Edited(node.id, Sight(SYMLINK, mtime_ns=now, ctime_ns=now), value=target))

    def chmod(self, path: bytes, mode: int) -> None:
        node = self.at(path)
        sight = Sight(node.kind, node.inode, node.size, node.mtime_ns, self._now_ns(), mode=mode)
        self.take(Edited(node.id, sight, digest(node.size) if node.kind == FILE else b""))

    def move(self, path: bytes, new: bytes) -> None:
        """As rename(2): what stands at `new` is replaced."""
        node, replaced = self.at(path), self.node(new)
        self.clock.tick()
        moved = Moved(node.id, self._parent(new), new.rpartition(b"/")[2], Sight(node.kind, ctime_ns=self._now_ns()))
        self.take(moved, *([Vanished(replaced.id)] if replaced is not None else []))

    def swap(self, one: bytes, other: bytes) -> None:
        a, b = self.at(one), self.at(other)
        self.take(Moved(a.id, b.parent, b.name, Sight(a.kind)), Moved(b.id, a.parent, a.name, Sight(b.kind)))

    def remove(self, path: bytes) -> None:
        """`rm -r`."""
        self.take(Vanished(self.at(path).id))

    def take(self, *changes: LocalChange, watched: bool = True) -> Touched:
        """Enter what a scan found."""
        draft = Draft(self.view)
        now_ms = self.clock.tick() + self.ahead_ms
        changes = tuple(
            msgspec.structs.replace(change, node=draft.new_node_id()) if isinstance(change, Appeared) else change
            for change in changes
        )
        touched = originate(draft, changes, now_ms, watched=watched, founding=self.founding)
        settle(draft, touched.slots, touched.uids)
        self.view.apply(draft)
        return touched

    # What comes from others.

    def hear(self, *others: Member) -> None:
        """Take in what others know, without installing it."""
        for other in others:
            self.hear_records(other.records())
        draft = Draft(self.view)
        for other in others:
            draft.learn(other.view.known)
        self.view.apply(draft)

    def hear_records(self, records: Sequence[Record]) -> None:
        """Some records, of a series that is not complete."""
        draft = Draft(self.view)
        absorb(draft, records)
        self.view.apply(draft)

    def install(self) -> None:
        """Make the disk what the tree wants; keep what must be kept (rule 9)."""
        for node in sorted(self.view.nodes.values(), key=lambda node: node.id):
            if node.kind == FILE and not self._stays(node):
                reason = preserve_reason(self.view, node.id)
                if reason:
                    self.preserved.append((node_path(self.view, node.id), self._value(node)))
        draft = Draft(self.view)
        for node in list(self.view.nodes.values()):
            if node.id != ROOT_NODE:
                draft.drop_node(node.id)
        clean = {"node": None, "base_place_raw": b"", "base_content_raw": b"", "beneath": None, "beneath_seen": None}
        for uid in list(self.view.states):
            draft.update(uid, pending=False, **clean)
        nodes: dict[bytes, NodeId] = {b"": ROOT_NODE}
        for path, found in tree_of(self.view).items():
            nodes[path] = self._put(draft, nodes[path.rpartition(b"/")[0]], path, found.winners, found.lead)
            for uid in found.hidden:
                content = self._state(uid).record.content
                assert content is not None
                draft.update(uid, beneath=nodes[path], beneath_seen=content.rank)
        self.view.apply(draft)

    # What a test asks.

    def tree(self) -> dict[bytes, object]:
        """The tree as the records have it: a file's value, a symlink's target, None for a directory."""
        return {path: self._shown(self._state(found.lead).record) for path, found in tree_of(self.view).items()}

    def disk(self) -> dict[bytes, object]:
        """The same of the disk."""
        found: dict[bytes, object] = {}
        for node in self.view.nodes.values():
            if node.id != ROOT_NODE:
                bases = [self._state(uid).base_content for uid in self.view.uids_at(node.id)]
                base = bases[0]
                assert base is not None
                value = int.from_bytes(base.digest, "big") if node.kind == FILE else base.value or None
                found[node_path(self.view, node.id)] = value
        return found

    def records(self) -> list[Record]:
        return [state.record for _, state in sorted(self.view.states.items())]

    def uids(self, path: bytes) -> tuple[Uid, ...]:
        return tuple(self.view.uids_at(self.at(path).id))

    def only(self, path: bytes) -> ObjectState:
        """The object at a path, where it is alone."""
        (uid,) = self.uids(path)
        return self._state(uid)

    def pending(self) -> list[Uid]:
        return list(self.view.pending(1_000))

    def node(self, path: bytes) -> Node | None:
        at = self.view.node(ROOT_NODE)
        for name in path.split(b"/") if path else ():
            at = self.view.node_at(at.id, name) if at is not None else None
        return at

    def at(self, path: bytes) -> Node:
        node = self.node(path)
        assert node is not None, f"nothing is at {path!r}"
        return node

    # Details.

    def _appear(self, path: bytes, sight: Sight, digest: bytes = b"", value: bytes = b"") -> None:
        self.take(Appeared(0, self._parent(path), path.rpartition(b"/")[2], sight, digest, value))

    def _parent(self, path: bytes) -> NodeId:
        return self.at(path.rpartition(b"/")[0]).id

    def _now_ns(self) -> int:
        return (self.clock.now_ms + self.ahead_ms) * 1_000_000

    def _state(self, uid: Uid) -> ObjectState:
        state = self.view.object(uid)
        assert state is not None
        return state

    def _shown(self, held: Record) -> object:
        assert held.content is not None
        if held.kind == DIRECTORY:
            return None
        return int.from_bytes(held.content.digest, "big") if held.kind == FILE else held.content.value

    def _stays(self, node: Node) -> bool:
        """Whether one of its objects is shown with the bytes that are there."""
        for uid in self.view.uids_at(node.id):
            state, slot = self._state(uid), slot_of(self.view, uid)
            found = outcome(self.view, slot) if slot is not None else None
            base, content = state.base_content, state.record.content
            if found is not None and uid in found.winners and base is not None and content is not None:
                return same_bytes(node.kind, base, content)
        return False

    def _value(self, node: Node) -> int:
        base = self._state(self.view.uids_at(node.id)[0]).base_content
        assert base is not None
        return int.from_bytes(base.digest, "big")

    def _put(self, draft: Draft, parent: NodeId, path: bytes, winners: Iterable[Uid], lead: Uid) -> NodeId:
        node_id = draft.new_node_id()
        held = self._state(lead).record
        content = held.content
        assert content is not None
        name = path.rpartition(b"/")[2]
        mode = content.mode if content.gone is None else 0o755
        node = Node(node_id, parent, name, held.kind, node_id, content.size, content.mtime_ns, 1, 0, mode, content.cn)
        draft.put_node(node)
        for uid in winners:
            draft.update(uid, node=node_id)
        return node_id


def members(count: int, *, founding: bool = False) -> list[Member]:
    clock = Clock()
    return [Member(replica, clock, founding=founding) for replica in range(1, count + 1)]


def heal(*group: Member) -> None:
    """Everything is delivered and installed everywhere; all are equal then."""
    for member in group:
        member.hear(*group)
    for member in group:
        member.install()
    first = group[0]
    for member in group[1:]:
        assert member.records() == first.records()
        assert member.tree() == first.tree()
        assert member.view.digest == first.view.digest
    assert all(member.disk() == member.tree() for member in group)


def gone_vector(member: Member, uid: Uid) -> Vector:
    """The version vector of an object's tombstone."""
    state = member.view.object(uid)
    assert state is not None
    assert state.record.content is not None
    assert state.record.content.gone is not None
    return state.record.content.vector


def live(member: Member) -> int:
    return sum(state.record.live for state in member.view.states.values())
