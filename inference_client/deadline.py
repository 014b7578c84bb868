"""Time limits: one deadline for a whole call, and a limit for each phase inside it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from .errors import Phase, TimedOut

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["Deadline"]

_WHAT = {
    "connect": "no connection to the model",
    "first_token": "no word from the model",
    "between_tokens": "the model fell silent in the middle of its reply",
    "answer": "no answer from the model",
    "total": "no reply from the model",
}


class Deadline:
    """The end of one call, `seconds` from now. For use inside a running event loop."""

    def __init__(self, seconds: float, request_id: str) -> None:
        self._clock = asyncio.get_running_loop().time
        self._seconds = seconds
        self._at = self._clock() + seconds
        self._request_id = request_id

    def remaining(self) -> float:
        """Seconds left; negative once past."""
        return self._at - self._clock()

    @asynccontextmanager
    async def phase(self, phase: Phase, seconds: float) -> AsyncIterator[None]:
        """Run the block for `seconds` at most, or to the deadline. Raises TimedOut."""
        limit: Phase = phase
        if self.remaining() < seconds:
            limit = "total"
        until = min(self._clock() + seconds, self._at)
        try:
            async with asyncio.timeout_at(until) as timer:
                yield
        except TimeoutError:
            if not timer.expired():
                raise
            raise self.expired(limit, self._seconds if limit == "total" else seconds) from None

    def expired(self, phase: Phase, seconds: float) -> TimedOut:
        """The error for a phase that took longer than `seconds`."""
        return TimedOut(
            f"{_WHAT[phase].capitalize()} within {seconds:g} seconds.",
            phase=phase,
            request_id=self._request_id,
        )
