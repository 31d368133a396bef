"""The hierarchy and its catalog, as one thing that a driver can drive, and a command can use while no daemon runs.

Used by one thread: the one that opened it. What changes something returns (result, effects); the effects are for
whoever carries them out, and mean nothing while no daemon runs: peers learn of the change by the next exchange.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Sequence
from pathlib import Path

import msgspec

from replicad.catalog.changes import Invitation as InvitationRow
from replicad.catalog.changes import PutInvitation, RemoveInvitation, SetMeta
from replicad.catalog.store import Catalog
from replicad.config.home import CATALOG_DIRECTORY
from replicad.core.cnset import CNSet
from replicad.core.draft import Draft
from replicad.core.effects import Effect, Event, LinkDown, LinkUp, Received, Tick
from replicad.core.hierarchy_entries import absorb_entries, folder_key
from replicad.core.hierarchy_model import HierarchyModel, Reading
from replicad.core.ids import REPLICA_MAX, ROOT, MemberId, ReplicaId, named_uid
from replicad.core.lapsing import OFFLINE_LIMIT_MS
from replicad.core.messages import WireRecord, seal, unseal
from replicad.core.naming import GroupId, folder_id
from replicad.core.records import Record
from replicad.engine.hierarchy import HierarchyReplica
from replicad.errors import OperatorError, ProtocolError
from replicad.net.identity import Identity, verify
from replicad.net.proof import ANSWER_BYTES_MAX
from replicad.net.refusal import Code, Refused
from replicad.net.token import Invitation, new_invitation
from replicad.net.wire import Session

HIERARCHY_FILE = "hierarchy.db"
INVITATIONS_MAX = 1_000
"""That are not used up and have not expired; more are a script gone wrong."""
RECORDS_MAX = 100_000
"""Of the hierarchy that a joiner is given: what fits into the answer is less."""


def new_replica_id() -> ReplicaId:
    """Random, never 0."""
    return secrets.randbelow(REPLICA_MAX) + 1


def catalog_path(home: Path) -> Path:
    return home / CATALOG_DIRECTORY / HIERARCHY_FILE


def take_first_records(home: Path, records: Sequence[Record], now_ms: int) -> None:
    """Begin this member's hierarchy with what it was given when it joined. Raises CatalogError."""
    catalog = Catalog.open(catalog_path(home), b"", new_replica_id)
    try:
        draft = Draft(catalog)
        absorb_entries(draft, records)
        # The CNs of records, and no set: these records are not all, and in no order (PROTOCOL, section 2).
        draft.learn(CNSet.of(cn for record in records for cn in record.cns()))
        catalog.commit(draft, now_ms=now_ms)
    finally:
        catalog.close()


def reading_of(group: GroupId, records: Sequence[Record]) -> Reading:
    """What these records say by themselves."""
    model = HierarchyModel(group, verify)
    model.apply(records)
    return model.reading()


class _WireInvitation(msgspec.Struct, frozen=True, array_like=True):
    key: bytes
    uses_max: int
    used_by: tuple[MemberId, ...]
    revoked: bool


