"""What waits in a scan, in order, each thing with its generation (engine.scan_state).

The lowest generation is asked for after each step while somebody waits for the disk to be looked at, and up to 100,000
things wait: so it is kept, not searched. The generation of what is put in must not change while it is here.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections import Counter, OrderedDict
from collections.abc import Callable, ItemsView, Iterator, ValuesView
from typing import Generic, TypeVar

K = TypeVar("K")
"""Of one kind, with an order: heaps compare them where times are equal."""
V = TypeVar("V")
STALE_MIN = 64
"""Of what a heap holds and nothing waits for; beyond this and as many as wait, it is made anew."""


class Generations:
    """How many of each generation there are, and which is the lowest."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self._heap: list[int] = []
        """Each generation that is there, and some that are not any more."""

    def add(self, since: int) -> None:
        self._counts[since] += 1
        if self._counts[since] == 1:
            heapq.heappush(self._heap, since)
            if len(self._heap) > 2 * len(self._counts) + STALE_MIN:
                self._heap = sorted(self._counts)

    def remove(self, since: int) -> None:
        left = self._counts[since] - 1
        if left:
            self._counts[since] = left
        else:
            del self._counts[since]

    def oldest(self) -> int | None:
        while self._heap and self._heap[0] not in self._counts:
            heapq.heappop(self._heap)
        return self._heap[0] if self._heap else None

    def copy(self) -> Generations:
        other = Generations()
        other._counts, other._heap = self._counts.copy(), self._heap.copy()
        return other


class InOrder(Generic[K, V]):
    """By key, in the order of arrival; `since` tells the generation of a value."""

    def __init__(self, since: Callable[[V], int]) -> None:
        self._since = since
        self._held: OrderedDict[K, V] = OrderedDict()
        """Taking the first of 20,000 out of a plain dict passes over all that was taken before."""
        self._generations = Generations()

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, key: object) -> bool:
        return key in self._held

    def __iter__(self) -> Iterator[K]:
        return iter(self._held)

    def __getitem__(self, key: K) -> V:
        return self._held[key]

    def get(self, key: K) -> V | None:
        return self._held.get(key)

    def items(self) -> ItemsView[K, V]:
        return self._held.items()

    def values(self) -> ValuesView[V]:
        return self._held.values()

    def oldest(self) -> int | None:
        return self._generations.oldest()

    def put(self, key: K, value: V) -> None:
        """Last in order; where the key is here already, at its place."""
        before = self._held.get(key)
        if before is not None:
            self._generations.remove(self._since(before))
        self._generations.add(self._since(value))
        self._held[key] = value

    def put_first(self, key: K, value: V) -> None:
        self.put(key, value)
        self._held.move_to_end(key, last=False)

    def take(self, key: K) -> V | None:
        """It is here no longer."""
        value = self._held.pop(key, None)
        if value is not None:
            self._generations.remove(self._since(value))
        return value

    def take_first(self) -> tuple[K, V]:
        """Raises KeyError where nothing is here."""
        key, value = self._held.popitem(last=False)
        self._generations.remove(self._since(value))
        return key, value

    def clear(self) -> None:
        self._held.clear()
        self._generations = Generations()

    def copy(self) -> InOrder[K, V]:
        other = InOrder[K, V](self._since)
        other._held, other._generations = self._held.copy(), self._generations.copy()
        return other


class ByDirectory(InOrder[tuple[bytes, bytes], V]):
    """By (directory, name): what is in a directory and beneath it is found without passing over the rest."""

    def __init__(self, since: Callable[[V], int]) -> None:
        super().__init__(since)
        self._names: dict[bytes, dict[bytes, None]] = {}
        self._directories: list[bytes] = []
        """Those in `_names`, sorted. To move 100,000 of them aside in memory takes less than to look at 100."""

    def beneath(self, directory: bytes) -> list[tuple[tuple[bytes, bytes], V]]:
        first, end = (bisect_left(self._directories, directory + edge) for edge in (b"/", b"0"))  # "0" follows "/"
        found = [directory, *self._directories[first:end]]
        keys = [(one, name) for one in found for name in self._names.get(one, ())]
        return [(key, self[key]) for key in keys]

    def put(self, key: tuple[bytes, bytes], value: V) -> None:
        super().put(key, value)
        directory, name = key
        if directory not in self._names:
            self._names[directory] = {}
            insort(self._directories, directory)
        self._names[directory][name] = None

    def take(self, key: tuple[bytes, bytes]) -> V | None:
        value = super().take(key)
        if value is not None:
            self._left(key)
        return value

    def take_first(self) -> tuple[tuple[bytes, bytes], V]:
        key, value = super().take_first()
        self._left(key)
        return key, value

    def clear(self) -> None:
        super().clear()
        self._names.clear()
        self._directories.clear()

    def _left(self, key: tuple[bytes, bytes]) -> None:
        directory, name = key
        names = self._names[directory]
        del names[name]
        if not names:
            del self._names[directory]
            del self._directories[bisect_left(self._directories, directory)]


class Due(Generic[K, V]):
    """By key, each from a time on."""

    def __init__(self) -> None:
        self._held: dict[K, tuple[int, V]] = {}
        self._heap: list[tuple[int, K]] = []
        """What no longer holds is passed over."""

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, key: object) -> bool:
        return key in self._held

    def first_ms(self) -> int | None:
        """Not after the first of them."""
        return self._heap[0][0] if self._heap else None

    def put(self, key: K, due_ms: int, value: V) -> None:
        held = self._held.get(key)
        self._held[key] = (due_ms, value)
        if held is None or held[0] != due_ms:
            heapq.heappush(self._heap, (due_ms, key))
            if len(self._heap) > 2 * len(self._held) + STALE_MIN:
                self._heap = sorted((at_ms, one) for one, (at_ms, _) in self._held.items())

    def take(self, now_ms: int) -> list[tuple[K, V]]:
        """What is due, in the order of the times."""
        found = []
        while self._heap and self._heap[0][0] <= now_ms:
            due_ms, key = heapq.heappop(self._heap)
            held = self._held.get(key)
            if held is not None and held[0] == due_ms:
                del self._held[key]
                found.append((key, held[1]))
        return found

    def take_one(self, key: K) -> V | None:
        """It waits no longer."""
        held = self._held.pop(key, None)
        return held[1] if held is not None else None

    def copy(self) -> Due[K, V]:
        other = Due[K, V]()
        other._held, other._heap = self._held.copy(), self._heap.copy()
        return other

    def take_all(self) -> list[tuple[K, V]]:
        found = [(key, value) for key, (_, value) in self._held.items()]
        self._held.clear()
        self._heap.clear()
        return found
