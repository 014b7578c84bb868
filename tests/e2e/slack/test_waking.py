"""A model that may sleep is pinged as soon as it is clear that it will be needed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.e2e.harness import SLEEPS

if TYPE_CHECKING:
    from tests.e2e.slack.harness import Stage
    from tests.fakes.slack import Channel, User

pytestmark = pytest.mark.e2e


async def test_a_mention_pings_a_sleeping_model_once_before_it_asks(
    stage: Stage, general: Channel, alice: User
) -> None:
    slack = stage.slack
    async with stage.bot(**SLEEPS):
        for word in ("hello", "again?"):
            await slack.say(general, alice, f"{slack.bot.mention} {word}")
            await slack.wait_for_message(general)
    asked = "/v1/chat/completions"
    assert [request.path for request in stage.model.received] == ["/", asked, asked]


@pytest.mark.parametrize("transport", ["socket", "http"])
async def test_opening_friends_messages_wakes_the_model_where_that_is_set(
    stage: Stage, alice: User
) -> None:
    slack = stage.slack
    async with stage.bot(SLACK_WAKE_ON_OPEN="true", **SLEEPS):
        await slack.open_home(alice, tab="messages")
        await stage.pinged()
        assert stage.model.requests == []
        await slack.say(slack.dm(alice), alice, "hi")
        await slack.wait_for_message(slack.dm(alice))
    assert stage.model.warmed == 1


async def test_opening_wakes_nobody_unless_it_is_set(stage: Stage, alice: User) -> None:
    slack = stage.slack
    async with stage.bot(**SLEEPS):
        await slack.open_home(alice, tab="messages")
        await slack.wait_delivered()
        await asyncio.sleep(0.1)
    assert stage.model.received == []
