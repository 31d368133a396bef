"""How a member comes to take part in a folder: founding it, or joining what the group has (DESIGN, rules 6 and 11).

The phase is kept in the catalog, so that a crash goes on where it was:

- FOUNDING: the first scan of a founder. What it finds are originals; nothing is served or installed before its end.
- LEARNING: a joining member takes in what the others know, until it holds everything that a complete member knows.
- COMPARING: its catalog is not what others remember, or lacks what they have forgotten: it finds out what of it was
  deleted (engine.rejoining). FORGETTING and LEARNING follow.
- FORGETTING: an operator has said that the disk is not to count (`hold reject`): what is known of it is dropped, a
  piece at a time (engine.holds).
- CLAIMING: its disk is held against what is known (engine.joining).
- TAKING_PART: the rest of its life. `scanned` says whether the disk has been looked at whole since the start.
"""

from __future__ import annotations

from enum import Enum

import msgspec

from replicad.catalog.changes import SetMeta
from replicad.catalog.store import Catalog

PHASE_META, MERGE_META = "engine.phase", "engine.merge"
WHY_META = "safety.why"
"""Why a member rejoins (engine.rejoining): one of these, or nothing where it does not."""
ORIGINALS_META = "engine.originals"
"""There while this member has begun with originals, and it is not settled that it is one of the founders (rule 6)."""
PUT_BACK, STALE, LOST, CLEARING = b"put back", b"stale", b"lost", b"clearing"
ASKED, PRIMARY = b"asked", b"primary"
"""CLEARING: its catalog is emptied, and then it counts as lost: it was put back, and so were all others, or it came too
late to found the folder (engine.latecomer). ASKED: an operator wants it (`rejoin`); PRIMARY: with this member's disk as
what counts, until that has been looked at whole."""


class Role(Enum):
    """How the hierarchy has this member in the folder."""

    FOUNDER = "founder"
    JOINER = "joiner"
    MERGER = "merger"
    """A joiner whose own files go into the folder (`folder join --merge`)."""
    RETURNER = "returner"
    """It has taken part before, and its catalog is lost."""


class Phase(Enum):
    FOUNDING = b"founding"
    LEARNING = b"learning"
    COMPARING = b"comparing"
    FORGETTING = b"forgetting"
    CLAIMING = b"claiming"
    TAKING_PART = b"taking part"


class FolderState(msgspec.Struct, frozen=True):
    """INTERFACE's state of a folder, with the reason where it is 5, or what it waits for where it is 2 or 3."""

    state: int
    reason: str = ""


UNINITIALIZED, INITIALIZED, INITIAL_SYNC, AUTO_RECOVERY, NORMAL, IN_ERROR = range(6)


def phase_at_start(catalog: Catalog, role: Role, now_ms: int) -> Phase:
    """The phase in which the last run ended, or the first one by `role`; durable when this returns."""
    stored = catalog.meta(PHASE_META)
    if stored is not None:
        return Phase(stored)
    first = Phase.FOUNDING if role is Role.FOUNDER else Phase.LEARNING
    more = [SetMeta(WHY_META, LOST)] if role is Role.RETURNER else []
    more += [SetMeta(ORIGINALS_META, b"1")] if role is Role.FOUNDER else []
    catalog.commit(None, [*phase_changes(first, merge=role is Role.MERGER), *more], now_ms=now_ms)
    return first


def phase_changes(phase: Phase, *, merge: bool | None = None) -> list[SetMeta]:
    changes = [SetMeta(PHASE_META, phase.value)]
    if merge is not None:
        changes.append(SetMeta(MERGE_META, b"1" if merge else None))
    return changes


def merges(catalog: Catalog) -> bool:
    return catalog.meta(MERGE_META) is not None
