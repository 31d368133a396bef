"""Runs of a catalog: whether the one that a member shows follows from what is remembered of it (I5). Pure.

Each start of a catalog is a *run*: a number that grows, and 8 random bytes. Two members tell each other, whenever they
meet, their own run and the last one that the other is known to have taken note of. A catalog that was put back shows an
older one, or lacks what it has told; two copies of one catalog show the same last run, and the second of them is found.

A *life* of a catalog is what lies between two times at which it began anew (it was made, or it rejoined): a number that
grows as well. Who is in a later life than the one that is remembered has begun anew with others, and needs not do so
once more; who is in an earlier one was put back. docs/safety.md, section 2.
"""

from __future__ import annotations

import msgspec

from replicad.core.cnset import CNSet
from replicad.core.status_board import Known


class Run(msgspec.Struct, frozen=True):
    """`number` 0: none."""

    number: int = 0
    mark: bytes = b""


NONE = Run()


class Remembered(msgspec.Struct, frozen=True):
    """Of a peer: its life; the run that it has shown, knowing that it was taken note of; and the last one that was
    taken note of, of which that is not known yet."""

    life: int = 0
    confirmed: Run = NONE
    offered: Run = NONE


def follows(remembered: Remembered, life: int, shown: Run, last: Run) -> bool:
    """Whether `shown` may be the peer's next run, when `last` is the one that it knows to be remembered here.

    A `last` beyond what is remembered says that this member was put back, not the peer: it hears that from the peer.
    """
    if life != remembered.life:
        return life > remembered.life
    if shown in (remembered.confirmed, remembered.offered):
        return True
    if last in (remembered.confirmed, remembered.offered):
        return True
    return is_ahead(remembered, life, last)


def is_ahead(remembered: Remembered, life: int, last: Run) -> bool:
    """Whether the peer knows of a later run to be remembered here than is: this member was put back, and cannot tell
    whether the peer was."""
    return life == remembered.life and last.number > max(remembered.confirmed.number, remembered.offered.number)


def lacks_what_it_told(before: Known | None, session: int, known: CNSet) -> bool:
    """Whether a peer's whole `known`, shown in its run `session`, lacks anything that it has told in an earlier one of
    the same life."""
    return before is not None and before.status.session != session and not known.contains_all(before.known)


def remember(remembered: Remembered, life: int, shown: Run, last: Run) -> Remembered:
    """What is remembered once `shown` was taken note of."""
    if last == shown:
        return Remembered(life, shown, shown)
    if life != remembered.life:
        # A crash may keep from the peer that this run was taken note of: the next one shows the same `last` again.
        return Remembered(life, last, shown)
    confirmed = last if last == remembered.offered else remembered.confirmed
    return Remembered(life, confirmed, shown)
