"""Members with fences and real catalogs; a disk sees, learns and installs what the test tells it to, and nothing else.

Links are reliable and in order for as long as they last. Time is virtual.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from replicad.catalog.database import MemoryDatabase
from replicad.catalog.store import Catalog
from replicad.core.absorb import absorb
from replicad.core.cnset import CNSet
from replicad.core.draft import Draft
from replicad.core.effects import Effect, LinkDown, LinkUp, Received, Send, Tick
from replicad.core.fence import WaitResult
from replicad.core.ids import ROOT, MemberId, Uid
from replicad.core.local import Appeared, Edited, LocalChange, Moved, Vanished, originate
from replicad.core.messages import Message, decode_message, encode_message
from replicad.core.plan import STAGING_PATH, Context, First, Step, StepKind, plan
from replicad.core.records import DIRECTORY, FILE, Record, content_key, place_key
from replicad.core.view import ROOT_NODE, STAGING_NODE, Node, ObjectState
from replicad.core.want import settle
from replicad.engine.acts import Done
from replicad.engine.awaiting import BlockedObject
from replicad.engine.complete import complete, detach
from replicad.engine.fences import Fences
from replicad.engine.intents import NOTHING, Intent, Seen
from replicad.engine.looking import FENCE_PATH
from replicad.files.fs import Stat
from tests.sim.memory_fs import MemoryFileSystem

START_MS = 1_000_000
FOLDER = bytes(16)
HOP_MS = 5

UserAct = tuple[str, bytes, object]
"""("write", name, value), ("delete", name, None), ("rename", name, new name)."""


def member_id(name: str) -> MemberId:
    return hashlib.sha256(name.encode()).hexdigest()


class ToldDisk:
    """Implements `Disk`: acts of the user lie here until `FenceMember.scan`."""

    def __init__(self) -> None:
        self.watched = True
        self.hindrance = ""
        self.generation = 0
        self.scanned = 0
        self.looks = 0
        self.busy: list[tuple[bytes, str]] = []
        self.stuck: list[BlockedObject] = []

    def dirty_generation(self) -> int:
        return self.generation

    def scanned_through(self) -> int:
        return self.scanned

    def look_everywhere(self) -> None:
        self.looks += 1
        self.generation += 1

    def unread(self) -> Sequence[tuple[bytes, str]]:
        return self.busy

    def blocked(self) -> Sequence[BlockedObject]:
        return self.stuck


class Best(NamedTuple):
    """The highest versions of an object that a disk has shown as the tree wanted it: keys of core.records."""

    place: tuple[Any, ...]
    content: tuple[Any, ...]


class FenceMember:
    """Its catalog and disk survive a restart, its fences do not."""

    def __init__(self, net: FenceNet, name: str) -> None:
        self.net = net
        self.name = name
        self.id = member_id(name)
        self.database = MemoryDatabase()
        self.replica = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
        self.fs = MemoryFileSystem(lambda: net.now_ms * 1_000_000)
        for path in (b".replicad", FENCE_PATH):
            self.fs.make_dir(path, 0o700)
        self.acts: deque[tuple[int, UserAct]] = deque()
        """What the user did and no scan has seen, with its number."""
        self.best: dict[Uid, Best] = {}
        self.markers_come = True
        self.ids = 0
        self.links: dict[MemberId, None] = {}
        self.start()

    def start(self) -> None:
        self.catalog = Catalog.open(self.database, FOLDER, lambda: self.replica)
        if self.catalog.node(ROOT_NODE) is None:
            draft = Draft(self.catalog)
            for number, name in ((ROOT_NODE, b""), (STAGING_NODE, b".replicad/staging")):
                draft.put_node(Node(number, 0, name, DIRECTORY, number, 0, 0, 0, 0, 0o755))
            self.catalog.commit(draft, now_ms=self.net.now_ms)
        self.disk = ToldDisk()
        self.disk.generation = 1  # at a start everything is looked at
        self.fences = Fences(self.id, self.catalog, self.disk, self.fs, new_id=self._new_id)

    def _new_id(self) -> bytes:
        self.ids += 1
        return hashlib.sha256(f"{self.name} {self.ids}".encode()).digest()[:12]

    # -- its user and its disk

    def user(self, kind: str, name: str, value: object = None) -> int:
        """Something is done to the disk. Returns the act's number."""
        number = self.net.new_number()
        self.acts.append((number, (kind, name.encode(), value)))
        self.disk.generation += 1
        return number

    def scan(self, keep: int = 0) -> None:
        """Look at all hints, commit what they show; the last `keep` acts are still unseen (a hint of them came)."""
        through = self.disk.generation - keep
        while len(self.acts) > keep:
            number, act = self.acts.popleft()
            self._take_up(number, act)
        self.disk.scanned = max(self.disk.scanned, through)
        self.progress()

    def _take_up(self, number: int, act: UserAct) -> None:
        kind, name, value = act
        draft = Draft(self.catalog)
        node = draft.node_at(ROOT_NODE, name)
        change: LocalChange | None = None
        if kind == "write":
            assert isinstance(value, int)
            seen = self._stat(node.inode if node is not None else draft.next_node, value)
            digest = value.to_bytes(32, "big")
            change = (
                Edited(node.id, seen, digest)
                if node is not None
                else Appeared(draft.new_node_id(), ROOT_NODE, name, seen, digest)
            )
        elif node is not None and kind == "delete":
            change = Vanished(node.id)
        elif node is not None and draft.node_at(ROOT_NODE, str(value).encode()) is None:
            change = Moved(node.id, ROOT_NODE, str(value).encode(), self._stat(node.inode, node.size))
        if change is None:
            return
        before = {s.record.uid: s.record for s in self.states()}
        touched = originate(draft, [change], self.net.now_ms, watched=True)
        settle(draft, touched.slots, touched.uids)
        self.catalog.commit(draft, now_ms=self.net.now_ms)
        for state in self.states():
            self.net.note(number, self, before.get(state.record.uid), state.record)

    def _stat(self, inode: int, size: int) -> Stat:
        at_ns = self.net.now_ms * 1_000_000
        return Stat(FILE, inode, size, at_ns, at_ns, 0, 0o644, 1, 1)

    def states(self) -> Sequence[ObjectState]:
        return self.catalog.objects(self.catalog.children(ROOT))

    def disk_shows(self) -> dict[str, int]:
        return {node.name.decode(): node.size for node in self.catalog.nodes_in(ROOT_NODE)}

    # -- what it learns and installs

    def learn(self, other: FenceMember, only: Iterable[Uid] | None = None) -> None:
        """A whole series of `other`'s, its set at the end; or a page with some records, and no set."""
        records = [state.record for state in other.states() if only is None or state.record.uid in set(only)]
        draft = Draft(self.catalog)
        absorb(draft, records)
        draft.learn(other.catalog.known if only is None else CNSet.of(cn for one in records for cn in one.cns()))
        self.catalog.commit(draft, now_ms=self.net.now_ms)
        self.progress()

    def install(self, limit: int = 1_000) -> int:
        """At most so many acts on the disk; all content is there. Returns how many there were."""
        done = 0
        while done < limit and (step := self._next_step()) is not None:
            draft = Draft(self.catalog)
            touched = self._enter(draft, step)
            settle(draft, (), touched)
            self.catalog.commit(draft, now_ms=self.net.now_ms)
            done += 1
            self.progress()
        return done

    def _next_step(self) -> Step | None:
        context = Context(lambda uid: True, lambda uid, digest: True)
        waiting, seen = list(self.catalog.pending(1_000)), set()
        while waiting:
            uid = waiting.pop(0)
            if uid in seen:
                continue
            seen.add(uid)
            found = plan(self.catalog, uid, context)
            if isinstance(found, Step):
                return found
            if isinstance(found, First):
                waiting[:0] = found.uids
        return None

    def _enter(self, draft: Draft, step: Step) -> set[Uid]:
        """The step as done, without a disk."""
        if step.kind == StepKind.DETACH:
            return detach(draft, step.uid)
        node = draft.node(step.node) if step.node is not None else None
        there = draft.node(step.occupant) if step.occupant is not None else None
        lead = draft.object(step.lead) if step.lead else None
        content = lead.record.content if lead is not None else None
        if node is None and content is not None:
            stat: Stat | None = self._stat(draft.next_node, content.size)
        else:
            stat = self._stat(node.inode, node.size) if node is not None else None
        came_out = self._stat(there.inode, there.size) if there is not None else None
        aside = STAGING_PATH + b"/lift-%d" % self.net.new_number()
        moving = Seen.of(stat) if stat is not None else NOTHING
        intent = Intent(step, b"source", b"target", moving, Seen.of(there) if there is not None else None, aside)
        out = stat if step.kind == StepKind.LIFT else came_out
        return complete(draft, intent, Done(stat, out, came_out))

    # -- its fences

    def wait(self, *expected: FenceMember, timeout_ms: int = 60_000, count: int | None = None) -> int:
        ticket, out = self.fences.start(
            frozenset(member.id for member in expected), timeout_ms, self.net.now_ms, count=count
        )
        self.net.carry_out(self, out)
        return ticket

    def result(self, ticket: int) -> WaitResult | None:
        return self.fences.result(ticket)

    def progress(self) -> None:
        for state in self.states():
            now, best = shown(state), self.best.get(state.record.uid)
            if now is not None:
                at = Best(place_key(now), content_key(now))
                self.best[state.record.uid] = (
                    at if best is None else Best(max(at.place, best.place), max(at.content, best.content))
                )
        self.net.carry_out(self, self.fences.progress(self.net.now_ms))

    def handle(self, event: LinkUp | LinkDown | Received | Tick) -> None:
        self.net.carry_out(self, self.fences.handle(event, self.net.now_ms))

    def report_markers(self) -> None:
        """The watch tells of the markers that are there."""
        if self.fs.stat(FENCE_PATH) is None:
            return
        for name, _ in self.fs.list_dir(FENCE_PATH):
            self.net.carry_out(self, self.fences.marker_seen(name, self.net.now_ms))

    def overflow(self) -> None:
        """The watch lost events: everything must be looked at."""
        self.disk.generation += 1
        self.net.carry_out(self, self.fences.overflowed(self.net.now_ms))


