"""The way back to one Slack message."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import structlog
from slack_sdk.web.async_client import AsyncWebClient

from bot.errors import DeliveryFailed
from bot.platforms.slack.address import Address
from bot.platforms.slack.draft import MAX_CHARACTERS, Draft, StreamBudgets, adopt, delete
from bot.platforms.slack.failures import CALL_ERRORS, delivery_failed, is_ambiguous
from bot.platforms.slack.markup import escape
from bot.platforms.slack.posted import Posted, find_posted, label
from bot.platforms.slack.status import Refusals, StatusLine

_log = structlog.get_logger(__name__)

LOOK_AFTER_SECONDS = 0.5
"""Between a post whose outcome is unknown and the look at the thread."""


class SlackOutlet:
    """Answers in the thread of a message; see `bot.core.ports.Outlet`."""

    max_characters = MAX_CHARACTERS

    def __init__(
        self,
        client: AsyncWebClient,
        address: Address,
        reply_key: str,
        *,
        own_id: str,
        budgets: StreamBudgets,
        refusals: Refusals,
        recovering: bool,
        own_names: frozenset[str] = frozenset(),
    ) -> None:
        self.own_names = own_names
        self._client = client
        self._address = address
        self._key = reply_key
        self._own_id = own_id
        self._recovering = recovering
        self._status = StatusLine(client, address, refusals)
        self._draft = Draft(client, address, budgets)
        self._done: dict[int, str] = {}

    def characters(self, text: str) -> int:
        """Length as Slack receives it, brackets written out."""
        return len(escape(text))

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Show the status line for as long as no word has been posted."""
        self._status.start()
        try:
            yield
        finally:
            await self._status.clear()

    async def show(self, text: str) -> bool:
        """Stream the reply as it comes, where Slack allows it."""
        if self._recovering:
            return False
        if self._draft.can_start:
            await self._status.settle()
        await self._draft.grow(escape(text))
        if self._draft.ts is None:
            return False
        self._status.posted()
        return True

    async def deliver(self, parts: Sequence[str]) -> Sequence[str]:
        """Post what is not there yet, each part under its label."""
        await self._status.settle()
        posted = Posted()
        if self._recovering or self._draft.doubtful:
            posted = await find_posted(self._client, self._address, self._key, own_id=self._own_id)
        self._done.update(posted.parts)
        *abandoned, left_behind = posted.drafts or ("",)
        if 0 in self._done and left_behind:
            abandoned.append(left_behind)
        for number, part in enumerate(parts):
            if number not in self._done:
                self._done[number] = await self._put(number, escape(part), left_behind)
                if self._done[number] != left_behind:  # an old draft's end clears no status
                    self._status.posted()
        for ts in abandoned:
            try:
                await delete(self._client, self._address.channel, ts)
            except DeliveryFailed as error:  # the reply itself is there
                _log.warning("draft.not_withdrawn", error=str(error))
        self._draft.doubtful = False
        return [self._done[number] for number in range(len(parts))]

    async def _put(self, number: int, text: str, left_behind: str) -> str:
        """Complete a draft into the first part, or post a part anew.

        Args:
            left_behind: ts of a draft that an earlier try did not complete.
        """
        ts = None
        if number == 0 and self._draft.ts is not None:
            ts = await self._draft.complete(text, label(self._key, number))
        elif number == 0 and left_behind:
            channel = self._address.channel
            ts = await adopt(self._client, channel, left_behind, text, label(self._key, number))
        return ts or await self._post(number, text)

    async def _post(self, number: int, text: str) -> str:
        try:
            answer = await self._client.chat_postMessage(
                channel=self._address.channel,
                thread_ts=self._address.thread_ts,
                markdown_text=text,
                metadata=label(self._key, number),
                unfurl_links=False,
                unfurl_media=False,
            )
        except CALL_ERRORS as error:
            if not is_ambiguous(error):
                raise delivery_failed(error) from error
            failure = delivery_failed(error)
        else:
            return str(answer["ts"])
        _log.warning("slack.post_unanswered", error=str(failure))
        await asyncio.sleep(LOOK_AFTER_SECONDS)
        posted = await find_posted(self._client, self._address, self._key, own_id=self._own_id)
        if number in posted.parts:
            return posted.parts[number]
        raise failure

    async def withdraw(self) -> None:
        """Take a visible draft back."""
        await self._status.settle()
        if self._draft.doubtful or self._recovering:
            posted = await find_posted(self._client, self._address, self._key, own_id=self._own_id)
            for ts in posted.drafts:
                await delete(self._client, self._address.channel, ts)
            self._draft.doubtful = False
        await self._draft.remove()
        if self._recovering:
            await self._status.wipe()  # what an earlier process has set
