"""The typing indicator: for the whole wait, and never after it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from bot.errors import DeliveryFailed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_log = structlog.get_logger(__name__)

_LAST_REQUEST_SECONDS = 2.0


class TypingIndicator:
    """Keeps "friend is typing" alive, which Discord shows for 10 s or until friend posts.

    A request still under way when the reply is posted would light the indicator again for another
    10 s, so `stop` waits for it.
    """

    def __init__(self, send: Callable[[], Awaitable[None]], *, every: float) -> None:
        self._send = send
        self._every = every
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to type; a second call changes nothing."""
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Send no further request, and return when the last one is through."""
        self._stopping.set()
        if self._task is None:
            return
        await asyncio.wait([self._task], timeout=_LAST_REQUEST_SECONDS)
        self._task.cancel()

    async def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                await self._send()
            except DeliveryFailed as error:
                _log.debug("typing.failed", error=str(error))
                if not error.retryable:
                    return
            try:
                await asyncio.wait_for(self._stopping.wait(), self._every)
            except TimeoutError:
                continue
