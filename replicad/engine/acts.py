"""Acts on the tree: each does one intent, and looks at what came of it.

A check before a rename always races. So what is replaced is exchanged, what is removed is moved aside, and what came
out is inspected afterwards: if it is not what the catalog believed, it was somebody's change; it is put back, and the
path is looked at again like any other local change (I3, mutagen's applier is the model). Where even putting back meets
a change, that one is kept.

What *went in* was ours for certain if it came from staging, where nobody else works. If the path shows something else
by the time it is looked at, that was done since, to what we had put there: the act is done, and the path is looked at
again. The same is taken to hold for a move within the tree; only a directory, or an entry of another kind, that
turns up in the place of the one that was to move is moved back.

Invariants at every instant, and so at a kill -9:
1. a path of the tree holds a complete old or a complete new version (I4);
2. what came out of the tree and is not known to be expendable exists, in the tree, at the intent's `aside`, or in a
   store under the intent's name;
3. nothing is overwritten: all renames are NOREPLACE or EXCHANGE.
An error may come after anything: what it left is found out as after a crash (engine.resume).

RACE: a writer that has the file open goes on writing into what came out. What comes out is therefore kept in staging
until it has been quiet and is closed (engine.disposal, with what is left of this), and preserved when it was not.
RACE: a change that keeps size and mtime, made between the check and the rename. The check refuses files whose mtime is
within FRESH_NS of now, so such a change must also have set its mtime back. Worst case: it is kept until quiet only.
"""

from __future__ import annotations

import errno

import msgspec

from replicad.core.records import Content
from replicad.core.steps import STAGING_PATH, StepKind
from replicad.core.view import Node
from replicad.engine import meta
from replicad.engine.intents import Intent, Seen
from replicad.engine.renames import exchange, permitted, rename, spare_of, trouble
from replicad.errors import FileTrouble
from replicad.files.fs import DIRECTORY, FILE, OTHER, FileSystem, Stat

__all__ = ["Done", "NotDone", "Surprise", "act", "is_fresh", "matches", "trouble"]

FRESH_NS = 20_000_000
"""20 ms: several ticks of the coarsest clock that Linux stamps files with (10 ms at 100 Hz)."""

_NOT_THERE = (FileNotFoundError, NotADirectoryError)


class Done(msgspec.Struct, frozen=True):
    """The act is done. `stat`: of what it put at the target, None where that is gone or was changed since. `out`: of
    what came out and lies at `aside`. `other`: of what a SWAP put at its source, None as for `stat`. `again`:
    paths to be looked at, as their times do not tell what is there.
    """

    stat: Stat | None = None
    out: Stat | None = None
    other: Stat | None = None
    again: tuple[bytes, ...] = ()


class Surprise(msgspec.Struct, frozen=True):
    """The disk is not as the catalog believed; the tree is as it was. Look at `paths` again.

    `keep`: somebody's change lies in staging at this path; it must be preserved.
    """

    paths: tuple[bytes, ...]
    keep: bytes = b""


class NotDone(msgspec.Struct, frozen=True):
    """Nothing was done. `staged_gone`: what was to be put is not in staging any more; it must be fetched again."""

    staged_gone: bool = False


Outcome = Done | Surprise | NotDone


def matches(node: Node, stat: Stat | None) -> bool:
    """Whether the disk still shows what the catalog believes of this entry."""
    if stat is None or not Seen.of(node).is_version(stat):
        return False
    return stat.kind == DIRECTORY or stat.ctime_ns == node.ctime_ns


def is_fresh(node: Node, now_ms: int) -> bool:
    """Whether a file was written to a moment ago: its times cannot be trusted yet."""
    return node.kind == FILE and abs(now_ms * 1_000_000 - node.mtime_ns) < FRESH_NS


def act(fs: FileSystem, intent: Intent, node: Node | None, content: Content | None) -> Outcome:
    """Carry out an intent. `node` and `content` (of the lead): for those that move nothing.

    Raises OSError: what was done is to be found out by `engine.resume`. Raises FileTrouble: nothing was.
    """
    match intent.step.kind:
        case StepKind.PUT if intent.leaving is not None:
            return _replace(fs, intent, intent.leaving)
        case StepKind.PUT | StepKind.MOVE:
            return _to_free_name(fs, intent)
        case StepKind.LIFT | StepKind.REMOVE:
            return _take_out(fs, intent)
        case StepKind.SWAP:
            return _swap(fs, intent)
        case StepKind.REMOVE_DIR:
            return _remove_dir(fs, intent)
        case StepKind.MAKE_DIR if content is not None:
            return _make_dir(fs, intent, content)
        case StepKind.SET_META if content is not None and node is not None:
            return _set_meta(fs, intent, node, content)
        case kind:
            raise AssertionError(f"{kind} cannot be done")


