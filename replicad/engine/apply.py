"""The applier: carries out a batch of planned steps so that a crash at any instant loses nothing.

In this order (I12; DESIGN section 3, rule 8, and section 7):
1. what is to be put is whole in staging, its data and its entry there durable (the fetcher syncs once a batch; where
   the batch itself has made symlinks or directories there, one `syncfs` more): an intent whose mover is found nowhere
   says that it was put, and moved on by its user (engine.resume), and a power loss must not say so;
2. the intents of the batch are committed;
3. each act checks the disk, renames or exchanges, and inspects what came out (engine.acts);
4. one `syncfs` makes the renames durable;
5. one commit takes the nodes and bases as read back, lists what was preserved, and clears the intents.
Only what that commit says is told to others as installed.

A step that finds the disk different changes nothing and posts the path as dirty: the ordinary local route takes it up.
Trouble with one file stops that file alone (I10). What an error left is told from the disk at once (engine.resume);
where the disk does not answer, or cannot be synced, the intent stays, its entries are *held*, and the next batch begins
with it.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property

import msgspec

from replicad.catalog.changes import AddIntents, Change, ClearIntents
from replicad.catalog.changes import Intent as IntentRow
from replicad.catalog.store import Catalog
from replicad.core.draft import Draft
from replicad.core.ids import Uid
from replicad.core.records import DIRECTORY, Content
from replicad.core.steps import Step, StepKind, node_path
from replicad.core.view import ROOT_NODE, STAGING_NODE, Node, NodeId, View
from replicad.core.want import settle
from replicad.engine import acts
from replicad.engine.acts import NotDone, Outcome, Surprise
from replicad.engine.complete import content_then, detach
from replicad.engine.entering import Act, Applied, enter, kept_path, litter, sweep
from replicad.engine.intents import Intent, Seen, decode_intent, encode_intent
from replicad.engine.preparing import (
    WITH_PARENT,
    Unstaged,
    intent_of,
    is_fresh,
    node_of,
    staged_name,
    step_path,
)
from replicad.engine.renames import OWNER_MAY_FILL, close_again, spare_of
from replicad.engine.resume import WITNESS, resume
from replicad.errors import FileTrouble
from replicad.files.fs import FileSystem, Stat

__all__ = ["BATCH_STEPS_MAX", "Applied", "Applier", "staged_name"]

BATCH_STEPS_MAX = 512
"""One syncfs and two commits a batch: enough to make them cheap, small enough to redo after a crash."""


class _Batch:
    """What is gathered for the one commit at the end. `view` is the catalog as before it."""

    def __init__(self, catalog: Catalog) -> None:
        self.view = catalog
        self.draft = Draft(catalog)
        self.changes: list[Change] = []
        self.cleared: list[int] = []
        self.applied = Applied()
        self.parents: dict[NodeId, bool] = {}
        """Directories that were held against the disk, and whether they are what the catalog means."""
        self.acted = False
        """There is something to sync."""
        self.kept = False
        """An intent must stay."""


class Applier:
    """Of one folder; used by the thread that owns its catalog."""

    def __init__(self, catalog: Catalog, fs: FileSystem) -> None:
        self._catalog = catalog
        self._fs = fs
        with suppress(OSError):  # it is asked for later
            assert self._mount
        self.holding = True
        """There may be intents of acts whose outcome is not entered yet; `finish_held` finds out."""

    @cached_property
    def _mount(self) -> int:
        """The root's; asked for when it is needed first, since a folder may begin without its disk."""
        root = self._fs.stat(b"")
        assert root is not None, "an open root has a stat"
        return root.mount

    def held(self) -> set[NodeId | Uid]:
        """Entries and objects of acts whose outcome is not entered yet: no step may touch them."""
        found: set[NodeId | Uid] = set()
        for row in self._catalog.intents() if self.holding else ():
            step = decode_intent(row.blob).step
            found.update((step.uid, *step.winners))
            found.update(node for node in (step.node, step.occupant) if node is not None)
        return found

    def finish_held(self, now_ms: int) -> Applied:
        """Find out what became of the acts that were cut off, and enter it. Owns its transaction.

        Raises CatalogError. What still cannot be told is held on.
        """
        batch = _Batch(self._catalog)
        self.holding = False  # all are gone through; what another batch comes to says nothing of them
        for row in self._catalog.intents():
            self._take_in(Act(row.intent_id, decode_intent(row.blob)), batch, self._resume, now_ms)
        self._end(batch, now_ms)
        return batch.applied

    def run(self, steps: Sequence[Step], now_ms: int) -> Applied:
        """Carry out steps that touch different entries, none of them held. Owns its two transactions.

        Raises CatalogError; the intents then stay, and the next start takes them up (engine.recovery).
        """
        batch = _Batch(self._catalog)
        prepared = [act for step in steps if (act := self._prepare(step, batch, now_ms)) is not None]
        prepared = self._sync_made(prepared, batch)
        rows = tuple(IntentRow(act.intent_id, encode_intent(act.intent)) for act in prepared)
        if rows:
            self._catalog.commit(None, [AddIntents(rows)], now_ms=now_ms)
        for act in prepared:
            self._take_in(act, batch, self._do, now_ms)
        for step in steps:
            if step.kind == StepKind.DETACH:
                batch.applied.touched |= detach(batch.draft, step.uid)
                batch.applied.done.append(step)
        self._end(batch, now_ms)
        return batch.applied

    def _prepare(self, step: Step, batch: _Batch, now_ms: int) -> Act | None:
        if step.kind == StepKind.DETACH:
            return None
        applied = batch.applied
        if is_fresh(batch.view, step, now_ms):
            applied.fresh.append(step.uid)
            return None
        number = self._catalog.new_id()
        try:
            intent = intent_of(self._fs, batch.view, step, number, now_ms)
        except OSError as error:
            applied.troubles.append((step.uid, acts.trouble(step_path(batch.view, step), error)))
            return None
        if isinstance(intent, Unstaged):
            applied.unstaged.append(step.lead)
            return None
        return Act(number, intent)

    def _sync_made(self, prepared: Sequence[Act], batch: _Batch) -> list[Act]:
        """Those whose mover is durable in staging; what the fetcher brought is."""
        made = {act.intent_id for act in prepared if litter(act.intent)}
        try:
            if made:
                self._fs.sync_all()
        except OSError as error:
            refused = [act.intent for act in prepared if act.intent_id in made]
            batch.applied.troubles += [(intent.step.uid, acts.trouble(intent.path, error)) for intent in refused]
            return [act for act in prepared if act.intent_id not in made]
        return list(prepared)

    # -- one act

    def _take_in(self, act: Act, batch: _Batch, work: Callable[[Intent, _Batch], Outcome], now_ms: int) -> None:
        """Work it, and gather what came of it."""
        uid, path, applied = act.intent.step.uid, act.intent.path, batch.applied
        try:
            try:
                outcome = work(act.intent, batch)
            except OSError as error:
                applied.troubles.append((uid, acts.trouble(path, error)))
                outcome = self._resume(act.intent, batch)
            batch.changes += enter(self._fs, batch.view, batch.draft, act, outcome, applied, now_ms)
            batch.cleared.append(act.intent_id)
        except FileTrouble as error:
            applied.troubles.append((uid, error))
            batch.cleared.append(act.intent_id)
            applied.litter += litter(act.intent)
        except OSError as error:
            applied.troubles.append((uid, acts.trouble(path, error)))
            batch.kept = True

    def _do(self, intent: Intent, batch: _Batch) -> Outcome:
        """Only if the disk is as the catalog believes."""
        step = intent.step
        if step.kind in WITH_PARENT and not self._parent_holds(step.parent, batch):
            return self._met(intent.target, batch)
        for node_id in (step.node, step.occupant):
            if node_id is None:
                continue
            node, path = node_of(batch.view, node_id), node_path(batch.view, node_id)
            stat = self._fs.stat(path)
            if node.parent == STAGING_NODE:
                # Nobody works there, but who had it open may have written to it: that is found where it goes.
                if stat is None:
                    return NotDone(staged_gone=True)
            elif not acts.matches(node, stat) or self._is_foreign(stat):
                return self._met(path, batch)
        batch.acted = True
        return acts.act(self._fs, intent, *_subject(batch.view, intent))

    def _parent_holds(self, parent: NodeId, batch: _Batch) -> bool:
        """Whether the directory at the parent's path is still the one that the catalog means; asked once a batch.

        RACE: it may be renamed since. Then a step puts its entry into the directory that stands there now, or fails;
        the next look finds the entry there, by its inode.
        """
        if parent not in batch.parents:
            batch.parents[parent] = self._holds(parent, batch)
        return batch.parents[parent]

    def _holds(self, directory: NodeId, batch: _Batch) -> bool:
        """The same, as of now."""
        if directory in (ROOT_NODE, STAGING_NODE):
            return True
        stat = self._fs.stat(node_path(batch.view, directory))
        return acts.matches(node_of(batch.view, directory), stat) and not self._is_foreign(stat)

    def _is_foreign(self, stat: Stat | None) -> bool:
        """On another mount than the folder, though it be of the very same directory: not ours to change (I6)."""
        return stat is not None and stat.mount != self._mount

    def _met(self, path: bytes, batch: _Batch) -> Surprise:
        """Not what the catalog believes of this path. Raises FileTrouble where a mount covers it: that may last."""
        above, stat = path, self._fs.stat(path)
        while stat is None and above:
            above = above.rpartition(b"/")[0]
            stat = self._fs.stat(above)
        if self._is_foreign(stat):
            batch.applied.dirty.append(path)
            raise acts.trouble(path, OSError(errno.EXDEV, ""))
        return Surprise((path,))

    def _resume(self, intent: Intent, batch: _Batch) -> Outcome:
        """Find out what was done."""
        batch.acted = True
        kept = kept_path(intent) if intent.aside else b""
        if kept and self._fs.stat(kept) is not None:
            return Surprise((intent.path,), keep=kept)
        if not _stands(batch.view, intent) or _is_taken(batch.draft, intent.step):
            return Surprise((intent.path,), keep=intent.aside)
        for entry, mode, path in _doors(batch, intent):
            close_again(self._fs, entry, mode, path)
        intact = self._fs.stat(WITNESS) is not None
        node, content = _subject(batch.view, intent)
        above = node is None or self._holds(node.parent, batch)
        return resume(self._fs, intent, node, content, intact=intact, above=above)

    # -- all of them

    def _end(self, batch: _Batch, now_ms: int) -> None:
        """Make it durable, then enter it."""
        applied = batch.applied
        self.holding |= batch.kept
        if batch.acted:
            try:
                self._fs.sync_all()
            except OSError as error:
                self.holding = True
                applied.troubles += [
                    (step.uid, acts.trouble(step_path(batch.view, step), error)) for step in applied.done
                ]
                applied.done.clear()
                applied.touched.clear()
                self._note_registers(now_ms)
                return
        if batch.cleared:
            batch.changes.append(ClearIntents(tuple(batch.cleared)))
        settle(batch.draft, (), applied.touched)
        applied.installed += [uid for uid, state in batch.draft.states.items() if not state.pending]
        self._catalog.commit(batch.draft, batch.changes, now_ms=now_ms)
        if batch.kept:
            self._note_registers(now_ms)
        sweep(self._fs, applied.litter)

    def _note_registers(self, now_ms: int) -> None:
        """Of intents that stay: from here on the objects may change before it is entered what was done for them."""
        rows: list[IntentRow] = []
        for row in self._catalog.intents():
            intent = decode_intent(row.blob)
            if not intent.held:
                records = [state.record for state in self._catalog.objects({*intent.step.winners, intent.step.lead})]
                held = tuple((one.uid, one.place_raw, one.content_raw) for one in records)
                rows.append(IntentRow(row.intent_id, encode_intent(msgspec.structs.replace(intent, held=held))))
        if rows:
            ids = tuple(row.intent_id for row in rows)
            self._catalog.commit(None, [ClearIntents(ids), AddIntents(tuple(rows))], now_ms=now_ms)


