"""A model that may sleep is pinged as soon as it is clear that it will be needed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.e2e.harness import SLEEPS

if TYPE_CHECKING:
    from tests.e2e.discord.harness import Stage
    from tests.fakes.discord import Channel, User

pytestmark = pytest.mark.e2e


def _paths(stage: Stage) -> list[str]:
    return [request.path for request in stage.model.received]


async def test_a_mention_pings_a_sleeping_model_once_before_it_asks(
    stage: Stage, general: Channel, alice: User
) -> None:
    async with stage.bot(**SLEEPS):
        await stage.ask(general, alice, "hello")
        await stage.ask(stage.discord.dm(alice), alice, "and here")
    assert _paths(stage) == ["/", "/v1/chat/completions", "/v1/chat/completions"]


async def test_a_model_on_this_machine_is_not_pinged(
    stage: Stage, general: Channel, alice: User
) -> None:
    async with stage.bot():
        await stage.ask(general, alice, "hello")
    assert _paths(stage) == ["/v1/chat/completions"]


@pytest.mark.parametrize("place", ["direct message", "thread friend is in"])
async def test_typing_to_friend_wakes_the_model_where_that_is_set(
    stage: Stage, general: Channel, alice: User, place: str
) -> None:
    discord = stage.discord
    async with stage.bot(DISCORD_WAKE_ON_TYPING="true", **SLEEPS):
        if place == "direct message":
            channel = discord.dm(alice)
        else:
            channel = discord.add_thread(general, "aside", alice, discord.bot)
        await discord.start_typing(channel, alice)
        await stage.pinged()
        assert stage.model.requests == []
        await discord.start_typing(channel, alice)
        await stage.ask(channel, alice, "hello")
    assert _paths(stage) == ["/", "/v1/chat/completions"]


@pytest.mark.parametrize("setting", ["true", "false"])
async def test_typing_elsewhere_wakes_nobody(
    stage: Stage, general: Channel, alice: User, bob: User, setting: str
) -> None:
    """Among others, in a thread without friend, by somebody blocked; anywhere if it is not set."""
    discord = stage.discord
    environment = {"DISCORD_WAKE_ON_TYPING": setting, "FRIEND_ACCESS_BLOCK_PEOPLE": str(bob.id)}
    async with stage.bot(**environment, **SLEEPS) as running:
        await discord.start_typing(general, alice)
        await discord.start_typing(discord.add_thread(general, "aside", alice), alice)
        await discord.start_typing(discord.dm(bob), bob)
        if setting == "false":
            await discord.start_typing(discord.dm(alice), alice)
        await discord.say(general, alice, f"{discord.bot.mention} about")
        await discord.wait_for_message(general)
        await running.idle()
        await asyncio.sleep(0.1)
    assert stage.model.received == []
