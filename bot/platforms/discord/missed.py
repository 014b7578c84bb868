"""What was said while friend was away.

Discord sends a new session no message from before it, so these are read over REST, where the same
rule holds as on the gateway: without the message-content intent only direct messages, and messages
that mention friend, come with their words.
https://discord.com/developers/docs/events/gateway#message-content-intent

Looking a second time does no harm: the store knows what it has accepted.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

import discord
import structlog

from bot.errors import DeliveryFailed, StoreFailed
from bot.platforms.discord.incoming import NAME

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from discord.abc import MessageableChannel

    from bot.core.friend import Friend
    from bot.platforms.discord.courier import Courier

_log = structlog.get_logger(__name__)

LONGEST = timedelta(days=1)
"""However long a message is worth an answer: for so long the store surely knows it again."""

CHANNELS = 100
"""Of servers that are read after a start, one after the other; quiet ones cost no request."""

MESSAGES = 500
"""That are read in one channel, from the oldest on; 100 a request."""

EDITED = 100
"""Older messages of a place friend knows that are looked through for edits; one request."""


class Follow(Protocol):
    """Follows an edit; with `calls`, one that mentions friend may call it."""

    def __call__(self, message: discord.Message, *, calls: bool) -> Awaitable[None]:
        """Take in the message as it is now."""
        ...


class Missed:
    """Has the messages heard that came before a session, channel by channel.

    Args:
        courier: whose patience the requests have.
        hear: takes one message in.
        follow: takes in what became of a message that was heard before.
        in_order: the lock that keeps a channel's order, by the channel's id.
    """

    def __init__(
        self,
        client: discord.Client,
        friend: Friend,
        courier: Courier,
        *,
        hear: Callable[[discord.Message], Awaitable[None]],
        follow: Follow,
        in_order: Callable[[int], asyncio.Lock],
    ) -> None:
        self._client = client
        self._friend = friend
        self._courier = courier
        self._hear = hear
        self._follow = follow
        self._in_order = in_order
        self._since = 0
        self._heard: set[int] = set()
        self._answered: set[int | None] = set()
        self._looking: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """A session has begun that knows nothing of what came before."""
        within = min(self._friend.answer_within, LONGEST)
        self._since = discord.utils.time_snowflake(datetime.now(UTC) - within)
        self._heard.clear()
        self._answered.clear()
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None

    def look_back(self) -> None:
        """The session knows of its servers, or of more than before: read them in the background."""
        if self._looking is not None:
            self._looking.cancel()
        self._looking = asyncio.create_task(self._look_back())

    async def stop(self) -> None:
        """Read no further; a message that is just being heard is heard to the end."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])

    async def hear(self, channel: MessageableChannel, *, before: int) -> None:
        """Have heard what was missed in a channel before a message that has just come by itself.

        To be called in the channel's order. Once every channel has been read this does nothing.
        """
        if self._looking is None or not self._looking.done():
            await self._hear_channel(channel, before=before)

    async def _look_back(self) -> None:
        try:
            await self._read_all()
        except Exception:  # noqa: BLE001 - a defect here must not be silent, nor stop the client
            _log.exception("discord.look_back_failed")

    async def _read_all(self) -> None:
        try:
            recent = await self._friend.recent_conversations(NAME)
        except StoreFailed as error:
            _log.error("store.failed", error=str(error))
            recent = []
        direct = [self._direct(int(key.channel)) for key in recent if not key.space]
        known = {int(key.thread or key.channel) for key in recent}
        for channel in [*direct, *self._spoken_in(known)]:
            async with self._in_order(channel.id):
                await self._hear_channel(channel)
                if channel.id in known:
                    await self._follow_edits(channel)

    def _direct(self, channel_id: int) -> MessageableChannel:
        """A direct message channel; Discord names none to a new session."""
        kind = discord.ChannelType.private
        return self._client.get_partial_messageable(channel_id, type=kind)

    def _spoken_in(self, known: Collection[int]) -> list[MessageableChannel]:
        """Channels of servers that friend knows, and those with recent messages, the newest first.

        A server comes with the ids of its channels' last messages, which tell their time.
        """
        found: list[tuple[bool, int, MessageableChannel]] = []
        for guild in self._client.guilds:
            rooms = (guild.text_channels, guild.voice_channels, guild.stage_channels, guild.threads)
            found += [
                (channel.id in known, channel.last_message_id or 0, channel)
                for channels in rooms
                for channel in channels
                if ((channel.last_message_id or 0) > self._since or channel.id in known)
                and _is_readable(channel)
            ]
        found.sort(key=lambda row: row[:2], reverse=True)
        return [channel for _, _, channel in found[:CHANNELS]]

    async def _hear_channel(
        self, channel: MessageableChannel, *, before: int | None = None
    ) -> None:
        """Once a session, read what others said here and have it heard, oldest first."""
        if channel.id in self._heard:
            return
        missed = [m for m in await self._read(channel) if before is None or m.id < before]
        for message in missed:
            await _whole(self._take(message))
        self._heard.add(channel.id)
        if missed:
            _log.info("discord.looked_back", channel=channel.id, messages=len(missed))

    async def _take(self, message: discord.Message) -> None:
        """Have a message heard, unless it was answered, and its edit followed."""
        is_answered = message.id in self._answered
        if not is_answered:
            await self._hear(message)
        if message.edited_at is not None:
            await self._follow(message, calls=not is_answered)

    async def _follow_edits(self, channel: MessageableChannel) -> None:
        """Have edits of older messages followed; a mention in one that is new calls friend."""

        async def history() -> list[discord.Message]:
            before = discord.Object(self._since)
            return [message async for message in channel.history(limit=EDITED, before=before)]

        since = discord.utils.snowflake_time(self._since)
        for message in reversed(await self._look(channel, history)):
            edited_at = message.edited_at
            if edited_at is not None and message.author != self._client.user:
                await _whole(self._follow(message, calls=edited_at > since))

    async def _read(self, channel: MessageableChannel) -> list[discord.Message]:
        """Recent messages without friend's own; which of them it has answered is noted."""

        async def history() -> list[discord.Message]:
            since = discord.Object(self._since)
            found = channel.history(limit=MESSAGES, after=since, oldest_first=True)
            return [message async for message in found]

        said = await self._look(channel, history)
        me = self._client.user
        own = [message for message in said if message.author == me]
        self._answered |= {m.reference.message_id for m in own if m.reference}
        return [message for message in said if message.author != me]

    async def _look(
        self,
        channel: MessageableChannel,
        history: Callable[[], Awaitable[list[discord.Message]]],
    ) -> list[discord.Message]:
        """Read; a channel that cannot be read is passed over."""
        try:
            return await self._courier.attempt(history)
        except (discord.HTTPException, DeliveryFailed) as error:
            _log.warning("discord.not_looked_back", channel=channel.id, error=str(error))
            return []


def _is_readable(channel: discord.abc.GuildChannel | discord.Thread) -> bool:
    """Whether Discord would not refuse; it bans whoever is refused too often."""
    if isinstance(channel, discord.Thread) and channel.parent is None:
        return False
    may = channel.permissions_for(channel.guild.me)
    return may.view_channel and may.read_message_history


async def _whole(doing: Awaitable[None]) -> None:
    """Wait for it; if cancelled meanwhile, only after it is done."""
    task = asyncio.ensure_future(doing)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
