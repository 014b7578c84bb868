"""Replies: what is fed, what is shown, where they end, and what the cache saves."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from lambda_inference.errors import DeadlinePassed
from lambda_inference.model import describe
from lambda_inference.serving.host import LoadedModel
from lambda_inference.states.cache import StateCache
from lambda_inference.talk.events import Finished, TextDelta
from lambda_inference.talk.generate import GenerationRequest, Generator
from lambda_inference.talk.guards import letters
from lambda_inference.talk.prompt import Message, PromptBuilder
from lambda_inference.talk.sampling import SamplingSettings
from lambda_inference.talk.tokenizer import BpeTokenizer
from tests.lambda_inference.scripted import ScriptedEngine

END, USER, FRIEND, SEPARATOR = range(4)
GREEDY = SamplingSettings(temperature=0)


class Talk:
    """A generator over a scripted engine, which after `Friend:` says one of `replies`."""

    def __init__(self, folder: Path, *replies: str | Iterable[int], cache: int = 1 << 20) -> None:
        description = describe(folder)
        tokenizer = description.tokenizer()
        assert isinstance(tokenizer, BpeTokenizer)
        self.tokenizer = tokenizer
        self.prompts = PromptBuilder(description.template, tokenizer)
        self.replies = [
            [*tokenizer.encode(reply), SEPARATOR] if isinstance(reply, str) else list(reply)
            for reply in replies
        ]
        self.engine = ScriptedEngine(tokenizer.vocab_size, self._next)
        self.cache = StateCache(cache)
        self.generator = Generator(self.engine, tokenizer, self.prompts, self.cache, key="scripted")

    def _next(self, history: tuple[int, ...]) -> int:
        turn = len(history) - 1 - history[::-1].index(FRIEND) if FRIEND in history else None
        if turn is None:
            return END
        said = list(history[turn + 1 :])
        for reply in self.replies:
            if reply[: len(said)] == said and len(said) < len(reply):
                return reply[len(said)]
        return SEPARATOR

    def request(self, *texts: str, max_tokens: int = 50) -> GenerationRequest:
        messages = [
            Message("assistant" if place % 2 else "user", text) for place, text in enumerate(texts)
        ]
        return GenerationRequest(self.prompts.build(messages), GREEDY, max_tokens)

    def say(self, request: GenerationRequest) -> tuple[str, Finished]:
        *deltas, end = self.generator.generate(request)
        assert isinstance(end, Finished)
        assert all(isinstance(delta, TextDelta) and delta.text for delta in deltas)
        return "".join(delta.text for delta in deltas if isinstance(delta, TextDelta)), end


def test_a_reply_ends_with_the_turn(folder: Path) -> None:
    talk = Talk(folder, " hello there")
    text, end = talk.say(talk.request("hi"))
    assert (text, end.reason) == ("hello there", "stop")
    assert end.usage.prompt_tokens == talk.request("hi").prompt.length
    assert end.usage.completion_tokens == len(talk.tokenizer.encode(" hello there"))
    assert end.usage.cached_tokens == 0


def test_the_engine_is_fed_exactly_the_conversation(folder: Path) -> None:
    talk = Talk(folder, " fine")
    talk.say(talk.request("hello", "hi", "how are you"))
    fed = tuple(token for call in talk.engine.calls for token in call)
    prompt = talk.prompts.build(
        [Message("user", "hello"), Message("assistant", "hi"), Message("user", "how are you"),
         Message("assistant", "fine")]
    )  # fmt: skip
    assert fed == tuple(token for turn in prompt.turns for token in turn)


def test_the_next_turn_costs_only_its_own_tokens(folder: Path) -> None:
    talk = Talk(folder, " hello there", " fine")
    talk.say(talk.request("hi"))
    talk.engine.calls.clear()
    request = talk.request("hi", "hello there", "how are you")
    text, end = talk.say(request)
    assert text == "hello there" or text
    assert end.usage.cached_tokens == sum(map(len, request.prompt.turns[:2]))
    assert talk.engine.calls[0] == request.prompt.turns[2]


def test_a_changed_last_message_still_finds_what_was_before(folder: Path) -> None:
    talk = Talk(folder, " hello there")
    talk.say(talk.request("hi", "hey", "what is up"))
    request = talk.request("hi", "hey", "what is new")
    _, end = talk.say(request)
    assert end.usage.cached_tokens == sum(map(len, request.prompt.turns[:2]))


def test_a_reply_spelled_in_other_tokens_is_not_taken_for_the_same(folder: Path) -> None:
    talk = Talk(folder)
    letters = [talk.tokenizer.encode(letter)[0] for letter in " hello"]
    assert letters != talk.tokenizer.encode(" hello")
    talk.replies = [[*letters, SEPARATOR]]
    text, _ = talk.say(talk.request("hi"))
    assert text == "hello"
    request = talk.request("hi", "hello", "bye")
    _, end = talk.say(request)
    assert end.usage.cached_tokens == len(request.prompt.turns[0])


def test_long_prompts_are_kept_on_the_way_and_cost_the_same(folder: Path) -> None:
    talk = Talk(folder, " ok")
    texts = ["hello there how are you doing today"] * 41
    _, end = talk.say(talk.request(*texts))
    assert 3 <= len(talk.cache) < 41
    assert talk.engine.fed == end.usage.prompt_tokens + end.usage.completion_tokens + 1


def test_the_limit_of_tokens_ends_it(folder: Path) -> None:
    talk = Talk(folder, " hello there how are you")
    text, end = talk.say(talk.request("hi", max_tokens=2))
    assert (end.reason, end.usage.completion_tokens) == ("length", 2)
    assert "hello there how are you".startswith(text)


def test_end_of_text_and_labels_end_it(folder: Path) -> None:
    for token in (END, USER, FRIEND):
        talk = Talk(folder)
        talk.replies = [[*talk.tokenizer.encode(" hello"), token, *talk.tokenizer.encode(" x")]]
        assert talk.say(talk.request("hi"))[0] == "hello"


def test_a_stop_text_ends_it_across_tokens(folder: Path) -> None:
    talk = Talk(folder, " hello there, how are you")
    text, end = talk.say(replace(talk.request("hi"), stops=("re, h",)))
    assert (text, end.reason) == ("hello the", "stop")


def test_a_reply_that_begins_with_a_label_begins_again(folder: Path) -> None:
    talk = Talk(folder, " User: let me speak", " there you are")
    second = talk.tokenizer.encode(" there")[0]
    assert second != talk.tokenizer.encode(" User")[0]
    talk.engine.second = {(FRIEND,): second}
    text, end = talk.say(talk.request("hi"))
    assert text == "there you are"
    assert end.reason == "stop"


def test_a_reply_that_only_ever_speaks_for_others_is_empty(folder: Path) -> None:
    talk = Talk(folder, *(f"{space}User: me" for space in (" ", "", "  ", "\t")))
    text, end = talk.say(talk.request("hi", max_tokens=30))
    assert "User" not in text
    assert end.usage.completion_tokens <= 90


def test_a_loop_is_broken(folder: Path) -> None:
    talk = Talk(folder, " no" * 40)
    text, _ = talk.say(talk.request("hi"))
    assert " no" * 7 not in f" {text}"


def test_a_reply_is_not_said_twice(folder: Path) -> None:
    talk = Talk(folder, " fine")
    text, _ = talk.say(talk.request("how are you", "fine", "and now"))
    assert text != "fine"


@pytest.mark.parametrize("said", ["Fine!", "fine ...", "FINE"])
def test_nor_with_other_marks_and_capitals(folder: Path, said: str) -> None:
    talk = Talk(folder, " fine", " fine.", " fine.\n\n")
    text, end = talk.say(talk.request("how are you", said, "and now"))
    assert text.casefold().startswith("fine")
    assert letters(text) != "fine"
    assert end.reason == "stop" or end.usage.completion_tokens == 50


def test_a_break_does_not_end_a_reply_that_was_said(folder: Path) -> None:
    talk = Talk(folder)
    talk.replies = [talk.tokenizer.encode(" fine\n\n")]
    assert len(talk.replies[0]) > len(talk.tokenizer.encode(" fine"))
    assert talk.say(talk.request("how are you"))[0] == "fine"
    text, _ = talk.say(talk.request("how are you", "Fine.", "and now"))
    assert letters(text) != "fine"


def test_a_reply_said_before_goes_on_the_same_way_for_a_seed(loaded: LoadedModel) -> None:
    def reply(seed: int, *texts: str) -> str:
        messages = [Message("assistant" if n % 2 else "user", t) for n, t in enumerate(texts)]
        request = GenerationRequest(
            loaded.prompts.build(messages), SamplingSettings(seed=seed, temperature=0.7), 20
        )
        *deltas, _ = loaded.generator.generate(request)
        return "".join(delta.text for delta in deltas if isinstance(delta, TextDelta))

    texts = ["hello there"]
    for seed in range(4):
        said = reply(seed, *texts)
        again = reply(seed, *texts, said, "hello there")
        assert again == reply(seed, *texts, said, "hello there")
        assert letters(again) != letters(said)


def test_half_a_character_at_the_end_is_dropped(folder: Path) -> None:
    talk = Talk(folder)
    wave = talk.tokenizer.encode_bytes("👋".encode())
    assert len(wave) == 4
    talk.replies = [[*talk.tokenizer.encode(" hi"), *wave[:3], SEPARATOR]]
    assert talk.say(talk.request("hi"))[0] == "hi"
    talk.replies = [[*talk.tokenizer.encode(" hi"), *wave, SEPARATOR]]
    assert talk.say(talk.request("hey"))[0] == "hi👋"


def test_spaces_around_a_reply_are_not_shown(folder: Path) -> None:
    talk = Talk(folder, "  \n hello  there \n ")
    assert talk.say(talk.request("hi"))[0] == "hello  there"


def test_the_deadline_ends_a_reply_with_what_there_is(folder: Path) -> None:
    talk = Talk(folder, " hello there how are you")
    request = replace(talk.request("hi"), deadline=time.monotonic() + 60)
    events = talk.generator.generate(request)
    first = next(events)
    assert isinstance(first, TextDelta)
    object.__setattr__(request, "deadline", time.monotonic())
    *_, end = events
    assert isinstance(end, Finished)
    assert end.reason == "length"


def test_a_deadline_before_the_first_word_says_so(folder: Path) -> None:
    talk = Talk(folder, " hello")
    with pytest.raises(DeadlinePassed):
        talk.say(replace(talk.request("hi"), deadline=time.monotonic()))


@pytest.mark.parametrize("looks", [0, 1, 2, 3])
def test_nobody_thinks_on_for_nobody(folder: Path, looks: int) -> None:
    talk = Talk(folder, " hello there how are you")
    answers = iter([False] * looks)
    events = list(
        talk.generator.generate(talk.request("hi"), cancelled=lambda: next(answers, True))
    )
    assert not any(isinstance(event, Finished) for event in events)
    assert talk.engine.fed <= talk.request("hi").prompt.length + looks


SENTENCES = ("hello there", "how are you doing today?", "i am fine. what music do you like?")


@pytest.mark.parametrize("seed", range(5))
def test_cached_and_uncached_replies_are_the_same(loaded: LoadedModel, seed: int) -> None:
    prompts, tokenizer = loaded.prompts, loaded.description.tokenizer()

    def reply(cache: StateCache, *texts: str) -> tuple[str, Finished]:
        messages = [Message("assistant" if n % 2 else "user", t) for n, t in enumerate(texts)]
        request = GenerationRequest(
            prompts.build(messages), SamplingSettings(seed=seed, temperature=0.7), 20
        )
        generator = Generator(loaded.engine, tokenizer, prompts, cache, key="k")
        *deltas, end = generator.generate(request)
        assert isinstance(end, Finished)
        return "".join(delta.text for delta in deltas if isinstance(delta, TextDelta)), end

    warm, texts = StateCache(1 << 24), list(SENTENCES)
    for _ in range(4):
        cold, cold_end = reply(StateCache(0), *texts)
        cached, cached_end = reply(warm, *texts)
        assert cached == cold
        assert cold_end.usage.cached_tokens == 0
        texts += [cold or "hm", "and you?"]
    assert cached_end.usage.cached_tokens > 0
