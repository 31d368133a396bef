"""The applier: carries out a batch of planned steps so that a crash at any instant loses nothing.

In this order (I12; DESIGN section 3, rule 8, and section 7):
1. what is to be put is whole in staging, its data durable (the fetcher syncs once a batch);
2. the intents of the batch are committed;
3. each act checks the disk, renames or exchanges, and inspects what came out (engine.acts);
4. one `syncfs` makes the renames durable;
5. one commit takes the nodes and bases as read back, lists what was preserved, and clears the intents.
Only what that commit says is told to others as installed.

A step that finds the disk different changes nothing and posts the path as dirty: the ordinary local route takes it up.
Trouble with one file stops that file alone (I10).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from replicad.catalog.changes import (
    CONFLICT_AND_DELETED,
    AddIntents,
    Change,
    ClearIntents,
)
from replicad.catalog.changes import Intent as IntentRow
from replicad.catalog.store import Catalog
from replicad.core.draft import Draft
from replicad.core.ids import Uid
from replicad.core.plan import STAGING_PATH, Step, StepKind, node_path
from replicad.core.records import DIRECTORY, FILE, SYMLINK, Content
from replicad.core.view import ROOT_NODE, Node, NodeId
from replicad.core.want import settle
from replicad.engine import acts
from replicad.engine.acts import Done, Surprise
from replicad.engine.complete import complete
from replicad.engine.disposal import OutNote, keep_until_quiet, preserve
from replicad.engine.intents import NOTHING, Intent, Seen, encode_intent
from replicad.errors import FileTrouble
from replicad.files.fs import FileSystem

BATCH_STEPS_MAX = 512
"""One syncfs and two commits a batch: enough to make them cheap, small enough to redo after a crash."""


class Applied(msgspec.Struct):
    """What came of a batch."""

    done: list[Step] = msgspec.field(default_factory=list)
    dirty: list[bytes] = msgspec.field(default_factory=list)
    """Paths at which the disk was not as believed."""
    fresh: list[Uid] = msgspec.field(default_factory=list)
    """Objects whose file was changed a moment ago: to be planned again after acts.FRESH_NS."""
    troubles: list[tuple[Uid, FileTrouble]] = msgspec.field(default_factory=list)
    touched: set[Uid] = msgspec.field(default_factory=set)
    """Objects whose node or base changed."""


class _Prepared(msgspec.Struct):
    step: Step
    path: bytes
    intent: Intent | None = None
    intent_id: int = 0


def staged_name(uid: Uid, digest: bytes) -> bytes:
    """The name in staging under which this object's content is put together."""
    return b"new-" + uid.hex().encode() + b"-" + digest[:8].hex().encode()


