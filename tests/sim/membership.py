"""Who belongs to a simulated group and to its folder, as the real hierarchy says: members come, leave and are removed.

Each member has its own hierarchy (tests.sim.hierarchy), and goes by what that says at the moment: whom it links with,
who takes part in the folder (as daemon.router), for whom it waits, how it begins (as daemon.folders). What the oracles
go by is what was done: `group.members` are those in the folder, `departed` those that have left it or were removed.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable

from replicad.core.cnset import CNSet
from replicad.core.collection import Circle, circle_of
from replicad.core.draft import Draft
from replicad.core.effects import LinkDown
from replicad.core.founding import Founding
from replicad.core.hierarchy_entries import CREATED, DECLARED, absorb_entries
from replicad.core.hierarchy_model import FolderInfo, Reading
from replicad.core.ids import ROOT, MemberId
from replicad.core.lapsing import OFFLINE_LIMIT_MS
from replicad.core.naming import folder_id
from replicad.engine.contacts import standing
from replicad.engine.phases import Role
from replicad.errors import OperatorError
from tests.sim.clockwork import Clockwork
from tests.sim.group import Group
from tests.sim.hierarchy import GROUP, SimKeeper
from tests.sim.member import SimMember
from tests.sim.memory_fs import MemoryFileSystem
from tests.sim.network import Network, Session, Weather

NAME = "f"
FOLDER_ID = folder_id(GROUP, NAME)
ASIDE_MAX = 4
"""Messages that wait for a folder to be attached (daemon.router)."""
FOUNDING_CHECK_MS = 30_000


class RoutedNetwork(Network):
    """Links between members; the folder's channel of a link is used by who has the other one on its replica list."""

    membership: Membership
    beside: Network
    """The hierarchy's channel of each link."""

    def __init__(self, clock: Clockwork, rng: random.Random, weather: Weather) -> None:
        super().__init__(clock, rng, weather)
        self._links: dict[str, dict[str, Session]] = {}
        self._aside: dict[tuple[str, str], deque[Callable[[], None]]] = {}

    def _can_link(self, one: SimMember, other: SimMember) -> bool:
        know = self.membership.knows(one, other) and self.membership.knows(other, one)
        return know and self._open(one.name, other.name)

    def _connect(self, pair: tuple[str, str]) -> None:
        if self._can_link(self._members[pair[0]], self._members[pair[1]]):
            self.beside._connect(pair)
        super()._connect(pair)

    def _end(self, session: Session) -> None:
        super()._end(session)
        beside = self.beside._sessions.get((session.one.name, session.other.name))
        if beside is not None:
            self.beside._end(beside)

    def _attach(self, member: SimMember, peer: SimMember, session: Session) -> None:
        self._links.setdefault(member.name, {})[peer.name] = session
        self.match(member)

    def _detach(self, member: SimMember, peer: SimMember, session: Session) -> None:
        links = self._links.get(member.name, {})
        if links.get(peer.name) is session:
            del links[peer.name]
        self.match(member)

    def _sessions_of(self, member: SimMember) -> Iterable[Session]:
        return self._links.get(member.name, {}).values()

    def gone(self, member: SimMember) -> None:
        super().gone(member)
        self._links.pop(member.name, None)
        for pair in [pair for pair in self._aside if pair[1] == member.name]:
            del self._aside[pair]

    def match(self, member: SimMember) -> None:
        """As daemon.router: attached are exactly the links of those who take part."""
        links = self._links.get(member.name, {})
        listed = self.membership.listed(member) if member.up else ()
        wanted = {name: session for name, session in links.items() if self._members[name].id in listed}
        for name, session in list(member.sessions.items()):
            if wanted.get(name) is not session:
                del member.sessions[name]
                member.post(LinkDown(self._members[name].id))
        for name, session in wanted.items():
            if name not in member.sessions:
                super()._attach(member, self._members[name], session)
                for arrives in self._aside.pop((name, member.name), ()):
                    arrives()

    def drop(self, member: SimMember) -> None:
        """Links to whom it does not know (any more) are closed."""
        for name, session in list(self._links.get(member.name, {}).items()):
            if not self.membership.knows(member, self._members[name]):
                self._end(session)

    def _not_attached(self, target: SimMember, source: SimMember, session: Session, hand: Callable[[], None]) -> None:
        if self._links.get(target.name, {}).get(source.name) is session:
            self._aside.setdefault((source.name, target.name), deque(maxlen=ASIDE_MAX)).append(hand)


