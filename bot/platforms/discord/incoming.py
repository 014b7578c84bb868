"""From discord.py's objects to the core's: what was said, where, to whom, and how to answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import discord

from bot.core.conversation import ConversationKey, IncomingMessage, Person
from bot.platforms.discord.markup import Names, mentioned_ids, readable

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME = "discord"

_SPOKEN = {discord.MessageType.default, discord.MessageType.reply}


def conversation_of(channel: object, channel_id: int, guild_id: int | None) -> ConversationKey:
    """The memory a channel, thread or DM belongs to.

    Args:
        channel: discord.py's channel, or anything else where it is not known.
    """
    space = str(guild_id or "")
    if isinstance(channel, discord.Thread):
        return ConversationKey(NAME, space, str(channel.parent_id), str(channel_id))
    return ConversationKey(NAME, space, str(channel_id))


def is_spoken(message: discord.Message) -> bool:
    """Whether somebody said this: joins, pins, boosts and the like are not messages to friend."""
    return message.type in _SPOKEN


def is_visible(message: discord.Message, me: discord.abc.User, *, message_content: bool) -> bool:
    """Whether Discord lets friend read this message.

    Without the message-content intent everything but DMs, mentions and replies that ping arrives
    empty, which must not be taken for silence.
    https://discord.com/developers/docs/events/gateway#message-content-intent
    """
    return message_content or message.guild is None or any(u.id == me.id for u in message.mentions)


def incoming(
    message: discord.Message, me: discord.abc.User, *, in_friend_thread: bool = False
) -> IncomingMessage:
    """The message as the core takes it; its address survives a restart."""
    written = mentioned_ids(message.content)
    role = my_role(message.guild)
    key = conversation_of(message.channel, message.channel.id, guild_id(message))
    return IncomingMessage(
        event_id=str(message.id),
        conversation=key,
        message_id=str(message.id),
        author=Person(str(message.author.id), message.author.display_name),
        text=text_of(message, me),
        sent_at=message.created_at,
        address=address(message),
        is_direct=message.channel.type is discord.ChannelType.private,
        mentions_friend=me.id in written or (role != 0 and role in written),
        replies_to_friend=_replies_to(message, me, written),
        in_friend_thread=in_friend_thread,
        from_bot=message.author.bot or message.webhook_id is not None,
        has_attachments=bool(message.attachments or message.stickers or message.poll),
    )


def text_of(message: discord.Message, me: discord.abc.User) -> str:
    """What was said, with names for ids and without friend's own mention."""
    guild = message.guild
    my_name = me.display_name
    if guild is not None and guild.me is not None:
        my_name = guild.me.display_name
    return readable(
        message.content,
        _names(message),
        me=me.id,
        my_name=my_name,
        my_role=my_role(guild),
    ).strip()


def address(message: discord.Message) -> Mapping[str, str]:
    """Where to answer: `channel` is where one posts (the thread itself), `message` what to."""
    found = {"channel": str(message.channel.id), "message": str(message.id)}
    guild = guild_id(message)
    if guild is not None:
        found["guild"] = str(guild)
    return found


def guild_id(message: discord.Message) -> int | None:
    """The message's guild, also where the guild itself is not cached."""
    if message.guild is not None:
        return message.guild.id
    return getattr(message.channel, "guild_id", None)


def my_role(guild: discord.Guild | None) -> int:
    """The role that Discord made for the bot, which people mention by mistake; 0 if none."""
    role = guild.self_role if guild is not None else None
    return role.id if role is not None else 0


def _replies_to(message: discord.Message, me: discord.abc.User, written: set[int]) -> bool:
    reference = message.reference
    if reference is None or message.type is not discord.MessageType.reply:
        return False
    if isinstance(reference.resolved, discord.Message):
        return reference.resolved.author.id == me.id
    return me.id not in written and any(user.id == me.id for user in message.mentions)


def _names(message: discord.Message) -> Names:
    guild = message.guild
    channels: dict[int, str] = {}
    if guild is not None:
        for channel in message.channel_mentions:
            channels[channel.id] = channel.name
    return Names(
        users={user.id: user.display_name for user in message.mentions},
        roles={role.id: role.name for role in message.role_mentions},
        channels=channels,
    )
