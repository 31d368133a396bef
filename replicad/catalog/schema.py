"""The tables of a catalog. docs/catalog.md says what each column means and which rules hold between them.

Statements are written with these tables and compiled once (`catalog.prepared`). The file itself is made by the
revisions in `migrations/`; a test shows that both ways give the same schema.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    CheckConstraint,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

METADATA: Final = MetaData(
    naming_convention={"uq": "%(table_name)s_%(column_0_N_name)s", "ck": "%(table_name)s_%(constraint_name)s"}
)


def _sum() -> Column[int]:
    """The last column of every table: catalog.sums."""
    return Column("sum", Integer, nullable=False, server_default="0")


REPLICA = Table(
    "replica",
    METADATA,
    Column("no", Integer, primary_key=True),
    Column("id", LargeBinary, nullable=False),  # 8 bytes, big-endian: an unsigned 64-bit number does not fit INTEGER
    Column("member", Text),  # NULL: whose it is is not known yet
    _sum(),
    UniqueConstraint("id"),
    CheckConstraint("length(id) = 8", name="id_is_64_bits"),
)

OBJECT = Table(
    "object",
    METADATA,
    Column("no", Integer, primary_key=True),
    Column("uid", LargeBinary, nullable=False),
    Column("kind", Integer, nullable=False),
    # The place register, as received, and what is looked up of it.
    Column("parent", LargeBinary),
    Column("name", LargeBinary),
    Column("place_replica", Integer),  # replica.no
    Column("place_counter", Integer),
    Column("place_raw", LargeBinary),  # NULL: not known (rule 10)
    # The content register.
    Column("content_replica", Integer),  # replica.no
    Column("content_counter", Integer),
    Column("content_raw", LargeBinary),  # NULL: not known (rule 10)
    Column("live", Integer, nullable=False),
    Column("size", Integer, nullable=False),  # 0 unless live
    Column("present", Integer, nullable=False),  # ObjectState.present
    # When it was stored: in which order, and by this member's clock.
    Column("position", Integer, nullable=False),
    Column("stored_ms", Integer, nullable=False),
    # Since when the disk is not as the tree wants it: commit and time; NULL: it is.
    Column("pending_commit", Integer),
    Column("pending_since_ms", Integer),
    Column("kept", Integer, nullable=False),
    # Where it is on the disk. What follows is NULL for most objects (rows.PLAIN_COLUMNS): the registers as installed
    # there where they are not the object's own, and the tree's decisions about it.
    Column("node", Integer),
    Column("base_place_raw", LargeBinary),
    Column("base_content_raw", LargeBinary),
    Column("beneath", Integer),  # node.id of the winner
    Column("beneath_seen", LargeBinary),  # msgpack (time_ms, replica id)
    Column("cut_parent", LargeBinary),  # effective (parent, name) of a move that is cut out of a cycle
    Column("cut_name", LargeBinary),
    Column("group_uid", LargeBinary),
    Column("prior", LargeBinary),  # of a directory that was moved: the directory before, where the record names it
    _sum(),
    UniqueConstraint("uid"),
    CheckConstraint("length(uid) IN (16, 20)", name="uid_length"),
    CheckConstraint("place_raw IS NOT NULL OR content_raw IS NOT NULL", name="has_a_register"),
    CheckConstraint("(place_raw IS NULL) = (place_counter IS NULL)", name="place_whole"),
    CheckConstraint("(content_raw IS NULL) = (content_counter IS NULL)", name="content_whole"),
    CheckConstraint("live IN (0, 1) AND kept IN (0, 1) AND present IN (0, 1)", name="flags"),
    CheckConstraint("size >= 0 AND (live OR size = 0)", name="size_of_live"),
    CheckConstraint("position > 0", name="position_from_1"),
    CheckConstraint("(pending_commit IS NULL) = (pending_since_ms IS NULL)", name="pending_whole"),
    CheckConstraint("(cut_parent IS NULL) = (cut_name IS NULL)", name="cut_whole"),
    CheckConstraint("(beneath IS NULL) = (beneath_seen IS NULL)", name="beneath_whole"),
)

# Objects at a name, and those of them that are present, however many are not; children of a directory.
Index("object_place", OBJECT.c.parent, OBJECT.c.name, OBJECT.c.present)
# The first children that are present, however many are not.
Index("object_child", OBJECT.c.parent, OBJECT.c.uid, sqlite_where=text("present = 1"))
# Objects having a CN in a set.
Index("object_place_cn", OBJECT.c.place_replica, OBJECT.c.place_counter)
Index("object_content_cn", OBJECT.c.content_replica, OBJECT.c.content_counter)
# Pages, in the order of storing.
Index("object_position", OBJECT.c.position, unique=True)
# What waits for the disk, the longest waiting first. Not by time: clocks step back, and commits share a millisecond.
Index("object_pending", OBJECT.c.pending_commit, OBJECT.c.uid, sqlite_where=text("pending_commit IS NOT NULL"))
# The objects of an entry of the disk; those hidden beneath it.
Index("object_node", OBJECT.c.node, sqlite_where=text("node IS NOT NULL"))
Index("object_beneath", OBJECT.c.beneath, sqlite_where=text("beneath IS NOT NULL"))
# Tombstones, those stored first first: what may be collected.
Index(
    "object_gone",
    OBJECT.c.stored_ms,
    OBJECT.c.uid,
    sqlite_where=text("live = 0 AND content_raw IS NOT NULL"),
)
# Directories that a cut would send back into this one.
Index("object_prior", OBJECT.c.prior, sqlite_where=text("prior IS NOT NULL"))
# All that are cut, and those cut into a directory, by name: siblings may be many. All of one group.
Index("object_cut", OBJECT.c.cut_parent, OBJECT.c.cut_name, OBJECT.c.uid, sqlite_where=text("cut_parent IS NOT NULL"))
Index("object_group", OBJECT.c.group_uid, sqlite_where=text("group_uid IS NOT NULL"))

NODE = Table(
    "node",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("parent", Integer, nullable=False),
    Column("name", LargeBinary, nullable=False),
    Column("kind", Integer, nullable=False),
    Column("inode", Integer, nullable=False),  # the signed number of the same 64 bits
    Column("size", Integer, nullable=False),
    Column("mtime_ns", Integer, nullable=False),
    Column("ctime_ns", Integer, nullable=False),
    Column("birth_ns", Integer, nullable=False),
    Column("mode", Integer, nullable=False),
    Column("shows_replica", Integer),  # replica.no
    Column("shows_counter", Integer),
    _sum(),
    CheckConstraint("(shows_replica IS NULL) = (shows_counter IS NULL)", name="shows_whole"),
)

# An entry by name; a directory's entries in order of name.
Index("node_name", NODE.c.parent, NODE.c.name, unique=True)
# Who has this inode number.
Index("node_inode", NODE.c.inode)

META = Table(
    "meta",
    METADATA,
    Column("key", Text, primary_key=True, nullable=False),
    Column("value", LargeBinary, nullable=False),
    _sum(),
    sqlite_with_rowid=False,
)

SERIES = Table(
    "series",
    METADATA,
    Column("member", Text, primary_key=True, nullable=False),
    Column("replica", Integer, primary_key=True, nullable=False),  # replica.no of the peer's catalog
    Column("position", Integer, nullable=False),  # w: read so far
    Column("head", Integer, nullable=False),  # the highest head taken
    _sum(),
    sqlite_with_rowid=False,
)

PEER = Table(
    "peer",
    METADATA,
    Column("member", Text, primary_key=True, nullable=False),
    Column("status", LargeBinary, nullable=False),  # empty: none heard yet
    Column("session", Integer, nullable=False),  # 0: none confirmed yet
    Column("session_mark", LargeBinary, nullable=False),
    Column("next_session", Integer, nullable=False),  # 0: none offered
    Column("next_session_mark", LargeBinary, nullable=False),
    Column("last_seen_ms", Integer),  # NULL: never
    Column("told_session", Integer, nullable=False, server_default="0"),  # 0: it has taken note of no run of ours
    Column("told_mark", LargeBinary, nullable=False, server_default=text("x''")),
    Column("life", Integer, nullable=False, server_default="0"),  # of its catalog
    _sum(),
)

INTENT = Table(
    "intent",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("blob", LargeBinary, nullable=False),
    _sum(),
)

PRESERVED = Table(
    "preserved",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("store", Text, nullable=False),
    Column("path", LargeBinary, nullable=False),
    Column("kind", Integer, nullable=False),
    Column("size", Integer, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("uid", LargeBinary),  # NULL: it was no object
    Column("replica", Integer),  # replica.no; NULL: not known
    Column("when_ms", Integer, nullable=False),
    Column("why", Text, nullable=False),
    Column("stored_name", LargeBinary, nullable=False),
    Column("winner", Integer),  # replica.no; NULL: not known
    _sum(),
    CheckConstraint("store IN ('ConflictAndDeleted', 'PreExisting')", name="store_known"),
)

# How many files and bytes a store holds.
Index("preserved_store", PRESERVED.c.store, PRESERVED.c.size)
# The oldest of a store.
Index("preserved_order", PRESERVED.c.store, PRESERVED.c.id)
# Where a content is kept that is wanted again.
Index("preserved_digest", PRESERVED.c.digest)

OUT = Table(
    "out",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("staging_name", LargeBinary, nullable=False),
    Column("blob", LargeBinary, nullable=False),
    Column("due_ms", Integer, nullable=False),
    _sum(),
    UniqueConstraint("staging_name"),
)

# Those due.
Index("out_due", OUT.c.due_ms)

MANIFEST = Table(
    "manifest",
    METADATA,
    Column("no", Integer, primary_key=True),
    Column("digest", LargeBinary, nullable=False),
    Column("blob", LargeBinary, nullable=False),
    Column("size", Integer, nullable=False),  # of the file
    _sum(),
    UniqueConstraint("digest"),
)

INVITATION = Table(
    "invitation",
    METADATA,
    Column("no", Integer, primary_key=True),
    Column("token_id", LargeBinary, nullable=False),
    Column("blob", LargeBinary, nullable=False),
    Column("uses_left", Integer, nullable=False),
    Column("expires_ms", Integer, nullable=False),
    _sum(),
    UniqueConstraint("token_id"),
    CheckConstraint("uses_left > 0", name="uses_left"),
)
