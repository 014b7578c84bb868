"""Trying again: which errors, how often, and how long to wait between, under one deadline."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, TypeVar

import stamina

from .errors import BreakerOpen, Busy, InferenceError, Refused, ServerFailed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .breaker import Breaker
    from .deadline import Deadline
    from .settings import ClientSettings

__all__ = ["Retries"]

T = TypeVar("T")


class Retries:
    """Runs attempts through stamina's loop and the breaker.

    A pause is what the server's Retry-After says, else exponential with full jitter over its
    upper half. A pause that would outlast the deadline is not begun: the error is raised at once.
    """

    def __init__(self, settings: ClientSettings, breaker: Breaker) -> None:
        self._settings = settings
        self._breaker = breaker

    async def run(
        self, attempt: Callable[[], Awaitable[T]], deadline: Deadline, *, asker: str = ""
    ) -> T:
        """The first success of `attempt`, or its last error. Raises BreakerOpen if not asked."""
        failures = 0
        stop = False

        def pause(error: Exception) -> bool | float:
            nonlocal failures
            failures += 1
            if stop or not isinstance(error, InferenceError) or not error.retryable:
                return False
            if isinstance(error, BreakerOpen):
                return False
            wait = self._pause(error, failures)
            return wait if wait < deadline.remaining() else False

        last: InferenceError | None = None
        async for turn in stamina.retry_context(
            on=pause, attempts=self._settings.attempts, timeout=None
        ):
            with turn:
                try:
                    return await self._once(attempt, asker)
                except BreakerOpen:
                    if last is None:
                        raise
                    stop = True  # the breaker opened while we paused: say what is really wrong
                    raise last from None
                except InferenceError as error:
                    last = error
                    raise
        raise AssertionError("stamina ended its loop without a result or an error")

    async def _once(self, attempt: Callable[[], Awaitable[T]], asker: str) -> T:
        """One attempt, counted by the breaker. A refusal shows a server that works."""
        permit = self._breaker.enter(asker)
        try:
            result = await attempt()
        except Refused:
            permit.succeeded()
            raise
        except Busy:
            raise
        except InferenceError:
            permit.failed()
            raise
        else:
            permit.succeeded()
            return result
        finally:
            permit.released()  # cancelled, or only busy; no effect if settled above

    def _pause(self, error: InferenceError, failures: int) -> float:
        if isinstance(error, Busy | ServerFailed) and error.retry_after is not None:
            return error.retry_after
        longest = self._settings.backoff_max
        wait = min(longest, self._settings.backoff_initial * 2.0 ** min(failures - 1, 30))
        return wait * random.uniform(0.5, 1.0)  # noqa: S311 (jitter, not a secret)
