"""What every scenario stands on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.discord.harness import Stage
from tests.e2e.harness import environment_of
from tests.fakes.discord import FakeDiscord
from tests.fakes.model import FakeModel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.fakes.discord import Channel, User


@pytest.fixture
async def stage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Stage]:
    async with FakeDiscord() as discord, FakeModel() as model:
        discord.patch(monkeypatch)
        environment = {"DISCORD_TOKEN": discord.token, **environment_of(model, tmp_path)}
        yield Stage(model, environment, monkeypatch, discord)


@pytest.fixture
def general(stage: Stage) -> Channel:
    return stage.discord.add_guild("home").add_text_channel("general")


@pytest.fixture
def alice(stage: Stage) -> User:
    return stage.discord.add_user("alice")


@pytest.fixture
def bob(stage: Stage) -> User:
    return stage.discord.add_user("bob")
