"""What every part of the store stands on: a database, a clock, and a name as an owner."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from datetime import datetime
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.stores.transactions import Database

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S", bound="Calls")


class Calls:
    """The base of the store's parts; see `bot.stores.sql.SqlStore`."""

    def __init__(self, database: Database, clock: Callable[[], datetime], owner: str) -> None:
        self._database = database
        self._clock = clock
        self._owner = owner


def writes(
    method: Callable[Concatenate[S, AsyncConnection, P], Awaitable[T]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """Run the method in a transaction of its own; it may run again if the database says so."""

    @wraps(method)
    async def in_transaction(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._database.write(
            lambda connection: method(self, connection, *args, **kwargs)
        )

    return in_transaction


def reads(
    method: Callable[Concatenate[S, AsyncConnection, P], Awaitable[T]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """Run the method in a read-only transaction."""

    @wraps(method)
    async def in_transaction(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._database.read(
            lambda connection: method(self, connection, *args, **kwargs)
        )

    return in_transaction