class Keeper:
    """Implements daemon.driver.Replica. Raises CatalogError where the catalog cannot be used."""

    def __init__(
        self,
        home: Path,
        identity: Identity,
        group: GroupId,
        now_ms: int,
        *,
        offline_limit_ms: int = OFFLINE_LIMIT_MS,
    ) -> None:
        self.catalog = Catalog.open(catalog_path(home), b"", new_replica_id)
        self._identity = identity
        self._group = group
        try:
            self.hierarchy = HierarchyReplica(
                self.catalog,
                identity.member_id,
                group,
                sign=identity.sign,
                verify=verify,
                new_replica=new_replica_id,
                draw=random.SystemRandom().random,
                now_ms=now_ms,
                offline_limit_ms=offline_limit_ms,
            )
        except BaseException:
            self.catalog.close()
            raise

    # -- daemon.driver.Replica

    def start(self, now_ms: int) -> Sequence[Effect]:
        return self.bind(now_ms)

    def handle(self, event: Event, now_ms: int) -> Sequence[Effect]:
        if not isinstance(event, LinkUp | LinkDown | Received | Tick):
            raise AssertionError(f"nothing for the hierarchy: {event}")
        return [*self.hierarchy.handle(event, now_ms), *self.bind(now_ms)]

    def next_due_ms(self) -> int | None:
        return self.hierarchy.next_due_ms()

    def close(self, now_ms: int) -> None:
        try:
            self.hierarchy.close(now_ms)
        finally:
            self.catalog.close()

    # -- beyond what the hierarchy does by itself

    def bind(self, now_ms: int) -> Sequence[Effect]:
        """Once this member is in the group, its replica id is bound to it."""
        if self._identity.member_id not in self.hierarchy.reading().members:
            return ()
        return self.hierarchy.bind_replica(b"", self.hierarchy.replica, now_ms)

    def was_removed(self, name: str) -> bool:
        """Whether the folder of this name was taken out of the group: it is known, and gone."""
        state = self.catalog.object(named_uid(folder_key(folder_id(self._group, name))))
        content = state.record.content if state is not None else None
        return content is not None and content.gone is not None

    def records(self) -> list[WireRecord]:
        """All of the hierarchy, for a joiner; OperatorError where it is more than an answer can hold."""
        held = self.catalog.objects(self.catalog.children(ROOT))
        sealed = [seal(state.record) for state in held]
        size = sum(len(record.place) + len(record.content) + 64 for record in sealed)
        if len(sealed) > RECORDS_MAX or size > ANSWER_BYTES_MAX:
            raise OperatorError("the hierarchy is too large for a joiner")
        return sealed

    def open_session(self, member: MemberId, now_ms: int) -> Session:
        """The next one with this member; durable, so that no number comes twice."""
        key = f"net.session/{member}"
        kept = self.catalog.meta(key)
        session = Session(max(int(kept) + 1 if kept is not None else 1, now_ms), secrets.token_bytes(16))
        self.catalog.commit(None, [SetMeta(key, b"%d" % session.number)], now_ms=now_ms)
        return session

    # -- invitations (net.token.Invitations)

    def invite(self, secret: bytes, expires_ms: int, uses_max: int, now_ms: int) -> Invitation:
        """Make a book for a new token; what has expired is forgotten."""
        known = self.catalog.invitations()
        expired = [RemoveInvitation(row.token_id) for row in known if row.expires_ms <= now_ms]
        if len(known) - len(expired) >= INVITATIONS_MAX:
            raise OperatorError(f"there are {INVITATIONS_MAX} tokens already: revoke some (replicad invite list)")
        invitation = new_invitation(secret, expires_ms, uses_max)
        self.catalog.commit(None, [*expired, PutInvitation(_row(invitation))], now_ms=now_ms)
        return invitation

    def invitations(self, now_ms: int) -> list[Invitation]:
        """Those that can still be used."""
        books = [_invitation(row) for row in self.catalog.invitations() if row.expires_ms > now_ms]
        return [book for book in books if not book.revoked and len(book.used_by) < book.uses_max]

    def find_invitation(self, token_id: bytes) -> Invitation | None:
        row = self.catalog.invitation(token_id)
        return _invitation(row) if row is not None else None

    def take_invitation(self, token_id: bytes, member: MemberId, now_ms: int) -> None:
        """Refused where it cannot be taken (any more)."""
        invitation = self.find_invitation(token_id)
        if invitation is None:
            raise Refused(Code.TOKEN, "the token is not known here any more")
        self.catalog.commit(None, [PutInvitation(_row(invitation.taken(member, now_ms)))], now_ms=now_ms)

    def revoke_invitation(self, prefix: str, now_ms: int) -> str:
        """By the first characters of its id, as `invite list` shows it; the whole id."""
        found = [book for book in self.invitations(now_ms) if prefix and book.token_id.hex().startswith(prefix.lower())]
        if len(found) != 1:
            which = "no token" if not found else f"{len(found)} tokens"
            raise OperatorError(f"{which} with the id {prefix}: see `replicad invite list`")
        revoked = msgspec.structs.replace(_wire(found[0]), revoked=True)
        row = _row(found[0])
        row = msgspec.structs.replace(row, blob=msgspec.msgpack.encode(revoked))
        self.catalog.commit(None, [PutInvitation(row)], now_ms=now_ms)
        return found[0].token_id.hex()


def open_records(sealed: Sequence[WireRecord]) -> list[Record]:
    """Raises ProtocolError."""
    if len(sealed) > RECORDS_MAX:
        raise ProtocolError("the inviter's hierarchy is too long")
    return [unseal(record) for record in sealed]


def _wire(invitation: Invitation) -> _WireInvitation:
    return _WireInvitation(invitation.key, invitation.uses_max, invitation.used_by, invitation.revoked)


def _row(invitation: Invitation) -> InvitationRow:
    # A book that is used up stays until it expires: a joiner whose answer was lost comes again.
    left = max(1, invitation.uses_max - len(invitation.used_by))
    blob = msgspec.msgpack.encode(_wire(invitation))
    return InvitationRow(invitation.token_id, blob, left, invitation.expires_ms)


def _invitation(row: InvitationRow) -> Invitation:
    wire = msgspec.msgpack.decode(row.blob, type=_WireInvitation)
    return Invitation(row.token_id, wire.key, row.expires_ms, wire.uses_max, wire.used_by, wire.revoked)
