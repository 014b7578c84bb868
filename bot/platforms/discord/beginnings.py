"""Messages that others refer to: what a thread was begun from, and what a reply answers."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import discord
import structlog
from cachetools import LRUCache

from bot.errors import DeliveryFailed, StoreFailed
from bot.platforms.discord.incoming import incoming, is_spoken

if TYPE_CHECKING:
    from bot.core.friend import Friend
    from bot.platforms.discord.courier import Courier

_log = structlog.get_logger(__name__)

SECONDS = 5.0
"""Longest wait for such a message: those of the channel wait behind it."""


async def fetch_answered(message: discord.Message, courier: Courier) -> None:
    """Fetch what a reply answers, where Discord has left it out.

    https://discord.com/developers/docs/resources/message#message-object
    """
    reference = message.reference
    if message.type is discord.MessageType.reply and reference is not None:
        answered = reference.message_id
        if reference.resolved is None and answered is not None:
            reference.resolved = await _fetch(courier, message.channel, answered)


async def _fetch(
    courier: Courier, place: discord.abc.Messageable, message_id: int
) -> discord.Message | None:
    try:
        async with asyncio.timeout(SECONDS):
            return await courier.attempt(lambda: place.fetch_message(message_id))
    except discord.NotFound:
        return None
    except (discord.HTTPException, DeliveryFailed, TimeoutError) as error:
        _log.info("discord.message_not_read", message=message_id, error=str(error))
        return None


class Beginnings:
    """Looks each thread up once, when friend first hears something in it.

    A thread has the id of the message that it was begun from. In a forum that message stands in
    the thread itself.
    https://discord.com/developers/docs/topics/threads
    """

    def __init__(self, friend: Friend, courier: Courier) -> None:
        self._friend = friend
        self._courier = courier
        self._looked_at: LRUCache[int, bool] = LRUCache(10_000)

    async def remember(self, said: discord.Message, me: discord.abc.User) -> None:
        """Have the beginning of the thread remembered before what is `said` in it."""
        thread = said.channel
        if not isinstance(thread, discord.Thread) or thread.id in self._looked_at:
            return
        self._looked_at[thread.id] = True
        if said.id == thread.id:
            return
        here = incoming(said, me)
        try:
            if not await self._friend.is_new(here.conversation):
                return
            first = await self._fetch(thread)
            if first is None or not is_spoken(first):
                return
            begun = incoming(first, me)
            await self._friend.remember(
                replace(
                    begun,
                    event_id=f"{begun.event_id}>{thread.id}",
                    conversation=here.conversation,
                    address=here.address,
                    author=here.author if begun.by_friend else begun.author,
                    quote=None if begun.by_friend else begun.quote,
                )
            )
        except StoreFailed as error:
            _log.error("store.failed", error=str(error))

    async def _fetch(self, thread: discord.Thread) -> discord.Message | None:
        """None if it was begun from no message, or from one that is gone."""
        parent = thread.parent
        place = parent if isinstance(parent, discord.TextChannel) else thread
        return await _fetch(self._courier, place, thread.id)
