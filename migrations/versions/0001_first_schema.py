"""The first schema.

A revision is history: it imports nothing from replicad, and is never changed once it has been in a release.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "intent",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("blob", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "invitation",
        sa.Column("no", sa.Integer(), nullable=False),
        sa.Column("token_id", sa.LargeBinary(), nullable=False),
        sa.Column("blob", sa.LargeBinary(), nullable=False),
        sa.Column("uses_left", sa.Integer(), nullable=False),
        sa.Column("expires_ms", sa.Integer(), nullable=False),
        sa.CheckConstraint("uses_left > 0", name=op.f("invitation_uses_left")),
        sa.PrimaryKeyConstraint("no"),
        sa.UniqueConstraint("token_id", name=op.f("invitation_token_id")),
    )
    op.create_table(
        "manifest",
        sa.Column("no", sa.Integer(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("blob", sa.LargeBinary(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("no"),
        sa.UniqueConstraint("digest", name=op.f("manifest_digest")),
    )
    op.create_table(
        "meta",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "node",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("parent", sa.Integer(), nullable=False),
        sa.Column("name", sa.LargeBinary(), nullable=False),
        sa.Column("kind", sa.Integer(), nullable=False),
        sa.Column("inode", sa.Integer(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("mtime_ns", sa.Integer(), nullable=False),
        sa.Column("ctime_ns", sa.Integer(), nullable=False),
        sa.Column("birth_ns", sa.Integer(), nullable=False),
        sa.Column("mode", sa.Integer(), nullable=False),
        sa.Column("shows_replica", sa.Integer(), nullable=True),
        sa.Column("shows_counter", sa.Integer(), nullable=True),
        sa.CheckConstraint("(shows_replica IS NULL) = (shows_counter IS NULL)", name=op.f("node_shows_whole")),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("node_inode", "node", ["inode"], unique=False)
    op.create_index("node_name", "node", ["parent", "name"], unique=True)
    op.create_table(
        "object",
        sa.Column("no", sa.Integer(), nullable=False),
        sa.Column("uid", sa.LargeBinary(), nullable=False),
        sa.Column("kind", sa.Integer(), nullable=False),
        sa.Column("parent", sa.LargeBinary(), nullable=True),
        sa.Column("name", sa.LargeBinary(), nullable=True),
        sa.Column("place_replica", sa.Integer(), nullable=True),
        sa.Column("place_counter", sa.Integer(), nullable=True),
        sa.Column("place_raw", sa.LargeBinary(), nullable=True),
        sa.Column("content_replica", sa.Integer(), nullable=True),
        sa.Column("content_counter", sa.Integer(), nullable=True),
        sa.Column("content_raw", sa.LargeBinary(), nullable=True),
        sa.Column("live", sa.Integer(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("present", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("stored_ms", sa.Integer(), nullable=False),
        sa.Column("pending_commit", sa.Integer(), nullable=True),
        sa.Column("pending_since_ms", sa.Integer(), nullable=True),
        sa.Column("kept", sa.Integer(), nullable=False),
        sa.Column("node", sa.Integer(), nullable=True),
        sa.Column("base_place_raw", sa.LargeBinary(), nullable=True),
        sa.Column("base_content_raw", sa.LargeBinary(), nullable=True),
        sa.Column("beneath", sa.Integer(), nullable=True),
        sa.Column("beneath_seen", sa.LargeBinary(), nullable=True),
        sa.Column("cut_parent", sa.LargeBinary(), nullable=True),
        sa.Column("cut_name", sa.LargeBinary(), nullable=True),
        sa.Column("group_uid", sa.LargeBinary(), nullable=True),
        sa.CheckConstraint("(beneath IS NULL) = (beneath_seen IS NULL)", name=op.f("object_beneath_whole")),
        sa.CheckConstraint("(content_raw IS NULL) = (content_counter IS NULL)", name=op.f("object_content_whole")),
        sa.CheckConstraint("(cut_parent IS NULL) = (cut_name IS NULL)", name=op.f("object_cut_whole")),
        sa.CheckConstraint("(pending_commit IS NULL) = (pending_since_ms IS NULL)", name=op.f("object_pending_whole")),
        sa.CheckConstraint("(place_raw IS NULL) = (place_counter IS NULL)", name=op.f("object_place_whole")),
        sa.CheckConstraint("length(uid) IN (16, 20)", name=op.f("object_uid_length")),
        sa.CheckConstraint("live IN (0, 1) AND kept IN (0, 1) AND present IN (0, 1)", name=op.f("object_flags")),
        sa.CheckConstraint("place_raw IS NOT NULL OR content_raw IS NOT NULL", name=op.f("object_has_a_register")),
        sa.CheckConstraint("position > 0", name=op.f("object_position_from_1")),
        sa.CheckConstraint("size >= 0 AND (live OR size = 0)", name=op.f("object_size_of_live")),
        sa.PrimaryKeyConstraint("no"),
        sa.UniqueConstraint("uid", name=op.f("object_uid")),
    )
    op.create_index("object_beneath", "object", ["beneath"], unique=False, sqlite_where=sa.text("beneath IS NOT NULL"))
    op.create_index("object_child", "object", ["parent", "uid"], unique=False, sqlite_where=sa.text("present = 1"))
    op.create_index("object_content_cn", "object", ["content_replica", "content_counter"], unique=False)
    op.create_index(
        "object_cut", "object", ["cut_parent", "uid"], unique=False, sqlite_where=sa.text("cut_parent IS NOT NULL")
    )
    op.create_index(
        "object_group", "object", ["group_uid"], unique=False, sqlite_where=sa.text("group_uid IS NOT NULL")
    )
    op.create_index("object_node", "object", ["node"], unique=False, sqlite_where=sa.text("node IS NOT NULL"))
    op.create_index(
        "object_pending",
        "object",
        ["pending_commit", "uid"],
        unique=False,
        sqlite_where=sa.text("pending_commit IS NOT NULL"),
    )
    op.create_index("object_place", "object", ["parent", "name", "present"], unique=False)
    op.create_index("object_place_cn", "object", ["place_replica", "place_counter"], unique=False)
    op.create_index("object_position", "object", ["position"], unique=True)
    op.create_table(
        "out",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("staging_name", sa.LargeBinary(), nullable=False),
        sa.Column("blob", sa.LargeBinary(), nullable=False),
        sa.Column("due_ms", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("staging_name", name=op.f("out_staging_name")),
    )
    op.create_index("out_due", "out", ["due_ms"], unique=False)
    op.create_table(
        "peer",
        sa.Column("member", sa.Text(), nullable=False),
        sa.Column("status", sa.LargeBinary(), nullable=False),
        sa.Column("session", sa.Integer(), nullable=False),
        sa.Column("session_mark", sa.LargeBinary(), nullable=False),
        sa.Column("next_session", sa.Integer(), nullable=False),
        sa.Column("next_session_mark", sa.LargeBinary(), nullable=False),
        sa.Column("last_seen_ms", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("member"),
    )
    op.create_table(
        "preserved",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("store", sa.Text(), nullable=False),
        sa.Column("path", sa.LargeBinary(), nullable=False),
        sa.Column("kind", sa.Integer(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("uid", sa.LargeBinary(), nullable=True),
        sa.Column("replica", sa.Integer(), nullable=True),
        sa.Column("when_ms", sa.Integer(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("stored_name", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("store IN ('ConflictAndDeleted', 'PreExisting')", name=op.f("preserved_store_known")),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("preserved_digest", "preserved", ["digest"], unique=False)
    op.create_index("preserved_store", "preserved", ["store", "size"], unique=False)
    op.create_table(
        "replica",
        sa.Column("no", sa.Integer(), nullable=False),
        sa.Column("id", sa.LargeBinary(), nullable=False),
        sa.Column("member", sa.Text(), nullable=True),
        sa.CheckConstraint("length(id) = 8", name=op.f("replica_id_is_64_bits")),
        sa.PrimaryKeyConstraint("no"),
        sa.UniqueConstraint("id", name=op.f("replica_id")),
    )
    op.create_table(
        "series",
        sa.Column("member", sa.Text(), nullable=False),
        sa.Column("replica", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("head", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("member", "replica"),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    raise NotImplementedError("a catalog goes forward only: an older program refuses it")
