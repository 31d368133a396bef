"""Who wrote what took a preserved file off the disk; the oldest of a store."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("preserved", sa.Column("winner", sa.Integer(), nullable=True))
    op.create_index("preserved_order", "preserved", ["store", "id"], unique=False)


def downgrade() -> None:
    raise NotImplementedError("a catalog goes forward only: an older program refuses it")
