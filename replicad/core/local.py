"""What a member's disk does to the records (DESIGN section 3, rules 1 to 6).

`originate` takes what a scan has found, as values, and writes it into a draft: registers, and what the disk now shows.
It alone makes a member originate anything; where the disk is as installed, or comes to be as the tree wants it anyway,
nothing is written but what is known of the disk.

1. The base of a change is what was installed here (core.author).
2. A new entry equal to what the tree wants at that path is adopted: no record, no transfer.
3. A path stands for all its UIDs. A merged directory is renamed and deleted as each of them; an edit or move of a
   merged file goes to the first, and the others are gone. What hid beneath the path as the loser of a name is gone when
   the path is deleted or renamed, with an empty version vector, because nobody here has seen that content. An edit
   leaves it alone: the winner keeps the name and only gets stronger, and half of a swap looks like a conflict.
4. A removed directory is gone with everything that was in it on the disk.
5. What is there only because of others is written down first (core.pins).
6. A founder's first scan enters originals (core.originals).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from replicad.core.adopt import adopt, equals
from replicad.core.author import Author, directory_look, file_look, symlink_look
from replicad.core.diff import SMUDGED_NS, Seen
from replicad.core.draft import Draft
from replicad.core.ids import Cn, Uid, uid_of
from replicad.core.originals import enter_original
from replicad.core.pins import Pins
from replicad.core.records import DIRECTORY, FILE, SYMLINK, Content, contains, vector_after
from replicad.core.tree import Slot, outcome
from replicad.core.tree_places import rep
from replicad.core.view import STAGING_NODE, Node, NodeId, ObjectState
from replicad.core.want import same_bytes


class Appeared(msgspec.Struct, frozen=True):
    """An entry that no node stands for. A directory is listed by whoever found it, entry by entry.

    Nothing is entered in a directory that stands for no object: its objects were collected elsewhere while this member
    was away (DESIGN section 4, stale), and it is about to leave the disk with everything in it.

    `digest` is a file's, `value` a symlink's target. `node` is the id that its node is to get: one never used before.
    `fresh`: its times were too fresh to trust (core.diff).
    """

    node: NodeId
    parent: NodeId
    name: bytes
    seen: Seen
    digest: bytes = b""
    value: bytes = b""
    fresh: bool = False


class Edited(msgspec.Struct, frozen=True):
    """The entry at this node was read again, or a directory has another mode. It may turn out to be as it was.

    Its inode may be another one: an editor's save is an edit of what stands at the path.
    """

    node: NodeId
    seen: Seen
    digest: bytes = b""
    value: bytes = b""
    fresh: bool = False


class Moved(msgspec.Struct, frozen=True):
    """The entry stands elsewhere, with all that is in it. What else may have changed about it is found by looking at it
    there: its node keeps the times it was last seen with.

    Until the batch ends two nodes may have one name.
    """

    node: NodeId
    parent: NodeId
    name: bytes
    seen: Seen


class Vanished(msgspec.Struct, frozen=True):
    """The entry is gone from the disk, with all that the nodes below it stand for.

    `top`: the uppermost entry that goes, where a large directory goes in pieces.
    """

    node: NodeId
    top: NodeId | None = None


class Displaced(msgspec.Struct, frozen=True):
    """Another entry has this one's name now, and it has not been found elsewhere yet. Its node waits beneath
    LIMBO_NODE, so that the name is free for the other's; before the draft is committed it must be moved or vanish."""

    node: NodeId


LocalChange = Appeared | Edited | Moved | Vanished | Displaced

AHEAD_NODES = 1_024
"""Entries of a removed directory that are looked up in one go."""
LIMBO_NODE: NodeId = 3
"""In drafts alone: what is displaced is a child of it. Its path is one at which nothing ever is."""


class Touched(msgspec.Struct, frozen=True):
    """What `want.settle` must look at after local changes: slots and objects, both ascending."""

    slots: tuple[Slot, ...]
    uids: tuple[Uid, ...]


def originate(
    draft: Draft, changes: Sequence[LocalChange], now_ms: int, *, watched: bool, founding: bool = False
) -> Touched:
    """Write what a scan has found into the draft, in this order: `Originator` for a single batch."""
    originator = Originator(draft, now_ms)
    originator.enter(changes, watched=watched, founding=founding)
    return originator.touched()


