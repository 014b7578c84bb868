"""A terminal friend over a real store and real HTTP, with a fake model behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace

import pytest

from bot.app import Bot, open_bot
from bot.chat import for_one_person
from bot.core.conversation import Person
from bot.platforms.terminal.exchange import Exchange, Outcomes
from bot.platforms.terminal.outlet import TerminalPlatform, View
from bot.settings import ModelSettings, Settings, load_settings
from tests.fakes.model import FakeModel


@dataclass
class Desk:
    """Somebody at a terminal."""

    bot: Bot
    exchange: Exchange
    platform: TerminalPlatform

    async def turns(self) -> list[tuple[str, str]]:
        window = await self.bot.store.window(self.platform.conversation)
        return [(str(turn.role), turn.text) for turn in window]


SitDown = Callable[..., AbstractAsyncContextManager[Desk]]


@pytest.fixture
async def model() -> AsyncIterator[FakeModel]:
    async with FakeModel() as fake:
        yield fake


@pytest.fixture
def settings(model: FakeModel, monkeypatch: pytest.MonkeyPatch) -> Settings:
    # In the environment too, for whatever runs as a process of its own.
    monkeypatch.setenv("FRIEND_MODEL_URL", model.url)
    monkeypatch.setenv("FRIEND_MODEL_NAME", "fake-model")
    monkeypatch.setenv("FRIEND_MODEL_ATTEMPTS", "1")
    return replace(load_settings(), model=ModelSettings())


@pytest.fixture
def sit_down(settings: Settings) -> SitDown:
    @asynccontextmanager
    async def open_desk(view: View | None = None, session: str = "default") -> AsyncIterator[Desk]:
        platform = TerminalPlatform(session=session, person=Person("ada", "ada"), view=view)
        outcomes = Outcomes()
        async with open_bot(for_one_person(settings), [platform], observer=outcomes) as bot:
            exchange = Exchange(
                friend=bot.friend,
                queues=bot.queues,
                store=bot.store,
                platform=platform,
                outcomes=outcomes,
            )
            yield Desk(bot, exchange, platform)

    return open_desk
