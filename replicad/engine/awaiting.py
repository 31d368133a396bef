"""One member's answer to an Await: how far a set of CNs is installed here (core.awaited has the rules).

Work is bounded: a call looks at no more than CHECKED_A_CALL objects, and memory holds no more than AWAITED_MAX of them.
Where more are pending, all that are so since then are waited for until they are few enough to be told apart.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from itertools import islice

from replicad.catalog.store import Catalog
from replicad.core.awaited import Awaited, awaited, concerns, is_done, unaccounted
from replicad.core.cnset import CNSet
from replicad.core.ids import Uid
from replicad.core.messages import BLOCKED_SHOWN_MAX
from replicad.core.view import ObjectState

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
        self._waiting: OrderedDict[Uid, Awaited] | None = None
        """Objects not seen to be done; None while they are too many to be remembered."""
        self._counted_at = 0
        self._checked_at = 0
        """The commit at which one was last seen that is not done."""

    @property
    def done(self) -> bool:
        return self._waiting is not None and not self._waiting

    @property
    def idle(self) -> bool:
        """Nothing is left to look up before the next commit."""
        return not self._waiting or self._checked_at == self._catalog.commits

    def missing(self) -> int:
        """CNs that are not known; when all are, objects that are not installed (blocked ones too). Some that are done
        may count where very many are waited for."""
        if self._since is None:
            return self.wanted.minus(self._catalog.known).count()
        if self._waiting is None:
            return self._catalog.pending_objects
        self._sift(self._waiting)
        return len(self._waiting)

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
        counting = (state for state in states if self._all or concerns(state, self.wanted))
        self._waiting = OrderedDict((state.record.uid, awaited(state)) for state in counting)

    def _check(self, waiting: OrderedDict[Uid, Awaited]) -> None:
        """From the front to the first that is not done: while that is so, the others do not matter. So a commit costs
        what it has done and not what waits."""
        size, left = 1, CHECKED_A_CALL
        while waiting and left > 0 and self._checked_at != self._catalog.commits:
            batch = list(islice(waiting, min(size, left)))
            states = self._states(batch)
            for uid in batch:
                if not is_done(states.get(uid), waiting[uid]):
                    self._checked_at = self._catalog.commits
                    break
                del waiting[uid]
            size, left = 2 * size, left - len(batch)

    def _sift(self, waiting: OrderedDict[Uid, Awaited]) -> None:
        """For who is told how many are left, which is asked for once a second at most."""
        batch = list(islice(waiting, CHECKED_A_CALL))
        states = self._states(batch)
        for uid in batch:
            if is_done(states.get(uid), waiting[uid]):
                del waiting[uid]
            else:
                waiting.move_to_end(uid)  # those at the front come first

    def _states(self, uids: Sequence[Uid]) -> dict[Uid, ObjectState]:
        return {state.record.uid: state for state in self._catalog.objects(uids)}
