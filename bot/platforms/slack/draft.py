"""A reply that grows before the reader's eyes: Slack's streamed messages.

Reference: https://docs.slack.dev/reference/methods/chat.startStream. A stream is a courtesy:
whenever Slack refuses one, or its end is not certain, the reply is posted or completed by
chat.postMessage and chat.update, which work for any message.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import structlog
from slack_sdk.web.async_client import AsyncWebClient

from bot.platforms.slack.address import Address
from bot.platforms.slack.client import Budget
from bot.platforms.slack.failures import (
    CALL_ERRORS,
    code_of,
    delivery_failed,
    is_ambiguous,
    is_rate_limit,
    retry_after,
)

_log = structlog.get_logger(__name__)

MAX_CHARACTERS = 12_000
APPEND_SECONDS = 1.0
"""Between two pieces of one stream."""


@dataclass
class StreamBudgets:
    """How much streaming the workspace allows, with some air: Slack's tiers 2 and 4."""

    starts: Budget = field(default_factory=lambda: Budget(18, 60.0))
    appends: Budget = field(default_factory=lambda: Budget(90, 60.0))


class Draft:
    """The streamed message of one reply; texts are given in Slack's escaped form."""

    def __init__(self, client: AsyncWebClient, address: Address, budgets: StreamBudgets) -> None:
        self._client = client
        self._address = address
        self._budgets = budgets
        self.ts: str | None = None
        self.doubtful = False
        """A start whose outcome is unknown: there may be a draft in the thread."""
        self._shown = ""
        self._growing = True
        self._certain = True
        self._next_piece_at = 0.0
        self._stopped_by_reader = False

    @property
    def can_start(self) -> bool:
        """Whether `grow` would post something new."""
        return self.ts is None and self._growing and not self.doubtful

    async def grow(self, text: str) -> None:
        """Show `text`, or as much of it as is due; never raises for Slack's failures."""
        if len(text) > MAX_CHARACTERS or not self._growing:
            return
        if self.ts is None:
            if self.can_start and self._budgets.starts.take():
                await self._start(text)
        elif text.startswith(self._shown) and time.monotonic() >= self._next_piece_at:
            piece = text[len(self._shown) :]
            if piece.strip() and self._budgets.appends.take():
                await self._append(text, piece)

    async def _start(self, text: str) -> None:
        self.doubtful = True
        try:
            answer = await self._client.chat_startStream(
                channel=self._address.channel,
                thread_ts=self._address.thread_ts,
                recipient_team_id=self._address.team,
                recipient_user_id=self._address.user,
                markdown_text=text,
            )
        except CALL_ERRORS as error:
            self._growing = False
            self.doubtful = is_ambiguous(error)
            _log.info("slack.stream_refused", error=code_of(error) or repr(error))
            return
        self.ts = str(answer["ts"])
        self.doubtful = False
        self._shown = text
        self._next_piece_at = time.monotonic() + APPEND_SECONDS

    async def _append(self, text: str, piece: str) -> None:
        self._next_piece_at = time.monotonic() + APPEND_SECONDS
        self._certain = False
        try:
            await self._client.chat_appendStream(
                channel=self._address.channel, ts=self.ts or "", markdown_text=piece
            )
        except CALL_ERRORS as error:
            if is_rate_limit(error):
                self._certain = True
                self._next_piece_at = time.monotonic() + retry_after(error)
                return
            self._growing = False
            self._stopped_by_reader = code_of(error) == "stopped_by_user"
            _log.info("slack.stream_broke_off", error=code_of(error) or repr(error))
            return
        self._certain = True
        self._shown = text

    async def complete(self, text: str, label: dict[str, Any]) -> str | None:
        """Make the draft the finished message; return its ts, or None if it is gone.

        A reader who pressed Slack's stop button keeps what they have seen.

        Raises:
            DeliveryFailed: it could not be completed; `complete` may be called again.
        """
        assert self.ts is not None
        self._growing = False
        if not self._stopped_by_reader:
            if self._certain and text.startswith(self._shown):
                if await self._stop(text[len(self._shown) :], label):
                    return self.ts
            else:
                await self._stop("", label)
        final = self._shown if self._stopped_by_reader else text
        return await overwrite(self._client, self._address.channel, self.ts, final, label)

    async def remove(self) -> None:
        """Take the draft back.

        Raises:
            DeliveryFailed: it is still there.
        """
        if self.ts is not None:
            self._growing = False
            await self._stop("", None)
            await delete(self._client, self._address.channel, self.ts)
            self.ts = None

    async def _stop(self, rest: str, label: dict[str, Any] | None) -> bool:
        """End the stream; False if it is not certain to hold the whole text now."""
        try:
            await self._client.chat_stopStream(
                channel=self._address.channel,
                ts=self.ts or "",
                markdown_text=rest or None,
                metadata=label,
            )
        except CALL_ERRORS as error:
            self._stopped_by_reader = code_of(error) == "stopped_by_user"
            _log.info("slack.stream_not_stopped", error=code_of(error) or repr(error))
            return False
        return True


async def overwrite(
    client: AsyncWebClient, channel: str, ts: str, text: str, label: dict[str, Any]
) -> str | None:
    """Set a message's whole text; None if it is gone. Safe to repeat.

    Raises:
        DeliveryFailed: Slack does not take it.
    """
    try:
        await client.chat_update(channel=channel, ts=ts, markdown_text=text, metadata=label)
    except CALL_ERRORS as error:
        if code_of(error) == "message_not_found":
            return None
        raise delivery_failed(error) from error
    return ts


async def adopt(
    client: AsyncWebClient, channel: str, ts: str, text: str, label: dict[str, Any]
) -> str | None:
    """Complete a draft that an earlier try has left behind; None if it is gone."""
    try:
        await client.chat_stopStream(channel=channel, ts=ts)
    except CALL_ERRORS as error:
        _log.debug("slack.stream_was_over", error=code_of(error) or repr(error))
    return await overwrite(client, channel, ts, text, label)


async def delete(client: AsyncWebClient, channel: str, ts: str) -> None:
    """Delete one of friend's messages; one that is gone already is fine.

    Raises:
        DeliveryFailed: it is still there.
    """
    try:
        await client.chat_delete(channel=channel, ts=ts)
    except CALL_ERRORS as error:
        if code_of(error) != "message_not_found":
            raise delivery_failed(error) from error
