"""What a watch reports. Events are hints about where to look; the disk is the truth.

The watch on a real disk (`watch`) and the feed of the tree in memory (tests/sim) report these same values, at the same
grain: per directory entry, after the fact, in the order in which the changes happened.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Dirty:
    """Something about the entry `name` of `directory` changed: it came, went, was written to, or its mode or times
    changed. A rename is two of these; of what lies beneath a renamed directory nothing is said."""

    directory: bytes
    name: bytes


@dataclass(frozen=True, slots=True)
class Overflow:
    """Changes were lost. Everything must be scanned and watched anew from the root."""


@dataclass(frozen=True, slots=True)
class Marker:
    """`name` was created in `.replicad/fence/`. All changes made before that have been reported."""

    name: bytes


@dataclass(frozen=True, slots=True)
class Unwatchable:
    """Neither the directory `path` nor anything beneath it is watched; `reason` says why and what to do."""

    path: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class RootGone:
    """The root was moved, removed or unmounted: nothing more will be reported of it."""

    reason: str


Change = Dirty | Overflow | Marker | Unwatchable | RootGone
