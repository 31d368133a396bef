"""What the hierarchy's entries say: members, folders, replica lists, who owns which replica id. A read model.

Kept up entry by entry (`apply`), in any order; what depends on several entries is computed when it is asked for, once
after each change. A removed member is hidden everywhere. What cannot be shown is listed with its reason.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from replicad.core import hierarchy_entries as entries
from replicad.core.hierarchy_entries import Entry, Founded, Scalar
from replicad.core.ids import FolderId, MemberId, ReplicaId, Uid
from replicad.core.naming import GroupId, folder_id
from replicad.core.records import ENTRY, Record
from replicad.errors import ProtocolError

Verify = Callable[[bytes, bytes, bytes], bool]
"""(certificate DER, signature, statement): whether the certificate's key signed it."""


CONFLICTS, PRESERVE, SIBLING = "conflicts", "preserve", "sibling"
"""A folder's setting, and its values."""


@dataclass(frozen=True, slots=True)
class MemberInfo:
    member: MemberId
    name: str
    certificate: bytes
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FolderInfo:
    """`members`: its replica list, members of the group alone. `founded`: None while its founding goes on."""

    folder: FolderId
    name: str
    settings: Mapping[str, Scalar]
    members: Mapping[MemberId, entries.FolderMember]
    founded: Founded | None


@dataclass(frozen=True)
class Reading:
    """The hierarchy at one time. Equal where it says the same."""

    members: Mapping[MemberId, MemberInfo]
    """Not removed."""
    removed: frozenset[MemberId]
    lapsed: Mapping[MemberId, entries.Lapsed]
    """Members, none of them removed, for whom nobody waits."""
    folders: Mapping[FolderId, FolderInfo]
    settings: Mapping[str, Scalar]
    replica_owners: Mapping[tuple[FolderId, ReplicaId], MemberId]
    """Signed by the member's own key; of removed members too (what they wrote is still theirs)."""
    unusable: Mapping[bytes, str] = field(compare=False)
    """Keys (or UIDs, where the key is not known) of what is stored and not shown, each with its reason."""

    def conflicts(self, folder: FolderId) -> str:
        """The folder's policy for losers of a name; what this version does not know is `preserve`."""
        found = self.settings.get(entries.folder_setting(folder, CONFLICTS))
        return SIBLING if found == SIBLING else PRESERVE

    @cached_property
    def folders_by_name(self) -> Mapping[str, FolderInfo]:
        return {folder.name: folder for folder in self.folders.values()}

    @cached_property
    def members_by_name(self) -> Mapping[str, tuple[MemberId, ...]]:
        """Two members may have taken one name at once."""
        found: dict[str, tuple[MemberId, ...]] = {}
        for member, info in sorted(self.members.items()):
            found[info.name] = (*found.get(info.name, ()), member)
        return found


