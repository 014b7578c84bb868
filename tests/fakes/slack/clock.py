"""Time as the fake sees it: the wall clock, which a test may push forward."""

from __future__ import annotations

import time


class Clock:
    """Wall-clock seconds plus whatever the test has skipped."""

    def __init__(self) -> None:
        self._skipped = 0.0
        self._last_ts = 0

    def now(self) -> float:
        return time.time() + self._skipped

    def advance(self, seconds: float) -> None:
        """Skip `seconds`, so that expiries (status, stream, response_url) can be tested."""
        self._skipped += seconds

    def next_ts(self) -> str:
        """A message id as Slack makes them: seconds with six decimals, never twice the same."""
        micros = max(int(self.now() * 1_000_000), self._last_ts + 1)
        self._last_ts = micros
        return f"{micros // 1_000_000}.{micros % 1_000_000:06d}"
