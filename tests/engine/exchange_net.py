"""Members that exchange knowledge over links in memory, under virtual time: real catalogs, messages in their encoding.

`Group` delivers in the order of time; a link may lose, double and delay each message by itself (so it reorders), and be
cut; a member may crash. What each CN stood for is kept, so I2 can be asserted at any time, for every member.
"""

from __future__ import annotations

import hashlib
import heapq
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec
import pytest

from replicad.catalog.database import MemoryDatabase
from replicad.catalog.store import Catalog
from replicad.core import outbox
from replicad.core.backfill import Profile
from replicad.core.cnset import CNSet
from replicad.core.draft import Draft
from replicad.core.effects import Effect, LinkDown, LinkUp, Received, Report, Send, Tick
from replicad.core.hierarchy_entries import absorb_entries
from replicad.core.ids import ROOT, Cn, MemberId, Uid, uid_of
from replicad.core.messages import (
    CODE_NAMES,
    CONTENT,
    ContentBackfill,
    ContentChange,
    HierarchyBackfill,
    HierarchyChange,
    Message,
    code_of,
    decode_message,
    encode_message,
)
from replicad.core.records import (
    FILE,
    Content,
    Place,
    Record,
    content_key,
    next_time,
    place_key,
    record,
    vector_after,
)
from replicad.core.view import ObjectState
from replicad.engine import exchange_asking
from replicad.engine.exchange import Exchange
from replicad.engine.exchange_link import OwnState

M = TypeVar("M", bound=Message)
START_MS = 1_000_000
FOLDER = bytes(16)
PROMPT = Profile(gap_delay_ms=50, jitter=0.0)
PAGES = (ContentChange, ContentBackfill, HierarchyChange, HierarchyBackfill)


def member_id(name: str) -> MemberId:
    return hashlib.sha256(name.encode()).hexdigest()


