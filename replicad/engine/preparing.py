"""From a planned step to its intent: the paths, what is expected to move and to come out, new content made ready."""

from __future__ import annotations

import msgspec
from blake3 import blake3

from replicad.core.ids import Uid
from replicad.core.records import FILE, SYMLINK, Content
from replicad.core.steps import Step, StepKind, node_path
from replicad.core.view import Node, NodeId, View
from replicad.engine import acts
from replicad.engine.disposal import stored_name
from replicad.engine.intents import NOTHING, Intent, Seen, aside_name, in_staging
from replicad.files.fs import FileSystem, Stat

WITH_PARENT = frozenset({StepKind.PUT, StepKind.MOVE, StepKind.SWAP, StepKind.MAKE_DIR})
"""Steps that are about a name in a directory; the others are about an entry."""
_NOTHING_MOVES = frozenset({StepKind.MAKE_DIR, StepKind.REMOVE_DIR, StepKind.SET_META})


class Unstaged(msgspec.Struct, frozen=True):
    """What is to be put is not in staging."""


def staged_name(uid: Uid, digest: bytes) -> bytes:
    """The name in staging under which this object's content is put together; the digest is that of the content."""
    return b"new-" + uid.hex().encode() + b"-" + digest[:8].hex().encode()


def step_path(view: View, step: Step) -> bytes:
    """The path in the tree that the step is about."""
    if step.kind in WITH_PARENT:
        parent = node_path(view, step.parent)
        return parent + b"/" + step.name if parent else step.name
    assert step.node is not None
    return node_path(view, step.node)


def is_fresh(view: View, step: Step, now_ms: int) -> bool:
    """Whether what is to come off for good was written to a moment ago: its times cannot be trusted yet."""
    if step.kind == StepKind.PUT and not step.occupant_stays:
        going = step.occupant
    else:
        going = step.node if step.kind in (StepKind.REMOVE, StepKind.SET_META) else None
    return going is not None and acts.is_fresh(node_of(view, going), now_ms)


def intent_of(fs: FileSystem, view: View, step: Step, number: int, now_ms: int) -> Intent | Unstaged:
    """The intent of a step, by the nodes; new content gets its mode and mtime. Raises OSError."""
    path = step_path(view, step)
    node = node_of(view, step.node) if step.node is not None else None
    if step.kind in _NOTHING_MOVES:
        return Intent(step, b"", path, Seen.of(node) if node is not None else NOTHING)
    leaving: Seen | None = None
    if step.kind in (StepKind.PUT, StepKind.SWAP) and step.occupant is not None:
        leaving = Seen.of(node_of(view, step.occupant))
    if node is not None:
        source, moving = node_path(view, node.id), Seen.of(node)
    else:
        content = content_of(view, step.lead)
        source = in_staging(_name_in_staging(step, content))
        stat = _stage(fs, source, step.object_kind, content)
        if stat is None:
            return Unstaged()
        moving = Seen.of(stat)
    aside = in_staging(aside_name(number))
    target = aside if step.kind in (StepKind.LIFT, StepKind.REMOVE) else path
    return Intent(step, source, target, moving, leaving, aside, stored_name(number, path, now_ms))


def node_of(view: View, node: NodeId) -> Node:
    found = view.node(node)
    assert found is not None, "a step names a node that is not there"
    return found


def content_of(view: View, uid: Uid) -> Content:
    state = view.object(uid)
    assert state is not None
    assert state.record.content is not None
    return state.record.content


def _name_in_staging(step: Step, content: Content) -> bytes:
    """Whatever is put has a name that says what it is: what lies there from an earlier attempt is it, or is ours."""
    if step.object_kind == FILE:
        return staged_name(step.lead, content.digest)
    what = content.value if step.object_kind == SYMLINK else b"%d" % content.mode
    return staged_name(step.lead, blake3(what).digest())


def _stage(fs: FileSystem, at: bytes, kind: int, content: Content) -> Stat | None:
    """The new content in staging, with its final mode and mtime; None where it is not there."""
    if kind == FILE:
        try:
            fs.set_mode(at, content.mode)
            fs.set_mtime(at, content.mtime_ns)
        except FileNotFoundError:
            return None
        stat = fs.stat(at)
        return stat if stat is not None and (stat.kind, stat.size) == (FILE, content.size) else None
    stat = fs.stat(at)
    if stat is None:
        if kind == SYMLINK:
            fs.make_symlink(at, content.value)
        else:
            fs.make_dir(at, content.mode)
        stat = fs.stat(at)
    return stat