class Originator:
    """Writes batches of local changes into one draft.

    The nodes of the draft are the disk as the scan saw it after each batch; the caller settles what was touched, then
    commits.
    """

    def __init__(self, draft: Draft, now_ms: int) -> None:
        self._author = Author(draft, now_ms)
        self._draft = draft
        self._pins = Pins(self._author)
        self._founding = False

    def enter(self, changes: Sequence[LocalChange], *, watched: bool, founding: bool) -> None:
        """`watched`: it was seen as it happened, and is stamped by the clock. `founding`: this is a founder's first
        scan, or goes on beside it; what appears is an original."""
        self._author.watched = watched
        self._founding = founding
        for change in changes:
            match change:
                case Appeared():
                    self._appeared(change)
                case Edited():
                    self._edited(change)
                case Moved():
                    self._moved(change)
                case Vanished():
                    self._vanished(change)
                case Displaced():
                    self._displaced(change)

    def touched(self) -> Touched:
        """By everything entered so far."""
        slots, uids = self._author.touched()
        return Touched(tuple(slots), tuple(uids))

    # Appeared.

    def _appeared(self, change: Appeared) -> None:
        if not self._draft.uids_at(change.parent):
            return
        look = _look(change.seen, change.digest, change.value)
        kind = change.seen.kind
        if self._founding:
            shown = enter_original(self._author, change.parent, change.name, kind, look, change.node)
            if shown is not None:
                self._enter(change, shown.cn)
                return
        self._author.bring_tree_up_to_date()
        for slot in self._slots(change.parent, change.name):
            if self._adopt(slot, change):
                return
        self._create(change, look)

    def _slots(self, parent: NodeId, name: bytes) -> list[Slot]:
        """The slots of the tree that a name in a directory of the disk may belong to: one, but while that parts."""
        return sorted({Slot(rep(self._draft, uid), name) for uid in self._draft.uids_at(parent)})

    def _adopt(self, slot: Slot, change: Appeared) -> bool:
        """Rule 2: where the tree wants just this, and does not have it on the disk elsewhere."""
        found = outcome(self._draft, slot)
        if found is None or all(state.node is not None for state in self._author.states(found.winners)):
            return False
        node = _new_node(change)
        if not equals(self._draft, found, node, change.digest, change.value):
            return False
        adopt(self._draft, found, node)
        self._author.touch(found.winners)
        return True

    def _create(self, change: Appeared, look: Content) -> None:
        self._pins.above(change.parent)
        parent = self._first_uid(change.parent)
        place = self._author.place(self._author.time(change.seen.ctime_ns), (), parent, change.name)
        told_ns = change.seen.mtime_ns if change.seen.kind == FILE else change.seen.ctime_ns
        content = self._author.content(self._author.time(told_ns), (), look, place.cn)
        self._author.create(uid_of(place.cn), change.seen.kind, place, content, node=change.node)
        self._enter(change, place.cn)

    def _enter(self, change: Appeared, shows: Cn) -> None:
        self._draft.put_node(msgspec.structs.replace(_new_node(change), shows=shows))

    def _first_uid(self, directory: NodeId) -> Uid:
        uids = self._draft.uids_at(directory)
        assert uids, "a directory on the disk stands for no object"
        return uids[0]

    # Edited.

    def _edited(self, change: Edited) -> None:
        node = self._node(change.node)
        if node.kind == DIRECTORY:
            shows = self._edit_directory(node, change.seen)
        else:
            shows = self._edit_file(node, change)
        self._draft.put_node(msgspec.structs.replace(_as_seen(node, change.seen, change.fresh), shows=shows))

    def _edit_directory(self, node: Node, seen: Seen) -> Cn | None:
        """The mode is that of the directory as a whole, so each of its UIDs gets it."""
        if seen.mode == node.mode:
            return node.shows
        self._pins.above(node.parent)
        states = self._author.states(self._draft.uids_at(node.id))
        live = [state for state in states if state.base_content is not None and state.base_content.gone is None]
        shows = node.shows
        for state in live or states:
            base = state.base_content
            time_ms = self._author.time(seen.ctime_ns, base)
            content = self._author.content(time_ms, vector_after(base), directory_look(seen.mode))
            self._author.write(state, content=content)
            shows = content.cn
        return shows

    def _edit_file(self, node: Node, change: Edited) -> Cn | None:
        states = self._author.states(self._draft.uids_at(node.id))
        if not states:
            return node.shows
        first = states[0]
        shown = _shown(node, states)
        base = first.base_content
        assert base is not None, "an entry of the disk shows no content"
        look = _changed_look(node, shown or base, change)
        kind = node.kind
        if _equal(kind, look, shown or base):
            return node.shows
        if _comes_to_the_same(states, kind, look):
            for state in states:
                self._author.change(state, base_content_raw=b"")
            assert first.record.content is not None
            return first.record.content.cn
        self._pins.above(node.parent)
        first = self._author.state(first.record.uid)
        self._pins.own_name(first, node.parent)
        first = self._author.state(first.record.uid)
        told_ns = change.seen.ctime_ns if same_bytes(kind, look, base) else change.seen.mtime_ns
        time_ms = self._author.time(told_ns, base, else_ns=change.seen.ctime_ns)
        content = self._author.content(time_ms, vector_after(base), look)
        self._author.write(first, content=content)
        for state in states[1:]:
            self._write_gone(state.record.uid)
        return content.cn

    # Moved.

    def _moved(self, change: Moved) -> None:
        node = self._node(change.node)
        self._pins.above(node.parent)
        self._pins.above(change.parent)
        self._pins.siblings(node.parent, node.name)
        self._clear_hidden(node.id)
        parents = self._draft.uids_at(change.parent)
        states = self._author.states(self._draft.uids_at(node.id))
        moving = states if node.kind == DIRECTORY else states[:1]
        if not parents:
            moving = []  # into a directory that stands for no object: it shares its fate
        for state in moving:
            self._write_place(state, node, parents, change)
        shows = self._keep_look(node, states) if 0 < len(moving) < len(states) else node.shows
        for state in states[len(moving) :]:
            self._write_gone(state.record.uid)
        self._draft.put_node(msgspec.structs.replace(node, parent=change.parent, name=change.name, shows=shows))
        if node.kind == DIRECTORY:
            self._pins.structure_changed()

    def _write_place(self, state: ObjectState, node: Node, parents: Sequence[Uid], change: Moved) -> None:
        base, record = state.base_place, state.record.place
        assert base is not None, "an entry of the disk has no place"
        assert record is not None
        if state.base_place_raw and state.cut is None and record.parent in parents and record.name == change.name:
            self._author.change(state, base_place_raw=b"")  # it is where the tree wants it, whoever moved it first
            return
        shown_in = self._draft.uids_at(node.parent)
        as_recorded = not shown_in or (base.name == node.name and base.parent in shown_in)
        prior = (base.parent, base.name) if as_recorded else (shown_in[0], node.name)
        time_ms = self._author.time(change.seen.ctime_ns, base)
        place = self._author.place(time_ms, vector_after(base), parents[0], change.name, prior)
        self._author.write(state, place=place)

    def _keep_look(self, node: Node, states: Sequence[ObjectState]) -> Cn | None:
        """Of merged files the path had the lead's mode and mtime; the one that goes on alone takes them along."""
        shown = _shown(node, states)
        first = self._author.state(states[0].record.uid)
        base = first.base_content
        assert base is not None, "an entry of the disk shows no content"
        if shown is None or _equal(node.kind, shown, base):
            return base.cn if shown is not None else None
        content = self._author.content(self._author.time(0, base), vector_after(base), shown)
        self._author.write(first, content=content)
        return content.cn

    # Vanished.

    def _vanished(self, change: Vanished) -> None:
        top = self._node(change.top if change.top is not None else change.node)
        self._pins.above(top.parent)
        if top.id == change.node:
            self._pins.siblings(top.parent, top.name)
        below = list(self._below(self._node(change.node)))[::-1]
        for index, node in enumerate(below):
            if index % AHEAD_NODES == 0:
                self._draft.look_ahead(nodes=below[index : index + AHEAD_NODES])
            self._clear_hidden(node)
            for uid in self._draft.uids_at(node):
                self._write_gone(uid)
            self._draft.drop_node(node)

    def _below(self, node: Node) -> Iterator[NodeId]:
        """The node and all below it, each before what is in it."""
        waiting = [node]
        while waiting:
            at = waiting.pop()
            yield at.id
            if at.kind == DIRECTORY:
                waiting.extend(self._draft.nodes_in(at.id))

    def _displaced(self, change: Displaced) -> None:
        node = self._node(change.node)
        self._pins.above(node.parent)
        self._pins.siblings(node.parent, node.name)
        if self._draft.node(LIMBO_NODE) is None:
            self._draft.put_node(Node(LIMBO_NODE, STAGING_NODE, b"limbo", DIRECTORY, 0, 0, 0, 0, 0, 0))
        self._draft.put_node(msgspec.structs.replace(node, parent=LIMBO_NODE, name=b"%d" % node.id))
        self._pins.structure_changed()

    # Gone.

    def _write_gone(self, uid: Uid) -> None:
        """The object has left the disk. No record where that is known already, or where it was only kept (rule 5)."""
        state = self._author.state(uid)
        base, record = state.base_content, state.record.content
        off: dict[str, Any] = {"node": None, "base_place_raw": b"", "base_content_raw": b""}
        assert base is not None, "an entry of the disk shows no content"
        known_gone = record is not None and record.gone is not None and contains(record, base)
        if base.gone is not None or known_gone:
            self._author.change(state, **off)
            return
        mode = base.mode if state.record.kind == DIRECTORY else 0
        gone = self._author.gone(self._author.time(0, base), vector_after(base), base.stamp, mode)
        self._author.write(state, content=gone, **off)

    def _clear_hidden(self, node: NodeId) -> None:
        """Rule 3: losers of the name would come up in the winner's place. Nobody here saw them: empty vectors."""
        for uid in self._draft.hidden_at(node):
            state = self._author.state(uid)
            content = state.record.content
            off: dict[str, Any] = {"beneath": None, "beneath_seen": None}
            if state.beneath_seen is None or content is None or content.gone is not None:
                self._author.change(state, **off)
                continue
            seen = state.beneath_seen
            time_ms = max(self._author.time(0), seen.time_ms + 1)
            self._author.write(state, content=self._author.gone(time_ms, (), seen), **off)

    def _node(self, node: NodeId) -> Node:
        found = self._draft.node(node)
        assert found is not None, "a local change names a node that is not there"
        return found


