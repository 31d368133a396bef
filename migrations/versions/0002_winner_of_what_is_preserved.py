"""Who wrote what took a preserved file off the disk; the oldest of a store; siblings by name."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("preserved", sa.Column("winner", sa.Integer(), nullable=True))
    op.drop_index("object_cut", table_name="object")
    op.create_index(
        "object_cut",
        "object",
        ["cut_parent", "cut_name", "uid"],
        unique=False,
        sqlite_where=sa.text("cut_parent IS NOT NULL"),
    )
    op.create_index("preserved_order", "preserved", ["store", "id"], unique=False)


def downgrade() -> None:
    raise NotImplementedError("a catalog goes forward only: an older program refuses it")
