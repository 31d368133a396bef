"""States of two members and what is on its way between them, and the steps from one to the next."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest import mock

import msgspec
from blake3 import blake3

from replicad.core.messages import Page
from replicad.engine import workbench
from replicad.files.fs import DIRECTORY, FILE
from tests.explore import disk as disks
from tests.explore.canonical import Line, put_made, put_member, put_page
from tests.explore.disk import Entry
from tests.explore.member import NS_PER_MS, OPERATION_MS, PEER_OF, START_MS, Killed, Living, Made, Member, Step, newborn
from tests.explore.promises import Broken, check_knowledge, check_settled

REPLICAS = (1, 2)
NAMES = (b"a", b"b")
PATHS = (b"a", b"b", b"a/b", b"b/a")
"""Where users act: the two names, and one of them in the other."""
EQUAL = b"equal"
MOVES_MAX = 150_000
"""Some gigabyte."""
FAULTS = ("lose", "silence", "crash")
Label = tuple[object, ...]
"""A step, in words."""


class Ghost(msgspec.Struct, frozen=True):
    """What no member knows. `written`: every content. `destroyed`: those of which a user overwrote or deleted a copy;
    `condemned`: of these, copies that replicad had looked at: they may not come back. `affirmed`: contents that may be
    a copy, since something took the name from which they were renamed before anybody looked; `left`: (member, path,
    content) of renames that nobody has looked at."""

    written: frozenset[bytes] = frozenset()
    destroyed: frozenset[bytes] = frozenset()
    condemned: frozenset[bytes] = frozenset()
    affirmed: frozenset[bytes] = frozenset()
    left: frozenset[tuple[int, bytes, bytes]] = frozenset()


class State(msgspec.Struct, frozen=True):
    """`inbox`: pages on their way to each member. `faults`: how many may still happen; `turns`: how often something may
    still be done out of turn (None: whenever). `made`: changes that not both members know."""

    members: tuple[Member, Member]
    inbox: tuple[tuple[Page, ...], tuple[Page, ...]] = ((), ())
    up: bool = True
    operations: int = 0
    faults: int = 0
    turns: int | None = None
    made: tuple[Made, ...] = ()
    ghost: Ghost = Ghost()


class Space:
    """What is to be explored. `operations`: of users, in all. `faults`: a link lost, a crash, a silence of half a
    minute. `turns`: None for every interleaving; else there is one order in which scans, deliveries and installs are
    done, an operation or a fault comes when none is left, and so often something else comes first. (The idea is
    iterative context bounding: most mistakes need few.) Steps of one member are done once for each of its values
    (`_moves`)."""

    def __init__(
        self,
        operations: int = 3,
        faults: int = 1,
        turns: int | None = None,
        *,
        kinds: tuple[str, ...] = FAULTS,
        equal: bool = False,
        mirrored: bool = True,
    ) -> None:
        self.operations = operations
        self.equal = equal
        """Files are made with one content, too, which members may make apart (rule 2)."""
        self.kinds = kinds
        self.faults = faults
        self.turns = turns
        self.mirrored = mirrored
        """The first operation may be the second member's."""
        self._moves: dict[tuple[object, ...], tuple[Member, Step]] = {}
        self._members: dict[Member, Member] = {}
        self._lines: dict[int, tuple[Member, list[object]]] = {}
        """What a member is in a key, by its id (as in `_moves`), which it keeps by being held here."""

    def key(self, state: State) -> bytes:
        """Equal for states that are one (`canonical`)."""
        line = Line()
        for number, member in enumerate(state.members):
            line.put(*self._line(member), len(state.inbox[number]))
            for page in state.inbox[number]:
                put_page(line, page)
        put_made(line, state.made)
        ghost = state.ghost
        line.put(state.up, state.operations, state.faults, state.turns, len(state.made))
        for contents in (ghost.written, ghost.destroyed, ghost.condemned, ghost.affirmed):
            line.put(len(contents), *sorted(contents))
        line.put(*(one for left in sorted(ghost.left) for one in left))
        return line.digest()

    # -- where it begins

    def start(self, *files: tuple[bytes, bytes | None]) -> State:
        """Two members with one tree; None for a directory."""
        state = State((newborn(REPLICAS[0]), newborn(REPLICAS[1])), faults=0)
        living = Living(state.members[0], 0)
        living.disk_ns = START_MS * NS_PER_MS
        for path, data in files:
            living.fs.user_mkdir(path) if data is None else living.fs.user_write(path, data)
        ghost = Ghost(written=frozenset(data for _, data in files if data is not None))
        state = msgspec.structs.replace(state, members=(living.done().member, state.members[1]), ghost=ghost)
        while found := self.next_quiet(state):
            state = found[1]
        check_settled(self, state)
        return msgspec.structs.replace(state, faults=self.faults, turns=self.turns)

    # -- steps

    def next_quiet(self, state: State) -> tuple[Label, State] | None:
        """The first step that is no user's and no fault."""
        return next(self.quiet(state), None)

    def steps(self, state: State) -> Iterator[tuple[Label, State]]:
        busy = False
        late = state if state.turns is None else msgspec.structs.replace(state, turns=state.turns - 1)
        may = state.turns != 0
        for label, after in self.quiet(state):
            if not busy or state.turns is None:
                yield label, after
            elif may:
                yield label, msgspec.structs.replace(after, turns=late.turns)
            busy = True
            if not may:
                break
        if state.operations < self.operations and (may or not busy):
            for member in (0, 1) if self.mirrored or state.operations else (0,):
                yield from self._operations(late if busy else state, member)
        if state.faults and (may or not busy):
            yield from self._faults(late if busy else state)

    def quiet(self, state: State) -> Iterator[tuple[Label, State]]:
        found = False
        for label, after in self._quiet(state):
            if after.members != state.members or after.inbox != state.inbox or after.up != state.up:
                found = True
                yield label, after
        if not found:
            # Nothing else is left to do: time passes.
            for number in (0, 1):
                if state.members[number].parts:
                    yield ("silence", number), self._change(state, number, ("expire",), Living.expire)

    def _quiet(self, state: State) -> Iterator[tuple[Label, State]]:
        for number in (0, 1):
            member = state.members[number]
            if member.hints or member.unwatched:
                yield ("scan", number), self._scan(state, number)
            if any(one.pending for one in member.stored.states):
                yield ("install", number), self._install(state, number)
            if state.inbox[number]:
                yield ("deliver", number), self._deliver(state, number)
            if state.up:
                yield from self._exchange(state, number)
        if not state.up:
            yield ("up",), self._up(state)

    def _exchange(self, state: State, number: int) -> Iterator[tuple[Label, State]]:
        """Member `number` asks for what it lacks, or tells of itself."""
        own, peer = state.members[number], state.members[1 - number]
        assert own.offers is not None
        lacks = bool(own.offers.minus(own.stored.known)) or own.row.position < own.row.head
        if lacks and not any(type(page).__name__ == "ContentBackfill" for page in state.inbox[number]):
            base, after = own.stored.known, own.row.position
            args = ("asked", base, after)
            yield ("ask", number), self._change(state, 1 - number, args, lambda one: one.asked(base, after))
        if not state.inbox[1 - number]:
            stored = own.stored
            if stored.known == peer.stored.known and stored.digest != peer.stored.digest:
                raise Broken("both know the same, and hold different records")
            status = stored.replica, stored.head, stored.known
            yield ("tell", number), self._change(state, 1 - number, ("heard", *status), lambda one: one.heard(*status))

    def _faults(self, state: State) -> Iterator[tuple[Label, State]]:
        state = msgspec.structs.replace(state, faults=state.faults - 1)
        if state.up and "lose" in self.kinds:
            yield ("lose",), self._down(state)
        for number in (0, 1):
            member = state.members[number]
            if member.parts and "silence" in self.kinds:
                yield ("silence", number), self._change(state, number, ("expire",), Living.expire)
            if "crash" not in self.kinds:
                continue
            yield ("crash", number), self._crash(state, number, "nothing", 0)
            for what in ("scan",) if member.hints or member.unwatched else ():
                yield from self._crashes(state, number, what)
            if any(one.pending for one in member.stored.states):
                yield from self._crashes(state, number, "install")
            if state.inbox[number]:
                yield from self._crashes(state, number, "deliver")

    def _crashes(self, state: State, number: int, what: str) -> Iterator[tuple[Label, State]]:
        for at in range(1, self._do(state, number, what, None).faults):
            yield ("crash", number, what, at), self._crash(state, number, what, at)

    # -- what each does

    def _moved(self, member: Member, args: tuple[object, ...], operations: int, work: Callable[[], Step]) -> Step:
        key = (id(member), operations, *args)
        found = self._moves.get(key)
        if found is None:
            made = work()
            found = self._moves[key] = member, msgspec.structs.replace(made, member=self._one(made.member))
        return found[1]

    def _one(self, member: Member) -> Member:
        return self._members.setdefault(member, member)

    def _line(self, member: Member) -> list[object]:
        found = self._lines.get(id(member))
        if found is None:
            line = Line()
            put_member(line, member, PEER_OF[member.stored.replica])
            found = self._lines[id(member)] = member, line.items
        return found[1]

    def forget_some(self) -> None:
        """Bound what is remembered to save work. To be called between two states."""
        if len(self._moves) > MOVES_MAX:
            self._moves.clear()
            self._members.clear()
            self._lines.clear()

    def _change(self, state: State, number: int, args: tuple[object, ...], work: Callable[[Living], None]) -> State:
        member = state.members[number]

        def run() -> Step:
            living = Living(member, state.operations)
            work(living)
            return living.done()

        return self._after(state, number, self._moved(member, args, state.operations, run))

    def _do(self, state: State, number: int, what: str, kill_at: int | None) -> Step:
        """A step in which a member may be killed."""
        member, operations = state.members[number], state.operations
        bodies: tuple[bytes, ...] = ()
        if what == "install":
            own = disks.bodies(member.disk) if member.stored.preserved else set()
            theirs = disks.bodies(state.members[1 - number].disk) if state.up else set()
            bodies = tuple(sorted(own | theirs))
        page = state.inbox[number][0] if what == "deliver" else None

        def run() -> Step:
            living = Living(member, operations, kill_at)
            try:
                if what == "scan":
                    living.scan()
                elif what == "install":
                    living.install(bodies)
                elif page is not None:
                    living.take(page)
                else:
                    raise Killed
            except Killed:
                return living.crash()
            return living.done()

        return self._moved(
            member,
            (what, kill_at, bodies, page and (type(page).__name__, msgspec.msgpack.encode(page))),
            operations,
            run,
        )

    def _scan(self, state: State, number: int) -> State:
        after = self._after(state, number, self._do(state, number, "scan", None))
        left = frozenset(one for one in state.ghost.left if one[0] != number)
        return msgspec.structs.replace(after, ghost=msgspec.structs.replace(state.ghost, left=left))

    def _install(self, state: State, number: int) -> State:
        return self._after(state, number, self._do(state, number, "install", None))

    def _deliver(self, state: State, number: int) -> State:
        step = self._do(state, number, "deliver", None)
        inbox = list(state.inbox)
        inbox[number] = inbox[number][1:]
        return self._after(msgspec.structs.replace(state, inbox=tuple(inbox)), number, step)

    def _crash(self, state: State, number: int, what: str, at: int) -> State:
        down = self._down(state, but=number)
        return self._after(down, number, self._do(state, number, what, at))

    def _down(self, state: State, but: int | None = None) -> State:
        """The link is gone, with what was on its way."""
        state = msgspec.structs.replace(state, inbox=((), ()), up=False)
        for number in (0, 1):
            if number != but and state.members[number].told is not None:
                state = self._change(state, number, ("down",), Living.link_down)
        return state

    def _up(self, state: State) -> State:
        state = msgspec.structs.replace(state, up=True)
        known = [member.stored.known for member in state.members]
        for number in (0, 1):
            told = known[1 - number]
            state = self._change(state, number, ("up", told), lambda one, told=told: one.link_up(told))  # type: ignore[misc]
        return state

    def _after(self, state: State, number: int, step: Step) -> State:
        """The state with what a step of one member came to; I2 and I5 are checked here."""
        before = state.members[number]
        members = (step.member, state.members[1]) if number == 0 else (state.members[0], step.member)
        made = state.made
        for one in step.made:
            if one.cn in before.stored.known or one.cn in state.members[1 - number].stored.known:
                raise Broken(f"I5: {one.cn} stands for two changes")
            made = (*made, one)
        fresh = step.member.stored.known.minus(before.stored.known)
        if fresh:
            check_knowledge(step.member, fresh, made)
            known = [member.stored.known for member in members]
            made = tuple(one for one in made if not (one.cn in known[0] and one.cn in known[1]))
        inbox = state.inbox
        if step.pages and state.up:
            other = (*inbox[1 - number], *step.pages)
            inbox = (inbox[0], other) if number == 0 else (other, inbox[1])
        return msgspec.structs.replace(state, members=members, made=made, inbox=inbox)

    # -- users

    def _operations(self, state: State, number: int) -> Iterator[tuple[Label, State]]:
        there = dict(disks.tree(state.members[number].disk))
        fresh = b"content %d" % state.operations
        for path in PATHS:
            above = path.rpartition(b"/")[0]
            if above and (above not in there or there[above].kind != DIRECTORY):
                continue
            entry = there.get(path)
            if entry is None:
                yield self._operation(state, number, there, "create", path, data=fresh)
                if self.equal:
                    yield self._operation(state, number, there, "copy", path, data=EQUAL)
                yield self._operation(state, number, there, "mkdir", path)
            else:
                if entry.kind == FILE:
                    yield self._operation(state, number, there, "edit", path, data=fresh)
                yield self._operation(state, number, there, "delete", path)
        for path in PATHS:
            for target in PATHS:
                if path in there and _may_move(there, path, target):
                    yield self._operation(state, number, there, "move", path, target)

    def _operation(
        self,
        state: State,
        number: int,
        there: dict[bytes, Entry],
        what: str,
        path: bytes,
        target: bytes = b"",
        data: bytes = b"",
    ) -> tuple[Label, State]:
        operations = state.operations + 1
        member = state.members[number]

        def run() -> Step:
            living = Living(member, operations)
            living.disk_ns = (START_MS + operations * OPERATION_MS) * NS_PER_MS
            fs = living.fs
            match what:
                case "create" | "copy" | "edit":
                    fs.user_write(path, data)
                case "mkdir":
                    fs.user_mkdir(path)
                case "delete":
                    fs.user_remove_tree(path)
                case "move":
                    fs.user_rename(path, target)
            return living.done()

        step = self._moved(member, (what, path, target, data), operations, run)
        ghost = _ghost_after(state.ghost, number, member, there, what, path, target, data)
        after = msgspec.structs.replace(state, operations=operations, ghost=ghost)
        label = (what, number, path, target) if target else (what, number, path)
        return label, self._after(after, number, step)


