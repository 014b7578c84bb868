"""Mentions: whom they call, and which of them are words."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.core.code import ticked, without_ticked
from bot.core.mentions import is_addressed, take_out

ME, BOB = "<@1>", "<@2>"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<@1> hello", "hello"),
        ("<@1>! hello", "hello"),
        ("<@1>?", ""),
        ("<@1>'s birthday", "friend's birthday"),
        ("well, <@1>, what now?", "well, what now?"),
        ("good night, <@1>. See you", "good night. See you"),
        ("good night, <@1>", "good night"),
        ("with Ann, <@1>, and Bob", "with Ann, friend, and Bob"),
        ("tell me, <@1> who is it", "tell me, friend who is it"),
        ("How are you? <@1>", "How are you?"),
        ("look at this\n<@1>", "look at this\n"),
        ("hello <@1>", "hello friend"),
        ("`a, <@1>, b`", "`a, friend, b`"),
        ("two <@1> of <@1>, see?", "two friend of friend, see?"),
    ],
)
def test_taking_out(text: str, words: str) -> None:
    assert take_out(text, ME, "friend") == words


@given(st.lists(st.sampled_from([ME, BOB, ",", ".", "?", " ", "\n", "`", "or", "x"])).map("".join))
def test_nothing_but_the_mention_and_its_marks_goes(text: str) -> None:
    taken = take_out(text, ME, "friend")
    assert ME not in taken
    words = re.findall(r"or|x|<@2>|`", text)
    assert re.findall(r"or|x|<@2>|`", taken.replace("friend", "")) == words


@pytest.mark.parametrize(
    ("text", "to_bob"),
    [
        ("<@2> come", True),
        ("<@2>, come", True),
        ("hi <@2>! come", True),
        ("thank you <@2>, come", True),
        ("come, <@2>", True),
        ("come, <@2>, now", True),
        ("come, <@2> is here", False),
        ("I like <@2>", False),
        ("I like that <@2>, really", False),
    ],
)
def test_to_whom(text: str, to_bob: bool) -> None:
    assert is_addressed(text, BOB) is to_bob


@given(st.text(alphabet="`a\n", max_size=60))
def test_code_stands_between_equal_runs_of_ticks(text: str) -> None:
    end = 0
    for code in ticked(text):
        assert code.start >= end
        end = code.stop
        runs = re.findall(r"`+", text[code.start : code.stop])
        assert len(runs) >= 2
        assert runs[0] == runs[-1]
    assert not ticked("a `` b ` c")
    assert without_ticked("a `b` ``c ` d`` e").split() == ["a", "e"]