def _subject(view: View, intent: Intent) -> tuple[Node | None, Content | None]:
    """The entry and the content that a step is about which moves nothing."""
    step = intent.step
    node = node_of(view, step.node) if step.node is not None else None
    return node, content_then(view, intent) if step.slot is not None else None


def _stands(view: View, intent: Intent) -> bool:
    """Whether the entries that an intent names are still where it says: a scan may have been here since."""
    step = intent.step
    for node_id, path in ((step.node, intent.source or intent.target), (step.occupant, intent.target)):
        if node_id is not None and (view.node(node_id) is None or node_path(view, node_id) != path):
            return False
    return step.kind not in WITH_PARENT or (
        view.node(step.parent) is not None and step_path(view, step) == intent.target and _is_whole(view, step)
    )


def _is_taken(draft: Draft, step: Step) -> bool:
    """Whether the name stands for another entry by now: while the outcome could not be synced, a scan has found what
    was put there, and has entered it as what it is."""
    there = draft.node_at(step.parent, step.name) if step.kind in WITH_PARENT else None
    return there is not None and there.id not in (step.node, step.occupant)


def _is_whole(view: View, step: Step) -> bool:
    lead = view.object(step.lead)
    return lead is not None and lead.record.content is not None and len(view.objects(step.winners)) == len(step.winners)


