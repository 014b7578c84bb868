"""Several drafts of one reply: where they come from, which is given, and what it costs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lambda_inference.engine.native import NativeEngine
from lambda_inference.serving.host import LoadedModel
from lambda_inference.talk import generate
from lambda_inference.talk.draft import Draft, Terms, seed_of
from lambda_inference.talk.events import Finished, TextDelta
from lambda_inference.talk.generate import GenerationRequest, Generator
from lambda_inference.talk.prompt import Message, Prompt
from lambda_inference.talk.ranking import log_probability, score
from lambda_inference.talk.sampling import SamplingSettings
from tests.lambda_inference.talk.test_generate import FRIEND, SEPARATOR, Talk

WARM = SamplingSettings(temperature=1.0, seed=7)


def said(generator: Generator, request: GenerationRequest) -> tuple[list[str], Finished]:
    *deltas, end = generator.generate(request)
    assert isinstance(end, Finished)
    texts = [""] * request.choices
    for delta in deltas:
        assert isinstance(delta, TextDelta)
        texts[delta.choice] += delta.text
    return texts, end


def asked(model: LoadedModel, text: str = "hello there") -> Prompt:
    return model.prompts.build([Message("user", text)])


def test_the_seeds_of_drafts_differ_and_the_first_is_the_requests() -> None:
    assert len({seed_of(5, place) for place in range(32)}) == 32
    assert seed_of(5, 0) == 5
    assert seed_of(None, 3) is None
    assert all(0 <= (seed_of(2**64 - 1, place) or 0) < 2**64 for place in range(32))


def test_each_draft_is_the_reply_to_its_own_seed(loaded: LoadedModel) -> None:
    request = GenerationRequest(asked(loaded), WARM, 12)
    alone = [
        said(loaded.generator, replace(request, sampling=replace(WARM, seed=seed_of(7, place))))[0][
            0
        ]
        for place in range(6)
    ]
    together, end = said(loaded.generator, replace(request, choices=6, drafts=6))
    assert len(set(alone)) > 1
    assert sorted(together) == sorted(alone)
    assert len(end.reasons) == 6


def test_a_seed_determines_the_reply_of_many_drafts(loaded: LoadedModel) -> None:
    request = GenerationRequest(asked(loaded), WARM, 12, drafts=5)
    texts, _ = said(loaded.generator, request)
    assert said(loaded.generator, request)[0] == texts
    others = {
        said(loaded.generator, replace(request, sampling=replace(WARM, seed=seed)))[0][0]
        for seed in range(4)
    }
    assert len(others) > 1


def test_the_draft_that_the_talk_tells_most_of_is_given(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scored anew from the logits of whole texts, read in one go."""
    engine, prompts, drafts = loaded.engine, loaded.prompts, []
    assert isinstance(engine, NativeEngine)

    class Kept(Draft):
        def __init__(self, terms: Terms, place: int) -> None:
            super().__init__(terms, place)
            drafts.append(self)

    monkeypatch.setattr(generate, "Draft", Kept)
    tokenizer = loaded.description.tokenizer()
    # Ends are banned, so that every token of a draft is in it, and the limit ends it.
    bias = {
        token: -100.0
        for token in range(tokenizer.vocab_size)
        if token < 4 or {*b"\n:"} & {*tokenizer.token_bytes(token)}
    }
    sampling = replace(WARM, logit_bias=bias)
    request = GenerationRequest(asked(loaded), sampling, 10, choices=8, drafts=8)
    texts, end = said(loaded.generator, request)
    assert end.reasons == ("length",) * 8
    assert end.usage.completion_tokens == 80

    def log_probabilities(before: list[int], tokens: list[int]) -> list[float]:
        rows, _ = engine.forward_each([*before, *tokens], None)
        return [
            log_probability(rows[len(before) - 1 + at], token) for at, token in enumerate(tokens)
        ]

    talk = [token for turn in (*request.prompt.turns, request.prompt.opening) for token in turn]
    nothing = [*prompts.start, *prompts.label]
    scores = {
        draft.text.text: score(
            log_probabilities(talk, draft.tokens), log_probabilities(nothing, draft.tokens)
        )
        for draft in drafts
    }
    assert len(scores) == 8
    assert texts == sorted(scores, key=lambda text: -scores[text])
    assert drafts[0].candidate().score == pytest.approx(scores[drafts[0].text.text])


