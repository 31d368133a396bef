"""What is not installed, kept up from commit to commit: a status is made every few seconds, and while a large folder
arrives, reading all that is pending takes a second.

The set is read once, when first asked for; after that, commits note what left and what entered it, and the next
question applies the notes. Notes beyond NOTES_MAX drop the set, and it is read again. CNs that two objects share (a
fault, S28) may be missing from it until then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from replicad.core.cnset import CNSet
from replicad.core.ids import Cn

NOTES_MAX = 100_000
"""Some 20 MB, and 0.1 s to apply; reading anew is cheaper than more of them."""


class Missing:
    def __init__(self) -> None:
        self._set: CNSet | None = None
        self._notes: dict[Cn, bool] = {}
        """True: it has entered since; False: it has left."""

    def note(self, installed: Iterable[Cn], missing: Iterable[Cn]) -> None:
        """Of one commit; a CN in both has stayed."""
        if self._set is None:
            return
        self._notes.update(dict.fromkeys(installed, False))
        self._notes.update(dict.fromkeys(missing, True))
        if len(self._notes) > NOTES_MAX:
            self.forget()

    def value(self, read: Callable[[], CNSet]) -> CNSet:
        """The set; `read` gives it anew where it was not kept."""
        if self._set is None:
            self._set = read()
        elif self._notes:
            entered = CNSet.of(cn for cn, there in self._notes.items() if there)
            left = CNSet.of(cn for cn, there in self._notes.items() if not there)
            self._set = self._set.minus(left).union(entered)
        self._notes = {}
        return self._set

    def forget(self) -> None:
        self._set = None
        self._notes = {}
