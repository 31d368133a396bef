"""The hierarchy at work: members and their addresses, folders, replica lists, in a catalog of their own.

It is replicated by the same machine as a folder (docs/PROTOCOL.md, section 10), without a disk. Synchronous, called by
the one thread that owns its catalog. Every operation commits before it returns; the effects it returns tell others.

Mistakes of an operator raise OperatorError; nothing is written then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from replicad.catalog.changes import Change, RenewReplica, SetMeta
from replicad.catalog.store import Catalog
from replicad.core import hierarchy_entries as entries
from replicad.core.backfill import Profile
from replicad.core.draft import Draft
from replicad.core.effects import Changed, Effect, LinkDown, LinkUp, Received, Report, Tick
from replicad.core.hierarchy_entries import Scalar, Value
from replicad.core.hierarchy_model import CONFLICTS, FolderInfo, HierarchyModel, Reading, Verify
from replicad.core.ids import ROOT, FolderId, MemberId, ReplicaId, Uid
from replicad.core.lapsing import OFFLINE_LIMIT_MS
from replicad.core.messages import HIERARCHY
from replicad.core.naming import GroupId, folder_id
from replicad.core.records import Record
from replicad.engine.exchange import CLOCK_BACK_MS, Exchange
from replicad.engine.exchange_link import OwnState
from replicad.engine.lapses import LATELY_MS, Lapses
from replicad.engine.meeting import new_life
from replicad.errors import OperatorError, ProtocolError

DECLARED_META = "declared/"
"""What this member last declared of an entry, by its key: not replicated."""
NORMAL_STATE = 4

Write = tuple[bytes, Value | None]
"""Key and value of an entry; None: gone."""


class HierarchyReplica:
    """One member's copy. `sign(statement)` is this member's signature, `verify` checks anyone's.

    `exchange` is for looking (statuses, backfill entries); events go through `handle`.
    """

    def __init__(
        self,
        catalog: Catalog,
        own: MemberId,
        group: GroupId,
        *,
        sign: Callable[[bytes], bytes],
        verify: Verify,
        new_replica: Callable[[], ReplicaId],
        draw: Callable[[], float],
        now_ms: int,
        profile: Profile | None = None,
        offline_limit_ms: int = OFFLINE_LIMIT_MS,
    ) -> None:
        """`offline_limit_ms`: how long another member may be away before this one may write it as lapsed."""
        self._catalog = catalog
        self._own = own
        self._group = group
        self._sign = sign
        self._new_replica = new_replica
        self._learns = False
        """It was put back, and does not know yet what others remember of it."""
        self.heard = False
        """Whether it knows what a connected member knows, and has said since they are linked."""
        self._linked_ms: dict[MemberId, int] = {}
        self._model = HierarchyModel(group, verify)
        self._model.apply(state.record for state in catalog.objects(catalog.children(ROOT)))
        self._touched: dict[Uid, None] = {}
        self._now_ms = now_ms
        self.exchange = Exchange(
            catalog,
            own,
            HIERARCHY,
            absorb=self._absorb,
            own_state=lambda: OwnState(NORMAL_STATE, complete=True, scanned=True, begun=not self._learns),
            may_send=self._in_group,
            may_receive=self._in_group,
            draw=draw,
            now_ms=now_ms,
            profile=profile,
        )
        self._lapses = Lapses(catalog, self.exchange, own, self.reading, offline_limit_ms, now_ms)

    def handle(self, event: LinkUp | LinkDown | Received | Tick, now_ms: int) -> list[Effect]:
        """As Exchange.handle; Changed is among the effects where the reading changed."""
        if now_ms < self._now_ms - CLOCK_BACK_MS:
            self.exchange.clock_set_back(self._now_ms - now_ms)
            self._lapses.clock_set_back(now_ms)
        self._now_ms = now_ms
        if isinstance(event, LinkUp):
            self._linked_ms[event.peer] = now_ms
        out = self.exchange.handle(event, now_ms)
        if self.exchange.put_back:
            self._renew_replica(now_ms, out)
        if self._learns:
            self._learns = not self._has_learned()
        self._reread(out)
        if self.heard != (heard := self._has_heard()):
            self.heard = heard
            out.append(Changed())
        if lapsed := self._lapses.work(now_ms):
            out += self._write([_lapsed(member, now_ms, seen_ms) for member, seen_ms in lapsed], now_ms)
        return out

    @property
    def replica(self) -> ReplicaId:
        """Under which this catalog originates; to be bound (`bind_replica`) once the member is in a group."""
        return self._catalog.replica

    def next_due_ms(self) -> int | None:
        due = (self.exchange.next_due_ms(), self._lapses.next_due_ms())
        return min((at for at in due if at is not None), default=None)

    def reading(self) -> Reading:
        return self._model.reading()

    def close(self, now_ms: int) -> None:
        self.exchange.close(now_ms)

    # -- members

    def put_member(self, member: MemberId, name: str, certificate: bytes, now_ms: int) -> list[Effect]:
        """Take a member into the group, or give it another name. A removed one does not come back."""
        self._check_not_removed(member)
        return self._write([(entries.member_key(member), entries.Member(name, certificate))], now_ms)

    def set_addresses(self, member: MemberId, addresses: Sequence[str], now_ms: int) -> list[Effect]:
        """Writes only where they differ from what the group knows."""
        return self._write([(entries.addresses_key(member), entries.Addresses(tuple(addresses)))], now_ms)

    def remove_member(self, member: MemberId, now_ms: int) -> list[Effect]:
        """For good: never forgotten, and it beats whatever that member does at the same time."""
        reading = self.reading()
        if member not in reading.members and member not in reading.removed:
            raise OperatorError(f"{member} is not a member of the group")
        if member in reading.removed:
            return []
        return self._write([(entries.removed_key(member), entries.Removed(now_ms))], now_ms)

    def lapse_member(self, member: MemberId, now_ms: int, *, force: bool = False) -> list[Effect]:
        """Nobody waits for it any more, until it is back. `force`: although it was seen lately."""
        reading = self.reading()
        if member not in reading.members:
            raise OperatorError(f"{member} is not a member of the group")
        name = reading.members[member].name
        if member == self._own:
            raise OperatorError("this is the member that you are asking: it is not away")
        if member in reading.lapsed:
            return []
        if member in self.exchange.connected():
            raise OperatorError(f"{name} is connected: it would be living again at once")
        seen_ms = self._lapses.seen_ms(member, now_ms)
        if now_ms - seen_ms < LATELY_MS and not force:
            ago = (now_ms - seen_ms) // 60_000
            raise OperatorError(f"{name} was seen {ago} min ago: --force has it lapse all the same")
        return self._write([_lapsed(member, now_ms, seen_ms)], now_ms)

    def return_living(self, now_ms: int) -> list[Effect]:
        """This member is back."""
        if self._own not in self.reading().lapsed:
            return []
        return self._write([(entries.lapsed_key(self._own), None)], now_ms)

    def bind_replica(self, folder: FolderId, replica: ReplicaId, now_ms: int) -> list[Effect]:
        """Say, with this member's signature, that a replica id is its own. `folder` is b"" for the hierarchy."""
        if self.reading().replica_owners.get((folder, replica)) == self._own:
            return []
        signature = self._sign(entries.replica_statement(folder, replica))
        owner = entries.ReplicaOwner(bytes.fromhex(self._own), signature)
        return self._write([(entries.replica_key(folder, replica), owner)], now_ms)

    # -- folders

    def create_folder(
        self, name: str, now_ms: int, settings: dict[str, Scalar] | None = None, how: str = entries.CREATED
    ) -> tuple[FolderId, list[Effect]]:
        """A new folder with this member in its replica list; refuses a name that is taken.

        Members who create it at once, without having heard of each other, have created one folder.
        """
        folder = folder_id(self._group, name)
        if folder in self.reading().folders:
            raise OperatorError(f"there is a folder {name} already: join it with 'replicad folder join'")
        return folder, self._write(
            [
                (entries.folder_key(folder), entries.Folder(name, settings or {})),
                (entries.folder_member_key(folder, self._own), entries.FolderMember(True, how)),
            ],
            now_ms,
        )

    def set_folder(self, name: str, settings: dict[str, Scalar], now_ms: int) -> list[Effect]:
        """All of a folder's settings."""
        folder = self._folder(name).folder
        return self._write([(entries.folder_key(folder), entries.Folder(name, settings))], now_ms)

    def join_folder(self, name: str, now_ms: int, how: str = entries.JOINED) -> tuple[FolderId, list[Effect]]:
        """Put this member on an existing folder's replica list."""
        info = self._folder(name)
        if self._own in info.members:
            return info.folder, []
        key = entries.folder_member_key(info.folder, self._own)
        return info.folder, self._write([(key, entries.FolderMember(True, how))], now_ms)

    def leave_folder(self, name: str, now_ms: int, member: MemberId | None = None) -> list[Effect]:
        """Take this member, or another, off the replica list."""
        info = self._folder(name)
        return self._write([(entries.folder_member_key(info.folder, member or self._own), None)], now_ms)

    def remove_folder(self, name: str, now_ms: int) -> list[Effect]:
        """The folder, its replica list and the end of its founding: one made later under this name begins anew."""
        keys = self._model.keys_of_folder(self._folder(name).folder)
        return self._write([(key, None) for key in keys], now_ms)

    def end_founding(self, folder: FolderId, now_ms: int) -> list[Effect]:
        """Rule 6: the founders are those who are on the replica list now. Of several ends the earliest stands."""
        info = self.reading().folders.get(folder)
        if info is None or info.founded is not None:
            return []
        founders = tuple(bytes.fromhex(member) for member in sorted(info.members))
        return self._write([(entries.founded_key(folder, self._own), entries.Founded(now_ms, founders))], now_ms)

    def set_conflicts(self, name: str, value: str | None, now_ms: int) -> list[Effect]:
        """The folder's policy for losers of a name, on every member; None: the default."""
        return self._write([_conflicts(self._folder(name).folder, value)], now_ms)

    def declare_conflicts(self, name: str, value: str, now_ms: int) -> list[Effect]:
        return self.declare([_conflicts(folder_id(self._group, name), value)], now_ms)

    def put_setting(self, name: str, value: Scalar, now_ms: int) -> list[Effect]:
        return self._write([(entries.setting_key(name), entries.Setting(value))], now_ms)

    # -- what a configuration declares

    def declare(self, writes: Sequence[Write], now_ms: int) -> list[Effect]:
        """Write what differs from what this member *last declared*: what was changed since by hand, here or elsewhere,
        stays until the declaration changes. One transaction."""
        fresh = [write for write in writes if self._catalog.meta(_declared(write[0])) != _told(write)]
        notes: list[Change] = [SetMeta(_declared(write[0]), _told(write)) for write in fresh]
        return self._write(fresh, now_ms, notes) if fresh else []

    def declare_member(self, name: str, certificate: bytes, addresses: Sequence[str], now_ms: int) -> list[Effect]:
        """This member itself."""
        self._check_not_removed(self._own)
        return self.declare(
            [
                (entries.member_key(self._own), entries.Member(name, certificate)),
                (entries.addresses_key(self._own), entries.Addresses(tuple(addresses))),
            ],
            now_ms,
        )

    def declare_folder(
        self, name: str, now_ms: int, settings: dict[str, Scalar] | None = None
    ) -> tuple[FolderId, list[Effect]]:
        """A folder with this member in its replica list, whether it is there already or not."""
        folder = folder_id(self._group, name)
        writes: list[Write] = [
            (entries.folder_key(folder), entries.Folder(name, settings or {})),
            (entries.folder_member_key(folder, self._own), entries.FolderMember(True, entries.DECLARED)),
        ]
        return folder, self.declare(writes, now_ms)

    # -- inside

    def _folder(self, name: str) -> FolderInfo:
        info = self.reading().folders_by_name.get(name)
        if info is None:
            raise OperatorError(f"there is no folder {name} in the group: 'replicad folder list' shows those there are")
        return info

    def _check_not_removed(self, member: MemberId) -> None:
        if member in self.reading().removed:
            raise OperatorError(f"{member} was removed from the group, and cannot come back under this key")

    def _in_group(self, peer: MemberId) -> bool:
        """The link has proved who it is. One who is not in the entries yet may be about to bring its own (declared
        members meet before either has heard of the other); only a removed one is refused."""
        return peer not in self.reading().removed

    def _write(self, writes: Sequence[Write], now_ms: int, notes: Sequence[Change] = ()) -> list[Effect]:
        draft = Draft(self._catalog)
        try:
            changed = [key for key, value in writes if entries.write_entry(draft, key, value, now_ms)]
        except ProtocolError as error:
            raise OperatorError(f"this cannot be written: {error}") from error
        if not changed and not notes:
            return []
        self._catalog.commit(draft, notes, now_ms=now_ms)
        self._touched.update(draft.stored)
        out = self.exchange.after_commit(now_ms)
        self._reread(out)
        return out

    def _absorb(self, draft: Draft, records: Sequence[Record]) -> None:
        entries.absorb_entries(draft, records)
        self._touched.update(draft.stored)

    def _reread(self, out: list[Effect]) -> None:
        if not self._touched:
            return
        before = self._model.reading()
        self._model.apply(state.record for state in self._catalog.objects(self._touched))
        self._touched.clear()
        after = self._model.reading()
        if after != before:
            out += [Changed(), *_lapsing_told(before, after)]

    def _has_learned(self) -> bool:
        """After it was put back: whether it knows again what some peer knows. Until then it is no wonder that it lacks
        what it has told."""
        known = self._catalog.known
        statuses = (self.exchange.statuses().get(peer) for peer in self.exchange.connected())
        return any(status is not None and known.contains_all(status.known) for status in statuses)

    def _has_heard(self) -> bool:
        known, statuses = self._catalog.known, self.exchange.statuses()
        told = ((statuses.get(peer), self._linked_ms[peer]) for peer in self.exchange.connected())
        return any(
            status is not None and status.received_ms >= linked_ms and known.contains_all(status.known)
            for status, linked_ms in told
        )

    def _renew_replica(self, now_ms: int, out: list[Effect]) -> None:
        """I5: others know changes that this catalog does not remember having made."""
        replica = self._new_replica()
        life = new_life(self._catalog, self.exchange.meetings.life_remembered, now_ms)
        self._catalog.commit(None, [RenewReplica(replica), life], now_ms=now_ms)
        self._learns = True
        out.append(Report(0, "the hierarchy's catalog was put back: it goes on under a new replica id"))
        out.extend(self.bind_replica(b"", replica, now_ms))
        out.extend(self.exchange.synchronize(now_ms))


def _lapsed(member: MemberId, now_ms: int, seen_ms: int) -> Write:
    return entries.lapsed_key(member), entries.Lapsed(now_ms, seen_ms)


def _lapsing_told(before: Reading, after: Reading) -> list[Effect]:
    """For the operator of each member."""
    names = {member: info.name for member, info in after.members.items()}
    gone = [
        f"{names[one]} has lapsed: nobody waits for it any more" for one in after.lapsed if one not in before.lapsed
    ]
    back = [f"{names[one]} is living again" for one in before.lapsed if one not in after.lapsed and one in names]
    return [Report(0, text) for text in (*gone, *back)]


def _conflicts(folder: FolderId, value: str | None) -> Write:
    key = entries.setting_key(entries.folder_setting(folder, CONFLICTS))
    return key, entries.Setting(value) if value is not None else None


def _declared(key: bytes) -> str:
    return DECLARED_META + key.decode()


def _told(write: Write) -> bytes:
    return entries.encode_value(write[1]) if write[1] is not None else b""
