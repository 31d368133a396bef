"""What waits at the workbench, for what, and until when. Bounded: what finds no room here is found again by the sweep.

An object waits for one thing at a time. Whatever is missed (a wake-up that nobody sends) is made good by the rounds:
after a time that doubles as long as nothing is done, everything here but what has a time of its own is looked at again.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

import msgspec

from replicad.core.ids import Uid

WAITING_MAX = 20_000
"""Objects remembered: 6 MB."""
RETRY_FIRST_MS, RETRY_LAST_MS = 250, 60_000
"""Delay after trouble with one file, doubling: an editor's lock is soon gone, a read-only disk is not."""
SETTLED_ASKED_MS = 250
"""How often it is asked whether a series has ended; some 3 ms each where 20,000 wait for that."""
HURRIED_MAX = 3
"""Failures in a row after which news of the disk does not shorten the delay any more: what surprises the applier makes
the scan look, and what the scan looks at would be tried at once, so neither would ever come to an end."""
WOKEN_BY_PROGRESS = 64
"""Of those that wait for something to happen, so many are looked at after each batch: a tenth of what that costs."""
ROUND_FIRST_MS, ROUND_LAST_MS = 1_000, 600_000
"""When everything is looked at again, doubling: a full house costs 2 s."""


class _Entry(msgspec.Struct):
    reason: str = ""
    blocker: Uid | None = None
    unsettled: Uid | None = None
    until_ms: int | None = None
    failures: int = 0


