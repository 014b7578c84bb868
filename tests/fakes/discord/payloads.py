"""Entities as Discord writes them: ids as strings, absent optional fields left out, never null."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.fakes.discord.snowflake import timestamp

if TYPE_CHECKING:
    from tests.fakes.discord.entities import Channel, Guild, Message, Role, User
    from tests.fakes.discord.wire import Json

JOINED_AT = "2020-01-01T00:00:00+00:00"
ALL_PERMISSIONS = str((1 << 50) - 1)

MESSAGE_DEFAULT = 0
MESSAGE_REPLY = 19
MESSAGE_COMMAND = 20


def user_payload(user: User) -> Json:
    payload: Json = {
        "id": str(user.id),
        "username": user.name,
        "discriminator": "0",
        "global_name": user.name.title(),
        "avatar": None,
        "public_flags": 0,
    }
    if user.bot:
        payload["bot"] = True
    return payload


def member_payload(user: User, *, with_user: bool = True) -> Json:
    payload: Json = {
        "roles": [],
        "joined_at": JOINED_AT,
        "deaf": False,
        "mute": False,
        "flags": 0,
        "nick": None,
        "avatar": None,
        "pending": False,
    }
    if with_user:
        payload["user"] = user_payload(user)
    return payload


def role_payload(role: Role, position: int = 1) -> Json:
    return {
        "id": str(role.id),
        "name": role.name,
        "color": 0,
        "colors": {"primary_color": 0, "secondary_color": None, "tertiary_color": None},
        "hoist": False,
        "position": position,
        "permissions": ALL_PERMISSIONS,
        "managed": False,
        "mentionable": True,
        "flags": 0,
    }


def thread_member_payload(thread: Channel, user: User) -> Json:
    return {
        "id": str(thread.id),
        "user_id": str(user.id),
        "join_timestamp": timestamp(thread.id),
        "flags": 0,
    }


def channel_payload(channel: Channel, bot: User) -> Json:
    """A text channel, a thread (with the bot's membership if it is in) or a DM."""
    payload: Json = {"id": str(channel.id), "type": channel.type, "flags": 0}
    payload["last_message_id"] = _last_message_id(channel)
    if channel.recipient is not None:
        payload["recipients"] = [user_payload(channel.recipient)]
        return payload
    assert channel.guild is not None
    payload.update(name=channel.name, guild_id=str(channel.guild.id), rate_limit_per_user=0)
    if channel.parent is None:
        payload.update(position=0, permission_overwrites=[], topic=None, nsfw=False)
        return payload
    assert channel.owner is not None
    payload.update(
        parent_id=str(channel.parent.id),
        owner_id=str(channel.owner.id),
        message_count=len(channel.messages),
        member_count=len(channel.members),
        total_message_sent=len(channel.messages),
        thread_metadata={
            "archived": False,
            "auto_archive_duration": 1440,
            "archive_timestamp": timestamp(channel.id),
            "locked": False,
            "create_timestamp": timestamp(channel.id),
        },
    )
    if bot in channel.members:
        payload["member"] = thread_member_payload(channel, bot)
    return payload


def guild_payload(guild: Guild, bot: User, member_count: int) -> Json:
    """GUILD_CREATE without the members intent: the only member it carries is the bot."""
    return {
        "id": str(guild.id),
        "name": guild.name,
        "icon": None,
        "splash": None,
        "discovery_splash": None,
        "owner_id": str(guild.owner.id),
        "afk_channel_id": None,
        "afk_timeout": 300,
        "verification_level": 0,
        "default_message_notifications": 0,
        "explicit_content_filter": 0,
        "roles": [_everyone_role(guild), *(role_payload(r) for r in guild.roles.values())],
        "emojis": [],
        "stickers": [],
        "features": [],
        "mfa_level": 0,
        "application_id": None,
        "system_channel_id": None,
        "system_channel_flags": 0,
        "rules_channel_id": None,
        "vanity_url_code": None,
        "description": None,
        "banner": None,
        "premium_tier": 0,
        "preferred_locale": "en-US",
        "public_updates_channel_id": None,
        "nsfw_level": 0,
        "premium_progress_bar_enabled": False,
        "joined_at": JOINED_AT,
        "large": False,
        "unavailable": False,
        "member_count": member_count,
        "voice_states": [],
        "members": [member_payload(bot)],
        "channels": [
            _without_guild(channel_payload(c, bot))
            for c in guild.channels.values()
            if "view" not in c.denied
        ],
        "threads": [channel_payload(t, bot) for t in guild.threads.values()],
        "presences": [],
        "stage_instances": [],
        "guild_scheduled_events": [],
        "soundboard_sounds": [],
    }


def _last_message_id(channel: Channel) -> str | None:
    """Of whatever was said here last, though it may have been deleted since."""
    said = [message.id for message in channel.messages.values() if not message.ephemeral]
    return str(max(said)) if said else None


def _everyone_role(guild: Guild) -> Json:
    payload: Json = {"id": str(guild.id), "name": "@everyone", "color": 0, "hoist": False}
    payload.update(position=0, permissions=ALL_PERMISSIONS, managed=False)
    payload.update(mentionable=False, flags=0)
    return payload


def _without_guild(payload: Json) -> Json:
    return {key: value for key, value in payload.items() if key != "guild_id"}


def message_payload(
    message: Message, bot: User, *, content_allowed: bool, nested: bool = False
) -> Json:
    """A message as the bot may see it.

    Without the message-content privilege, content and attachments are empty unless the message
    is the bot's own, mentions it, or is in a DM.
    https://discord.com/developers/docs/events/gateway#message-content-intent
    """
    visible = (
        content_allowed
        or message.author is bot
        or bot in message.mentions
        or message.channel.guild is None
    )
    in_guild = message.channel.guild is not None
    kind = MESSAGE_REPLY if message.reference is not None else MESSAGE_DEFAULT
    if message.interaction is not None:
        kind = MESSAGE_COMMAND
    payload: Json = {
        "id": str(message.id),
        "channel_id": str(message.channel.id),
        "type": kind,
        "author": user_payload(message.author),
        "content": message.content if visible else "",
        "timestamp": timestamp(message.id),
        "edited_timestamp": message.edited,
        "tts": False,
        "mention_everyone": message.mention_everyone,
        "mentions": [_mention_payload(user, in_guild=in_guild) for user in message.mentions],
        "mention_roles": [str(role.id) for role in message.mention_roles],
        "attachments": list(message.attachments) if visible else [],
        "embeds": list(message.embeds) if visible else [],
        "components": [],
        "pinned": False,
        "flags": message.flags,
    }
    if message.interaction is not None:
        payload["application_id"] = payload["webhook_id"] = message.interaction["application_id"]
        payload["interaction_metadata"] = message.interaction["metadata"]
    if message.application:
        payload["webhook_id"] = str(message.author.id)
        payload["application_id"] = str(message.application)
    if message.poll is not None and visible:
        payload["poll"] = message.poll
    if message.stickers:
        payload["sticker_items"] = list(message.stickers)
    if message.forwards is not None and message.snapshot is not None:
        payload["message_reference"] = {
            "type": 1,
            "message_id": str(message.forwards.id),
            "channel_id": str(message.forwards.channel.id),
        }
        shown = {} if visible else {"content": "", "embeds": [], "attachments": []}
        payload["message_snapshots"] = [{"message": message.snapshot | shown}]
    reference = message.reference
    if reference is not None:
        payload["message_reference"] = {
            "type": 0,
            "message_id": str(reference.id),
            "channel_id": str(reference.channel.id),
        }
        if message.channel.guild is not None:
            payload["message_reference"]["guild_id"] = str(message.channel.guild.id)
        if not nested and not message.leaves_out:
            payload["referenced_message"] = (
                None
                if reference.deleted
                else message_payload(reference, bot, content_allowed=content_allowed, nested=True)
            )
    return payload


def snapshot_payload(message: Message) -> Json:
    """What a forward keeps of a message: no author, and no poll.

    https://discord.com/developers/docs/resources/message#message-snapshot-object
    """
    payload: Json = {
        "type": MESSAGE_REPLY if message.reference is not None else MESSAGE_DEFAULT,
        "content": message.content,
        "timestamp": timestamp(message.id),
        "edited_timestamp": message.edited,
        "mentions": [user_payload(user) for user in message.mentions],
        "mention_roles": [str(role.id) for role in message.mention_roles],
        "attachments": list(message.attachments),
        "embeds": list(message.embeds),
        "components": [],
        "flags": message.flags,
    }
    if message.stickers:
        payload["sticker_items"] = list(message.stickers)
    return payload


def gateway_message_payload(message: Message, bot: User, *, content_allowed: bool) -> Json:
    """As in MESSAGE_CREATE and MESSAGE_UPDATE: with the guild and the author's membership."""
    payload = message_payload(message, bot, content_allowed=content_allowed)
    if message.channel.guild is not None:
        payload["guild_id"] = str(message.channel.guild.id)
        if not message.application:
            payload["member"] = member_payload(message.author, with_user=False)
    return payload


def _mention_payload(user: User, *, in_guild: bool) -> Json:
    payload = user_payload(user)
    if in_guild:
        payload["member"] = member_payload(user, with_user=False)
    return payload
