"""Brings a database to the newest schema when it is opened.

Safe when several processes start at once: the first takes the database's write lock (SQLite) or
an advisory lock (PostgreSQL), the others wait and then find nothing to do. Everything happens in
one transaction, so a process killed in the middle leaves the schema as it was.

To write a new revision, see the docstring of `env.py`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, text

from bot.errors import StoreFailed
from bot.stores.schema import HEAD, VERSION_TABLE

if TYPE_CHECKING:
    from alembic.config import Config

_ADVISORY_LOCK = 0x667269656E64  # "friend"


def is_current(connection: Connection) -> bool:
    """Whether the schema is the one this code expects; cheap, without Alembic."""
    return _revision(connection) == HEAD


def migrate(connection: Connection, place: str) -> None:
    """Bring the schema to `HEAD` within the connection's transaction.

    Args:
        connection: in a transaction; on SQLite one that holds the write lock already.
        place: names the database in an error.

    Raises:
        StoreFailed: the database was written by a newer friend.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:id)"), {"id": _ADVISORY_LOCK})
    found = _revision(connection)
    if found == HEAD:
        return
    from alembic import command
    from alembic.script import ScriptDirectory

    config = alembic_config(connection)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found is not None and found not in known:
        raise StoreFailed(
            f"{place} was written by a newer version of friend (schema {found}; this one knows "
            f"{HEAD}). Update friend, or point FRIEND_STORE_URL at another history."
        )
    logging.getLogger("alembic").setLevel(logging.WARNING)
    command.upgrade(config, HEAD)


def alembic_config(connection: Connection) -> Config:
    """Alembic's configuration for the scripts in this package, on an open connection."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "bot.stores:migrations")
    config.attributes["connection"] = connection
    return config


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    found = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}"))  # noqa: S608
    return found.scalar_one_or_none()