def _new_node(change: Appeared) -> Node:
    node = Node(change.node, change.parent, change.name, change.seen.kind, 0, 0, 0, 0, 0, 0)
    return _as_seen(node, change.seen, change.fresh)


def _look(seen: Seen, digest: bytes, value: bytes) -> Content:
    if seen.kind == DIRECTORY:
        return directory_look(seen.mode)
    return symlink_look(value) if seen.kind == SYMLINK else file_look(seen.mode, seen.mtime_ns, seen.size, digest)


def _shown(node: Node, states: Sequence[ObjectState]) -> Content | None:
    """The register that the disk shows; None where that is not any one's."""
    return next((base for state in states if (base := state.base_content) and base.cn == node.shows), None)


def _changed_look(node: Node, shown: Content, change: Edited) -> Content:
    """What the disk shows now. Mode and mtime count as changed against what the disk told last, not against the
    record: a filesystem that cannot hold them (or rounds them) has not changed them."""
    seen = change.seen
    if node.kind == SYMLINK:
        return symlink_look(change.value)
    mode = shown.mode if seen.mode == node.mode else seen.mode
    mtime_ns = shown.mtime_ns if seen.mtime_ns == node.mtime_ns else seen.mtime_ns
    return file_look(mode, mtime_ns, seen.size, change.digest)


def _comes_to_the_same(states: Sequence[ObjectState], kind: int, look: Content) -> bool:
    """Whether the user has made of the entry just what the group wants of every object there."""
    return all(
        state.base_content_raw and state.record.content is not None and _equal(kind, look, state.record.content)
        for state in states
    )


def _equal(kind: int, look: Content, content: Content) -> bool:
    """Whether a register asks for what the disk shows."""
    if content.gone is not None:
        return False
    if kind == SYMLINK:
        return look.value == content.value
    return (look.mode, look.mtime_ns, look.size, look.digest) == (
        content.mode,
        content.mtime_ns,
        content.size,
        content.digest,
    )


def _as_seen(node: Node, seen: Seen, fresh: bool) -> Node:
    return Node(
        node.id,
        node.parent,
        node.name,
        node.kind,
        seen.inode,
        seen.size,
        seen.mtime_ns,
        SMUDGED_NS if fresh else seen.ctime_ns,
        seen.birth_ns,
        seen.mode,
        node.shows,
    )
