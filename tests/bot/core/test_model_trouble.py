"""What friend makes of a model that refuses, breaks off or reads less than it is given."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from aiohttp import web

from tests.bot.core.stage import Scene, scene
from tests.fakes.model import FakeModel, Rule
from tests.fakes.strict import (
    characters,
    llama_cpp_length,
    openai_length,
    own_length,
    tokens,
)


@pytest.fixture
async def on_stage(tmp_path: Path) -> AsyncIterator[Scene]:
    async with (
        FakeModel() as model,
        scene(tmp_path, model, person_per_minute=0, channel_per_minute=0) as stage,
    ):
        yield stage


async def _answers(on_stage: Scene, text: str) -> str:
    await on_stage.say(text)
    await on_stage.quiet()
    return on_stage.stage.texts()[-1]


async def test_a_reply_that_breaks_off_is_kept_and_said_to_be_unfinished(on_stage: Scene) -> None:
    on_stage.model.reply_with("Look:\n```py\nprint(1)\nprint(2)\n```")
    on_stage.model.faults.frames("", after_words=3)
    words, _, notice = (await _answers(on_stage, "show me")).partition("\n\n")
    assert words == "Look:\n```py\nprint(1)\n```"
    assert re.fullmatch(r"I was cut off there\. Say `again`, .* \([0-9a-f]{8}\)", notice)
    assert await _answers(on_stage, "and then?") != notice
    assert on_stage.prompts()[-1][1] == ("assistant", words)


async def test_again_starts_over_what_broke_off(on_stage: Scene) -> None:
    on_stage.model.faults.frames("", after_words=2)
    assert (await _answers(on_stage, "hello there")).startswith("I heard:\n\nI was cut off")
    assert await _answers(on_stage, "again") == "I heard: hello there"
    assert on_stage.prompts()[-1] == [("user", "hello there")]


async def test_a_lost_connection_breaks_a_reply_off(on_stage: Scene) -> None:
    on_stage.model.faults.drop(after_words=2)
    assert (await _answers(on_stage, "hello there")).startswith("I heard:\n\nI was cut off")


async def test_an_error_after_the_first_words_is_a_failure(on_stage: Scene) -> None:
    on_stage.model.faults.frames('error: {"message":"out of memory"}\n\n', after_words=2)
    said = await _answers(on_stage, "hello there")
    assert said.startswith("I can't think just now. I've kept your message: say `again`")


async def test_again_is_advised_only_where_it_can_help(on_stage: Scene) -> None:
    on_stage.model.faults.status(401)
    said = await _answers(on_stage, "hello")
    assert said.startswith("I can't think just now.")
    assert "`again`" not in said


@pytest.mark.parametrize(
    ("length", "count"),
    [(openai_length, characters), (llama_cpp_length, characters), (own_length, tokens)],
)
async def test_a_conversation_past_the_models_context_goes_on(
    on_stage: Scene, length: Callable[[int], Rule], count: Callable[[list[dict[str, str]]], int]
) -> None:
    model = on_stage.model
    model.rules.append(length(2000))
    model.count_tokens = count
    model.reply_with("好" * 20)
    for number in range(36):
        assert await _answers(on_stage, f"{number}" + "你好吗" * 30) == "好" * 20
    assert len(model.requests) - len(model.answered) <= 2, "learnt, and not asked for again"
    assert max(count(body["messages"]) for body in model.answered[-15:]) > 900


async def test_another_conversation_knows_of_it(on_stage: Scene) -> None:
    model = on_stage.model
    model.rules.append(own_length(2000))
    model.count_tokens = tokens
    for channel in ("one", "two"):
        for number in range(12):
            await on_stage.say(f"{number}" + "你好吗" * 30, channel=channel)
            await on_stage.quiet()
        if channel == "one":
            refused = len(model.requests) - len(model.answered)
    assert refused > 0
    assert len(model.requests) - len(model.answered) == refused


async def test_without_usage_a_refusal_still_teaches(tmp_path: Path) -> None:
    async with (
        FakeModel(usage=False) as model,
        scene(tmp_path, model, person_per_minute=0, channel_per_minute=0) as on_stage,
    ):
        model.rules.append(llama_cpp_length(1000))
        for number in range(24):
            assert await _answers(on_stage, f"{number} {'la ' * 30}") != ""
        assert len(model.answered) == 24
        assert len(model.requests) - len(model.answered) <= 2


async def test_a_context_smaller_than_one_message_still_gets_an_answer(on_stage: Scene) -> None:
    on_stage.model.rules.append(llama_cpp_length(100))
    assert (await _answers(on_stage, "la " * 600)).startswith("I heard: la la")
    before = len(on_stage.model.requests)
    assert await _answers(on_stage, "and now?") == "I heard: and now?"
    assert len(on_stage.model.requests) - before <= 2


async def test_a_context_for_nothing_is_said_without_advice(on_stage: Scene) -> None:
    on_stage.model.rules.append(llama_cpp_length(0))
    said = await _answers(on_stage, "hello there, dear friend of mine")
    assert said.startswith("I can't think just now.")
    assert "`again`" not in said


async def test_failures_of_one_conversation_do_not_silence_another(on_stage: Scene) -> None:
    def poisoned(body: dict[str, object]) -> web.Response | None:
        return web.Response(status=500) if "poison" in str(body["messages"]) else None

    on_stage.model.rules.append(poisoned)
    for _ in range(5):
        await on_stage.say("poison", channel="here")
        await on_stage.quiet()
    await on_stage.say("hello", channel="there")
    await on_stage.quiet()
    assert on_stage.stage.texts("there") == ["I heard: hello"]
    assert all(said.startswith("I can't think") for said in on_stage.stage.texts("here"))
