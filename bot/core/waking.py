"""Waking a model that may have gone to sleep, before it is needed."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog

_log = structlog.get_logger(__name__)

LONGEST_START_SECONDS = 5.0
"""A reply waits so long for a ping that was sent for it, at the most."""


class Waker:
    """Sends the warm ping when a reply is in sight and the model has rested for a while.

    A server that scales to zero then starts while the message is still being stored and waits its
    turn, or while its author still types. There is one ping at a time, and none for a model that
    was used or pinged less than `asleep_after` ago. Nobody hears of a ping's failure: the reply
    finds out by itself.

    Args:
        warm: sends the ping, and says whether something answered.
        asleep_after: seconds without use after which the model may sleep; 0: it never does.
        clock: seconds, growing.
    """

    def __init__(
        self,
        warm: Callable[[], Awaitable[bool]],
        *,
        asleep_after: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._warm = warm
        self._asleep_after = asleep_after
        self._clock = clock
        self._stirred = -math.inf
        self._ping: asyncio.Task[None] | None = None

    def used(self) -> None:
        """The model is asked for a reply, or has just given one."""
        self._stirred = self._clock()

    def wake(self) -> None:
        """A reply is in sight: ping the model in the background, if it may sleep."""
        now = self._clock()
        is_due = bool(self._asleep_after) and now - self._stirred >= self._asleep_after
        if is_due and (self._ping is None or self._ping.done()):
            self._stirred = now
            self._ping = asyncio.create_task(self._send())

    async def awake(self) -> None:
        """Return when no ping is under way, after `LONGEST_START_SECONDS` in any case.

        To be awaited before the model is asked. A function that is starting for the ping would
        start once more for a second request, which then would wait for all of that start.
        """
        if self._ping is not None:
            await asyncio.wait([self._ping], timeout=LONGEST_START_SECONDS)

    async def close(self) -> None:
        """Send nothing more; a ping under way is given up."""
        self._asleep_after = 0.0
        if self._ping is not None:
            self._ping.cancel()
            with suppress(asyncio.CancelledError):
                await self._ping

    async def _send(self) -> None:
        try:
            answered = await self._warm()
        except Exception:  # noqa: BLE001 - a ping must not trouble anybody, whatever breaks
            _log.exception("model.not_woken")
        else:
            _log.info("model.woken" if answered else "model.not_woken")
