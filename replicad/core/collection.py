"""When a deletion may be forgotten (DESIGN section 4, tombstones; docs/safety.md). Pure.

A tombstone keeps a deleted object from coming up again with whoever has not heard of the deletion. It is dropped when
nobody is left who has not: both its registers are among what *every* living member has installed. So nobody waits for
what is dropped, and nobody who is living can bring it back.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from replicad.core.cnset import EMPTY, CNSet
from replicad.core.draft import Draft
from replicad.core.hierarchy_model import Reading
from replicad.core.ids import FolderId, MemberId, Uid
from replicad.core.status_board import Known


class Circle(msgspec.Struct, frozen=True):
    """Of whom a member waits in a folder, by the hierarchy: neither removed nor lapsed.

    `member`: this member is one of them. `others`: the rest of them. `alone`: nobody else keeps the folder, lapsed or
    not. `founded`: the end of the founding is written down (rule 6), and `founders` who was on the replica list then;
    None: it is not told. `heard`: the hierarchy here is what a member in contact knows of it.
    """

    member: bool
    others: frozenset[MemberId]
    alone: bool
    founded: bool
    heard: bool = True
    founders: tuple[bytes, ...] | None = None

    def founds(self, member: MemberId) -> bool:
        """Whether its first scan may find originals."""
        return self.founders is None or bytes.fromhex(member) in self.founders

    @property
    def may_collect(self) -> bool:
        """Without another living member nothing is dropped: all that have lapsed may be on the other side of a cut."""
        return self.member and (self.alone or bool(self.others))


def circle_of(reading: Reading, folder: FolderId, own: MemberId, *, heard: bool) -> Circle | None:
    """None where this member is not in the folder's replica list."""
    info = reading.folders.get(folder)
    if info is None or own not in info.members:
        return None
    others = frozenset(info.members) - {own}
    living = others - reading.lapsed.keys()
    founders = info.founded.founders if info.founded is not None else None
    return Circle(
        own not in reading.lapsed,
        living,
        alone=not others,
        founded=founders is not None,
        heard=heard,
        founders=founders,
    )


def installed_by_all(known: CNSet, missing: CNSet, others: Iterable[Known | None]) -> CNSet:
    """What every living member has installed: this one, and the others by their last statuses (None: has said nothing).

    Nothing, while one of them knows a change that is not known here: it may be to the very object, and win. Made by one
    that has installed the deletion since, it is in the status that says so.
    """
    common = known.minus(missing)
    for status in others:
        if status is None or not status.whole or not known.contains_all(status.known):
            return EMPTY
        common = common.intersect(status.installed)
    return common


def may_drop(draft: Draft, uid: Uid, installed: CNSet) -> bool:
    """Whether this object is gone for everyone in `installed`, and nothing here hangs on it."""
    state = draft.object(uid)
    if state is None or state.pending or state.node is not None or state.beneath is not None or state.kept:
        return False
    held = state.record
    if held.place is None or held.content is None or held.content.gone is None:
        return False
    return all(cn in installed for cn in held.cns()) and not draft.children(uid)
