"""One member's answer to an Await: how far a set of CNs is installed here (core.awaited has the rules).

Work is bounded: a call looks at no more than CHECKED_A_CALL objects, and memory holds no more than AWAITED_MAX of them.
Where more are pending, all that are so since then are waited for until they are few enough to be told apart.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from replicad.catalog.store import Catalog
from replicad.core.awaited import Awaited, awaited, concerns, is_done, unaccounted
from replicad.core.cnset import CNSet
from replicad.core.ids import Uid
from replicad.core.messages import BLOCKED_SHOWN_MAX

AWAITED_MAX = 20_000
"""Objects remembered for one wait: some 6 MB."""
CHECKED_A_CALL = 1_024
"""Objects looked up in one go: some 5 ms of the folder's thread."""
ACCOUNTED_MAX = 10_000
"""CNs of which it is looked up whether a record has them; of more it is taken that one has not."""
COMMITS_BETWEEN_COUNTS = 16
"""Counting the many that are pending takes some 10 ms."""

BlockedObject = tuple[Uid, bytes, str]
"""(object or b"", path, reason): what the folder lists as not replicating."""


class Awaiting:
    """`advance` after commits, until `done`."""

    def __init__(self, catalog: Catalog, wanted: CNSet) -> None:
        self._catalog = catalog
        self.wanted = wanted
        self._since: int | None = None
        """The commit at which all of `wanted` was known first; None: it is not yet."""
        self._all = False
        """Every object counts, not only those that `wanted` concerns."""
        self._waiting: dict[Uid, Awaited] | None = None
        """Objects not done; None while they are too many to be remembered."""
        self._counted_at = 0
        self._checked_at = 0
        self._unchecked = 0
        """Of `_waiting`, from its front: not looked up since the commit `_checked_at`."""

    @property
    def done(self) -> bool:
        return self._waiting is not None and not self._waiting

    @property
    def idle(self) -> bool:
        """Nothing is left to look up before the next commit."""
        return self._waiting is None or not self._unchecked

    def missing(self) -> int:
        """CNs that are not known; when all are, objects that are not installed (blocked ones too)."""
        if self._since is None:
            return self.wanted.minus(self._catalog.known).count()
        return len(self._waiting) if self._waiting is not None else self._catalog.pending_objects

    def advance(self, installed: CNSet) -> None:
        """`installed`: what was known at some moment at which nothing was pending."""
        if self.done:
            return
        if self._since is None:
            if not self._catalog.known.contains_all(self.wanted):
                return
            self._since = self._catalog.commits
            self._all = self._unaccounted(installed)
        if self._waiting is None:
            self._remember()
        if self._waiting:
            self._check(self._waiting)

    def blocked(self, listed: Iterable[BlockedObject]) -> tuple[int, list[tuple[bytes, str]]]:
        """Of what the folder lists as blocked, how many stand in the way here, and the first of them."""
        count = 0
        shown: list[tuple[bytes, str]] = []
        for uid, path, reason in listed:
            if uid and self._counts(uid):
                count += 1
                if len(shown) < BLOCKED_SHOWN_MAX:
                    shown.append((path, reason))
        return count, shown

    def _counts(self, uid: Uid) -> bool:
        if self._waiting is not None:
            return uid in self._waiting
        state = self._catalog.object(uid)
        if state is None or not state.pending:
            return False
        return self._all or concerns(state, self.wanted)

    def _unaccounted(self, installed: CNSet) -> bool:
        rest = self.wanted.minus(installed)
        if rest.count() > ACCOUNTED_MAX:
            return True
        records = self._catalog.with_cns(rest, ACCOUNTED_MAX)
        return unaccounted(rest, installed, CNSet.of(cn for record in records for cn in record.cns()))

    def _remember(self) -> None:
        """Take down what is pending since `wanted` was known, and as what, where it is not too much."""
        assert self._since is not None
        if self._counted_at and self._catalog.commits < self._counted_at + COMMITS_BETWEEN_COUNTS:
            return
        self._counted_at = self._catalog.commits
        uids = self._catalog.pending_by(self._since, AWAITED_MAX + 1)
        if len(uids) > AWAITED_MAX:
            return
        states = self._catalog.objects(uids)
        self._waiting = {s.record.uid: awaited(s) for s in states if self._all or concerns(s, self.wanted)}

    def _check(self, waiting: dict[Uid, Awaited]) -> None:
        if self._checked_at != self._catalog.commits:
            self._checked_at, self._unchecked = self._catalog.commits, len(waiting)
        batch = list(islice(waiting, min(self._unchecked, CHECKED_A_CALL)))
        states = {state.record.uid: state for state in self._catalog.objects(batch)}
        for uid in batch:
            what = waiting.pop(uid)
            if not is_done(states.get(uid), what):
                waiting[uid] = what  # to the end: those at the front come first
        self._unchecked -= len(batch)