def _may_move(there: dict[bytes, Entry], path: bytes, target: bytes) -> bool:
    """As rename(2) has it."""
    above = target.rpartition(b"/")[0]
    if path == target or above == path or (above and (above not in there or there[above].kind != DIRECTORY)):
        return False
    replaced = there.get(target)
    if replaced is None:
        return True
    if replaced.kind != there[path].kind:
        return False
    return replaced.kind == FILE or not replaced.entries


def _ghost_after(
    ghost: Ghost,
    number: int,
    member: Member,
    there: dict[bytes, Entry],
    what: str,
    path: bytes,
    target: bytes,
    data: bytes,
) -> Ghost:
    written, affirmed, left = ghost.written, ghost.affirmed, ghost.left
    lost: set[bytes] = set()
    if data:
        written |= {data}
    at = target or path
    if what == "edit":
        lost.add(there[path].data)
    elif what == "delete":
        lost.update(entry.data for one, entry in there.items() if _within(one, path) and entry.kind == FILE)
    elif what == "move" and target in there and there[target].kind == FILE:
        lost.add(there[target].data)
    if what in ("create", "copy", "move"):
        affirmed |= {content for one, name, content in left if (one, name) == (number, at)}
    if what == "move":
        moved = {one: entry for one, entry in there.items() if _within(one, path) and entry.kind == FILE}
        left |= {(number, one, entry.data) for one, entry in moved.items()}
    looked = _looked_at(member)
    return Ghost(written, ghost.destroyed | lost, ghost.condemned | (lost & looked) - {EQUAL}, affirmed, left)


def _within(path: bytes, above: bytes) -> bool:
    return path == above or path.startswith(above + b"/")


def _looked_at(member: Member) -> set[bytes]:
    """Contents on the disk that replicad has looked at, or put there."""
    digests = {
        content.digest
        for state in member.stored.states
        if state.node is not None and (content := state.base_content) is not None and content.gone is None
    }
    return {entry.data for _, entry in disks.tree(member.disk) if blake3(entry.data).digest() in digests}


@contextmanager
def one_step_at_a_time() -> Iterator[None]:
    """The workbench's batches have one step each, so that anything can come between any two."""
    with mock.patch.object(workbench, "BATCH_STEPS_MAX", 1):
        yield
