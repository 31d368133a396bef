"""What became of an act that was cut off, by a crash or by an error, told from the disk; finished or undone.

Every name in staging that an act uses is its intent's own, so nothing has to be guessed (DESIGN section 3, rule 8;
histories S17, S30):

- what was to move is still at its source: nothing was done; the plan will come to it again;
- it lies at the intent's `aside`: it was about to be exchanged; it goes back to its source;
- something else lies at `aside`: it came out of the tree, and is inspected as it would have been then;
- it has left staging, and nothing lies at `aside`: it was put into the tree, and what came out is dealt with already.
  Where a user has moved it on meanwhile the node stands where it was put, and the scan follows the inode.

The last conclusion stands on an absence. So a file of ours lies in staging (`WITNESS`): where that is gone, somebody
has emptied staging, and only what is seen at the target was done (I6).
"""

from __future__ import annotations

from replicad.core.records import Content
from replicad.core.steps import StepKind
from replicad.core.view import Node
from replicad.engine import acts
from replicad.engine.acts import Done, NotDone, Outcome, Surprise
from replicad.engine.disposal import store_of, store_path
from replicad.engine.intents import Intent, Seen, in_staging
from replicad.engine.renames import end_exchange, spare_of
from replicad.files.fs import DIRECTORY, FileSystem

WITNESS = in_staging(b"witness")


def resume(
    fs: FileSystem, intent: Intent, node: Node | None, content: Content | None, *, intact: bool, above: bool
) -> Outcome:
    """`intact`: nobody has emptied staging since the intent was written. `above`: the directory that the entry was in
    is where it was; else a user has moved it, or one above it, and the entry with it, if it is still there.

    Raises OSError, FileTrouble as `acts.act`."""
    match intent.step.kind:
        case StepKind.PUT if intent.leaving is not None:
            return _replaced(fs, intent, intent.leaving, intact)
        case StepKind.PUT:
            return _put(fs, intent, intact)
        case StepKind.MOVE:
            return acts.landed(fs, intent) if intent.moving.is_entry(fs.stat(intent.target)) else NotDone()
        case StepKind.LIFT | StepKind.REMOVE:
            return _taken_out(fs, intent, intact)
        case StepKind.SWAP:
            return _swapped(fs, intent)
        case StepKind.MAKE_DIR if content is not None:
            stat = fs.stat(intent.target)
            there = stat is not None and stat.kind == DIRECTORY
            return acts.made(fs, intent, content) if there else NotDone()
        case StepKind.REMOVE_DIR:
            return Done() if above and fs.stat(intent.target) is None else NotDone()
        case StepKind.SET_META:
            return _meta_set(fs, intent, node, content)
        case kind:
            raise AssertionError(f"{kind} has no intent")


def _put(fs: FileSystem, intent: Intent, intact: bool) -> Outcome:
    if intent.moving.is_entry(fs.stat(intent.source)):
        return NotDone()
    if intent.moving.is_entry(fs.stat(intent.target)) or intact:
        return acts.landed(fs, intent)
    return NotDone(staged_gone=True)


def _replaced(fs: FileSystem, intent: Intent, leaving: Seen, intact: bool) -> Outcome:
    if not end_exchange(fs, intent.aside, intent.target, spare_of(intent.aside)):
        # In the instant without an entry somebody made one. The old version lies apart, ours where it was.
        acts.restage(fs, intent)
        return Surprise((intent.target,), keep=spare_of(intent.aside))
    out = fs.stat(intent.aside)
    if out is not None:
        if intent.moving.is_version(out):
            keep = acts.restage(fs, intent)
            return Surprise((intent.target,), keep=keep) if keep else NotDone()
        if intent.moving.is_entry(out):  # it was given back, after somebody had written into it
            return Surprise((intent.target,), keep=intent.aside)
        return acts.inspect(fs, intent, leaving)
    if intent.moving.is_entry(fs.stat(intent.source)):
        return NotDone()
    if intent.moving.is_entry(fs.stat(intent.target)) or intact:
        return acts.landed(fs, intent)
    return NotDone(staged_gone=True)


def _taken_out(fs: FileSystem, intent: Intent, intact: bool) -> Outcome:
    out = fs.stat(intent.aside)
    if out is not None:
        if acts.may_be_taken(intent, out):
            return Done(out=out)
        if fs.stat(intent.source) is None:
            return acts.put_back(fs, intent)
        return Surprise((intent.source,), keep=intent.aside)
    store = store_of(intent.step)
    if store and fs.stat(store_path(store, intent.stored)) is not None:
        return Done()
    return NotDone() if intact or fs.stat(intent.source) is not None else Done()


def _swapped(fs: FileSystem, intent: Intent) -> Outcome:
    assert intent.leaving is not None
    if not end_exchange(fs, intent.source, intent.target, spare_of(intent.aside)):
        return Surprise((intent.source, intent.target), keep=spare_of(intent.aside))
    if intent.moving.is_entry(fs.stat(intent.target)) or intent.leaving.is_entry(fs.stat(intent.source)):
        return acts.swapped(fs, intent)
    return NotDone()


def _meta_set(fs: FileSystem, intent: Intent, node: Node | None, content: Content | None) -> Outcome:
    """Mode and mtime may have been set by half: then they are set again. Anything else is somebody's change.

    The ctime does not tell any more whether a file was edited and its mtime set back: it is read.
    """
    stat = fs.stat(intent.target)
    if node is None or content is None or stat is None:
        return NotDone()
    if (stat.kind, stat.inode, stat.size) != (node.kind, node.inode, node.size):
        return NotDone()
    times = stat.kind == DIRECTORY or stat.mtime_ns in (node.mtime_ns, content.mtime_ns)
    if not times or stat.mode not in (node.mode, content.mode):
        return NotDone()
    return acts.set_meta(fs, intent, node, content, read=True)
