"""A whole group in one process: members, their network, the ledger; and what must hold when all is healed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec
from blake3 import blake3

from replicad.core.effects import Received
from replicad.core.ids import MemberId
from replicad.core.records import DIRECTORY
from replicad.core.tree import tree_of
from replicad.engine.phases import Role
from replicad.engine.settings import FolderSettings
from replicad.errors import PeerError
from replicad.files.fs import FILE, SYMLINK
from tests.sim.clockwork import Clockwork
from tests.sim.ledger import Ledger
from tests.sim.member import SimMember
from tests.sim.network import Network, Weather

if TYPE_CHECKING:
    from replicad.engine.folder_events import FolderEvent
    from tests.sim.membership import Membership

HEAL_STEP_MS = 2_000
HEAL_MAX_MS = 45 * 60_000
"""Rule 7 may hold things back for 5 minutes, retries double up to one."""
HOUR_MS = 3_600_000
STATUSES_AN_HOUR_MAX = 120
"""A link has a status a minute in each direction, a quarter more or less."""
FAULT = "know the same changes and hold different records"
STORES = (b".replicad/ConflictAndDeleted/", b".replicad/PreExisting/")


class Group:
    """`names`: a letter a member. All can reach each other unless `pairs` says who may ("ab bc")."""

    def __init__(
        self,
        names: str,
        seed: int = 0,
        *,
        pairs: str | None = None,
        weather: Weather | None = None,
        roles: dict[str, Role] | None = None,
        offsets_ms: dict[str, int] | None = None,
        scan_interval_ms: int = 3_600_000,
        quota_bytes: int = 1_000_000,
        siblings: bool = False,
        tombstone_lifetime_ms: int = 60 * 24 * HOUR_MS,
        network: type[Network] = Network,
    ) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.clock = Clockwork()
        self.ledger = Ledger()
        self.counts: Counter[str] = Counter()
        self.served: list[tuple[str, bytes]] = []
        """(member, digest) of what was served to others."""
        self.settings = FolderSettings(
            quota_bytes=quota_bytes,
            scan_interval_ms=scan_interval_ms,
            siblings=siblings,
            tombstone_lifetime_ms=tombstone_lifetime_ms,
        )
        self.faulty = False
        """A fault was made in a catalog, for which the digest's repair is there."""
        self.founded = False
        """The end of the founding is in the hierarchy."""
        self.network = network(self.clock, random.Random(f"{seed} network"), weather or Weather())
        self.membership: Membership | None = None
        """Where it says who is in the group and in the folder (tests.sim.membership)."""
        self.members: dict[str, SimMember] = {}
        """Those of whom everything must hold: in the folder, and neither gone nor removed."""
        self.by_id: dict[MemberId, SimMember] = {}
        self.departed: dict[str, SimMember] = {}
        """They have left the folder, were removed, or have lost against their twins: what is on their disks is kept."""
        self.twins: dict[MemberId, SimMember] = {}
        """Beside those of `by_id`: copies of their homes, that run as well (tests.sim.twins)."""
        self.twinned: set[MemberId] = set()
        """Who has ever had a twin: what it told may have been said by the other one."""
        for name in names:
            self.add(SimMember(self, name, (roles or {}).get(name, Role.FOUNDER), (offsets_ms or {}).get(name, 0)))
        wanted = pairs.split() if pairs is not None else [x + y for x in names for y in names if x < y]
        self.network.pairs = sorted((min(pair), max(pair)) for pair in wanted)
        self.on_killed: Callable[[SimMember], None] = lambda member: None
        self.on_stuck: Callable[[], bool] = lambda: False
        """Called where healing takes too long: whether an operator has done something about it."""
        self.on_handled: Callable[[SimMember], None] = lambda member: None
        self.on_refused: Callable[[SimMember, PeerError], None] = _not_refused

    def add(self, member: SimMember) -> None:
        self.members[member.name] = self.by_id[member.id] = member
        self.network.add(member)

    def reached(self, member: SimMember, peer: MemberId) -> SimMember:
        """Whom a member reaches by this id."""
        twin = self.twins.get(peer)
        return twin if twin is not None and twin.name in member.sessions else self.by_id[peer]

    def __getitem__(self, name: str) -> SimMember:
        return self.members[name]

    # -- what members call

    def slowness(self, member: SimMember) -> int:
        return self.network.weather.slow.get(member.name, 1)

    def killed(self, member: SimMember) -> None:
        self.on_killed(member)

    def refused(self, member: SimMember, event: FolderEvent, error: PeerError) -> None:
        assert isinstance(event, Received), f"a PeerError without a peer: {error}"
        self.network.refuse(member, self.reached(member, event.peer))
        self.on_refused(member, error)

    def set_siblings(self, siblings: bool, late_ms: Callable[[], int] = lambda: 0) -> None:
        """`folder set conflicts=...`: it reaches each member at its own time."""
        self.settings = msgspec.structs.replace(self.settings, siblings=siblings)
        for member in self.members.values():
            self.clock.after(late_ms(), member.take_settings)

    # -- time

    def run(self, duration_ms: int) -> None:
        self.clock.run_until(self.clock.now_ms + duration_ms)

    def start_all(self) -> None:
        for member in self.members.values():
            if not member.up:
                member.start()
        if self.membership is not None:
            self.membership.start_all()

    def retire(self, name: str) -> None:
        """This member is gone for good, and is no part of what must hold."""
        member = self.members.pop(name)
        member.crash()
        self.network.pairs = [pair for pair in self.network.pairs if name not in pair]
        ours = self.ledger.condemned.items()
        self.ledger.condemned = {digest: who for digest, who in ours if who != name}  # nobody may have heard of it

    def heal(self, max_ms: int = HEAL_MAX_MS) -> None:
        """Everything is delivered and installed everywhere, until nothing changes. `on_stuck` may help on."""
        for member in self.members.values():
            member.fault_in = member.racing = None
        self.network.mend_all()
        self.start_all()
        end_ms = self.clock.now_ms + max_ms
        while not self.settled():
            if self.clock.now_ms >= end_ms:
                assert self.on_stuck(), "it does not come to rest:\n" + self.describe()
                end_ms = self.clock.now_ms + max_ms
            self.run(HEAL_STEP_MS)
        self.run(HEAL_STEP_MS)  # what was kept until quiet, statuses, …
        if not self.settled():
            self.heal(max(end_ms - self.clock.now_ms, HEAL_STEP_MS))

    def settled(self) -> bool:
        """Nothing is left to do for anybody."""
        if self.membership is not None and self.membership.unrest():
            return False
        return not any(self.unrest(member) for member in self.members.values()) and not self.unlike()

    def unrest(self, member: SimMember) -> list[str]:
        """Why a member is not at rest."""
        if not member.up:
            return [f"down {member.refusal}"]
        replica, catalog = member.running, member.catalog
        scanner = replica.disk.scanner
        found = {
            "events are on their way": not member.quiet,
            f"pending {[uid.hex() for uid in catalog.pending(5)]}": catalog.pending_tally()[0],
            "its disk is being looked at": not scanner.at_rest or scanner.next_due_ms() is not None,
            "files came out of the tree": catalog.outs(2**62, 1),
            f"state {replica.state}": replica.state.state != 4,
            "unsettled": replica.exchange.any_unsettled,
        }
        return [why for why, there in found.items() if there]

    def busy(self, member: SimMember) -> str:
        """What a member has to do, part by part."""
        replica, now_ms = member.running, member.now_ms
        assert replica.fences is not None
        due = {
            "exchange": replica.exchange.next_due_ms(),
            "disk": replica.disk.next_due_ms(now_ms),
            "workbench": replica.installing.workbench.next_due_ms(now_ms),
            "fetching": replica.installing.fetching.next_due_ms(),
            "fences": replica.fences.next_due_ms(),
        }
        at = {part: due_ms - now_ms for part, due_ms in due.items() if due_ms is not None}
        return f"due in ms {at}; {self.unrest(member)}; blocked {replica.blocked()[:5]}"

    def unlike(self) -> list[str]:
        """In what the members' catalogs differ."""
        catalogs = [member.catalog for member in self.members.values()]
        found = {
            "known": any(one.known != catalogs[0].known for one in catalogs),
            "policies": any(one.siblings != self.settings.siblings for one in catalogs),
            "digests": any(one.digest != catalogs[0].digest for one in catalogs),
        }
        return [what for what, there in found.items() if there]

    # -- oracles

    def trees(self) -> dict[str, dict[bytes, tuple[object, ...]]]:
        return {name: disk_tree(member) for name, member in self.members.items()}

    def check(self) -> None:
        """What must hold in a group that was healed."""
        self.check_converged()
        self.check_knowledge()
        self.check_nothing_lost()
        self.check_nothing_came_back()

    def check_converged(self) -> None:
        """I1: one tree, which is the one that the records make."""
        trees = self.trees()
        first = next(iter(trees))
        for name, tree in trees.items():
            assert tree == trees[first], f"I1: {first} and {name} differ:\n{differences(trees[first], tree)}"
            wanted = wanted_tree(self[name])
            assert tree == wanted, f"I1: {name}'s disk is not its tree:\n{differences(tree, wanted)}"

    def check_knowledge(self) -> None:
        for member in self.members.values():
            found = [report.text for report in member.reports if FAULT in report.text]
            assert self.faulty or not found, f"I1: {member.name} and others had to be repaired: {found}"
            catalog = member.catalog
            self.ledger.check_knowledge(member, catalog, catalog.known, at_the_end=True)
            self.ledger.check_tree(member, catalog)
            faults = catalog.faults()
            assert not faults, f"{member.name}'s catalog contradicts itself: {faults}"

    def check_nothing_lost(self) -> None:
        """I3: what was on a disk is on some disk still, if only preserved, unless a user took off a copy of it.

        Not disk by disk: whoever made a version, lost it to another and edited that counts as having seen both, so the
        others need not preserve it; it did.
        """
        members = [*self.members.values(), *self.departed.values()]
        kept = {blake3(data).digest() for member in members for data in files(member, private=True).values()}
        for name, member in self.members.items():
            for digest in sorted(self.ledger.disk(member).seen):
                gone = digest not in kept and digest not in self.ledger.destroyed and digest not in self.ledger.common
                assert not gone, f"I3: {name} had {self.ledger.show(digest)}; nobody took it off, and it is nowhere"

    def check_nothing_came_back(self) -> None:
        """I7: what a user saw and took off is in no tree.

        But for copies, of which whoever took it off has seen nothing. One is what an editor leaves as its backup, and
        no disk tells that from a file which was moved and whose name another took before anybody looked: the rule for
        editors' saves (engine.scan_moves) takes both for a backup, so a swap with a new file is one as well.
        """
        if self.ledger.doubled:
            return  # a deletion may have to be made again (docs/safety.md, section 7)
        excused = self.ledger.common | self.ledger.all_affirmed()
        for name, member in self.members.items():
            for path, data in files(member).items():
                digest = blake3(data).digest()
                who = self.ledger.condemned.get(digest)
                back = who is not None and digest not in excused
                assert not back, f"I7: {path!r} on {name} shows {data[:40]!r}, which {who}'s user took off"

    def check_quiet(self, duration_ms: int = HOUR_MS) -> None:
        """I9: no new change, and only the statuses that are due."""
        before = {name: member.catalog.counter for name, member in self.members.items()}
        said = Counter(self.network.messages)
        self.run(duration_ms)
        after = {name: member.catalog.counter for name, member in self.members.items()}
        assert after == before, f"I9: an echo: {before} became {after}"
        links = sum(self.network.connected(*pair) for pair in self.network.pairs)
        sent = dict(self.network.messages - said)
        assert set(sent) <= {"status"}, f"I9: a converged group sends {sent}"
        most = STATUSES_AN_HOUR_MAX * 2 * links * max(1, duration_ms / HOUR_MS)
        assert sent.get("status", 0) <= most, f"I9: {sent} over {links} links"
        assert self.settled(), "I9: it is at rest no more"

    def describe(self) -> str:
        """Where everybody stands: for a history that does not come to rest."""
        up = all(member.up for member in self.members.values())
        lines = [f"unlike: {self.unlike()}" if up else "somebody is down"]
        if self.membership is not None:
            lines.append(f"hierarchy: {self.membership.unrest()}")
        for member in self.members.values():
            lines.append(f"{member.name}: {', '.join(self.unrest(member)) or 'at rest'}")
            if not member.up:
                continue
            replica, catalog = member.running, member.catalog
            lines.append(
                f"    known {catalog.known.show()}, phase {replica.phase.name}, blocked {replica.blocked()[:5]}, "
                f"links {sorted(member.sessions)}, {self.busy(member)}, "
                f"backfill {replica.exchange.backfill_entries()[:3]}"
            )
            lines += [f"    {one}" for one in list(catalog.objects(catalog.pending(3)))]
        return "\n".join(lines)


