"""${message}.

A revision is history: it imports nothing from replicad, and is never changed once it has been in a release. A new one
changes NEWEST in this directory too.
"""

import sqlalchemy as sa
from alembic import op
${imports if imports else ""}
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    raise NotImplementedError("a catalog goes forward only: an older program refuses it")
