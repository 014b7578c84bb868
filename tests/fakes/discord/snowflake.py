"""Discord's ids: 42 bits of milliseconds since 2015, then a counter, so that they sort by time.

https://discord.com/developers/docs/reference#snowflakes
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

DISCORD_EPOCH_MS = 1_420_070_400_000


class Snowflakes:
    """Hands out ids that never repeat and never go back."""

    def __init__(self) -> None:
        self._last = 0

    def next(self) -> int:
        now = (int(time.time() * 1000) - DISCORD_EPOCH_MS) << 22
        self._last = max(now, self._last + 1)
        return self._last

    def past(self, seconds: float) -> int:
        """An id as of so many seconds ago."""
        return self.next() - (int(seconds * 1000) << 22)


def timestamp(snowflake: int) -> str:
    """The ISO 8601 time at which the id was made."""
    seconds = ((snowflake >> 22) + DISCORD_EPOCH_MS) / 1000
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def now() -> str:
    return datetime.now(UTC).isoformat()
