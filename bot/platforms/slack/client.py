"""The Web API client, and which calls it may repeat by itself.

slack_sdk repeats a call after a broken connection, whatever the call does: a message whose
acknowledgement was lost is posted twice. Passing `retry_handlers` replaces its list.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque

import aiohttp
from slack_sdk.http_retry.builtin_async_handlers import (
    AsyncConnectionErrorRetryHandler,
    AsyncRateLimitErrorRetryHandler,
    AsyncServerErrorRetryHandler,
)
from slack_sdk.http_retry.request import HttpRequest
from slack_sdk.http_retry.response import HttpResponse
from slack_sdk.http_retry.state import RetryState
from slack_sdk.web.async_client import AsyncWebClient

CALL_SECONDS = 15
"""Longest wait for one answer of the Web API."""

RETRIES = 3
MAX_RATE_LIMIT_SECONDS = 60.0

NOT_REPEATABLE = frozenset({"chat.postMessage", "chat.startStream", "chat.appendStream"})
"""Done twice, these are seen twice; whoever calls them looks first (see `posted.py`)."""

COURTESY = frozenset({"chat.startStream", "chat.appendStream"})
"""Worth nothing when late: these are not repeated after a rate limit."""


class Budget:
    """At most `calls` in `seconds`, over all conversations of the workspace."""

    def __init__(self, calls: int, seconds: float) -> None:
        self._calls = calls
        self._seconds = seconds
        self._taken: deque[float] = deque()

    def take(self) -> bool:
        """Count a call made now, if there is room for it."""
        now = time.monotonic()
        while self._taken and now - self._taken[0] >= self._seconds:
            self._taken.popleft()
        if len(self._taken) >= self._calls:
            return False
        self._taken.append(now)
        return True


class RateLimitRetry(AsyncRateLimitErrorRetryHandler):
    """Waits as long as Slack asks, for calls that are worth it."""

    async def _can_retry_async(
        self,
        *,
        state: RetryState,
        request: HttpRequest,
        response: HttpResponse | None = None,
        error: Exception | None = None,
    ) -> bool:
        if response is None or response.status_code != 429 or _method(request) in COURTESY:
            return False
        return _retry_after(response) <= MAX_RATE_LIMIT_SECONDS


class ServerErrorRetry(AsyncServerErrorRetryHandler):
    """Repeats what does no harm twice, after any 5xx."""

    async def _can_retry_async(
        self,
        *,
        state: RetryState,
        request: HttpRequest,
        response: HttpResponse | None = None,
        error: Exception | None = None,
    ) -> bool:
        failed = response is not None and response.status_code >= 500
        return failed and _method(request) not in NOT_REPEATABLE


class ConnectionErrorRetry(AsyncConnectionErrorRetryHandler):
    """Repeats what does no harm twice, after a broken connection."""

    async def _can_retry_async(
        self,
        *,
        state: RetryState,
        request: HttpRequest,
        response: HttpResponse | None = None,
        error: Exception | None = None,
    ) -> bool:
        if isinstance(error, aiohttp.ClientConnectorError):
            return True
        broken = isinstance(error, (aiohttp.ClientConnectionError, asyncio.TimeoutError))
        return broken and _method(request) not in NOT_REPEATABLE


def web_client(token: str, *, api_url: str) -> AsyncWebClient:
    """A client that waits out rate limits and hiccups, and posts nothing twice."""
    return AsyncWebClient(
        token=token,
        base_url=api_url,
        timeout=CALL_SECONDS,
        retry_handlers=[
            RateLimitRetry(max_retry_count=RETRIES),
            ServerErrorRetry(max_retry_count=RETRIES),
            ConnectionErrorRetry(max_retry_count=RETRIES),
        ],
    )


def single_try(client: AsyncWebClient) -> AsyncWebClient:
    """The same client, on the same connections, that repeats nothing by itself."""
    return AsyncWebClient(
        token=client.token,
        base_url=client.base_url,
        timeout=client.timeout,
        session=client.session,
        retry_handlers=[],
    )


def _method(request: HttpRequest) -> str:
    return request.url.partition("?")[0].rpartition("/")[2]


def _retry_after(response: HttpResponse) -> float:
    for name, values in response.headers.items():
        if name.lower() == "retry-after":
            try:
                return float(values[0])
            except ValueError:
                return 1.0
    return 1.0
