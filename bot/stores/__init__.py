"""Where conversations are kept: SQLite by default, PostgreSQL when several processes share it."""

from bot.stores.opening import default_url, open_store
from bot.stores.sql import SqlStore

__all__ = ["SqlStore", "default_url", "open_store"]