class FenceNet:
    """`names` linked as `links` says ("ab bc": A with B, B with C)."""

    def __init__(self, names: str, links: str = "") -> None:
        self.now_ms = START_MS
        self._number = 0
        self._flying: deque[tuple[int, FenceMember, FenceMember, bytes]] = deque()
        self.drop: Callable[[FenceMember, FenceMember, Message], bool] = lambda source, target, message: False
        self.sent: list[tuple[str, str, Message]] = []
        self.written: dict[int, list[Record]] = {}
        """By act: the records it made, as they were then."""
        self.members = {name: FenceMember(self, name) for name in names}
        self.by_id = {member.id: member for member in self.members.values()}
        for pair in links.split():
            self.link(pair[0], pair[1])

    def __getitem__(self, name: str) -> FenceMember:
        return self.members[name]

    def new_number(self) -> int:
        self._number += 1
        return self._number

    def note(self, number: int, member: FenceMember, before: Record | None, after: Record) -> None:
        known = before.cns() if before is not None else ()
        if any(cn not in known and cn.replica == member.replica for cn in after.cns()):
            self.written.setdefault(number, []).append(after)

    # -- links

    def link(self, one: str, other: str) -> None:
        for member, peer in ((self[one], self[other]), (self[other], self[one])):
            member.links[peer.id] = None
            member.handle(LinkUp(peer.id))

    def cut(self, one: str, other: str) -> None:
        pair = {self[one].id, self[other].id}
        self._flying = deque(item for item in self._flying if {item[1].id, item[2].id} != pair)
        for member, peer in ((self[one], self[other]), (self[other], self[one])):
            if member.links.pop(peer.id, peer) is None:
                member.handle(LinkDown(peer.id))

    def restart(self, name: str) -> None:
        """kill -9 and start: its links break and come back."""
        member = self[name]
        neighbours = [self.by_id[peer].name for peer in member.links]
        for other in neighbours:
            self.cut(name, other)
        member.start()
        for other in neighbours:
            self.link(name, other)

    def carry_out(self, source: FenceMember, effects: Sequence[Effect]) -> None:
        for effect in effects:
            assert isinstance(effect, Send)
            if effect.peer not in source.links:
                continue
            target = self.by_id[effect.peer]
            if self.drop(source, target, effect.message):
                continue
            self.sent.append((source.name, target.name, effect.message))
            self._flying.append((self.now_ms + HOP_MS, source, target, encode_message(effect.message)))

    # -- time

    def deliver(self, limit: int = 100_000) -> None:
        """Until nothing is on its way; markers that may come do. Time passes by hops only."""
        for _ in range(limit):
            for member in self.members.values():
                if member.markers_come:
                    member.report_markers()
            if not self._flying:
                return
            at_ms, source, target, data = self._flying.popleft()
            self.now_ms = max(self.now_ms, at_ms)
            target.handle(Received(source.id, decode_message(data)))
        raise AssertionError("messages never end")

    def pass_time(self, duration_ms: int) -> None:
        """Deliver, and let every timer go off."""
        end_ms = self.now_ms + duration_ms
        for _ in range(100_000):
            self.deliver()
            due = [at for member in self.members.values() if (at := member.fences.next_due_ms()) is not None]
            if not due or min(due) > end_ms:
                self.now_ms = max(self.now_ms, end_ms)
                return
            self.now_ms = max(self.now_ms, min(due))
            for member in self.members.values():
                member.handle(Tick())
        raise AssertionError("timers never end")

    def exchange_all(self) -> None:
        """Everybody learns everything, as far as links go, and looks at its disk; nothing is installed."""
        for _ in self.members:
            for member in self.members.values():
                for peer in member.links:
                    if not member.catalog.known.contains_all(self.by_id[peer].catalog.known):
                        member.learn(self.by_id[peer])

    def settle_all(self) -> None:
        """Everything is scanned, learned and installed everywhere."""
        for _ in range(3):
            for member in self.members.values():
                member.scan()
            self.exchange_all()
            for member in self.members.values():
                member.install()

    # -- the oracle

    def assert_installed(self, numbers: Iterable[int], members: Iterable[FenceMember]) -> None:
        """What these acts wrote, or what superseded it, is on the disk of each of `members`, or was."""
        for number in numbers:
            for wrote in self.written.get(number, ()):
                for member in members:
                    best = member.best.get(wrote.uid)
                    assert best is not None, f"act {number} was never on the disk of {member.name}"
                    behind = best.place < place_key(wrote) or best.content < content_key(wrote)
                    assert not behind, f"{member.name} never showed what act {number} wrote, nor anything newer"


def shown(state: ObjectState) -> Record | None:
    """What the disk shows of an object: its record where that is as the tree wants it, else what was installed."""
    held = state.record
    if not state.pending:
        return held
    if state.node is None:
        return None
    place_raw, content_raw = state.base_place_raw or held.place_raw, state.base_content_raw or held.content_raw
    return Record(held.uid, held.kind, state.base_place, state.base_content, place_raw, content_raw)
