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
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import discord
import structlog

from bot.errors import DeliveryFailed, StoreFailed
from bot.platforms.discord.history import read_earlier, read_history
from bot.platforms.discord.incoming import NAME

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Coroutine

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

AGAIN_SECONDS = (2.0, 60.0)
"""Before what could not be read is tried again: the first pause, which doubles, and the longest."""

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
        self._unread: set[int] = set()
        self._followed: set[int] = set()
        self._answered: set[int | None] = set()
        self._looking: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """A session has begun that knows nothing of what came before."""
        within = min(self._friend.answer_within, LONGEST)
        self._since = discord.utils.time_snowflake(datetime.now(UTC) - within)
        self._heard.clear()
        self._unread.clear()
        self._followed.clear()
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

        To be called in the channel's order. Once every channel has been read this does nothing;
        nor does it where Discord gives no history just now, which is tried again without haste.
        """
        is_looking = self._looking is None or not self._looking.done()
        if is_looking and channel.id not in self._unread:
            await self._hear_channel(channel, before=before)

    async def _look_back(self) -> None:
        try:
            await self._read_all()
        except Exception:  # noqa: BLE001 - a defect here must not be silent, nor stop the client
            _log.exception("discord.look_back_failed")

    async def _read_all(self) -> None:
        """Read every channel; what cannot be read now is tried again for as long as it takes."""
        pause, longest = AGAIN_SECONDS
        while True:
            is_all = await self._read_once()
            if is_all and not self._unread:
                return
            _log.info("discord.looks_back_again", in_seconds=pause, channels=len(self._unread))
            await asyncio.sleep(pause)
            pause = min(2 * pause, longest)

    async def _read_once(self) -> bool:
        """Read what was not read yet; False if the history does not say where to look."""
        try:
            recent = await self._friend.recent_conversations(NAME)
            is_all = True
        except StoreFailed as error:
            _log.error("store.failed", error=str(error))
            recent, is_all = [], False
        direct = [self._direct(int(key.channel)) for key in recent if not key.space]
        known = {int(key.thread or key.channel) for key in recent}
        for channel in [*direct, *self._spoken_in(known)]:
            async with self._in_order(channel.id):
                await self._hear_channel(channel)
                if channel.id in known:
                    await self._follow_edits(channel)
        return is_all

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
        missed = await self._read(channel)
        if missed is None:
            self._unread.add(channel.id)
            return
        missed = [message for message in missed if before is None or message.id < before]
        for message in missed:
            await self._safely(self._take(message), message)
        self._unread.discard(channel.id)
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
        if channel.id in self._followed or channel.id in self._unread:
            return
        since = discord.utils.snowflake_time(self._since)
        said = await self._look(channel, partial(read_earlier, before=self._since, limit=EDITED))
        for message in said or []:
            edited_at = message.edited_at
            if edited_at is not None and message.author != self._client.user:
                following = self._follow(message, calls=edited_at > since)
                await self._safely(following, message)
        self._followed.add(channel.id)

    async def _read(self, channel: MessageableChannel) -> list[discord.Message] | None:
        """Recent messages without friend's own; which of them it has answered is noted."""
        said = await self._look(channel, partial(read_history, after=self._since, limit=MESSAGES))
        if said is None:
            return None
        me = self._client.user
        own = [message for message in said if message.author == me]
        self._answered |= {m.reference.message_id for m in own if m.reference}
        return [message for message in said if message.author != me]

    async def _look(
        self,
        channel: MessageableChannel,
        read: Callable[
            [discord.Client, MessageableChannel], Coroutine[Any, Any, list[discord.Message]]
        ],
    ) -> list[discord.Message] | None:
        """Read; a channel that friend may not read is passed over, None: it cannot be read now."""
        try:
            return await self._courier.attempt(lambda: read(self._client, channel))
        except (discord.HTTPException, DeliveryFailed) as error:
            _log.warning("discord.not_looked_back", channel=channel.id, error=str(error))
            status = error.status if isinstance(error, discord.HTTPException) else 500
            return [] if status < 500 and status != 429 else None

    @staticmethod
    async def _safely(doing: Awaitable[None], message: discord.Message) -> None:
        """Take a message in, to the end; one that cannot be must not cost the others."""
        try:
            await _whole(doing)
        except Exception:  # noqa: BLE001 - whatever is wrong with it
            _log.exception("discord.message_unheard", message=message.id)


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
