"""The first schema.

Revision ID: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "conversations",
        sa.Column("id", _ID, nullable=False),
        sa.Column("platform", sa.Text(), nullable=False),
        sa.Column("space", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("thread", sa.Text(), nullable=False),
        sa.Column("window_start", sa.BigInteger(), nullable=False),
        sa.Column("active_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_conversations"),
        sa.UniqueConstraint(
            "platform",
            "space",
            "channel",
            "thread",
            name="uq_conversations_platform_space_channel_thread",
        ),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "turns",
        sa.Column("id", _ID, nullable=False),
        sa.Column("conversation_id", _ID, nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("person_id", sa.Text(), nullable=True),
        sa.Column("person_name", sa.Text(), nullable=True),
        sa.Column("answers", sa.BigInteger(), nullable=True),
        sa.Column("is_dropped", sa.Boolean(), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_turns"),
        sa.ForeignKeyConstraint(
            ["conversation_id"],
            ["conversations.id"],
            name="fk_turns_conversation_id_conversations",
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_turns_conversation_id_id", "turns", ["conversation_id", "id"])
    op.create_index("ix_turns_person_id", "turns", ["person_id"])
    op.create_index("ix_turns_sent_at", "turns", ["sent_at"])
    op.create_table(
        "turn_messages",
        sa.Column("turn_id", _ID, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("turn_id", "position", name="pk_turn_messages"),
        sa.ForeignKeyConstraint(
            ["turn_id"],
            ["turns.id"],
            name="fk_turn_messages_turn_id_turns",
            ondelete="CASCADE",
        ),
    )
    op.create_index("ix_turn_messages_message_id", "turn_messages", ["message_id"])
    op.create_table(
        "replies",
        sa.Column("id", _ID, nullable=False),
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("conversation_id", _ID, nullable=False),
        sa.Column("turn_id", _ID, nullable=False),
        sa.Column("author_id", sa.Text(), nullable=False),
        sa.Column("author_name", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("parts", sa.Text(), nullable=False),
        sa.Column("is_apology", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_replies"),
        sa.UniqueConstraint("key", name="uq_replies_key"),
        sa.ForeignKeyConstraint(
            ["conversation_id"],
            ["conversations.id"],
            name="fk_replies_conversation_id_conversations",
        ),
        sa.ForeignKeyConstraint(
            ["turn_id"],
            ["turns.id"],
            name="fk_replies_turn_id_turns",
            ondelete="CASCADE",
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_replies_conversation_id", "replies", ["conversation_id"])
    op.create_index("ix_replies_turn_id", "replies", ["turn_id"])
    op.create_index("ix_replies_author_id", "replies", ["author_id"])
    op.create_index("ix_replies_state_id", "replies", ["state", "id"])
    op.create_table(
        "events",
        sa.Column("platform", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("accepted_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("platform", "event_id", name="pk_events"),
    )
    op.create_index("ix_events_accepted_at", "events", ["accepted_at"])


def downgrade() -> None:
    for table in ("events", "replies", "turn_messages", "turns", "conversations"):
        op.drop_table(table)