def test_one_draft_streams_and_several_come_when_the_best_is_known(loaded: LoadedModel) -> None:
    request = GenerationRequest(asked(loaded), WARM, 12)
    many = list(loaded.generator.generate(request))
    few = list(loaded.generator.generate(replace(request, drafts=4)))
    assert len(many) > 3
    assert len(few) <= 2


def test_all_drafts_read_the_prompt_once(folder: Path) -> None:
    talk = Talk(folder, " hello there")
    request = replace(talk.request("hi"), drafts=4)
    texts, end = said(talk.generator, request)
    assert texts == ["hello there"]
    prompt = request.prompt
    whole = (*prompt.turns[0], *prompt.opening)
    label = (*talk.prompts.start, *talk.prompts.label)
    fed = [call for call in talk.engine.calls if len(call) > 1]
    assert sum(map(len, fed)) <= len(whole) + len(label) + len(talk.prompts.separator) + 2
    words = len(talk.tokenizer.encode(" hello there"))
    assert end.usage.completion_tokens == 4 * words
    # Every word of every draft is read after the talk and after nothing.
    assert sum(len(call) == 1 for call in talk.engine.calls) >= 8 * words
    talk.engine.calls.clear()
    said(talk.generator, replace(talk.request("hello"), drafts=4))
    assert label not in talk.engine.calls, "what follows nothing is known by now"


def test_the_given_reply_is_remembered(folder: Path) -> None:
    talk = Talk(folder, " hello there", " fine")
    said(talk.generator, replace(talk.request("hi"), drafts=3))
    request = talk.request("hi", "hello there", "how are you")
    _, end = said(talk.generator, replace(request, drafts=3))
    assert end.usage.cached_tokens == sum(map(len, request.prompt.turns[:2]))


def test_a_reply_that_was_said_before_is_not_chosen_if_there_is_another(folder: Path) -> None:
    talk = Talk(folder, " hello there")
    fine = talk.tokenizer.encode(" fine")
    greeting = talk.tokenizer.encode(" hello there")
    # After the label both are about as likely.
    talk.engine.second[(FRIEND,)] = fine[0]
    talk.replies.append([*fine, SEPARATOR])
    talk.engine.second[(FRIEND, greeting[0])] = greeting[1]
    request = talk.request("hi", "hello there", "and now")
    warm = SamplingSettings(temperature=10.0, top_k=2, seed=3)
    for seed in range(5):
        texts, _ = said(
            talk.generator,
            replace(request, sampling=replace(warm, seed=seed), drafts=12, max_tokens=6),
        )
        assert texts[0] != "hello there"


def test_a_draft_in_a_loop_is_not_waited_for(folder: Path) -> None:
    talk = Talk(folder, " ok")
    ok = talk.tokenizer.encode(" ok")
    endless = talk.tokenizer.encode(" music")[0]
    letters = [talk.tokenizer.encode(f" {letter}")[0] for letter in "abcdefgh"]

    def script(history: tuple[int, ...]) -> int:
        if FRIEND not in history:
            return SEPARATOR
        said_ = history[len(history) - history[::-1].index(FRIEND) :]
        if said_ and said_[0] == endless:
            return letters[len(said_) * len(said_) % 7]
        return [*ok, SEPARATOR][min(len(said_), len(ok))]

    talk.engine.script = script
    talk.engine.second[(FRIEND,)] = endless
    warm = SamplingSettings(temperature=12.0, top_k=2, seed=1)
    request = replace(talk.request("hi", max_tokens=500), sampling=warm, drafts=8)
    for seed in range(6):
        _, end = said(talk.generator, replace(request, sampling=replace(warm, seed=seed), drafts=8))
        looped = talk.engine.calls.count((endless,)) > 0
        assert end.usage.completion_tokens < 100, "half had ended, so the rest were given up"
    assert looped


@pytest.mark.parametrize("drafts", [2, 5])
def test_a_cancelled_request_of_several_drafts_ends_silently(
    loaded: LoadedModel, drafts: int
) -> None:
    request = GenerationRequest(asked(loaded, "bye"), WARM, 50, drafts=drafts)
    answers = iter([False] * 6)
    events = loaded.generator.generate(request, cancelled=lambda: next(answers, True))
    assert list(events) == []
