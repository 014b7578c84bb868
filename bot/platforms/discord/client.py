"""The gateway's listener: discord.py's events handed to the core, in order."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import discord
import structlog

from bot.errors import StoreFailed
from bot.platforms.discord.beginnings import Beginnings, fetch_answered
from bot.platforms.discord.commands import FriendCommands
from bot.platforms.discord.incoming import (
    NAME,
    conversation_of,
    incoming,
    is_from_proxy,
    is_spoken,
    is_visible,
)
from bot.platforms.discord.missed import Missed
from bot.platforms.discord.proxies import Proxies

if TYPE_CHECKING:
    from bot.core.friend import Friend
    from bot.platforms.discord.courier import Courier
    from bot.settings import DiscordSettings

_log = structlog.get_logger(__name__)


def intents(*, message_content: bool, typing: bool) -> discord.Intents:
    """What friend needs to hear, and no more; only message content is privileged."""
    wanted = discord.Intents.none()
    wanted.guilds = True
    wanted.guild_messages = True
    wanted.dm_messages = True
    wanted.message_content = message_content
    wanted.typing = typing
    return wanted


class Listener(discord.Client):
    """Hears messages, edits, deletions and slash commands; speaks only through the courier.

    discord.py starts a task for each event, in order. A lock per channel, which is fair, keeps
    that order: an edit must not overtake the message it changes.

    Attributes:
        hears: whether the gateway is up now.
    """

    def __init__(
        self, friend: Friend, settings: DiscordSettings, courier: Courier, **options: Any
    ) -> None:
        super().__init__(
            intents=intents(
                message_content=settings.message_content, typing=settings.wake_on_typing
            ),
            max_messages=None,
            chunk_guilds_at_startup=False,
            member_cache_flags=discord.MemberCacheFlags.none(),
            allowed_mentions=discord.AllowedMentions.none(),
            **options,
        )
        self.commands = FriendCommands(self, friend)
        self.hears = False
        self._friend = friend
        self._courier = courier
        self._message_content = settings.message_content
        self._proxies = Proxies(settings.proxy_applications)
        self._beginnings = Beginnings(friend, courier)
        self._order: WeakValueDictionary[int, asyncio.Lock] = WeakValueDictionary()
        self._missed = Missed(
            self, friend, courier, hear=self._hear, follow=self._follow, in_order=self._in_order
        )

    async def setup_hook(self) -> None:
        """Between login and the gateway: register the commands, if they changed."""
        await self.commands.sync_if_changed()

    async def close(self) -> None:
        """Hear nothing more, not even what was missed."""
        await self._missed.stop()
        await super().close()

    def dispatch(self, event: str, /, *args: Any, **kwargs: Any) -> None:
        """Report an event; none after `close`, when discord.py could start no handler for it."""
        if not self.is_closed():
            super().dispatch(event, *args, **kwargs)

    async def on_connect(self) -> None:
        """A new session has begun."""
        self.hears = True
        self._missed.begin()

    async def on_ready(self) -> None:
        """The session knows of its servers now."""
        self._missed.look_back()

    async def on_guild_available(self, guild: discord.Guild) -> None:
        """A server was late, or is back after an outage."""
        self._missed.look_back()

    async def on_resumed(self) -> None:
        """The session goes on after a break."""
        self.hears = True

    async def on_disconnect(self) -> None:
        """The connection is lost, for now."""
        self.hears = False

    async def on_message(self, message: discord.Message) -> None:
        """Hear a message, after what was missed before it in its channel."""
        if self._concerns_friend(message):
            async with self._in_order(message.channel.id):
                await self._missed.hear(message.channel, before=message.id)
                await self._hear(message)

    async def on_raw_message_edit(self, event: discord.RawMessageUpdateEvent) -> None:
        """Follow an edit, which may be of a message from before this process.

        Discord reports one also when it has made the preview of a link.
        """
        if self._concerns_friend(event.message):
            async with self._in_order(event.channel_id):
                await self._follow(event.message, calls=event.message.edited_at is not None)

    async def on_raw_message_delete(self, event: discord.RawMessageDeleteEvent) -> None:
        """Follow a deletion."""
        await self._deleted({event.message_id}, event.channel_id)

    async def on_raw_bulk_message_delete(self, event: discord.RawBulkMessageDeleteEvent) -> None:
        """Follow a purge by a moderator."""
        await self._deleted(event.message_ids, event.channel_id)

    async def on_raw_typing(self, event: discord.RawTypingEvent) -> None:
        """Somebody begins to write, and friend would answer."""
        place: object = None
        if event.guild_id is not None:
            guild = self.get_guild(event.guild_id)
            place = guild.get_thread(event.channel_id) if guild is not None else None
            if place is None or not await self._takes_part(place):
                return
        key = conversation_of(place, event.channel_id, event.guild_id)
        self._friend.expect(key, str(event.user_id), is_direct=event.guild_id is None)

    async def on_error(self, event_method: str, /, *args: Any, **kwargs: Any) -> None:
        """A defect in a handler: logged, and the client goes on."""
        _log.exception("discord.handler_failed", handler=event_method)

    async def _deleted(self, messages: set[int], channel_id: int) -> None:
        async with self._in_order(channel_id):
            try:
                for message in sorted(messages):
                    self._proxies.gone(message)
                    await self._friend.on_delete(NAME, str(channel_id), str(message))
            except StoreFailed as error:
                _log.error("store.failed", error=str(error))

    def _concerns_friend(self, message: discord.Message) -> bool:
        """Whether somebody else said this, and friend can read it."""
        me = self.user
        return (
            me is not None
            and message.author.id != me.id
            and is_spoken(message)
            and is_visible(message, me, message_content=self._message_content)
        )

    async def _hear(self, message: discord.Message) -> None:
        """Hand a message to the core, unless it is friend's own or cannot be read."""
        me = self.user
        if me is None or not self._concerns_friend(message):
            return
        await self._beginnings.remember(message, me)
        await fetch_answered(message, self._courier)
        taking_part = await self._takes_part(message.channel)
        proxies = self._proxies.applications
        said = incoming(message, me, in_friend_thread=taking_part, proxies=proxies)
        original = None
        if is_from_proxy(message, proxies):
            original = self._proxies.original_of(message)
        else:
            self._proxies.heard(message)
        await self._friend.on_message(said, instead_of=str(original) if original else None)

    async def _follow(self, message: discord.Message, *, calls: bool) -> None:
        """Have the core follow an edit."""
        me = self.user
        if me is None or not self._concerns_friend(message):
            return
        await fetch_answered(message, self._courier)
        said = incoming(message, me, proxies=self._proxies.applications)
        try:
            await self._friend.on_edit(said, calls=calls)
        except StoreFailed as error:
            _log.error("store.failed", error=str(error))

    async def _takes_part(self, thread: object) -> bool:
        """Whether this is a thread that friend was added to or has spoken in."""
        if not isinstance(thread, discord.Thread):
            return False
        if thread.me is not None:
            return True
        try:
            key = conversation_of(thread, thread.id, thread.guild.id)
            return await self._friend.takes_part(key)
        except StoreFailed as error:
            _log.error("store.failed", error=str(error))
            return False

    def _in_order(self, channel_id: int) -> asyncio.Lock:
        return self._order.setdefault(channel_id, asyncio.Lock())


class ShardedListener(Listener, discord.AutoShardedClient):
    """The same for a bot in so many servers that Discord demands shards (2500 and more).

    Not used before: after a failed resume it starts a new session, and has to read over REST what
    the plain client still gets.
    """