class Applier:
    """Of one folder; used by the thread that owns its catalog."""

    def __init__(self, catalog: Catalog, fs: FileSystem) -> None:
        self._catalog = catalog
        self._fs = fs

    def run(self, steps: Sequence[Step], now_ms: int) -> Applied:
        """Carry out steps that touch different entries (`independent`). Owns its two transactions.

        Raises OSError where the filesystem as a whole fails (the sync), CatalogError; the intents then stay, and the
        next start takes them up (engine.recovery).
        """
        applied = Applied()
        prepared = [one for step in steps if (one := self._prepare(step, applied)) is not None]
        rows = tuple(IntentRow(one.intent_id, encode_intent(one.intent)) for one in prepared if one.intent is not None)
        if rows:
            self._catalog.commit(None, [AddIntents(rows)], now_ms=now_ms)
        draft = Draft(self._catalog)
        changes: list[Change] = [ClearIntents(tuple(row.intent_id for row in rows))] if rows else []
        for one in prepared:
            self._execute(one, draft, changes, applied, now_ms)
        if not applied.done and not changes:
            return applied
        if any(step.kind != StepKind.DETACH for step in applied.done) or len(changes) > 1:
            self._fs.sync_all()
        settle(draft, (), applied.touched)
        self._catalog.commit(draft, changes, now_ms=now_ms)
        return applied

    # -- before the intents are committed

    def _prepare(self, step: Step, applied: Applied) -> _Prepared | None:
        try:
            return self._prepared(step)
        except FileTrouble as error:
            applied.troubles.append((step.uid, error))
        except FileNotFoundError:
            applied.dirty.append(self._path(step))
        except OSError as error:
            applied.troubles.append((step.uid, acts.trouble(self._path(step), error)))
        return None

    def _prepared(self, step: Step) -> _Prepared:
        path = self._path(step)
        if step.kind == StepKind.DETACH:
            return _Prepared(step, path)
        number = self._catalog.new_id()
        if step.kind in (StepKind.MAKE_DIR, StepKind.REMOVE_DIR, StepKind.SET_META):
            subject = _seen(self._node(step.node)) if step.node is not None else NOTHING
            return _Prepared(step, path, Intent(step, b"", path, subject, None), number)
        leaving: Seen | None = None
        if step.kind in (StepKind.PUT, StepKind.SWAP) and step.occupant is not None:
            leaving = _seen(self._node(step.occupant))
        if step.node is not None:
            source, moving = node_path(self._catalog, step.node), _seen(self._node(step.node))
        else:
            source = self._stage(step)
            stat = self._fs.stat(source)
            if stat is None:
                raise FileTrouble(path, "what was staged for it is gone; it is fetched again")
            moving = Seen.of(stat)
        target = path
        if step.kind in (StepKind.LIFT, StepKind.REMOVE):
            target = STAGING_PATH + (b"/lift-%d" if step.kind == StepKind.LIFT else b"/take-%d") % number
        return _Prepared(step, path, Intent(step, source, target, moving, leaving), number)

    def _stage(self, step: Step) -> bytes:
        """The path in staging of the new content, with its final mode and mtime."""
        content = self._content(step.lead)
        at = STAGING_PATH + b"/" + staged_name(step.lead, content.digest or b"\0" * 8)
        if step.object_kind == FILE:
            self._fs.set_mode(at, content.mode)
            self._fs.set_mtime(at, content.mtime_ns)
        elif self._fs.stat(at) is None:
            if step.object_kind == SYMLINK:
                self._fs.make_symlink(at, content.value)
            else:
                self._fs.make_dir(at, content.mode | 0o700)
        return at

    # -- after

    def _execute(
        self,
        one: _Prepared,
        draft: Draft,
        changes: list[Change],
        applied: Applied,
        now_ms: int,
    ) -> None:
        step = one.step
        try:
            if self._is_fresh(step, now_ms):
                applied.fresh.append(step.uid)
                return
            result = self._act(one)
            if isinstance(result, Surprise):
                applied.dirty.append(result.path)
                if result.keep is not None:
                    changes.extend(self._keep_stray(result.keep, one.path, now_ms))
                return
            changes.extend(finish(self._catalog, self._fs, draft, step, one.path, result, applied.touched, now_ms))
            applied.done.append(step)
        except FileTrouble as error:
            applied.troubles.append((step.uid, error))

    def _act(self, one: _Prepared) -> Done | Surprise:
        step, fs = one.step, self._fs
        if step.kind == StepKind.DETACH:
            return Done(None)
        if step.kind in (StepKind.PUT, StepKind.MOVE, StepKind.SWAP, StepKind.MAKE_DIR) and not self._parent_holds(
            step
        ):
            return Surprise(one.path)
        for node_id in (step.node, step.occupant):
            node = self._node(node_id) if node_id is not None else None
            if node is not None and not acts.matches(node, fs.stat(node_path(self._catalog, node.id))):
                return Surprise(node_path(self._catalog, node.id))
        if one.intent is not None and one.intent.source:
            return acts.act(fs, one.intent)
        if step.kind == StepKind.MAKE_DIR:
            return acts.make_directory(fs, one.path, self._content(step.lead).mode)
        assert step.node is not None
        if step.kind == StepKind.REMOVE_DIR:
            return acts.remove_directory(fs, one.path, self._node(step.node))
        content = self._content(step.lead)
        return acts.set_meta(fs, one.path, self._node(step.node), content.mode, content.mtime_ns)

    def _is_fresh(self, step: Step, now_ms: int) -> bool:
        """Whether what is to come off was written to a moment ago: its times cannot be trusted yet."""
        going = step.occupant if step.kind in (StepKind.PUT, StepKind.SWAP) else step.node
        if going is None or step.kind in (StepKind.DETACH, StepKind.MOVE, StepKind.LIFT):
            return False
        node = self._node(going)
        return node.kind == FILE and abs(now_ms * 1_000_000 - node.mtime_ns) < acts.FRESH_NS

    def _parent_holds(self, step: Step) -> bool:
        """Whether the directory at the parent's path is still the one that the catalog means."""
        if step.parent == ROOT_NODE:
            return True
        stat = self._fs.stat(node_path(self._catalog, step.parent))
        return stat is not None and stat.kind == DIRECTORY and stat.inode == self._node(step.parent).inode

    def _keep_stray(self, at: bytes, path: bytes, now_ms: int) -> list[Change]:
        stat = self._fs.stat(at)
        if stat is None:
            return []
        note = OutNote(Seen.of(stat), path, b"", 0, b"")
        why = "changed here in the moment in which it was replaced"
        kept = preserve(self._fs, at, self._catalog.new_id(), CONFLICT_AND_DELETED, note, why, now_ms)
        return [kept] if kept is not None else []

    def _path(self, step: Step) -> bytes:
        """The path in the tree that the step is about."""
        if step.kind in (StepKind.LIFT, StepKind.REMOVE, StepKind.REMOVE_DIR, StepKind.SET_META, StepKind.DETACH):
            assert step.node is not None
            return node_path(self._catalog, step.node)
        parent = node_path(self._catalog, step.parent)
        return parent + b"/" + step.name if parent else step.name

    def _node(self, node: NodeId) -> Node:
        found = self._catalog.node(node)
        assert found is not None, "a step names a node that is not there"
        return found

    def _content(self, uid: Uid) -> Content:
        state = self._catalog.object(uid)
        assert state is not None
        assert state.record.content is not None
        return state.record.content


