"""Model servers as they are: short of memory, strict, broken in the middle of a word."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.cases import LENGTHS, UNLIMITED
from tests.fakes.strict import (
    alternating_roles,
    llama_cpp_length,
    plain_names,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.slack.harness import Stage
    from tests.fakes.model import Message, Rule
    from tests.fakes.slack import Channel, User

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize(("length", "limit", "count"), LENGTHS)
async def test_1_direct_messages_past_the_models_context_go_on(
    stage: Stage,
    alice: User,
    length: Callable[[int], Rule],
    limit: int,
    count: Callable[[list[Message]], int],
) -> None:
    stage.model.rules.append(length(limit))
    stage.model.count_tokens = count
    stage.model.reply_with("好的")
    slack, dm = stage.slack, stage.slack.dm(alice)
    async with stage.bot(**UNLIMITED):
        root = await slack.say(dm, alice, "你好")
        await slack.wait_for_message(dm)
        for number in range(16):
            await slack.say(dm, alice, f"{number}" + "我今天去了公园看花" * 11, thread=root)
            assert (await slack.wait_for_message(dm)).text == "好的"
    assert len(stage.model.requests) - len(stage.model.answered) <= 2
    assert len(stage.prompt()) > 5


async def test_1_a_context_that_is_too_small_for_anything_is_said_without_again(
    stage: Stage, alice: User
) -> None:
    stage.model.rules.append(llama_cpp_length(0))
    async with stage.bot():
        await stage.slack.say(stage.slack.dm(alice), alice, "hello")
        sorry = await stage.slack.wait_for_message(stage.slack.dm(alice))
    assert sorry.text.startswith("I can't think just now.")
    assert "`again`" not in sorry.text


async def test_2_two_turns_in_a_row_are_merged_for_a_strict_template(
    stage: Stage, general: Channel, alice: User, bob: User
) -> None:
    slack = stage.slack
    stage.model.rules.append(alternating_roles)
    async with stage.bot() as running:
        stage.model.faults.status(503, times=2)
        root = await slack.say(general, alice, f"{slack.bot.mention} I like plums")
        sorry = await slack.wait_for_message(general)
        assert sorry.text.startswith("I can't think just now.")
        await slack.say(general, bob, f"{slack.bot.mention} do you?", thread=root)
        reply = await slack.wait_for_message(general)
        merged = stage.model.answered[-1]["messages"][-1]["content"]
        assert merged == "Alice: I like plums\nBob: do you?"
        assert reply.text == "I heard: Alice: I like plums", "a reply does not speak for Bob"
        await slack.say(general, alice, "and pears?", thread=root)
        assert (await slack.wait_for_message(general)).text == "I heard: and pears?"
        await slack.wait_quiet()
    refused = [body for body in stage.model.requests if body not in stage.model.answered]
    assert len(refused) == 2 + 1, "the 503s, and one refusal that taught"
    assert running.log.replied_ == ["apologised", "answered", "answered"]


async def test_2_five_failures_of_one_request_do_not_silence_the_others(
    stage: Stage, general: Channel, alice: User, bob: User
) -> None:
    slack = stage.slack
    words = (
        '{"error":{"code":500,"message":"Jinja Exception: no such filter","type":"server_error"}}'
    )
    async with stage.bot():
        for number in range(5):
            stage.model.faults.status(500, body=words)
            await slack.say(general, alice, f"{slack.bot.mention} try {number}")
            sorry = await slack.wait_for_message(general)
            assert sorry.text.startswith("I can't think just now.")
        await slack.say(slack.dm(bob), bob, "hello")
        assert (await slack.wait_for_message(slack.dm(bob))).text == "I heard: hello"


async def test_3_a_name_that_the_server_refuses_is_left_out(stage: Stage) -> None:
    slack = stage.slack
    ada = slack.add_user("ada", "Ada Lovelace")
    stage.model.rules.append(plain_names)
    async with stage.bot():
        for text in ("hello", "are you there?"):
            await slack.say(slack.dm(ada), ada, text)
            assert (await slack.wait_for_message(slack.dm(ada))).text == f"I heard: {text}"
    assert len(stage.model.requests) == 3
    assert not any("name" in turn for turn in stage.model.requests[-1]["messages"])


@pytest.mark.parametrize(
    "frames",
    [
        'error: {"code":500,"message":"out of memory"}\n\n',
        'data: {"object":"error","message":"out of memory"}\n\ndata: [DONE]\n\n',
        'data: {"error":{"message":"out of memory"}}\n\ndata: [DONE]\n\n',
    ],
)
@pytest.mark.parametrize("after_words", [0, 2])
async def test_12_an_error_in_the_stream_is_a_failure(
    stage: Stage, alice: User, frames: str, after_words: int
) -> None:
    stage.model.faults.frames(frames, after_words=after_words, times=2)
    async with stage.bot() as running:
        await stage.slack.say(stage.slack.dm(alice), alice, "hello there")
        sorry = await stage.slack.wait_for_message(stage.slack.dm(alice), containing="I can't")
        await stage.slack.wait_quiet()
    assert sorry.text.startswith("I can't think just now.")
    assert stage.slack.messages(stage.slack.dm(alice), by=stage.slack.bot) == [sorry]
    assert running.log.replied_ == ["apologised"]


async def test_12_a_stream_that_ends_early_is_kept_and_said_to_be_unfinished(
    stage: Stage, alice: User
) -> None:
    slack, dm = stage.slack, stage.slack.dm(alice)
    stage.model.faults.frames("", after_words=3)
    async with stage.bot():
        root = await slack.say(dm, alice, "hello there")
        reply = await slack.wait_for_message(dm, containing="cut off")
        words, _, notice = reply.text.partition("\n\n")
        assert words == "I heard: hello"
        assert notice.startswith("I was cut off there. Say `again`")
        await slack.say(dm, alice, "again", thread=root)
        assert (await slack.wait_for_message(dm)).text == "I heard: hello there"


@pytest.mark.parametrize("body", ["data: [DONE]\n\n", 'data: {"choices":[]}\n\ndata: [DONE]\n\n'])
async def test_12_the_end_without_a_reply_is_no_success(
    stage: Stage, alice: User, body: str
) -> None:
    stage.model.faults.garbage(body=body, content_type="text/event-stream")
    async with stage.bot():
        await stage.slack.say(stage.slack.dm(alice), alice, "hello")
        reply = await stage.slack.wait_for_message(stage.slack.dm(alice))
    assert reply.text == "I heard: hello"
    assert len(stage.model.requests) == 2


async def test_15_a_bare_mention_after_a_failure_does_not_answer_the_older_question(
    stage: Stage, general: Channel, alice: User, bob: User
) -> None:
    slack = stage.slack
    stage.model.faults.status(500, times=2)
    async with stage.bot():
        root = await slack.say(general, alice, f"{slack.bot.mention} what is 2 + 2?")
        await slack.wait_for_message(general)
        await slack.say(general, bob, slack.bot.mention, thread=root)
        assert (await slack.wait_for_message(general)).text == "Yes? I'm listening."
        await slack.wait_quiet()
    assert len(stage.model.answered) == 0
