"""A circuit breaker: when a model is down, stop asking, and let one request find out.

closed --(threshold failures in a row)--> open --(cooldown)--> half-open, one probe
^                                         ^                        |
|                                         +------- it fails -------+
+-------------------------- it succeeds ---------------------------+

Failures that all belong to one asker (one conversation, say) may be about what it asks: another
asker is then let through as the probe at once, and closes it for everybody if it succeeds.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal

from .errors import BreakerOpen

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Breaker", "BreakerState", "Permit"]

BreakerState = Literal["closed", "open", "half-open"]


class Breaker:
    """Counts failures of one client's attempts. For one event loop; `clock` gives seconds."""

    def __init__(
        self, *, threshold: int, cooldown: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._threshold = threshold
        self._cooldown = cooldown
        self._clock = clock
        self._failures = 0
        self._opened_at: float | None = None
        self._probe: Permit | None = None
        self._failing: set[str] = set()

    @property
    def state(self) -> BreakerState:
        """Where in the drawing above it stands."""
        if self._opened_at is None:
            return "closed"
        return "half-open" if self._clock() >= self._opened_at + self._cooldown else "open"

    def enter(self, asker: str = "") -> Permit:
        """Ask to make one attempt. Raises BreakerOpen if it is too early."""
        permit = Permit(self, asker)
        if self._opened_at is None:
            return permit
        remaining = self._opened_at + self._cooldown - self._clock()
        is_another = len(self._failing) == 1 and asker not in self._failing
        if (remaining > 0 and not is_another) or self._probe is not None:
            raise BreakerOpen(
                f"The model has failed {self._failures} times in a row, "
                "so it is left alone for a moment; try again soon.",
                retry_after=max(remaining, 1.0),
            )
        self._probe = permit
        return permit

    def settle(self, permit: Permit, ok: bool | None) -> None:
        """Count how an attempt went; None if nothing was learnt. Called by the permit."""
        probing = self._probe is permit
        if probing:
            self._probe = None
        if ok is None:
            return
        if ok:
            # An attempt from before the failures says nothing about now; only the probe closes.
            if probing or self._opened_at is None:
                self._failures, self._opened_at = 0, None
                self._failing.clear()
            return
        self._failures += 1
        self._failing.add(permit.asker)
        if probing or (self._opened_at is None and self._failures >= self._threshold):
            self._opened_at = self._clock()


class Permit:
    """One attempt's right to be made; tell it how the attempt went, at most once."""

    def __init__(self, breaker: Breaker, asker: str) -> None:
        self.asker = asker
        self._breaker = breaker
        self._open = True

    def succeeded(self) -> None:
        """The server answered as it should, a refusal included."""
        self._settle(True)

    def failed(self) -> None:
        """The server is down, too slow or broken."""
        self._settle(False)

    def released(self) -> None:
        """Nothing was learnt: the attempt was cancelled, or the server was only busy."""
        self._settle(None)

    def _settle(self, ok: bool | None) -> None:
        if self._open:
            self._open = False
            self._breaker.settle(self, ok)