def landed(fs: FileSystem, intent: Intent) -> Done | Surprise:
    """After the mover has gone to the target: what is there now."""
    stat = fs.stat(intent.target)
    if intent.moving.is_version(stat):
        return Done(stat)
    foreign = stat is not None and not intent.moving.is_entry(stat)
    if foreign and not from_staging(intent) and _other_thing(intent.moving, stat):
        return _move_back(fs, intent)
    return Done(again=(intent.target,))


def inspect(fs: FileSystem, intent: Intent, leaving: Seen) -> Done | Surprise:
    """Look at what an exchange brought out (also after a crash, S30). Raises FileTrouble where a directory stays."""
    out = fs.stat(intent.aside)
    if not leaving.is_version(out):
        return give_back(fs, intent)
    if leaving.kind == DIRECTORY and not intent.step.occupant_stays:
        try:
            fs.remove_dir(intent.aside)
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise
            back = give_back(fs, intent)
            if back.keep:
                return back
            raise trouble(intent.target, error) from error
        out = None
    found = landed(fs, intent)
    assert isinstance(found, Done), "what came from staging is ours"
    return msgspec.structs.replace(found, out=out)


def give_back(fs: FileSystem, intent: Intent) -> Surprise:
    """What came out is not what the catalog believed: it goes back to its path, and what we put there to staging."""
    paths = (intent.target,)
    try:
        _exchange(fs, intent, intent.aside, intent.target)
    except _NOT_THERE:
        # Our version is gone from the path: somebody deleted it, thinking that it was theirs.
        return Surprise(paths, keep=intent.aside)
    back = fs.stat(intent.aside)
    if intent.moving.is_version(back):
        return Surprise(paths, keep=restage(fs, intent))
    if intent.moving.is_entry(back):
        return Surprise(paths, keep=intent.aside)  # ours, and somebody has written into it
    # Somebody has put yet another version over ours, and it came out now: the newest one stays, the other is kept.
    try:
        _exchange(fs, intent, intent.aside, intent.target)
    except _NOT_THERE:
        pass
    return Surprise(paths, keep=intent.aside)


def restage(fs: FileSystem, intent: Intent) -> bytes:
    """The mover, which lies aside as it was, gets its name in staging back; where that is taken by now, it goes.

    Returns the path at which it is to be kept: a directory of ours that was in the tree, and got something in it there.
    It is not removed before that is entered: that it has left staging would tell that it was put (engine.resume).
    """
    if intent.moving.kind == DIRECTORY and intent.step.node is None and fs.list_dir(intent.aside):
        return intent.aside
    try:
        fs.rename(intent.aside, intent.source)
    except FileExistsError:
        (fs.remove_dir if intent.moving.kind == DIRECTORY else fs.unlink)(intent.aside)
    return b""


def put_back(fs: FileSystem, intent: Intent) -> Surprise:
    """What was moved aside is not what was meant: somebody had just changed it, or put it there."""
    try:
        rename(fs, intent.aside, intent.source)
    except FileExistsError:
        return Surprise((intent.source,), keep=intent.aside)
    except _NOT_THERE:
        if fs.stat(intent.aside) is not None:  # the directory that it was in is gone
            return Surprise((intent.source,), keep=intent.aside)
    return Surprise((intent.source,))


def _replace(fs: FileSystem, intent: Intent, leaving: Seen) -> Outcome:
    """From staging to an occupied name. The mover takes the name of the intent first, so that what comes out never lies
    under a name that somebody may clean away or fetch into."""
    if leaving.kind == DIRECTORY and not intent.step.occupant_stays and fs.list_dir(intent.target):
        raise trouble(intent.target, OSError(errno.ENOTEMPTY, ""))
    try:
        fs.rename(intent.source, intent.aside)
    except _NOT_THERE:
        return NotDone(staged_gone=True)
    try:
        _exchange(fs, intent, intent.aside, intent.target)
    except _NOT_THERE:
        restage(fs, intent)
        return Surprise((intent.target,))
    return inspect(fs, intent, leaving)


def _to_free_name(fs: FileSystem, intent: Intent) -> Outcome:
    try:
        rename(fs, intent.source, intent.target)
    except FileExistsError:
        return _taken(fs, intent)
    except _NOT_THERE:
        if from_staging(intent) and fs.stat(intent.source) is None:
            return NotDone(staged_gone=True)
        return Surprise((intent.source, intent.target))
    return landed(fs, intent)


def _taken(fs: FileSystem, intent: Intent) -> Surprise:
    """The name is taken by something that the catalog does not know. Raises FileTrouble where it never will."""
    stat = fs.stat(intent.target)
    if stat is not None and stat.kind == OTHER:
        raise FileTrouble(intent.target, "something that is not replicated (a fifo, socket or device) has this name")
    return Surprise((intent.target,))


