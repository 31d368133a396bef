"""Losers of a name that stand beside the winner: the folder's policy `sibling` (docs/preserved.md).

Under `preserve` a file or symlink that loses its name is hidden. Under `sibling` it is in the tree under another name,
a function of its record alone: its own name with a mark made of its kind and content. So losers of equal content are
one there, too, and who edits a sibling writes its name down first (core.pins), since the mark would change.

An object's *natural* place is where its record puts it (a directory: its effective place). Whoever loses the contest
of a natural slot has the sibling's place in `cut`; this is decided among those who are there by nature, whatever else
comes to that name, so it does not depend on itself. The names of siblings are contested like any other, and who loses
there as well is hidden: a second mark would make names without end.

Comes last of the layers (core.tree): files and symlinks have no say in cuts, in what is kept and in groups.
"""

from __future__ import annotations

from blake3 import blake3

from replicad.core.ids import Uid
from replicad.core.records import DIRECTORY, NAME_BYTES_MAX, Record
from replicad.core.tree_contest import best_of, essence
from replicad.core.tree_places import Revision, Slot, members, place_of, present_at, rep
from replicad.core.view import ObjectState, View

EXTENSION_BYTES_MAX = 16
"""What is longer behind the last dot is no extension, and the mark goes to the end."""
MARK = b".conflict-"
MARK_DIGEST_BYTES = 6
"""48 bits: two losers of one name whose marks are equal by chance contest that name, and one of them is preserved."""


def sibling_name(held: Record) -> bytes:
    """`report.txt` becomes `report.conflict-0123456789ab.txt`: the same on every member, never longer than a name may
    be."""
    assert held.place is not None, "only objects with a name lose one"
    mark = blake3(bytes([held.kind]) + essence(held)).digest(MARK_DIGEST_BYTES).hex().encode()
    return with_mark(held.place.name, MARK + mark)


def with_mark(name: bytes, mark: bytes) -> bytes:
    """The mark goes before the extension; the name is cut short where needed, not within a character of UTF-8."""
    stem, dot, extension = name.rpartition(b".")
    if not stem or not extension or len(extension) > EXTENSION_BYTES_MAX:
        stem, dot, extension = name, b"", b""
    return _shortened(stem, NAME_BYTES_MAX - len(mark + dot + extension)) + mark + dot + extension


def forget_stale(revision: Revision) -> None:
    """Before all other layers: a sibling stands in the directory of its record, or nowhere."""
    for uid in list(revision.before):
        state = revision.draft.object(uid)
        if state is None or state.cut is None or state.record.kind == DIRECTORY:
            continue
        place = state.record.place
        if not state.present or place is None or state.cut[0] != place.parent:
            revision.update(uid, cut=None)


def resibling(revision: Revision) -> None:
    """Bring the `cut` of files and symlinks in step; costs what the natural slots of all that changed hold."""
    draft = revision.draft
    changed = dict(revision.before)
    if not draft.siblings and not any(_stands_aside(revision, uid) for uid in changed):
        return
    slots: set[Slot] = set()
    for uid, before in changed.items():
        after = draft.object(uid)
        for state, directory_of in ((before, revision.old_rep), (after, lambda at: rep(draft, at))):
            place = _natural(state) if state is not None and state.present else None
            if place is not None:
                slots.add(Slot(directory_of(place[0]), place[1]))
        if revision.old_rep(uid) != rep(draft, uid):
            slots |= _slots_of_children(revision, uid)
    for slot in sorted(slots):
        _decide(revision, slot)


def natural_contestants(view: View, slot: Slot) -> list[ObjectState]:
    """The present objects whose natural slot this is, by UID; none where `slot.directory` stands for no directory."""
    if rep(view, slot.directory) != slot.directory:
        return []
    found: list[ObjectState] = []
    for member in members(view, slot.directory):
        found += [one for one in view.objects(view.present_named(member, slot.name)) if one.record.kind != DIRECTORY]
        found += [one for one in present_at(view, member, slot.name) if one.record.kind == DIRECTORY]
    return sorted(found, key=lambda state: state.record.uid)


def _stands_aside(revision: Revision, uid: Uid) -> bool:
    """Where the policy has just been changed back."""
    return any(
        state is not None and state.cut is not None and state.record.kind != DIRECTORY
        for state in (revision.before[uid], revision.draft.object(uid))
    )


def _natural(state: ObjectState) -> tuple[Uid, bytes] | None:
    if state.record.kind == DIRECTORY:
        return place_of(state)
    place = state.record.place
    return (place.parent, place.name) if place is not None else None


def _slots_of_children(revision: Revision, uid: Uid) -> set[Slot]:
    """A directory stands for another UID than before: its children contest other slots."""
    draft = revision.draft
    found: set[Slot] = set()
    for child in draft.objects([*draft.present_children(uid), *draft.cut_into(uid)]):
        place = _natural(child) if child.present else None
        if place is not None and place[0] == uid:
            found |= {Slot(revision.old_rep(uid), place[1]), Slot(rep(draft, uid), place[1])}
    return found


def _decide(revision: Revision, slot: Slot) -> None:
    found = natural_contestants(revision.draft, slot)
    if not found:
        return
    _, winners = best_of([state.record for state in found])
    won = {held.uid for held in winners}
    for state in found:
        held = state.record
        if held.kind == DIRECTORY:
            continue
        assert held.place is not None
        aside = revision.draft.siblings and held.uid not in won
        cut = (held.place.parent, sibling_name(held)) if aside else None
        if state.cut != cut:
            revision.update(held.uid, cut=cut)


def _shortened(stem: bytes, length: int) -> bytes:
    if len(stem) <= length:
        return stem
    short = stem[:length]
    try:
        stem.decode()
    except UnicodeDecodeError:
        return short
    return short.decode(errors="ignore").encode()
