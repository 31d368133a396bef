"""Giving up a version whose only holder is gone for good (`replicad abandon`): what is still there becomes the newest.

The one change that no disk made. The time of any other change lies after what was installed here, and no later (rule
1): who made it had not seen what the catalog has learned since, so a version that nobody here has seen is never undone
by accident. Here an operator says, of versions that are known and can be had from nobody, that they are to be undone.
So the new register's time lies after the version given up. Its vector contains no more than what was on this disk: a
member that has any other version of the file, the one given up included, preserves it (rule 9).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from replicad.core.author import Author
from replicad.core.draft import Draft
from replicad.core.ids import Uid
from replicad.core.records import DIRECTORY, FILE, vector_after
from replicad.core.tree import Slot, entries, outcome
from replicad.core.tree_places import rep
from replicad.core.view import ObjectState, View


def lacks_content(state: ObjectState) -> bool:
    """Whether the group's version of a file is not on this disk, bytes and all."""
    content, base = state.record.content, state.base_content
    if state.record.kind != FILE or not state.pending or content is None or content.gone is not None:
        return False
    return base is None or base.digest != content.digest


def missing_below(view: View, top: Slot) -> Iterator[tuple[bytes, Uid]]:
    """(path from `top` on, UID) of every file at or below a name of the tree whose content is not on this disk."""
    waiting = [(b"", top)]
    while waiting:
        path, slot = waiting.pop()
        found = outcome(view, slot)
        if found is None:
            continue
        for state in view.objects(found.winners):
            if lacks_content(state):
                yield path, state.record.uid
        if found.kind == DIRECTORY:
            inside = rep(view, found.lead)
            names = entries(view, inside)
            waiting.extend((path + b"/" + name, Slot(inside, name)) for name in reversed(names))


def abandon(draft: Draft, uids: Iterable[Uid], now_ms: int) -> tuple[Author, int, int]:
    """Give up the content that the records of these files ask for, for what is on this disk, or for nothing.

    Returns the author, for its `touched`, and how many were kept as they are here, and how many are gone.
    """
    author = Author(draft, now_ms)
    kept = gone = 0
    for uid in uids:
        state = author.state(uid)
        if not lacks_content(state):
            continue
        given_up = state.record.content
        assert given_up is not None
        base = state.base_content
        if base is not None and base.gone is None:
            content = author.content(author.time(0, given_up, base), vector_after(base), base)
            author.write(state, content=content)
            node = draft.node(state.node) if state.node is not None else None
            if node is not None and node.shows == base.cn:
                draft.put_node(msgspec.structs.replace(node, shows=content.cn))
            kept += 1
        else:
            author.write(state, content=author.gone(author.time(0, given_up), (), given_up.stamp))
            gone += 1
    return author, kept, gone
