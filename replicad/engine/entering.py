"""What came of an act, entered into a draft; what came off the disk put where it belongs, and listed.

Used after the act, and for one that was cut off when that is found out (engine.resume): so each rename here is to a
name that is the intent's own, and one that was done before is found there.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from replicad.catalog.changes import CONFLICT_AND_DELETED, Change
from replicad.core.draft import Draft
from replicad.core.ids import Uid
from replicad.core.records import DIRECTORY, FILE
from replicad.core.steps import STAGING_PATH, Step, StepKind
from replicad.core.tree import wanted_path
from replicad.core.view import ObjectState, View
from replicad.engine.acts import Done, NotDone, Outcome, Surprise
from replicad.engine.complete import complete, vacate
from replicad.engine.disposal import (
    CHANGED_IN_THE_MOMENT,
    keep_until_quiet,
    listed,
    note_of,
    preserve,
    store_of,
    store_path,
    stranger,
)
from replicad.engine.intents import Intent
from replicad.engine.preparing import node_of
from replicad.errors import FileTrouble
from replicad.files.fs import FileSystem
from replicad.files.paths import join


class Applied(msgspec.Struct):
    """What came of a batch."""

    done: list[Step] = msgspec.field(default_factory=list)
    dirty: list[bytes] = msgspec.field(default_factory=list)
    """Paths to be looked at: the disk was not as believed, or is not known to be as entered."""
    surprised: list[Uid] = msgspec.field(default_factory=list)
    """Objects whose step met a disk that was not as believed."""
    fresh: list[Uid] = msgspec.field(default_factory=list)
    """Objects whose file was changed a moment ago: to be planned again after acts.FRESH_NS."""
    troubles: list[tuple[Uid, FileTrouble]] = msgspec.field(default_factory=list)
    unstaged: list[Uid] = msgspec.field(default_factory=list)
    """Objects whose content is not in staging any more, though it was not installed."""
    touched: set[Uid] = msgspec.field(default_factory=set)
    """Objects whose node or base changed."""
    installed: list[Uid] = msgspec.field(default_factory=list)
    """Objects that are as the tree wants them now."""
    litter: list[bytes] = msgspec.field(default_factory=list)
    """Entries in staging that are of no use any more."""

    def extend(self, other: Applied) -> None:
        """Take in what came of another batch."""
        for name in ("done", "dirty", "surprised", "fresh", "troubles", "unstaged", "installed"):
            getattr(self, name).extend(getattr(other, name))
        self.touched |= other.touched


class Act(msgspec.Struct, frozen=True):
    intent_id: int
    intent: Intent


def kept_path(intent: Intent) -> bytes:
    """Where somebody's change lies that ended up outside the tree."""
    return store_path(CONFLICT_AND_DELETED, b"kept-" + intent.stored)


def enter(
    fs: FileSystem, view: View, draft: Draft, act: Act, outcome: Outcome, applied: Applied, now_ms: int
) -> list[Change]:
    """Enter `outcome` into the draft and `applied`; returns what belongs into the same commit.

    `view` is as before the batch. Raises OSError where what came out could not be put where it belongs: then nothing
    was entered, and the intent must stay.
    """
    step = act.intent.step
    if isinstance(outcome, Done):
        changes = _dispose(fs, view, act, outcome, now_ms)
        applied.touched |= complete(draft, act.intent, outcome)
        applied.dirty += outcome.again
        applied.done.append(step)
        return changes
    applied.surprised.append(step.uid)
    applied.litter += litter(act.intent)
    from_staging = step.kind == StepKind.PUT and step.node is None
    if isinstance(outcome, NotDone):
        if outcome.staged_gone and from_staging:
            applied.unstaged.append(step.lead)
        elif outcome.staged_gone and step.node is not None:
            applied.touched |= vacate(draft, step.node)
        return []
    changes = _keep(fs, view, act, outcome, now_ms) if outcome.keep else []
    if outcome.keep and from_staging:
        applied.unstaged.append(step.lead)
    applied.dirty += outcome.paths
    return changes


def litter(intent: Intent) -> list[bytes]:
    """A directory or symlink that was made to be put, and was not: to make it again costs less than to remember it."""
    step = intent.step
    return [intent.source] if step.kind == StepKind.PUT and step.node is None and step.object_kind != FILE else []


def sweep(fs: FileSystem, paths: list[bytes]) -> None:
    """Remove litter, when the catalog says that it was not put: until then it is what tells so (engine.resume)."""
    for path in paths:
        try:
            stat = fs.stat(path)
            if stat is not None:
                (fs.remove_dir if stat.kind == DIRECTORY else fs.unlink)(path)
        except OSError:
            continue  # it lies there until the next start, which cleans staging


def _dispose(fs: FileSystem, view: View, act: Act, done: Done, now_ms: int) -> list[Change]:
    """What came off the disk for good."""
    intent, step = act.intent, act.intent.step
    going = step.node if step.kind == StepKind.REMOVE else step.occupant if step.kind == StepKind.PUT else None
    if going is None or step.occupant_stays:
        return []
    node = node_of(view, going)
    if node.kind == DIRECTORY:
        return []  # removed by the act itself, which knows that it was empty
    tenants = view.objects(view.uids_at(going))
    note = note_of(node, _path_in_tree(view, intent.path, tenants), tenants)
    store = store_of(step)
    if not store:
        name = intent.aside.rpartition(b"/")[2]
        return [keep_until_quiet(name, act.intent_id, note, now_ms)] if done.out is not None else []
    if done.out is not None:
        kept = preserve(fs, intent.aside, act.intent_id, store, note, step.preserve, now_ms, intent.stored, step.winner)
        return [kept] if kept is not None else []
    # It was moved there before the act was cut off.
    there = fs.stat(store_path(store, intent.stored)) is not None
    if not there:
        return []
    return [listed(act.intent_id, store, note, step.preserve, now_ms, intent.stored, step.winner)]


def _path_in_tree(view: View, path: bytes, tenants: Sequence[ObjectState]) -> bytes:
    """What goes on from staging had a path before it was lifted there: where it was installed, as far as that is known
    now."""
    if not path.startswith(STAGING_PATH + b"/"):
        return path
    for state in tenants:
        base = state.base_place
        if base is not None:
            directory = wanted_path(view, base.parent)
            return join(directory, base.name) if directory is not None else base.name
    return path


def _keep(fs: FileSystem, view: View, act: Act, surprise: Surprise, now_ms: int) -> list[Change]:
    """Somebody's change that ended up outside the tree; where it was kept before the act was cut off, it is listed."""
    stat = fs.stat(surprise.keep)
    if stat is None:
        return []
    note, path = stranger(stat, act.intent.path, view.replica), kept_path(act.intent)
    name = path.rpartition(b"/")[2]
    if surprise.keep == path:
        return [listed(act.intent_id, CONFLICT_AND_DELETED, note, CHANGED_IN_THE_MOMENT, now_ms, name)]
    kept = preserve(fs, surprise.keep, act.intent_id, CONFLICT_AND_DELETED, note, CHANGED_IN_THE_MOMENT, now_ms, name)
    return [kept] if kept is not None else []
