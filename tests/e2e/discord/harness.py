"""A bot on the fakes: in this process, or in a child process that can be killed."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, STDOUT
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from bot.platforms.discord.courier import Patience
from bot.platforms.discord.platform import DiscordPlatform
from tests.e2e.harness import ROOT, BotStage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bot.platforms.discord.outlet import Pace
    from tests.e2e.harness import Running
    from tests.fakes.discord import Channel, FakeDiscord, Message, User

PROMPT = Patience(
    attempts=4, first_wait=0.02, longest_wait=0.1, attempt_seconds=20.0, banned_wait=0.05
)


@dataclass
class Stage(BotStage):
    """The fakes and the way to put a bot on them."""

    discord: FakeDiscord

    @asynccontextmanager
    async def bot(
        self, pace: Pace | None = None, **environment: str
    ) -> AsyncIterator[Running[DiscordPlatform]]:
        """A bot from its start to its orderly end."""
        settings = self.settings(environment)
        platform = DiscordPlatform(
            settings.discord, pace=pace, patience=PROMPT, restart_seconds=(0.05, 0.2)
        )
        connected = partial(self._new_session, len(self.discord.gateway.sessions), 30)
        async with self.running(platform, settings, connected) as running:
            yield running

    @asynccontextmanager
    async def child(self, **environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """`friend discord` in a process of its own, connected; killed at the end if need be."""
        sessions = len(self.discord.gateway.sessions)
        process = await self._spawn(environment)
        try:
            await self._new_session(sessions, 60)
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()

    async def run_to_the_end(self, **environment: str) -> tuple[int, str]:
        """`friend discord` until it ends by itself: its status, and all it said."""
        process = await self._spawn(environment, stdout=PIPE, stderr=STDOUT)
        async with asyncio.timeout(60):
            said, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, said.decode()

    async def _spawn(
        self, environment: dict[str, str], *, stdout: int | None = None, stderr: int | None = None
    ) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.e2e.discord.process",
            cwd=ROOT,
            env={**os.environ, **self.environment, **self.discord.environment(), **environment},
            stdout=stdout,
            stderr=stderr,
        )

    async def ask(self, channel: Channel, user: User, text: str) -> Message:
        """Mention friend and return its reply."""
        said = await self.discord.say(channel, user, f"{self.discord.bot.mention} {text}")
        return await self.reply_to(said)

    async def reply_to(self, said: Message, timeout: float = 20.0) -> Message:
        """Friend's reply to a message, as soon as it is posted."""

        def probe() -> Message | None:
            mine = said.channel.posted(self.discord.bot)
            return next((m for m in mine if m.reference is said), None)

        return await self.discord.wait_until(probe, timeout, f"a reply to {said.content!r}")

    def prompt(self, number: int = -1) -> list[str]:
        """What the model was asked, as "role: text" lines."""
        messages = self.model.requests[number]["messages"]
        return [f"{m['role']}: {m['content']}" for m in messages]

    async def _new_session(self, sessions: int, timeout: float) -> None:
        gateway = self.discord.gateway
        await self.discord.wait_until(
            lambda: len(gateway.sessions) > sessions, timeout, "the bot's session"
        )
