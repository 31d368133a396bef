"""A failing history made small: which of its steps it takes to fail.

A step is what a story does at one place of its loop: an act of a user, a mishap, a pause. While a story runs, `record`
writes down each step with the state that every source of randomness had before it. `replay` sets these states again
before each step that is left, so a step draws what it drew, whichever others are gone; only what the members draw
themselves (delays, ids) goes another way. What is left is found by halving (Zeller and Hildebrandt, "Simplifying and
isolating failure-inducing input", 2002): ever smaller pieces are left out for as long as the same thing fails.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.sim.member import SimMember
from tests.sim.story import Story

PAUSE = "pause"
SHOWN_BYTES = 40
"""Of a content."""
States = dict[str, object]


@dataclass(frozen=True)
class Named:
    """A member, in another run of the seed."""

    name: str


@dataclass(frozen=True)
class Step:
    """`name`: of a method of the story, or PAUSE."""

    name: str
    arguments: tuple[object, ...]
    states: States


@dataclass(frozen=True)
class Failure:
    """`where` says what fails: another seed's failure with the same is taken for the same."""

    kind: str
    where: str
    text: str

    @staticmethod
    def of(error: BaseException) -> Failure:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        return Failure(type(error).__name__, f"{frame.filename}:{frame.lineno}", str(error))

    def is_like(self, other: Failure | None) -> bool:
        return other is not None and (self.kind, self.where) == (other.kind, other.where)


def record(story: Story) -> tuple[list[Step], Failure | None]:
    """The steps of a whole run, and why it failed."""
    steps: list[Step] = []
    within = False

    def taped(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: object) -> Any:
            nonlocal within
            if within:
                return method(*arguments)
            plain = tuple(Named(one.name) if isinstance(one, SimMember) else one for one in arguments)
            steps.append(Step(name, plain, {key: source.getstate() for key, source in story.sources().items()}))
            within = True
            try:
                return method(*arguments)
            finally:
                within = False

        return step

    story._begin()
    for name in story.steps:
        setattr(story, name, taped(name, getattr(story, name)))
    story.group.run = taped(PAUSE, story.group.run)  # type: ignore[method-assign]
    try:
        story.go_on()
        within = True
        story._end()
    except Exception as error:  # noqa: BLE001  (whatever it is, it is what the seed found)
        return steps, Failure.of(error)
    return steps, None


def replay(story: Story, steps: Sequence[Step]) -> Failure | None:
    """These steps alone. What cannot be done, since a step before it is gone, is left out."""
    story._check_not_empty = lambda: None  # type: ignore[method-assign]
    try:
        story._begin()
        for step in steps:
            _do(story, step)
        story._end()
    except Exception as error:  # noqa: BLE001
        return Failure.of(error)
    return None


def _do(story: Story, step: Step) -> None:
    there = story.sources()
    for key, state in step.states.items():
        if key in there:
            there[key].setstate(state)  # type: ignore[arg-type]
    if step.name == PAUSE:
        story.group.run(*step.arguments)  # type: ignore[arg-type]
        return
    arguments = [story.group.members.get(one.name) if isinstance(one, Named) else one for one in step.arguments]
    if None not in arguments:
        getattr(story, step.name)(*arguments)
        story.members[:] = story.group.members.values()


def shrink(make: Callable[[], Story], budget_s: float) -> tuple[list[Step], Failure] | None:
    """Steps that fail as the whole history does, as few as are found in that time; None where it does not fail."""
    end_s = time.monotonic() + budget_s
    steps, failure = record(make())
    if failure is None:
        return None
    size = len(steps)
    while size > 1 and time.monotonic() < end_s:
        size = (size + 1) // 2
        end = len(steps)  # backwards: what came last is seldom the cause
        while end > 0 and time.monotonic() < end_s:
            begin = max(0, end - size)
            fewer = steps[:begin] + steps[end:]
            again = replay(make(), fewer)
            if again is not None and again.is_like(failure):
                steps, failure = fewer, again
            end = begin
    return steps, failure


def tell(make: Callable[[], Story], steps: Sequence[Step]) -> list[str]:
    """What happens in these steps, a line each: mishaps, and what users do to the disks."""
    story = make()
    clock = story.group.clock
    lines: list[str] = []
    began_ms = clock.now_ms

    def say(*words: object) -> None:
        lines.append(f"{(clock.now_ms - began_ms) / 1_000:>10.3f} s  {' '.join(map(str, words))}")

    def noted(*words: object) -> None:
        if words[0] != "act":  # the calls say more
            say(*words)

    clock.note = noted  # type: ignore[method-assign]
    for name, member in story.group.members.items():
        for call in [one for one in dir(member.fs) if one.startswith("user_")]:
            setattr(member.fs, call, _telling(f"{name} {call.removeprefix('user_')}", getattr(member.fs, call), say))
    failure = replay(story, steps)
    return [*lines, f"{failure.kind}: {failure.text}" if failure else "it does not fail"]


def _telling(what: str, method: Callable[..., Any], say: Callable[..., None]) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        say(what, *(repr(one[:SHOWN_BYTES]) if isinstance(one, bytes) else repr(one) for one in arguments))
        return method(*arguments, **options)

    return call
