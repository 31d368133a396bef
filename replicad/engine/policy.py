"""The folder's policy for losers of a name, taken from the hierarchy into the tree (docs/preserved.md)."""

from __future__ import annotations

from replicad.catalog.changes import SIBLINGS_META, SetMeta
from replicad.catalog.store import Catalog
from replicad.core.draft import Draft
from replicad.core.tree import change_policy
from replicad.core.want import settle


def policy_draft(catalog: Catalog, siblings: bool) -> tuple[Draft, SetMeta] | None:
    """What makes the tree that of the policy, to be committed together; None where it is.

    Nothing is originated: each member does so when the setting reaches it, and until it has reached all of them their
    trees differ by what stands beside. Reads the whole catalog once (`Catalog.contested`).
    """
    if catalog.siblings == siblings:
        return None
    draft = Draft(catalog)
    settle(draft, change_policy(draft, siblings, catalog.contested()), ())
    return draft, SetMeta(SIBLINGS_META, b"1" if siblings else None)
