"""What was said while friend was away is answered when it is back: once, in order, unless old."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
import structlog

from tests.fakes.discord import Hang, Refusal

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.discord.harness import Stage
    from tests.fakes.discord import Channel, User

pytestmark = pytest.mark.e2e

HISTORY = "/channels/{}/messages"


async def _looked_back(stage: Stage, channel: Channel, since: int) -> None:
    """The channel has been read, in one of the requests from number `since` on."""
    path = HISTORY.format(channel.id)
    await stage.discord.wait_until(
        lambda: any(
            (request.method, request.path) == ("GET", path) and request.status
            for request in stage.discord.requests[since:]
        ),
        what="a look at the history",
    )


async def test_what_came_while_it_was_down_is_answered_once_and_in_order(
    stage: Stage, general: Channel, alice: User, bob: User
) -> None:
    discord = stage.discord
    dm = discord.dm(alice)
    async with stage.bot():
        await stage.reply_to(await discord.say(dm, alice, "zero"))
    for user, word in ((alice, "one"), (bob, "two"), (alice, "three")):
        await discord.say(general, user, f"{discord.bot.mention} {word}")
    for word in ("four", "five"):
        await discord.say(dm, alice, word)
    async with stage.bot() as running:
        await discord.wait_until(lambda: len(general.posted(discord.bot)) == 3)
        await discord.wait_until(lambda: len(dm.posted(discord.bot)) == 3)
        await running.idle()
    since = len(discord.requests)
    async with stage.bot() as running:
        await _looked_back(stage, general, since)
        await _looked_back(stage, dm, since)
        await stage.ask(general, bob, "six")
        await running.idle()
    said = [message.content for message in general.posted(discord.bot)]
    assert said == [f"I heard: {word}" for word in ("one", "two", "three", "six")]
    assert [m.content for m in dm.posted(discord.bot)] == [
        f"I heard: {word}" for word in ("zero", "four", "five")
    ]
    assert running.log.received_.count("queued") == 1


async def test_a_message_that_comes_by_itself_waits_for_those_before_it(
    stage: Stage, general: Channel, alice: User
) -> None:
    discord = stage.discord
    discord.faults.next("GET", HISTORY.format(general.id), Hang(0.5))
    await discord.say(general, alice, f"{discord.bot.mention} first")
    async with stage.bot() as running:
        await stage.ask(general, alice, "second")
        await running.idle()
    assert [m.content for m in general.posted(discord.bot)] == [
        "I heard: first",
        "I heard: second",
    ]
    assert running.log.received_ == ["queued", "queued"]


async def test_old_messages_are_left_alone(stage: Stage, general: Channel, alice: User) -> None:
    discord = stage.discord
    await discord.say(general, alice, f"{discord.bot.mention} long ago", age=121)
    await discord.say(general, alice, f"{discord.bot.mention} just now", age=30)
    async with stage.bot(FRIEND_STORE_ANSWER_WITHIN_MINUTES="2") as running:
        await discord.wait_for_message(general)
        await running.idle()
    assert [m.content for m in general.posted(discord.bot)] == ["I heard: just now"]
    assert stage.prompt() == ["user: just now"]


async def test_quiet_channels_cost_no_request(stage: Stage, general: Channel, alice: User) -> None:
    discord = stage.discord
    assert general.guild is not None
    quiet = general.guild.add_text_channel("quiet")
    await discord.say(quiet, alice, "long ago", age=3600)
    await discord.say(general, alice, f"{discord.bot.mention} just now")
    async with stage.bot():
        await discord.wait_for_message(general)
    assert not any(r.path == HISTORY.format(quiet.id) for r in discord.requests)


async def test_a_channel_that_cannot_be_read_is_passed_over(
    stage: Stage, general: Channel, alice: User
) -> None:
    discord = stage.discord
    assert general.guild is not None
    closed = general.guild.add_text_channel("closed")
    await discord.say(general, alice, f"{discord.bot.mention} hello")
    await discord.say(closed, alice, f"{discord.bot.mention} hello?")
    path = HISTORY.format(closed.id)
    refused = discord.faults.next("GET", path, Refusal(403, 50001, "Missing Access"), times=9)
    with structlog.testing.capture_logs() as logs:
        async with stage.bot() as running:
            await discord.wait_for_message(general)
            await running.idle()
    assert refused.hits == 1
    assert closed.posted(discord.bot) == []
    (told,) = [entry for entry in logs if entry["event"] == "discord.not_looked_back"]
    assert told["channel"] == closed.id
    assert "Missing Access" in told["error"]


async def test_a_session_that_cannot_be_resumed_loses_nothing(
    stage: Stage, general: Channel, alice: User
) -> None:
    discord = stage.discord
    async with stage.bot() as running:
        await stage.ask(general, alice, "before")
        discord.gateway.connected[0].valid = False
        await discord.gateway.drop()
        missed = await discord.say(general, alice, f"{discord.bot.mention} meanwhile")
        await stage.reply_to(missed, timeout=40)
        await running.idle()
    assert len(discord.gateway.sessions) == 2
    assert [m.content for m in general.posted(discord.bot)] == [
        "I heard: before",
        "I heard: meanwhile",
    ]


async def test_without_the_intent_only_what_was_said_to_friend_is_heard(
    stage: Stage, general: Channel, alice: User
) -> None:
    discord = stage.discord
    await discord.say(general, alice, "nothing to friend")
    await discord.say(general, alice, f"{discord.bot.mention} hello")
    async with stage.bot() as running:
        await discord.wait_for_message(general)
        await running.idle()
    assert stage.prompt() == ["user: hello"]
    assert running.log.received_ == ["queued"]


async def test_with_the_intent_the_rest_is_remembered(
    stage: Stage, general: Channel, alice: User, bob: User
) -> None:
    discord = stage.discord
    discord.world.allowed_intents |= 1 << 15
    async with stage.bot(DISCORD_MESSAGE_CONTENT="true"):
        thread = discord.add_thread(general, "aside", alice)
        await stage.ask(thread, alice, "are you here?")
    await discord.say(general, bob, "is it going to rain?")
    await discord.say(general, alice, discord.bot.mention)
    await discord.say(thread, bob, "without a mention")
    async with stage.bot(DISCORD_MESSAGE_CONTENT="true") as running:
        reply = await discord.wait_for_message(general)
        await discord.wait_until(lambda: len(thread.posted(discord.bot)) == 2)
        await running.idle()
    assert reply.content == "I heard: is it going to rain?"
    assert thread.posted(discord.bot)[-1].content == "I heard: without a mention"


async def test_with_another_history_nothing_is_answered_again(
    stage: Stage, general: Channel, alice: User, tmp_path: Path
) -> None:
    """A history that was lost, or is another process's: the channel itself tells."""
    discord = stage.discord
    async with stage.bot():
        await stage.ask(general, alice, "one")
    await discord.say(general, alice, f"{discord.bot.mention} two")
    other = f"sqlite+aiosqlite:///{tmp_path / 'other.sqlite3'}"
    async with stage.bot(FRIEND_STORE_URL=other) as running:
        await discord.wait_until(lambda: len(general.posted(discord.bot)) == 2)
        await running.idle()
    assert [m.content for m in general.posted(discord.bot)] == ["I heard: one", "I heard: two"]


async def test_stopped_while_it_looks_back_it_loses_nothing(
    stage: Stage, general: Channel, alice: User
) -> None:
    discord = stage.discord
    for number in range(5):
        await discord.say(general, alice, f"{discord.bot.mention} {number}")
    async with stage.bot() as running:
        accept = running.bot.store.accept
        began = asyncio.Event()

        async def slow_accept(*args: object, **kwargs: object) -> object:
            began.set()
            await asyncio.sleep(0.2)
            return await accept(*args, **kwargs)  # type: ignore[arg-type]

        stage.monkeypatch.setattr(running.bot.store, "accept", slow_accept)
        async with asyncio.timeout(20):
            await began.wait()
    async with stage.bot() as running:
        await discord.wait_until(lambda: len(general.posted(discord.bot)) == 5)
        await running.idle()
    assert [m.content for m in general.posted(discord.bot)] == [
        f"I heard: {number}" for number in range(5)
    ]