class Waiting:
    """Of one workbench."""

    def __init__(self) -> None:
        self._entries: dict[Uid, _Entry] = {}
        self._by_blocker: dict[Uid, dict[Uid, None]] = {}
        self._missing: dict[Uid, None] = {}
        """Blockers that are directories nobody here knows."""
        self._unsettled: dict[Uid, None] = {}
        self._stuck: dict[Uid, None] = {}
        self._timed: list[tuple[int, Uid]] = []
        """A heap; what no longer holds is passed over."""
        self._failures: dict[Uid, int] = {}
        """In a row, of objects that are being tried again."""
        self._asked_ms = 0
        self._to_wake = 0
        self._round_ms = 0
        self._round_after_ms = ROUND_FIRST_MS

    def __contains__(self, uid: object) -> bool:
        return uid in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    # -- what is to wait; each says whether there was room

    def wait_for(self, uid: Uid, blocker: Uid, reason: str = "", *, missing: bool = False) -> bool:
        """For something to be done about another object; `missing`: that is a directory which is not known here."""
        if not self._enter(uid, _Entry(reason, blocker=blocker)):
            return False
        self._by_blocker.setdefault(blocker, {})[uid] = None
        if missing:
            self._missing[blocker] = None
        return True

    def wait_until_settled(self, uid: Uid, unsettled: Uid) -> bool:
        """For the end of the series that brought `unsettled`."""
        if not self._enter(uid, _Entry(unsettled=unsettled)):
            return False
        self._unsettled[uid] = None
        return True

    def wait(self, uid: Uid, reason: str) -> bool:
        """For something to happen, nobody knows what."""
        if not self._enter(uid, _Entry(reason)):
            return False
        self._stuck[uid] = None
        return True

    def wait_until(self, uid: Uid, until_ms: int, reason: str = "", failures: int = 0) -> bool:
        if not self._enter(uid, _Entry(reason, until_ms=until_ms, failures=failures)):
            return False
        heapq.heappush(self._timed, (until_ms, uid))
        return True

    def wait_after_trouble(self, uid: Uid, reason: str, now_ms: int) -> bool:
        """For a delay that doubles each time in a row."""
        held = self._entries.get(uid)
        failures = 1 + (held.failures if held is not None else self._failures.get(uid, 0))
        delay_ms = min(RETRY_LAST_MS, RETRY_FIRST_MS << min(failures - 1, 10))
        return self.wait_until(uid, now_ms + delay_ms, reason, failures)

    # -- what need not wait any more

    def forget(self, uid: Uid) -> None:
        """It is planned again. How often it failed is remembered until `succeeded`."""
        entry = self._entries.pop(uid, None)
        if entry is None:
            return
        if entry.failures and len(self._failures) < WAITING_MAX:
            self._failures[uid] = entry.failures
        self._unsettled.pop(uid, None)
        self._stuck.pop(uid, None)
        if entry.blocker is not None:
            waiters = self._by_blocker[entry.blocker]
            del waiters[uid]
            if not waiters:
                del self._by_blocker[entry.blocker]
                self._missing.pop(entry.blocker, None)

    def succeeded(self, uid: Uid) -> None:
        self.forget(uid)
        self._failures.pop(uid, None)

    def progress(self, now_ms: int) -> None:
        """Something was done."""
        self._to_wake = min(len(self._stuck), self._to_wake + WOKEN_BY_PROGRESS)
        self._round_after_ms = ROUND_FIRST_MS
        self._round_ms = now_ms + ROUND_FIRST_MS

    def ask_at_once(self) -> None:
        """Something may be settled that was not."""
        self._asked_ms = 0

    def waiters(self, blocker: Uid) -> list[Uid]:
        """Those that wait for this object; something was done about it."""
        return list(self._by_blocker.get(blocker, ()))

    def due(self, now_ms: int, settled: Callable[[Uid], bool]) -> list[Uid]:
        """What is to be looked at now."""
        found = list(self._stuck)[: self._to_wake]
        self._to_wake = 0
        while self._timed and self._timed[0][0] <= now_ms:
            until_ms, uid = heapq.heappop(self._timed)
            if self._is_timed(uid, until_ms):
                found.append(uid)
        if self._unsettled and now_ms >= self._asked_ms + SETTLED_ASKED_MS:
            self._asked_ms = now_ms
            found += [uid for uid in self._unsettled if self._is_settled(uid, settled)]
        if self._untimed and now_ms >= self._round_ms:
            self._round_ms = now_ms + self._round_after_ms
            self._round_after_ms = min(2 * self._round_after_ms, ROUND_LAST_MS)
            found += self.untroubled()
        return found

    def timed(self) -> list[Uid]:
        """All that wait for a time."""
        return [uid for uid, entry in self._entries.items() if entry.until_ms is not None]

    def clock_set_back(self) -> None:
        self._asked_ms = self._round_ms = 0

    # -- what is asked

    def next_due_ms(self, now_ms: int) -> int | None:
        while self._timed and not self._is_timed(self._timed[0][1], self._timed[0][0]):
            heapq.heappop(self._timed)
        due = [self._timed[0][0]] if self._timed else []
        if self._to_wake:
            due.append(now_ms)
        if self._unsettled:
            due.append(self._asked_ms + SETTLED_ASKED_MS)
        if self._untimed:
            due.append(self._round_ms)
        return min(due, default=None)

    def troubled(self, uid: Uid) -> bool:
        """Whether it waits because of trouble with itself."""
        entry = self._entries.get(uid)
        return entry is not None and entry.failures > 0

    def hopeless(self, uid: Uid) -> bool:
        """Whether it had trouble so often that nobody should wait for it."""
        entry = self._entries.get(uid)
        failures = entry.failures if entry is not None else self._failures.get(uid, 0)
        return failures > HURRIED_MAX

    def may_hurry(self, uid: Uid) -> bool:
        """Whether it waits, and news of the disk is reason enough to try again."""
        entry = self._entries.get(uid)
        return entry is not None and entry.failures <= HURRIED_MAX

    def untroubled(self) -> list[Uid]:
        return [uid for uid, entry in self._entries.items() if entry.until_ms is None]

    def reasons(self) -> list[tuple[Uid, str]]:
        return [(uid, entry.reason) for uid, entry in self._entries.items() if entry.reason]

    def missing(self, limit: int) -> set[Uid]:
        """Directories that are waited for and not known."""
        return {uid for uid, _ in zip(self._missing, range(limit), strict=False)}

    @property
    def _untimed(self) -> bool:
        return bool(self._by_blocker or self._unsettled or self._stuck)

    def _is_timed(self, uid: Uid, until_ms: int) -> bool:
        entry = self._entries.get(uid)
        return entry is not None and entry.until_ms == until_ms

    def _is_settled(self, uid: Uid, settled: Callable[[Uid], bool]) -> bool:
        unsettled = self._entries[uid].unsettled
        return unsettled is not None and settled(unsettled)

    def _enter(self, uid: Uid, entry: _Entry) -> bool:
        self.forget(uid)
        if len(self._entries) >= WAITING_MAX:
            return False
        self._entries[uid] = entry
        return True
