"""The folder's policy for losers of a name, taken from the hierarchy into the tree (docs/preserved.md)."""

from __future__ import annotations

from collections.abc import Callable

from replicad.catalog.changes import SIBLINGS_META, SetMeta
from replicad.catalog.store import Catalog
from replicad.core.draft import Draft
from replicad.core.tree import change_policy
from replicad.core.want import settle


def take_policy(catalog: Catalog, siblings: bool, offer: Callable[[Draft], None], now_ms: int) -> bool:
    """Make the tree that of the policy, and commit; False where it is. `offer` is told of the draft before.

    Nothing is originated: each member does so when the setting reaches it, and until it has reached all of them their
    trees differ by what stands beside. Reads the whole catalog once (`Catalog.contested`).
    """
    if catalog.siblings == siblings:
        return False
    draft = Draft(catalog)
    settle(draft, change_policy(draft, siblings, catalog.contested()), ())
    offer(draft)
    catalog.commit(draft, [SetMeta(SIBLINGS_META, b"1" if siblings else None)], now_ms=now_ms)
    return True
