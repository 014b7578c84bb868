"""Wrong tokens and missing scopes, in sentences a person can act on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bot.errors import BadToken, FriendError, MissingScope, PlatformFailed
from bot.platforms.slack import check_tokens
from bot.settings import load_settings

if TYPE_CHECKING:
    from tests.e2e.slack.harness import Stage

pytestmark = pytest.mark.e2e


async def _start(stage: Stage, **environment: str) -> None:
    async with stage.bot(**environment):
        pass


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("SLACK_BOT_TOKEN", "xoxb-wrong", "does not accept SLACK_BOT_TOKEN (invalid_auth)"),
        ("SLACK_BOT_TOKEN", "xapp-1-swapped", "does not start with xoxb-"),
        ("SLACK_APP_TOKEN", "xapp-wrong", "does not accept SLACK_APP_TOKEN (invalid_auth)"),
        ("SLACK_APP_TOKEN", "xoxb-swapped", "does not start with xapp-"),
    ],
)
async def test_wrong_token_is_named(stage: Stage, variable: str, value: str, says: str) -> None:
    with pytest.raises(BadToken) as caught:
        await _start(stage, **{variable: value})
    assert says in str(caught.value)
    assert value not in str(caught.value)


async def test_missing_scope_is_named_with_its_purpose(stage: Stage) -> None:
    stage.slack.scopes.discard("users:read")
    with pytest.raises(MissingScope) as caught:
        await _start(stage)
    assert "users:read (to know people's names)" in str(caught.value)
    assert "friend manifest slack" in str(caught.value)


async def test_no_way_to_hear_is_said(stage: Stage) -> None:
    with pytest.raises(PlatformFailed) as caught:
        await _start(stage, SLACK_APP_TOKEN="")
    assert "SLACK_APP_TOKEN" in str(caught.value)
    assert "SLACK_SIGNING_SECRET" in str(caught.value)


async def test_tokens_can_be_checked_without_going_to_work(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in stage.environment.items():
        monkeypatch.setenv(name, value)
    identity = await check_tokens(load_settings().slack, api_url=stage.slack.api_url)
    assert identity.user_id == stage.slack.bot.id
    assert stage.slack.socket.connections == 0


async def test_slack_out_of_reach_is_said(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bot.platforms.slack.client.RETRIES", 0)
    for name, value in stage.environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(FriendError, match="cannot be reached") as caught:
        await check_tokens(load_settings().slack, api_url="http://127.0.0.1:9/api/")
    assert not isinstance(caught.value, PlatformFailed), "worth another try"
