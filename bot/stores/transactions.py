"""One transaction, whole or not at all, with patience for what passes by itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import structlog
from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from bot.errors import StoreFailed
from bot.stores.failures import (
    explain,
    is_database_error,
    is_rolled_back,
    is_transient,
)

T = TypeVar("T")

_log = structlog.get_logger(__name__)


class Database:
    """An engine, and how friend runs transactions on it."""

    def __init__(self, engine: AsyncEngine, url: URL, *, patience_seconds: float) -> None:
        self.url = url
        self.is_sqlite = url.get_backend_name() == "sqlite"
        self._engine = engine
        self._reading = engine.execution_options(friend_reads=True)
        self._bare = engine.execution_options(friend_bare=True)
        self._patience_seconds = patience_seconds
        self._under_way: set[asyncio.Task[Any]] = set()
        self._closed = False

    async def write(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Run `work` in a transaction that may write, commit, and return its result.

        `work` may run several times; only its last run counts. If the caller is cancelled, a
        transaction under way is still brought to its end before the cancellation goes on.

        Raises:
            StoreFailed: the database would not have it, or stayed locked past the patience.
        """
        return await self._finished(self._run(self._engine, work))

    async def read(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Run `work` on one unchanging view of the database; see `write`."""
        return await self._finished(self._run(self._reading, work))

    async def wipe_log(self) -> None:
        """Let erased words leave SQLite's write-ahead log too, as far as nobody reads it now."""
        if self.is_sqlite:
            await self._finished(self._checkpoint())

    async def close(self) -> None:
        """Close all connections, once what is under way has ended; open none from now on."""
        self._closed = True
        if self._under_way:
            await asyncio.wait(self._under_way)
        await self._engine.dispose()

    async def _finished(self, transaction: Coroutine[Any, Any, T]) -> T:
        """Await a transaction to its end, whatever happens to the caller.

        A driver that is cancelled in the middle of a statement cannot say how it ended, and leaves
        its connection, with the lock it holds, to the garbage collector.
        """
        if self._closed:
            transaction.close()
            raise StoreFailed("The history is closed: friend is stopping.")
        task = asyncio.create_task(transaction)
        self._under_way.add(task)
        task.add_done_callback(self._ended)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait([task])
            raise

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()  # now it counts as seen, even if the caller is gone

    async def _checkpoint(self) -> None:
        try:
            async with self._bare.connect() as connection:
                await connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        except DBAPIError as error:
            # What was asked for is done; the log is overwritten in time.
            _log.warning("store.log_not_wiped", error=str(explain(error, self.url)))

    async def _run(self, engine: AsyncEngine, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        deadline = time.monotonic() + self._patience_seconds
        pause = 0.01
        while True:
            is_committing = False
            try:
                async with engine.connect() as connection:
                    await connection.begin()
                    result = await work(connection)
                    is_committing = True
                    await connection.commit()
                    return result
            except StoreFailed:
                raise
            except Exception as error:
                if not is_database_error(error):
                    raise
                # After a commit whose answer was lost nobody knows whether it happened; running
                # the transaction again could accept a message twice.
                may_repeat = is_rolled_back(error) or (is_transient(error) and not is_committing)
                if not may_repeat or time.monotonic() + pause > deadline:
                    raise explain(error, self.url) from error
            await asyncio.sleep(pause)
            pause = min(pause * 2, 0.5)


def begin(connection: Any) -> None:
    """Begin on SQLite, where the driver's own way of beginning is turned off.

    A writer takes the write lock at once: taking it half-way through would fail without waiting
    whenever another process had written in between.
    """
    options = connection.get_execution_options()
    if not options.get("friend_bare"):
        reads = options.get("friend_reads")
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")
