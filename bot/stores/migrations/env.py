"""Alembic's entry: runs the revisions on the connection that `migrations.migrate` hands it.

A new revision is `versions/NNNN_what_changes.py`; write it by hand or start from Alembic's
autogenerate, set `bot.stores.schema.HEAD`, and the tests check that both agree with the tables.
"""

from __future__ import annotations

from alembic import context

from bot.stores.schema import VERSION_TABLE, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    render_as_batch=True,  # SQLite changes a table by copying it
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
