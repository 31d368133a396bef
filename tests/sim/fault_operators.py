"""What operators do in a random history (tests.sim.faults): lists and restores over the group, `verify`, `hold`,
`rejoin`, `abandon`, quotas. The ledger is told of what they give up, and of what they want back.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import msgspec
from blake3 import blake3

from replicad.catalog.store import Catalog, Reader
from replicad.core.effects import Effect
from replicad.core.messages import RestoreReply
from replicad.engine.abandoning import abandon_path
from replicad.engine.asked import rejoin
from replicad.engine.deciding import decide
from replicad.engine.disposal import store_path
from replicad.engine.folder import FolderReplica
from replicad.engine.folder_events import SettingsChanged
from replicad.engine.preserved_asking import LIST_MS, RESTORE_MS, Failure, Listing
from replicad.engine.verify import Piece, Suspect, Walk
from replicad.engine.verifying import Remedy
from replicad.errors import OperatorError
from replicad.files.fs import FILE
from tests.sim.fault_disks import ailing
from tests.sim.group import Group, files
from tests.sim.member import SimMember

if TYPE_CHECKING:
    from replicad.core.messages import PreservedRow

LOOK_MS = 1_000
"""How often it is asked whether an answer is there."""
THROUGH_MS = 60_000
"""daemon.verification: until when the folder must have looked at all changes."""
SLACK_MS = 30_000
Act = Callable[[FolderReplica, int], Sequence[Effect]]


class Operators:
    """`rng`: of their acts alone."""

    def __init__(self, group: Group, rng: random.Random) -> None:
        self._group = group
        self.rng = rng
        self.rotten: set[str] = set()
        """Names of members on whose disks content differs from what was read there."""

    @property
    def acts(self) -> list[tuple[str, Callable[[SimMember], bool]]]:
        """(name, act, which says whether it was done)."""
        return [
            ("listed over the group", self._list),
            ("preserved file deleted", self._delete),
            ("verified", self._verify),
            ("bits lost", self._rot),
            ("asked to rejoin", self._rejoin),
            ("asked to rejoin as primary", self._rejoin_as_primary),
            ("abandoned by force", self._abandon),
            ("quota of preserved files", self._quota),
        ]

    # -- what is held

    def decide_some(self, member: SimMember) -> bool:
        """Approve or reject what waits there."""
        if not member.up or ailing(member).temporary or not member.running.held:
            return False
        approve = self.rng.random() < 0.5
        # An empty directory cannot be approved.
        return self.decide(member, approve=approve) or (approve and member.up and self.decide(member, approve=False))

    def decide(self, member: SimMember, *, approve: bool) -> bool:
        def act(replica: FolderReplica, now_ms: int) -> Sequence[Effect]:
            decide(replica, approve=approve, now_ms=now_ms)
            if not approve:
                self._group.ledger.rejected(member)
            return ()

        done = self._command(member, "hold approved" if approve else "hold rejected", act)
        if done:
            self._begun_anew(member)
        return done

    def _command(self, member: SimMember, name: str, act: Act) -> bool:
        """Whether it was not refused."""
        done = False

        def guarded(replica: FolderReplica, now_ms: int) -> Sequence[Effect]:
            nonlocal done
            try:
                effects = act(replica, now_ms)
            except OperatorError as error:
                self._group.counts[f"{name}: refused"] += 1
                self._group.clock.note("refused", member.name, name, str(error))
                return ()
            done = True
            self._group.counts[name] += 1
            self._group.clock.note(name, member.name)
            return effects

        member.act(guarded)
        return done

    def _begun_anew(self, member: SimMember) -> None:
        """The folder is stopped, and started again."""
        if member.up:
            member.stop()
        if not member.up:
            member.start()

    # -- rejoin, abandon

    def _rejoin(self, member: SimMember) -> bool:
        return self._ask(member, primary=False)

    def _rejoin_as_primary(self, member: SimMember) -> bool:
        return self._ask(member, primary=True)

    def _ask(self, member: SimMember, *, primary: bool) -> bool:
        if not member.up:
            return False

        def act(replica: FolderReplica, now_ms: int) -> Sequence[Effect]:
            rejoin(replica, member._new_replica(), primary=primary, force=False, now_ms=now_ms)
            self._group.ledger.rejected(member)
            if primary:
                for data in files(member).values():
                    self._group.ledger.affirms(data)  # what others have deleted, and is there still, comes back
            return ()

        done = self._command(member, "rejoins as primary" if primary else "rejoins", act)
        if done:
            self._begun_anew(member)
        return done

    def _abandon(self, member: SimMember) -> bool:
        if not member.up:
            return False
        blocked = [path for path, why in member.running.blocked() if "no connected member" in why]
        if not blocked:
            return False
        path = self.rng.choice(blocked)
        names = {one.id: one.name for one in self._group.members.values() if one is not member}

        def act(replica: FolderReplica, now_ms: int) -> Sequence[Effect]:
            effects = abandon_path(replica, path, names, {}, force=True, now_ms=now_ms)[1]
            for data in files(member).values():
                self._group.ledger.affirms(data)  # what is there is the newest one then
            return effects

        return self._command(member, "given up", act)

    # -- preserved files

    def _list(self, member: SimMember) -> bool:
        """Over the group; then one of what is listed is brought back, perhaps."""
        if not member.up:
            return False
        tickets: list[int] = []

        def act(replica: FolderReplica, now_ms: int) -> Sequence[Effect]:
            ticket, effects = replica.preserved.list_group(self._group.by_id, now_ms)
            tickets.append(ticket)
            return effects

        if not self._command(member, "list begun", act):
            return False
        if not tickets:
            return False
        life, until_ms = member.life, self._group.clock.now_ms + LIST_MS + SLACK_MS
        self._look_later(lambda: self._listed(member, life, tickets[0], until_ms))
        return True

    def _look_later(self, look: Callable[[], None]) -> None:
        self._group.clock.after(LOOK_MS, look)

    def _listed(self, member: SimMember, life: int, ticket: int, until_ms: int) -> None:
        if member.life != life or not member.up:
            return
        preserved = member.running.preserved
        listing = preserved.listing(ticket, member.now_ms)
        member.forget_due()
        if listing is None:
            assert self._group.clock.now_ms < until_ms, f"{member.name}'s list does not end"
            self._look_later(lambda: self._listed(member, life, ticket, until_ms))
            return
        preserved.forget(ticket)
        asked = {one.id for one in self._group.members.values()}
        assert asked <= {*listing.rows, *listing.failed}, f"{member.name}'s list leaves members out"
        self._group.counts["list: members that told all"] += len(listing.rows.keys() - listing.failed.keys())
        self._group.counts["list: members not reached"] += len(listing.failed)
        if self.rng.random() < 0.5:
            self._bring_back(member, listing)

    def _bring_back(self, member: SimMember, listing: Listing) -> None:
        rows = [(one, row) for one in sorted(listing.rows) for row in listing.rows[one] if row.kind == FILE]
        if not rows:
            return
        keeper, row = self.rng.choice(rows)
        self._wants(self._group.by_id[keeper], row)
        tickets: list[int] = []

        def act(replica: FolderReplica, now_ms: int) -> Sequence[Effect]:
            to = self.rng.choice((b"", b"", b"brought/back", b"../x", b"a"))
            ticket, effects = replica.preserved.restore_at(keeper, row.number, to, self._group.by_id, now_ms)
            tickets.append(ticket)
            return effects

        if self._command(member, "restore begun", act) and tickets:
            life, until_ms = member.life, self._group.clock.now_ms + RESTORE_MS + SLACK_MS
            self._look_later(lambda: self._restored(member, life, tickets[0], until_ms))

    def _wants(self, keeper: SimMember, row: PreservedRow) -> None:
        """It may come back: somebody wants it to."""
        for path, data in files(keeper, private=True).items():
            if path.startswith(
                (b".replicad/ConflictAndDeleted/%d-" % row.number, b".replicad/PreExisting/%d-" % row.number)
            ):
                self._group.ledger.affirms(data)
        if keeper.up:
            for held in keeper.catalog.preserved(1_000):
                if held.preserved_id == row.number and held.kind == FILE:
                    self._affirm_stored(keeper, store_path(held.store, held.stored_name))

    def _affirm_stored(self, keeper: SimMember, path: bytes) -> None:
        found = keeper.fs.read_tree(private=True).get(path)
        if found is not None:
            self._group.ledger.affirms(found[1])

    def _restored(self, member: SimMember, life: int, ticket: int, until_ms: int) -> None:
        if member.life != life or not member.up:
            return
        reply = member.running.preserved.restored(ticket, member.now_ms)
        member.forget_due()
        if reply is None:
            assert self._group.clock.now_ms < until_ms, f"{member.name} waits for a file that is brought back"
            self._look_later(lambda: self._restored(member, life, ticket, until_ms))
            return
        member.running.preserved.forget(ticket)
        came = "" if isinstance(reply, Failure) or reply.reason else " and done"
        assert isinstance(reply, RestoreReply | Failure)
        self._group.counts["restore asked for" + came] += 1

    def _delete(self, member: SimMember) -> bool:
        rows = list(member.catalog.preserved(100)) if member.up else []
        if not rows:
            return False
        row = self.rng.choice(rows)
        top = store_path(row.store, row.stored_name)

        def act(replica: FolderReplica, now_ms: int) -> Sequence[Effect]:
            for path, (stat, data) in member.fs.read_tree(private=True).items():
                if stat.kind == FILE and (path == top or path.startswith(top + b"/")):
                    self._group.ledger.discarded(member, data)
            replica.preserved.delete([row.preserved_id], now_ms)
            return ()

        return self._command(member, "deleted from the store", act)

    def _quota(self, member: SimMember) -> bool:
        if not member.up:
            return False
        ailing(member).discards = True
        member.settings = msgspec.structs.replace(
            member.settings,
            preserved_quota_bytes=self.rng.choice((0, 100, 1_000)),
            preserved_min_age_ms=self.rng.choice((0, 60_000)),
        )
        member.post(SettingsChanged(member.settings))
        return True

    # -- verify

    def _rot(self, member: SimMember) -> bool:
        """A disk loses bits, or a program writes through a mapping: no time tells."""
        found = [path for path, data in files(member).items() if data]
        if not found:
            return False
        path = self.rng.choice(found)
        before = files(member)[path]
        after = b"rot %d" % self.rng.randrange(1 << 60)
        after = (after + before[len(after) :])[: len(before)]
        if after == before:
            return False
        self._group.ledger.discarded(member, before)
        self._group.ledger.wrote(after)
        self._group.ledger.untold.add(blake3(after).digest())
        member.fs.user_write_mapped(path, after)
        self.rotten.add(member.name)
        return True

    def _verify(self, member: SimMember) -> bool:
        return self.verify(member, self.rng.choice(list(Remedy)))

    def verify(self, member: SimMember, remedy: Remedy) -> bool:
        if not member.up:
            return False
        _Verification(self._group, member, remedy, self.rng).begin()
        return True


class _Verification:
    """As daemon.verification: a thread reads, in pieces; the folder's thread judges."""

    def __init__(self, group: Group, member: SimMember, remedy: Remedy, rng: random.Random) -> None:
        self._group = group
        self._member = member
        self._remedy = remedy
        self.rng = rng
        self._life = member.life
        self._suspects: list[Suspect] = []
        self._walk = Walk(_readers(member.catalog), member.fs)
        self._until_ms = 0

    def begin(self) -> None:
        self._later(self._read)

    def _later(self, act: Callable[[], None]) -> None:
        def now() -> None:
            if self._member.up and self._member.life == self._life:
                act()

        self._group.clock.after(self.rng.randrange(5, 100), now)

    def _read(self) -> None:
        piece: Piece = self._walk.piece()
        self._suspects += piece.suspects
        if not piece.done:
            self._later(self._read)
        elif self._suspects:
            self._ask()
        else:
            self._group.counts["verified: no difference"] += 1

    def _ask(self) -> None:
        def act(replica: FolderReplica, now_ms: int) -> Sequence[Effect]:
            assert replica.verifying is not None
            with suppress(OperatorError):
                replica.verifying.begin(now_ms)
            return ()

        self._member.act(act)
        self._until_ms = self._group.clock.now_ms + THROUGH_MS
        self._later(self._await)

    def _await(self) -> None:
        verifying = self._member.running.verifying
        assert verifying is not None
        hindrance = verifying.through(self._member.now_ms)
        self._member.forget_due()
        if hindrance is None and self._group.clock.now_ms < self._until_ms:
            self._later(self._await)
            return
        if not hindrance and hindrance is not None:
            self._member.act(self._judge)
        else:
            self._group.counts["verified: given up"] += 1
        if self._member.up and self._member.life == self._life:
            verifying.end()
            self._member.forget_due()

    def _judge(self, replica: FolderReplica, now_ms: int) -> Sequence[Effect]:
        assert replica.verifying is not None
        for found in replica.verifying.judge(self._suspects, self._remedy):
            self._group.counts[f"verified: {found.kind}, {found.action}"] += 1
        return replica.exchange.after_commit(now_ms)


def _readers(catalog: Catalog):  # type: ignore[no-untyped-def]
    @contextmanager
    def reader() -> Iterator[Reader]:
        yield catalog.reader()

    return reader


def has_rot(member: SimMember) -> bool:
    """Whether a file is not what the catalog has of it, though it looks so."""
    catalog = member.catalog
    for path, data in files(member).items():
        node = None
        at = 1
        for name in path.split(b"/"):
            node = catalog.node_at(at, name)
            if node is None:
                break
            at = node.id
        if node is None:
            continue
        bases = [state.base_content for state in catalog.objects(catalog.uids_at(node.id))]
        live = [base for base in bases if base is not None and base.gone is None]
        if live and all(base.digest != blake3(data).digest() for base in live):
            return True
    return False
