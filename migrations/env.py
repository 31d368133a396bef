"""How Alembic reaches a catalog: through the connection that `replicad.catalog.migrating` gives it, and no other.

All pending revisions are one transaction, DDL included (SQLite can), so a migration that is cut off has not begun.
"""

from alembic import context

from replicad.catalog.schema import METADATA

connection = context.config.attributes.get("connection")
if connection is None:
    raise RuntimeError("catalogs are migrated when they are opened; there is no other way")

context.configure(connection=connection, target_metadata=METADATA, transactional_ddl=True, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
