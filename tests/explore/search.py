"""The search: each state once; a failure as the shortest history found."""

from __future__ import annotations

import random
from collections.abc import Sequence

import msgspec

from tests.explore.promises import check_settled
from tests.explore.space import Label, Space, State


class Found(msgspec.Struct):
    """What a search came to."""

    states: int = 0
    leaves: int = 0
    whole: bool = True
    """Nothing was left out."""
    why: str = ""
    history: tuple[Label, ...] = ()


def search(space: Space, start: State, states_max: int | None = None, seed: int = 0) -> Found:
    """Depth first, so that leaves are reached soon; the steps of a state in an order that `seed` gives."""
    rng = random.Random(seed)
    found = Found()
    came: dict[bytes, tuple[bytes, Label] | None] = {space.key(start): None}
    waiting: list[tuple[bytes, State]] = [(space.key(start), start)]
    while waiting:
        key, state = waiting.pop()
        if states_max is not None and found.states >= states_max:
            found.whole = False
            break
        found.states += 1
        space.forget_some()
        label: Label = ("rest",)
        try:
            if state.operations == space.operations and space.next_quiet(state) is None:
                found.leaves += 1
                check_settled(space, state)
            after: list[tuple[bytes, State]] = []
            for label, reached in space.steps(state):
                reached_key = space.key(reached)
                if reached_key not in came:
                    came[reached_key] = key, label
                    after.append((reached_key, reached))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what the search is for
            found.why = f"{type(error).__name__}: {error}"
            found.history = (*_history(came, key), label)
            return found
        rng.shuffle(after)
        waiting += after
    return found


def _history(came: dict[bytes, tuple[bytes, Label] | None], key: bytes) -> list[Label]:
    labels: list[Label] = []
    while (before := came[key]) is not None:
        key = before[0]
        labels.append(before[1])
    return labels[::-1]


def replay(space: Space, start: State, history: Sequence[Label]) -> str:
    """Take these steps, as far as they can be taken, and then all that is left to do. What was broken, or ""."""
    state = start
    try:
        for wanted in history:
            state = next((after for label, after in space.steps(state) if label == wanted), state)
        while (found := space.next_quiet(state)) is not None:
            state = found[1]
        check_settled(space, state)
    except Exception as error:  # noqa: BLE001 - as above
        return f"{type(error).__name__}: {error}"
    return ""


def shrink(space: Space, start: State, history: Sequence[Label], why: str) -> list[Label]:
    """Without the steps that the same failure does not need."""
    kind = why.partition(":")[0]
    kept = list(history)
    shorter = True
    while shorter:
        shorter = False
        for at in reversed(range(len(kept))):
            less = kept[:at] + kept[at + 1 :]
            if replay(space, start, less).partition(":")[0] == kind:
                kept, shorter = less, True
    return kept
