"""Every row carries the sum of its values."""

import msgspec
import sqlalchemy as sa
from alembic import op
from xxhash import xxh3_64_intdigest

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

COLUMNS = {
    "replica": "no, id, member",
    "object": "uid, kind, parent, name, place_replica, place_counter, place_raw, content_replica, content_counter, "
    "content_raw, live, size, present, position, stored_ms, pending_commit, pending_since_ms, kept, node, "
    "base_place_raw, base_content_raw, beneath, beneath_seen, cut_parent, cut_name, group_uid, prior",
    "node": "id, parent, name, kind, inode, size, mtime_ns, ctime_ns, birth_ns, mode, shows_replica, shows_counter",
    "meta": "key, value",
    "series": "member, replica, position, head",
    "peer": "member, status, session, session_mark, next_session, next_session_mark, last_seen_ms, told_session, "
    "told_mark, life",
    "intent": "id, blob",
    "preserved": "id, store, path, kind, size, digest, uid, replica, when_ms, why, stored_name, winner",
    "out": "id, staging_name, blob, due_ms",
    "manifest": "digest, blob, size",
    "invitation": "token_id, blob, uses_left, expires_ms",
}


def row_sum(*values):
    found = xxh3_64_intdigest(msgspec.msgpack.encode(values))
    return found if found < 2**63 else found - 2**64


def upgrade() -> None:
    database = op.get_bind().connection.driver_connection
    database.create_function("row_sum", -1, row_sum, deterministic=True)
    for table, columns in COLUMNS.items():
        op.add_column(table, sa.Column("sum", sa.Integer(), nullable=False, server_default="0"))
        values = [sa.column(name) for name in columns.split(", ")]
        op.get_bind().execute(sa.update(sa.table(table, sa.column("sum"))).values(sum=sa.func.row_sum(*values)))


def downgrade() -> None:
    raise NotImplementedError("a catalog goes forward only: an older program refuses it")
