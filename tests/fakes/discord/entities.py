"""What exists in the fake's world: users, guilds, channels, threads, DMs, messages."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from tests.fakes.discord.snowflake import Snowflakes
    from tests.fakes.discord.wire import Json

GUILD_TEXT = 0
DM = 1
PUBLIC_THREAD = 11

Permission = Literal["view", "send", "history", "mention_everyone"]


@dataclass(eq=False)
class User:
    id: int
    name: str
    bot: bool = False
    dms_closed: bool = False

    @property
    def mention(self) -> str:
        return f"<@{self.id}>"


@dataclass(eq=False)
class Role:
    id: int
    name: str

    @property
    def mention(self) -> str:
        return f"<@&{self.id}>"


@dataclass(eq=False)
class Message:
    """A posted message and everything that happened to it.

    Attributes:
        pinged: what it notified when it was posted: user ids, role ids, "everyone", "here".
        allowed_mentions: as sent; None when the sender left it out.
        versions: (seconds of the monotonic clock, content) of the post and of each edit.
        reference: the message it replies to, or None.
        leaves_out: whether Discord did not look up what it replies to.
        forwards: the message it shows again, or None; kept as it was then, in `snapshot`.
        application: id of the application whose webhook said it, or 0; the author is the webhook.
    """

    id: int
    channel: Channel
    author: User
    content: str
    nonce: str | None = None
    reference: Message | None = None
    reply_ping: bool = False
    mentions: list[User] = field(default_factory=list)
    mention_roles: list[Role] = field(default_factory=list)
    mention_everyone: bool = False
    pinged: list[int | str] = field(default_factory=list)
    allowed_mentions: Json | None = None
    attachments: list[Json] = field(default_factory=list)
    edited: str | None = None
    deleted: bool = False
    flags: int = 0
    interaction: Json | None = None
    embeds: list[Json] = field(default_factory=list)
    poll: Json | None = None
    stickers: list[Json] = field(default_factory=list)
    leaves_out: bool = False
    forwards: Message | None = None
    snapshot: Json | None = None
    application: int = 0
    versions: list[tuple[float, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.versions.append((time.monotonic(), self.content))

    @property
    def ephemeral(self) -> bool:
        return bool(self.flags & 64)


@dataclass(eq=False)
class Channel:
    """A text channel, a thread (``parent`` is set) or a DM (``guild`` is None).

    ``denied`` is what the bot may not do here: "view" gives 50001, "send" 50013,
    "history" an empty history, and 160002 for replies.
    """

    id: int
    name: str
    type: int
    ids: Snowflakes = field(repr=False)
    guild: Guild | None = None
    parent: Channel | None = None
    owner: User | None = None
    recipient: User | None = None
    members: list[User] = field(default_factory=list)
    denied: set[Permission] = field(default_factory=set)
    messages: dict[int, Message] = field(default_factory=dict)

    @property
    def is_thread(self) -> bool:
        return self.type == PUBLIC_THREAD

    def posted(self, by: User | None = None) -> list[Message]:
        """The messages that stand here now, oldest first."""
        return [
            message
            for message in self.messages.values()
            if not message.deleted and (by is None or message.author is by)
        ]


@dataclass(eq=False)
class Guild:
    id: int
    name: str
    owner: User
    ids: Snowflakes = field(repr=False)
    channels: dict[int, Channel] = field(default_factory=dict)
    threads: dict[int, Channel] = field(default_factory=dict)
    roles: dict[int, Role] = field(default_factory=dict)

    def add_text_channel(self, name: str) -> Channel:
        """Add before the client connects; a later channel needs ``FakeDiscord.add_channel``."""
        channel = Channel(self.ids.next(), name, GUILD_TEXT, self.ids, guild=self)
        self.channels[channel.id] = channel
        return channel

    def add_role(self, name: str) -> Role:
        role = Role(self.ids.next(), name)
        self.roles[role.id] = role
        return role

    def add_thread(
        self,
        parent: Channel,
        name: str,
        owner: User,
        members: list[User],
        begun_from: Message | None = None,
    ) -> Channel:
        """A thread begun from a message has that message's id."""
        thread = Channel(
            self.ids.next() if begun_from is None else begun_from.id,
            name,
            PUBLIC_THREAD,
            self.ids,
            guild=self,
            parent=parent,
            owner=owner,
            members=[owner, *(m for m in members if m is not owner)],
        )
        self.threads[thread.id] = thread
        return thread