class Member:
    """One member: its catalog survives a crash, its exchange does not."""

    def __init__(self, group: Group, name: str, profile: Profile | None = None) -> None:
        self.group = group
        self.name = name
        self.id = member_id(name)
        self.database = MemoryDatabase()
        self.replica = random.Random(f"{group.seed} {name}").randrange(1, 2**64)
        self.draw = random.Random(f"{group.seed} {name} draw").random
        self.profile = profile
        self.complete = True
        self.serves = True
        self.barred: set[MemberId] = set()
        self.barred_senders: set[MemberId] = set()
        """They are served, and nothing is taken from them."""
        self.reports: list[Report] = []
        self.up = False
        self.start()

    def start(self) -> None:
        self.catalog = Catalog.open(self.database, FOLDER, lambda: self.replica)
        self.exchange = Exchange(
            self.catalog,
            self.id,
            CONTENT,
            absorb=absorb_entries,
            own_state=self.own_state,
            may_send=lambda peer: peer not in self.barred | self.barred_senders,
            may_receive=lambda peer: peer not in self.barred,
            draw=self.draw,
            now_ms=self.group.now_ms,
            profile=self.profile,
        )
        self.up = True

    def own_state(self) -> OwnState:
        return OwnState(4, self.complete, True, serves=self.serves)

    @property
    def known(self) -> CNSet:
        return self.catalog.known

    # -- changes of its own

    def create(self, name: str, value: int = 0) -> Uid:
        draft = Draft(self.catalog)
        uid = self.add_object(draft, name, value)
        self.commit(draft)
        return uid

    def add_object(self, draft: Draft, name: str, value: int = 0) -> Uid:
        cn = draft.allocate()
        time_ms = self.group.now_ms
        place = Place(cn.replica, cn.counter, time_ms, (), ROOT, name.encode(), ROOT, b"")
        made = record(uid_of(cn), FILE, place, self.content(cn, None, value))
        draft.put(ObjectState(made))
        return made.uid

    def edit(self, uid: Uid, value: int) -> Cn:
        draft = Draft(self.catalog)
        cn = self.edit_in(draft, uid, value)
        self.commit(draft)
        return cn

    def edit_in(self, draft: Draft, uid: Uid, value: int) -> Cn:
        held = self.held(uid, draft)
        cn = draft.allocate()
        self.put(draft, held, record(uid, FILE, None, self.content(cn, held.content, value)))
        return cn

    def rename(self, uid: Uid, name: str) -> Cn:
        draft = Draft(self.catalog)
        cn = self.rename_in(draft, uid, name)
        self.commit(draft)
        return cn

    def rename_in(self, draft: Draft, uid: Uid, name: str) -> Cn:
        held = self.held(uid, draft)
        cn = draft.allocate()
        before = held.place
        assert before is not None
        time_ms = next_time(self.group.now_ms, before)
        vector = vector_after(before)
        place = Place(cn.replica, cn.counter, time_ms, vector, ROOT, name.encode(), before.parent, before.name)
        self.put(draft, held, record(uid, FILE, place, None))
        return cn

    def delete(self, uid: Uid) -> Cn:
        draft = Draft(self.catalog)
        held = self.held(uid, draft)
        cn = draft.allocate()
        assert held.content is not None
        gone = msgspec.structs.replace(self.content(cn, held.content, 0), gone=held.content.rank, digest=b"")
        self.put(draft, held, record(uid, FILE, None, gone))
        self.commit(draft)
        return cn

    def content(self, cn: Cn, before: Content | None, value: int) -> Content:
        time_ms = next_time(self.group.now_ms, before)
        vector = vector_after(before)
        digest = value.to_bytes(32, "big")
        return Content(cn.replica, cn.counter, time_ms, vector, None, 0o644, 0, value, digest, b"")

    def put(self, draft: Draft, held: Record, changed: Record) -> None:
        place, place_raw = (changed.place, changed.place_raw) if changed.place else (held.place, held.place_raw)
        content, content_raw = (
            (changed.content, changed.content_raw) if changed.content else (held.content, held.content_raw)
        )
        draft.put(ObjectState(Record(held.uid, FILE, place, content, place_raw, content_raw)))

    def commit(self, draft: Draft) -> None:
        """Then the others hear of it, if anyone does."""
        self.catalog.commit(draft, now_ms=self.group.now_ms)
        self.group.note_history(draft)
        self.group.carry_out(self, self.exchange.after_commit(self.group.now_ms))

    # -- what it holds

    def held(self, uid: Uid, view: Draft | None = None) -> Record:
        state = (view or self.catalog).object(uid)
        assert state is not None, f"{self.name} does not hold {uid.hex()}"
        return state.record

    def records(self) -> dict[Uid, tuple[bytes, bytes]]:
        uids = [state.record.uid for state in self.catalog.objects(self.catalog.children(ROOT))]
        held = [self.held(uid) for uid in uids]
        return {one.uid: (one.place_raw, one.content_raw) for one in held}


@dataclass(order=True)
class _Flying:
    at_ms: int
    order: int
    source: Member = field(compare=False)
    target: Member = field(compare=False)
    epoch: int = field(compare=False)
    data: bytes = field(compare=False)


Drop = Callable[[Member, Member, Message], bool]