class HierarchyModel:
    """Of one group."""

    def __init__(self, group: GroupId, verify: Verify) -> None:
        self._group = group
        self._verify = verify
        self._entries: dict[str, dict[tuple[str, ...], Entry]] = {}
        self._where: dict[Uid, tuple[str, tuple[str, ...]]] = {}
        self._unusable: dict[Uid, tuple[bytes, str]] = {}
        self._verified: dict[tuple[bytes, bytes, bytes], bool] = {}
        self._reading: Reading | None = None

    def apply(self, records: Iterable[Record]) -> None:
        """These are the records as they are held now."""
        for held in records:
            self._reading = None
            self._unusable.pop(held.uid, None)
            where = self._where.pop(held.uid, None)
            if where is not None:
                del self._entries[where[0]][where[1]]
            try:
                entry = _opened(held)
            except ProtocolError as error:
                self._unusable[held.uid] = (held.place.name if held.place is not None else held.uid, str(error))
                continue
            if entry is not None:
                self._where[held.uid] = (entry.kind, entry.names)
                self._entries.setdefault(entry.kind, {})[entry.names] = entry

    def reading(self) -> Reading:
        if self._reading is None:
            self._reading = self._read()
        return self._reading

    def keys_of_folder(self, folder: FolderId) -> list[bytes]:
        """Of every live entry that is about it, shown or not, but for replica ids: those are for ever."""
        kinds = (entries.FOLDER, entries.FOLDER_MEMBER, entries.FOUNDED)
        found = [(kind, names) for kind in kinds for names in self._entries.get(kind, ()) if names[0] == folder.hex()]
        own = entries.folder_setting(folder, "")
        settings = self._entries.get(entries.SETTING, ())
        found += [(entries.SETTING, names) for names in settings if names[0].startswith(own)]
        return ["/".join((kind, *names)).encode() for kind, names in sorted(found)]

    def _read(self) -> Reading:
        unusable = dict(self._unusable.values())
        removed = frozenset(names[0] for names in self._entries.get(entries.REMOVED, ()))
        certificates: dict[MemberId, bytes] = {}
        members: dict[MemberId, MemberInfo] = {}
        for (member,), entry in sorted(self._entries.get(entries.MEMBER, {}).items()):
            value = entry.value
            assert isinstance(value, entries.Member)
            if hashlib.sha256(value.certificate).hexdigest() != member:
                unusable[entries.member_key(member)] = "its certificate is not that of this member"
                continue
            certificates[member] = value.certificate
            if member not in removed:
                members[member] = MemberInfo(member, value.name, value.certificate, self._addresses(member))
        settings = {
            names[0]: entry.value.value
            for names, entry in sorted(self._entries.get(entries.SETTING, {}).items())
            if isinstance(entry.value, entries.Setting)
        }
        folders = self._folders(members, unusable)
        owners = self._owners(certificates, unusable)
        return Reading(members, removed, self._lapsed(members), folders, settings, owners, unusable)

    def _lapsed(self, members: Mapping[MemberId, MemberInfo]) -> dict[MemberId, entries.Lapsed]:
        return {
            names[0]: entry.value
            for names, entry in sorted(self._entries.get(entries.LAPSED, {}).items())
            if names[0] in members and isinstance(entry.value, entries.Lapsed)
        }

    def _addresses(self, member: MemberId) -> tuple[str, ...]:
        entry = self._entries.get(entries.ADDRESSES, {}).get((member,))
        return entry.value.addresses if entry is not None and isinstance(entry.value, entries.Addresses) else ()

    def _folders(
        self, members: Mapping[MemberId, MemberInfo], unusable: dict[bytes, str]
    ) -> dict[FolderId, FolderInfo]:
        lists: dict[str, dict[MemberId, entries.FolderMember]] = {}
        for (text, member), entry in sorted(self._entries.get(entries.FOLDER_MEMBER, {}).items()):
            if member in members and isinstance(entry.value, entries.FolderMember):
                lists.setdefault(text, {})[member] = entry.value
        founded = self._founded()
        found: dict[FolderId, FolderInfo] = {}
        for (text,), entry in sorted(self._entries.get(entries.FOLDER, {}).items()):
            folder, value = bytes.fromhex(text), entry.value
            assert isinstance(value, entries.Folder)
            if folder != folder_id(self._group, value.name):
                unusable[entries.folder_key(folder)] = "its id is not that of its name"
                continue
            found[folder] = FolderInfo(folder, value.name, value.settings, lists.get(text, {}), founded.get(text))
        return found

    def _founded(self) -> dict[str, Founded]:
        """The earliest end of each founding stands; one of several founders before that of a member that was alone,
        whose clock nobody has seen; of two at one time that of the lesser member."""
        ends: dict[str, tuple[bool, int, str, Founded]] = {}
        for (folder, member), entry in self._entries.get(entries.FOUNDED, {}).items():
            value = entry.value
            assert isinstance(value, Founded)
            end = (len(value.founders) < 2, value.time_ms, member, value)
            if folder not in ends or end[:3] < ends[folder][:3]:
                ends[folder] = end
        return {folder: end[3] for folder, end in ends.items()}

    def _owners(
        self, certificates: Mapping[MemberId, bytes], unusable: dict[bytes, str]
    ) -> dict[tuple[FolderId, ReplicaId], MemberId]:
        owners: dict[tuple[FolderId, ReplicaId], MemberId] = {}
        for (text, replica_text), entry in sorted(self._entries.get(entries.REPLICA, {}).items()):
            value = entry.value
            assert isinstance(value, entries.ReplicaOwner)
            folder = b"" if text == entries.HIERARCHY_NAME else bytes.fromhex(text)
            replica, member = int(replica_text, 16), value.member.hex()
            certificate = certificates.get(member)
            if certificate is None:
                continue  # its entry may yet come
            if self._signed(certificate, value.signature, entries.replica_statement(folder, replica)):
                owners[folder, replica] = member
            else:
                unusable[entries.replica_key(folder, replica)] = "it is not signed by the member it names"
        return owners

    def _signed(self, *proof: bytes) -> bool:
        """Each signature is checked once."""
        if proof not in self._verified:
            certificate, signature, statement = proof
            self._verified[certificate, signature, statement] = self._verify(certificate, signature, statement)
        return self._verified[proof]  # type: ignore[index]


def _opened(held: Record) -> Entry | None:
    if held.kind != ENTRY:
        raise ProtocolError(f"a record of kind {held.kind} is no entry")
    return entries.open_entry(held)