def _take_out(fs: FileSystem, intent: Intent) -> Outcome:
    try:
        rename(fs, intent.source, intent.aside)
    except _NOT_THERE:
        return Surprise((intent.source,))
    out = fs.stat(intent.aside)
    return Done(out=out) if may_be_taken(intent, out) else put_back(fs, intent)


def may_be_taken(intent: Intent, out: Stat | None) -> bool:
    """Whether what came out was meant. What lay in staging was, and no scan looks there: where somebody who had it open
    has written to it since, it is preserved when it has been quiet (engine.disposal)."""
    return intent.moving.is_version(out) or from_staging(intent)


def _swap(fs: FileSystem, intent: Intent) -> Outcome:
    """Two entries of the tree, each to the other's name."""
    both = (intent.source, intent.target)
    try:
        _exchange(fs, intent, *both)
    except _NOT_THERE:
        return Surprise(both)
    return swapped(fs, intent)


def swapped(fs: FileSystem, intent: Intent) -> Done | Surprise:
    """After an exchange within the tree: what is at both names now."""
    assert intent.leaving is not None
    here, there = fs.stat(intent.target), fs.stat(intent.source)
    if _other_thing(intent.moving, here) or _other_thing(intent.leaving, there):
        both = (intent.source, intent.target)
        try:
            _exchange(fs, intent, *both)
        except _NOT_THERE:
            pass
        return Surprise(both)
    kept_here, kept_there = intent.moving.is_version(here), intent.leaving.is_version(there)
    again = (() if kept_here else (intent.target,)) + (() if kept_there else (intent.source,))
    return Done(here if kept_here else None, other=there if kept_there else None, again=again)


def _exchange(fs: FileSystem, intent: Intent, one: bytes, other: bytes) -> None:
    exchange(fs, one, other, spare_of(intent.aside))


def from_staging(intent: Intent) -> bool:
    return intent.source.startswith(STAGING_PATH + b"/")


def _move_back(fs: FileSystem, intent: Intent) -> Surprise:
    try:
        rename(fs, intent.target, intent.source)
    except (FileExistsError, *_NOT_THERE):
        pass  # it stays where it is: a new entry there, found by the next look
    return Surprise((intent.source, intent.target))


def _other_thing(expected: Seen, stat: Stat | None) -> bool:
    """Whether an entry stands in the place of the expected one that cannot be a newer version of it."""
    if stat is None:
        return False
    return stat.kind != expected.kind or (stat.kind == DIRECTORY and not expected.is_entry(stat))


def _make_dir(fs: FileSystem, intent: Intent, content: Content) -> Outcome:
    try:
        permitted(fs, lambda: fs.make_dir(intent.target, content.mode), intent.target)
    except FileExistsError:
        return _taken(fs, intent)
    except _NOT_THERE:
        return Surprise((intent.target,))
    return made(fs, intent, content)


def made(fs: FileSystem, intent: Intent, content: Content) -> Done | Surprise:
    """A directory was made at the target; it may be that its mode was not set any more."""
    stat = fs.stat(intent.target)
    if stat is not None and stat.kind == DIRECTORY and stat.mode != content.mode:
        fs.set_mode(intent.target, content.mode)
        stat = fs.stat(intent.target)
    return Done(stat) if stat is not None and stat.kind == DIRECTORY else Surprise((intent.target,))


def _remove_dir(fs: FileSystem, intent: Intent) -> Outcome:
    """Fails where something not replicated is in it (rule 12)."""
    try:
        permitted(fs, lambda: fs.remove_dir(intent.target), intent.target)
    except _NOT_THERE:
        return Surprise((intent.target,))
    return Done()


def _set_meta(fs: FileSystem, intent: Intent, node: Node, content: Content) -> Outcome:
    if not matches(node, fs.stat(intent.target)):
        return Surprise((intent.target,))
    return set_meta(fs, intent, node, content)


def set_meta(fs: FileSystem, intent: Intent, node: Node, content: Content, *, read: bool = False) -> Outcome:
    """Mode and, for files, mtime, whatever has been set of them already; `read`: a file is not taken for unchanged by
    its times. Raises OSError."""
    path = intent.target
    stat: Stat | None
    right = True
    try:
        if node.kind == FILE and (read or content.mtime_ns != node.mtime_ns):
            stat, right = meta.set_times(fs, path, node, content)
        elif node.kind in (FILE, DIRECTORY):
            stat = meta.set_mode(fs, path, node, content)
        else:
            stat = fs.stat(path)
            stat = stat if Seen.of(node).is_version(stat) else None
    except _NOT_THERE:
        stat = None
    return Done(stat, again=() if right else (path,)) if stat is not None else Surprise((path,))
