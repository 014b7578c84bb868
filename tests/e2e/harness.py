"""What the stages of all platforms share: a bot on the fakes, from its start to its orderly end."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from bot.app import open_bot
from bot.errors import PlatformFailed
from bot.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    import pytest

    from bot.app import Bot
    from bot.core.ports import ReplyTimes
    from bot.settings import Settings
    from tests.fakes.model import FakeModel

ROOT = Path(__file__).parents[2]

SLEEPS = {"FRIEND_MODEL_WAKE_AFTER_SECONDS": "600"}
"""Settings under which the model is taken for one that may sleep, though it is on this machine."""

P = TypeVar("P")


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
class Running(Generic[P]):
    """A bot that hears the fake."""

    bot: Bot
    platform: P
    log: Log
    task: asyncio.Task[None]

    async def heard(self, messages: int) -> None:
        """Return once so many messages have been taken in."""
        async with asyncio.timeout(30):
            while len(self.log.received_) < messages:
                await asyncio.sleep(0.01)

    async def idle(self) -> None:
        """Return once every reply owed has been given."""
        async with asyncio.timeout(30):
            await self.bot.queues.idle()


@dataclass
class BotStage:
    """The model, and what a bot's settings see. Each platform's stage adds its fake."""

    model: FakeModel
    environment: dict[str, str]
    monkeypatch: pytest.MonkeyPatch

    def settings(self, environment: dict[str, str]) -> Settings:
        for name, value in {**self.environment, **environment}.items():
            self.monkeypatch.setenv(name, value)
        return load_settings()

    @asynccontextmanager
    async def running(
        self, platform: Any, settings: Settings, connected: Callable[[], Awaitable[object]]
    ) -> AsyncIterator[Running[Any]]:
        """A bot on `platform`; its end before `connected` is raised."""
        log = Log()
        async with platform, open_bot(settings, [platform], observer=log) as bot:
            task = asyncio.create_task(platform.run(bot.friend))
            try:
                waiting = asyncio.ensure_future(connected())
                await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
                if task.done():
                    waiting.cancel()
                    task.result()
                await waiting
                yield Running(bot, platform, log, task)
            finally:
                task.cancel()
                with suppress(asyncio.CancelledError, PlatformFailed):
                    await task

    async def pinged(self) -> None:
        """Return once somebody has tried to wake the model."""
        async with asyncio.timeout(20):
            while not self.model.warmed:
                await asyncio.sleep(0.01)


def environment_of(model: FakeModel, folder: Path) -> dict[str, str]:
    """Settings of a bot that keeps its history in `folder`."""
    return {
        "FRIEND_MODEL_URL": model.url,
        "FRIEND_MODEL_ATTEMPTS": "2",
        "FRIEND_STORE_URL": f"sqlite+aiosqlite:///{folder / 'history.sqlite3'}",
        "FRIEND_REPLY_BURST_SECONDS": "0",
    }
