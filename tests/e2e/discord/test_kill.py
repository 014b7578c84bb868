"""The process ends, by kill -9 at any moment or in good order; each reply is there once, whole."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.fakes.discord import Hang, LateResponse

if TYPE_CHECKING:
    from tests.e2e.discord.harness import Stage
    from tests.fakes.discord import Channel, User

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

WORDS = " ".join(f"word{n}" for n in range(30))
LONG = "One more sentence. " * 200


async def test_killed_while_the_model_thinks(stage: Stage, general: Channel, alice: User) -> None:
    stage.model.first_delay = 60
    async with stage.child() as process:
        await stage.discord.say(general, alice, f"{stage.discord.bot.mention} hello")
        await stage.discord.wait_until(lambda: stage.discord.is_typing(general))
        process.kill()
    assert general.posted(stage.discord.bot) == []
    stage.model.first_delay = 0
    async with stage.bot() as running:
        await stage.discord.wait_for_message(general)
        await running.idle()
    assert [m.content for m in general.posted(stage.discord.bot)] == ["I heard: hello"]


async def test_killed_with_half_a_reply_shown(stage: Stage, general: Channel, alice: User) -> None:
    stage.model.reply_with(WORDS)
    stage.model.delay = 0.5
    async with stage.child() as process:
        said = await stage.discord.say(general, alice, f"{stage.discord.bot.mention} hello")
        draft = await stage.reply_to(said)
        assert draft.content != WORDS
        process.kill()
    stage.model.delay = 0
    stage.discord.world.nonce_memory = 0
    async with stage.bot() as running:
        await stage.discord.wait_until(lambda: draft.content == WORDS)
        await running.idle()
    assert general.posted(stage.discord.bot) == [draft]


@pytest.mark.parametrize("nonce_memory", [0, 300], ids=["nonce forgotten", "nonce known"])
async def test_killed_before_it_knows_that_it_posted(
    stage: Stage, general: Channel, alice: User, nonce_memory: int
) -> None:
    stage.discord.faults.next("POST", "/channels/*/messages", LateResponse(60))
    stage.discord.world.nonce_memory = nonce_memory
    async with stage.child() as process:
        said = await stage.discord.say(general, alice, f"{stage.discord.bot.mention} hello")
        reply = await stage.reply_to(said)
        process.kill()
    async with stage.bot() as running:
        await stage.ask(general, alice, "next")
        await running.idle()
    assert general.posted(stage.discord.bot)[0] is reply
    assert [m.content for m in general.posted(stage.discord.bot)] == [
        "I heard: hello",
        "I heard: next",
    ]
    assert stage.prompt() == ["user: hello", "assistant: I heard: hello", "user: next"]


@pytest.mark.parametrize("second_is_posted", [False, True], ids=["one part posted", "both posted"])
async def test_killed_between_the_parts_of_a_long_reply(
    stage: Stage, general: Channel, alice: User, second_is_posted: bool
) -> None:
    stage.model.reply_with(LONG)
    stage.discord.world.nonce_memory = 0
    posts = ("POST", "/channels/*/messages")
    stage.discord.faults.next(*posts, LateResponse(0))
    second = stage.discord.faults.next(*posts, LateResponse(60) if second_is_posted else Hang(60))
    async with stage.child(FRIEND_REPLY_MAX_TOKENS="2000") as process:
        await stage.discord.say(general, alice, f"{stage.discord.bot.mention} hello")
        await stage.discord.wait_until(lambda: general.posted(stage.discord.bot))
        await stage.discord.wait_until(lambda: second.hits)
        process.kill()
    async with stage.bot() as running:
        await stage.discord.wait_until(lambda: len(general.posted(stage.discord.bot)) >= 2)
        await running.idle()
    posted = general.posted(stage.discord.bot)
    assert len(posted) == 2
    assert " ".join(m.content for m in posted).split() == LONG.split()


async def test_told_to_stop_it_finishes_the_reply_under_way(
    stage: Stage, general: Channel, alice: User
) -> None:
    stage.model.first_delay = 1.0
    async with stage.child() as process:
        await stage.discord.say(general, alice, f"{stage.discord.bot.mention} hello")
        await stage.discord.wait_until(lambda: stage.discord.is_typing(general))
        process.terminate()
        async with asyncio.timeout(40):
            assert await process.wait() == 0
    assert [m.content for m in general.posted(stage.discord.bot)] == ["I heard: hello"]


async def test_told_to_stop_it_leaves_what_takes_too_long_to_the_next_start(
    stage: Stage, general: Channel, alice: User
) -> None:
    stage.model.first_delay = 60
    async with stage.child(FRIEND_DRAIN_SECONDS="0.2") as process:
        await stage.discord.say(general, alice, f"{stage.discord.bot.mention} hello")
        await stage.discord.wait_until(lambda: stage.discord.is_typing(general))
        process.terminate()
        async with asyncio.timeout(40):
            assert await process.wait() == 0
    assert general.posted(stage.discord.bot) == []
    stage.model.first_delay = 0
    async with stage.bot() as running:
        await stage.discord.wait_for_message(general)
        await running.idle()
    assert [m.content for m in general.posted(stage.discord.bot)] == ["I heard: hello"]


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("DISCORD_TOKEN", "MTIz.wrong.token", "Discord does not know this bot token"),
        ("DISCORD_MESSAGE_CONTENT", "true", "does not grant friend the message-content intent"),
    ],
    ids=["wrong token", "missing intent"],
)
async def test_what_only_a_person_can_mend_is_one_sentence_and_status_1(
    stage: Stage, variable: str, value: str, says: str
) -> None:
    status, said = await stage.run_to_the_end(**{variable: value})
    assert status == 1
    assert says in said
    assert "Traceback" not in said
    assert "MTIz.wrong.token" not in said
