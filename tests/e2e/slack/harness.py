"""A bot on the fakes: in this process, or in a child process that can be killed."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from bot.platforms.slack import SlackPlatform
from bot.platforms.slack.socket import SocketTimes
from tests.e2e.harness import ROOT, BotStage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.e2e.harness import Running
    from tests.fakes.slack import FakeSlack

BRISK = SocketTimes(ping=0.2, grace=1.0, silence=60.0, check=0.05)


@dataclass
class Stage(BotStage):
    """The fakes and the way to put a bot on them."""

    slack: FakeSlack

    @asynccontextmanager
    async def bot(
        self, times: SocketTimes = BRISK, **environment: str
    ) -> AsyncIterator[Running[SlackPlatform]]:
        """A bot from its start to its orderly end."""
        settings = self.settings(environment)
        platform = SlackPlatform(settings.slack, api_url=self.slack.api_url, socket_times=times)
        async with self.running(platform, settings, partial(_connected, platform)) as running:
            if self.slack.transport == "http":
                self.slack.http.target = platform.http_url
            yield running

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


async def _connected(platform: SlackPlatform) -> None:
    async with asyncio.timeout(30):
        await platform.connected.wait()
