"""Opens a history: from its address to a store whose schema is current."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, AsyncAdaptedQueuePool, event, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from bot.errors import StoreFailed
from bot.stores.failures import explain, place
from bot.stores.migrations import is_current, migrate
from bot.stores.owners import this_owner
from bot.stores.sql import SqlStore
from bot.stores.transactions import Database, begin

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE_SECONDS = 10.0
"""How long a transaction waits for another program's lock, or for a server to come back."""

_DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
}


def _now() -> datetime:
    return datetime.now(UTC)


def default_url() -> str:
    """Address of the history in the user's data folder, which is made if need be.

    `$XDG_DATA_HOME/friend` or `~/.local/share/friend` (XDG base directory specification); on macOS
    `~/Library/Application Support/friend`.

    Raises:
        StoreFailed: the folder cannot be made.
    """
    folder: Path | None = None
    try:
        folder = _data_folder()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except (OSError, RuntimeError) as error:
        raise StoreFailed(
            f"The folder for friend's history{f' {folder}' if folder else ''} cannot be made "
            f"({getattr(error, 'strerror', None) or error}). "
            "Set FRIEND_STORE_URL to a place that can be written."
        ) from error
    path = folder / "history.sqlite3"
    return URL.create("sqlite+aiosqlite", database=str(path)).render_as_string()


def _data_folder() -> Path:
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "friend"
    configured = os.environ.get("XDG_DATA_HOME", "")
    base = Path(configured) if configured else Path.home() / ".local" / "share"
    return (base if base.is_absolute() else Path.home() / ".local" / "share") / "friend"


async def open_store(
    url: str, *, patience_seconds: float = PATIENCE_SECONDS, clock: Callable[[], datetime] = _now
) -> SqlStore:
    """Open the history at an SQLAlchemy URL and bring its schema up to date.

    Args:
        url: `sqlite+aiosqlite:///...` or `postgresql+asyncpg://...`; without the driver's name
            too. The folder of an SQLite file is made if need be.
        patience_seconds: longest wait for another program's lock, or for a server to come back.
        clock: gives aware datetimes.

    Raises:
        StoreFailed: the address, the file or the server is no good, or the history was written by
            a newer friend.
    """
    address = _address(url)
    await asyncio.to_thread(_touch, address)
    make_engine = _sqlite if address.get_backend_name() == "sqlite" else _postgresql
    engine = make_engine(address, patience_seconds)
    database = Database(engine, address, patience_seconds=patience_seconds)

    async def upgrade(connection: AsyncConnection) -> None:
        await connection.run_sync(migrate, place(address))

    try:
        if not await database.read(_is_current):
            await database.write(upgrade)
    except BaseException:
        await database.close()
        raise
    return SqlStore(database, clock, this_owner())


async def _is_current(connection: AsyncConnection) -> bool:
    return await connection.run_sync(is_current)


def _address(text: str) -> URL:
    try:
        url = make_url(text)
        driver = _DRIVERS[url.drivername]
    except (ArgumentError, KeyError):
        raise StoreFailed(
            "FRIEND_STORE_URL is not an address friend can use. Write "
            "sqlite+aiosqlite:///path/to/history.sqlite3 or "
            "postgresql+asyncpg://user:password@host/database."
        ) from None
    url = url.set(drivername=driver)
    if url.get_backend_name() == "sqlite" and url.database and url.database != ":memory:":
        path = Path(url.database).expanduser()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreFailed(
                f"The folder of the history file {path} cannot be made ({error.strerror}). "
                "Point FRIEND_STORE_URL at a place that can be written."
            ) from error
        url = url.set(database=str(path))
    return url


def _touch(url: URL) -> None:
    """Find out in a simple way whether an SQLite file can be opened; a new one is private.

    The asynchronous driver leaves a thread behind when it cannot open a file. SQLite itself opens
    and closes it here: another descriptor, closed, would drop the locks of this whole process.
    """
    if url.get_backend_name() != "sqlite" or url.database in {None, "", ":memory:"} or url.query:
        return
    path = Path(str(url.database))
    is_new = not path.exists()
    try:
        sqlite3.connect(path).close()
        if is_new:
            path.chmod(0o600)
    except (sqlite3.Error, OSError) as error:
        raise explain(error, url) from error


def _sqlite(url: URL, patience_seconds: float) -> AsyncEngine:
    """An engine with a single connection.

    SQLite has one writer at a time whatever we do; with one connection the tasks of this process
    queue up in order in the pool instead of polling each other's locks.
    """
    engine = create_async_engine(
        url,
        poolclass=AsyncAdaptedQueuePool,
        pool_size=1,
        max_overflow=0,
        pool_timeout=3 * patience_seconds + 30,
        hide_parameters=True,
        connect_args={"timeout": patience_seconds},
    )
    event.listen(engine.sync_engine, "connect", _set_up_sqlite)
    event.listen(engine.sync_engine, "begin", begin)
    return engine


def _set_up_sqlite(connection: Any, _record: object) -> None:
    """Settings of each connection.

    synchronous=FULL: each commit is on the disk when it returns. In WAL mode NORMAL would survive
    a kill -9 as well, but a power cut could take back the last commits, and with them the memory
    that a reply was already posted or a person forgotten. A reply costs about four commits, a
    few milliseconds beside seconds of inference. fullfsync is what an fsync means on macOS.
    secure_delete: an erased message is overwritten, not just unlinked.
    """
    connection.isolation_level = None  # `begin` begins transactions
    cursor = connection.cursor()
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",
        "fullfsync = ON",
        "checkpoint_fullfsync = ON",
        "foreign_keys = ON",
        "secure_delete = ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _postgresql(url: URL, patience_seconds: float) -> AsyncEngine:
    try:
        return create_async_engine(
            url,
            pool_size=5,
            max_overflow=5,
            pool_timeout=3 * patience_seconds + 30,
            pool_pre_ping=True,
            hide_parameters=True,
            connect_args={
                "timeout": 10.0,
                "command_timeout": 60.0,
                "server_settings": {"application_name": "friend"},
            },
        )
    except ModuleNotFoundError as error:
        raise StoreFailed(
            "PostgreSQL needs the asyncpg package: pip install 'friend-bot[postgres]'."
        ) from error
