"""Sampled conversations: where the user's words come from, and what is counted in the replies."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetuning.data.corpus import Conversation
from finetuning.errors import EvaluationError
from finetuning.evaluation.sampled import Exchange, converse, scripts
from finetuning.evaluation.statistics import statistics, words_of
from lambda_inference.gguf.convert import convert
from lambda_inference.talk.guards import letters
from tests.lambda_inference.models import write_folder

KNOWN = {
    "i",
    "like",
    "music",
    "so",
    "do",
    "you",
    "yes",
    "the",
    "cat",
    "sat",
    "on",
    "mat",
    "again",
    "fine",
}


def talk(*replies: str) -> list[Exchange]:
    return [Exchange("hello", reply) for reply in replies]


def conversation(source: str, turns: int, name: str) -> Conversation:
    return Conversation(source, tuple(f"{name} {turn}" for turn in range(turns)))


def test_scripts_are_one_speakers_turns_and_every_source_is_there() -> None:
    data = [conversation("a", 6, f"a{n}") for n in range(9)]
    data += [conversation("b", 5, f"b{n}") for n in range(2)] + [conversation("c", 4, "short")]
    found = scripts(data, 5, 3, seed=1)
    assert found == scripts(data, 5, 3, seed=1) != scripts(data, 5, 3, seed=2)
    assert [script[0][0] for script in found] == ["a", "b", "a", "b", "a"]
    assert len(set(found)) == 5
    for script in found:
        name = script[0].split()[0]
        assert script == (f"{name} 0", f"{name} 2", f"{name} 4")
    with pytest.raises(EvaluationError, match="holds 11 conversations in which a speaker has 3"):
        scripts(data, 12, 3)


def test_what_went_wrong_is_counted() -> None:
    found = statistics(
        [
            talk("I like music.", "i like MUSIC!", "Do you?", "I like music"),
            talk("I like music.", "yes\nUser: and you?", "so Friend: yes", "The superuser: fine"),
            talk("", "моя собака спит", "quel chien aime dormir beaucoup"),
        ],
        KNOWN,
    )
    assert found.replies == 11
    assert found.repeated_replies == 2
    assert found.spoken_for_user == 2
    assert found.not_english == 2
    assert found.empty_replies == 1


def test_variety_and_length_by_hand() -> None:
    found = statistics([talk("the cat sat on the mat", "the cat sat on", "yes")], KNOWN)
    assert found.distinct_1 == pytest.approx(6 / 11)
    assert found.distinct_2 == pytest.approx(5 / 8)
    assert found.distinct_3 == pytest.approx(4 / 6)
    assert found.repeated_4_grams == pytest.approx(1 / 4)
    assert found.distinct_replies == 1
    assert (found.words.least, found.words.median, found.words.most) == (1, 4, 6)
    assert found.words.mean == pytest.approx(11 / 3)
    assert found.known_words == 1
    assert found.as_json()["distinct_1"] == 0.5455


def test_nothing_said_is_no_division_by_zero() -> None:
    found = statistics([talk("")], KNOWN)
    assert (found.distinct_1, found.words.mean, found.empty_replies) == (0, 0, 1)
    assert statistics([], KNOWN).replies == 0


def test_words_are_runs_of_letters() -> None:
    assert words_of("Don\u2019t say 'No', 3 times!") == ["don't", "say", "no", "times"]


def test_conversations_with_the_server_are_reproducible_and_repeat_nothing(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "tiny")
    convert(folder, tmp_path / "tiny.gguf", quantization="Q8_0")
    said = [("hello there", "how are you?", "hello there"), ("what music do you like?",) * 3]
    told: list[None] = []
    found = converse(tmp_path / "tiny.gguf", said, seed=7, done=lambda: told.append(None))
    assert found == converse(tmp_path / "tiny.gguf", said, seed=7)
    assert found != converse(tmp_path / "tiny.gguf", said, seed=8)
    assert [[one.user for one in talk] for talk in found] == [list(script) for script in said]
    assert len(told) == 6
    for one in found:
        assert len({letters(exchange.reply) for exchange in one}) == 3


def test_a_refusal_of_the_server_is_said(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "tiny")
    convert(folder, tmp_path / "tiny.gguf", quantization="Q8_0")
    with pytest.raises(EvaluationError, match="tokens long and at most"):
        converse(tmp_path / "tiny.gguf", [("word " * 20_000,)])
