"""Bookkeeping beside the objects: series, peers, intents, preserved files, what was lifted out, manifests, invitations.

`apply` writes one change inside the transaction of a commit. `Ledger` reads.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import TypeVar

import msgspec
from sqlalchemy import Table, bindparam, delete, func, literal_column, select, update
from sqlalchemy.dialects.sqlite import insert

from replicad.catalog import changes as c
from replicad.catalog.lookups import Lookups, Parameter, Replicas
from replicad.catalog.prepared import at_most, prepared
from replicad.catalog.rows import SIZE_MAX
from replicad.catalog.schema import INTENT, INVITATION, MANIFEST, OUT, PEER, PRESERVED, SERIES
from replicad.catalog.summary import PUT_META, REMOVE_META, Summary
from replicad.catalog.sums import checked, summed
from replicad.core.ids import MemberId, ReplicaId
from replicad.core.records import FILE

_Stored = TypeVar("_Stored", c.Peer, c.Intent, c.Out, c.Manifest, c.Invitation)


def _columns(table: Table) -> tuple[str, ...]:
    """Those that a value has, and the sum; `no` is the row number where the key is not a number."""
    return tuple(column.name for column in table.c if column.name != "no")


def _put(table: Table, *, key: tuple[str, ...] = ()) -> str:
    """Insert a row; with `key`, in the place of the one that has that key."""
    names = _columns(table)
    statement = insert(table).values({name: bindparam(name) for name in names})
    if key:
        rest = {name: statement.excluded[name] for name in names if name not in key}
        statement = statement.on_conflict_do_update(index_elements=list(key), set_=rest)
    return prepared(statement, *names)


def _remove(table: Table, key: str) -> str:
    return prepared(delete(table).where(table.c[key] == bindparam("key_")), "key_")


def _all(table: Table, *order: str) -> str:
    columns = [table.c[name] for name in _columns(table)]
    return prepared(select(*columns).order_by(*(table.c[name] for name in order)))


def _one(table: Table, key: str) -> str:
    columns = [table.c[name] for name in _columns(table)]
    return prepared(select(*columns).where(table.c[key] == bindparam("key_")), "key_")


_PUT_SERIES = _put(SERIES, key=("member", "replica"))
_PUT_PEER = _put(PEER, key=("member",))
_ADD_INTENT, _CLEAR_INTENT = _put(INTENT), _remove(INTENT, "id")
_ADD_PRESERVED, _REMOVE_PRESERVED = _put(PRESERVED), _remove(PRESERVED, "id")
_SET_PRESERVED_DIGEST = prepared(
    update(PRESERVED)
    .values(digest=bindparam("digest_"), sum=bindparam("sum_"))
    .where(PRESERVED.c.id == bindparam("id_")),
    "digest_",
    "sum_",
    "id_",
)
_ADD_OUT, _REMOVE_OUT = _put(OUT), _remove(OUT, "id")
_PUT_MANIFEST = prepared(
    insert(MANIFEST).values({name: bindparam(name) for name in _columns(MANIFEST)}).on_conflict_do_nothing(),
    *_columns(MANIFEST),
)
_REMOVE_MANIFEST = _remove(MANIFEST, "digest")
_PUT_INVITATION = _put(INVITATION, key=("token_id",))
_REMOVE_INVITATION = _remove(INVITATION, "token_id")

_SERIES_OF = _one(SERIES, "member")
_ALL_PEERS, _ONE_PEER = _all(PEER, "member"), _one(PEER, "member")
_ALL_INTENTS = _all(INTENT, "id")
_ONE_MANIFEST = _one(MANIFEST, "digest")
_ALL_INVITATIONS, _ONE_INVITATION = _all(INVITATION, "token_id"), _one(INVITATION, "token_id")
_PRESERVED = prepared(
    at_most(select(PRESERVED).where(PRESERVED.c.id > bindparam("after_")).order_by(PRESERVED.c.id)),
    "after_",
    "limit_",
)
_ONE_PRESERVED = _one(PRESERVED, "id")
_KEPT = prepared(
    at_most(select(PRESERVED).where(PRESERVED.c.digest == bindparam("digest_")).order_by(PRESERVED.c.id.desc())),
    "digest_",
    "limit_",
)
_PRESERVED_IN = prepared(
    at_most(
        select(PRESERVED)
        .where(PRESERVED.c.store == bindparam("store_"), PRESERVED.c.id > bindparam("after_"))
        .order_by(PRESERVED.c.id)
    ),
    "store_",
    "after_",
    "limit_",
)
_UNDIGESTED = prepared(
    at_most(
        select(PRESERVED)
        .where(
            PRESERVED.c.digest == bindparam("digest_"),
            PRESERVED.c.kind == bindparam("kind_"),
            PRESERVED.c.id > bindparam("after_"),
        )
        .order_by(PRESERVED.c.id)
    ),
    "digest_",
    "kind_",
    "after_",
    "limit_",
)
_PRESERVED_TALLY = prepared(
    select(func.count(), func.coalesce(func.sum(PRESERVED.c.size), literal_column("0"))).where(
        PRESERVED.c.store == bindparam("store_")
    ),
    "store_",
)
_OUTS = prepared(
    at_most(select(OUT).where(OUT.c.due_ms <= bindparam("due_ms_")).order_by(OUT.c.due_ms, OUT.c.id)),
    "due_ms_",
    "limit_",
)


def apply(db: sqlite3.Connection, change: c.Change, summary: Summary, replicas: Replicas, now_ms: int) -> Summary:
    """Write one change; returns the summary, which RenewReplica and SetDigest alter."""
    match change:
        case c.SetSeries(series):
            number = replicas.number(series.replica)
            db.execute(_PUT_SERIES, summed((series.member, number, series.position, series.head)))
        case c.SetPeer(peer):
            db.execute(_PUT_PEER, _row(peer))
        case c.AddIntents(intents):
            db.executemany(_ADD_INTENT, [_row(intent) for intent in intents])
        case c.ClearIntents(ids):
            db.executemany(_CLEAR_INTENT, [(key,) for key in ids])
        case c.AddPreserved(kept):
            writer = None if kept.replica is None else replicas.number(kept.replica)
            winner = None if kept.winner is None else replicas.number(kept.winner)
            row = msgspec.structs.replace(kept, replica=writer, winner=winner, size=min(kept.size, SIZE_MAX))
            db.execute(_ADD_PRESERVED, _row(row))
        case c.SetPreservedDigest(preserved_id, digest):
            _set_preserved_digest(db, preserved_id, digest, replicas.where)
        case c.RemovePreserved(ids):
            db.executemany(_REMOVE_PRESERVED, [(key,) for key in ids])
        case c.AddOut(out):
            db.execute(_ADD_OUT, _row(out))
        case c.RemoveOut(ids):
            db.executemany(_REMOVE_OUT, [(key,) for key in ids])
        case c.PutManifest(manifest):
            db.execute(_PUT_MANIFEST, _row(manifest))
        case c.RemoveManifests(digests):
            db.executemany(_REMOVE_MANIFEST, [(key,) for key in digests])
        case c.SetReplicaOwner(replica, member):
            replicas.set_owner(replica, member)
        case c.SetMeta(key, value):
            _set_meta(db, key, value)
        case c.RenewReplica(replica):
            return _renew(summary, replica, replicas)
        case c.SetDigest(digest):
            return msgspec.structs.replace(summary, digest=digest)
        case c.PutInvitation() | c.TakeInvitation() | c.RemoveInvitation():
            _change_invitation(db, change, now_ms, replicas.where)
    return summary


def _row(value: msgspec.Struct) -> tuple[object, ...]:
    """As it is stored, where the fields are the columns."""
    return summed(msgspec.structs.astuple(value))


def _set_preserved_digest(db: sqlite3.Connection, preserved_id: int, digest: bytes, where: object) -> None:
    row = db.execute(_ONE_PRESERVED, (preserved_id,)).fetchone()
    if row is not None:
        before = c.Preserved(*checked(row, "preserved", where))
        *_, total = _row(msgspec.structs.replace(before, digest=digest))
        db.execute(_SET_PRESERVED_DIGEST, (digest, total, preserved_id))


def _set_meta(db: sqlite3.Connection, key: str, value: bytes | None) -> None:
    assert not key.startswith(c.OWN_META_PREFIX), "an entry that only the catalog itself writes"
    if value is None:
        db.execute(REMOVE_META, (key,))
    else:
        db.execute(PUT_META, summed((key, value)))


def _renew(summary: Summary, replica: ReplicaId, replicas: Replicas) -> Summary:
    """I5: an id that was ever seen here, by whomever, is not taken."""
    assert replicas.number_if_seen(replica) is None, "a replica id that was seen before"
    assert not summary.known.last(replica), "a replica id that was seen before"
    replicas.number(replica)
    return msgspec.structs.replace(summary, replica=replica, counter=0)


def _change_invitation(
    db: sqlite3.Connection,
    change: c.PutInvitation | c.TakeInvitation | c.RemoveInvitation,
    now_ms: int,
    where: object,
) -> None:
    if isinstance(change, c.PutInvitation):
        db.execute(_PUT_INVITATION, _row(change.invitation))
        return
    if isinstance(change, c.TakeInvitation):
        row = db.execute(_ONE_INVITATION, (change.token_id,)).fetchone()
        assert row is not None, "an invitation is taken that is not there"
        found = c.Invitation(*checked(row, "invitation", where))
        assert now_ms < found.expires_ms, "an invitation is taken that has expired"
        if found.uses_left > 1:
            db.execute(_PUT_INVITATION, _row(msgspec.structs.replace(found, uses_left=found.uses_left - 1)))
            return
    db.execute(_REMOVE_INVITATION, (change.token_id,))


class Ledger(Lookups):
    """Reads the bookkeeping. All lists are in the order of their key."""

    def series(self, member: MemberId) -> Sequence[c.Series]:
        """Of each of the member's catalogs that was ever read, by rising replica id."""
        rows = self._rows(_SERIES_OF, member)
        values = (checked(row, "series", self._where) for row in rows)
        found = [c.Series(row[0], self._replicas.replica(row[1]), row[2], row[3]) for row in values]
        return sorted(found, key=lambda series: series.replica)

    def peer(self, member: MemberId) -> c.Peer | None:
        return next(iter(self._values(c.Peer, "peer", _ONE_PEER, member)), None)

    def peers(self) -> Sequence[c.Peer]:
        return self._values(c.Peer, "peer", _ALL_PEERS)

    def intents(self) -> Sequence[c.Intent]:
        return self._values(c.Intent, "intent", _ALL_INTENTS)

    def preserved(self, limit: int, after: int = 0) -> Sequence[c.Preserved]:
        """At most `limit` of those whose id is greater than `after`."""
        return [self._preserved(row) for row in self._rows(_PRESERVED, after, limit)]

    def preserved_in(self, store: str, limit: int, after: int = 0) -> Sequence[c.Preserved]:
        """As `preserved`, of one store."""
        return [self._preserved(row) for row in self._rows(_PRESERVED_IN, store, after, limit)]

    def undigested(self, after: int = 0) -> c.Preserved | None:
        """The first preserved file whose content is not known, of those whose id is greater than `after`."""
        rows = self._rows(_UNDIGESTED, b"", FILE, after, 1)
        return self._preserved(rows[0]) if rows else None

    def preserved_file(self, preserved_id: int) -> c.Preserved | None:
        rows = self._rows(_ONE_PRESERVED, preserved_id)
        return self._preserved(rows[0]) if rows else None

    def kept(self, digest: bytes, limit: int = 8) -> Sequence[c.Preserved]:
        """Preserved files that had this content when they were preserved, in either store, the newest first."""
        return [self._preserved(row) for row in self._rows(_KEPT, digest, limit)]

    def preserved_tally(self, store: str) -> tuple[int, int]:
        """(files, bytes) in one store."""
        (row,) = self._rows(_PRESERVED_TALLY, store)
        return row[0], row[1]

    def outs(self, due_ms: int, limit: int = 1_000) -> Sequence[c.Out]:
        """At most `limit` of those due at `due_ms` or before, the first due first."""
        return self._values(c.Out, "out", _OUTS, due_ms, limit)

    def first_out_ms(self) -> int | None:
        """When the first of `outs` is due; None where there are none."""
        return next((out.due_ms for out in self.outs(2**62, 1)), None)

    def manifest(self, digest: bytes) -> c.Manifest | None:
        return next(iter(self._values(c.Manifest, "manifest", _ONE_MANIFEST, digest)), None)

    def invitation(self, token_id: bytes) -> c.Invitation | None:
        return next(iter(self._values(c.Invitation, "invitation", _ONE_INVITATION, token_id)), None)

    def invitations(self) -> Sequence[c.Invitation]:
        return self._values(c.Invitation, "invitation", _ALL_INVITATIONS)

    def meta(self, key: str) -> bytes | None:
        return self._one_meta(key)

    def replica_owner(self, replica: ReplicaId) -> MemberId | None:
        return self._replicas.owners.get(replica)

    def replicas(self) -> Mapping[ReplicaId, MemberId | None]:
        """Every replica id seen, with its member where that is known."""
        return dict(self._replicas.owners)

    def _values(self, kind: type[_Stored], table: str, sql: str, *parameters: Parameter) -> list[_Stored]:
        """Of a table whose columns are the fields, in their order."""
        return [kind(*checked(row, table, self._where)) for row in self._rows(sql, *parameters)]

    def _preserved(self, row: tuple[object, ...]) -> c.Preserved:
        found = c.Preserved(*checked(row, "preserved", self._where))
        writer = None if found.replica is None else self._replicas.replica(found.replica)
        winner = None if found.winner is None else self._replicas.replica(found.winner)
        return msgspec.structs.replace(found, replica=writer, winner=winner)
