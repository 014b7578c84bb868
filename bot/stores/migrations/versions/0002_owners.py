"""One owner a conversation; sentences of friend's own are promises too.

Revision ID: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_KEEP_NUMBERING = {"sqlite_autoincrement": True}


def upgrade() -> None:
    op.add_column("conversations", sa.Column("owner", sa.String(200), nullable=True))
    op.add_column(
        "conversations", sa.Column("owned_until", sa.DateTime(timezone=True), nullable=True)
    )
    op.add_column(
        "conversations",
        sa.Column("has_spoken", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
    op.execute(
        "UPDATE conversations SET has_spoken = (1 = 1) WHERE id IN "
        "(SELECT conversation_id FROM turns WHERE role = 'assistant')"
    )
    with op.batch_alter_table("replies", table_kwargs=_KEEP_NUMBERING) as table:
        table.alter_column("turn_id", existing_type=_ID, nullable=True)
        table.add_column(sa.Column("carried_by", sa.String(64), nullable=True))


def downgrade() -> None:
    op.execute("DELETE FROM replies WHERE turn_id IS NULL")
    with op.batch_alter_table("replies", table_kwargs=_KEEP_NUMBERING) as table:
        table.drop_column("carried_by")
        table.alter_column("turn_id", existing_type=_ID, nullable=False)
    for column in ("has_spoken", "owned_until", "owner"):
        op.drop_column("conversations", column)