def _doors(batch: _Batch, intent: Intent) -> list[tuple[Seen, int, bytes]]:
    """(entry, mode, path) of directories that the act may have opened for a moment (renames.permitted).

    Paths are of before the batch; modes as the acts before this one in the batch have set them.
    """
    step, view, draft = intent.step, batch.view, batch.draft
    found: list[tuple[Seen, int, bytes]] = []
    nodes = [node for number in (step.node, step.occupant) if number is not None and (node := draft.node(number))]
    for parent in {step.parent, *(node.parent for node in nodes)} - {ROOT_NODE, STAGING_NODE}:
        node = draft.node(parent) if view.node(parent) is not None else None
        if node is not None:
            found.append((Seen.of(node), node.mode, node_path(view, parent)))
    moving = [(Seen.of(node), node.mode) for node in nodes if node.kind == DIRECTORY]
    if step.kind == StepKind.PUT and step.node is None and step.object_kind == DIRECTORY:
        made = content_then(view, intent)
        moving += [(intent.moving, made.mode)] if made is not None else []
    paths = [path for path in (intent.source, intent.target, intent.aside) if path]
    paths += [spare_of(intent.aside)] if intent.aside else []
    found += [(entry, mode, path) for entry, mode in moving for path in paths]
    return [door for door in found if door[1] & OWNER_MAY_FILL != OWNER_MAY_FILL]
