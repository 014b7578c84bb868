"""The tables of the history, and the column types that keep both databases alike.

    conversations   one row a channel, thread or direct message; holds where its window starts,
                    and which process answers there
    turns           what was said; `person_id` says by whom, or for friend's turns, to whom
    turn_messages   the platform's ids of a turn (a long reply is several messages)
    replies         what friend owes, and what became of it
    events          ids of accepted events, so that none is accepted twice

Only `turns` and `replies` hold words, names or addresses; `events` and `conversations` hold ids of
messages and places, never of people.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)

HEAD = "0002"
"""The newest migration; a test holds it to the files in `migrations/versions`."""

VERSION_TABLE = "friend_schema_version"
"""Our own name: a database shared with another program may have an `alembic_version` already."""


class Words(TypeDecorator[str]):
    """Text that both databases can hold.

    PostgreSQL refuses NUL, and neither database takes half a surrogate pair; both can arrive from
    a platform, and one odd character must not cost a message. They become U+FFFD.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Make `value` storable."""
        return None if value is None else storable(value)


def storable(text: str) -> str:
    """`text` with what no database can hold replaced by U+FFFD."""
    if text.isascii() and "\x00" not in text:
        return text
    return "".join(
        "\ufffd" if char == "\x00" or "\ud800" <= char <= "\udfff" else char for char in text
    )


class Moment(TypeDecorator[datetime]):
    """An aware datetime, kept in UTC (SQLite has no time zones)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To UTC, and without a zone for SQLite."""
        if value is None:
            return None
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Back to an aware UTC datetime."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Json(TypeDecorator[Any]):
    """JSON in ASCII, so that any string, NUL and half surrogates included, comes back exactly."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: object, dialect: Dialect) -> str | None:
        """Write JSON."""
        return None if value is None else json.dumps(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> object:
        """Read JSON."""
        return None if value is None else json.loads(value)


_Id = BigInteger().with_variant(Integer(), "sqlite")
"""SQLite numbers rows by itself only in a column of type INTEGER."""

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

conversations = Table(
    "conversations",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("platform", Words, nullable=False),
    Column("space", Words, nullable=False),
    Column("channel", Words, nullable=False),
    Column("thread", Words, nullable=False),
    # The first place (`queries.PLACE`) still in the window; it only grows, by resets and hops.
    Column("window_start", BigInteger, nullable=False),
    Column("active_at", Moment, nullable=False),
    # Whether friend has said anything here, be it only a sentence of its own.
    Column("has_spoken", Boolean, nullable=False),
    # The process that keeps the promises made here (`owners.this_owner`), and until when.
    Column("owner", String(200)),
    Column("owned_until", Moment),
    UniqueConstraint("platform", "space", "channel", "thread"),
    sqlite_autoincrement=True,
)

turns = Table(
    "turns",
    metadata,
    # Never reused (AUTOINCREMENT, a sequence): window_start must not catch a later turn.
    Column("id", _Id, primary_key=True),
    Column("conversation_id", _Id, ForeignKey("conversations.id"), nullable=False),
    Column("role", String(16), nullable=False),
    Column("text", Words, nullable=False),
    Column("person_id", Words),
    Column("person_name", Words),
    # The turn a reply answers. No foreign key: it keeps its place when that turn is erased.
    Column("answers", BigInteger),
    Column("is_dropped", Boolean, nullable=False),
    Column("sent_at", Moment, nullable=False),
    Index(None, "conversation_id", "id"),
    Index(None, "person_id"),
    Index(None, "sent_at"),
    sqlite_autoincrement=True,
)

turn_messages = Table(
    "turn_messages",
    metadata,
    Column("turn_id", _Id, ForeignKey("turns.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("message_id", Words, nullable=False),
    Index(None, "message_id"),
)

replies = Table(
    "replies",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("key", String(64), nullable=False),
    Column("conversation_id", _Id, ForeignKey("conversations.id"), nullable=False),
    # None for a notice, and for the rest of a reply whose message was erased.
    Column("turn_id", _Id, ForeignKey("turns.id", ondelete="CASCADE")),
    Column("author_id", Words, nullable=False),
    Column("author_name", Words, nullable=False),
    Column("address", Json, nullable=False),
    Column("state", String(16), nullable=False),
    Column("parts", Json, nullable=False),
    Column("is_apology", Boolean, nullable=False),
    # Of a burst: the key of the reply that answered this one too.
    Column("carried_by", String(64)),
    Column("created_at", Moment, nullable=False),
    UniqueConstraint("key"),
    Index(None, "conversation_id"),
    Index(None, "turn_id"),
    Index(None, "author_id"),
    Index(None, "state", "id"),
    sqlite_autoincrement=True,
)

events = Table(
    "events",
    metadata,
    Column("platform", Words, primary_key=True),
    Column("event_id", Words, primary_key=True),
    Column("accepted_at", Moment, nullable=False),
    Index(None, "accepted_at"),
)
