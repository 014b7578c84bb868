"""Rate limits that a test switches on: so many calls of a method in a span of seconds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.fakes.slack.clock import Clock


@dataclass(frozen=True)
class RateLimit:
    calls: int
    seconds: float


class RateLimits:
    """No method is limited until `set` says so."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._limits: dict[str, RateLimit] = {}
        self._calls: dict[str, list[float]] = {}

    def set(self, method: str, calls: int, seconds: float) -> None:
        self._limits[method] = RateLimit(calls, seconds)

    def unlisted_app(self) -> None:
        """The limit on reading history for distributed apps outside the Marketplace."""
        self.set("conversations.history", 1, 60.0)
        self.set("conversations.replies", 1, 60.0)

    def seconds_to_wait(self, method: str) -> int | None:
        """Retry-After for a call made now, or None when it may pass (and is counted)."""
        limit = self._limits.get(method)
        if limit is None:
            return None
        now = self._clock.now()
        recent = [at for at in self._calls.get(method, []) if now - at < limit.seconds]
        if len(recent) >= limit.calls:
            return max(1, math.ceil(limit.seconds - (now - recent[0])))
        self._calls[method] = [*recent, now]
        return None
