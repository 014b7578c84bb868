"""A bot on the fakes: in this process, or in a child process that can be killed."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, STDOUT
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bot.app import open_bot
from bot.errors import PlatformFailed
from bot.platforms.discord.courier import Patience
from bot.platforms.discord.platform import DiscordPlatform
from bot.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import pytest

    from bot.app import Bot
    from bot.core.ports import ReplyTimes
    from bot.platforms.discord.outlet import Pace
    from tests.fakes.discord import Channel, FakeDiscord, Message, User
    from tests.fakes.model import FakeModel

ROOT = Path(__file__).parents[3]
PROMPT = Patience(
    attempts=4, first_wait=0.02, longest_wait=0.1, attempt_seconds=20.0, banned_wait=0.05
)


@dataclass
class Log:
    """An observer that only remembers."""

    received_: list[str] = field(default_factory=list)
    replied_: list[str] = field(default_factory=list)

    def received(self, platform: str, outcome: str) -> None:
        self.received_.append(outcome)

    def replied(self, platform: str, outcome: str, times: ReplyTimes) -> None:
        self.replied_.append(outcome)


@dataclass
class Running:
    """A bot that listens on the fake."""

    bot: Bot
    platform: DiscordPlatform
    log: Log
    task: asyncio.Task[None]

    async def idle(self) -> None:
        """Return once every reply owed has been given."""
        async with asyncio.timeout(30):
            await self.bot.queues.idle()


@dataclass
class Stage:
    """The fakes and the way to put a bot on them. `environment` is what the settings see."""

    discord: FakeDiscord
    model: FakeModel
    environment: dict[str, str]
    monkeypatch: pytest.MonkeyPatch

    @asynccontextmanager
    async def bot(self, pace: Pace | None = None, **environment: str) -> AsyncIterator[Running]:
        """A bot from its start to its orderly end."""
        for name, value in {**self.environment, **environment}.items():
            self.monkeypatch.setenv(name, value)
        settings = load_settings()
        platform = DiscordPlatform(
            settings.discord, pace=pace, patience=PROMPT, restart_seconds=(0.05, 0.2)
        )
        log = Log()
        sessions = len(self.discord.gateway.sessions)
        async with platform, open_bot(settings, [platform], observer=log) as bot:
            task = asyncio.create_task(platform.run(bot.friend))
            try:
                await self._connected(task, sessions)
                yield Running(bot, platform, log, task)
            finally:
                task.cancel()
                with suppress(asyncio.CancelledError, PlatformFailed):
                    await task

    @asynccontextmanager
    async def child(self, **environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """`friend discord` in a process of its own, connected; killed at the end if need be."""
        sessions = len(self.discord.gateway.sessions)
        process = await self._spawn(environment)
        try:
            await self.discord.wait_until(
                lambda: len(self.discord.gateway.sessions) > sessions, 60, "the child's session"
            )
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

    async def _connected(self, task: asyncio.Task[None], sessions: int) -> None:
        waiting = asyncio.create_task(
            self.discord.wait_until(lambda: len(self.discord.gateway.sessions) > sessions, 30)
        )
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            waiting.cancel()
            task.result()
        await waiting