class Group:
    """The members, their links, the clock, and the history of all changes."""

    def __init__(self, names: Sequence[str], seed: int = 0, profile: Profile | None = None) -> None:
        self.seed = seed
        self.now_ms = START_MS
        self.random = random.Random(f"{seed} network")
        self.history: dict[Cn, Record] = {}
        """Of each CN what it stood for: the register or registers that it made."""
        self.loss = self.doubling = 0.0
        self.latency_ms = (1, 5)
        self.ordered = True
        self.drop: Drop = lambda source, target, message: False
        self.sent: Counter[str] = Counter()
        self.page_records: Counter[tuple[str, str]] = Counter()
        """Records in pages, by link."""
        self.log: list[tuple[int, str, str, Message]] = []
        self._flying: list[_Flying] = []
        self._order = 0
        self._links: dict[frozenset[MemberId], int] = {}
        self._last_arrival: dict[tuple[MemberId, MemberId], int] = {}
        self._epoch = 0
        self.members = {name: Member(self, name, profile) for name in names}

    def __getitem__(self, name: str) -> Member:
        return self.members[name]

    # -- links

    def connect(self, *names: str) -> None:
        """Every two of these."""
        found = [self.members[name] for name in names]
        for index, one in enumerate(found):
            for other in found[index + 1 :]:
                self._link_up(one, other)

    def connect_all(self) -> None:
        self.connect(*self.members)

    def _link_up(self, one: Member, other: Member) -> None:
        key = frozenset((one.id, other.id))
        if key in self._links or not (one.up and other.up):
            return
        self._epoch += 1
        self._links[key] = self._epoch
        for member, peer in ((one, other), (other, one)):
            self.carry_out(member, member.exchange.handle(LinkUp(peer.id), self.now_ms))

    def cut(self, one: str, other: str) -> None:
        pair = self.members[one], self.members[other]
        if self._links.pop(frozenset(member.id for member in pair), None) is None:
            return
        for member, peer in (pair, pair[::-1]):
            if member.up:
                self.carry_out(member, member.exchange.handle(LinkDown(peer.id), self.now_ms))

    def split(self, left: Iterable[str], right: Iterable[str]) -> None:
        rest = list(right)
        for one in left:
            for other in rest:
                self.cut(one, other)

    def linked(self, one: Member, other: Member) -> bool:
        return frozenset((one.id, other.id)) in self._links

    def crash(self, name: str, *, restart: bool = True) -> None:
        """The process is gone: what was not committed is lost, and all of its links."""
        member = self.members[name]
        member.up = False
        for other in list(self.members):
            self.cut(name, other)
        if restart:
            member.start()

    # -- messages

    def carry_out(self, source: Member, effects: Iterable[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Report):
                source.reports.append(effect)
            elif isinstance(effect, Send):
                self._send(source, self.member_of(effect.peer), effect.message)

    def member_of(self, member: MemberId) -> Member:
        return next(one for one in self.members.values() if one.id == member)

    def _send(self, source: Member, target: Member, message: Message) -> None:
        self.sent[CODE_NAMES[code_of(message)]] += 1
        self.log.append((self.now_ms, source.name, target.name, message))
        if isinstance(message, PAGES):
            self.page_records[source.name, target.name] += len(message.records)
        if not self.linked(source, target) or self.drop(source, target, message) or self.random.random() < self.loss:
            return
        for _ in range(1 + (self.random.random() < self.doubling)):
            self.fly(source, target, encode_message(message))

    def fly(self, source: Member, target: Member, data: bytes) -> None:
        at_ms = self.now_ms + self.random.randint(*self.latency_ms)
        if self.ordered:
            at_ms = max(at_ms, self._last_arrival.get((source.id, target.id), 0))
            self._last_arrival[source.id, target.id] = at_ms
        self._order += 1
        epoch = self._links[frozenset((source.id, target.id))]
        heapq.heappush(self._flying, _Flying(at_ms, self._order, source, target, epoch, data))

    def deliver(self, source: str, target: str, message: Message) -> None:
        """Now, by hand: whatever the network does with others."""
        receiver = self.members[target]
        event = Received(self.members[source].id, decode_message(encode_message(message)))
        self.carry_out(receiver, receiver.exchange.handle(event, self.now_ms))

    # -- time

    def run(self, duration_ms: int) -> None:
        end_ms = self.now_ms + duration_ms
        while (at_ms := self._next_ms()) is not None and at_ms <= end_ms:
            self.now_ms = max(self.now_ms, at_ms)
            self._step()
        self.now_ms = end_ms

    def run_until(self, done: Callable[[], bool], limit_ms: int = 600_000) -> int:
        """Until `done`; returns how long it took. AssertionError after `limit_ms`."""
        began_ms = self.now_ms
        while not done():
            at_ms = self._next_ms()
            assert at_ms is not None, "it does not come about: nothing is due"
            assert at_ms <= began_ms + limit_ms, "it did not come about in time"
            self.now_ms = max(self.now_ms, at_ms)
            self._step()
        return self.now_ms - began_ms

    def _next_ms(self) -> int | None:
        due = [member.exchange.next_due_ms() for member in self.members.values() if member.up]
        if self._flying:
            due.append(self._flying[0].at_ms)
        return min((one for one in due if one is not None), default=None)

    def _step(self) -> None:
        """One delivery, or the ticks that are due."""
        if self._flying and self._flying[0].at_ms <= self.now_ms:
            one = heapq.heappop(self._flying)
            if self._links.get(frozenset((one.source.id, one.target.id))) == one.epoch:
                event = Received(one.source.id, decode_message(one.data))
                self.carry_out(one.target, one.target.exchange.handle(event, self.now_ms))
            return
        for member in self.members.values():
            due_ms = member.exchange.next_due_ms() if member.up else None
            if due_ms is not None and due_ms <= self.now_ms:
                self.carry_out(member, member.exchange.handle(Tick(), self.now_ms))
                later_ms = member.exchange.next_due_ms()
                assert later_ms is None or later_ms > self.now_ms, f"{member.name} is due again at once"

    # -- what must hold

    def note_history(self, draft: Draft) -> None:
        for uid in draft.stored:
            held = draft.states[uid].record
            for cn in held.cns():
                if cn.replica == draft.replica and cn not in self.history:
                    place = held.place if held.place is not None and held.place.cn == cn else None
                    content = held.content if held.content is not None and held.content.cn == cn else None
                    self.history[cn] = record(uid, held.kind, place, content)

    def assert_honest(self) -> None:
        """I2: what a member claims to know it holds, or something that supersedes it."""
        for member in self.members.values():
            for cn, made in self.history.items():
                if cn in member.known:
                    self._assert_held(member, cn, made)

    def _assert_held(self, member: Member, cn: Cn, made: Record) -> None:
        state = member.catalog.object(made.uid)
        where = f"{member.name} claims {cn} of {made.uid.hex()[:12]}"
        assert state is not None, f"{where} and does not hold the object"
        held = state.record
        if made.place is not None:
            assert held.place is not None, f"{where} and has no place"
            assert place_key(held) >= place_key(made), f"{where} and has an older place"
        if made.content is not None:
            assert held.content is not None, f"{where} and has no content"
            assert content_key(held) >= content_key(made), f"{where} and has an older content"

    def converged(self) -> bool:
        up = [member for member in self.members.values() if member.up]
        everything = CNSet.of(self.history)
        return all(member.known.contains_all(everything) for member in up)

    def assert_equal(self) -> None:
        """I1, for records."""
        first, *rest = (member for member in self.members.values() if member.up)
        for other in rest:
            assert other.known == first.known
            assert other.records() == first.records()
            assert other.catalog.digest == first.catalog.digest


# -- short ways


def small_pages(monkeypatch: pytest.MonkeyPatch, records: int, waiting: int = outbox.WAITING_MAX) -> None:
    """So that few changes make many pages; at most `waiting` are pushed."""
    monkeypatch.setattr(exchange_asking, "PAGE_RECORDS_MAX", records)
    monkeypatch.setattr(outbox, "WAITING_MAX", waiting)


def pair(profile: Profile | None = None) -> tuple[Group, Member, Member]:
    """Two members that have met."""
    group = Group("AB", profile=profile)
    group.connect_all()
    group.run(5_000)
    return group, group["A"], group["B"]


def messages(group: Group, kind: type[M], source: str | None = None, target: str | None = None) -> list[M]:
    """Those sent, in their order."""
    return [
        message
        for _, sender, receiver, message in group.log
        if isinstance(message, kind) and source in (None, sender) and target in (None, receiver)
    ]


def fill(member: Member, count: int) -> list[Uid]:
    """So many objects in one commit."""
    draft = Draft(member.catalog)
    uids = [member.add_object(draft, f"{member.name}{index}", index) for index in range(count)]
    member.commit(draft)
    return uids
