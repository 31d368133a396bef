"""`core.view.View` over a connection: one statement a lookup, each served by the index that docs/catalog.md names."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import and_, bindparam, case, func, insert, literal_column, select, tuple_, update

from replicad.catalog.changes import SIBLINGS_META
from replicad.catalog.database import MEND, catalog_error
from replicad.catalog.prepared import (
    among,
    at_most,
    padded,
    padded_pairs,
    prepared,
    prepared_many,
    prepared_pairs,
    wanted_pairs,
)
from replicad.catalog.rows import STORED_COLUMNS, node_value, object_state, signed, stored_node, stored_object
from replicad.catalog.schema import NODE, OBJECT, REPLICA
from replicad.catalog.summary import ONE_META, Summary
from replicad.catalog.sums import checked, summed
from replicad.core.cnset import CNSet
from replicad.core.ids import ROOT, FolderId, MemberId, ReplicaId, Uid
from replicad.core.records import DIRECTORY
from replicad.core.view import ROOT_NODE, Node, NodeId, ObjectState
from replicad.errors import CatalogError

Parameter = bytes | int | str | None

_STATE = select(*(OBJECT.c[name] for name in STORED_COLUMNS))
_ONE_OBJECT = prepared(_STATE.where(OBJECT.c.uid == bindparam("uid_")), "uid_")
_MANY_OBJECTS = prepared_many(_STATE.where(among(OBJECT.c.uid)))
_UIDS = select(OBJECT.c.uid).order_by(OBJECT.c.uid)
_NAMED = prepared(
    _UIDS.where(OBJECT.c.parent == bindparam("parent_"), OBJECT.c.name == bindparam("name_")), "parent_", "name_"
)
_CHILDREN = prepared(_UIDS.where(OBJECT.c.parent == bindparam("parent_")), "parent_")
_PRESENT = OBJECT.c.present == literal_column("1")
# Without an order: for its sake SQLite would go through all children of the parent.
_PRESENT_NAMED = prepared(
    select(OBJECT.c.uid).where(OBJECT.c.parent == bindparam("parent_"), OBJECT.c.name == bindparam("name_"), _PRESENT),
    "parent_",
    "name_",
)
_PRESENT_CHILDREN = prepared(
    at_most(_UIDS.where(OBJECT.c.parent == bindparam("parent_"), _PRESENT)), "parent_", "limit_"
)
_CUT_INTO = prepared(_UIDS.where(OBJECT.c.cut_parent == bindparam("parent_")), "parent_")
_CUT_NAMED = prepared(
    _UIDS.where(OBJECT.c.cut_parent == bindparam("parent_"), OBJECT.c.cut_name == bindparam("name_")),
    "parent_",
    "name_",
)
# A partial index is used only where the statement says the index's own condition.
_CUTS = prepared(_UIDS.where(OBJECT.c.cut_parent.is_not(None)))
_CAME_FROM = prepared(
    at_most(select(OBJECT.c.uid).where(OBJECT.c.prior.is_not(None), OBJECT.c.prior == bindparam("prior_"))),
    "prior_",
    "limit_",
)
_GROUP = prepared(_UIDS.where(OBJECT.c.group_uid == bindparam("group_")), "group_")
_AT_NODE = prepared(_UIDS.where(OBJECT.c.node == bindparam("node_")), "node_")
_BENEATH = prepared(_UIDS.where(OBJECT.c.beneath == bindparam("node_")), "node_")
_PENDING = prepared(
    at_most(
        select(OBJECT.c.uid).where(OBJECT.c.pending_commit.is_not(None)).order_by(OBJECT.c.pending_commit, OBJECT.c.uid)
    ),
    "limit_",
)
_PENDING_BY = prepared(
    at_most(
        select(OBJECT.c.uid)
        .where(OBJECT.c.pending_commit.is_not(None), OBJECT.c.pending_commit <= bindparam("commit_"))
        .order_by(OBJECT.c.pending_commit, OBJECT.c.uid)
    ),
    "commit_",
    "limit_",
)
_PENDING_AFTER = prepared(
    at_most(
        select(OBJECT.c.pending_commit, OBJECT.c.uid)
        .where(
            OBJECT.c.pending_commit.is_not(None),
            tuple_(OBJECT.c.pending_commit, OBJECT.c.uid) > tuple_(bindparam("commit_"), bindparam("uid_")),
        )
        .order_by(OBJECT.c.pending_commit, OBJECT.c.uid)
    ),
    "commit_",
    "uid_",
    "limit_",
)
_LONGEST_PENDING = prepared(
    at_most(
        select(OBJECT.c.pending_since_ms)
        .where(OBJECT.c.pending_commit.is_not(None))
        .order_by(OBJECT.c.pending_commit, OBJECT.c.uid)
    ),
    "limit_",
)
_TOMBSTONES = prepared(
    at_most(
        select(OBJECT.c.stored_ms, OBJECT.c.uid)
        .where(
            OBJECT.c.live == literal_column("0"),
            OBJECT.c.content_raw.is_not(None),
            OBJECT.c.stored_ms <= bindparam("until_"),
            tuple_(OBJECT.c.stored_ms, OBJECT.c.uid) > tuple_(bindparam("stored_"), bindparam("uid_")),
        )
        .order_by(OBJECT.c.stored_ms, OBJECT.c.uid)
    ),
    "until_",
    "stored_",
    "uid_",
    "limit_",
)

# Once in the life of a folder: it reads all that is present. A directory's natural place is the one it was cut to.
_ABOVE = OBJECT.alias("above")
_NATURAL_PARENT = case(
    (OBJECT.c.kind == literal_column(str(DIRECTORY)), func.coalesce(OBJECT.c.cut_parent, OBJECT.c.parent)),
    else_=OBJECT.c.parent,
)
_NATURAL_NAME = case(
    (OBJECT.c.kind == literal_column(str(DIRECTORY)), func.coalesce(OBJECT.c.cut_name, OBJECT.c.name)),
    else_=OBJECT.c.name,
)
_NATURAL = (
    select(
        OBJECT.c.uid,
        func.count(OBJECT.c.uid)
        .over(partition_by=(func.coalesce(_ABOVE.c.group_uid, _NATURAL_PARENT), _NATURAL_NAME))
        .label("wanting"),
    )
    .select_from(OBJECT.outerjoin(_ABOVE, _ABOVE.c.uid == _NATURAL_PARENT))
    .where(_PRESENT)
    .subquery()
)
_CONTESTED = prepared(select(_NATURAL.c.uid).where(_NATURAL.c.wanting > literal_column("1")).order_by(_NATURAL.c.uid))

_NODE = select(NODE)
_ONE_NODE = prepared(_NODE.where(NODE.c.id == bindparam("id_")), "id_")
_NODE_AT = prepared(
    _NODE.where(NODE.c.parent == bindparam("parent_"), NODE.c.name == bindparam("name_")), "parent_", "name_"
)
_NODES_IN = prepared(
    at_most(_NODE.where(NODE.c.parent == bindparam("parent_")).order_by(NODE.c.name)), "parent_", "limit_"
)
_NODES_AFTER = prepared(at_most(_NODE.where(NODE.c.id > bindparam("id_")).order_by(NODE.c.id)), "id_", "limit_")
_BY_INODE = prepared(_NODE.where(NODE.c.inode == bindparam("inode_")).order_by(NODE.c.id), "inode_")

_WANTED = wanted_pairs()
_MANY_PRESENT_NAMED = prepared_pairs(
    select(_WANTED.c.first, _WANTED.c.second, OBJECT.c.uid).select_from(
        _WANTED.join(OBJECT, and_(OBJECT.c.parent == _WANTED.c.first, OBJECT.c.name == _WANTED.c.second, _PRESENT))
    )
)
_MANY_NODES_AT = prepared_pairs(
    _NODE.select_from(_WANTED.join(NODE, and_(NODE.c.parent == _WANTED.c.first, NODE.c.name == _WANTED.c.second)))
)
_MANY_BY_INODE = prepared_many(_NODE.where(among(NODE.c.inode)))
_MANY_AT_NODE = prepared_many(select(OBJECT.c.node, OBJECT.c.uid).where(among(OBJECT.c.node)))
_MANY_BENEATH = prepared_many(select(OBJECT.c.beneath, OBJECT.c.uid).where(among(OBJECT.c.beneath)))

_REPLICAS = prepared(select(REPLICA))
_NEW_REPLICA = prepared(
    insert(REPLICA).values({column.name: bindparam(column.name) for column in REPLICA.c}), *REPLICA.c.keys()
)
_OWNER = prepared(
    update(REPLICA).values(member=bindparam("member_"), sum=bindparam("sum_")).where(REPLICA.c.no == bindparam("no_")),
    "member_",
    "sum_",
    "no_",
)


class Replicas:
    """The replica ids seen, with their short numbers and owners: all of table `replica`, in memory.

    Small: old replica ids are few per member (DESIGN section 3). `number` and `set_owner` write, so they are for the
    transaction of a commit; when that fails, the whole is loaded again.
    """

    def __init__(self, db: sqlite3.Connection, where: object) -> None:
        self._db = db
        self.where = where
        self._numbers: dict[ReplicaId, int] = {}
        self._ids: dict[int, ReplicaId] = {}
        self.owners: dict[ReplicaId, MemberId | None] = {}
        for row in db.execute(_REPLICAS).fetchall():
            no, raw, member = checked(row, "replica", where)
            self._enter(no, int.from_bytes(raw, "big"), member)

    def number(self, replica: ReplicaId) -> int:
        return self._numbers.get(replica) or self._add(replica, None)

    def number_if_seen(self, replica: ReplicaId) -> int | None:
        return self._numbers.get(replica)

    def replica(self, number: int) -> ReplicaId:
        try:
            return self._ids[number]
        except KeyError:
            raise CatalogError(f"the catalog is corrupt: it names a replica that it does not hold: {MEND}") from None

    def set_owner(self, replica: ReplicaId, member: MemberId) -> None:
        no = self._numbers.get(replica)
        if no is None:
            self._add(replica, member)
        elif self.owners[replica] != member:
            *_, total = summed((no, replica.to_bytes(8, "big"), member))
            self._db.execute(_OWNER, (member, total, no))
            self.owners[replica] = member

    def _add(self, replica: ReplicaId, member: MemberId | None) -> int:
        no = len(self._ids) + 1
        self._db.execute(_NEW_REPLICA, summed((no, replica.to_bytes(8, "big"), member)))
        self._enter(no, replica, member)
        return no

    def _enter(self, no: int, replica: ReplicaId, member: MemberId | None) -> None:
        self._numbers[replica] = no
        self._ids[no] = replica
        self.owners[replica] = member


class Lookups:
    """Implements View. Subclasses set `_db`, `_where` (for messages), `_summary` and `_replicas`."""

    _db: sqlite3.Connection
    _where: Path | str
    _summary: Summary
    _replicas: Replicas

    def _rows(self, sql: str, *parameters: Parameter) -> list[tuple[Any, ...]]:
        """All rows, so no statement stays open behind a commit.

        A read transaction is left open: beginning and ending one takes as long as the rest of a lookup.
        """
        try:
            if not self._db.in_transaction:
                self._db.execute("BEGIN")
            return self._db.execute(sql, parameters).fetchall()
        except sqlite3.ProgrammingError:
            raise  # a misuse: our own bug
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise catalog_error(self._where, error) from error

    @property
    def folder(self) -> FolderId:
        return self._summary.folder

    @property
    def replica(self) -> ReplicaId:
        return self._summary.replica

    @property
    def counter(self) -> int:
        return self._summary.counter

    @property
    def known(self) -> CNSet:
        return self._summary.known

    @property
    def digest(self) -> int:
        return self._summary.digest

    @property
    def head(self) -> int:
        return self._summary.head

    @property
    def next_node(self) -> NodeId:
        return self._summary.next_node

    def look_ahead(
        self,
        *,
        names: Iterable[tuple[Uid, bytes]] = (),
        entries: Iterable[tuple[NodeId, bytes]] = (),
        nodes: Iterable[NodeId] = (),
        inodes: Iterable[int] = (),
    ) -> None:
        """Nothing is remembered here."""

    @property
    def siblings(self) -> bool:
        """The policy that the stored tree was made by (`changes.SIBLINGS_META`)."""
        return self._one_meta(SIBLINGS_META) is not None

    def _one_meta(self, key: str) -> bytes | None:
        rows = self._rows(ONE_META, key)
        return checked(rows[0], "meta", self._where)[1] if rows else None

    # -- objects

    def object(self, uid: Uid) -> ObjectState | None:
        rows = self._rows(_ONE_OBJECT, uid)
        return object_state(stored_object(rows[0], self._where)) if rows else None

    def objects(self, uids: Iterable[Uid]) -> Sequence[ObjectState]:
        wanted = sorted(set(uids))
        if len(wanted) == 1:
            found = self.object(wanted[0])
            return () if found is None else (found,)
        rows = [row for sql, keys in padded(_MANY_OBJECTS, wanted) for row in self._rows(sql, *keys)]
        # By uid, the first column; no two are equal.
        return [object_state(stored_object(row, self._where)) for row in sorted(rows)]

    def named(self, parent: Uid, name: bytes) -> Sequence[Uid]:
        return self._uids(_NAMED, parent, name)

    def children(self, parent: Uid) -> Sequence[Uid]:
        return self._uids(_CHILDREN, parent)

    def present_named(self, parent: Uid, name: bytes) -> Sequence[Uid]:
        return sorted(self._uids(_PRESENT_NAMED, parent, name))

    def present_children(self, parent: Uid, limit: int | None = None) -> Sequence[Uid]:
        return self._uids(_PRESENT_CHILDREN, parent, -1 if limit is None else limit)

    def cut_into(self, parent: Uid) -> Sequence[Uid]:
        return self._uids(_CUT_INTO, parent)

    def cut_named(self, parent: Uid, name: bytes) -> Sequence[Uid]:
        return self._uids(_CUT_NAMED, parent, name)

    def cuts(self) -> Sequence[Uid]:
        return self._uids(_CUTS)

    def group_members(self, group: Uid) -> Sequence[Uid]:
        return self._uids(_GROUP, group)

    def contested(self) -> Sequence[Uid]:
        """Every present object of a name that several want, directories of one name among them. Reads everything."""
        return self._uids(_CONTESTED)

    def pending(self, limit: int) -> Sequence[Uid]:
        return self._uids(_PENDING, limit)

    @property
    def commits(self) -> int:
        """How many there were: the number of the last one."""
        return self._summary.commits

    def pending_by(self, commit: int, limit: int) -> Sequence[Uid]:
        """As `pending`, but only of those that have been so since `commit` or longer, without a break."""
        return self._uids(_PENDING_BY, commit, limit)

    def pending_after(self, commit: int, uid: Uid, limit: int) -> Sequence[tuple[int, Uid]]:
        """(since which commit, UID) of at most `limit` pending objects beyond this place in the order of `pending`.

        What becomes pending later comes later: a walk from (0, b"") on misses nothing, and goes on where it ended.
        """
        return [(row[0], row[1]) for row in self._rows(_PENDING_AFTER, commit, uid, limit)]

    def came_from(self, directory: Uid) -> bool:
        """Whether some directory, wherever it is now, would go back into this one if its move were cut."""
        return bool(self._uids(_CAME_FROM, directory, 1))

    def tombstones(self, until_ms: int, after: tuple[int, Uid], limit: int) -> Sequence[tuple[int, Uid]]:
        """(when it was stored, UID) of at most `limit` objects that are gone, stored at `until_ms` or before, beyond
        `after` in that order. The clock that stored them may have been another one."""
        return [(row[0], row[1]) for row in self._rows(_TOMBSTONES, until_ms, *after, limit)]

    def first_tombstone_ms(self) -> int | None:
        """When the first of `tombstones` was stored; None where there are none."""
        rows = self.tombstones(2**62, (-1, b""), 1)
        return rows[0][0] if rows else None

    def longest_pending_ms(self) -> int | None:
        """Since when the object waits that became pending first; None where none waits."""
        rows = self._rows(_LONGEST_PENDING, 1)
        return rows[0][0] if rows else None

    def uids_at(self, node: NodeId) -> Sequence[Uid]:
        return (ROOT,) if node == ROOT_NODE else self._uids(_AT_NODE, node)

    def hidden_at(self, node: NodeId) -> Sequence[Uid]:
        return self._uids(_BENEATH, node)

    def _uids(self, sql: str, *parameters: Parameter) -> Sequence[Uid]:
        return [row[0] for row in self._rows(sql, *parameters)]

    # -- entries of the disk

    def node(self, node: NodeId) -> Node | None:
        return self._one_node(_ONE_NODE, node)

    def node_at(self, parent: NodeId, name: bytes) -> Node | None:
        return self._one_node(_NODE_AT, parent, name)

    def nodes_in(self, parent: NodeId, limit: int | None = None) -> Sequence[Node]:
        return self._nodes(_NODES_IN, parent, -1 if limit is None else limit)

    def nodes_after(self, node: NodeId, limit: int) -> Sequence[Node]:
        """The next ones by number, wherever they are: a walk from 0 on meets each."""
        return self._nodes(_NODES_AFTER, node, limit)

    def node_by_inode(self, inode: int) -> Sequence[Node]:
        return self._nodes(_BY_INODE, signed(inode))

    def _one_node(self, sql: str, *parameters: Parameter) -> Node | None:
        rows = self._rows(sql, *parameters)
        return self._node_value(rows[0]) if rows else None

    def _nodes(self, sql: str, *parameters: Parameter) -> Sequence[Node]:
        return [self._node_value(row) for row in self._rows(sql, *parameters)]

    def _node_value(self, row: tuple[Any, ...]) -> Node:
        return node_value(stored_node(row, self._where), self._replicas)

    # -- for many keys at once, what is found; for `look_ahead`

    def _many_present_named(self, keys: Sequence[tuple[Uid, bytes]]) -> Iterator[tuple[tuple[Uid, bytes], Uid]]:
        for row in padded_pairs(keys):
            yield from (((parent, name), uid) for parent, name, uid in self._rows(_MANY_PRESENT_NAMED, *row))

    def _many_nodes_at(self, keys: Sequence[tuple[NodeId, bytes]]) -> Iterator[Node]:
        for row in padded_pairs(keys):
            yield from self._nodes(_MANY_NODES_AT, *row)

    def _many_by_inode(self, inodes: Sequence[int]) -> Iterator[Node]:
        for sql, row in padded(_MANY_BY_INODE, [signed(inode) for inode in inodes]):
            yield from self._nodes(sql, *row)

    def _many_at_node(self, nodes: Sequence[NodeId]) -> Iterator[tuple[NodeId, Uid]]:
        for sql, row in padded(_MANY_AT_NODE, nodes):
            yield from self._rows(sql, *row)

    def _many_beneath(self, nodes: Sequence[NodeId]) -> Iterator[tuple[NodeId, Uid]]:
        for sql, row in padded(_MANY_BENEATH, nodes):
            yield from self._rows(sql, *row)
