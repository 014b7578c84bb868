"""What people really send on Slack: all that holds words is heard, and nothing is misheard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from bot.platforms.slack.manifest import RESET_COMMAND, RESET_SHORTCUT
from tests.e2e.cases import SPEAKERS
from tests.fakes.slack.workspace import TEAM_ID

if TYPE_CHECKING:
    from tests.e2e.slack.harness import Stage
    from tests.fakes.slack import Channel, User

pytestmark = pytest.mark.e2e

both_transports = pytest.mark.parametrize("transport", ["socket", "http"])

PICTURE: dict[str, Any] = {"id": "F1", "name": "cat.png", "mimetype": "image/png"}
PAGE: dict[str, Any] = {
    "id": 1,
    "from_url": "https://e.org",
    "original_url": "https://e.org",
    "title": "A page",
    "title_link": "https://e.org",
    "text": "about bread",
    "fallback": "A page",
}


def rich(*elements: dict[str, Any]) -> dict[str, Any]:
    section = {"type": "rich_text_section", "elements": list(elements)}
    return {"type": "rich_text", "block_id": "b1", "elements": [section]}


async def test_new_emoji_are_kept_both_ways(stage: Stage, alice: User) -> None:
    dm = stage.slack.dm(alice)
    async with stage.bot():
        await stage.slack.say(dm, alice, "\U0001fa77 \U0001fae8 \U0001fae9")
        reply = await stage.slack.wait_for_message(dm)
    assert stage.prompt() == [("user", "\U0001fa77 \U0001fae8 \U0001fae9")]
    assert reply.text == "I heard: \U0001fa77 \U0001fae8 \U0001fae9"


@pytest.mark.parametrize(("made", "posted"), SPEAKERS)
async def test_only_a_second_speaker_ends_a_reply(
    stage: Stage, general: Channel, alice: User, made: str, posted: str
) -> None:
    stage.model.reply_with(made)
    async with stage.bot():
        await stage.slack.say(general, alice, f"{stage.slack.bot.mention} go on")
        reply = await stage.slack.wait_for_message(general)
    assert reply.text == posted


async def test_a_mention_within_a_sentence_is_a_word_of_it(
    stage: Stage, general: Channel, alice: User, bob: User
) -> None:
    me = stage.slack.bot.mention
    said = {
        f"who is {me}?": "who is friend?",
        f"who is cleverer, {me} or {bob.mention}?": "who is cleverer, friend or @Bob?",
        f"this is {me}, our new pet": "this is friend, our new pet",
        f"how are you, {me}?": "how are you?",
    }
    async with stage.bot():
        for text, words in said.items():
            await stage.slack.say(general, alice, text)
            await stage.slack.wait_for_message(general)
            assert stage.prompt()[-1] == ("user", words)


async def test_a_mention_in_code_does_not_call(stage: Stage, general: Channel, alice: User) -> None:
    me = stage.slack.bot.mention
    async with stage.bot() as running:
        await stage.slack.say(general, alice, f"write `{me}` to call it")
        await stage.slack.say(general, alice, f"```{me} hello```")
        await running.heard(2)
    assert running.log.received_ == ["remembered", "remembered"]
    assert stage.slack.messages(general, by=stage.slack.bot) == []


async def test_nothing_is_read_as_an_id(stage: Stage, alice: User) -> None:
    dm = stage.slack.dm(alice)
    async with stage.bot():
        await stage.slack.say(
            dm,
            alice,
            "<@U9NOBODY> <!subteam^S9> <#C9|> <!date^0^{time}> <!date^0^{date}> "
            "<!date^0^{date} {time}> <https://fake.slack.com/archives/C9/p1724966776474889>",
        )
        await stage.slack.wait_for_message(dm)
    words = "@someone @a group #a channel 00:00 UTC 1970-01-01 1970-01-01 00:00 UTC"
    assert stage.prompt() == [("user", f"{words} a message in #a channel")]


async def test_a_shared_message_is_answered_by_its_words(
    stage: Stage, general: Channel, alice: User, bob: User
) -> None:
    slack = stage.slack
    dm = slack.dm(alice)
    said = await slack.say(general, bob, "the shop is closed", files=[PICTURE])
    await slack.lose_deliveries()
    async with stage.bot():
        await slack.share(dm, alice, said)
        await slack.wait_for_message(dm)
        await slack.share(general, alice, said, f"{slack.bot.mention} what now?")
        await slack.wait_for_message(general)
    shared = 'Forwarded message from Bob: "the shop is closed (with a picture, cat.png)"'
    assert stage.prompt(0) == [("user", shared)]
    assert stage.prompt() == [("user", f"what now?\n{shared}")]


async def test_a_bare_mention_answers_the_shared_message_before_it(
    stage: Stage, general: Channel, alice: User, bob: User
) -> None:
    slack = stage.slack
    async with stage.bot() as running:
        said = await slack.say(general, bob, f"{slack.bot.mention} the shop is closed")
        await slack.wait_for_message(general)
        await slack.share(general, bob, said)
        await running.heard(2)
        await slack.say(general, alice, slack.bot.mention)
        await slack.wait_for_message(general)
    assert len(stage.model.requests) == 2, "a mention in the shared words does not call"
    assert stage.prompt() == [("user", 'Forwarded message from Bob: "the shop is closed"')]


async def test_rich_text_without_text_is_heard(
    stage: Stage, general: Channel, alice: User, bob: User
) -> None:
    slack = stage.slack
    block = rich(
        {"type": "user", "user_id": slack.bot.id},
        {"type": "text", "text": " do you know "},
        {"type": "user", "user_id": bob.id},
        {"type": "text", "text": " & <him>?"},
    )
    async with stage.bot():
        await slack.say(general, alice, "", blocks=[block])
        await slack.wait_for_message(general)
    assert stage.prompt() == [("user", "do you know @Bob & <him>?")]


async def test_tables_previews_and_files_are_told_of(stage: Stage, alice: User, bob: User) -> None:
    slack = stage.slack
    dm = slack.dm(alice)
    table = {
        "type": "table",
        "rows": [
            [{"type": "raw_text", "text": "who"}, {"type": "raw_text", "text": "cake"}],
            [rich({"type": "user", "user_id": bob.id}), {"type": "raw_text", "text": "3"}],
        ],
    }
    async with stage.bot():
        for words, beside in {
            "see": {"blocks": [rich({"type": "text", "text": "see"}), table]},
            "read": {"attachments": [PAGE]},
            "look": {"files": [PICTURE, {**PICTURE, "alt_txt": "a cat asleep"}]},
        }.items():
            await slack.say(dm, alice, words, **beside)
            await slack.wait_for_message(dm)
    asked = [request["messages"][-1]["content"] for request in stage.model.requests]
    assert asked == [
        "see\nwho | cake\n@Bob | 3",
        'read\nPreview: "A page. about bread"',
        'look\n(with a picture, cat.png; a picture, cat.png: "a cat asleep")',
    ]


async def test_a_preview_that_comes_later_is_read_and_does_not_call_again(
    stage: Stage, general: Channel, alice: User
) -> None:
    slack = stage.slack
    async with stage.bot():
        said = await slack.say(general, alice, f"{slack.bot.mention} see <https://e.org>")
        await slack.wait_for_message(general)
        await slack.unfurl(said, PAGE)
        await slack.wait_quiet()
        await slack.say(general, alice, "well?", thread=said)
        await slack.wait_for_message(general)
    assert stage.prompt()[0] == ("user", 'see https://e.org\nPreview: "A page. about bread"')
    assert len(slack.messages(general, by=slack.bot)) == 2


async def test_a_thread_under_a_programs_message_has_it_as_its_first_turn(
    stage: Stage, general: Channel, alice: User
) -> None:
    slack = stage.slack
    weather = slack.add_bot("weather")
    root = await slack.say(general, weather, "storm tomorrow")
    await slack.lose_deliveries()
    async with stage.bot():
        await slack.say(general, weather, "and rain", thread=root)
        await slack.say(general, alice, f"{slack.bot.mention} what is that?", thread=root)
        await slack.wait_for_message(general)
    assert stage.prompt() == [("user", "storm tomorrow"), ("user", "what is that?")]


@both_transports
async def test_a_mention_added_by_an_edit_calls_once(
    stage: Stage, general: Channel, alice: User
) -> None:
    slack = stage.slack
    me = slack.bot.mention
    async with stage.bot() as running:
        said = await slack.say(general, alice, "is it going to rain?")
        await running.heard(1)
        await slack.edit(said, f"{me} is it going to rain?")
        reply = await slack.wait_for_message(general)
        await slack.edit(said, "is it going to snow?")
        await slack.edit(said, f"{me} is it going to snow?")
        await slack.wait_quiet()
        await slack.say(general, alice, "well?", thread=said)
        await slack.wait_for_message(general)
    assert (reply.text, reply.thread_ts) == ("I heard: is it going to rain?", said.ts)
    assert stage.prompt()[0] == ("user", "is it going to snow?")
    assert len(slack.messages(general, by=slack.bot)) == 2


async def test_an_edit_of_a_message_friend_never_saw_calls(
    stage: Stage, general: Channel, alice: User
) -> None:
    slack = stage.slack
    said = await slack.say(general, alice, "is it going to rain?")
    await slack.lose_deliveries()
    async with stage.bot():
        for word in ("rain", "snow"):
            await slack.edit(said, f"{slack.bot.mention} is it going to {word}?")
        await slack.wait_for_message(general)
        await slack.wait_quiet()
    assert len(slack.messages(general, by=slack.bot)) == 1


async def test_an_edit_made_while_friend_was_down_reaches_what_it_knows(
    stage: Stage, general: Channel, alice: User
) -> None:
    slack = stage.slack
    async with stage.bot():
        said = await slack.say(general, alice, f"{slack.bot.mention} my cat is calld Tom")
        await slack.wait_for_message(general)
        await slack.wait_quiet()
    await slack.edit(said, f"{slack.bot.mention} my cat is called Tom")
    async with stage.bot():
        await slack.wait_delivered()
        await slack.say(general, alice, "well?", thread=said)
        await slack.wait_for_message(general)
    assert stage.prompt()[0] == ("user", "my cat is called Tom")


async def test_what_is_said_to_others_in_a_thread_is_not_answered(
    stage: Stage, general: Channel, alice: User, bob: User
) -> None:
    slack = stage.slack
    async with stage.bot():
        root = await slack.say(general, alice, f"{slack.bot.mention} hello")
        await slack.wait_for_message(general)
        await slack.say(general, alice, f"{bob.mention} could you bring the cake?", thread=root)
        await slack.say(general, bob, f"what does {alice.mention} like?", thread=root)
        await slack.wait_for_message(general)
        await slack.wait_quiet()
    assert len(slack.messages(general, by=slack.bot)) == 2
    assert stage.prompt()[2:] == [
        ("user", "@Bob could you bring the cake?"),
        ("user", "what does @Alice like?"),
    ]


@both_transports
async def test_a_shared_channel_is_one_place_whoever_speaks(
    stage: Stage, general: Channel, alice: User
) -> None:
    slack = stage.slack
    guest = slack.add_user("grace", "Grace", team="T0OTHERTEAM")
    async with stage.bot(FRIEND_ACCESS_ALLOW_SPACES=TEAM_ID):
        root = await slack.say(general, guest, f"{slack.bot.mention} I am Grace")
        await slack.wait_for_message(general)
        await slack.say(general, alice, "who is here?", thread=root)
        last = await slack.wait_for_message(general)
        spoken = [content for role, content in stage.prompt() if role == "user"]
        await slack.shortcut(last, guest, RESET_SHORTCUT)
        await slack.wait_for_ephemeral(guest)
        await slack.say(general, alice, "and now?", thread=root)
        await slack.wait_for_message(general)
        after_shortcut = stage.prompt()
        await slack.slash(general, guest, RESET_COMMAND)
        await slack.wait_for_ephemeral(guest)
        await slack.say(general, alice, "still?", thread=root)
        await slack.wait_for_message(general)
    assert spoken == ["I am Grace", "who is here?"]
    assert after_shortcut == [("user", "and now?")]
    assert stage.prompt() == [("user", "still?")]


async def test_a_listed_app_speaks_for_people(stage: Stage, general: Channel, alice: User) -> None:
    slack = stage.slack
    bridge = slack.add_bot("bridge")
    assert bridge.app_id is not None
    me = slack.bot.mention
    async with stage.bot(SLACK_PROXY_APPLICATIONS=bridge.app_id):
        await slack.say(general, slack.add_bot("weather"), f"{me} it rains", username="Rain")
        await slack.say(general, bridge, f"{me} hello", username="Luna")
        reply = await slack.wait_for_message(general)
        await slack.wait_quiet()
    assert reply.text == "I heard: hello"
    assert [m["name"] for m in stage.model.requests[0]["messages"]] == ["Luna"]
    assert len(stage.model.requests) == 1
