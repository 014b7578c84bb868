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

    from tests.e2e.discord.harness import Stage
    from tests.fakes.discord import Channel, User
    from tests.fakes.model import Message, Rule

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
    dm = stage.discord.dm(alice)
    async with stage.bot(**UNLIMITED) as running:
        for number in range(16):
            said = await stage.discord.say(dm, alice, f"{number}" + "我今天去了公园看花" * 11)
            assert (await stage.reply_to(said)).content == "好的"
        await running.idle()
    assert len(stage.model.requests) - len(stage.model.answered) <= 2
    assert len(stage.prompt()) > 5


async def test_1_a_context_that_is_too_small_for_anything_is_said_without_again(
    stage: Stage, alice: User
) -> None:
    stage.model.rules.append(llama_cpp_length(0))
    async with stage.bot():
        said = await stage.discord.say(stage.discord.dm(alice), alice, "hello")
        sorry = await stage.reply_to(said)
    assert sorry.content.startswith("I can't think just now.")
    assert "`again`" not in sorry.content


async def test_2_two_turns_in_a_row_are_merged_for_a_strict_template(
    stage: Stage, general: Channel, alice: User, bob: User
) -> None:
    stage.model.rules.append(alternating_roles)
    async with stage.bot() as running:
        stage.model.faults.status(503, times=2)
        sorry = await stage.ask(general, alice, "I like plums")
        assert sorry.content.startswith("I can't think just now.")
        reply = await stage.ask(general, alice, "do you?")
        assert reply.content == "I heard: I like plums\ndo you?"
        with stage.model.held():
            await stage.discord.say(general, alice, f"{stage.discord.bot.mention} one")
            said = await stage.discord.say(general, bob, f"{stage.discord.bot.mention} two")
            await running.heard(4)
        await stage.reply_to(said)
        await running.idle()
    refused = [body for body in stage.model.requests if body not in stage.model.answered]
    assert len(refused) == 2 + 1, "the 503s, and one refusal that taught"
    assert all(
        one["role"] != other["role"]
        for body in stage.model.answered
        for one, other in zip(body["messages"], body["messages"][1:], strict=False)
    )
    assert "apologised" in running.log.replied_
    assert running.log.replied_.count("answered") == 3


async def test_2_names_are_kept_where_two_people_are_merged(
    stage: Stage, general: Channel, alice: User, bob: User
) -> None:
    stage.model.rules.append(alternating_roles)
    async with stage.bot():
        stage.model.faults.status(500, times=2)
        await stage.ask(general, alice, "I like plums")
        await stage.ask(general, bob, "who likes plums?")
    assert stage.prompt() == ["user: Alice: I like plums\nBob: who likes plums?"]


async def test_2_five_failures_of_one_request_do_not_silence_the_others(
    stage: Stage, general: Channel, alice: User, bob: User
) -> None:
    words = (
        '{"error":{"code":500,"message":"Jinja Exception: no such filter","type":"server_error"}}'
    )
    async with stage.bot():
        for number in range(5):
            stage.model.faults.status(500, body=words)
            sorry = await stage.ask(general, alice, f"try {number}")
            assert sorry.content.startswith("I can't think just now.")
        said = await stage.discord.say(stage.discord.dm(bob), bob, "hello")
        assert (await stage.reply_to(said)).content == "I heard: hello"


async def test_3_a_name_that_the_server_refuses_is_left_out(stage: Stage, general: Channel) -> None:
    ada = stage.discord.add_user("Ada Lovelace")
    stage.model.rules.append(plain_names)
    async with stage.bot():
        assert (await stage.ask(general, ada, "hello")).content == "I heard: hello"
        assert (await stage.ask(general, ada, "again and again")).content.startswith("I heard")
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
    stage: Stage, general: Channel, alice: User, frames: str, after_words: int
) -> None:
    stage.model.faults.frames(frames, after_words=after_words, times=2)
    async with stage.bot() as running:
        sorry = await stage.ask(general, alice, "hello there")
        await running.idle()
    assert sorry.content.startswith("I can't think just now.")
    assert running.log.replied_ == ["apologised"]


async def test_12_a_stream_that_ends_early_is_kept_and_said_to_be_unfinished(
    stage: Stage, general: Channel, alice: User
) -> None:
    stage.model.faults.frames("", after_words=3)
    async with stage.bot() as running:
        reply = await stage.ask(general, alice, "hello there")
        words, _, notice = reply.content.partition("\n\n")
        assert words == "I heard: hello"
        assert notice.startswith("I was cut off there. Say `again`")
        again = await stage.ask(general, alice, "again")
        assert again.content == "I heard: hello there"
        await running.idle()


@pytest.mark.parametrize("body", ["data: [DONE]\n\n", 'data: {"choices":[]}\n\ndata: [DONE]\n\n'])
async def test_12_the_end_without_a_reply_is_no_success(
    stage: Stage, general: Channel, alice: User, body: str
) -> None:
    stage.model.faults.garbage(body=body, content_type="text/event-stream")
    async with stage.bot():
        reply = await stage.ask(general, alice, "hello")
    assert reply.content == "I heard: hello"
    assert len(stage.model.requests) == 2


async def test_15_a_bare_mention_after_a_failure_does_not_answer_the_older_question(
    stage: Stage, general: Channel, alice: User, bob: User
) -> None:
    stage.model.faults.status(500, times=2)
    async with stage.bot():
        await stage.ask(general, alice, "what is 2 + 2?")
        await stage.discord.say(general, bob, "it rains, and friend does not hear this")
        said = await stage.discord.say(general, bob, stage.discord.bot.mention)
        assert (await stage.reply_to(said)).content == "Yes? I'm listening."
    assert len(stage.model.answered) == 0


async def test_15_a_forward_after_a_failure_does_not_answer_the_older_question(
    stage: Stage, general: Channel, alice: User, bob: User
) -> None:
    news = await stage.discord.say(general, bob, "the party is at nine")
    dm = stage.discord.dm(alice)
    stage.model.faults.status(500, times=2)
    async with stage.bot():
        await stage.reply_to(await stage.discord.say(dm, alice, "what is 2 + 2?"))
        reply = await stage.reply_to(await stage.discord.forward(dm, alice, news))
    assert "the party is at nine" in stage.prompt()[-1]
    assert "the party is at nine" in reply.content
