"""The state behind the fake, and the changes to it that the gateway announces."""

from __future__ import annotations

import base64
import secrets
import time
from typing import TYPE_CHECKING, Any

from tests.fakes.discord import mentions
from tests.fakes.discord.changes import Changes
from tests.fakes.discord.entities import DM, Channel, Guild, Message, User
from tests.fakes.discord.gateway import Gateway
from tests.fakes.discord.intents import MESSAGE_CONTENT
from tests.fakes.discord.payloads import (
    channel_payload,
    gateway_message_payload,
    guild_payload,
    message_payload,
    thread_member_payload,
    user_payload,
)
from tests.fakes.discord.snowflake import Snowflakes, now

if TYPE_CHECKING:
    from tests.fakes.discord.session import Session
    from tests.fakes.discord.wire import Json

APPLICATION_MESSAGE_CONTENT = 1 << 18


class World:
    """Everything that exists, by id.

    Attributes:
        token: the only one that is taken; its first part is the bot's id, as in real ones.
        allowed_intents: privileged intents switched on in the developer portal.
        nonce_memory: seconds for which ``enforce_nonce`` finds an earlier message.
        typing: (channel, author, monotonic seconds) of every typing indicator.
    """

    def __init__(self) -> None:
        self.ids = Snowflakes()
        self.changes = Changes()
        self.problems: list[str] = []
        self.gateway = Gateway(self, self.problems, self.changes)
        self.allowed_intents = 0
        self.nonce_memory = 300.0
        self.users: dict[int, User] = {}
        self.guilds: dict[int, Guild] = {}
        self.dms: dict[int, Channel] = {}
        self.typing: list[tuple[Channel, User, float]] = []
        self.base_url = ""
        self.bot = self.add_user("friend", bot=True)
        self.owner = self.add_user("owner")
        self.application_id = self.bot.id
        first = base64.b64encode(str(self.bot.id).encode()).decode().rstrip("=")
        self.token = f"{first}.fake00.{secrets.token_urlsafe(28)}"

    @property
    def content_allowed(self) -> bool:
        """Whether the portal grants message content: REST goes by this, not by the session."""
        return bool(self.allowed_intents & MESSAGE_CONTENT)

    def add_user(self, name: str, *, bot: bool = False) -> User:
        user = User(self.ids.next(), name, bot)
        self.users[user.id] = user
        return user

    def add_guild(self, name: str = "guild") -> Guild:
        guild = Guild(self.ids.next(), name, self.owner, self.ids)
        self.guilds[guild.id] = guild
        self.gateway.dispatch(
            "GUILD_CREATE",
            lambda session: guild_payload(guild, self.bot, len(self.users)),
            guild_id=guild.id,
        )
        return guild

    def dm(self, user: User) -> Channel:
        """The one DM channel between the bot and ``user``."""
        for channel in self.dms.values():
            if channel.recipient is user:
                return channel
        channel = Channel(self.ids.next(), "", DM, self.ids, recipient=user)
        self.dms[channel.id] = channel
        return channel

    def channel(self, channel_id: int) -> Channel | None:
        if channel_id in self.dms:
            return self.dms[channel_id]
        for guild in self.guilds.values():
            found = guild.channels.get(channel_id) or guild.threads.get(channel_id)
            if found is not None:
                return found
        return None

    def visible_channels(self) -> list[Channel]:
        channels = list(self.dms.values())
        for guild in self.guilds.values():
            channels += [*guild.channels.values(), *guild.threads.values()]
        return channels

    def announce(self, event: str, channel: Channel, payload: Any) -> None:
        """Dispatch ``payload`` for something in ``channel`` unless the bot may not see it."""
        if "view" in channel.denied:
            return
        guild_id = channel.guild.id if channel.guild is not None else None
        self.gateway.dispatch(event, payload, guild_id=guild_id)

    def post(
        self,
        channel: Channel,
        author: User,
        content: str,
        *,
        nonce: str | None = None,
        reference: Message | None = None,
        allowed: Json | None = None,
        attachments: list[Json] | None = None,
        flags: int = 0,
        interaction: Json | None = None,
        age: float = 0.0,
        **more: Any,
    ) -> Message:
        """`more`: embeds, a poll, stickers, a forward, as `Message` has them."""
        found = mentions.resolve(content, channel, self.users, allowed, reference)
        message = Message(
            self.ids.past(age),
            channel,
            author,
            content,
            nonce=nonce,
            reference=reference,
            reply_ping=found.reply_ping,
            mentions=found.users,
            mention_roles=found.roles,
            mention_everyone=bool(found.everyone),
            pinged=found.pinged,
            allowed_mentions=allowed,
            attachments=attachments or [],
            flags=flags,
            interaction=interaction,
            **more,
        )
        channel.messages[message.id] = message
        if channel.is_thread and author not in channel.members and not message.application:
            self.join_thread(channel, author)
        if not message.ephemeral:
            self.announce_message("MESSAGE_CREATE", message)
        self.changes.notify()
        return message

    def announce_message(self, event: str, message: Message) -> None:
        def payload(session: Session) -> Json:
            allowed = bool(session.intents & MESSAGE_CONTENT)
            data = gateway_message_payload(message, self.bot, content_allowed=allowed)
            if message.nonce is not None and event == "MESSAGE_CREATE":
                data["nonce"] = message.nonce
            return data

        self.announce(event, message.channel, payload)

    def rest_message(self, message: Message) -> Json:
        return message_payload(message, self.bot, content_allowed=self.content_allowed)

    def edit(self, message: Message, content: str, allowed: Json | None = None) -> None:
        """Change the text; what it mentions is worked out again, but nobody is pinged."""
        found = mentions.resolve(
            content,
            message.channel,
            self.users,
            allowed,
            message.reference if message.reply_ping else None,
        )
        message.content, message.mentions = content, found.users
        message.mention_roles, message.mention_everyone = found.roles, bool(found.everyone)
        message.edited = now()
        message.versions.append((time.monotonic(), content))
        if not message.ephemeral:
            self.announce_message("MESSAGE_UPDATE", message)
        self.changes.notify()

    def delete(self, message: Message) -> None:
        message.deleted = True
        data: Json = {"id": str(message.id), "channel_id": str(message.channel.id)}
        if message.channel.guild is not None:
            data["guild_id"] = str(message.channel.guild.id)
        if not message.ephemeral:
            self.announce("MESSAGE_DELETE", message.channel, lambda session: data)
        self.changes.notify()

    def join_thread(self, thread: Channel, user: User) -> None:
        thread.members.append(user)
        assert thread.guild is not None
        data = {
            "id": str(thread.id),
            "guild_id": str(thread.guild.id),
            "member_count": len(thread.members),
            "added_members": [thread_member_payload(thread, user)],
        }
        self.announce("THREAD_MEMBERS_UPDATE", thread, lambda session: data)

    def announce_thread(self, thread: Channel) -> None:
        data = {**channel_payload(thread, self.bot), "newly_created": True}
        self.announce("THREAD_CREATE", thread, lambda session: data)

    def ready_payload(self, session: Session) -> Json:
        payload: Json = {
            "v": 10,
            "user": {
                **user_payload(self.bot),
                "verified": True,
                "mfa_enabled": True,
                "email": None,
            },
            "guilds": [
                {"id": str(guild.id), "unavailable": True} for guild in self._guilds_of(session)
            ],
            "session_id": session.id,
            "session_type": "normal",
            "private_channels": [],
            "resume_gateway_url": self.base_url.replace("http", "ws") + "/resume-gateway",
            "application": {"id": str(self.application_id), "flags": self.application_flags},
        }
        if session.shard is not None:
            payload["shard"] = list(session.shard)
        return payload

    @property
    def application_flags(self) -> int:
        return APPLICATION_MESSAGE_CONTENT if self.content_allowed else 0

    def guild_payloads(self, session: Session) -> list[Json]:
        members = len(self.users)
        return [guild_payload(guild, self.bot, members) for guild in self._guilds_of(session)]

    def _guilds_of(self, session: Session) -> list[Guild]:
        return [guild for guild in self.guilds.values() if session.wants(0, guild.id)]
