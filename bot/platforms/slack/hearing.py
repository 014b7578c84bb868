"""From Slack's events to friend, in each channel's order, with what was said before."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any
from weakref import WeakValueDictionary

import structlog
from cachetools import LRUCache, TTLCache
from slack_sdk.web.async_client import AsyncWebClient

from bot.core.conversation import ConversationKey, IncomingMessage
from bot.core.friend import Friend
from bot.errors import StoreFailed
from bot.platforms.slack.beside import Event
from bot.platforms.slack.failures import CALL_ERRORS
from bot.platforms.slack.incoming import (
    PLATFORM,
    Deletion,
    Edit,
    is_own,
    is_spoken,
    key_of,
    people_in,
    read_change,
    read_message,
)
from bot.platforms.slack.people import Names
from bot.platforms.slack.signin import Identity

_log = structlog.get_logger(__name__)

JUST_BEFORE_SECONDS = 600.0
"""How old "what was said just before" a bare mention may be."""

TWIN_SECONDS = 60.0
"""How long a message that was taken in is known without asking the store."""

THREAD_MESSAGES = 15
"""Of a thread that friend is pulled into; apps outside Slack's Marketplace get no more."""

THREAD_SECONDS = 1.0
"""Longest wait for such a thread: the message that pulled friend in wants its acknowledgement."""


class Hearing:
    """Takes events in; on return they are durably with friend and may be acknowledged."""

    def __init__(
        self,
        friend: Friend,
        client: AsyncWebClient,
        me: Identity,
        proxies: Collection[str] = (),
    ) -> None:
        self._friend = friend
        self._proxies = proxies
        self._client = client
        self._me = me
        self._names = Names(client)
        self._order: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._just_said: TTLCache[str, IncomingMessage] = TTLCache(1000, JUST_BEFORE_SECONDS)
        self._taken: TTLCache[str, bool] = TTLCache(10_000, TWIN_SECONDS)
        self._looked_at: LRUCache[str, bool] = LRUCache(10_000)

    async def on_event(self, event: Event) -> None:
        """Take in a `message` or `app_mention` event of any kind."""
        channel = str(event.get("channel", ""))
        lock = self._order.setdefault(channel, asyncio.Lock())
        async with lock:
            match read_change(event, self._me):
                case Edit(message=message, adds_mention=calls):
                    if is_spoken(message):
                        await self._friend.on_edit(await self._read(message), calls=calls)
                case Deletion(ts=ts):
                    await self._friend.on_delete(PLATFORM, channel, ts)
                case None:
                    if is_spoken(event) and not is_own(event, self._me):
                        await self._hear(event)

    def on_open(self, event: Event) -> None:
        """Somebody opens friend's messages, and may write."""
        place = ConversationKey(PLATFORM, self._me.team_id, str(event.get("channel", "")))
        self._friend.expect(place, str(event.get("user", "")), is_direct=True)

    async def _hear(self, event: Event) -> None:
        """Take a new message in, and its twin not: a mention comes as two events.

        The store would know the twin as well, if it is up; a person is to hear that it is down
        only once.
        """
        identity = f"{event['channel']}:{event['ts']}"
        if identity in self._taken:
            return
        await self._take(await self._read(event), event)
        self._taken[identity] = True

    async def _take(self, message: IncomingMessage, event: Event) -> None:
        if message.from_bot:
            await self._friend.on_message(message)
            return
        top_level = message.conversation.thread == message.message_id
        is_bare = not message.heard and not message.files
        if message.mentions_friend and top_level and is_bare:
            await self._remember_just_said(message)
        elif message.mentions_friend and not top_level and not message.in_friend_thread:
            await self._remember_thread(event, message)
        if top_level and not message.is_direct:
            if message.mentions_friend or not message.heard:
                self._just_said.pop(message.conversation.channel, None)
            else:
                self._just_said[message.conversation.channel] = message
        await self._friend.on_message(message)

    async def _read(self, event: Event) -> IncomingMessage:
        threaded = bool(event.get("thread_ts")) and event["thread_ts"] != event["ts"]
        takes_part = threaded and await self._takes_part(event)
        return read_message(
            event,
            me=self._me,
            names=await self._names.of(people_in(event)),
            in_friend_thread=takes_part,
            proxies=self._proxies,
        )

    async def _takes_part(self, event: Event) -> bool:
        """Whether friend has spoken in the thread; no, while the history is down."""
        try:
            return await self._friend.takes_part(key_of(event, self._me.team_id))
        except StoreFailed as error:
            _log.error("store.failed", error=str(error))
            return False

    async def _remember(self, earlier: IncomingMessage) -> None:
        """Remember context, if that can be done; the message at hand does not depend on it."""
        try:
            await self._friend.remember(earlier)
        except StoreFailed as error:
            _log.error("store.failed", error=str(error))

    async def _remember_just_said(self, mention: IncomingMessage) -> None:
        """Give a bare mention what the channel heard last: that is what friend is to answer."""
        before = self._just_said.get(mention.conversation.channel)
        if before is not None:
            await self._remember(_as_context(before, mention))

    async def _remember_thread(self, event: Event, mention: IncomingMessage) -> None:
        """Once, read up on a thread that friend is pulled into."""
        key = str(mention.conversation)
        if key in self._looked_at:
            return
        self._looked_at[key] = True
        try:
            async with asyncio.timeout(THREAD_SECONDS):
                answer = await self._client.conversations_replies(
                    channel=mention.conversation.channel,
                    ts=mention.conversation.thread,
                    latest=mention.message_id,
                    inclusive=False,
                    limit=THREAD_MESSAGES,
                )
        except CALL_ERRORS as error:
            _log.info("slack.thread_not_read", error=repr(error))
            return
        for earlier in answer.get("messages") or []:
            await self._remember_earlier(earlier, event, mention)

    async def _remember_earlier(
        self, earlier: Mapping[str, Any], event: Event, mention: IncomingMessage
    ) -> None:
        earlier = {**earlier, "channel": event["channel"]}
        if not is_spoken(earlier) or is_own(earlier, self._me):
            return
        read = await self._read(earlier)
        is_root = read.message_id == mention.conversation.thread
        if read.from_bot and not is_root:
            return
        if float(read.message_id) < float(mention.message_id):
            await self._remember(read)


def _as_context(before: IncomingMessage, mention: IncomingMessage) -> IncomingMessage:
    """`before` as a part of the conversation that `mention` begins."""
    return replace(
        before,
        event_id=f"{before.event_id}>{mention.message_id}",
        conversation=mention.conversation,
        address=mention.address,
    )
