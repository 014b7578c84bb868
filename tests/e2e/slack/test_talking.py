"""Talking: what is heard, where it is answered, and what is remembered."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.fakes.model import echo

if TYPE_CHECKING:
    from tests.e2e.slack.harness import Stage
    from tests.fakes.slack import Channel, User

pytestmark = pytest.mark.e2e

both_transports = pytest.mark.parametrize("transport", ["socket", "http"])


@both_transports
async def test_a_mention_is_answered_in_its_thread(
    stage: Stage, general: Channel, alice: User
) -> None:
    slack = stage.slack
    stage.model.reply_with("hello Alice!")
    async with stage.bot():
        asked = await slack.say(general, alice, f"{slack.bot.mention} hi there")
        reply = await slack.wait_for_message(general)
        await slack.wait_quiet()
    assert (reply.text, reply.thread_ts) == ("hello Alice!", asked.ts)
    assert stage.prompt() == [("user", "hi there")]
    assert stage.model.requests[0]["messages"][0]["name"] == "Alice"
    assert slack.messages(general, by=slack.bot) == [reply], "message and app_mention are one"
    assert all(delivery.acknowledged for delivery in slack.deliveries)


@both_transports
async def test_a_direct_message_is_answered_under_itself(stage: Stage, alice: User) -> None:
    slack = stage.slack
    async with stage.bot():
        asked = await slack.say(slack.dm(alice), alice, "hello")
        reply = await slack.wait_for_message(slack.dm(alice))
        await slack.say(slack.dm(alice), alice, "and now?", thread=asked)
        await slack.wait_for_message(slack.dm(alice))
    assert (reply.text, reply.thread_ts) == ("I heard: hello", asked.ts)
    assert stage.prompt() == [
        ("user", "hello"),
        ("assistant", "I heard: hello"),
        ("user", "and now?"),
    ]


async def test_a_thread_goes_on_without_a_mention(
    stage: Stage, general: Channel, alice: User, bob: User
) -> None:
    slack = stage.slack
    async with stage.bot():
        root = await slack.say(general, alice, f"{slack.bot.mention} do you like tea?")
        await slack.wait_for_message(general)
        await slack.say(general, bob, "and coffee?", thread=root)
        reply = await slack.wait_for_message(general)
        await slack.say(general, bob, "just talking to myself")
        await slack.wait_quiet()
    assert (reply.text, reply.thread_ts) == ("I heard: and coffee?", root.ts)
    assert [content for _, content in stage.prompt()] == [
        "do you like tea?",
        "I heard: do you like tea?",
        "and coffee?",
    ]
    assert len(slack.messages(general, by=slack.bot)) == 2


async def test_two_channels_keep_separate_histories(
    stage: Stage, general: Channel, alice: User
) -> None:
    slack = stage.slack
    random = slack.add_channel("random", [alice, slack.bot])
    async with stage.bot():
        for channel, secret in ((general, "apples"), (random, "pears")):
            root = await slack.say(channel, alice, f"{slack.bot.mention} I like {secret}")
            await slack.wait_for_message(channel)
            await slack.say(channel, alice, "what do I like?", thread=root)
            await slack.wait_for_message(channel)
    said = [" ".join(content for _, content in stage.prompt(number)) for number in (1, 3)]
    assert "apples" in said[0]
    assert "pears" not in said[0]
    assert "pears" in said[1]
    assert "apples" not in said[1]


async def test_bare_mention_answers_what_was_said_just_before(
    stage: Stage, general: Channel, alice: User, bob: User
) -> None:
    slack = stage.slack
    async with stage.bot():
        await slack.say(general, alice, slack.bot.mention)
        assert (await slack.wait_for_message(general)).text == "Yes? I'm listening."
        await slack.say(general, alice, "what is the capital of France?")
        asked = await slack.say(general, bob, slack.bot.mention)
        reply = await slack.wait_for_message(general)
        await slack.wait_quiet()
    assert reply.text == "I heard: what is the capital of France?"
    assert reply.thread_ts == asked.ts
    assert stage.prompt() == [("user", "what is the capital of France?")]
    assert stage.model.requests[0]["messages"][0]["name"] == "Alice"


async def test_a_thread_friend_is_pulled_into_is_read_first(
    stage: Stage, general: Channel, alice: User, bob: User
) -> None:
    slack = stage.slack
    root = await slack.say(general, alice, "my cat is called Tom &amp; he is &lt;b&gt;big")
    await slack.say(general, bob, "nice name", thread=root)
    await slack.lose_deliveries()
    async with stage.bot():
        await slack.say(general, bob, f"{slack.bot.mention} what is it called?", thread=root)
        await slack.wait_for_message(general)
        await slack.say(general, bob, f"{slack.bot.mention} sure?", thread=root)
        await slack.wait_for_message(general)
    assert stage.prompt(0) == [
        ("user", "my cat is called Tom & he is <b>big"),
        ("user", "nice name"),
        ("user", "what is it called?"),
    ]
    assert len(slack.calls("conversations.replies")) == 1


async def test_markup_is_read_as_a_person_reads_it(
    stage: Stage, general: Channel, alice: User, bob: User
) -> None:
    slack = stage.slack
    async with stage.bot():
        await slack.say(
            general,
            alice,
            f"{slack.bot.mention}: ask {bob.mention} in <#C1|music> about "
            "<https://example.org/a?b=1&amp;c=2|this song> &lt;3",
        )
        await slack.wait_for_message(general)
    assert stage.prompt() == [
        ("user", "ask @Bob in #music about this song (https://example.org/a?b=1&c=2) <3")
    ]


async def test_channel_wide_mention_in_a_reply_pings_nobody(
    stage: Stage, general: Channel, alice: User, bob: User
) -> None:
    slack = stage.slack
    nasty = f"<!channel> <!here|x> {bob.mention} &lt;!everyone&gt; @everyone <!subteam^S1> a<b & c"
    stage.model.reply_with(nasty)
    async with stage.bot():
        await slack.say(general, alice, f"{slack.bot.mention} wake them all")
        streamed = await slack.wait_for_message(general)
        slack.streams.refused = True
        await slack.say(general, alice, f"{slack.bot.mention} wake them all")
        posted = await slack.wait_for_message(general)
    for reply in (streamed, posted):
        assert reply.pings == set()
        shown = reply.text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
        assert shown == nasty


async def test_long_reply_is_split_in_order(stage: Stage, general: Channel, alice: User) -> None:
    slack = stage.slack
    words = [f"{number:04d}-" + "x" * 40 for number in range(700)]
    stage.model.reply_with(" ".join(words))
    async with stage.bot(FRIEND_REPLY_MAX_TOKENS="4096"):
        root = await slack.say(general, alice, f"{slack.bot.mention} tell me everything")
        parts = [await slack.wait_for_message(general) for _ in range(3)]
        await slack.wait_quiet()
    assert slack.messages(general, by=slack.bot) == parts
    assert " ".join(part.text for part in parts).split() == words
    assert all(len(part.text) <= 12_000 and part.thread_ts == root.ts for part in parts)


async def test_burst_of_five_messages_keeps_order(
    stage: Stage, general: Channel, alice: User
) -> None:
    slack = stage.slack
    async with stage.bot():
        root = await slack.say(general, alice, f"{slack.bot.mention} count")
        await slack.wait_for_message(general)
        for number in range(1, 6):
            await slack.say(general, alice, f"number {number}", thread=root)
        replies = [await slack.wait_for_message(general) for _ in range(5)]
    assert [reply.text for reply in replies] == [f"I heard: number {n}" for n in range(1, 6)]


async def test_order_is_kept_while_a_name_is_slow_to_come(
    stage: Stage, general: Channel, alice: User, bob: User
) -> None:
    slack = stage.slack
    async with stage.bot():
        root = await slack.say(general, alice, f"{slack.bot.mention} hello")
        await slack.wait_for_message(general)
        slack.faults.next("users.info", slow=0.5)
        await slack.say(general, bob, "first", thread=root)
        await slack.say(general, alice, "second", thread=root)
        replies = [await slack.wait_for_message(general) for _ in range(2)]
    assert [reply.text for reply in replies] == ["I heard: first", "I heard: second"]


async def test_burst_within_a_moment_is_answered_together(
    stage: Stage, general: Channel, alice: User
) -> None:
    slack = stage.slack
    async with stage.bot(FRIEND_REPLY_BURST_SECONDS="60") as running:
        with stage.model.held():
            root = await slack.say(general, alice, f"{slack.bot.mention} one")
            for word in ("two", "three", "four", "five"):
                await slack.say(general, alice, word, thread=root)
            await running.heard(5)
        await slack.wait_for_message(general)
        await slack.wait_quiet(0.5)
    (reply,) = slack.messages(general, by=slack.bot)
    assert (reply.thread_ts, reply.text) == (root.ts, "I heard: five")
    assert stage.prompt() == [("user", word) for word in ("one", "two", "three", "four", "five")]


async def test_fifty_channels_at_once(stage: Stage, alice: User) -> None:
    slack = stage.slack
    everybody = asyncio.Barrier(50)

    async def answer_all_at_once(messages: list[dict[str, str]]) -> str:
        await everybody.wait()
        return echo(messages)

    stage.model.reply_with(answer_all_at_once)
    channels = [slack.add_channel(f"c{n}", [alice, slack.bot]) for n in range(50)]
    async with stage.bot(FRIEND_ACCESS_PERSON_PER_MINUTE="0"):
        for channel in channels:
            await slack.say(channel, alice, f"{slack.bot.mention} I am in {channel.name}")
        replies = [await slack.wait_for_message(c, timeout=40) for c in channels]
        await slack.wait_quiet()
    assert [reply.text for reply in replies] == [f"I heard: I am in c{n}" for n in range(50)]
    assert all(len(slack.messages(c, by=slack.bot)) == 1 for c in channels)
    assert slack.statuses.stuck == []
    assert slack.statuses.late == []


async def test_own_posts_and_other_bots_are_ignored(
    stage: Stage, general: Channel, alice: User
) -> None:
    slack = stage.slack
    robot = slack.add_bot("weather")
    async with stage.bot() as running:
        root = await slack.say(general, alice, f"{slack.bot.mention} hi")
        await slack.wait_for_message(general)
        await slack.say(general, robot, f"{slack.bot.mention} it rains", thread=root)
        await slack.wait_quiet()
    assert len(slack.messages(general, by=slack.bot)) == 1
    assert running.log.replied_ == ["answered"]
    assert len(stage.model.requests) == 1


async def test_edits_and_deletions_are_followed(
    stage: Stage, general: Channel, alice: User
) -> None:
    slack = stage.slack
    async with stage.bot():
        root = await slack.say(general, alice, f"{slack.bot.mention} I like cheese")
        await slack.wait_for_message(general)
        secret = await slack.say(general, alice, "my pin is 1234", thread=root)
        await slack.wait_for_message(general)
        await slack.unfurl(root)
        await slack.edit(root, f"{slack.bot.mention} I like chess &amp; go")
        await slack.delete(secret)
        await slack.wait_quiet()
        await slack.say(general, alice, "what do I like?", thread=root)
        await slack.wait_for_message(general)
    spoken = [content for role, content in stage.prompt() if role == "user"]
    assert spoken == ["I like chess & go", "what do I like?"]


async def test_odd_messages_do_no_harm(stage: Stage, general: Channel, alice: User) -> None:
    slack = stage.slack
    dm = slack.dm(alice)
    async with stage.bot():
        await slack.say(dm, alice, "", files=[{"id": "F1", "name": "cat.png"}])
        assert "only read text" in (await slack.wait_for_message(dm)).text
        await slack.say(dm, alice, "x" * 39_000)
        assert (await slack.wait_for_message(dm)).text.startswith("I heard: xxx")
        await slack.say(dm, alice, "שלום 👩‍👩‍👧‍👦 🇫🇷")
        assert (await slack.wait_for_message(dm)).text == "I heard: שלום 👩‍👩‍👧‍👦 🇫🇷"
        await slack.say(general, alice, "has joined the channel", subtype="channel_join")
        await slack.wait_quiet()
    assert slack.messages(general, by=slack.bot) == []
