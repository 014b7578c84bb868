"""Resetting and forgetting, wherever Slack lets a person ask for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bot import texts
from bot.platforms.slack.manifest import RESET_SHORTCUT

if TYPE_CHECKING:
    from tests.e2e.slack.harness import Stage
    from tests.fakes.slack import Channel, User

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize("transport", ["socket", "http"])
async def test_reset_command_puts_the_channels_threads_behind(
    stage: Stage, general: Channel, alice: User
) -> None:
    slack = stage.slack
    random = slack.add_channel("random", [alice, slack.bot])
    async with stage.bot():
        roots = {}
        for channel in (general, random):
            roots[channel] = await slack.say(channel, alice, f"{slack.bot.mention} I am Al")
            await slack.wait_for_message(channel)
        delivery = await slack.slash(general, alice, "/friend-reset")
        assert delivery.acknowledged
        assert (await slack.wait_for_ephemeral(alice)).text == texts.RESET_DONE
        for channel in (general, random):
            said = f"{slack.bot.mention} who am I?"
            await slack.say(channel, alice, said, thread=roots[channel])
            await slack.wait_for_message(channel)
        await slack.slash(general, alice, "/friend-reset")
        assert (await slack.wait_for_ephemeral(alice)).text == texts.RESET_DONE
        await slack.slash(general, alice, "/friend-reset")
        assert (await slack.wait_for_ephemeral(alice)).text == texts.NOTHING_TO_RESET
    assert stage.prompt(2) == [("user", "who am I?")]
    assert ("user", "I am Al") in stage.prompt(3), "another channel keeps its history"


async def test_reset_in_words_works_in_threads_and_direct_messages(
    stage: Stage, general: Channel, alice: User
) -> None:
    slack = stage.slack
    async with stage.bot():
        for channel, mention in ((general, f"{slack.bot.mention} "), (slack.dm(alice), "")):
            root = await slack.say(channel, alice, f"{mention}I am Al")
            await slack.wait_for_message(channel)
            await slack.say(channel, alice, f"{mention}reset", thread=root)
            assert (await slack.wait_for_message(channel)).text == texts.RESET_DONE
            await slack.say(channel, alice, f"{mention}who am I?", thread=root)
            await slack.wait_for_message(channel)
            assert stage.prompt() == [("user", "who am I?")]


async def test_reset_by_shortcut_where_commands_do_not_work(stage: Stage, alice: User) -> None:
    slack = stage.slack
    dm = slack.dm(alice)
    async with stage.bot():
        root = await slack.say(dm, alice, "I am Al")
        reply = await slack.wait_for_message(dm)
        await slack.shortcut(reply, alice, RESET_SHORTCUT)
        assert (await slack.wait_for_ephemeral(alice)).text == texts.RESET_DONE
        await slack.say(dm, alice, "who am I?", thread=root)
        await slack.wait_for_message(dm)
    assert stage.prompt() == [("user", "who am I?")]


async def test_reset_stops_the_reply_under_way(stage: Stage, general: Channel, alice: User) -> None:
    slack = stage.slack
    stage.model.reply_with("never to be finished " * 20)
    stage.model.delay = 0.2
    async with stage.bot():
        await slack.say(general, alice, f"{slack.bot.mention} talk")
        await slack.wait_for_call("chat.startStream")
        await slack.slash(general, alice, "/friend-reset")
        await slack.wait_for_ephemeral(alice)
        await slack.wait_quiet()
    assert slack.messages(general, by=slack.bot) == []
    assert slack.streams.open == []
    assert slack.statuses.stuck == []


async def test_forget_me_erases_a_persons_words_everywhere(
    stage: Stage, general: Channel, alice: User, bob: User
) -> None:
    slack = stage.slack
    async with stage.bot():
        root = await slack.say(general, alice, f"{slack.bot.mention} my pin is 1234")
        await slack.wait_for_message(general)
        await slack.slash(general, alice, "/friend-forget-me")
        assert (await slack.wait_for_ephemeral(alice)).text == texts.forgot(1)
        await slack.say(general, bob, f"{slack.bot.mention} what is her pin?", thread=root)
        await slack.wait_for_message(general)
    assert "1234" not in str(stage.prompt())


async def test_blocked_people_reset_nothing(
    stage: Stage, general: Channel, alice: User, bob: User
) -> None:
    slack = stage.slack
    async with stage.bot(FRIEND_ACCESS_BLOCK_PEOPLE=bob.id):
        root = await slack.say(general, alice, f"{slack.bot.mention} remember the plums")
        await slack.wait_for_message(general)
        await slack.slash(general, bob, "/friend-reset")
        assert (await slack.wait_for_ephemeral(bob)).text == texts.NOT_FOR_YOU
        await slack.say(general, alice, f"{slack.bot.mention} and?", thread=root)
        await slack.wait_for_message(general)
    assert ("user", "remember the plums") in stage.prompt()
