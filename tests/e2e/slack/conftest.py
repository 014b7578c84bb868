"""What every scenario stands on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import pytest

from bot.platforms.slack import app_manifest
from tests.e2e.harness import environment_of
from tests.e2e.slack.harness import Stage
from tests.fakes.model import FakeModel
from tests.fakes.slack import FakeSlack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.fakes.slack import Channel, User


@pytest.fixture
def transport() -> Literal["socket", "http"]:
    return "socket"


@pytest.fixture
async def stage(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, transport: Literal["socket", "http"]
) -> AsyncIterator[Stage]:
    """Slack grants what friend's manifest asks for, and the bot runs under its settings."""
    slack = FakeSlack(
        transport=transport, manifest=app_manifest(), ack_seconds=2.0, retry_delays=(0.0, 0.3, 1.0)
    )
    async with slack, FakeModel() as model:
        environment = {"SLACK_BOT_TOKEN": slack.bot_token, **environment_of(model, tmp_path)}
        if transport == "socket":
            environment["SLACK_APP_TOKEN"] = slack.app_token
        else:
            environment["SLACK_SIGNING_SECRET"] = slack.signing_secret
            environment["SLACK_HTTP_PORT"] = "0"
        yield Stage(model, environment, monkeypatch, slack)


@pytest.fixture
def alice(stage: Stage) -> User:
    return stage.slack.add_user("alice", "Alice")


@pytest.fixture
def bob(stage: Stage) -> User:
    return stage.slack.add_user("bob", "Bob")


@pytest.fixture
def general(stage: Stage, alice: User, bob: User) -> Channel:
    return stage.slack.add_channel("general", [alice, bob, stage.slack.bot])
