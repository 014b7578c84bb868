"""What people really send on Discord: all that holds words is heard, and nothing is misheard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from bot import texts
from tests.e2e.cases import SPEAKERS
from tests.fakes.discord.intents import MESSAGE_CONTENT

if TYPE_CHECKING:
    from tests.e2e.discord.harness import Stage
    from tests.fakes.discord import Channel, User

pytestmark = pytest.mark.e2e

ALL = {"DISCORD_MESSAGE_CONTENT": "true"}
PLURALKIT = 466378653216014359
PICTURE: dict[str, Any] = {
    "id": "1",
    "filename": "cat.png",
    "size": 1,
    "content_type": "image/png",
    "url": "http://127.0.0.1/cat.png",
    "proxy_url": "http://127.0.0.1/cat.png",
}
POLL: dict[str, Any] = {
    "question": {"text": "Where do we eat?"},
    "answers": [
        {"answer_id": 1, "poll_media": {"text": "Pizza"}},
        {"answer_id": 2, "poll_media": {"text": "Soup"}},
    ],
    "expiry": "2036-01-01T00:00:00+00:00",
    "allow_multiselect": False,
    "layout_type": 1,
}
PAGE: dict[str, Any] = {"type": "article", "title": "A page", "description": "about bread"}


async def test_new_emoji_are_kept_both_ways(stage: Stage, general: Channel, alice: User) -> None:
    async with stage.bot():
        reply = await stage.ask(general, alice, "\U0001fa77 \U0001fae8 \U0001fae9")
    assert stage.prompt() == ["user: \U0001fa77 \U0001fae8 \U0001fae9"]
    assert reply.content == "I heard: \U0001fa77 \U0001fae8 \U0001fae9"


@pytest.mark.parametrize(("made", "posted"), SPEAKERS)
async def test_only_a_second_speaker_ends_a_reply(
    stage: Stage, general: Channel, alice: User, made: str, posted: str
) -> None:
    stage.model.reply_with(made)
    async with stage.bot():
        reply = await stage.ask(general, alice, "go on")
    assert reply.content == posted


async def test_a_mention_within_a_sentence_is_a_word_of_it(
    stage: Stage, general: Channel, alice: User, bob: User
) -> None:
    me = stage.discord.bot.mention
    said = {
        f"who is {me}?": "who is Friend?",
        f"who is cleverer, {me} or {bob.mention}?": "who is cleverer, Friend or @Bob?",
        f"this is {me}, our new pet": "this is Friend, our new pet",
        f"how are you, {me}?": "how are you?",
    }
    async with stage.bot():
        for text, words in said.items():
            await stage.reply_to(await stage.discord.say(general, alice, text))
            assert stage.prompt()[-1] == f"user: {words}"


async def test_a_mention_in_code_does_not_call(stage: Stage, general: Channel, alice: User) -> None:
    stage.discord.world.allowed_intents |= MESSAGE_CONTENT
    me = stage.discord.bot.mention
    async with stage.bot(**ALL) as running:
        await stage.discord.say(general, alice, f"write `{me}` to call it")
        await stage.discord.say(general, alice, f"```\n{me} hello\n```")
        await running.heard(2)
    assert running.log.received_ == ["remembered", "remembered"]
    assert general.posted(stage.discord.bot) == []


async def test_nothing_is_read_as_an_id(stage: Stage, general: Channel, alice: User) -> None:
    unknown = 200000000000000000
    async with stage.bot():
        await stage.ask(
            general,
            alice,
            f"<@{unknown}> <@&{unknown}> <#{unknown}> <t:0:t> <t:0:D> <t:0:R> <id:browse> "
            f"https://discord.com/channels/{unknown}/{general.id}/{unknown}",
        )
    words = "@someone @a group #a channel 00:00 UTC 1970-01-01 1970-01-01 00:00 UTC"
    assert stage.prompt() == [f"user: {words} Browse Channels a message in #general"]


async def test_a_forward_is_answered_by_its_words(
    stage: Stage, general: Channel, bob: User
) -> None:
    dm = stage.discord.dm(bob)
    said = await stage.discord.say(general, bob, "the shop is closed", attachments=[PICTURE])
    async with stage.bot():
        forward = await stage.discord.forward(dm, bob, said)
        await stage.discord.wait_for_message(dm)
    assert forward.content == ""
    assert stage.prompt() == [
        'user: Forwarded message: "the shop is closed (with a picture, cat.png)"'
    ]


async def test_a_bare_mention_answers_the_forward_before_it(
    stage: Stage, general: Channel, alice: User, bob: User
) -> None:
    stage.discord.world.allowed_intents |= MESSAGE_CONTENT
    async with stage.bot(**ALL):
        said = await stage.discord.say(general, bob, "the shop is closed")
        await stage.discord.forward(general, bob, said)
        await stage.reply_to(await stage.discord.say(general, alice, stage.discord.bot.mention))
    assert stage.prompt()[-1] == 'user: Forwarded message: "the shop is closed"'


async def test_a_forward_that_mentions_friend_does_not_call(
    stage: Stage, general: Channel, alice: User
) -> None:
    stage.discord.world.allowed_intents |= MESSAGE_CONTENT
    me = stage.discord.bot.mention
    said = await stage.discord.say(general, alice, f"{me} hello", age=7200)
    async with stage.bot(**ALL) as running:
        await stage.discord.forward(general, alice, said)
        await running.heard(1)
    assert running.log.received_ == ["remembered"]


async def test_polls_embeds_stickers_and_files_are_told_of(
    stage: Stage, general: Channel, alice: User
) -> None:
    discord = stage.discord
    me = discord.bot.mention
    sticker = {"id": "2", "name": "Wave", "format_type": 1}
    async with stage.bot():
        for words, beside in {
            "vote!": {"poll": POLL},
            "see https://e.org": {"embeds": [PAGE]},
            "hi": {"stickers": [sticker]},
            "look": {"attachments": [PICTURE, {**PICTURE, "description": "a cat asleep"}]},
        }.items():
            await stage.reply_to(await discord.say(general, alice, f"{me} {words}", **beside))
    asked = [request["messages"][-1]["content"] for request in stage.model.requests]
    assert asked == [
        "vote!\nPoll: Where do we eat? (Pizza / Soup)",
        'see https://e.org\nPreview: "A page. about bread"',
        "hi\n(with a sticker, Wave)",
        'look\n(with a picture, cat.png; a picture, cat.png: "a cat asleep")',
    ]


async def test_a_preview_that_comes_later_is_read_and_does_not_call_again(
    stage: Stage, general: Channel, alice: User
) -> None:
    discord = stage.discord
    async with stage.bot() as running:
        said = await discord.say(general, alice, f"{discord.bot.mention} see https://e.org")
        await stage.reply_to(said)
        await running.idle()
        await discord.unfurl(said, PAGE)
        await stage.ask(general, alice, "well?")
    assert stage.prompt()[0] == 'user: see https://e.org\nPreview: "A page. about bread"'
    assert len(general.posted(discord.bot)) == 2


async def test_what_a_reply_answers_stands_before_the_words(
    stage: Stage, general: Channel, alice: User, bob: User
) -> None:
    discord = stage.discord
    discord.world.allowed_intents |= MESSAGE_CONTENT
    old = await discord.say(general, bob, "I left it at the bakery", age=7200)
    async with stage.bot(**ALL):
        asked = await discord.say(
            general, alice, f"{discord.bot.mention} where is that?", reply_to=old
        )
        await stage.reply_to(asked)
        bare = await discord.say(general, alice, discord.bot.mention, reply_to=old)
        await stage.reply_to(bare)
    quoted = '(in answer to Bob: "I left it at the bakery")'
    assert stage.prompt(0) == [f"user: {quoted}\nwhere is that?"]
    assert stage.prompt()[-1] == f"user: {quoted}"


async def test_what_a_reply_answers_is_fetched_where_discord_left_it_out(
    stage: Stage, general: Channel, alice: User, bob: User
) -> None:
    discord = stage.discord
    discord.world.allowed_intents |= MESSAGE_CONTENT
    old = await discord.say(general, bob, "I left it at the bakery", age=7200)
    gone = await discord.say(general, bob, "never mind", age=7100)
    await discord.delete(gone)
    me = discord.bot.mention
    async with stage.bot(**ALL):
        for earlier in (old, gone):
            asked = await discord.say(
                general, alice, f"{me} where is that?", reply_to=earlier, leaves_out=True
            )
            await stage.reply_to(asked)
    assert stage.prompt(0) == [
        'user: (in answer to Bob: "I left it at the bakery")\nwhere is that?'
    ]
    assert stage.prompt()[-1] == "user: where is that?"


async def test_a_command_in_a_reply_is_a_command(
    stage: Stage, general: Channel, alice: User
) -> None:
    async with stage.bot():
        first = await stage.ask(general, alice, "hello")
        await stage.ask(general, alice, "and now?")
        said = await stage.discord.say(general, alice, "reset", reply_to=first)
        assert (await stage.reply_to(said)).content == texts.RESET_DONE


async def test_a_thread_has_the_message_it_was_begun_from_as_its_first_turn(
    stage: Stage, general: Channel, alice: User, bob: User
) -> None:
    discord = stage.discord
    discord.world.allowed_intents |= MESSAGE_CONTENT
    root = await discord.say(general, bob, "my cat is called Tom", age=7200)
    async with stage.bot(**ALL):
        thread = discord.add_thread(general, "cats", alice, begun_from=root)
        await stage.ask(thread, alice, "what is it called?")
        await stage.reply_to(await discord.say(thread, alice, "sure?"))
    assert stage.prompt(0) == ["user: my cat is called Tom", "user: what is it called?"]
    assert stage.model.requests[0]["messages"][0]["name"] == "Bob"
    assert stage.prompt()[0] == "user: my cat is called Tom"


async def test_a_thread_begun_from_friends_own_words(
    stage: Stage, general: Channel, alice: User
) -> None:
    async with stage.bot():
        reply = await stage.ask(general, alice, "tell me of bread")
        thread = stage.discord.add_thread(general, "bread", alice, begun_from=reply)
        await stage.ask(thread, alice, "go on")
    assert stage.prompt() == ["assistant: I heard: tell me of bread", "user: go on"]


async def test_a_mention_added_by_an_edit_calls_once(
    stage: Stage, general: Channel, alice: User
) -> None:
    discord = stage.discord
    me = discord.bot.mention
    async with stage.bot() as running:
        unseen = await discord.say(general, alice, "is it going to rain?")
        await discord.edit(unseen, f"{me} is it going to rain?")
        reply = await stage.reply_to(unseen)
        await running.idle()
        await discord.edit(unseen, f"{me} is it going to snow?")
        await stage.ask(general, alice, "well?")
    assert reply.content == "I heard: is it going to rain?"
    assert stage.prompt()[0] == "user: is it going to snow?"
    assert len(general.posted(discord.bot)) == 2


async def test_an_edit_calls_for_a_message_that_was_only_remembered(
    stage: Stage, general: Channel, alice: User
) -> None:
    discord = stage.discord
    discord.world.allowed_intents |= MESSAGE_CONTENT
    async with stage.bot(**ALL) as running:
        heard = await discord.say(general, alice, "is it going to rain?")
        await running.heard(1)
        for word in ("rain", "snow"):
            await discord.edit(heard, f"{discord.bot.mention} is it going to {word}?")
        await stage.reply_to(heard)
        await running.idle()
    assert len(general.posted(discord.bot)) == 1
    assert len(stage.model.requests[-1]["messages"]) == 1


async def test_an_edit_made_while_friend_was_down_reaches_what_it_knows(
    stage: Stage, general: Channel, alice: User
) -> None:
    discord = stage.discord
    me = discord.bot.mention
    async with stage.bot():
        said = await discord.say(general, alice, f"{me} my cat is calld Tom", age=1800)
        await stage.reply_to(said)
        recent = await discord.say(general, alice, f"{me} he is smal")
        await stage.reply_to(recent)
    await discord.edit(said, f"{me} my cat is called Tom")
    await discord.edit(recent, f"{me} he is small")
    async with stage.bot() as running:
        await stage.ask(general, alice, "well?")
        await running.idle()
        await stage.ask(general, alice, "so?")
    mine = [line for line in stage.prompt() if line.startswith("user")]
    assert mine == ["user: my cat is called Tom", "user: he is small", "user: well?", "user: so?"]
    assert len(general.posted(discord.bot)) == 4


async def test_what_is_said_to_others_in_a_thread_is_not_answered(
    stage: Stage, general: Channel, alice: User, bob: User
) -> None:
    discord = stage.discord
    discord.world.allowed_intents |= MESSAGE_CONTENT
    async with stage.bot(**ALL) as running:
        thread = discord.add_thread(general, "party", alice)
        await stage.ask(thread, alice, "hello")
        await discord.say(thread, alice, f"{bob.mention} could you bring the cake?")
        yes = await discord.say(thread, bob, f"sure, {alice.mention}!")
        await discord.say(thread, alice, "thank you", reply_to=yes)
        await stage.reply_to(await discord.say(thread, bob, f"what does {alice.mention} like?"))
        await running.idle()
    assert len(thread.posted(discord.bot)) == 2
    assert stage.prompt()[-4:] == [
        "user: @Bob could you bring the cake?",
        "user: sure, @Alice!",
        "user: thank you",
        "user: what does @Alice like?",
    ]


async def test_a_proxied_message_counts_as_a_persons_and_is_answered_once(
    stage: Stage, general: Channel, alice: User
) -> None:
    discord = stage.discord
    me = discord.bot.mention
    async with stage.bot(DISCORD_PROXY_APPLICATIONS=str(PLURALKIT)) as running:
        with stage.model.held():
            original = await discord.say(general, alice, f"L: {me} hello")
            await running.heard(1)
            await discord.proxy(general, PLURALKIT, "Luna", f"{me} hello")
            await running.heard(2)
            await discord.delete(original)
        await discord.wait_for_message(general)
        await running.idle()
        late = await discord.proxy(general, PLURALKIT, "Luna", f"{me} and now?")
        await stage.reply_to(late)
        await discord.proxy(general, 1, "Weather", f"{me} it rains")
        await stage.ask(general, alice, "well?")
        await running.idle()
    assert len(general.posted(discord.bot)) == 3
    spoken = [(m.get("name"), m["content"]) for m in stage.model.requests[1]["messages"]]
    assert spoken[0] == ("Luna", "hello")
    assert spoken[-1] == ("Luna", "and now?")


async def test_proxies_are_not_heard_unless_they_are_listed(
    stage: Stage, general: Channel, alice: User
) -> None:
    discord = stage.discord
    async with stage.bot() as running:
        await discord.proxy(general, PLURALKIT, "Luna", f"{discord.bot.mention} hello")
        await running.heard(1)
    assert running.log.received_ == ["ignored"]
