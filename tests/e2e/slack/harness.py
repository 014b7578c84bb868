"""A bot on the fakes: in this process, or in a child process that can be killed."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bot.app import open_bot
from bot.platforms.slack import SlackPlatform
from bot.platforms.slack.socket import SocketTimes
from bot.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import pytest

    from bot.app import Bot
    from bot.core.ports import ReplyTimes
    from tests.fakes.model import FakeModel
    from tests.fakes.slack import FakeSlack

ROOT = Path(__file__).parents[3]
BRISK = SocketTimes(ping=0.2, grace=1.0, silence=60.0, check=0.05)


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
    """A bot that hears the fake."""

    bot: Bot
    platform: SlackPlatform
    log: Log
    task: asyncio.Task[None]


@dataclass
class Stage:
    """The fakes and the way to put a bot on them. `environment` is what the settings see."""

    slack: FakeSlack
    model: FakeModel
    environment: dict[str, str]
    monkeypatch: pytest.MonkeyPatch

    @asynccontextmanager
    async def bot(self, times: SocketTimes = BRISK, **environment: str) -> AsyncIterator[Running]:
        """A bot from its start to its orderly end."""
        for name, value in {**self.environment, **environment}.items():
            self.monkeypatch.setenv(name, value)
        settings = load_settings()
        platform = SlackPlatform(settings.slack, api_url=self.slack.api_url, socket_times=times)
        log = Log()
        async with platform, open_bot(settings, [platform], observer=log) as bot:
            task = asyncio.create_task(platform.run(bot.friend))
            try:
                await self._connected(task, platform)
                yield Running(bot, platform, log, task)
            finally:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    async def _connected(self, task: asyncio.Task[None], platform: SlackPlatform) -> None:
        connected = asyncio.create_task(platform.connected.wait())
        await asyncio.wait([task, connected], return_when="FIRST_COMPLETED", timeout=30)
        if task.done():
            connected.cancel()
            await task
        assert connected.done(), "the bot did not connect"
        if self.slack.transport == "http":
            self.slack.http.target = platform.http_url

    @asynccontextmanager
    async def child(self, **environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """A bot in a process of its own, connected; killed at the end if it still lives."""
        sockets = self.slack.socket.connections
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.e2e.slack.process",
            self.slack.api_url,
            cwd=ROOT,
            env={
                **{name: value for name, value in os.environ.items() if name != "PYTHONHOME"},
                **self.environment,
                **environment,
            },
        )
        try:
            await self.slack.socket.wait_connected(sockets + 1, timeout=60)
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    def prompt(self, number: int = -1) -> list[tuple[str, str]]:
        """(role, content) of the turns that the model was given."""
        messages = self.model.requests[number]["messages"]
        return [(message["role"], message["content"]) for message in messages]