def finish(
    catalog: Catalog,
    fs: FileSystem,
    draft: Draft,
    step: Step,
    path: bytes,
    result: Done,
    touched: set[Uid],
    now_ms: int,
) -> list[Change]:
    """Enter a done act into the draft and put what came out where it belongs. Raises FileTrouble."""
    lifted = b""
    try:
        if step.kind == StepKind.LIFT and result.out is not None:
            lifted = result.out.rpartition(b"/")[2]
        elif step.occupant_stays and result.out is not None:
            lifted = b"lift-%d" % catalog.new_id()
            fs.rename(result.out, STAGING_PATH + b"/" + lifted)
            result = Done(result.stat, result.out, fs.stat(STAGING_PATH + b"/" + lifted))
        changes = _dispose(catalog, fs, step, path, result.out, now_ms)
    except OSError as error:
        raise acts.trouble(path, error) from error
    touched.update(complete(draft, step, result, lifted))
    return changes


def _dispose(catalog: Catalog, fs: FileSystem, step: Step, path: bytes, out: bytes | None, now_ms: int) -> list[Change]:
    going = step.node if step.kind == StepKind.REMOVE else step.occupant if step.kind == StepKind.PUT else None
    if out is None or going is None or step.occupant_stays:
        return []
    node = catalog.node(going)
    assert node is not None
    if node.kind == DIRECTORY:
        return []  # removed by the act itself, which knows that it was empty
    tenants = catalog.objects(catalog.uids_at(going))
    base = next((state.base_content for state in tenants if state.base_content is not None), None)
    note = OutNote(
        _seen(node),
        path,
        tenants[0].record.uid if tenants else b"",
        base.replica if base is not None else 0,
        base.digest if base is not None else b"",
    )
    number = catalog.new_id()
    if step.preserve:
        kept = preserve(fs, out, number, CONFLICT_AND_DELETED, note, step.preserve, now_ms)
        return [kept] if kept is not None else []
    return [keep_until_quiet(fs, out, number, note, now_ms)]


def _seen(node: Node) -> Seen:
    if node.kind == DIRECTORY:
        return Seen(node.kind, node.inode, 0, 0, 0)
    return Seen(node.kind, node.inode, node.size, node.mtime_ns, node.mode)
