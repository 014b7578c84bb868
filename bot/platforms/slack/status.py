"""The line "friend is thinking…" under a thread.

Slack drops it after two minutes and at any post of friend's in the thread. Set after that post, it
would stay, and the reader could not write: so before a post the line is settled, which means that
no call that sets it is under way or will be made.

A reply waits for that, so the line is set by a single try: late, it is worth nothing. Clearing it
has the client's retries.
"""

from __future__ import annotations

import asyncio

import structlog
from cachetools import TTLCache
from slack_sdk.web.async_client import AsyncWebClient

from bot.platforms.slack import texts
from bot.platforms.slack.address import Address
from bot.platforms.slack.client import single_try
from bot.platforms.slack.failures import CALL_ERRORS, code_of, is_ambiguous, is_rate_limit

_log = structlog.get_logger(__name__)

REFRESH_SECONDS = 90.0
CLEARING_TRIES = 2
CALL_SECONDS = 5.0
"""Longest wait for one change of the line."""


_REFUSAL_SECONDS = 6 * 3600.0
_ABOUT_THE_THREAD = frozenset({"thread_not_found", "message_not_found", "invalid_thread_ts"})


class Refusals:
    """Channels in which Slack shows no line, so that it is not asked for at every reply there."""

    def __init__(self) -> None:
        self._channels: TTLCache[str, str] = TTLCache(10_000, _REFUSAL_SECONDS)

    def __contains__(self, channel: str) -> bool:
        return channel in self._channels

    def note(self, channel: str, error: BaseException) -> bool:
        """Whether this is a refusal; one that is about more than one thread is remembered."""
        code = code_of(error)
        if not code or is_rate_limit(error) or is_ambiguous(error):
            return False
        if code not in _ABOUT_THE_THREAD:
            self._channels[channel] = code
        return True


class StatusLine:
    """The status of one thread, for one reply."""

    def __init__(self, client: AsyncWebClient, address: Address, refusals: Refusals) -> None:
        self._client = client
        self._address = address
        self._refusals = refusals
        self._task: asyncio.Task[None] | None = None
        self._settling = asyncio.Event()
        self._may_show = False
        self._may_come_late = False
        self._was_set = False

    def start(self) -> None:
        """Set the line, in the background, and keep it from expiring."""
        refused = self._address.channel in self._refusals
        if self._task is None and not self._settling.is_set() and not refused:
            self._task = asyncio.create_task(self._keep())

    async def settle(self) -> None:
        """Return once the line will not be set any more; to be awaited before a post.

        That takes `CALL_SECONDS` at most.
        """
        self._settling.set()
        if self._task is not None:
            await asyncio.wait([self._task])

    def posted(self) -> None:
        """Note that a post has cleared the line."""
        self._may_show = self._may_come_late
        self._was_set = False

    async def clear(self) -> None:
        """Take the line away, unless a post has done so."""
        await self.settle()
        if self._may_show:
            self._may_show = self._may_come_late = False
            await self.wipe()

    async def wipe(self) -> None:
        """Take the line away, whoever has set it."""
        for _ in range(CLEARING_TRIES):
            if await self._set(""):
                return

    async def _keep(self) -> None:
        while not self._settling.is_set():
            self._may_show = True
            if not await self._set(texts.STATUS):
                return
            try:
                async with asyncio.timeout(REFRESH_SECONDS):
                    await self._settling.wait()
            except TimeoutError:
                continue

    async def _set(self, status: str) -> bool:
        client = single_try(self._client) if status else self._client
        try:
            async with asyncio.timeout(CALL_SECONDS):
                await client.assistant_threads_setStatus(
                    channel_id=self._address.channel,
                    thread_ts=self._address.thread_ts,
                    status=status,
                )
        except CALL_ERRORS as error:
            self._may_come_late = bool(status)
            if self._refusals.note(self._address.channel, error):
                self._may_show, self._may_come_late = self._was_set, False
            _log.info("slack.status_failed", error=repr(error))
            return False
        self._was_set = bool(status)
        return True
