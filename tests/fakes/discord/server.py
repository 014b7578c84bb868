"""The fake itself: the server's life, and what people on Discord can do."""

from __future__ import annotations

import base64
import time
from typing import TYPE_CHECKING, Any, Self, TypeVar

from aiohttp import web

from tests.fakes.discord.channels import ChannelRoutes
from tests.fakes.discord.commands import Commands
from tests.fakes.discord.entities import User
from tests.fakes.discord.intents import MESSAGE_CONTENT
from tests.fakes.discord.interactions import Interaction, Interactions
from tests.fakes.discord.patching import VARIABLE, patch
from tests.fakes.discord.payloads import member_payload, snapshot_payload
from tests.fakes.discord.rest import PREFIX, Rest
from tests.fakes.discord.world import World

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fakes.discord.entities import Channel, Guild, Message
    from tests.fakes.discord.wire import Json

T = TypeVar("T")

TYPING_SECONDS = 10.0

_PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


class FakeDiscord:
    """Discord on a loopback port.

    Attributes:
        token: the only token it takes.
        bot: the application's own user.
        gateway: connections and sessions, and how to break them.
        faults: what the next REST requests meet.
        buckets: rate limits.
        requests: every REST request, in order of arrival.
        commands: the registered slash commands.
        interactions: limits and log of slash command uses.
        problems: protocol errors of the client's; raised on leaving the block.
    """

    def __init__(self, *, message_content: bool = False) -> None:
        self.world = World()
        self.token = self.world.token
        if message_content:
            self.world.allowed_intents |= MESSAGE_CONTENT
        self.gateway = self.world.gateway
        self.bot = self.world.bot
        self.problems = self.world.problems
        self._rest = Rest(self.world)
        self.faults = self._rest.faults
        self.buckets = self._rest.buckets
        self.requests = self._rest.requests
        self.commands = Commands(self.world)
        self.interactions = Interactions(self.world, self.commands)
        self._runner: web.AppRunner | None = None
        self._seen: dict[tuple[Channel, User], int] = {}

    @property
    def base_url(self) -> str:
        return self.world.base_url

    @property
    def typing(self) -> list[tuple[Channel, float]]:
        """(channel, monotonic seconds) of the bot's typing requests."""
        return [(channel, at) for channel, user, at in self.world.typing if user is self.bot]

    async def __aenter__(self) -> Self:
        app = web.Application(middlewares=[self._rest.middleware], client_max_size=32 * 1024**2)
        app.router.add_get("/gateway", self.gateway.handle)
        app.router.add_get("/resume-gateway", self.gateway.handle)
        app.router.add_get("/cdn/{path:.*}", self._asset)
        for part in (ChannelRoutes(self.world), self.commands, self.interactions):
            app.router.add_routes(part.routes(PREFIX))
        self._runner = web.AppRunner(app, shutdown_timeout=0.2, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.world.base_url = f"http://{host}:{port}"
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        await self.gateway.shut_down()
        if self._runner is not None:
            await self._runner.cleanup()
        if kind is None:
            self.check()

    def check(self) -> None:
        """Raise if the client did anything that the fake does not know."""
        if self.problems:
            raise AssertionError("the client broke Discord's rules:\n" + "\n".join(self.problems))

    def patch(self, monkeypatch: Any) -> None:
        """Redirect discord.py in this process for as long as the test runs."""
        patch(monkeypatch, self.base_url)

    def environment(self) -> dict[str, str]:
        """For a child process that calls ``apply_environment`` first."""
        return {VARIABLE: self.base_url}

    def add_user(self, name: str) -> User:
        return self.world.add_user(name)

    def add_bot(self, name: str) -> User:
        """Somebody else's bot."""
        return self.world.add_user(name, bot=True)

    def add_guild(self, name: str = "guild") -> Guild:
        return self.world.add_guild(name)

    def add_thread(
        self,
        parent: Channel,
        name: str,
        owner: User,
        *members: User,
        begun_from: Message | None = None,
    ) -> Channel:
        """Somebody opens a public thread; put ``fake.bot`` in ``members`` to have the bot in it."""
        assert parent.guild is not None
        thread = parent.guild.add_thread(parent, name, owner, list(members), begun_from)
        self.world.announce_thread(thread)
        return thread

    def dm(self, user: User) -> Channel:
        return self.world.dm(user)

    async def say(
        self,
        channel: Channel,
        user: User,
        content: str,
        *,
        reply_to: Message | None = None,
        ping: bool = True,
        attachments: list[Json] | None = None,
        age: float = 0.0,
        **more: Any,
    ) -> Message:
        """A person posts, ``age`` seconds ago.

        ``ping`` is the switch beside a reply, on by default as in the apps. ``more`` may be
        ``embeds``, a ``poll`` or ``stickers``.
        """
        allowed: Json | None = None
        if reply_to is not None and not ping:
            allowed = {"parse": ["users", "roles", "everyone"], "replied_user": False}
        return self.world.post(
            channel,
            user,
            content,
            reference=reply_to,
            allowed=allowed,
            attachments=attachments,
            age=age,
            **more,
        )

    async def forward(self, channel: Channel, user: User, message: Message) -> Message:
        """A person shows a message again; words about it would be a message of their own."""
        snapshot = snapshot_payload(message)
        return await self.say(channel, user, "", forwards=message, snapshot=snapshot)

    async def proxy(self, channel: Channel, application: int, name: str, content: str) -> Message:
        """An application's webhook says something in a name it chooses."""
        webhook = User(self.world.ids.next(), name, bot=True)
        return await self.say(channel, webhook, content, application=application)

    async def unfurl(self, message: Message, embed: Json) -> None:
        """Discord adds a link's preview, which is an update but no edit of the person's."""
        message.embeds.append(embed)
        self.world.announce_message("MESSAGE_UPDATE", message)

    async def edit(self, message: Message, content: str) -> None:
        self.world.edit(message, content)

    async def delete(self, message: Message) -> None:
        self.world.delete(message)

    async def redeliver(self, message: Message) -> None:
        """The same MESSAGE_CREATE once more, under a new sequence number."""
        self.world.announce_message("MESSAGE_CREATE", message)

    async def start_typing(self, channel: Channel, user: User) -> None:
        data: Json = {
            "channel_id": str(channel.id),
            "user_id": str(user.id),
            "timestamp": int(time.time()),
        }
        if channel.guild is not None:
            data["guild_id"] = str(channel.guild.id)
            data["member"] = member_payload(user)
        self.world.announce("TYPING_START", channel, lambda session: data)

    async def slash(self, channel: Channel, user: User, name: str) -> Interaction:
        return await self.interactions.use(channel, user, name)

    async def wait_for_message(
        self, channel: Channel, *, by: User | None = None, timeout: float = 20.0
    ) -> Message:
        """The next message by ``by`` (the bot by default) that was not returned here before."""
        author = by or self.bot
        since = self._seen.get((channel, author), 0)

        def probe() -> Message | None:
            new = (m for m in channel.posted(author) if m.id > since)
            return next(new, None)

        message = await self.wait_until(probe, timeout, f"a message by {author.name}")
        self._seen[(channel, author)] = message.id
        return message

    async def wait_until(
        self, probe: Callable[[], T | None], timeout: float = 20.0, what: str = "the condition"
    ) -> T:
        """Return the first true value of ``probe``, asked again at each change of the fake."""
        return await self.world.changes.wait_for(probe, timeout, what)

    def is_typing(self, channel: Channel) -> bool:
        """Whether people see "friend is typing": for 10 s, or until the bot posts."""
        last = max((at for where, at in self.typing if where is channel), default=None)
        if last is None or time.monotonic() - last > TYPING_SECONDS:
            return False
        return not any(m.versions[0][0] > last for m in channel.posted(self.bot))

    async def _asset(self, request: web.Request) -> web.Response:
        return web.Response(body=_PIXEL, content_type="image/png")
