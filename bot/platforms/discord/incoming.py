"""From discord.py's objects to the core's: what was said, where, to whom, and how to answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import discord

from bot.core.conversation import ConversationKey, IncomingMessage, Person, Quote
from bot.platforms.discord.beside import files_of, words_beside
from bot.platforms.discord.markup import Names, channel_ids, is_to_others, mentioned_ids, readable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

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
    message: discord.Message,
    me: discord.abc.User,
    *,
    in_friend_thread: bool = False,
    proxies: Collection[str] = (),
) -> IncomingMessage:
    """The message as the core takes it; its address survives a restart.

    Args:
        proxies: ids of applications whose webhooks speak for people.
    """
    written = mentioned_ids(message.content)
    role = my_role(message.guild)
    key = conversation_of(message.channel, message.channel.id, guild_id(message))
    read = _reader(message, me)
    is_proxied = is_from_proxy(message, proxies)
    return IncomingMessage(
        event_id=str(message.id),
        conversation=key,
        message_id=str(message.id),
        author=_author(message, is_proxied=is_proxied),
        text=read(message.content),
        sent_at=message.created_at,
        address=address(message),
        is_direct=message.channel.type is discord.ChannelType.private,
        mentions_friend=me.id in written or (role != 0 and role in written),
        replies_to_friend=_replies_to(message, me, written),
        in_friend_thread=in_friend_thread,
        from_bot=(message.author.bot or message.webhook_id is not None) and not is_proxied,
        beside=words_beside(message, read),
        files=files_of(message),
        quote=_quote(message, me),
        to_others=_is_to_others(message, me, role),
        by_friend=message.author.id == me.id,
    )


def is_from_proxy(message: discord.Message, proxies: Collection[str]) -> bool:
    """Whether a webhook of one of these applications said this for a person."""
    return message.webhook_id is not None and str(message.application_id) in proxies


def my_names(guild: discord.Guild | None, me: discord.abc.User | None) -> frozenset[str]:
    """What friend is called there."""
    here = guild.me if guild is not None else None
    names = {user.display_name for user in (me, here) if user is not None}
    return frozenset(names | ({me.name} if me is not None else set()))


def _author(message: discord.Message, *, is_proxied: bool) -> Person:
    """Who spoke. A proxy has one webhook for all of its people, who differ by their names."""
    name = message.author.display_name
    if is_proxied:
        return Person(f"{message.application_id}:{name}", name)
    return Person(str(message.author.id), name)


def _quote(message: discord.Message, me: discord.abc.User) -> Quote | None:
    """The message that this one replies to, as far as Discord shows it."""
    reference = message.reference
    earlier = reference.resolved if reference is not None else None
    if message.type is not discord.MessageType.reply or not isinstance(earlier, discord.Message):
        return None
    read = _reader(earlier, me)
    said = "\n".join(part for part in (read(earlier.content), words_beside(earlier, read)) if part)
    speaker = None if earlier.author.id == me.id else earlier.author.display_name
    return Quote(str(earlier.id), speaker, said or "; ".join(files_of(earlier)))


def _is_to_others(message: discord.Message, me: discord.abc.User, role: int) -> bool:
    if is_to_others(message.content, me=me.id, my_role=role):
        return True
    reference = message.reference
    earlier = reference.resolved if reference is not None else None
    if message.type is not discord.MessageType.reply or not isinstance(earlier, discord.Message):
        return False
    return earlier.author.id not in {me.id, message.author.id}


def _reader(message: discord.Message, me: discord.abc.User) -> Callable[[str], str]:
    """What makes content of this message readable."""
    guild = message.guild
    my_name = me.display_name
    if guild is not None and guild.me is not None:
        my_name = guild.me.display_name

    def read(content: str) -> str:
        names = _names(message, content)
        return readable(content, names, me=me.id, my_name=my_name, my_role=my_role(guild)).strip()

    return read


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


def _names(message: discord.Message, content: str) -> Names:
    guild = message.guild
    channels: dict[int, str] = {}
    users = {user.id: user.display_name for user in message.mentions}
    roles = {role.id: role.name for role in message.role_mentions}
    if guild is not None:
        for channel_id in channel_ids(content):
            channel = guild.get_channel_or_thread(channel_id)
            if channel is not None:
                channels[channel_id] = channel.name
        for mentioned in mentioned_ids(content) - users.keys():
            role = guild.get_role(mentioned)
            if role is not None:
                roles[mentioned] = role.name
    return Names(users=users, roles=roles, channels=channels)
