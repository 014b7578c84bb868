"""People, channels and messages of the one workspace that the fake serves."""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from tests.fakes.slack.clock import Clock

TEAM_ID = "T0FAKETEAM"
APP_ID = "A0FAKEAPP"

ChannelType = Literal["channel", "group", "im", "mpim"]

_BROADCAST = re.compile(r"<!(channel|here|everyone)(?:\|[^>]*)?>")
_SUBTEAM = re.compile(r"<!(subteam\^\w+)(?:\|[^>]*)?>")
_CODE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)
_USER_ELEMENT = re.compile(r'"user_id": "([UW]\w+)"')
_USER = re.compile(r"<@([UW]\w+)(?:\|[^>]*)?>")


@dataclass(eq=False)
class User:
    """A person or an app's bot user; `bot_id` is set for bots only."""

    id: str
    name: str
    display_name: str
    bot_id: str | None = None
    app_id: str | None = None
    team: str = TEAM_ID
    """Their workspace; another one's people come in over a shared channel (Slack Connect)."""

    @property
    def is_bot(self) -> bool:
        return self.bot_id is not None

    @property
    def mention(self) -> str:
        return f"<@{self.id}>"


@dataclass(eq=False)
class Channel:
    """A place to talk; `members` holds user ids."""

    id: str
    name: str
    type: ChannelType
    members: set[str] = field(default_factory=set)


@dataclass(eq=False)
class Message:
    """One message as the workspace keeps it. `ts` is its id within the channel."""

    channel: Channel
    user: User
    ts: str
    text: str
    thread_ts: str | None = None
    client_msg_id: str | None = None
    subtype: str | None = None
    edited_ts: str | None = None
    deleted: bool = False
    markdown: bool = False
    metadata: dict[str, Any] | None = None
    blocks: list[dict[str, Any]] | None = None
    files: list[dict[str, Any]] = field(default_factory=list)
    attachments: list[dict[str, Any]] = field(default_factory=list)
    username: str | None = None
    """The name an app gave itself for this message alone."""
    reactions: dict[str, set[str]] = field(default_factory=dict)
    stream: Literal["open", "completed"] | None = None
    ephemeral_for: str | None = None

    @property
    def root_ts(self) -> str:
        """The thread this message belongs to, its own ts when it is a top-level message."""
        return self.thread_ts or self.ts

    @property
    def finished(self) -> bool:
        return self.stream != "open"

    @property
    def pings(self) -> set[str]:
        """Who gets a notification: user ids, `channel`, `here`, `everyone`, `subteam^S…`.

        Slack reads control sequences in angle brackets only; escaped ones are plain text, and so
        is all code.
        """
        text = _CODE.sub(" ", self.text)
        found: set[str] = set(_USER.findall(text))
        found.update(_BROADCAST.findall(text))
        found.update(_SUBTEAM.findall(text))
        found.update(_USER_ELEMENT.findall(json.dumps(self.blocks or [])))
        return found


class Workspace:
    """The state every part of the fake reads and writes."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.users: dict[str, User] = {}
        self.channels: dict[str, Channel] = {}
        self.messages: dict[str, list[Message]] = {}
        self.ephemerals: list[Message] = []
        self.views: dict[str, dict[str, Any]] = {}
        self._counter = 0
        self.bot = self._add(
            User("U0FRIENDBOT", "friend", "friend", bot_id="B0FRIENDBOT", app_id=APP_ID)
        )

    def _add(self, user: User) -> User:
        self.users[user.id] = user
        return user

    def _next(self) -> str:
        self._counter += 1
        return f"{self._counter:05d}"

    def add_user(self, name: str, display_name: str | None = None, *, team: str = TEAM_ID) -> User:
        return self._add(User(f"U1{self._next()}", name, display_name or name, team=team))

    def add_bot(self, name: str) -> User:
        """Another app's bot: friend must not talk with it."""
        serial = self._next()
        return self._add(
            User(f"U2{serial}", name, name, bot_id=f"B2{serial}", app_id=f"A2{serial}")
        )

    def add_channel(self, name: str, members: list[User], kind: ChannelType) -> Channel:
        prefix = {"channel": "C", "group": "G", "im": "D", "mpim": "G"}[kind]
        channel = Channel(f"{prefix}1{self._next()}", name, kind, {user.id for user in members})
        self.channels[channel.id] = channel
        self.messages[channel.id] = []
        return channel

    def post(self, channel: Channel, user: User, text: str, **fields: Any) -> Message:
        """Keep a new message. Only people's messages carry a client_msg_id, as in Slack."""
        message = Message(channel, user, self.clock.next_ts(), text, **fields)
        if not user.is_bot and message.client_msg_id is None:
            message.client_msg_id = str(uuid.uuid4())
        self.messages[channel.id].append(message)
        return message

    def find(self, channel: Channel, ts: str) -> Message | None:
        for message in self.messages[channel.id]:
            if message.ts == ts and not message.deleted:
                return message
        return None

    def history(self, channel: Channel) -> list[Message]:
        """Top-level messages, newest first, as conversations.history lists them."""
        alive = [m for m in self.messages[channel.id] if not m.deleted]
        return [m for m in reversed(alive) if m.thread_ts is None or m.thread_ts == m.ts]

    def thread(self, channel: Channel, root_ts: str) -> list[Message]:
        """The thread's messages, oldest first, its root included."""
        alive = [m for m in self.messages[channel.id] if not m.deleted]
        return [m for m in alive if m.root_ts == root_ts]
