"""People talk to friend, and everything works."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING

import pytest

from bot import texts
from bot.platforms.discord.outlet import Pace
from tests.fakes.model import echo

if TYPE_CHECKING:
    from tests.e2e.discord.harness import Stage
    from tests.fakes.discord import Channel, User

pytestmark = pytest.mark.e2e


async def test_mention_gets_a_reply(stage: Stage, general: Channel, alice: User) -> None:
    async with stage.bot():
        said = await stage.discord.say(general, alice, f"{stage.discord.bot.mention} hello there")
        reply = await stage.discord.wait_for_message(general)
    assert reply.content == "I heard: hello there"
    assert reply.reference is said
    assert reply.pinged == []
    assert stage.prompt() == ["user: hello there"]
    assert stage.model.requests[0]["messages"][0]["name"] == "Alice"


async def test_direct_message_gets_a_reply(stage: Stage, alice: User) -> None:
    dm = stage.discord.dm(alice)
    async with stage.bot():
        await stage.discord.say(dm, alice, "psst")
        reply = await stage.discord.wait_for_message(dm)
    assert reply.content == "I heard: psst"


async def test_reply_that_pings_gets_a_reply(stage: Stage, general: Channel, alice: User) -> None:
    async with stage.bot():
        first = await stage.ask(general, alice, "one")
        said = await stage.discord.say(general, alice, "two", reply_to=first)
        second = await stage.reply_to(said)
    assert second.content == "I heard: two"
    assert stage.prompt() == ["user: one", "assistant: I heard: one", "user: two"]


async def test_silent_reply_is_not_answered_without_the_intent(
    stage: Stage, general: Channel, alice: User
) -> None:
    async with stage.bot() as running:
        first = await stage.ask(general, alice, "one")
        await stage.discord.say(general, alice, "quietly", reply_to=first, ping=False)
        await stage.discord.say(general, alice, "nothing to friend")
        await stage.ask(general, alice, "two")
        await running.idle()
    assert [m.content for m in general.posted(stage.discord.bot)] == [
        "I heard: one",
        "I heard: two",
    ]


async def test_other_bots_and_friend_itself_are_ignored(
    stage: Stage, general: Channel, alice: User
) -> None:
    other = stage.discord.add_bot("other")
    async with stage.bot():
        await stage.discord.say(general, other, f"{stage.discord.bot.mention} hello")
        reply = await stage.ask(general, alice, "and me?")
    assert reply.content == "I heard: and me?"
    assert len(stage.model.requests) == 1


async def test_two_channels_keep_separate_histories(
    stage: Stage, general: Channel, alice: User
) -> None:
    assert general.guild is not None
    other = general.guild.add_text_channel("other")
    async with stage.bot():
        await stage.ask(general, alice, "apples")
        await stage.ask(other, alice, "pears")
        await stage.ask(general, alice, "more")
    assert stage.prompt(1) == ["user: pears"]
    assert stage.prompt(2) == ["user: apples", "assistant: I heard: apples", "user: more"]


async def test_thread_reply_stays_in_the_thread_with_a_history_of_its_own(
    stage: Stage, general: Channel, alice: User
) -> None:
    async with stage.bot():
        await stage.ask(general, alice, "outside")
        thread = stage.discord.add_thread(general, "aside", alice)
        reply = await stage.ask(thread, alice, "inside")
    assert reply.channel is thread
    assert stage.prompt() == ["user: inside"]
    assert len(general.posted(stage.discord.bot)) == 1


async def test_thread_friend_is_in_needs_no_mention_with_the_intent(
    stage: Stage, general: Channel, alice: User
) -> None:
    stage.discord.world.allowed_intents |= 1 << 15
    async with stage.bot(DISCORD_MESSAGE_CONTENT="true"):
        thread = stage.discord.add_thread(general, "aside", alice)
        await stage.ask(thread, alice, "one")
        second = await stage.reply_to(await stage.discord.say(thread, alice, "two"))
    assert second.content == "I heard: two"


async def test_history_lives_on_after_a_restart(
    stage: Stage, general: Channel, alice: User
) -> None:
    async with stage.bot():
        await stage.ask(general, alice, "my name is Alice")
    async with stage.bot():
        await stage.ask(general, alice, "what is my name?")
    assert stage.prompt()[0] == "user: my name is Alice"


async def test_bare_mention_answers_what_was_said_just_before(
    stage: Stage, general: Channel, alice: User, bob: User
) -> None:
    stage.discord.world.allowed_intents |= 1 << 15
    async with stage.bot(DISCORD_MESSAGE_CONTENT="true") as running:
        await stage.discord.say(general, bob, "is it going to rain?")
        await stage.discord.say(general, alice, stage.discord.bot.mention)
        reply = await stage.discord.wait_for_message(general)
        await running.idle()
    assert reply.content == "I heard: is it going to rain?"
    assert len(stage.model.requests) == 1


async def test_bare_mention_out_of_the_blue(stage: Stage, general: Channel, alice: User) -> None:
    async with stage.bot():
        reply = await stage.ask(general, alice, "")
    assert reply.content == texts.LISTENING
    assert stage.model.requests == []


async def test_attachment_without_words(stage: Stage, alice: User) -> None:
    dm = stage.discord.dm(alice)
    picture = {
        "id": "1",
        "filename": "cat.png",
        "size": 1,
        "url": "http://127.0.0.1/cat.png",
        "proxy_url": "http://127.0.0.1/cat.png",
    }
    async with stage.bot():
        await stage.discord.say(dm, alice, "", attachments=[picture])
        reply = await stage.discord.wait_for_message(dm)
    assert reply.content == texts.ONLY_TEXT


async def test_markup_becomes_readable(
    stage: Stage, general: Channel, alice: User, bob: User
) -> None:
    assert general.guild is not None
    role = general.guild.add_role("cooks")
    text = f"does {bob.mention} know {role.mention} in <#{general.id}>, <@{stage.discord.bot.id}>?"
    async with stage.bot():
        await stage.discord.say(general, alice, text)
        await stage.discord.wait_for_message(general)
    assert stage.prompt() == ["user: does @Bob know @cooks in #general?"]


async def test_strange_texts_come_through(stage: Stage, general: Channel, alice: User) -> None:
    texts_ = ["👩‍👩‍👧‍👦 🏳️‍🌈 ok?", "مرحبا يا صديقي", "x" * 1900, "**bold** `code` ~~gone~~"]
    async with stage.bot():
        for text in texts_:
            await stage.ask(general, alice, text)
    asked = [request["messages"][-1]["content"] for request in stage.model.requests]
    assert asked == texts_


async def test_long_reply_is_split_and_everyone_pings_nobody(
    stage: Stage, general: Channel, alice: User, bob: User
) -> None:
    said = f"@everyone @here {bob.mention} hello. " + "One more sentence. " * 200
    stage.model.reply_with(said)
    async with stage.bot(FRIEND_REPLY_MAX_TOKENS="2000") as running:
        await stage.discord.say(general, alice, f"{stage.discord.bot.mention} go on")
        await stage.discord.wait_for_message(general)
        await running.idle()
    posted = general.posted(stage.discord.bot)
    assert len(posted) == 2
    assert all(len(m.content) <= 2000 for m in posted)
    assert all(m.content.endswith(".") for m in posted)
    assert all(m.pinged == [] and not m.mention_everyone for m in posted)
    assert " ".join(m.content for m in posted).split() == said.split()


async def test_typing_lasts_for_the_whole_wait_and_is_cleared(
    stage: Stage, general: Channel, alice: User
) -> None:
    async def answer_after_a_while(messages: list[dict[str, str]]) -> str:
        await stage.discord.wait_until(lambda: len(stage.discord.typing) >= 3)
        return echo(messages)

    stage.model.reply_with(answer_after_a_while)
    async with stage.bot(Pace(typing_seconds=0.1)) as running:
        await stage.discord.say(general, alice, f"{stage.discord.bot.mention} hello")
        await stage.discord.wait_until(lambda: stage.discord.is_typing(general))
        reply = await stage.discord.wait_for_message(general)
        await running.idle()
        await asyncio.sleep(0.2)
        assert not stage.discord.is_typing(general)
    assert max(at for _, at in stage.discord.typing) < reply.versions[0][0]


async def test_quick_reply_is_posted_once(stage: Stage, general: Channel, alice: User) -> None:
    stage.model.delay = 0.01
    async with stage.bot() as running:
        reply = await stage.ask(general, alice, "a few words of it")
        await running.idle()
    assert len(reply.versions) == 1


async def test_slow_reply_is_streamed_by_edits_at_most_once_in_the_set_time(
    stage: Stage, general: Channel, alice: User
) -> None:
    stage.model.delay = 0.03
    said = " ".join(f"word{n}" for n in range(40))
    stage.model.reply_with(said)
    async with stage.bot(Pace(first_show_seconds=0.2, edit_seconds=0.2)) as running:
        reply = await stage.ask(general, alice, "tell me")
        assert reply.content != said
        await running.idle()
        assert reply.content == said
        again = await stage.ask(general, alice, "once more")
    times = [at for at, _ in reply.versions]
    contents = [content for _, content in reply.versions]
    assert len(times) >= 4
    # The last edit completes the reply and need not wait.
    assert all(b - a >= 0.19 for a, b in itertools.pairwise(times[:-1]))
    assert all(b.startswith(a) for a, b in itertools.pairwise(contents))
    assert reply.pinged == []
    assert again.id != reply.id


async def test_edit_and_deletion_are_followed(stage: Stage, general: Channel, alice: User) -> None:
    async with stage.bot() as running:
        first = await stage.discord.say(general, alice, f"{stage.discord.bot.mention} my cat Tom")
        await stage.discord.wait_for_message(general)
        second = await stage.discord.say(general, alice, f"{stage.discord.bot.mention} a secret")
        await stage.discord.wait_for_message(general)
        await running.idle()
        await stage.discord.edit(first, f"{stage.discord.bot.mention} my dog Tim")
        await stage.discord.delete(second)
        await stage.ask(general, alice, "what do you know?")
    prompt = stage.prompt()
    assert "user: my dog Tim" in prompt
    assert not any("Tom" in line and line.startswith("user") for line in prompt)
    assert "user: a secret" not in prompt


async def test_burst_of_five_messages_keeps_order(
    stage: Stage, general: Channel, alice: User
) -> None:
    async with stage.bot() as running:
        for number in range(5):
            await stage.discord.say(general, alice, f"{stage.discord.bot.mention} {number}")
        await stage.discord.wait_until(lambda: len(general.posted(stage.discord.bot)) == 5)
        await running.idle()
    replies = [m.content for m in general.posted(stage.discord.bot)]
    assert replies == [f"I heard: {number}" for number in range(5)]


async def test_burst_of_one_person_is_answered_together(
    stage: Stage, general: Channel, alice: User
) -> None:
    async with stage.bot(FRIEND_REPLY_BURST_SECONDS="60") as running:
        with stage.model.held():
            for text in ("hi", "how are you?", "long time no see"):
                await stage.discord.say(general, alice, f"{stage.discord.bot.mention} {text}")
            await running.heard(3)
        reply = await stage.discord.wait_for_message(general)
        await running.idle()
    assert reply.content == "I heard: long time no see"
    assert len(general.posted(stage.discord.bot)) == 1
    assert stage.prompt() == ["user: hi", "user: how are you?", "user: long time no see"]


async def test_fifty_channels_at_once(stage: Stage, alice: User) -> None:
    guild = stage.discord.add_guild("large")
    channels = [guild.add_text_channel(f"channel-{n}") for n in range(50)]
    everybody = asyncio.Barrier(50)

    async def answer_all_at_once(messages: list[dict[str, str]]) -> str:
        await everybody.wait()
        return echo(messages)

    stage.model.reply_with(answer_all_at_once)
    async with stage.bot(FRIEND_ACCESS_PERSON_PER_MINUTE="0") as running:
        said = [
            await stage.discord.say(channel, alice, f"{stage.discord.bot.mention} {number}")
            for number, channel in enumerate(channels)
        ]
        replies = await asyncio.gather(*(stage.reply_to(message, 40) for message in said))
        await running.idle()
    assert sorted(
        s[-1]["content"] for s in (r["messages"] for r in stage.model.requests)
    ) == sorted(str(n) for n in range(50))
    assert all(len(channel.posted(stage.discord.bot)) == 1 for channel in channels)
    assert [r.channel for r in replies] == channels