def _not_refused(member: SimMember, error: PeerError) -> None:
    raise AssertionError(f"{member.name} refused a message of a member of ours: {error}") from error


def disk_tree(member: SimMember) -> dict[bytes, tuple[object, ...]]:
    """What is on a disk: kinds, contents, modes, files' mtimes."""
    found: dict[bytes, tuple[object, ...]] = {}
    for path, (stat, data) in member.fs.read_tree().items():
        if stat.kind == FILE:
            found[path] = (FILE, blake3(data).digest(), stat.size, stat.mode, stat.mtime_ns)
        elif stat.kind == SYMLINK:
            found[path] = (SYMLINK, data)
        elif stat.kind == DIRECTORY:
            found[path] = (DIRECTORY, stat.mode)
    return found


def wanted_tree(member: SimMember) -> dict[bytes, tuple[object, ...]]:
    """What the member's records make, in the same form."""
    found: dict[bytes, tuple[object, ...]] = {}
    for path, outcome in tree_of(member.catalog).items():
        state = member.catalog.object(outcome.lead)
        assert state is not None
        content = state.record.content
        assert content is not None
        if outcome.kind == FILE:
            found[path] = (FILE, content.digest, content.size, content.mode, content.mtime_ns)
        elif outcome.kind == SYMLINK:
            found[path] = (SYMLINK, content.value)
        else:
            found[path] = (DIRECTORY, content.mode)
    return dict(sorted(found.items()))


def files(member: SimMember, *, private: bool = False) -> dict[bytes, bytes]:
    return {
        path: data
        for path, (stat, data) in member.fs.read_tree(private).items()
        if stat.kind == FILE and (not path.startswith(b".replicad/") or path.startswith(STORES))
    }


def preserved(member: SimMember) -> list[bytes]:
    """What lies in the stores."""
    found = files(member, private=True)
    return sorted(data for path, data in found.items() if path.startswith(STORES))


def differences(one: dict[bytes, tuple[object, ...]], other: dict[bytes, tuple[object, ...]]) -> str:
    paths = sorted(path for path in {*one, *other} if one.get(path) != other.get(path))
    return "\n".join(f"  {path!r}: {one.get(path)} / {other.get(path)}" for path in paths[:20])


def names_of(members: Sequence[SimMember]) -> str:
    return "".join(member.name for member in members)
