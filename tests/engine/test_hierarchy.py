"""The hierarchy of several members over links in memory."""

from __future__ import annotations

import hashlib
import itertools
import random
from collections import deque
from collections.abc import Iterable
from pathlib import Path

import pytest

from replicad.catalog.database import MemoryDatabase
from replicad.catalog.store import Catalog
from replicad.core import hierarchy_entries as entries
from replicad.core.draft import Draft
from replicad.core.effects import Changed, Effect, LinkDown, LinkUp, Received, Report, Send, Tick
from replicad.core.ids import ROOT, MemberId
from replicad.core.lapsing import OFFLINE_LIMIT_MS
from replicad.core.messages import (
    HierarchyBackfill,
    HierarchyChange,
    Message,
    PreservedRequest,
    decode_message,
    encode_message,
)
from replicad.core.naming import folder_id, group_id_from_secret
from replicad.engine.hierarchy import HierarchyReplica
from replicad.errors import OperatorError, ProtocolError
from replicad.net import identity

GROUP = group_id_from_secret(b"secret", "demo")


class Node:
    """A member; `certificate` stands for its key."""

    def __init__(self, net: Net, name: str) -> None:
        self.net = net
        self.name = name
        self.certificate = f"certificate of {name}".encode()
        self.id: MemberId = hashlib.sha256(self.certificate).hexdigest()
        self.database = MemoryDatabase()
        self.rng = random.Random(name)
        self.changes = 0
        self.reports: list[str] = []
        self.start()

    def start(self) -> None:
        self.catalog = Catalog.open(self.database, b"", lambda: self.rng.randrange(1, 2**64))
        self.hierarchy = HierarchyReplica(
            self.catalog,
            self.id,
            GROUP,
            sign=lambda statement: hashlib.sha256(self.certificate + statement).digest(),
            verify=lambda certificate, signature, statement: (
                signature == hashlib.sha256(certificate + statement).digest()
            ),
            new_replica=lambda: self.rng.randrange(1, 2**64),
            draw=self.rng.random,
            now_ms=self.net.now_ms,
            offline_limit_ms=self.net.limit_ms,
        )

    def do(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case Changed():
                    self.changes += 1
                case Report(_, text):
                    self.reports.append(text)
                case Send(peer, message):
                    self.net.queue.append((self, self.net.by_id[peer], message))

    def declare(self, *folders: str, address: str | None = None) -> None:
        self.do(self.hierarchy.declare_member(self.name, self.certificate, [address or f"{self.name}:7722"], self.now))
        self.do(self.hierarchy.bind_replica(b"", self.hierarchy.replica, self.now))
        for folder in folders:
            self.do(self.hierarchy.declare_folder(folder, self.now)[1])

    @property
    def now(self) -> int:
        return self.net.now_ms

    @property
    def reading(self) -> dict[str, object]:
        reading = self.hierarchy.reading()
        return {
            "members": {info.name: info.addresses for info in reading.members.values()},
            "folders": {info.name: sorted(info.members) for info in reading.folders.values()},
            "owners": len(reading.replica_owners),
        }


class Net:
    def __init__(self, *names: str) -> None:
        self.now_ms = 1_000_000
        self.limit_ms = OFFLINE_LIMIT_MS
        self.queue: deque[tuple[Node, Node, Message]] = deque()
        self.links: set[frozenset[str]] = set()
        self.nodes = {name: Node(self, name) for name in names}
        self.by_id = {node.id: node for node in self.nodes.values()}
        self.log: list[Message] = []

    def __getitem__(self, name: str) -> Node:
        return self.nodes[name]

    def connect(self, *names: str) -> None:
        for one, other in itertools.combinations([self.nodes[name] for name in names], 2):
            self.links.add(frozenset((one.name, other.name)))
            one.do(one.hierarchy.handle(LinkUp(other.id), self.now_ms))
            other.do(other.hierarchy.handle(LinkUp(one.id), self.now_ms))

    def cut(self, one: str, other: str) -> None:
        self.links.discard(frozenset((one, other)))
        for node, peer in ((self[one], self[other]), (self[other], self[one])):
            node.do(node.hierarchy.handle(LinkDown(peer.id), self.now_ms))

    def run(self, duration_ms: int = 10_000) -> None:
        end_ms = self.now_ms + duration_ms
        while True:
            while self.queue:
                source, target, message = self.queue.popleft()
                self.log.append(message)
                if frozenset((source.name, target.name)) in self.links:
                    event = Received(source.id, decode_message(encode_message(message)))
                    target.do(target.hierarchy.handle(event, self.now_ms))
            due = [at_ms for node in self.nodes.values() if (at_ms := node.hierarchy.next_due_ms()) is not None]
            if not due or min(due) > end_ms:
                break
            self.now_ms = max(self.now_ms, min(due))
            for node in self.nodes.values():
                node.do(node.hierarchy.handle(Tick(), self.now_ms))
        self.now_ms = end_ms

    def assert_equal(self) -> None:
        first, *rest = self.nodes.values()
        for node in rest:
            assert node.reading == first.reading
            assert node.catalog.known == first.catalog.known
            assert node.catalog.digest == first.catalog.digest


def founded(*names: str) -> Net:
    """Declared members that have met."""
    net = Net(*names)
    for node in net.nodes.values():
        node.declare("docs")
    net.connect(*names)
    net.run()
    return net


def test_three_declared_members_that_start_at_once_are_one_group_with_one_folder() -> None:
    net = founded("alpha", "beta", "gamma")
    net.assert_equal()
    reading = net["alpha"].hierarchy.reading()
    assert set(reading.members) == {node.id for node in net.nodes.values()}
    assert set(reading.folders) == {folder_id(GROUP, "docs")}
    assert set(reading.folders_by_name["docs"].members) == {node.id for node in net.nodes.values()}
    assert len(reading.replica_owners) == 3


@pytest.mark.requirement("P3")
def test_changes_of_the_hierarchy_travel_as_0x2_and_0x80000002() -> None:
    net = founded("alpha", "beta")
    assert any(isinstance(message, HierarchyBackfill) for message in net.log)
    net.log.clear()
    net["alpha"].do(net["alpha"].hierarchy.put_setting("retention", 60, net.now_ms))
    net.run(50)
    assert [type(message) for message in net.log if isinstance(message, HierarchyChange)] == [HierarchyChange]
    assert net["beta"].hierarchy.reading().settings == {"retention": 60}


def test_every_member_learns_of_every_other_through_one_that_it_knows() -> None:
    net = Net("alpha", "beta", "gamma")
    for node in net.nodes.values():
        node.declare()
    net.connect("alpha", "beta")
    net.connect("beta", "gamma")
    net.run()
    net.assert_equal()
    assert net["alpha"].reading["members"] == {name: (f"{name}:7722",) for name in ("alpha", "beta", "gamma")}


def test_a_new_address_reaches_all_and_the_same_one_is_not_written_again() -> None:
    net = founded("alpha", "beta")
    alpha, beta = net["alpha"], net["beta"]
    alpha.do(alpha.hierarchy.set_addresses(alpha.id, ["10.0.0.9:7722"], net.now_ms))
    net.run()
    assert beta.hierarchy.reading().members[alpha.id].addresses == ("10.0.0.9:7722",)
    head = alpha.catalog.head
    assert alpha.hierarchy.set_addresses(alpha.id, ["10.0.0.9:7722"], net.now_ms) == []
    assert alpha.catalog.head == head


def test_a_declared_value_is_written_only_when_it_differs_from_what_was_last_declared() -> None:
    net = founded("alpha", "beta")
    alpha, beta = net["alpha"], net["beta"]
    beta.do(beta.hierarchy.set_addresses(alpha.id, ["by-hand:7722"], net.now_ms))
    net.run()
    alpha.start()
    alpha.declare("docs")
    assert alpha.hierarchy.reading().members[alpha.id].addresses == ("by-hand:7722",)
    alpha.declare("docs", address="declared-anew:7722")
    assert alpha.hierarchy.reading().members[alpha.id].addresses == ("declared-anew:7722",)


def test_a_member_that_was_taken_off_a_folder_is_not_put_back_by_its_old_declaration() -> None:
    net = founded("alpha", "beta")
    alpha, beta = net["alpha"], net["beta"]
    beta.do(beta.hierarchy.leave_folder("docs", net.now_ms, member=alpha.id))
    net.run()
    alpha.start()
    alpha.declare("docs")
    assert set(alpha.hierarchy.reading().folders_by_name["docs"].members) == {beta.id}


def test_a_removal_is_never_forgotten_and_beats_what_the_member_does_at_once() -> None:
    net = founded("alpha", "beta", "gamma")
    alpha, beta, gamma = (net[name] for name in ("alpha", "beta", "gamma"))
    net.cut("alpha", "gamma")
    net.cut("beta", "gamma")
    alpha.do(alpha.hierarchy.remove_member(gamma.id, net.now_ms))
    net.now_ms += 5_000
    gamma.do(gamma.hierarchy.set_addresses(gamma.id, ["elsewhere:1"], net.now_ms))
    gamma.do(gamma.hierarchy.put_member(gamma.id, "renamed", gamma.certificate, net.now_ms))
    net.run()
    assert set(beta.hierarchy.reading().members) == {alpha.id, beta.id}
    with pytest.raises(OperatorError):
        beta.hierarchy.put_member(gamma.id, "gamma", gamma.certificate, net.now_ms)
    # Its link would be refused; were it there, nothing of gamma's would be taken.
    known = beta.catalog.known
    net.connect("beta", "gamma")
    net.run(100_000)
    assert beta.catalog.known == known
    assert set(beta.hierarchy.reading().members) == {alpha.id, beta.id}


def test_the_removed_members_last_changes_are_taken_from_another_that_passed_them_on() -> None:
    """S25, for the hierarchy."""
    net = founded("alpha", "beta", "gamma")
    alpha, beta, gamma = (net[name] for name in ("alpha", "beta", "gamma"))
    net.cut("alpha", "gamma")
    net.cut("alpha", "beta")
    alpha.do(alpha.hierarchy.remove_member(gamma.id, net.now_ms))
    gamma.do(gamma.hierarchy.put_setting("last", 1, net.now_ms))
    net.run()
    net.cut("beta", "gamma")
    net.connect("alpha", "beta")
    net.run()
    assert alpha.hierarchy.reading().settings == {"last": 1}
    assert alpha.catalog.known == beta.catalog.known


def test_the_policy_of_a_folder_is_an_entry_of_its_own_that_no_declaration_of_the_folder_overwrites() -> None:
    net = Net("alpha", "beta")
    for node in net.nodes.values():
        node.declare()
    net.connect("alpha", "beta")
    net.run()
    alpha, beta = net["alpha"], net["beta"]
    folder, effects = alpha.hierarchy.create_folder("docs", net.now_ms)
    alpha.do(effects)
    assert alpha.hierarchy.reading().conflicts(folder) == "preserve"
    alpha.do(alpha.hierarchy.set_conflicts("docs", "sibling", net.now_ms))
    net.cut("alpha", "beta")
    beta.do(beta.hierarchy.declare_folder("docs", net.now_ms + 10_000)[1])
    net.connect("alpha", "beta")
    net.run()
    assert [one.hierarchy.reading().conflicts(folder) for one in (alpha, beta)] == ["sibling", "sibling"]
    beta.do(beta.hierarchy.declare_conflicts("docs", "preserve", net.now_ms + 20_000))
    net.run()
    assert alpha.hierarchy.reading().conflicts(folder) == "preserve"
    alpha.do(alpha.hierarchy.set_conflicts("docs", "sibling", net.now_ms + 30_000))
    net.run()
    assert beta.hierarchy.declare_conflicts("docs", "preserve", net.now_ms + 40_000) == [], "declared before"
    assert beta.hierarchy.reading().conflicts(folder) == "sibling"
    alpha.do(alpha.hierarchy.remove_folder("docs", net.now_ms + 50_000))
    net.run()
    again, effects = beta.hierarchy.create_folder("docs", net.now_ms + 60_000)
    assert (again, beta.hierarchy.reading().conflicts(folder)) == (folder, "preserve"), "gone with the folder"


def test_i10_a_message_that_is_none_of_the_hierarchys_is_its_senders_fault() -> None:
    net = Net("alpha", "beta")
    for node in net.nodes.values():
        node.declare()
    net.connect("alpha", "beta")
    net.run()
    alpha, beta = net["alpha"], net["beta"]
    with pytest.raises(ProtocolError, match="not a message of the exchange"):
        alpha.hierarchy.handle(Received(beta.id, PreservedRequest(after=0)), net.now_ms)


def test_a_folder_can_be_created_joined_left_and_removed() -> None:
    net = Net("alpha", "beta")
    for node in net.nodes.values():
        node.declare()
    net.connect("alpha", "beta")
    net.run()
    alpha, beta = net["alpha"], net["beta"]
    folder, effects = alpha.hierarchy.create_folder("docs", net.now_ms, {"conflicts": "sibling"})
    alpha.do(effects)
    net.run()
    assert beta.hierarchy.reading().folders[folder].settings == {"conflicts": "sibling"}
    assert beta.reading["folders"] == {"docs": [alpha.id]}
    joined, effects = beta.hierarchy.join_folder("docs", net.now_ms)
    beta.do(effects)
    net.run()
    assert joined == folder
    assert alpha.reading["folders"] == {"docs": sorted((alpha.id, beta.id))}
    assert beta.hierarchy.join_folder("docs", net.now_ms) == (folder, [])
    alpha.do(alpha.hierarchy.leave_folder("docs", net.now_ms))
    net.run()
    assert beta.reading["folders"] == {"docs": [beta.id]}
    alpha.do(alpha.hierarchy.end_founding(folder, net.now_ms))
    net.run()
    beta.do(beta.hierarchy.remove_folder("docs", net.now_ms))
    net.run()
    assert alpha.reading["folders"] == beta.reading["folders"] == {}
    alpha.do(alpha.hierarchy.create_folder("docs", net.now_ms)[1])
    net.run()
    assert beta.reading["folders"] == {"docs": [alpha.id]}
    assert beta.hierarchy.reading().folders[folder].founded is None


def test_mistakes_are_refused_and_write_nothing() -> None:
    net = founded("alpha", "beta")
    alpha = net["alpha"]
    head = alpha.catalog.head
    for mistake in (
        lambda: alpha.hierarchy.create_folder("docs", net.now_ms),
        lambda: alpha.hierarchy.create_folder("no such name", net.now_ms),
        lambda: alpha.hierarchy.join_folder("unknown", net.now_ms),
        lambda: alpha.hierarchy.leave_folder("unknown", net.now_ms),
        lambda: alpha.hierarchy.remove_folder("unknown", net.now_ms),
        lambda: alpha.hierarchy.remove_member("0" * 64, net.now_ms),
        lambda: alpha.hierarchy.set_addresses(alpha.id, ["a"] * 17, net.now_ms),
        lambda: alpha.hierarchy.put_member(alpha.id, "", alpha.certificate, net.now_ms),
    ):
        with pytest.raises(OperatorError):
            mistake()
    assert alpha.catalog.head == head


def test_an_operator_has_a_member_lapse_and_it_says_itself_that_it_is_back() -> None:
    net = founded("alpha", "beta", "gamma")
    alpha, beta, gamma = net.nodes.values()
    for other in ("alpha", "beta"):
        net.cut("gamma", other)
    net.run(3 * 3_600_000)
    with pytest.raises(OperatorError, match=r"gamma was seen 1[78]. min ago: --force"):
        alpha.hierarchy.lapse_member(gamma.id, net.now_ms)
    alpha.do(alpha.hierarchy.lapse_member(gamma.id, net.now_ms, force=True))
    net.run()
    (entry,) = beta.hierarchy.reading().lapsed.values()
    assert net.now_ms - 4 * 3_600_000 < entry.seen_ms < entry.time_ms - 2 * 3_600_000
    assert alpha.reports == beta.reports == ["gamma has lapsed: nobody waits for it any more"]
    assert alpha.hierarchy.lapse_member(gamma.id, net.now_ms) == [], "it has lapsed"
    assert beta.hierarchy.return_living(net.now_ms) == []
    net.connect("gamma", "beta")
    net.run()
    assert gamma.hierarchy.heard
    assert set(gamma.hierarchy.reading().lapsed) == {gamma.id}
    gamma.do(gamma.hierarchy.return_living(net.now_ms))
    net.run()
    assert {len(node.hierarchy.reading().lapsed) for node in net.nodes.values()} == {0}
    assert alpha.reports[1:] == beta.reports[1:] == ["gamma is living again"]


def test_who_is_here_does_not_lapse() -> None:
    net = founded("alpha", "beta")
    alpha, beta = net.nodes.values()
    with pytest.raises(OperatorError, match="beta is connected"):
        alpha.hierarchy.lapse_member(beta.id, net.now_ms, force=True)
    with pytest.raises(OperatorError, match="the member that you are asking"):
        alpha.hierarchy.lapse_member(alpha.id, net.now_ms, force=True)
    with pytest.raises(OperatorError, match="not a member"):
        alpha.hierarchy.lapse_member("0" * 64, net.now_ms, force=True)
    net.cut("alpha", "beta")
    net.run(25 * 3_600_000)
    alpha.do(alpha.hierarchy.lapse_member(beta.id, net.now_ms))
    assert set(alpha.hierarchy.reading().lapsed) == {beta.id}, "without force, a day later"


def test_i12_after_a_crash_nobody_has_been_away_for_longer() -> None:
    """When a member was last seen is stored though it says nothing new, a hundredth of the limit behind at the most."""
    net = founded("alpha", "beta")
    alpha, beta = net.nodes.values()
    net.limit_ms = 100 * 120_000
    alpha.start()
    net.connect("alpha", "beta")
    net.run(3 * 3_600_000)
    alpha.start()  # as after kill -9: nothing was closed
    assert net.now_ms - alpha.hierarchy._lapses.seen_ms(beta.id, net.now_ms) < 4 * 60_000


def test_two_members_that_create_one_folder_at_once_have_created_one_folder() -> None:
    net = Net("alpha", "beta")
    for node in net.nodes.values():
        node.declare()
        node.do(node.hierarchy.create_folder("docs", net.now_ms)[1])
    net.connect("alpha", "beta")
    net.run()
    net.assert_equal()
    assert net["alpha"].reading["folders"] == {"docs": sorted(node.id for node in net.nodes.values())}


def test_the_end_of_a_founding_is_written_once_and_names_who_was_there() -> None:
    net = founded("alpha", "beta")
    folder = folder_id(GROUP, "docs")
    alpha, beta = net["alpha"], net["beta"]
    alpha.do(alpha.hierarchy.end_founding(folder, net.now_ms))
    net.run()
    ended = beta.hierarchy.reading().folders[folder].founded
    assert ended is not None
    assert set(ended.founders) == {bytes.fromhex(alpha.id), bytes.fromhex(beta.id)}
    assert beta.hierarchy.end_founding(folder, net.now_ms) == []
    assert alpha.hierarchy.end_founding(bytes(16), net.now_ms) == []


def test_changed_comes_when_the_reading_changes_and_only_then() -> None:
    net = founded("alpha", "beta")
    alpha, beta = net["alpha"], net["beta"]
    alpha.changes = beta.changes = 0
    alpha.do(alpha.hierarchy.put_setting("x", 1, net.now_ms))
    net.run()
    assert (alpha.changes, beta.changes) == (1, 1)
    net.run(600_000)
    assert (alpha.changes, beta.changes) == (1, 1)


def test_the_reading_is_there_again_after_a_restart() -> None:
    net = founded("alpha", "beta")
    before = net["beta"].reading
    net.cut("alpha", "beta")
    net["beta"].start()
    assert net["beta"].reading == before


def test_a_hierarchy_that_was_put_back_goes_on_under_a_new_replica_id() -> None:
    net = founded("alpha", "beta")
    alpha = net["alpha"]
    backup = alpha.database.copy()
    alpha.do(alpha.hierarchy.put_setting("since", 1, net.now_ms))
    net.run()
    net.cut("alpha", "beta")
    alpha.database.fill_from(backup)
    alpha.start()
    old = alpha.hierarchy.replica
    net.connect("alpha", "beta")
    net.run()
    assert alpha.hierarchy.replica != old
    assert alpha.reports
    net.assert_equal()
    assert alpha.hierarchy.reading().settings == {"since": 1}
    assert len(alpha.hierarchy.reading().replica_owners) == 3
    alpha.do(alpha.hierarchy.put_setting("later", 2, net.now_ms))
    net.run()
    net.assert_equal()


def test_s28_an_entry_that_was_lost_is_found_by_the_digest_and_comes_back() -> None:
    net = founded("alpha", "beta", "gamma")
    alpha, beta = net["alpha"], net["beta"]
    alpha.do(alpha.hierarchy.put_setting("retention", 60, net.now_ms))
    net.run()
    for other in ("alpha", "gamma"):
        net.cut("beta", other)
    draft = Draft(beta.catalog)
    (lost,) = [
        state.record.uid
        for state in beta.catalog.objects(beta.catalog.children(ROOT))
        if state.record.place is not None and b"retention" in state.record.place.name
    ]
    draft.drop(lost)
    beta.catalog.commit(draft, now_ms=net.now_ms)
    beta.start()
    assert beta.hierarchy.reading().settings == {}
    net.connect("alpha", "beta", "gamma")
    net.run(180_000)
    net.assert_equal()
    assert beta.hierarchy.reading().settings == {"retention": 60}
    assert any("different records" in report for report in beta.reports)


def test_members_with_real_keys_sign_their_replica_ids(tmp_path: Path) -> None:
    made = [identity.load_or_create(_home(tmp_path, name)) for name in ("one", "two")]
    net = Net("alpha", "beta")
    alpha = net["alpha"]
    model = HierarchyReplica(
        Catalog.open(None, b"", lambda: 5),
        made[0].member_id,
        GROUP,
        sign=made[0].sign,
        verify=identity.verify,
        new_replica=lambda: 6,
        draw=alpha.rng.random,
        now_ms=1,
    )
    model.declare_member("one", made[0].certificate_der, [], 1)
    model.put_member(made[1].member_id, "two", made[1].certificate_der, 1)
    model.bind_replica(b"", 5, 1)
    forged = entries.ReplicaOwner(bytes.fromhex(made[1].member_id), made[0].sign(entries.replica_statement(b"", 9)))
    model.declare([(entries.replica_key(b"", 9), forged)], 1)
    assert model.reading().replica_owners == {(b"", 5): made[0].member_id}
    assert list(model.reading().unusable) == [entries.replica_key(b"", 9)]


def _home(tmp_path: Path, name: str) -> Path:
    home = tmp_path / name
    home.mkdir()
    return home
