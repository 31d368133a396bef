"""The tree: what each name of each directory should be, a pure function of the records held (DESIGN section 3).

`retree` keeps what the tree needs in three fields of the objects, by differences, in layers each of which depends only
on those before it: where cycles are cut (`cut`, core.tree_cuts), which deleted directories stay because something below
them lives (`kept`), which directories of one name are one (`group`, both core.tree_groups), and which files stand
beside one that has their name (`cut` again, core.tree_siblings). All the rest is read: `outcome` decides one name when
asked. So a renamed directory touches two slots, whatever is in it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import msgspec

from replicad.core.draft import Draft
from replicad.core.ids import ROOT, Uid
from replicad.core.records import DIRECTORY
from replicad.core.tree_contest import best_of
from replicad.core.tree_cuts import recut
from replicad.core.tree_groups import regroup, rekeep
from replicad.core.tree_places import Revision, Slot, members, place_of, present_at, present_below, rep, slot_of
from replicad.core.tree_siblings import forget_stale, resibling
from replicad.core.view import ObjectState, View

__all__ = [
    "Outcome",
    "Slot",
    "change_policy",
    "contestants",
    "entries",
    "outcome",
    "place_of",
    "retree",
    "slot_of",
    "slot_path",
    "tree_of",
    "wanted_path",
]


class Outcome(msgspec.Struct, frozen=True):
    """What one name shows. All of `winners` are what is there: the UIDs of one directory, or files of equal content.

    `lead` is the one whose mode and mtime count; `hidden` are the losers. Both sequences are in ascending order.
    """

    kind: int
    winners: tuple[Uid, ...]
    lead: Uid
    hidden: tuple[Uid, ...]


def retree(draft: Draft, changed: Iterable[tuple[Uid, ObjectState | None]]) -> list[Slot]:
    """Bring `cut`, `kept` and `group` in step with the records in the draft.

    `changed` has every object whose record was put or dropped since they last were, with its state before (None: new);
    the caller leaves the three fields as they are. Returns, ascending, every slot whose outcome may have changed: the
    old and new ones of the changed objects, of those whose cut, kept or group changed, and of the children of
    directories that stand for another UID than before. A slot that no longer exists has no outcome.
    """
    revision = Revision(draft, changed)
    forget_stale(revision)
    recut(revision)
    rekeep(revision)
    regroup(revision)
    resibling(revision)
    return sorted(revision.slots())


def change_policy(draft: Draft, siblings: bool, contested: Iterable[Uid]) -> list[Slot]:
    """Take the folder's other policy. `contested`: every object of a name that several want (`Catalog.contested`), and
    what stands beside is found by itself. Returns as `retree`, whose caller goes on as after that."""
    draft.siblings = siblings
    uids = {*contested, *draft.cuts()}
    return retree(draft, [(state.record.uid, state) for state in draft.objects(uids)])


def contestants(view: View, slot: Slot) -> list[ObjectState]:
    """The present objects that want this name, by UID; none where `slot.directory` does not stand for its directory."""
    if rep(view, slot.directory) != slot.directory:
        return []
    found = [state for member in members(view, slot.directory) for state in present_at(view, member, slot.name)]
    return sorted(found, key=lambda state: state.record.uid)


def outcome(view: View, slot: Slot) -> Outcome | None:
    """What this name shows; None where nothing wants it."""
    found = [state.record for state in contestants(view, slot)]
    if not found:
        return None
    lead, winners = best_of(found)
    won = tuple(held.uid for held in winners)
    return Outcome(lead.kind, won, lead.uid, tuple(held.uid for held in found if held.uid not in won))


def entries(view: View, directory: Uid) -> list[bytes]:
    """The names in a directory of the tree, ascending; `directory` is b"" or any of its UIDs."""
    names = {
        place[1]
        for member in members(view, directory)
        for state in present_below(view, member)
        if (place := place_of(state)) is not None
    }
    return sorted(names)


def slot_path(view: View, slot: Slot) -> bytes | None:
    """The path of a slot; None where it is not reached from the root (rule 10)."""
    names = [slot.name]
    at = slot.directory
    seen: set[Uid] = set()
    while at != ROOT:
        assert at not in seen, "a cycle that is not cut: retree has not run"
        seen.add(at)
        state = view.object(at)
        place = place_of(state) if state is not None else None
        if state is None or place is None or not state.present or state.record.kind != DIRECTORY:
            return None
        names.append(place[1])
        at = place[0]
    return b"/".join(reversed(names))


def wanted_path(view: View, uid: Uid) -> bytes | None:
    """The path at which the tree shows the object; None where it does not, because it is hidden or not reached."""
    if uid == ROOT:
        return b""
    slot = slot_of(view, uid)
    found = outcome(view, slot) if slot is not None else None
    return slot_path(view, slot) if slot is not None and found is not None and uid in found.winners else None


def tree_of(view: View) -> dict[bytes, Outcome]:
    """The whole tree by path, each directory before what is in it. Walks everything."""
    tree: dict[bytes, Outcome] = {}
    waiting: deque[tuple[Uid, bytes]] = deque([(ROOT, b"")])
    while waiting:
        directory, path = waiting.popleft()
        for name in entries(view, directory):
            found = outcome(view, Slot(directory, name))
            assert found is not None, "a name without an object"
            below = path + b"/" + name if path else name
            tree[below] = found
            if found.kind == DIRECTORY:
                waiting.append((found.winners[0], below))
    return tree
