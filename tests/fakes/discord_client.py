"""A bare discord.py client that writes down what it hears, for the fake's own tests."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import discord
from discord import app_commands

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.fakes.discord import FakeDiscord


class RecordingClient(discord.Client):
    """Real discord.py, as a bot would use it.

    Attributes:
        heard: every on_message, repeats included.
        events: names of all gateway events, in order.
        runner: the task that runs ``start``; its exception is why the client stopped.
    """

    def __init__(self, **options: Any) -> None:
        intents = options.pop("intents", None) or unprivileged_intents()
        super().__init__(intents=intents, guild_ready_timeout=0.05, **options)
        self.tree = app_commands.CommandTree(self)
        self.heard: list[discord.Message] = []
        self.edits: list[discord.RawMessageUpdateEvent] = []
        self.deletes: list[discord.RawMessageDeleteEvent] = []
        self.events: list[str] = []
        self.runner: asyncio.Task[None] | None = None
        self._news = asyncio.Event()

    async def on_message(self, message: discord.Message) -> None:
        self.heard.append(message)
        self._news.set()

    async def on_raw_message_edit(self, event: discord.RawMessageUpdateEvent) -> None:
        self.edits.append(event)
        self._news.set()

    async def on_raw_message_delete(self, event: discord.RawMessageDeleteEvent) -> None:
        self.deletes.append(event)
        self._news.set()

    async def on_socket_event_type(self, name: str) -> None:
        self.events.append(name)
        self._news.set()

    async def before_identify_hook(self, shard_id: int | None, *, initial: bool = False) -> None:
        """Without the pause of five seconds between IDENTIFYs."""

    async def until(self, probe: Any, timeout: float = 20.0) -> None:
        async with asyncio.timeout(timeout):
            while not probe():
                self._news.clear()
                await self._news.wait()


def unprivileged_intents() -> discord.Intents:
    intents = discord.Intents.default()
    intents.message_content = False
    return intents


@asynccontextmanager
async def running(client: RecordingClient, fake: FakeDiscord) -> AsyncIterator[RecordingClient]:
    """The client logged in and listening."""
    client.runner = asyncio.create_task(client.start(fake.token))
    connected = asyncio.create_task(fake.gateway.wait_connected())
    await asyncio.wait({client.runner, connected}, return_when=asyncio.FIRST_COMPLETED)
    if client.runner.done():
        connected.cancel()
        client.runner.result()
    await connected
    await client.until(lambda: client.guilds or not fake.world.guilds)
    try:
        yield client
    finally:
        await client.close()
        with suppress(Exception, asyncio.CancelledError):
            await client.runner
