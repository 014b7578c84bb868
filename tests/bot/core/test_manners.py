from __future__ import annotations

import codecs

import pytest

from bot.core.manners import has_slur, is_distress


@pytest.mark.parametrize(
    "said",
    [
        "i want to die",
        "Sometimes I just wanna die.",
        "I'm thinking about killing myself",
        "I don\u2019t want to live anymore",
        "i dont want to be here",
        "I feel suicidal today",
        "i have been thinking of suicide",
        "they would be better off without me",
        "I wish I was dead",
        "I can't go on like this",
        "my self-harm is back",
        "there is no point in living, I think",
    ],
)
def test_distress_is_heard(said: str) -> None:
    assert is_distress(said)


@pytest.mark.parametrize(
    "said",
    [
        "this level is killing me",
        "I could die of embarrassment",
        "I want to die laughing",
        "the hero wants to die for his country",
        "I am dying to see that film",
        "how do I end this process?",
        "I kill orcs myself",
        "suicide squad was a film",
        "hello there",
        "",
    ],
)
def test_ordinary_talk_is_not_distress(said: str) -> None:
    assert not is_distress(said)


def test_slurs_are_found_in_disguise_too() -> None:
    slur = codecs.decode("snttbg", "rot13")
    for text in (slur, f"you {slur.upper()}s!", slur.replace("o", "0"), f"({slur})"):
        assert has_slur(text)


@pytest.mark.parametrize("said", ["hello", "a raccoon", "Scunthorpe", "spicy food"])
def test_innocent_words_are_not_slurs(said: str) -> None:
    assert not has_slur(said)
