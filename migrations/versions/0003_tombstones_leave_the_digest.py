"""The digest no longer sums what is gone; tombstones by the time at which they were stored; where moves came from."""

import msgspec
import sqlalchemy as sa
from alembic import op
from xxhash import xxh3_128_intdigest

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "object_gone",
        "object",
        ["stored_ms", "uid"],
        unique=False,
        sqlite_where=sa.text("live = 0 AND content_raw IS NOT NULL"),
    )
    op.add_column("peer", sa.Column("told_session", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("peer", sa.Column("told_mark", sa.LargeBinary(), nullable=False, server_default=sa.text("x''")))
    op.add_column("peer", sa.Column("life", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("object", sa.Column("prior", sa.LargeBinary(), nullable=True))
    op.create_index("object_prior", "object", ["prior"], unique=False, sqlite_where=sa.text("prior IS NOT NULL"))
    moved = []
    for number, parent, raw in op.get_bind().execute(
        sa.text("SELECT no, parent, place_raw FROM object WHERE kind = 2 AND place_raw IS NOT NULL")
    ):
        register = msgspec.msgpack.decode(raw)  # one of a newer version may be shorter
        if len(register) > 7 and register[7] and register[6] not in (b"", parent):
            moved.append({"no": number, "prior": register[6]})
    if moved:
        op.get_bind().execute(sa.text("UPDATE object SET prior = :prior WHERE no = :no"), moved)
    rows = op.get_bind().execute(
        sa.text("SELECT uid, kind, place_raw, content_raw FROM object WHERE live = 1 OR content_raw IS NULL")
    )
    digest = 0
    for uid, kind, place_raw, content_raw in rows:
        for number, raw in ((1, place_raw), (2, content_raw)):
            if raw:
                digest += xxh3_128_intdigest(uid + bytes((number, kind)) + raw)
    op.get_bind().execute(
        sa.text("UPDATE meta SET value = :value WHERE key = 'catalog.digest'"),
        {"value": (digest % 2**128).to_bytes(16, "big")},
    )


def downgrade() -> None:
    raise NotImplementedError("a catalog goes forward only: an older program refuses it")