class Membership:
    """Before anybody is started. Members that are there declare the folder."""

    def __init__(self, group: Group, *, offline_limit_ms: int = OFFLINE_LIMIT_MS) -> None:
        assert isinstance(group.network, RoutedNetwork)
        self.group = group
        self.network = group.network
        self.network.membership = self
        self.departed = group.departed
        self.removed: set[str] = set()
        self._limit_ms = offline_limit_ms
        self._begun: set[str] = set()
        """Whose folder has run in its present life there."""
        self._kept: set[str] = set()
        """By whom the folder is kept, whatever the replica list says."""
        self._declarers = set(group.members)
        """In whose configuration the folder stands."""
        self._merges: set[str] = set()
        self._beginning: set[str] = set()
        """Daemons that are about to start their folders."""
        self._foundings: dict[str, Founding] = {}
        self.network.beside = Network(group.clock, random.Random(f"{group.seed} hierarchy"), Weather())
        self.network.beside._cut = self.network._cut
        group.membership = self
        for member in group.members.values():
            self._equip(member)
            self._kept.add(member.name)

    def _equip(self, member: SimMember) -> SimKeeper:
        keeper = SimKeeper(member, self._limit_ms)
        keeper.network = self.network.beside
        keeper.on_changed = lambda: self._changed(member)
        self.network.beside.add(keeper)  # type: ignore[arg-type]
        member.keeper = keeper
        self.group.clock.after(FOUNDING_CHECK_MS, lambda: self._check_founding(member))
        return keeper

    # -- what members ask

    def reading(self, member: SimMember) -> Reading:
        return self.keeper(member).running.reading()

    def keeper(self, member: SimMember) -> SimKeeper:
        assert member.keeper is not None
        return member.keeper

    def info(self, member: SimMember) -> FolderInfo | None:
        return self.reading(member).folders.get(FOLDER_ID) if self.keeper(member).up else None

    def listed(self, member: SimMember) -> frozenset[MemberId]:
        """Who is on the replica list, if it is itself."""
        info = self.info(member)
        return frozenset(info.members) if info is not None and member.id in info.members else frozenset()

    def lists(self, member: SimMember, peer: MemberId) -> bool:
        info = self.info(member)
        return info is not None and peer in info.members

    def circle(self, member: SimMember) -> Circle | None:
        keeper = self.keeper(member)
        if not keeper.up:
            return None
        return circle_of(keeper.running.reading(), FOLDER_ID, member.id, heard=keeper.running.heard)

    def knows(self, one: SimMember, other: SimMember) -> bool:
        """Whether it runs, and would link with the other one. Declared members meet before they have heard."""
        keeper = self.keeper(one)
        return keeper.up and other.id not in keeper.running.reading().removed

    def begins(self, member: SimMember) -> bool:
        """The daemon starts: whether the folder does."""
        keeper = self.keeper(member)
        if not keeper.up:
            self._beginning.add(member.name)
            keeper.open()
            try:
                keeper.declare()
                if member.name in self._declarers:
                    keeper.act(lambda one, now_ms: one.declare_folder(NAME, now_ms)[1])
            except OperatorError:  # it was removed
                keeper.crash()
                return False
            finally:
                self._beginning.discard(member.name)
            self.network.connect_all()
        return self._may_run(member)

    def end_founding(self, member: SimMember) -> None:
        self.keeper(member).act(lambda one, now_ms: one.end_founding(FOLDER_ID, now_ms))

    # -- what operators do

    def join_group(self, inviter: SimMember, name: str, *, fs: MemoryFileSystem | None = None) -> SimMember:
        """A new member, let in by one that runs. `fs`: another one's disk."""
        member = SimMember(self.group, name)
        if fs is not None:
            member.fs = fs
        self.group.by_id[member.id] = member
        self.network.add(member)
        keeper = self._equip(member)
        at = self.keeper(inviter)
        at.act(lambda one, now_ms: one.put_member(member.id, name, keeper.certificate, now_ms))
        self._take_first_records(at, keeper)
        pairs = ((min(name, other), max(name, other)) for other in self.network._members if other != name)
        self.network.pairs = sorted({*self.network.pairs, *pairs})
        self.departed[name] = member
        return member

    def join_folder(self, member: SimMember, *, merge: bool = False) -> None:
        """It may have been in it before. Its daemon is started where it does not run."""
        assert not member.up
        self.group.clock.note("joins", member.name, merge)
        self.group.counts["joins"] += 1
        self._kept.discard(member.name)  # left first, where it was not in the replica list any more
        member.put_catalog_back(None)  # as ops.operations: one of an earlier folder of this name may be there
        self.group.ledger.joins(member)
        member.settings = self.group.settings
        self._merges.discard(member.name)
        if merge:
            self._merges.add(member.name)
        self.begins(member)
        self.keeper(member).act(lambda one, now_ms: one.join_folder(NAME, now_ms)[1])
        self._kept.add(member.name)
        self._begun.discard(member.name)
        self.departed.pop(member.name, None)
        self.group.members[member.name] = member
        member.start()
        self.network.match(member)

    def leave_folder(self, member: SimMember) -> None:
        """At once, whatever nobody else has."""
        self.group.clock.note("leaves", member.name)
        self.group.counts["leaves"] += 1
        self.keeper(member).act(lambda one, now_ms: one.leave_folder(NAME, now_ms))
        for names in (self._kept, self._begun, self._declarers):
            names.discard(member.name)
        if member.up:
            member.stop_folder()
        member.put_catalog_back(None)
        self.group.ledger.left_folder(member)
        self._depart(member)

    def remove_folder(self, by: SimMember) -> None:
        """From the group. It ends on each member as that hears of it; nobody is in it any more."""
        self.group.clock.note("folder removed", by.name)
        for member in list(self.group.members.values()):
            self.group.ledger.left_folder(member)
            self._depart(member)
        self._declarers.clear()
        self.keeper(by).act(lambda one, now_ms: one.remove_folder(NAME, now_ms))

    def create_folder(self, member: SimMember) -> None:
        """Anew, where it was removed: this member's disk founds it."""
        self.group.clock.note("folder created", member.name)
        member.put_catalog_back(None)
        self.group.founded = False
        self._begun.discard(member.name)
        self.keeper(member).act(lambda one, now_ms: one.create_folder(NAME, now_ms)[1])
        self._kept.add(member.name)
        self.departed.pop(member.name)
        self.group.members[member.name] = member
        member.start()
        self.network.match(member)

    def remove(self, by: SimMember, member: SimMember) -> None:
        """From the group, for good; it hears of it when it does."""
        self.group.clock.note("removed", member.name)
        self.group.counts["removed"] += 1
        self.keeper(by).act(lambda one, now_ms: one.remove_member(member.id, now_ms))
        self.removed.add(member.name)
        self.group.ledger.forgot(member)
        self._depart(member)

    def _depart(self, member: SimMember) -> None:
        del self.group.members[member.name]
        self.departed[member.name] = member

    # -- for the group

    def start_all(self) -> None:
        """Those who keep no folder have daemons as well: others may hear of their leaving by them alone."""
        for member in self.departed.values():
            if member.name not in self.removed:
                self.begins(member)
        self.network.connect_all()

    def unrest(self) -> list[str]:
        """In what the members' hierarchies differ, of those who are not removed."""
        keepers = [self.keeper(member) for member in self.group.members.values()]
        keepers += [self.keeper(member) for name, member in self.departed.items() if name not in self.removed]
        if not all(keeper.up for keeper in keepers):
            return [f"{keeper.name} is down" for keeper in keepers if not keeper.up]
        first = keepers[0].catalog
        found = [f"{one.name} knows another hierarchy" for one in keepers if one.catalog.known != first.known]
        return found or [f"{one.name} has another hierarchy" for one in keepers if one.catalog.digest != first.digest]

    # -- inside

    def _may_run(self, member: SimMember) -> bool:
        info = self.info(member)
        if member.name not in self._kept or info is None or member.id not in info.members:
            return False
        member.role = self._role(member, info)
        self._begun.add(member.name)
        return True

    def _role(self, member: SimMember, info: FolderInfo) -> Role:
        """As daemon.folders."""
        own = info.members[member.id]
        founding = info.founded is None or bytes.fromhex(member.id) in info.founded.founders
        begun = member.name in self._begun
        if len(info.members) == 1 or (own.how in (CREATED, DECLARED) and founding and not begun):
            return Role.FOUNDER
        if begun:
            return Role.RETURNER
        return Role.MERGER if member.name in self._merges else Role.JOINER

    def _changed(self, member: SimMember) -> None:
        """Its hierarchy says something else."""
        keeper = self.keeper(member)
        if not keeper.up:
            return
        if member.up and self.info(member) is None:
            self._kept.discard(member.name)  # it was removed; its catalog stays
        if member.up and member.id not in self.listed(member):
            member.stop_folder()
        elif not member.up and member.name not in self._beginning and self._may_run(member):
            member.start()
        self.network.drop(member)
        self.network.match(member)

    def _take_first_records(self, inviter: SimKeeper, joiner: SimKeeper) -> None:
        """As ops.keeper.take_first_records."""
        records = [state.record for state in inviter.catalog.objects(inviter.catalog.children(ROOT))]
        joiner.open()
        draft = Draft(joiner.catalog)
        absorb_entries(draft, records)
        draft.learn(CNSet.of(cn for record in records for cn in record.cns()))
        joiner.catalog.commit(draft, now_ms=self.group.clock.now_ms)
        joiner.crash()

    def _check_founding(self, member: SimMember) -> None:
        """As daemon.founders."""
        self.group.clock.after(FOUNDING_CHECK_MS, lambda: self._check_founding(member))
        info = self.info(member)
        if not member.up or info is None or info.founded is not None:
            self._foundings.pop(member.name, None)
            return
        seen = standing(member.running)
        if self._foundings.setdefault(member.name, Founding()).look(seen.scanned, seen.members, member.now_ms):
            self.end_founding(member)
